"""Communication between processes: tensors that leave a worker, and the epoch that a parent shares with its workers.

transport.py decides how a tensor is sent; shared_buffers.py lends it shared memory that is reused. epoch_state.py holds
a collator's epoch; passes.py counts passes over a loader. settling.py is what a worker does before its first batch.
Nothing here depends on how batches are mixed.

May import no other room. Private API of torch and Python is used here, through `private_api.attempt`.
"""
