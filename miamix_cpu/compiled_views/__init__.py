"""Make all views of a batch at once, if the transform is a Compose of Albumentations' transforms that are known.

Read program.py first: it translates a Compose, draws all parameters and runs the steps. step.py is what a step is;
geometry.py, resampling.py, values.py and holes.py are the steps, one for each kind of transform. working.py holds the
views of a batch meanwhile; moves.py contains its kernels.

May import plan (the record of what was drawn) and jit.
"""
