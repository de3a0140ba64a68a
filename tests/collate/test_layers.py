"""Layers with partners of their own through the collator and `MiAMixBatch`: targets, formats, guides, workers, warnings."""

import pickle
import re
import warnings

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from miamix_cpu import (
    MiAMix,
    MiAMixBatch,
    MiAMixCollator,
    MiAMixConfig,
    MixedBatch,
    MixSchedule,
    mixed_accuracy,
    mixed_cross_entropy,
)
from miamix_cpu.methods import METHODS
from miamix_cpu.plan.streams import PLAN, stream
from tests import naive_layers
from tests.collate.common import UNMIXED, crop, same, samples_of
from tests.masks.twins import peak
from tests.transforms import Numbers

pytestmark = UNMIXED
LAYERED = MiAMixConfig(methods=METHODS, weights=(1,) * len(METHODS), k_max=3, p_aug=0.5, p_self=0.2, partners="layer")
NO_SELF = LAYERED.replace(p_self=0.0)
CONFIGS = pytest.mark.parametrize("config", [
    NO_SELF, NO_SELF.replace(merge="sum"), NO_SELF.replace(lam_from="orig"), NO_SELF.replace(merge="sum", lam_from="orig"),
], ids=["mul", "sum", "orig", "sum and orig"])  # fmt: skip


def collate_of(config=NO_SELF, **options):
    return MiAMixCollator(10, config, **{"seed": 3, "return_batch": True, "return_masks": True, **options})


def relabelled(samples, labels):
    return [(image, label) for (image, _), label in zip(samples, labels, strict=True)]


# Targets ---------------------------------------------------------------------------------------------------------------


def weights_of(batch, i):
    """By the masks, or by the ratios (`lam_from="orig"`)."""
    if batch.plan.lam_from == "orig":
        nominal = naive_layers.nominal_weights(batch.plan.layers_of(i)["ratio"].tolist())
        return np.pad(nominal, (0, 1 + batch.plan.partner.shape[1] - len(nominal)))
    return batch.masks[i].numpy().astype(np.float64).mean(axis=(1, 2))


@CONFIGS
@pytest.mark.parametrize("kind", ["classes", "smoothed", "vectors", "smoothed vectors", "numbers", "rows of numbers"])
def test_targets_are_the_labels_mixed_by_their_weights(kind, config, rng):
    samples = samples_of(20)
    labels = {"classes": np.arange(20) % 10, "vectors": rng.dirichlet(np.ones(10), 20), "numbers": rng.normal(size=20) * 99,
              "rows of numbers": rng.normal(size=(20, 4))}[kind.removeprefix("smoothed ").replace("smoothed", "classes")]  # fmt: skip
    options = {"label_smoothing": 0.1 if "smoothed" in kind else 0.0}
    if "numbers" in kind:
        options["num_classes"] = None
    collate = MiAMixCollator(
        **{"num_classes": 10, **options}, config=config, seed=3, return_batch=True, return_masks=True
    )
    given = [label.tolist() if np.ndim(label) == 0 else label for label in labels]
    batch = collate(relabelled(samples, given))
    vectors = np.eye(10)[labels] if kind in ("classes", "smoothed") else labels
    vectors = vectors * 0.9 + 0.01 if "smoothed" in kind else vectors
    assert batch.targets.dtype == torch.float32
    assert batch.targets.shape == vectors.shape
    for i in range(20):
        weights = weights_of(batch, i)
        np.testing.assert_allclose(batch.lam[i], weights, atol=1e-6)
        expected = sum(w * vectors[t] for w, t in zip(weights, batch.partner[i].tolist(), strict=True))
        np.testing.assert_allclose(batch.targets[i], expected, atol=2e-6 * max(1, np.abs(vectors).max()))
    assert (batch.lam[:, 1:] > 0.02).sum() > 20


@CONFIGS
@pytest.mark.parametrize("label", [7, [0.1, 0.2, 0.7], 0.1, 3.0e38, [1e30, -0.3]], ids=str)
def test_equal_labels_give_exactly_that_label(label, config):
    classes = 10 if label == 7 else 3 if isinstance(label, list) and len(label) == 3 else None
    collate = MiAMixCollator(classes, config.replace(k_max=4), seed=0)
    expected = np.eye(10, dtype=np.float32)[7] if label == 7 else np.float32(label)
    for seed in range(5):
        _, targets = collate(relabelled(samples_of(40, seed=seed), [label] * 40))
        np.testing.assert_array_equal(targets, np.broadcast_to(expected, targets.shape))


