"""ManifoldMixup: a hidden layer is mixed as in a plain loop, by the plan that a worker drew."""

from collections import Counter, namedtuple
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader

from miamix_cpu import (
    ManifoldMixup,
    MiAMix,
    MiAMixCollator,
    MiAMixConfig,
    MixedBatch,
    MixPlan,
    MixSchedule,
    mixed_cross_entropy,
)  # fmt: skip
from miamix_cpu.manifold import average_down, mix_features
from miamix_cpu.methods import METHODS

N, CLASSES = 8, 4
ALL = tuple(name for name in METHODS if name != "resizemix")
MASKED = ("cutmix", "fmix", "agmix", "hmix", "saliencymix")
EVERYTHING = MiAMixConfig(p_self=0, mixes="features", k_max=3, methods=ALL, weights=(1,) * len(ALL))
RNG = np.random.default_rng(5)
BYTES = [(RNG.integers(0, 256, (16, 12, 3), dtype=np.uint8), i % CLASSES) for i in range(40)]
LAYERS = ["input", "1", "3", "4"]  # 16 x 12, 16 x 12, 8 x 6, and 7 x 5, which does not divide the images


def network():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU(inplace=True), nn.MaxPool2d(2),
        nn.Conv2d(6, 5, 2), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(5, CLASSES),
    )  # fmt: skip


def make(*methods, samples=BYTES[:N], seed=0, config=None, **options):
    config = config or MiAMixConfig.plain(*(methods or ["mixup"]), mixes="features")
    return MiAMixCollator(CLASSES, config, seed=seed, return_batch=True, **options)(samples)


def choosing(batch, layer, layers=LAYERS):
    """The same batch, by whose plan this one of the layers is mixed."""
    return replace(batch, plan=replace(batch.plan, depth=(layers.index(layer) + 0.5) / len(layers)))


def averaged(mask, height, width):
    """Exact area averages, one pixel after the other."""

    def overlaps(size, into):
        edges = [Fraction(size * at, into) for at in range(into + 1)]
        return [
            [
                (i, float((min(high, i + 1) - max(low, i)) / (high - low)))
                for i in range(size)
                if low < i + 1 and i < high
            ]
            for low, high in pairwise(edges)
        ]

    rows, columns = overlaps(mask.shape[0], height), overlaps(mask.shape[1], width)
    found = [[sum(mask[i, j] * a * b for i, a in row for j, b in column) for column in columns] for row in rows]
    return np.array(found)


def mixed_by_hand(h, batch):
    rows = []
    for i, partner in enumerate(batch.partner.tolist()):
        weight = batch.lam[i]
        if batch.masks is not None:
            weight = torch.tensor(averaged(batch.masks[i].double().numpy(), *h.shape[2:])).to(h.dtype)
        rows.append(weight * h[i] + (1 - weight) * h[partner])
    return torch.stack(rows)


def forward_by_hand(model, batch, layer):
    h = mixed_by_hand(batch.images, batch) if layer == "input" else batch.images
    for name, module in model.named_children():
        h = module(h)
        h = mixed_by_hand(h, batch) if name == layer else h
    return h


def gradients(model, logits, targets):
    model.zero_grad()
    mixed_cross_entropy(logits.float(), targets).backward()
    return [p.grad.clone() for p in model.parameters()]


