"""Clips: all frames are mixed by one mask, each as an image is, and what belongs to them goes along."""

import albumentations as A
import numpy as np
import pytest
import torch
from albumentations.pytorch import ToTensorV2
from torch.utils.data import DataLoader

from miamix_cpu import MiAMix, MiAMixBatch, MiAMixCollator, MiAMixConfig, SaliencyMixOptions, TwoViews
from miamix_cpu.config import METHODS
from tests.collate.common import EVERYTHING, UNMIXED, same

pytestmark = UNMIXED
N, T, HEIGHT, WIDTH = 8, 5, 14, 18
CONFIGS = [*(MiAMixConfig.plain(name, p_self=0.0, second_view="independent") for name in METHODS), EVERYTHING.replace(p_self=0.0)]  # fmt: skip
IDS = [*METHODS, "everything"]
CROP = [A.RandomCrop(10, 10), A.D4()]


def clip_of(i, dtype=np.uint8, channels=3):
    values = np.random.default_rng(i).integers(0, 256, (T, HEIGHT, WIDTH, channels))
    return values.astype(np.uint8) if dtype == np.uint8 else (values / 255).astype(dtype)


def samples_of(dtype=np.uint8, channels=3, kind=np.asarray):
    """Clips, and guides, so that methods do not look at a frame to find out where to cut."""
    guides = np.random.default_rng(99).random((N, 7, 9), np.float32)
    return [{"image": kind(clip_of(i, dtype, channels)), "label": i % 3, "guide": guides[i]} for i in range(N)]


def as_tensor(clip):
    """(T, C, H, W)"""
    return torch.from_numpy(clip).permute(0, 3, 1, 2)


def collator(config, **options):
    options = {"seed": 1, "dtype": "uint8", "return_batch": True, **options}
    return MiAMixCollator(3, config, **options)


def frames_mixed(batch, samples, dtype):
    """Each frame of a batch as the images of its frames are mixed by the same plan, (N, C, T, H, W)."""
    clips, maps = (np.stack([sample[key] for sample in samples]) for key in ("image", "guide"))
    labels = [sample["label"] for sample in samples]
    mix = MiAMix(3, dtype=dtype)
    images = [mix.render(batch.plan, clips[:, t], labels, maps=maps).images for t in range(clips.shape[1])]
    return np.moveaxis(np.stack(images, 1), -1, 1)


@pytest.mark.parametrize("config", CONFIGS, ids=IDS)
@pytest.mark.parametrize(("source", "target"), [(np.uint8, "uint8"), (np.uint8, "float32"), (np.float32, "float32")])
@pytest.mark.parametrize("kind", [np.asarray, as_tensor], ids=["arrays", "tensors"])
@pytest.mark.parametrize("memory_format", ["channels_first", "channels_last"])
def test_each_frame_is_mixed_as_an_image(memory_format, kind, source, target, config):
    samples = samples_of(source, kind=kind)
    batch = collator(config, dtype=target, memory_format=memory_format, map_key="guide")(samples)
    assert batch.images.shape == (N, 3, T, HEIGHT, WIDTH)
    assert batch.images.is_contiguous(
        memory_format=torch.channels_last_3d if memory_format == "channels_last" else torch.contiguous_format
    )
    np.testing.assert_array_equal(batch.images.numpy(), frames_mixed(batch, samples_of(source), target))
    assert len(batch.plan.layers) > 0
    scale = 255 if (source, target) == (np.uint8, "float32") else 1
    clips = np.stack([sample["image"] for sample in samples_of(source)]) / scale
    assert (np.abs(batch.images.permute(0, 2, 3, 4, 1).numpy() - clips) > 1e-3).mean() > 0.02


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("with_masks", [False, True])
@pytest.mark.parametrize("frames", [1, 2, 9])
def test_clips_of_any_length_and_any_channels(frames, with_masks, channels, rng):
    """With and without masks, which boxes are mixed without; one frame is an image."""
    for dtype in ("uint8", "float32"):
        clips = rng.integers(0, 256, (6, frames, 9, 11, channels)).astype(np.uint8)
        plan = MiAMix(3, EVERYTHING.replace(p_self=0.0)).plan(6, 9, 11, rng=rng)
        mix = MiAMix(3, EVERYTHING.replace(p_self=0.0), dtype=dtype, return_masks=with_masks)
        maps = rng.random((6, 3, 3))
        batch = mix.render(plan, clips, [0] * 6, maps=maps)
        assert batch.images.shape == clips.shape
        for t in range(frames):
            alone = mix.render(plan, clips[:, t], [0] * 6, maps=maps)
            np.testing.assert_array_equal(batch.images[:, t], alone.images)
            np.testing.assert_array_equal(batch.lam, alone.lam)
            assert not with_masks or np.array_equal(batch.masks, alone.masks)


