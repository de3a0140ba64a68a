"""Maps and further images are mixed pixel for pixel as their images are, by every method, whatever makes the views."""

import albumentations as A
import cv2
import numpy as np
import pytest
import torch
from albumentations.pytorch import ToTensorV2
from PIL import Image
from torch.utils.data import DataLoader

from miamix_cpu import MiAMixConfig, TwoViews
from miamix_cpu.config import METHODS
from tests.collate.common import EVERYTHING, UNMIXED
from tests.collate.traced import (
    GEOMETRY,
    INNER,
    METHOD,
    N,
    codes,
    collator,
    expected,
    first_and_second,
    picture,
    read,
    small,
    unsmall,
)
from tests.examples import needs

pytestmark = UNMIXED
ALSO = {"map": "choose", "copy": "blend"}
BOX = MiAMixConfig.plain("cutmix", p_self=0.0, second_view="independent")


def sample_of(i, view=0):
    return {"image": picture(i, view), "label": i, "map": codes(i, view), "copy": picture(i, view)}


def paired(i):
    one, other = sample_of(i), sample_of(i, 1)
    return {**{key: (one[key], other[key]) for key in one}, "label": i}


@pytest.mark.parametrize("config", METHOD, ids=METHODS)
@pytest.mark.parametrize("second_view", ["independent", "shared"])
def test_each_pixel_is_of_the_sample_and_view_that_its_mask_says(config, second_view):
    """And what is mixed as images are is the mixed image, to the byte."""
    samples = [paired(i) for i in range(N)]
    batch = collator(ALSO, config.replace(second_view=second_view, p_self=0.2))(samples)
    first, second = (np.stack([codes(i, view) for i in range(N)]) for view in (0, second_view == "independent"))
    found = batch.extras["map"].numpy()
    assert found.dtype == np.int64
    np.testing.assert_array_equal(found, expected(batch.plan, batch.masks.numpy(), first, second))
    assert torch.equal(batch.extras["copy"], batch.images)
    binary = (batch.masks == 0) | (batch.masks == 1)
    if config.methods[0] != "resizemix":  # whose partner's image is averaged, and its map is not
        np.testing.assert_array_equal(read(found)[binary], batch.images.permute(0, 2, 3, 1).numpy()[binary])
    assert len(batch.plan.layers) == N
    assert (found != first).any()


@pytest.mark.parametrize("config", [*METHOD, EVERYTHING.replace(p_self=0.0)], ids=[*METHODS, "everything"])
@pytest.mark.parametrize("memory_format", ["channels_first", "channels_last"])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_a_copy_of_the_image_becomes_the_mixed_image(dtype, memory_format, config, rng):
    samples = [{"label": 0, "copy": image, "image": image} for image in rng.random((N, 9, 12, 4), np.float32)]
    if dtype == np.uint8:
        samples = [{**s, **{key: (s[key] * 255).astype(np.uint8) for key in ("image", "copy")}} for s in samples]
    made = "uint8" if dtype == np.uint8 else "float32"
    batch = collator({"copy": "blend"}, config, dtype=made, memory_format=memory_format)(samples)
    copy = batch.extras["copy"]
    assert torch.equal(copy, batch.images)
    assert (copy.dtype, copy.stride()) == (batch.images.dtype, batch.images.stride())
    assert len(batch.plan.layers) > 0


# ---- views that a transform makes


def turned(entries):
    """The same crop, flips and quarter turns of all."""
    y, x, turns = np.random.randint(0, 7), np.random.randint(0, 11), np.random.randint(4)
    flip = np.random.choice([-1, 1])
    return {
        key: np.rot90(value[y : y + INNER[0], x : x + INNER[1]][:, ::flip], turns) for key, value in entries.items()
    }


def of_tensors(entries):
    """Of (C, h, w) and (h, w), to the same."""
    moved = turned({key: np.moveaxis(value.numpy(), 0, -1) if value.ndim == 3 else value.numpy() for key, value in entries.items()})  # fmt: skip
    return {key: torch.from_numpy(np.moveaxis(value, -1, 0).copy() if value.ndim == 3 else value.copy()) for key, value in moved.items()}  # fmt: skip


def of_pictures(entries):
    angle = np.random.randint(4) * 90
    return {key: value.crop((2, 3, 16, 17)).rotate(angle) for key, value in entries.items()}


def as_arrays(i):
    return {**sample_of(i), "map": small(codes(i))}


def as_tensors(i):
    sample = as_arrays(i)
    images = {key: torch.from_numpy(sample[key]).permute(2, 0, 1) for key in ("image", "copy")}
    return {**sample, **images, "map": torch.from_numpy(sample["map"])}


