"""What the tests of masks share: configurations of one method, their holes, and OpenCV as the oracle of turned ones."""

import dataclasses
import math

import cv2
import numpy as np
import pytest
from hypothesis import strategies as st

from miamix_cpu import AttentiveCutMixOptions, MiAMix, MiAMixConfig, ResizeMixOptions
from miamix_cpu.masks import UNIFORMS, method_of
from miamix_cpu.methods import METHODS
from miamix_cpu.plan.layers import LAYER
from miamix_cpu.plan.sampling import draw_coefficients, draw_layers
from miamix_cpu.views.guides import aim_layers
from tests import naive
from tests.kernels import compiled, python

SIZES = [(1, 1), (1, 17), (17, 1), (8, 8), (13, 9), (16, 40)]
GUIDED = ("saliencymix", "attentivecutmix", "guidedmixup")
#: Options by which a method takes the ratio that was drawn; there are none for two of them.
FROM_RATIO = {
    "resizemix": {"resizemix": ResizeMixOptions(tau_from="alpha")},
    "attentivecutmix": {"attentivecutmix": AttentiveCutMixOptions(cells="ratio")},
}
WITH_A_RATIO = [name for name in METHODS if name not in ("smoothmix", "guidedmixup")]
shares = st.floats(0, 1)
sizes = st.tuples(st.integers(1, 14), st.integers(1, 14))


def as_it_is(function):
    """An entry, or a function that calls entries: Python calls it as compiled code."""
    return function


#: For tests of kernels, and for tests of entries and of what calls them.
BOTH = pytest.mark.parametrize("run", [python, compiled], ids=["python", "compiled"])
BOTH_OF_ENTRIES = pytest.mark.parametrize("run", [python, as_it_is], ids=["python", "compiled"])


def blank(size):
    """An output with nothing in it that could pass for a result."""
    return np.full(size, np.nan, dtype=np.float32)


def alone(method, **changes):
    """A configuration of one layer of this method, plain unless said otherwise."""
    return MiAMixConfig(methods=(method,), weights=(1,), k_max=1, p_self=0, **{"p_aug": 0, "p_smooth": 0, **changes})


def layers_of(method, count=1, **fields):
    """`count` layers of this method."""
    layers = np.zeros(count, dtype=LAYER)
    layers["method"] = METHODS.index(method)
    for name, value in fields.items():
        layers[name] = value
    return layers


def hole_of(run, layers, size, coefficients=()):
    """The hole of the only layer, by its method's `fill`."""
    (code,) = layers["method"].tolist()
    holes = blank((1, *size))
    run(method_of(code).fill)(layers, code, np.zeros(1, np.int64), holes, np.array(coefficients, np.float32))
    return holes[0]


def holes_of(config, height, width, count, rng):
    """`count` first-layer holes of noise under `config`, and their ratios."""
    mix = MiAMix(2, config, return_masks=True)
    images = rng.integers(0, 256, (count, height, width), dtype=np.uint8)
    batch = mix(images, np.zeros(count, dtype=int), rng=rng)
    return 1 - batch.masks, batch.plan.layers["ratio"]


def aimed(plan, maps, second_maps=None):
    """The plan, its layers aimed by maps of the first and second views, (N, h, w); no view is looked at."""
    both = (maps, maps if second_maps is None else second_maps)
    first = np.zeros(len(plan), np.uint64)
    second = first if second_maps is None else first.copy()
    size = (plan.height, plan.width)
    return aim_layers(plan, first, second, "uint8", size, False, maps=lambda which, sample: both[which][sample])


def masks_with_ratio(method, ratio, height, width, count, rng, **changes):
    """Masks of `count` samples, each of one layer of this ratio."""
    config = alone(method, **{**FROM_RATIO.get(method, {}), **changes})
    layers = layers_of(method, count, ratio=ratio, sample=np.arange(count))
    counts = np.bincount(layers["method"], minlength=len(METHODS))
    draw_layers(config, layers, counts, height, width, rng.random((count, UNIFORMS)))
    mix = MiAMix(2, config, return_masks=True)
    plan = dataclasses.replace(
        mix.plan(count, height, width, rng=rng),
        layers=layers,
        first_layer=np.arange(count + 1),
        coefficients=draw_coefficients(layers, rng),
    )
    return mix.render(plan, np.zeros((count, height, width), np.uint8), np.zeros(count, int)).masks


def with_ratio(method, ratio, height, width, count, rng, **changes):
    """Hole means of `count` layers of this ratio."""
    return 1 - masks_with_ratio(method, ratio, height, width, count, rng, **changes).astype(np.float64).mean(
        axis=(1, 2)
    )


def assert_mean(values, expected, extra=0.0):
    """To three standard errors, and what the expectation itself is unsure of."""
    error = values.std(ddof=1) / math.sqrt(len(values))
    assert abs(values.mean() - expected) < 3 * error + extra, (values.mean(), expected, error)


def check_draw(run, method, config, size, rng):
    """What `draw` derives from uniform numbers, against the naive twin; layers of other methods stay as they are."""
    code = METHODS.index(method)
    layers, uniforms = np.zeros(80, LAYER), rng.random((80, UNIFORMS))
    layers["ratio"] = rng.random(80) * (rng.random(80) < 0.95)
    layers["method"] = np.where(rng.random(80) < 0.7, code, (code + rng.integers(1, len(METHODS), 80)) % len(METHODS))
    before = layers.copy()
    run(method_of(code).draw)(layers, code, uniforms, config, *size)
    for layer, old, uniform in zip(layers, before, uniforms, strict=True):
        if layer["method"] != code:
            assert layer == old
            continue
        wanted = naive.draw_layer(config, old["ratio"], uniform, *size)
        assert wanted.pop("method") == method
        for name, value in wanted.items():
            assert layer[name] == pytest.approx(value, abs=1e-12), name
    return layers[layers["method"] == code], uniforms[layers["method"] == code]


def near_an_edge(picture):
    """Pixels with a neighbour, out of eight, of another value."""
    return cv2.morphologyEx(picture, cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8)) > 0


def warped(canvas, matrix, height, width):
    """`canvas`, three times as large, warped about its centre and cropped; `matrix` maps result to source (x, y)."""
    centre = np.array([canvas.shape[1], canvas.shape[0]]) / 2 - 0.5
    affine = np.column_stack([matrix, centre - matrix @ centre])
    result = cv2.warpAffine(canvas, affine, canvas.shape[::-1], flags=cv2.INTER_NEAREST | cv2.WARP_INVERSE_MAP)
    top, left = (canvas.shape[0] - height) // 2, (canvas.shape[1] - width) // 2
    return result[top : top + height, left : left + width]


def matrix_of(angle, shear):
    c, s = math.cos(angle), math.sin(angle)
    return np.array([[1, shear], [0, 1]]) @ np.array([[c, s], [-s, c]])
