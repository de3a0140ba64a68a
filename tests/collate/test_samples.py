"""What samples may be: tuples and dicts, and pictures in any form."""

import copy

import numpy as np
import pytest
import torch
from PIL import Image

from miamix_cpu import MiAMix, MiAMixCollator, MiAMixConfig
from tests.collate.common import NO_SELF, UNMIXED, same, samples_of

pytestmark = UNMIXED


def test_longer_tuples_and_lists():
    samples = [[image, label, label * 2, {"a": label}] for image, label in samples_of(4)]
    images, _, doubled, nested = MiAMixCollator(10, NO_SELF, seed=0)(samples)
    assert images.shape == (4, 3, 8, 8)
    assert doubled.tolist() == [0, 2, 4, 6]
    assert nested["a"].tolist() == [0, 1, 2, 3]


def test_dicts():
    samples = [{"img": image, "y": label, "id": label * 2} for image, label in samples_of(4)]
    plain = MiAMixCollator(10, NO_SELF, seed=0)(samples_of(4))
    found = MiAMixCollator(10, NO_SELF, seed=0, keys=("img", "y"))(samples)
    assert list(found) == ["img", "y", "id"]
    assert same((found["img"], found["y"]), plain)
    renamed = MiAMixCollator(
        10, NO_SELF, seed=0, keys=("img", "y"), out_keys=("pixel_values", "labels"), return_masks=True
    )
    found = renamed(samples)
    assert list(found) == ["pixel_values", "labels", "masks", "id"]
    assert found["id"].tolist() == [0, 2, 4, 6]


def kinds_of_images():
    rng = np.random.default_rng(0)
    arrays = [rng.integers(0, 256, (8, 9, 3), dtype=np.uint8) for _ in range(6)]
    yield "array", arrays, {}
    yield "read-only", [frozen(array) for array in arrays], {}
    yield "fortran", [np.asfortranarray(array) for array in arrays], {}
    yield "negative", [array[::-1, ::-1].copy()[::-1, ::-1] for array in arrays], {}
    yield "strided", [np.repeat(array, 2, axis=1)[:, ::2] for array in arrays], {}
    yield "pil", [Image.fromarray(array) for array in arrays], {}
    yield "tensor", [torch.from_numpy(array).permute(2, 0, 1) for array in arrays], {}
    yield "contiguous tensor", [torch.from_numpy(array).permute(2, 0, 1).contiguous() for array in arrays], {}
    yield "planar array", [array.transpose(2, 0, 1) for array in arrays], {"layout": "channels_first"}
    yield "interleaved tensor", [torch.from_numpy(array) for array in arrays], {"layout": "channels_last"}


def frozen(array):
    array = array.copy()
    array.setflags(write=False)
    return array


@pytest.mark.parametrize(("images", "options"), [pytest.param(i, o, id=name) for name, i, o in kinds_of_images()])
@pytest.mark.parametrize("memory_format", ["channels_first", "channels_last"])
def test_kinds_of_images(images, options, memory_format):
    """The same picture in any clothes is mixed to the same values, and not modified."""
    arrays = next(kinds_of_images())[1]
    before = copy.deepcopy(images)
    collate = MiAMixCollator(
        6, NO_SELF, seed=0, dtype="uint8", return_batch=True, memory_format=memory_format, **options
    )
    batch = collate([(image, i) for i, image in enumerate(images)])
    expected = MiAMix(6, NO_SELF).render(batch.plan, np.array(arrays), range(6))
    np.testing.assert_array_equal(batch.images.permute(0, 2, 3, 1).numpy(), expected.images)
    for image, old in zip(images, before, strict=True):
        np.testing.assert_array_equal(np.asarray(image), np.asarray(old))


@pytest.mark.parametrize("channels", [None, 1, 3, 4])
@pytest.mark.parametrize("memory_format", ["channels_first", "channels_last"])
def test_channels(channels, memory_format, rng):
    shape = (7, 5) if channels is None else (7, 5, channels)
    samples = [(rng.integers(0, 256, shape, dtype=np.uint8), i) for i in range(4)]
    images, _ = MiAMixCollator(4, NO_SELF, seed=0, memory_format=memory_format)(samples)
    assert images.shape == (4, channels or 1, 7, 5)


def test_float_images_are_taken_as_they_are(rng):
    samples = [((rng.standard_normal((4, 4, 3)) * 50).astype(np.float32), 0) for _ in range(3)]
    images, _ = MiAMixCollator(2, MiAMixConfig.plain("mixup", p_self=1), seed=0, transform=lambda x: x)(samples)
    np.testing.assert_allclose(images.permute(0, 2, 3, 1), [image for image, _ in samples], rtol=1e-6)


def test_images_are_read_once(monkeypatch):
    from miamix_cpu.samples import images as module

    calls = []
    as_array = module.as_array
    monkeypatch.setattr(
        module, "as_array", lambda image, *rest, **options: calls.append(image) or as_array(image, *rest, **options)
    )
    samples = [(Image.fromarray(image), label, label) for image, label in samples_of(4)]
    MiAMixCollator(10, NO_SELF, seed=0)(samples)
    assert len(calls) == 4
    calls.clear()
    MiAMixCollator(10, NO_SELF, seed=0, index_key=2, transform=lambda image: np.asarray(image))(samples)
    assert not any(isinstance(image, Image.Image) for image in calls)


def test_tensors_made_of_arrays_are_read_as_tensors(rng):
    """`layout` says what the samples hold; a transform like torchvision's ToTensor turns it round."""
    pictures = rng.integers(0, 256, (3, 5, 4, 3), dtype=np.uint8)
    samples = [(picture, i) for i, picture in enumerate(pictures)]

    def to_tensor(image):
        return torch.from_numpy(image.transpose(2, 0, 1) / np.float32(255))

    batches = [
        MiAMixCollator(10, seed=0, layout=layout, transform=to_tensor)(samples)[0]
        for layout in ("auto", "channels_last")
    ]
    assert batches[0].shape == (3, 3, 5, 4)
    assert torch.equal(*batches)
