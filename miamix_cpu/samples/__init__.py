"""What a batch may hold: samples, images and labels, read and checked once, with messages that name the sample.

samples.py takes a batch apart, images.py and labels.py read what is in it; addresses.py says where images lie, for
kernels; fingerprint.py makes the digest by which a batch is known.

May import no other room.
"""
