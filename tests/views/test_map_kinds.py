"""What a map may be, and that wrong maps and guides are named."""

import numpy as np
import pytest
import torch
from PIL import Image

from miamix_cpu import MiAMix, MiAMixConfig
from miamix_cpu.views import guides
from tests.views.test_guides import AIMED, GUIDED, centres, dots, rng_of


@pytest.mark.parametrize("kind", [
    lambda m: m > 0, lambda m: (m * 255).astype(np.uint8), lambda m: m.astype(np.float64) * 1e-20, lambda m: np.where(m > 0, m, -0.0),
    lambda m: m.astype(np.float16), lambda m: m.astype(">i4"), lambda m: m[:, :, None], lambda m: m[None], np.asfortranarray,
    lambda m: torch.tensor(m), lambda m: torch.tensor(m)[None], lambda m: torch.tensor(m, requires_grad=True),
    lambda m: torch.tensor(m, dtype=torch.bfloat16), lambda m: Image.fromarray((m * 255).astype(np.uint8)),
    lambda m: Image.fromarray(m), lambda m: Image.fromarray(m > 0), lambda m: m[::-1].copy()[::-1],
    lambda m: np.frombuffer(m.tobytes(), np.float32).reshape(m.shape),
])  # fmt: skip
def test_maps_of_many_kinds(kind):
    maps, images = dots(5, 6, 9), np.zeros((5, 12, 18, 3), np.uint8)
    expected = MiAMix(2, AIMED)(images, [0] * 5, rng=rng_of(0), maps=maps).plan.layers
    given = [kind(m) for m in maps]
    np.testing.assert_array_equal(MiAMix(2, AIMED)(images, [0] * 5, rng=rng_of(0), maps=given).plan.layers, expected)
    read = guides.read_guides(given, list("abcde"))
    assert read.dtype == np.float32
    assert read.flags.c_contiguous
    assert not np.signbit(read).any()
    mine = MiAMix(2, AIMED, guide=lambda view: given[int(view[0, 0, 0])])
    images[:] = np.arange(5)[:, None, None, None]
    np.testing.assert_array_equal(mine(images, [0] * 5, rng=rng_of(0)).plan.layers, expected)


def test_a_first_largest_value_counts():
    maps = np.zeros((2, 4, 4), np.float32)
    maps[:, 1, 2] = maps[:, 1, 3] = maps[:, 3, 0] = 5
    plan = MiAMix(2, AIMED)(np.zeros((2, 8, 8), np.uint8), [0, 0], rng=rng_of(0), maps=maps).plan
    np.testing.assert_allclose(centres(plan), [[1.5 / 4, 2.5 / 4]] * 2)


BAD = [
    (np.ones((4, 4, 3)), ValueError, r"must have the shape \(h, w\), got \(4, 4, 3\)"),
    (np.ones((2, 1, 4, 4)), ValueError, r"must have the shape \(h, w\), got \(2, 1, 4, 4\)"),
    (np.ones(4), ValueError, r"must have 2 or 3 axes.* got \(4,\)"),
    (np.ones((0, 4)), ValueError, r"must have .* none empty, got \(0, 4\)"),
    (np.array([[1, np.nan]]), ValueError, "must be finite, got nan"),
    (np.array([[1, np.inf]]), ValueError, "must be finite, got inf"),
    (np.array([[1, 1e300]]), ValueError, "must be finite, got inf"),
    (np.array([[1, -0.5]]), ValueError, "must be at least 0, got -0.5"),
    (np.array([["a"]]), TypeError, "must contain numbers, got <U1"),
    (np.array([[1j]]), TypeError, "must contain numbers, got complex128"),
    (None, TypeError, "must be an array, a PIL image or a tensor, got None"),
    ("map.png", TypeError, "must be an array, a PIL image or a tensor, got 'map.png'"),
    ([[1.0, 2.0]], TypeError, "must be an array, a PIL image or a tensor, got"),
    (Image.new("RGB", (4, 4)), ValueError, r"must have the shape \(h, w\), got \(4, 4, 3\)"),
    (Image.new("P", (4, 4)), TypeError, "is a PIL image of mode 'P'"),
]


