"""mixup: the mask is the constant 1 - ratio, so there is no hole to fill.

Zhang et al., "mixup: Beyond Empirical Risk Minimization", 2018, arXiv:1710.09412.
"""

AUGMENTABLE = False