@CONFIGS
@pytest.mark.parametrize("kind", ["classes", "vectors"])
def test_pairs_are_labels_and_weights_of_all_views(kind, config, rng):
    labels = np.arange(20) % 10 if kind == "classes" else rng.dirichlet(np.ones(10), 20).astype(np.float32)
    samples = relabelled(samples_of(20), labels)
    soft, pair = (collate_of(config, targets=targets)(samples) for targets in ("soft", "pair"))
    of_views, weights = pair.targets
    assert (len(pair.targets), tuple(weights.shape), weights.dtype) == (2, (20, 4), torch.float32)
    assert same(weights, pair.lam)
    np.testing.assert_array_equal(of_views, labels[pair.partner.numpy()])
    torch.testing.assert_close(weights.sum(dim=1), torch.ones(20))
    assert same(pair.images, soft.images)
    logits = torch.randn(20, 10, generator=torch.Generator().manual_seed(0), requires_grad=True)
    for reduction in "mean", "sum", "none":
        losses = [mixed_cross_entropy(logits, batch.targets, reduction=reduction) for batch in (soft, pair)]
        torch.testing.assert_close(*losses)
    gradients = [torch.autograd.grad(mixed_cross_entropy(logits, b.targets), logits)[0] for b in (soft, pair)]
    torch.testing.assert_close(*gradients)
    torch.testing.assert_close(mixed_accuracy(logits, soft.targets), mixed_accuracy(logits, pair.targets))
    assert mixed_accuracy(logits, pair.targets) > 0


def test_an_array_of_labels_has_pairs_too(rng):
    images, second = rng.integers(0, 256, (2, 20, 8, 8, 3), dtype=np.uint8)
    labels = np.arange(20) % 10
    batch = MiAMix(10, NO_SELF, targets="pair")(images, labels, rng=rng, second=second)
    np.testing.assert_array_equal(batch.targets[0], labels[batch.partner])
    np.testing.assert_array_equal(batch.targets[1], batch.lam)
    assert {part.dtype for part in (batch.lam, batch.targets[1])} == {np.dtype(np.float32)}


# Formats ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["uint8", "float32", "float16", "bfloat16"])
@pytest.mark.parametrize("memory_format", ["channels_first", "channels_last"])
def test_arrays_and_tensors_give_the_same_bytes(dtype, memory_format):
    """Through the collator with arrays and tensors, `MiAMixBatch`, and `MiAMix` by hand."""
    options = {"dtype": dtype, "memory_format": memory_format}
    samples = samples_of(12)
    tensors = [(torch.from_numpy(image).permute(2, 0, 1).contiguous(), label) for image, label in samples]
    one, other = collate_of(**options, index_key=None)(samples), collate_of(**options)(tensors)
    plan = collate_of(**options, index_key=None)(samples).plan
    assert one.images.is_contiguous(
        memory_format=torch.channels_last if memory_format == "channels_last" else torch.contiguous_format
    )
    assert (tuple(one.masks.shape), tuple(one.partner.shape), one.partner.dtype) == (
        (12, 4, 8, 8),
        (12, 4),
        torch.int64,
    )
    np.testing.assert_array_equal(one.partner, plan.sources)
    images, labels = np.array([image for image, _ in samples]), [label for _, label in samples]
    by_hand = MiAMix(10, NO_SELF, dtype="uint8" if dtype == "uint8" else "float32", return_masks=True)(
        images, labels, rng=stream(plan.key, PLAN)
    )
    found = torch.from_numpy(by_hand.images).permute(0, 3, 1, 2).to(one.images.dtype)
    assert torch.equal(found, one.images)
    for name in "targets", "lam", "partner", "masks":
        np.testing.assert_array_equal(getattr(one, name), getattr(by_hand, name))
    replayed = collate_of(**options).replay(tensors, other.plan)
    for name in "images", "targets", "lam", "partner", "masks":
        assert same(getattr(replayed, name), getattr(other, name)), name
    if dtype in ("uint8", "float32"):
        column = MiAMixBatch(10, NO_SELF, seed=3, return_masks=True, dtype=dtype)(
            {"image": images, "label": np.array(labels)}
        )
        np.testing.assert_array_equal(column["image"], by_hand.images)
        np.testing.assert_array_equal(column["label"], by_hand.targets)
        np.testing.assert_array_equal(column["masks"], by_hand.masks)


def test_a_batch_is_moved_pickled_and_pinned(monkeypatch):
    batch = collate_of(targets="pair")(samples_of(8))
    assert type(batch) is MixedBatch
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor: tensor.clone())
    for copied in (pickle.loads(pickle.dumps(batch)), batch.to("cpu"), batch.pin_memory()):
        for name in "images", "targets", "lam", "partner", "masks":
            assert same(getattr(copied, name), getattr(batch, name)), name
        assert copied.plan.is_layered
        assert copied.describe(3) == batch.describe(3)
    moved = batch.to(torch.bfloat16)
    assert (moved.images.dtype, moved.lam.dtype, moved.targets[0].dtype) == (torch.bfloat16, torch.float32, torch.int64)
    k = len(batch.plan.layers_of(3))
    assert re.search(r"lam (\d\.\d\d, ){3}\d\.\d\d$", batch.describe(3))
    assert batch.describe(3).count(" with sample ") == k


