"""Between processes: how tensors leave a worker, and the epoch that a parent shares with its workers.

transport.py decides how a tensor is sent; shared_buffers.py lends it memory that is used again. epoch_state.py knows a
collator's epoch, passes.py counts passes over a loader. Nothing here knows of mixing.

May import no other room. Private API of torch and Python is used here, behind `private_api.attempt`.
"""
