"""Communication between processes: tensors that leave a worker, and the epoch that a parent shares with its workers.

transport.py decides how a tensor is sent; shared_buffers.py lends it shared memory that is reused. epoch_state.py holds
a collator's epoch; passes.py counts passes over a loader. Nothing here depends on how batches are mixed.

May import mix.memory, but no other subpackage. Uses private API of torch and Python through `private_api.attempt`.
"""