def test_without_a_batch_masks_come_after_the_targets():
    images, targets, masks = collate_of(return_batch=False)(samples_of(8))
    whole = collate_of()(samples_of(8))
    assert same([images, targets, masks], [whole.images, whole.targets, whole.masks])


@pytest.mark.parametrize("schedule", [None, MixSchedule(probability=0.5)])
@pytest.mark.parametrize("also", [False, True])
def test_any_workers_give_the_same_bytes(schedule, also):
    """With views to make, and entries that are mixed along."""
    options, dataset = {"transform": crop()}, Numbers(24)
    if also:
        options = {"also": {2: "blend", 3: "choose", 4: ("soft", 10)}}
        dataset = [((a, b), y, (a, b), (a[..., 0], b[..., 0]), (a[..., 0] % 10, b[..., 0] % 10))
                   for (a, y), (b, _) in zip(samples_of(24), samples_of(24, seed=1), strict=True)]  # fmt: skip
    here, there = ([], [])
    for workers, found in (0, here), (2, there):
        collate = collate_of(LAYERED, schedule=schedule, **options)
        collate.set_epoch(4)
        context = "fork" if workers else None
        found += DataLoader(dataset, 8, collate_fn=collate, num_workers=workers, multiprocessing_context=context)
    assert len(here) == 3
    for one, other in zip(here, there, strict=True):
        for name in "images", "targets", "lam", "partner", "masks", "extras":
            assert same(getattr(one, name), getattr(other, name)), name
        if also:
            blended = one.extras[2].float()
            assert (blended - one.images * 255).abs().max() <= 3.5
            np.testing.assert_allclose(one.extras[4].sum(dim=1), 1, atol=1e-6)
            assert (one.plan.mixed.all()) == (schedule is None)


@pytest.mark.parametrize("p_self", [0.0, 0.5])
def test_second_views_are_those_of_the_layers_partners(p_self):
    """Pairs of views: first ones have their number, second ones 100 more; at each pixel one of them shows."""
    config = MiAMixConfig.plain("cutmix", k_min=2, k_max=3, partners="layer", p_self=p_self, second_view="independent")
    samples = [((np.full((16, 16), i, np.uint8), np.full((16, 16), 100 + i, np.uint8)), i % 10) for i in range(30)]
    batch = collate_of(config, dtype="uint8")(samples)
    codes = batch.partner + torch.tensor([0, 100, 100, 100])
    shown = torch.take_along_dim(codes[:, :, None, None], batch.masks.argmax(dim=1, keepdim=True), 1)
    assert torch.equal(batch.images.long(), shown)
    assert len(batch.masks.argmax(dim=1).unique()) == 4


# Guides ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("view", ["shared", "independent"])
def test_a_guided_layer_looks_at_its_own_partner(view):
    """Boxes are centred where the map of the layer's own partner is largest; no other map has its peak there."""
    config = MiAMixConfig.plain("saliencymix", k_min=3, k_max=3, partners="layer", p_self=0.1, second_view=view)
    rng = np.random.default_rng(0)
    maps = np.zeros((2, 20, 16, 16), np.float32)
    maps.reshape(2, 20, 256)[np.arange(2)[:, None], np.arange(20), rng.permutation(256)[:40].reshape(2, 20)] = 1
    images = rng.integers(0, 256, (2, 20, 16, 16, 3), dtype=np.uint8)
    samples = [((images[0, i], images[1, i]), 0, (maps[0, i], maps[1, i])) for i in range(20)]
    batch = collate_of(config, map_key=2)(samples)
    which = 1 if view == "independent" else 0
    expected = [peak(maps[which, t]) for t in batch.plan.partner.ravel()]
    np.testing.assert_allclose(np.stack([batch.plan.layers["cy"], batch.plan.layers["cx"]], 1), expected)
    assert len(set(expected)) > 10


