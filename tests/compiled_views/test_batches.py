"""Batches whose views are compiled: through loaders, plans and replay, with maps, and with images of every kind."""

import numpy as np
import pytest

A = pytest.importorskip("albumentations", reason="Albumentations is not installed")
torch = pytest.importorskip("torch")

from torch.utils.data import DataLoader  # noqa: E402

from miamix_cpu import MiAMixBatch, MiAMixCollator, MiAMixConfig, MixPlan, TwoViews  # noqa: E402
from miamix_cpu.plan.streams import VIEWS, stream  # noqa: E402

SIZE = 12


def images_of(count, channels=3, size=SIZE):
    rng = np.random.default_rng(5)
    return [rng.integers(0, 256, (size, size, channels), np.uint8) for _ in range(count)]


SAMPLES = [(image, i % 4) for i, image in enumerate(images_of(24))]


def everything():
    return A.Compose([
        A.PadIfNeeded(16, 16, border_mode=4), A.RandomCrop(SIZE, SIZE), A.HorizontalFlip(),
        A.OneOf([A.Rotate(30), A.RandomResizedCrop((SIZE, SIZE))]), A.ColorJitter(p=0.5), A.CoarseDropout(p=0.5),
    ])  # fmt: skip


def moves():
    return A.Compose([A.PadIfNeeded(20, 20, fill=0), A.RandomCrop(SIZE, SIZE), A.D4(), A.HorizontalFlip()])


def batches(collate, workers, start="fork"):
    loader = DataLoader(SAMPLES, 6, collate_fn=collate, num_workers=workers,
                        multiprocessing_context=start if workers else None)  # fmt: skip
    collate.set_epoch(3)
    return [part.numpy() for batch in loader for part in batch]


@pytest.mark.parametrize(("workers", "start"), [(1, "fork"), (2, "fork"), (2, "spawn")])
def test_the_same_bytes_for_any_number_of_workers(workers, start):
    here, there = (MiAMixCollator(4, transform=everything(), seed=1, compiled_views=True) for _ in range(2))
    for a, b in zip(batches(here, 0), batches(there, workers, start), strict=True):
        np.testing.assert_array_equal(a, b)


def test_views_are_those_of_albumentations_for_the_same_parameters():
    """Of a whole batch, through the collator, with all that the plan says."""
    transform = A.Compose([A.PadIfNeeded(18, 18), A.RandomCrop(SIZE, SIZE), A.HorizontalFlip()])
    collate = MiAMixCollator(
        4, MiAMixConfig.plain("mixup"), transform=transform, seed=0, dtype="uint8", return_batch=True
    )
    unmixed = collate.plain(transform)
    batch = unmixed(SAMPLES)
    pad, crop, flip = batch.plan.views[0].steps
    for i, (image, _) in enumerate(SAMPLES):
        top, left = crop.values[i, :2].astype(int)
        view = np.pad(image, ((3, 3), (3, 3), (0, 0)))[top : top + SIZE, left : left + SIZE]
        view = view[:, ::-1] if i in flip.views else view
        np.testing.assert_array_equal(batch.images[i].permute(1, 2, 0).numpy(), view)
    assert 0 < len(flip.views) < len(SAMPLES) == len(pad.views)


def test_second_views_are_made_only_where_needed_and_differ():
    collate = MiAMixCollator(4, MiAMixConfig(p_self=0), transform=moves(), seed=0, return_batch=True)
    plan = collate(SAMPLES).plan
    first, second = plan.views
    assert first.samples.tolist() == list(range(len(SAMPLES)))
    assert second.samples.tolist() == plan.needs_second_view
    assert not np.array_equal(first.steps[1].values, second.steps[1].values)
    shared = MiAMixCollator(4, MiAMixConfig(second_view="shared"), transform=moves(), seed=0, return_batch=True)
    assert len(shared(SAMPLES).plan.views) == 1


def test_changing_the_mix_changes_no_first_view():
    drawn = [
        MiAMixCollator(4, config, transform=moves(), seed=0, return_batch=True)(SAMPLES).plan.views[0].steps[1].values
        for config in (MiAMixConfig(), MiAMixConfig.plain("cutmix"))
    ]
    np.testing.assert_array_equal(*drawn)