@pytest.mark.parametrize(("bad", "error", "words"), BAD)
def test_a_wrong_guide_is_named(bad, error, words):
    images = np.zeros((4, 4, 4), np.uint8)
    images[:] = np.arange(4)[:, None, None]
    good = np.ones((1, 2))
    maps = [good, good, bad, good]
    with pytest.raises(error, match=f"^the guide of the first view of sample 2 {words}"):
        MiAMix(2, AIMED)(images, [0] * 4, rng=rng_of(0), maps=maps)
    with pytest.raises(error, match=f"^the guide of the second view of sample 2 {words}"):
        MiAMix(2, AIMED)(images, [0] * 4, rng=rng_of(0), second=images.copy(), maps=[good] * 4, second_maps=maps)
    with pytest.raises(error, match=f"^the guide of the first view of sample 2 {words}"):
        MiAMix(2, AIMED, guide=lambda view: maps[view[0, 0]])(images, [0] * 4, rng=rng_of(0))


@pytest.mark.parametrize("methods", [("saliencymix",), GUIDED])
def test_guides_of_a_batch_have_one_shape(methods):
    """Whichever methods look at them."""
    config = AIMED.replace(methods=methods, weights=(1,) * len(methods))
    maps = [*np.ones((8, 4, 4)), np.ones((4, 5)), *np.ones((7, 4, 4))]
    words = r"^the guide of the first view of sample 8 has shape \(4, 5\), the guide of the first view of sample 0 has \(4, 4\)"
    for seed in range(3):
        with pytest.raises(ValueError, match=words):
            MiAMix(2, config)(np.zeros((16, 4, 4), np.uint8), [0] * 16, rng=rng_of(seed), maps=maps)


MAPS = np.ones((4, 2, 2))


@pytest.mark.parametrize(("given", "error", "words"), [
    ({"maps": MAPS[:3]}, ValueError, "^maps must have one map for each of 4 images, got 3"),
    ({"maps": MAPS, "second": 0, "second_maps": MAPS[:2]}, ValueError, "^second_maps must have one map .* 4 images, got 2"),
    ({"maps": MAPS, "second": 0}, ValueError, "^maps and second_maps must be given together"),
    ({"second_maps": MAPS, "second": 0}, ValueError, "^maps and second_maps must be given together"),
    ({"maps": MAPS, "second_maps": MAPS}, ValueError, "^second_maps needs second views: pass second="),
    ({"second_maps": MAPS}, ValueError, "^second_maps needs second views"),
    ({"maps": 3}, TypeError, r"^maps must be an array \(N, h, w\) or a list of N maps, got 3"),
    ({"maps": "abcd"}, TypeError, "^maps must be .* got 'abcd'"),
    ({"maps": iter(MAPS)}, TypeError, "^maps must be .* got <"),
])  # fmt: skip
def test_wrong_maps_of_a_batch_are_named(given, error, words):
    images = np.zeros((4, 4, 4), np.uint8)
    if "second" in given:
        given = {**given, "second": images.copy()}
    for config in (AIMED, MiAMixConfig.plain("mixup")):
        with pytest.raises(error, match=words):
            MiAMix(2, config)(images, [0] * 4, rng=rng_of(0), **given)


def test_a_guide_is_callable_and_excludes_maps():
    with pytest.raises(
        TypeError, match=r"guide must be callable, got 'spectral': .*SaliencyMixOptions\(guide='spectral'\)"
    ):
        MiAMix(2, guide="spectral")
    with pytest.raises(TypeError, match="guide must be callable, got 3"):
        MiAMix(2, guide=3)
    with pytest.raises(ValueError, match=r"^guides are either given \(maps\) or made"):
        MiAMix(2, AIMED, guide=len)(np.zeros((4, 4, 4), np.uint8), [0] * 4, rng=rng_of(0), maps=MAPS)


def test_a_guide_that_raises_keeps_its_error():
    def guide(view):
        raise KeyError("no such layer")

    with pytest.raises(KeyError, match="no such layer") as caught:
        MiAMix(2, AIMED, guide=guide)(np.zeros((3, 4, 4), np.uint8), [0] * 3, rng=rng_of(0))
    assert caught.value.__notes__ == ["raised when the guide of the first view of sample 0 was made"]
