"""Grey pictures, and views of them made by hand."""

import numpy as np

from miamix_cpu import MiAMixConfig
from miamix_cpu.views.transform import Transform

PLAIN = MiAMixConfig.plain("mixup")


def grey(n, value=100, side=8):
    return [(np.full((side, side, 3), value, np.uint8), i % 10) for i in range(n)]


def make(transform, images, seed=0):
    return Transform(transform).make(images, False, range(len(images)), np.random.default_rng(seed), str)


def darken(image):
    image -= 10
    return image