@pytest.mark.parametrize(
    ("method", "layer"), [*((method, layer) for method in ("mixup", *MASKED) for layer in LAYERS), ("mixup", "6")]
)
def test_a_forward_pass_and_its_gradients_are_those_of_a_plain_loop(method, layer):
    layers = [*LAYERS, "6"]
    model = network()
    manifold = ManifoldMixup(model, layers)
    batch = choosing(make(method), layer, layers)
    assert (batch.masks is None) == (method == "mixup")
    assert len(set(batch.lam.tolist())) > N // 2  # one a sample, not one a batch
    with manifold(batch) as name:
        logits = model(batch.images)
    assert name == layer
    expected = forward_by_hand(model, batch, layer)
    torch.testing.assert_close(logits, expected)
    assert not torch.allclose(logits, model(batch.images), atol=1e-4)
    for found, by_hand in zip(*(gradients(model, x, batch.targets) for x in (logits, expected)), strict=True):
        torch.testing.assert_close(found, by_hand, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("size", [(8, 6), (7, 5), (3, 4), (1, 1), (16, 12), (20, 13)])
def test_masks_are_averaged_exactly_and_keep_their_mean(size):
    batch = make(samples=BYTES, config=EVERYTHING)  # smoothed, rotated, merged
    found = average_down(batch.masks, *size)
    assert (found.dtype, found.shape) == (torch.float32, (len(BYTES), *size))
    for mask, smaller in zip(batch.masks[:8].numpy(), found.numpy(), strict=False):
        np.testing.assert_allclose(smaller, averaged(mask.astype(float), *size), rtol=0, atol=3e-7)
    torch.testing.assert_close(found.mean((1, 2)), batch.lam, rtol=0, atol=1e-6)


FLOATS = [(np.float32(1e3) * RNG.standard_normal((16, 12, 3)).astype(np.float32), label) for _, label in BYTES]


@pytest.mark.parametrize("memory_format", ["channels_first", "channels_last"])
@pytest.mark.parametrize(("samples", "options"), [
    (BYTES, {}), (BYTES, {"dtype": "uint8"}), (BYTES, {"dtype": "float16"}), (BYTES, {"dtype": "bfloat16"}),
    (BYTES, {"mean": (0.4, 0.5, 0.6), "std": (0.2, 0.3, 0.4)}), (FLOATS, {}), (FLOATS, {"dtype": "float16"}),
])  # fmt: skip
@pytest.mark.filterwarnings("ignore:.*range")
def test_images_come_out_unmixed_and_targets_follow_lam(samples, options, memory_format):
    options = {"seed": 0, "memory_format": memory_format, "return_batch": True, **options}
    collate = MiAMixCollator(CLASSES, EVERYTHING, **options)
    batch, plain = collate(samples), collate.plain()(samples)
    assert 0.2 < batch.lam.mean() < 0.8
    assert plain.lam.eq(1).all()
    assert batch.images.equal(plain.images)
    assert (batch.images.dtype, batch.images.stride()) == (plain.images.dtype, plain.images.stride())
    if options.get("dtype") == "uint8":
        assert np.array_equal(batch.images.permute(0, 2, 3, 1), np.stack([image for image, _ in samples]))
    labels, lam = torch.eye(CLASSES)[[label for _, label in samples]], batch.lam[:, None]
    torch.testing.assert_close(batch.targets, lam * labels + (1 - lam) * labels[batch.partner])
    y_a, y_b, weight = MiAMixCollator(CLASSES, EVERYTHING, targets="pair", **options)(samples).targets
    assert weight.equal(batch.lam)
    assert y_b.equal(y_a[batch.partner])
    # And the plan is the one by which images would be mixed, but for the layer.
    shared = EVERYTHING.replace(mixes="images", second_view="shared")
    images = MiAMixCollator(CLASSES, shared, return_masks=True, **options)(samples)
    assert images.partner.equal(batch.partner)
    assert images.masks.equal(batch.masks)
    assert images.plan.layers.tobytes() == batch.plan.layers.tobytes()


@pytest.mark.parametrize("method", ["mixup", "cutmix"])
def test_samples_that_a_schedule_leaves_out_stay_as_they_are(method):
    batch = make(method, samples=BYTES, schedule=MixSchedule(probability=0.5))
    alone = ~torch.from_numpy(batch.plan.mixed)
    assert 5 < alone.sum() < 35
    h = torch.randn(40, 7, 9, 5)
    found = mix_features(h, batch)
    assert found[alone].equal(h[alone])
    assert (found[~alone] != h[~alone]).flatten(1).any(1).all()
    nobody = make(method, schedule=MixSchedule(probability=0.0))
    assert mix_features(h[:N], nobody).equal(h[:N])


def test_lam_that_is_not_measured_is_the_labels_alone():
    """With lam_from="orig" the features are mixed by the product of 1 - ratio, as images are, and not by lam."""
    config = MiAMixConfig.plain("mixup", mixes="features", k_min=2, k_max=2, lam_from="orig")
    batch = make(config=config)
    product = torch.tensor([np.prod(1 - batch.plan.layers_of(i)["ratio"]) for i in range(N)], dtype=torch.float32)
    assert (product - batch.lam).abs().max() > 0.01
    tokens = torch.randn(N, 5, 3)
    expected = product[:, None, None] * tokens + (1 - product)[:, None, None] * tokens[batch.partner]
    torch.testing.assert_close(mix_features(tokens, batch), expected)


@pytest.mark.parametrize("method", ["mixup", "fmix"])
def test_gradcheck(method):
    batch = make(method)
    h = torch.randn(N, 1, 3, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda h: mix_features(h, batch), h)


@pytest.mark.parametrize("layer", LAYERS)
def test_autocast(layer):
    model, kept = network(), {}
    manifold = ManifoldMixup(model, LAYERS)
    for name, module in model.named_children():  # after ours, so what it returned
        module.register_forward_hook(lambda m, i, output, name=name: kept.update({name: output.dtype}))
    batch = choosing(make("fmix"), layer)
    with torch.autocast("cpu", torch.bfloat16):
        with manifold(batch):
            logits = model(batch.images)
        mixed = dict(kept)
        expected = forward_by_hand(model, batch, layer)
        model(batch.images)
    assert mixed == kept
    torch.testing.assert_close(logits, expected, rtol=0.03, atol=0.03)


@pytest.mark.parametrize("method", ["mixup", "fmix"])
@pytest.mark.parametrize("shape", [(N, 3, 16, 12), (N, 6, 8, 6), (N, 5, 7, 5)])
def test_memory_formats_are_kept(method, shape):
    batch = make(method)
    h = torch.randn(shape)
    found = mix_features(h, batch)
    assert found.is_contiguous()
    last = mix_features(h.to(memory_format=torch.channels_last), batch)
    assert last.is_contiguous(memory_format=torch.channels_last)
    assert last.equal(found)


def test_gradients_accumulate():
    model = network()
    manifold = ManifoldMixup(model, LAYERS)
    batches = [choosing(make(method, seed=i), LAYERS[i + 1]) for i, method in enumerate(("mixup", "fmix"))]
    expected = [gradients(model, forward_by_hand(model, b, LAYERS[i + 1]), b.targets) for i, b in enumerate(batches)]
    model.zero_grad()
    for batch in batches:
        with manifold(batch):
            loss = mixed_cross_entropy(model(batch.images), batch.targets)
        loss.backward()
    for p, first, second in zip(model.parameters(), *expected, strict=True):
        torch.testing.assert_close(p.grad, first + second, rtol=1e-4, atol=1e-6)


def test_layers_are_chosen_with_equal_probability():
    model, counts = network(), Counter()
    manifold = ManifoldMixup(model, ["0", "1", "2", "3", "7"])
    mix, batch = MiAMix(CLASSES, MiAMixConfig.recipe("manifold-mixup")), make()
    for seed in range(2000):
        batch.plan = mix.plan(N, 16, 12, rng=np.random.default_rng(seed))
        with pytest.raises(RuntimeError, match="ran 0 times"), manifold(batch) as name:
            counts[name] += 1
    assert sum((counts[name] - 400) ** 2 / 400 for name in manifold.layers) < 18.5  # one run in a thousand


def test_the_layer_is_the_same_for_any_number_of_workers_after_replay_and_from_a_file(tmp_path):
    config = MiAMixConfig.recipe("manifold-mixup")
    collates = [MiAMixCollator(CLASSES, config, seed=3, return_batch=True) for _ in range(2)]
    passes = [
        list(DataLoader(BYTES, 5, num_workers=workers, collate_fn=collate))
        for workers, collate in zip((0, 2), collates, strict=True)
    ]
    for zero, two in zip(*passes, strict=True):
        assert (zero.plan.depth, zero.lam.tolist()) == (two.plan.depth, two.lam.tolist())
    assert len({batch.plan.depth for batch in passes[0]}) == 8
    again = collates[0].replay(BYTES[:5], passes[0][0].plan)
    passes[1][0].plan.save(tmp_path / "plan")
    loaded = MixPlan.load(tmp_path / "plan.npz")
    assert again.plan.depth == loaded.depth == passes[0][0].plan.depth
    assert loaded.mixes == again.plan.mixes == "features"
    with pytest.raises(ValueError, match="needs return_batch=True"):
        MiAMixCollator(CLASSES, seed=3).replay(BYTES[:5], loaded)


Parts = namedtuple("Parts", ["features", "other"])


class Several(nn.Module):
    def __init__(self, kind):
        super().__init__()
        self.inner, self.kind = nn.Identity(), kind

    def forward(self, x):
        parts = x + 1, "other"
        return self.kind(*parts) if self.kind is Parts else self.kind(parts)


@pytest.mark.parametrize("kind", [tuple, list, Parts])
def test_of_several_outputs_the_first_is_mixed(kind):
    model, batch = nn.Sequential(Several(kind)), make("cutmix")
    with ManifoldMixup(model, ["0"])(batch):
        found = model(batch.images)
    assert type(found) is kind
    assert found[1] == "other"
    torch.testing.assert_close(found[0], mixed_by_hand(batch.images + 1, batch))


def test_tokens():
    tokens = torch.randn(N, 5, 6)
    batch = make("mixup")
    expected = torch.stack([
        w * tokens[i] + (1 - w) * tokens[j] for i, (w, j) in enumerate(zip(batch.lam, batch.partner, strict=True))
    ])  # fmt: skip
    torch.testing.assert_close(mix_features(tokens, batch), expected)


def numpy_batch():
    images, labels = (np.stack(part) for part in zip(*BYTES[:N], strict=True))
    return MiAMix(CLASSES, MiAMixConfig.plain("fmix", mixes="features"))(images, labels, rng=np.random.default_rng(0))


def test_numpy_gets_the_plan_the_masks_and_its_images_back():
    batch = numpy_batch()
    assert isinstance(batch, MixedBatch)
    assert np.array_equal(batch.images, np.stack([image for image, _ in BYTES[:N]]))
    assert (batch.plan.mixes, batch.masks.shape) == ("features", (N, 16, 12))
    assert 0 < batch.plan.depth < 1
    np.testing.assert_allclose(batch.masks.mean((1, 2)), batch.lam, atol=1e-6)
    with pytest.raises(ValueError, match="mixes the features of first views: leave out second="):
        MiAMix(CLASSES, MiAMixConfig.recipe("manifold-mixup"))(
            batch.images, [0] * N, second=batch.images, rng=np.random.default_rng(0)
        )
