"""Read and check the samples, images and labels of a batch, once, with error messages that name the sample.

samples.py splits a batch into columns; images.py and labels.py read these, companions.py what belongs
to images. addresses.py gives kernels the addresses of the images. fingerprint.py computes the digest that identifies a
batch.

May import no other room.
"""
