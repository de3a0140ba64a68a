"""Resized partners pasted over boxes, against their naive twin, as plain Python and compiled."""

import numpy as np
import pytest

from miamix_cpu import MiAMix, MiAMixConfig, ResizeMixOptions
from miamix_cpu.masks import methods_that
from miamix_cpu.methods import METHODS
from miamix_cpu.mix.resize import paste_resized
from miamix_cpu.plan.layers import LAYER
from tests import naive
from tests.kernels import python
from tests.masks import twins

pytestmark = pytest.mark.filterwarnings("ignore:float images have")

#: The methods of each sample's layers.
SAMPLES = [
    ["resizemix"], ["mixup"], [], ["resizemix", "resizemix"], ["cutmix", "resizemix"],
    ["resizemix", "mixup", "resizemix", "resizemix"], ["resizemix"], ["hmix", "cutmix"],
]  # fmt: skip


def layers_of(size, rng):
    """Boxes of whole pixels for the samples' layers: large and small, at borders, of a whole image, and of nothing."""
    layers, first_layer = np.zeros(sum(map(len, SAMPLES)), LAYER), np.cumsum([0, *map(len, SAMPLES)])
    layers["sample"] = np.repeat(np.arange(len(SAMPLES)), np.diff(first_layer))
    layers["method"] = [METHODS.index(name) for names in SAMPLES for name in names]
    for j, layer in enumerate(layers):
        for centre, side, pixels in (("cy", "height", size[0]), ("cx", "width", size[1])):
            n = (int(rng.integers(1, pixels + 1)), pixels, 1)[j % 3 if j < 6 else 0]
            start = int(rng.integers(0, pixels - n + 1))
            layer[centre], layer[side] = (start + n / 2) / pixels, n / pixels
    layers[first_layer[6]]["height"] = 0
    return layers, first_layer


def pasted(run, views, layers, first_layer, begin, end, dtype, planar):
    """What the addresses of samples `begin` to `end` point to, and which of them are new."""
    height, width, channels = views.shape[1:]
    held = np.ascontiguousarray(views.transpose(0, 3, 1, 2) if planar else views)
    before = held.copy()
    second = np.array([view.ctypes.data for view in held], np.uint64)
    old = second.copy()
    resizes = methods_that("RESIZES")
    count = sum("resizemix" in names for names in SAMPLES[begin:end])
    canvas = np.full((count, height * width * channels), 77, dtype)
    run(paste_resized)(
        canvas,
        canvas.ctypes.data,
        second,
        layers,
        first_layer,
        resizes,
        begin,
        end,
        *(height, width) * 2,
        channels,
        planar,
        False,
    )
    np.testing.assert_array_equal(held, before)
    row = canvas.shape[1] * canvas.itemsize
    found = {}
    for i in np.flatnonzero(second != old).tolist():
        found[i] = canvas[(int(second[i]) - canvas.ctypes.data) // row]
        shape = (channels, height, width) if planar else (height, width, channels)
        found[i] = found[i].reshape(shape).transpose(1, 2, 0) if planar else found[i].reshape(shape)
    return found


@pytest.mark.parametrize("run", [python, lambda entry: entry], ids=["python", "compiled"])
@pytest.mark.parametrize("planar", [False, True])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
@pytest.mark.parametrize("channels", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("size", [(9, 13), (1, 4)])
def test_partners_are_pasted_over_their_boxes(run, size, channels, dtype, planar, rng):
    views = rng.integers(0, 256, (len(SAMPLES), *size, channels)).astype(dtype)
    layers, first_layer = layers_of(size, rng)
    for begin, end in (0, len(SAMPLES)), (2, 5), (3, 3):
        found = pasted(run, views, layers, first_layer, begin, end, dtype, planar)
        assert list(found) == [i for i in range(begin, end) if "resizemix" in SAMPLES[i]]
        for i, picture in found.items():
            of_sample = layers[first_layer[i] : first_layer[i + 1]]
            of_sample = of_sample[of_sample["method"] == METHODS.index("resizemix")]
            expected = twins.with_resized(of_sample, views[i])
            visible = np.ones(size, bool)
            if len(SAMPLES[i]) == 1:  # nothing outside of its box is
                place = [float(of_sample[0][name]) for name in ("cy", "cx", "height", "width")]
                visible = twins.box(*size, *place) == 1
            error = np.abs(picture[visible].astype(float) - expected[visible])
            assert error.max(initial=0) <= (0.5 + 1e-4 if dtype == np.uint8 else 1e-3)


@pytest.mark.parametrize("planar", [False, True])
def test_each_layer_resizes_the_partner_as_it_was(planar, rng):
    """The second box, over all of the image, is not a picture of the first one."""
    views = rng.integers(0, 256, (1, 8, 8, 3), dtype=np.uint8)
    layers = np.zeros(2, LAYER)
    layers["method"] = METHODS.index("resizemix")
    layers["cy"], layers["cx"], layers["height"], layers["width"] = (0.5, 0.5), (0.5, 0.5), (0.5, 1), (0.5, 1)
    for order, expected in ((slice(None), views[0]), (slice(None, None, -1), twins.with_resized(layers[:1], views[0]))):
        ordered = np.ascontiguousarray(layers[order])
        held = np.ascontiguousarray(views.transpose(0, 3, 1, 2) if planar else views)
        second, canvas = np.array([held.ctypes.data], np.uint64), np.empty((1, 192), np.uint8)
        first_layer = np.array([0, 2])
        paste_resized(
            canvas,
            canvas.ctypes.data,
            second,
            ordered,
            first_layer,
            methods_that("RESIZES"),
            0,
            1,
            8,
            8,
            8,
            8,
            3,
            planar,
            False,
        )
        found = canvas.reshape(3, 8, 8).transpose(1, 2, 0) if planar else canvas.reshape(8, 8, 3)
        assert np.abs(found - expected).max() <= 0.5


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
@pytest.mark.parametrize("stacked", [False, True])
def test_the_whole_partner_shows_inside_the_box(stacked, dtype, rng):
    """Through `MiAMix`, alone and between other layers: a mask of 0 shows the partner's resized self."""
    methods = ("resizemix", "mixup", "cutmix") if stacked else ("resizemix",)
    config = MiAMixConfig(
        methods=methods, weights=(1,) * len(methods), k_max=3 if stacked else 1, p_smooth=0, p_aug=0,
        resizemix=ResizeMixOptions(tau=(0.2, 0.7)),
    )  # fmt: skip
    first, second = rng.integers(0, 256, (2, 30, 21, 17, 3), dtype=np.uint8).astype(dtype)
    batch = MiAMix(30, config, return_masks=True)(first, range(30), rng=rng, second=second)
    seen = 0
    for i in range(30):
        layers, other = naive.resized_layers(batch.plan, i), second[batch.partner[i]]
        expected = twins.with_resized(layers, other)
        hole = batch.masks[i] == 0
        assert np.abs(batch.images[i][hole] - expected[hole]).max(initial=0) <= (0.51 if dtype == "uint8" else 1e-3)
        seen += len(layers) > 0 and bool((np.abs(expected - other)[hole] > 10).any())
    assert seen > 8
