"""Make the two augmented views of a sample, with random numbers from a stream of the batch's key.

Read transform.py first: it calls the caller's transform. generators.py finds and seeds the generators that a transform
owns; global_generators.py seeds those of the process. two_views.py contains the dataset TwoViews. maps.py moves a
sample's map along with its image; saliency.py computes guides from grey.py's copies of views, and guides.py aims the
layers that depend on guides.

May import plan (random streams), masks, options and jit (guides), samples (reading images) and workers (passes over a
loader).
"""