def test_second_views_of_clips(rng):
    first, second = rng.integers(0, 256, (2, 6, T, 9, 11, 3), np.uint8)
    mix = MiAMix(3, EVERYTHING)
    maps = {"maps": np.ones((6, 2, 2)), "second_maps": rng.random((6, 2, 2))}
    batch = mix(first, [0] * 6, rng=rng, second=second, **maps)
    for t in range(T):
        alone = mix.render(batch.plan, first[:, t], [0] * 6, second=second[:, t], **maps)
        np.testing.assert_array_equal(batch.images[:, t], alone.images)


@pytest.mark.parametrize("memory_format", ["channels_first", "channels_last"])
def test_columns_of_clips_equal_the_collator(memory_format):
    samples = samples_of()
    options = {"memory_format": memory_format, "map_key": "guide", "seed": 1}
    theirs = collator(CONFIGS[-1], **options)(samples)
    columns = {key: np.stack([sample[key] for sample in samples]) for key in samples[0]}
    for batch in (columns, samples):
        mixed = MiAMixBatch(3, CONFIGS[-1], **options)(batch)
        images = theirs.images.numpy()
        np.testing.assert_array_equal(
            mixed["image"], images if memory_format == "channels_first" else np.moveaxis(images, 1, -1)
        )
        np.testing.assert_array_equal(mixed["label"], theirs.targets)


