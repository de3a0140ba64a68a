"""Make the two augmented views of a sample, with random numbers from a stream of the batch's key.

Read transform.py first: it calls the caller's transform, companions.py with all that belongs to an image; compiled.py
makes views by a program instead, if there is one. generators.py and global_generators.py seed its generators and the
process's; copies.py copies images. two_views.py contains the dataset TwoViews. saliency.py computes guides from
grey.py's copies of views; guides.py aims layers by them.

May import compiled_views, plan (random streams), masks, options and jit (guides), samples and workers (passes).
"""