def as_pictures(i):
    sample = as_arrays(i)
    images = {key: Image.fromarray(sample[key]) for key in ("image", "copy")}
    return {**sample, **images, "map": Image.fromarray(sample["map"].astype(np.int32))}


def to_tensor(entries):
    """From arrays to an image and a copy that are tensors (C, h, w)."""
    moved = turned(entries)
    return {
        **moved,
        **{key: torch.from_numpy(moved[key].transpose(2, 0, 1).copy()) for key in ("image", "copy")},
    }


DECLARED = A.Compose(GEOMETRY, additional_targets={"copy": "image", "map": "mask"})
TRANSFORMS = {
    "declared": (DECLARED, as_arrays), "masks": (A.Compose(GEOMETRY), as_arrays), "one": (A.RandomCrop(*INNER), as_arrays),
    "from tensors": (DECLARED, as_tensors), "from pictures": (DECLARED, as_pictures),
    "to tensors": (A.Compose([*GEOMETRY, ToTensorV2()], additional_targets={"copy": "image"}), as_arrays),
    "dict": (turned, as_arrays), "keywords": (lambda **entries: turned(entries), as_arrays),
    "named": (lambda image, copy, map: turned({"image": image, "map": map, "copy": copy}), as_arrays),
    "dict of tensors": (of_tensors, as_tensors), "dict of pictures": (of_pictures, as_pictures),
    "to tensor": (to_tensor, as_arrays),
}  # fmt: skip


def assert_pixels_agree(batch, first, second, samples):
    """Views are what their maps say, second views are others than the first, and both are mixed as the plan says."""
    maps = [unsmall(part.extras["map"].numpy().reshape(len(samples), *part.images.shape[2:])) for part in (batch, first, second)]  # fmt: skip
    for part, map_ in zip((first, second), maps[1:], strict=True):
        np.testing.assert_array_equal(read(map_), part.images.permute(0, 2, 3, 1).numpy())
    moved = [(one != other).any() for one, other in zip(*maps[1:], strict=True)]
    assert np.mean(moved) > 0.5
    np.testing.assert_array_equal(maps[0], expected(batch.plan, batch.masks.numpy(), *maps[1:]))


@pytest.mark.parametrize("config", METHOD, ids=METHODS)
@pytest.mark.parametrize("name", TRANSFORMS)
def test_maps_follow_the_geometry_of_their_views(name, config):
    transform, kind = TRANSFORMS[name]
    also = ALSO
    if name == "masks":  # of one dtype, (h, w): the first is the mask, the others are masks
        samples = [{**kind(i), "copy": small(codes(i)), "more": small(codes(i))} for i in range(N)]
        also = {"copy": "choose", "map": "choose", "more": "choose"}
    elif name == "one":  # it declares nothing
        samples, also = [{**kind(i), "copy": small(codes(i))} for i in range(N)], {"map": "choose", "copy": "choose"}
    else:
        samples = [kind(i) for i in range(N)]
    collate = collator(also, config, transform=transform)
    batch = collate(samples)
    assert_pixels_agree(batch, *first_and_second(collate, samples, batch.plan), samples)
    for key in also:
        same = batch.images if also[key] == "blend" else batch.extras["map"]
        assert torch.equal(batch.extras[key], same)


@pytest.mark.parametrize("name", ["name", "others", "self", "masks", "mask", "images", "image", "transform"])
@pytest.mark.parametrize("transform", [A.Compose(GEOMETRY), turned, lambda **entries: turned(entries)],
                         ids=["albumentations", "dict", "keywords"])  # fmt: skip
def test_entries_may_have_any_name(name, transform):
    samples = [{"picture": picture(i), "label": 0, name: small(codes(i))} for i in range(N)]
    if name == "image" and transform is not turned and not isinstance(transform, A.Compose):
        transform = turned  # "image" is what keywords call the picture
    batch = collator({name: "choose"}, BOX, transform=transform, keys=("picture", "label"))(samples)
    np.testing.assert_array_equal(read(unsmall(batch.extras[name].numpy())), batch.images.permute(0, 2, 3, 1).numpy())


def test_tensors_of_as_many_columns_as_channels_are_not_mistaken(rng):
    samples = [{"image": image, "label": 0, "copy": image, "map": image} for image in rng.integers(0, 256, (N, 3, 3, 3), np.uint8)]  # fmt: skip
    transform = A.Compose([A.D4(), ToTensorV2()], additional_targets={"copy": "image"})
    batch = collator({"copy": "blend", "map": "blend"}, BOX, transform=transform)(samples)
    assert torch.equal(batch.extras["copy"], batch.images)
    assert torch.equal(batch.extras["map"], batch.images)


