"""Signals: given as pictures they are refused, given as one row they are mixed along time."""

import numpy as np
import pytest
import torch
from PIL import Image

from miamix_cpu import MiAMix, MiAMixBatch, MiAMixCollator, MiAMixConfig, TwoViews
from miamix_cpu.methods import METHODS
from miamix_cpu.samples.images import HASHED, MIXED, TRANSFORMED, as_map, read_images
from tests.messages.common import PLAIN, told

WORDS = "looks like a signal rather than a picture. Give a signal as one row, (1, T, C) as an array or (C, 1, T) as a tensor"
THIN = [(3, 1000), (1000, 3), (1, 33), (2, 500), (33, 2)]


def identity(image):
    return image


@pytest.mark.parametrize("shape", THIN, ids=str)
@pytest.mark.parametrize("mix", [
    lambda image: MiAMix(10, PLAIN)(np.stack([image] * 2), [0, 1], rng=np.random.default_rng(0)),
    lambda image: MiAMixCollator(10, PLAIN, seed=0)([(image, 0), (image, 1)]),
    lambda image: MiAMixCollator(10, PLAIN, seed=0)([(torch.from_numpy(image), 0)] * 2),
    lambda image: MiAMixCollator(10, PLAIN, seed=0, layout="channels_first")([(image, 0), (image, 1)]),
    lambda image: MiAMixCollator(10, PLAIN, seed=0, transform=identity)([(image, 0), (image, 1)]),
    lambda image: MiAMixCollator(10, PLAIN, seed=0)([TwoViews([(image, 0)], identity)[0]] * 2),
    lambda image: MiAMixBatch(10, PLAIN)({"image": np.stack([image] * 2), "label": np.arange(2)}),
], ids=["MiAMix", "arrays", "tensors", "layout", "transform", "TwoViews", "columns"])  # fmt: skip
def test_signals_without_an_axis_for_channels_are_refused(mix, shape):
    kind, words = told(mix, np.zeros(shape, np.float32))
    assert kind is ValueError
    assert f"has the shape {shape}, which {WORDS}" in words
    assert any(name in words for name in ("image in images", "image of sample 0", "first view of sample 0"))
    assert "If this is one too, give it an axis of channels, (H, W, 1)" in words


@pytest.mark.parametrize("purpose", [MIXED, TRANSFORMED, HASHED])
def test_signals_are_refused_whatever_is_done_with_them(purpose):
    good, thin = np.zeros((40, 40), np.float32), np.zeros((3, 40), np.float32)
    for images, number in (([thin, thin], 0), ([good, thin], 1), ([torch.from_numpy(good), torch.from_numpy(thin)], 1)):
        with pytest.raises(ValueError, match=f"^image {number} has the shape .* looks like a signal"):
            read_images(images, "auto", lambda i: f"image {i}", purpose)


@pytest.mark.parametrize("shape", [(4, 1000), (1000, 4), (3, 32), (32, 3), (1, 1), (128, 94), (3, 1000, 1)], ids=str)
def test_pictures_are_not(shape, rng):
    """A spectrogram among them."""
    image = np.zeros(shape, np.float32)
    assert MiAMixCollator(10, PLAIN, seed=0)([(image, 0), (image, 1)])[0].shape == (2, 1, *shape[:2])
    assert MiAMix(10, PLAIN)(np.stack([image] * 2), [0, 1], rng=rng).images.shape == (2, *shape)


def test_neither_pil_images_nor_guides_are_looked_at():
    picture = Image.fromarray(np.zeros((3, 100), np.uint8))
    assert MiAMixCollator(10, PLAIN, seed=0)([(picture, 0), (picture, 1)])[0].shape == (2, 1, 3, 100)
    assert as_map(np.ones((3, 100)), "the guide").shape == (3, 100)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("channels", [1, 3, 12])
def test_a_signal_of_one_row_is_mixed_along_time(method, channels, rng):
    """Each moment of it holds the same share of both signals in all channels."""
    times = 400
    config = MiAMixConfig.plain(method, p_smooth=0.5, p_aug=0.5)
    signals = np.stack([np.full((1, times, channels), i + 1, np.float32) for i in range(8)])
    for n in range(8):
        signals[n] += rng.random((1, times, 1), dtype=np.float32) / 8  # so that guides have something to find
    batch = MiAMix(8, config, return_masks=True)(signals, np.arange(8), rng=rng)
    assert batch.images.shape == (8, 1, times, channels)
    assert batch.masks.shape == (8, 1, times)
    assert (batch.images[..., :1] == batch.images).all()
    assert ((batch.masks.mean(axis=(1, 2)) - batch.lam) ** 2).max() < 1e-6
    if method != "resizemix":  # which pastes the partner at another size
        masks = batch.masks[..., None]
        np.testing.assert_allclose(batch.images, masks * signals + (1 - masks) * signals[batch.partner], atol=1e-4)
    samples = [(torch.from_numpy(signal.transpose(2, 0, 1).copy()), i) for i, signal in enumerate(signals)]
    images, targets = MiAMixCollator(8, config, seed=0)(samples)
    assert images.shape == (8, channels, 1, times)
    assert (images[:, :1] == images).all()
    assert not torch.equal(images, torch.from_numpy(signals.transpose(0, 3, 1, 2)))
    torch.testing.assert_close(targets.sum(dim=1), torch.ones(8))
    images, _ = MiAMixCollator(8, config, seed=0)(list(zip(signals, range(8), strict=True)))
    assert images.shape == (8, channels, 1, times)


def test_a_picture_of_one_row_and_many_channels_is_still_refused(rng):
    """(1, 40, 28) may be a grey picture with its channel first."""
    image = np.zeros((1, 40, 28), np.uint8)
    for mix in (
        lambda: MiAMixCollator(10, PLAIN, seed=0)([(image, 0)] * 2),
        lambda: MiAMix(10, PLAIN)(image[None], [0], rng=rng),
    ):
        assert "C, H, W)" in told(mix)[1]
