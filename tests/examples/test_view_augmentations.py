"""Cutout, Random Erasing, RandAugment, AutoAugment and AugMix as the views' transform, as the example makes them."""

import importlib.util
import random
import re
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.spatial.distance import jensenshannon
from skimage.data import astronaut
from torch.utils.data import DataLoader

from benchmarks.torchvision_wheel import import_torchvision
from miamix_cpu import MiAMixCollator, MiAMixConfig, MixSchedule, TwoViews
from tests.examples import ROOT, needs, run

NAMES = ("cutout", "random-erasing", "randaugment", "autoaugment", "augmix")
OF_TIMM = NAMES[2:]
SIDE = 32


@pytest.fixture(scope="module")
def example():
    spec = importlib.util.spec_from_file_location("view_augmentations", ROOT / "examples" / "view_augmentations.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(params=NAMES)
def transform(request, example):
    if request.param in OF_TIMM:
        needs("timm", "torchvision")
        import_torchvision()
    return example.views_of(request.param)


def pictures(n, same=False):
    """Coloured PIL images with their labels, all different or all the same."""
    small = Image.fromarray(astronaut()).resize((128, 128))
    corners = [(32, 16)] * n if same else np.random.default_rng(0).integers(0, 128 - SIDE, (n, 2)).tolist()
    return [(small.crop((x, y, x + SIDE, y + SIDE)), i % 10) for i, (x, y) in enumerate(corners)]


def mixed_with_itself(ratio):
    """Each sample's own two views, mixed: only the first one at ratio 0, only the second one at 1."""
    return MiAMixConfig.plain("mixup", p_self=1.0, second_view="independent", ratio_range=(ratio, ratio))


def by_collator(transform, samples):
    """First and second views, uint8 (N, 3, H, W), as a collator makes them."""
    collators = [
        MiAMixCollator(10, mixed_with_itself(ratio), transform=transform, seed=0, dtype="uint8") for ratio in (0, 1)
    ]
    return [collate(samples)[0].numpy() for collate in collators]


def by_two_views(transform, samples):
    """The same, as TwoViews makes them."""
    dataset = TwoViews(samples, transform, seed=0)
    pairs = [dataset[i][0] for i in range(len(samples))]
    return [np.stack([np.asarray(pair[which]).transpose(2, 0, 1) for pair in pairs]) for which in (0, 1)]


def effects(views, clean):
    """What a transform did to each view, as numbers: brightness, contrast, how much changed, and where."""
    views, changed = views.astype(float), np.abs(views - clean.astype(float)).mean(axis=1)
    rows, columns = np.mgrid[:SIDE, :SIDE]
    total = changed.sum(axis=(1, 2)) + 1e-9
    where = [(changed * at).sum(axis=(1, 2)) / total for at in (rows, columns)]
    return np.stack([views.mean(axis=(1, 2, 3)), views.std(axis=(1, 2, 3)), changed.mean(axis=(1, 2)), *where])


@pytest.mark.parametrize("views_of", [by_collator, by_two_views])
def test_views_are_independent(transform, views_of):
    """Of 200 samples with the same image, neither view says anything about the other one, or about the next sample's."""
    samples = pictures(200, same=True)
    clean = np.asarray(samples[0][0]).transpose(2, 0, 1)
    first, second = views_of(transform, samples)
    unchanged = [(views == clean).all(axis=(1, 2, 3)).mean() for views in (first, second)]
    alike = (first == second).all(axis=(1, 2, 3)).mean()
    # Shared random numbers would make it 1. A cutout has the same place as the other one in 1 of 33 x 33 samples, and
    # 0.1 is three standard errors of the share of transforms that leave some images unchanged.
    assert alike < (np.prod(unchanged) + 0.1 if min(unchanged) else 0.02)
    one, other = effects(first, clean), effects(second, clean)
    for following in other, np.roll(other, 1, axis=1), np.roll(one, 1, axis=1):
        assert np.abs(np.corrcoef(one, following)[:5, 5:]).max() < 0.28  # four standard errors


def test_which_transforms_always_change_the_image(example):
    """So that the test above demands of them that no two views are alike."""
    needs("timm", "torchvision")
    import_torchvision()
    samples = pictures(200, same=True)
    clean = np.asarray(samples[0][0]).transpose(2, 0, 1)
    for name in NAMES:
        first, _ = by_collator(example.views_of(name), samples)
        unchanged = (first == clean).all(axis=(1, 2, 3)).mean()
        assert (unchanged == 0) == (name in ("cutout", "augmix")), name
        assert unchanged < 0.65


@pytest.mark.parametrize("wrapped", [False, True], ids=["collator", "TwoViews"])
def test_views_are_keyed(transform, wrapped):
    """The same bytes for any number of workers, others for each epoch and seed; partners and masks are always the same."""

    def epochs(workers, seed=0):
        dataset, options = pictures(48), {}
        if wrapped:
            dataset = TwoViews(dataset, transform, seed=seed)
        else:
            options = {"transform": transform}
        collate = MiAMixCollator(10, mixed_with_itself(0.5), seed=seed, dtype="uint8", **options)
        loader = DataLoader(dataset, 16, collate_fn=collate, num_workers=workers)
        return [torch.cat([images for images, _ in loader]).numpy() for _ in range(2)]

    first, second = epochs(0)
    again, again_second = epochs(2)
    np.testing.assert_array_equal(first, again)
    np.testing.assert_array_equal(second, again_second)
    for other in second, epochs(0, seed=1)[0]:
        assert (first != other).any(axis=(1, 2, 3)).mean() > 0.5


def test_generators_of_the_process_are_restored(transform):
    random.seed(1)
    np.random.seed(1)
    torch.manual_seed(1)
    samples = pictures(16)

    def states():
        kind, keys, *rest = np.random.get_state()
        return random.getstate(), (kind, keys.tobytes(), *rest), torch.get_rng_state().numpy().tobytes()

    before = states()
    MiAMixCollator(10, seed=0, transform=transform)(samples)
    assert states() == before
    dataset = TwoViews(samples, transform, seed=0)
    for i in range(len(samples)):
        dataset[i]
    assert states() == before


def rectangles(name, example, n=1000):
    """Top, bottom, left and right of what differs from white, for the views in which anything does."""
    samples = [(Image.new("RGB", (SIDE, SIDE), "white"), 0)] * n
    first, _ = by_collator(example.views_of(name), samples)
    found = []
    for changed in (first != 255).any(axis=1):
        if changed.any():
            rows, columns = np.flatnonzero(changed.any(axis=1)), np.flatnonzero(changed.any(axis=0))
            found.append((rows[0], rows[-1] + 1, columns[0], columns[-1] + 1, changed.mean()))
    return np.array(found)


def test_cutout_is_a_square_clipped_by_the_border(example):
    top, bottom, left, right, share = rectangles("cutout", example).T
    assert len(top) == 1000
    np.testing.assert_allclose(share, (bottom - top) * (right - left) / SIDE**2)
    for low, high in (top, bottom), (left, right):
        assert high.max() == SIDE
        assert low.min() == 0
        inside = (low > 0) & (high < SIDE)
        assert set(high[inside] - low[inside]) == {16}
        assert (high - low)[~inside].min() == 8  # a centre on the border
        assert inside.mean() == pytest.approx(15 / 33, abs=0.05)


def test_random_erasing_is_a_rectangle_in_half_of_the_views(example):
    top, bottom, left, right, share = rectangles("random-erasing", example).T
    assert len(top) / 1000 == pytest.approx(0.5, abs=0.05)
    assert share.min() > 0.01
    assert 0.25 < share.max() < 0.4
    aspect = (right - left) / (bottom - top)
    assert 0.2 < aspect.min() < 0.7
    assert 1.5 < aspect.max() < 4


def test_augmix_has_the_papers_operations(example):
    needs("timm", "torchvision")
    import_torchvision()
    augmix = example.views_of("augmix")
    assert sorted(operation.name for operation in augmix.ops) == [
        "AutoContrast", "Equalize", "PosterizeIncreasing", "Rotate", "ShearX", "ShearY", "SolarizeIncreasing", "TranslateXRel", "TranslateYRel",
    ]  # fmt: skip
    assert (augmix.width, augmix.depth, augmix.alpha) == (3, -1, 1)
    assert {operation.magnitude for operation in augmix.ops} == {3}


def test_three_views_are_mixed_by_the_same_mask(example):
    """The loss of AugMix could be had with mixing too: the clean part is what a collator of clean images makes."""
    needs("timm", "torchvision")
    import_torchvision()
    samples = pictures(16)
    augmix = example.views_of("augmix")
    for config in MiAMixConfig(k_max=4), MiAMixConfig.plain("cutmix"):

        def mixed(transform, config=config):
            return MiAMixCollator(10, config, transform=transform, seed=0, dtype="uint8")(samples)[0]

        clean = mixed(np.asarray)
        assert all(torch.equal(part, clean) for part in mixed(example.ThreeViews(np.asarray)).chunk(3, dim=1))
        parts = mixed(example.ThreeViews(augmix)).chunk(3, dim=1)
        assert torch.equal(parts[0], clean)
        for one, other in (0, 1), (0, 2), (1, 2):
            assert (parts[one] != parts[other]).flatten(1).any(dim=1).all()


def test_nothing_is_mixed_for_the_loss_of_augmix(example):
    """Then the first part is the image itself."""
    needs("timm", "torchvision")
    import_torchvision()
    samples = pictures(16)
    transform = example.ThreeViews(example.views_of("augmix"))
    collate = MiAMixCollator(10, transform=transform, seed=0, dtype="uint8", schedule=MixSchedule(probability=0.0))
    images, targets = collate(samples)
    assert images.shape == (16, 9, SIDE, SIDE)
    clean = np.stack([np.asarray(image).transpose(2, 0, 1) for image, _ in samples])
    np.testing.assert_array_equal(images[:, :3], clean)
    assert targets.max(dim=1).values.min() == 1


def test_jensen_shannon_of_two(example):
    """SciPy's is the root of one divergence, with natural logarithms."""
    logits = torch.randn(2, 40, 10, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * 3
    one, other = logits.softmax(dim=2).numpy()
    expected = (jensenshannon(one, other, axis=1) ** 2).mean()
    assert example.jensen_shannon(*logits).item() == pytest.approx(expected, rel=1e-9)


def test_jensen_shannon_of_three(example):
    """By hand, as the paper has it: a third of the three divergences from the mean."""
    logits = torch.randn(3, 40, 10, dtype=torch.float64, generator=torch.Generator().manual_seed(1)) * 3
    p = logits.softmax(dim=2).numpy()
    total = 0.0
    for sample in range(40):
        mean = [sum(p[view, sample, c] for view in range(3)) / 3 for c in range(10)]
        for view in range(3):
            total += sum(p[view, sample, c] * np.log(p[view, sample, c] / mean[c]) for c in range(10)) / 3
    assert example.jensen_shannon(*logits).item() == pytest.approx(total / 40, rel=1e-9)


def test_jensen_shannon_at_its_ends(example):
    """0 where all agree, log 3 where three are certain of three classes; the gradient stays finite."""
    certain = (torch.eye(3) * 1e4).requires_grad_()
    parts = [certain[[view]] for view in range(3)]
    assert example.jensen_shannon(*[parts[0]] * 3).item() == pytest.approx(0, abs=1e-6)
    divergence = example.jensen_shannon(*parts)
    assert divergence.item() == pytest.approx(np.log(3), rel=1e-6)
    divergence.backward()
    assert torch.isfinite(certain.grad).all()


def check(out, epochs):
    """It learns."""
    found = re.findall(r"epoch \d+: loss ([\d.]+), test ([\d.]+)", out)
    losses, accuracies = np.array(found, float).T
    assert len(losses) == epochs
    assert losses[-1] < losses[0]
    assert accuracies[-1] > 0.3


def test_without_timm():
    """Albumentations suffices for cutout and Random Erasing."""
    check(run("view_augmentations.py", "--views", "cutout", "--epochs", "2", "--device", "cpu"), 2)


@pytest.mark.parametrize("arguments", [*([name] for name in NAMES[1:]), ["augmix", "--jsd"]], ids=" ".join)
def test_trains(example, arguments, capsys, monkeypatch):
    if arguments[0] in OF_TIMM:
        needs("timm", "torchvision")
        import_torchvision()
    command = ["view_augmentations.py", "--views", *arguments, "--epochs", "2", "--device", "cpu"]
    monkeypatch.setattr(sys, "argv", command)
    example.main()
    check(capsys.readouterr().out, 2)
