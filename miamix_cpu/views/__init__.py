"""The two augmented views of a sample, drawn from a stream of the batch's key.

transform.py calls the caller's transform and is read first. generators.py finds and seeds the generators that a
transform owns, global_generators.py the process's. two_views.py is the dataset TwoViews.

May import plan (its streams), samples (what an image may be) and workers (passes over a loader).
"""