@pytest.mark.parametrize("frames", [1, 4, 5])
@pytest.mark.parametrize("kind", [np.asarray, as_tensor], ids=["arrays", "tensors"])
@pytest.mark.parametrize("guide", ["fine_grained", "spectral"])
def test_a_clips_guide_is_that_of_its_middle_frame(guide, kind, frames, rng):
    config = MiAMixConfig.plain("saliencymix", p_self=0.0, saliencymix=SaliencyMixOptions(guide=guide))
    clips = rng.integers(0, 256, (N, frames, 20, 22, 3), np.uint8)
    batch = collator(config)([(kind(clip), 0) for clip in clips])
    middle = collator(config)([(clip[frames // 2], 0) for clip in clips])
    mix = MiAMix(3, config)
    assert mix.render(middle.plan, clips, [0] * N).plan.layers.tobytes() == middle.plan.layers.tobytes()
    again = mix.render(batch.plan, clips[:, frames // 2], [0] * N).plan
    assert again.layers.tobytes() == batch.plan.layers.tobytes()
    others = mix.render(batch.plan, clips[:, frames // 2 - 1], [0] * N).plan
    assert frames == 1 or others.layers.tobytes() != batch.plan.layers.tobytes()


# ---- transforms, and what belongs to a clip


def cropped(entries):
    """Of arrays and tensors (.., h, w, C) or (.., C, h, w) or (h, w), the same of all."""
    y, x, flip = np.random.randint(0, 4), np.random.randint(0, 8), bool(np.random.randint(2))

    def one(value):
        first = torch.is_tensor(value) and value.ndim > 2
        value = value.movedim(-3, -1) if first else value
        at = (np.s_[y : y + 10], np.s_[x : x + 10])
        value = value[at] if value.ndim == 2 else value[(..., *at, np.s_[:])]
        if flip:
            axis = 1 if value.ndim == 2 else -2
            value = value.flip(axis) if torch.is_tensor(value) else np.flip(value, axis)
        return value.movedim(-1, -3) if first else value

    return {key: one(value) for key, value in entries.items()}


def traced(i):
    """A clip whose pixels say from where they are; a map for all of its frames, and one for each."""
    t, y, x = np.mgrid[:T, :HEIGHT, :WIDTH].astype(np.uint8)
    clip = np.stack([np.full_like(y, i + 1), 12 * y + 1, 12 * x + 1 + t], -1)
    every = ((i * T + t.astype(np.int32)) * HEIGHT + y) * WIDTH + x + 1
    return {"image": clip, "label": i % 3, "one": every[0], "each": every[..., None], "copy": clip}


def of_code(codes):
    """The pixels that belong to a map's."""
    codes = codes.astype(np.int64) - 1
    x, y, t, i = codes % WIDTH, codes // WIDTH % HEIGHT, codes // (WIDTH * HEIGHT) % T, codes // (T * WIDTH * HEIGHT)
    return np.stack([i + 1, 12 * y + 1, 12 * x + 1 + t], -1).astype(np.uint8)


def traced_tensors(i):
    sample = traced(i)
    return {**sample, **{key: torch.from_numpy(sample[key]).movedim(-1, -3) for key in ("image", "copy", "each")}}


ALSO = {"one": "choose", "each": "choose", "copy": "blend"}
TRANSFORMS = {
    "none": (None, traced), "tensors": (None, traced_tensors),
    "declared": (A.Compose(CROP, additional_targets={"copy": "images"}), traced),
    "all declared": (A.Compose(CROP, additional_targets={"copy": "images", "each": "masks", "one": "mask"}), traced),
    "from tensors": (A.Compose(CROP, additional_targets={"copy": "images"}), traced_tensors),
    "to tensors": (A.Compose([*CROP, ToTensorV2()], additional_targets={"copy": "images"}), traced),
    "dict": (cropped, traced), "dict of tensors": (cropped, traced_tensors), "keywords": (lambda **entries: cropped(entries), traced),
}  # fmt: skip


def assert_traced(batch, method):
    """Every pixel that is shown whole is where its maps say, in each frame; a copy of the clip is the mixed clip."""
    frames = batch.images.permute(0, 2, 3, 4, 1).numpy()
    assert torch.equal(batch.extras["copy"], batch.images)
    each, one = batch.extras["each"].numpy(), batch.extras["one"].numpy()
    assert each.shape == (N, 1, *frames.shape[1:4])
    np.testing.assert_array_equal(each[:, 0, 0], one)
    whole = batch.masks.numpy() == 1
    if method != "resizemix":  # whose partner's frames are averaged
        whole |= batch.masks.numpy() == 0
    for t in range(T):
        np.testing.assert_array_equal(of_code(each[:, 0, t])[whole], frames[:, t][whole])
    own = of_code(each[:, 0])[..., 0] == np.arange(1, N + 1)[:, None, None, None]
    np.testing.assert_array_equal(own, np.broadcast_to((batch.masks.numpy() >= 0.5)[:, None], own.shape))


@pytest.mark.parametrize("method", ["cutmix", "resizemix", "mixup"])
@pytest.mark.parametrize("memory_format", ["channels_first", "channels_last"])
@pytest.mark.parametrize("name", TRANSFORMS)
def test_what_belongs_to_a_clip_goes_along(name, memory_format, method):
    transform, kind = TRANSFORMS[name]
    config = MiAMixConfig.plain(method, p_self=0.0, second_view="independent")
    options = {"transform": transform, "memory_format": memory_format, "return_masks": True}
    batch = collator(config, also=ALSO, **options)([kind(i) for i in range(N)])
    assert batch.images.shape[3:] == ((10, 10) if transform else (HEIGHT, WIDTH))
    assert_traced(batch, method)


@pytest.mark.parametrize(
    "transform",
    [A.Compose(CROP), A.Compose([*CROP, ToTensorV2()]), A.D4(), A.RandomCrop(9, 9)],
    ids=["compose", "to tensors", "turn", "crop"],
)
@pytest.mark.parametrize("kind", [np.asarray, as_tensor], ids=["arrays", "tensors"])
def test_albumentations_moves_all_frames_alike(kind, transform):
    """And gives another view to each clip."""
    samples = [(kind(np.repeat(clip_of(i)[:1, :14, :14], T, 0)), 0) for i in range(N)]
    config = MiAMixConfig.plain("mixup", p_self=0.0, second_view="independent")
    images = collator(config, transform=transform)(samples).images
    assert all(torch.equal(images[:, :, t], images[:, :, 0]) for t in range(T))
    assert torch.equal(images, collator(config, transform=transform)(samples).images)
    alone = [collator(config, transform=transform)([sample] * N).images[:, :, 0] for sample in samples[:2]]
    assert all(len(np.unique(part.numpy().reshape(N, -1), axis=0)) > 1 for part in alone)


@pytest.mark.parametrize("name", ["declared", "from tensors", "dict", "dict of tensors"])
def test_two_views_of_clips(name):
    transform, kind = TRANSFORMS[name]
    batches = []
    for workers in (0, 2):
        dataset = TwoViews([kind(i) for i in range(N)], transform, seed=3, also=ALSO)
        collate = collator(MiAMixConfig.plain("cutmix", p_self=0.0), also=ALSO, return_masks=True)
        loader = DataLoader(dataset, N, collate_fn=collate, num_workers=workers)
        batches.append(next(iter(loader)))
        assert_traced(batches[-1], "cutmix")
    assert same(*[[batch.images, *batch.extras.values()] for batch in batches])


@pytest.mark.parametrize(("bad", "error", "words"), [
    (np.zeros((T + 1, HEIGHT, WIDTH, 3), np.uint8), ValueError, r"image of sample 2 has shape \(6, 14, 18, 3\), image of sample 0 has"),
    (np.zeros((T, 3, HEIGHT, WIDTH), np.uint8), ValueError, r"image of sample 2 is an array of shape \(5, 3, 14, 18\); read as \(T, H, W, C\)"),
    (np.zeros((2, T, HEIGHT, WIDTH, 3), np.uint8), ValueError, r"image of sample 2 must have 2 or 3 axes.* or 4 if it is a clip"),
    (np.zeros((0, HEIGHT, WIDTH, 3), np.uint8), ValueError, "image of sample 2 must have .* none empty"),
])  # fmt: skip
def test_wrong_clips_are_named(bad, error, words):
    samples = [(clip_of(i), 0) for i in range(4)]
    samples[2] = (bad, 0)
    with pytest.raises(error, match=f"^{words}"):
        collator(CONFIGS[1])(samples)