def test_replay_and_save(tmp_path):
    collate = MiAMixCollator(4, transform=everything(), seed=0, return_batch=True)
    batch = collate(SAMPLES)
    batch.plan.save(tmp_path / "plan.npz")
    plan = MixPlan.load(tmp_path / "plan.npz")
    for before, after in zip(batch.plan.views, plan.views, strict=True):
        assert before.program == after.program
        np.testing.assert_array_equal(before.samples, after.samples)
        for a, b in zip(before.steps, after.steps, strict=True):
            assert (a.name, a.parameters) == (b.name, b.parameters)
            np.testing.assert_array_equal(a.views, b.views)
            np.testing.assert_array_equal(a.values, b.values)
    np.testing.assert_array_equal(collate.replay(SAMPLES, plan).images, batch.images)
    for i in range(len(SAMPLES)):
        assert plan.describe(i) == batch.plan.describe(i)


def test_replay_uses_the_plans_parameters_and_not_its_key():
    """They stay valid if a later version draws others from the key."""
    collate = MiAMixCollator(4, transform=moves(), seed=0, return_batch=True)
    batch = collate(SAMPLES)
    plan = batch.plan
    crop = plan.views[0].steps[1]
    crop.values[:] = [2, 3, 0, 0, 0, 0]
    changed = collate.replay(SAMPLES, plan)
    assert not torch.equal(changed.images, batch.images)
    assert torch.equal(changed.images, collate.replay(SAMPLES, plan).images)
    other = MiAMixCollator(4, transform=A.Compose([A.CenterCrop(SIZE, SIZE)]), seed=0, return_batch=True)
    assert other.replay(SAMPLES, plan).plan.views[0].steps[0].name == "CenterCrop"


def test_a_plan_whose_views_do_not_fit_is_refused():
    collate = MiAMixCollator(4, transform=moves(), seed=0, return_batch=True)
    for damage, message in (
        (lambda views: views.steps.pop(), "have 3 steps, the transform has 4"),
        (lambda views: views.steps[0].values.fill(1e12), "parameters of PadIfNeeded that do not fit"),
        (lambda views: views.steps[0].values.fill(-30), "no pixels after PadIfNeeded"),
        (
            lambda views: setattr(views.steps[1], "views", views.steps[1].views + 9),
            "parameters of RandomCrop that do not fit",
        ),
    ):
        collate.set_epoch(collate.epoch + 1)
        plan = collate(SAMPLES).plan
        damage(plan.views[0])
        with pytest.raises(ValueError, match=message):
            collate.replay(SAMPLES, plan)


def test_describe_names_the_views():
    transform = A.Compose([A.RandomCrop(8, 8), A.HorizontalFlip(p=1), A.CoarseDropout(num_holes_range=(2, 2), p=1)])
    collate = MiAMixCollator(
        4, MiAMixConfig(k_min=1, k_max=1, p_self=0), transform=transform, seed=0, return_batch=True
    )
    plan = collate(SAMPLES).plan
    words = plan.describe(0)
    partner = plan.partner[0]
    assert f"; its view: {plan.views[0].describe(0)}" in words
    assert f"; the second view of sample {partner}: {plan.views[1].describe(partner)}" in words
    found = plan.views[0].describe(0)
    assert found.startswith("RandomCrop(top=")
    assert "), HorizontalFlip, CoarseDropout(left=" in found
    assert found.count("; left=") == 1
    unchanged = MiAMixCollator(4, transform=A.HorizontalFlip(p=0), seed=0, return_batch=True)(SAMPLES).plan
    assert "; its view: unchanged" in unchanged.describe(1)


def tagged(count, dtype):
    """Images and maps of which each pixel says where it comes from: one more than its place, so that borders are 0."""
    places = 1 + np.arange(SIZE * SIZE, dtype=dtype).reshape(SIZE, SIZE)
    return [{"image": np.repeat(places[..., None], 3, 2), "mask": places.copy(), "depth": places[..., None].astype(np.float32),
             "label": i % 4} for i in range(count)]  # fmt: skip