@pytest.mark.parametrize("method", ["attentivecutmix", "guidedmixup"])
def test_the_hole_of_a_layer_is_that_of_a_sample_with_its_partner_alone(method, rng):
    """Layer by layer: a plan in which its partner is the sample's only one has the same coefficients."""
    config = MiAMixConfig.plain(method, k_min=3, k_max=3, partners="layer", p_self=0)
    images, maps = rng.integers(0, 256, (8, 16, 16, 3), dtype=np.uint8), rng.random((8, 16, 16))
    batch = MiAMix(10, config)(images, np.zeros(8, int), rng=rng, maps=maps)
    for j in range(3):
        plan = batch.plan
        one = MiAMix(10, config.replace(partners="sample"), return_masks=True)
        layers = plan.layers[j::3]
        alone = type(plan)(16, 16, plan.partner[:, j], layers, np.arange(9), np.zeros_like(plan.coefficients))
        found = one.render(alone, images, np.zeros(8, int), maps=maps).plan
        for layer in layers:
            block = slice(layer["start"], layer["start"] + layer["rows"] * layer["columns"])
            np.testing.assert_array_equal(found.coefficients[block], batch.plan.coefficients[block])
            assert batch.plan.coefficients[block].any()


# Evaluation, and what can't be mixed --------------------------------------------------------------------------------------


@pytest.mark.parametrize("targets", ["soft", "pair"])
def test_evaluation_has_the_same_formats_unmixed(targets):
    samples = samples_of(6)
    batch = collate_of(LAYERED.replace(pairing="same_class"), targets=targets, dtype="uint8").plain()(samples)
    np.testing.assert_array_equal(batch.images.permute(0, 2, 3, 1), [image for image, _ in samples])
    np.testing.assert_array_equal(batch.lam, np.eye(4)[[0] * 6])
    np.testing.assert_array_equal(batch.partner, np.repeat(np.arange(6)[:, None], 4, axis=1))
    assert (batch.masks[:, 0] == 1).all()
    assert (batch.masks[:, 1:] == 0).all()
    labels = torch.arange(6)
    logits = torch.eye(10)[:6]
    if targets == "soft":
        assert torch.equal(batch.targets, torch.eye(10)[labels])
    else:
        assert torch.equal(batch.targets[0], labels[:, None].expand(6, 4))
    assert mixed_accuracy(logits, batch.targets) == 1
    assert collate_of(LAYERED).plain()(samples).plan.needs_second_view == []


def test_a_batch_of_one_comes_out_unmixed_without_a_second_view():
    sample = samples_of(1)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        batch = collate_of(NO_SELF.replace(methods=("mixup", "cutmix"), weights=(1, 1)), dtype="uint8")(sample)
    assert ["a batch of one sample came out unmixed" in str(w.message) for w in caught] == [True]
    np.testing.assert_array_equal(batch.images[0].permute(1, 2, 0), sample[0][0])
    assert batch.targets.tolist() == [[1.0] + [0.0] * 9]
    seconds = [((image, 255 - image), label) for image, label in sample]
    mixed = collate_of(NO_SELF.replace(k_min=3), dtype="uint8")(seconds)
    assert (mixed.images[0].permute(1, 2, 0).numpy() != sample[0][0]).any()


@pytest.mark.parametrize("pairing", ["same_class", "other_class"])
def test_samples_that_find_no_partner_are_warned_of(pairing):
    """The labels leave nobody but oneself, in any layer; with as many samples as layers too."""
    for n in 3, 5:
        labels = range(n) if pairing == "same_class" else [4] * n
        config = NO_SELF.replace(pairing=pairing, k_min=3)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            batch = collate_of(config)(relabelled(samples_of(n), labels))
        words = [str(w.message) for w in caught]
        if pairing == "other_class":
            assert words == []
            assert not batch.plan.alone.any()
            continue
        assert len(words) == 1
        assert words[0].startswith(f"{n} of {n} samples came out unmixed, because pairing='same_class' made them")
        assert batch.plan.alone.all()


def test_layers_that_come_out_unmixed_are_warned_of(rng):
    with pytest.warns(UserWarning, match=r"p_self=0.2, .* about 20% of the layers come out unmixed"):
        collate_of(LAYERED)(samples_of(8))
    images = rng.integers(0, 256, (40, 8, 8, 3), dtype=np.uint8)
    config = LAYERED.replace(p_self=0.5, k_min=2, k_max=2)
    plan = MiAMix(2, config).plan(40, 8, 8, rng=np.random.default_rng(0))
    alone = int((plan.partner == np.arange(40)[:, None]).all(axis=1).sum())
    assert 3 < alone < 20
    np.testing.assert_array_equal(plan.alone, (plan.partner == np.arange(40)[:, None]).all(axis=1))
    with pytest.warns(UserWarning, match=rf"^{alone} of 40 samples are paired with themselves"):
        MiAMix(2, config)(images, np.zeros(40, int), rng=np.random.default_rng(0))


def test_features_have_one_partner_a_sample():
    with pytest.raises(ValueError, match='one partner a sample: it can\'t be combined with partners="layer"'):
        MiAMixConfig(mixes="features", partners="layer")