def test_rotation_by_any_angle_turns_maps_as_it_turns_images():
    """OpenCV turns bytes and numbers of 32 bits a little differently, so a pixel in a thousand is its neighbour."""
    samples = [as_arrays(i) for i in range(N)]
    transform = A.Compose([A.Rotate(80, interpolation=cv2.INTER_NEAREST), *GEOMETRY])
    batch = collator({"map": "choose"}, BOX, transform=transform)(samples)
    maps, images = read(unsmall(batch.extras["map"].numpy())), batch.images.permute(0, 2, 3, 1).numpy()
    assert (maps == images).all(-1).mean() > 0.99
    assert (maps == 0).any()


@pytest.mark.parametrize("kind", [as_arrays, as_tensors, as_pictures])
def test_torchvisions_transforms_move_maps_and_images(kind):
    needs("torchvision")
    from benchmarks.torchvision_wheel import import_torchvision

    import_torchvision()
    from torchvision.transforms import v2

    steps = [v2.RandomCrop(INNER), v2.RandomHorizontalFlip(), v2.RandomVerticalFlip()]
    transform = v2.Compose([v2.ToImage(), *steps, v2.ToImage()])
    samples = [kind(i) for i in range(N)]
    collate = collator(ALSO, BOX, transform=transform)
    batch = collate(samples)
    assert_pixels_agree(batch, *first_and_second(collate, samples, batch.plan), samples)
    assert torch.equal(batch.extras["copy"], batch.images)
    assert batch.extras["map"].shape == (N, *INNER)


@pytest.mark.parametrize("method", ["cutmix", "resizemix", "mixup"])
def test_two_views_make_pairs_of_them(method):
    dataset = TwoViews([as_arrays(i) for i in range(N)], DECLARED, seed=1, also=ALSO)
    samples = [dataset[i] for i in range(N)]
    collate = collator(ALSO, MiAMixConfig.plain(method, second_view="independent", p_self=0.0))
    batch = collate(samples)
    assert_pixels_agree(batch, *first_and_second(collate, samples, batch.plan), samples)
    assert torch.equal(batch.extras["copy"], batch.images)


def test_guides_go_along_as_well():
    """Three further entries, of which one is a guide: the box shows the brightest place of the partner's view."""
    samples = [{**as_arrays(i), "guide": (codes(i) == codes(i)[10, 12]).astype(np.float32)} for i in range(N)]
    config = MiAMixConfig.plain("saliencymix", second_view="independent", p_self=0.0, ratio_range=(0.5, 0.9))
    transform = A.Compose([A.CenterCrop(*INNER), A.D4()], additional_targets={"copy": "image", "map": "mask"})
    collate = collator(ALSO, config, transform=transform, map_key="guide")
    batch = collate(samples)
    assert_pixels_agree(batch, *first_and_second(collate, samples, batch.plan), samples)
    for i, t in enumerate(batch.partner.tolist()):
        assert (batch.extras["map"][i] == small(codes(t))[10, 12]).any()
    assert "guide" not in batch.extras


DTYPES = ["bool", "int8", "int16", "uint16", "uint32", "int64", "uint64", "float16", "float64"]


def numbers(i, dtype):
    return (codes(i) % 101).astype(dtype)


def test_maps_of_every_dtype_travel_from_a_worker():
    samples = [{"image": picture(i), "label": 0, **{name: numbers(i, name) for name in DTYPES}} for i in range(N)]
    batches = []
    for workers in (0, 1):
        collate = collator(dict.fromkeys(DTYPES, "choose"), BOX)
        batches.append(next(iter(DataLoader(samples, N, collate_fn=collate, num_workers=workers))).extras)
    for name in DTYPES:
        here, there = (batch[name].numpy() for batch in batches)
        np.testing.assert_array_equal(here, there)
        assert there.dtype == name
        np.testing.assert_array_equal(there, batches[1]["int64"].numpy().astype(name))


class ReusesMaps:
    """New views each time, and all maps in the same memory."""

    def __init__(self):
        self.map = np.empty((20, 24), np.int64)

    def __call__(self, entries):
        flip = np.random.choice([-1, 1], 2)
        self.map[:] = entries["map"][:: flip[0], :: flip[1]]
        return {"image": entries["image"][:: flip[0], :: flip[1]].copy(), "map": self.map}


@pytest.mark.parametrize("n", [1, N])
def test_maps_that_lie_in_reused_memory_are_not_written_over(n):
    """Even if a single sample's two views are the only ones."""
    config = MiAMixConfig.plain("cutmix", second_view="independent")
    for seed in range(4):
        samples = [{"image": picture(i), "label": 0, "map": small(codes(i))} for i in range(n)]
        batch = collator({"map": "choose"}, config, transform=ReusesMaps(), seed=seed)(samples)
        maps = unsmall(batch.extras["map"].numpy())
        np.testing.assert_array_equal(read(maps), batch.images.permute(0, 2, 3, 1).numpy())