@pytest.mark.filterwarnings("ignore:float images have values")
@pytest.mark.parametrize("dtype", [np.uint8, np.float32], ids=["uint8", "float32"])
@pytest.mark.parametrize("ids", [np.uint8, np.int64, np.float32, bool], ids=lambda kind: np.dtype(kind).name)
def test_maps_go_through_the_same_moves(dtype, ids):
    samples = [{**sample, "mask": sample["mask"].astype(ids)} for sample in tagged(6, dtype)]
    collate = MiAMixCollator(4, transform=moves(), seed=0, also={"mask": "choose", "depth": "blend"}, compiled_views=True,
                             return_batch=True, dtype="uint8" if dtype == np.uint8 else "float32").plain(moves())  # fmt: skip
    batch = collate(samples)
    image, mask, depth = batch.images[:, 0].numpy(), batch.extras["mask"].numpy(), batch.extras["depth"].numpy()
    assert mask.dtype == ids
    np.testing.assert_array_equal(mask, image.astype(ids))
    np.testing.assert_array_equal(depth.reshape(image.shape), image.astype(np.float32))
    assert len(np.unique(image)) > SIZE


def test_pixel_values_change_images_alone():
    transform = A.Compose([A.InvertImg(p=1), A.CoarseDropout(fill=7, p=1), A.HorizontalFlip(p=1)])
    samples = tagged(4, np.uint8)
    collate = MiAMixCollator(4, transform=transform, seed=0, also={"mask": "choose"}, return_batch=True).plain(
        transform
    )
    batch = collate([{key: sample[key] for key in ("image", "mask", "label")} for sample in samples])
    np.testing.assert_array_equal(batch.extras["mask"][0].numpy(), samples[0]["mask"][:, ::-1])


def test_a_map_of_another_size_is_left_to_albumentations():
    samples = [{**sample, "mask": sample["mask"][::2, ::2]} for sample in tagged(4, np.uint8)]
    collate = MiAMixCollator(4, transform=moves(), seed=0, also={"mask": "choose", "depth": "blend"})
    with pytest.raises(ValueError, match="Height and Width of image, mask or masks should be equal"):
        collate(samples)


def test_guides_go_through_the_same_moves():
    """The blob of the guide is where the view's blob is."""
    rng, samples = np.random.default_rng(0), []
    for i in range(8):
        image = np.zeros((SIZE, SIZE, 3), np.uint8)
        y, x = rng.integers(1, SIZE - 1, 2)
        image[y, x] = 255
        samples.append({"image": image, "label": i % 4, "guide": image[..., 0] / 255.0})
    config = MiAMixConfig.plain("saliencymix")
    with_maps = MiAMixCollator(4, config, transform=moves(), seed=0, map_key="guide", return_masks=True)
    called = MiAMixCollator(
        4, config, transform=moves(), seed=0, guide=lambda view: view[..., 0] / 255.0, return_masks=True
    )
    assert with_maps.views == "compiled"
    masks = with_maps(samples)["masks"]
    bare = [{key: sample[key] for key in ("image", "label")} for sample in samples]
    np.testing.assert_array_equal(masks.numpy(), called(bare)["masks"].numpy())


def test_a_guide_sees_the_layout_that_the_transform_makes():
    from albumentations.pytorch import ToTensorV2

    shapes = []

    def guide(view):
        shapes.append(view.shape)
        return np.ones((SIZE, SIZE))

    transform = A.Compose([A.HorizontalFlip(), ToTensorV2()])
    for way in (True, False):
        MiAMixCollator(
            4, MiAMixConfig.plain("saliencymix"), transform=transform, seed=0, guide=guide, compiled_views=way
        )(SAMPLES)
    assert set(shapes) == {(3, SIZE, SIZE)}


def as_tensors(image):
    return torch.from_numpy(image).permute(2, 0, 1).contiguous()


def as_pil(image):
    return pytest.importorskip("PIL.Image").fromarray(image)


def strided(image):
    return np.asfortranarray(image)


def read_only(image):
    image = image.copy()
    image.flags.writeable = False
    return image


@pytest.mark.parametrize("convert", [as_tensors, as_pil, strided, read_only])
def test_images_of_every_kind(convert):
    """The parameters depend on the bytes of the samples, so they are compared by an index."""
    samples = [{"image": image, "label": label, "index": i} for i, (image, label) in enumerate(SAMPLES)]
    converted = [{**sample, "image": convert(sample["image"])} for sample in samples]
    collate = [
        MiAMixCollator(4, transform=everything(), seed=0, index_key="index", compiled_views=True) for _ in range(2)
    ]
    np.testing.assert_array_equal(collate[0](samples)["image"].numpy(), collate[1](converted)["image"].numpy())


@pytest.mark.parametrize("ends", ["", "ToTensorV2"])
@pytest.mark.parametrize("channels", [0, 1, 3, 5])
def test_tensors_at_the_end_change_nothing(ends, channels):
    from albumentations.pytorch import ToTensorV2

    images = [image[..., 0] if channels == 0 else image for image in images_of(8, max(1, channels))]
    transform = A.Compose([A.RandomCrop(9, 9), *([ToTensorV2()] if ends else [])])
    got = MiAMixCollator(4, transform=transform, seed=0, compiled_views=True)([(image, 0) for image in images])[0]
    plain = MiAMixCollator(4, transform=A.Compose([A.RandomCrop(9, 9)]), seed=0)([(image, 0) for image in images])[0]
    assert got.shape == (8, max(1, channels), 9, 9)
    np.testing.assert_array_equal(got.numpy(), plain.numpy())


def test_images_of_several_sizes():
    samples = [(np.full((8 + i, 20 - i, 3), 10 * i, np.uint8), i % 4) for i in range(8)]
    transform = A.Compose([A.HorizontalFlip(), A.RandomResizedCrop((6, 7))])
    images, _ = MiAMixCollator(4, transform=transform, seed=0, dtype="uint8", compiled_views=True).plain(transform)(
        samples
    )
    assert images.shape == (8, 3, 6, 7)
    np.testing.assert_array_equal(images[:, 0, 0, 0].numpy(), 10 * np.arange(8))


def test_two_views_are_those_that_its_stream_draws():
    from albumentations.pytorch import ToTensorV2

    dataset = TwoViews(SAMPLES, moves(), seed=4, compiled_views=True)
    (first, second), label = dataset[3]
    assert (first.shape, second.shape, label) == ((SIZE, SIZE, 3), (SIZE, SIZE, 3), 3)
    assert not np.array_equal(first, second)
    again, _ = TwoViews(SAMPLES, moves(), seed=4)[3]
    np.testing.assert_array_equal(first, again[0])
    tensors = A.Compose([*moves().transforms, ToTensorV2()])
    (as_tensor, _), _ = TwoViews(SAMPLES, tensors, seed=4, compiled_views=True)[3]
    assert isinstance(as_tensor, torch.Tensor)
    np.testing.assert_array_equal(as_tensor.permute(1, 2, 0).numpy(), first)
    first[:] = 0
    np.testing.assert_array_equal(dataset[3][0][0], again[0])


def test_two_views_with_entries():
    samples = tagged(4, np.uint8)
    pair = TwoViews(samples, moves(), also=("mask", "depth"), compiled_views=True)[1]
    for which in (0, 1):
        np.testing.assert_array_equal(pair["image"][which][..., 0], pair["mask"][which])
        np.testing.assert_array_equal(pair["depth"][which][..., 0], pair["mask"][which].astype(np.float32))


def test_batches_of_columns_have_the_same_views():
    images, labels = np.stack(images_of(8)), np.arange(8) % 4
    mix = MiAMixBatch(4, transform=moves(), seed=0, epoch=2, compiled_views=True)
    mixed = mix({"image": images, "label": labels})["image"]
    collate = MiAMixCollator(4, transform=moves(), seed=0, dtype="uint8")
    collate.set_epoch(2)
    same = collate([{"image": image, "label": label} for image, label in zip(images, labels, strict=True)])["image"]
    np.testing.assert_array_equal(mixed, same.permute(0, 2, 3, 1).numpy())


def test_the_transforms_generators_are_left_alone():
    transform = everything()
    generators = [(part.random_generator, part.py_random) for part in (transform, *transform.transforms)]
    states = [(a.bit_generator.state, b.getstate()) for a, b in generators]
    MiAMixCollator(4, transform=transform, seed=0, compiled_views=True)(SAMPLES)
    assert [(a.bit_generator.state, b.getstate()) for a, b in generators] == states
    assert stream(b"0" * 16, VIEWS).random() == stream(b"0" * 16, VIEWS).random()
