"""AutoMix: its block, its losses and where their gradients go, and its runs."""

import itertools
import json
import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from benchmarks import report, train
from benchmarks.training import automix
from benchmarks.training.automix import AutoMix, AutoMixOptions, MixBlock
from benchmarks.training.data import load
from benchmarks.training.loop import Recipe, Run, Trainer
from benchmarks.training.machine import Machine
from benchmarks.training.methods import method, spelling_of
from benchmarks.training.networks import NETWORKS
from tests.benchmarks.common import command, results

NOTED = {"one_hot_loss", "mixed_loss", "block_loss", "mask_std", "ratio_error", "less_than_mixup"}


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(0)
    return torch.randn(8, 3, 32, 32, generator=generator), torch.eye(10)[torch.arange(8)]


def made(name="resnet8", options=None):
    torch.manual_seed(0)
    network = NETWORKS[name](10)
    found = AutoMix(network, options or AutoMixOptions())
    found.begin(0, 0)
    return network, found


def drawing(found, lam, order=(1, 0, 3, 2, 5, 4, 7, 6)):
    """Let the next ratios and partners be these."""
    found.rng = SimpleNamespace(beta=lambda a, b: lam, permutation=lambda n: np.array(order[:n]))


def test_masks_are_the_formulas(rng):
    """Each pixel of the image looks at all pixels of its partner."""
    n, c, h, w, lam = 2, 6, 3, 2, 0.7
    torch.manual_seed(0)
    block = MixBlock(c)
    own, other = (rng.normal(size=(n, c, h, w)).astype(np.float32) for _ in range(2))
    masks = block(torch.from_numpy(own), torch.from_numpy(other), lam, (2 * h, 2 * w)).detach().numpy()
    assert masks.shape == (n, 1, 2 * h, 2 * w)
    weight, bias = (p.detach().numpy().squeeze() for p in block.query_key.parameters())
    value = block.value.weight.detach().numpy().squeeze()
    for i in range(n):
        for y in range(h):
            for x in range(w):
                query = weight @ np.append(own[i, :, y, x], lam) + bias
                pixels = [other[i, :, v, u] for v in range(h) for u in range(w)]
                products = [query @ (weight @ np.append(p, 1 - lam) + bias) / math.sqrt(c // 2) for p in pixels]
                attention = np.exp(products) / np.exp(products).sum()
                seen = sum(a * (value @ p + block.value.bias.item()) for a, p in zip(attention, pixels, strict=True))
                part = masks[i, 0, 2 * y : 2 * y + 2, 2 * x : 2 * x + 2]
                np.testing.assert_allclose(part, 1 / (1 + np.exp(-seen)), atol=1e-6)


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("amp", [False, True])
def test_every_network_has_a_third_stage(name, amp, batch):
    images, targets = (part[:2] for part in batch)
    _, found = made(name)
    partner = torch.tensor([1, 0])
    with torch.autocast("cpu", torch.bfloat16, enabled=amp):
        features = found.average[: found.layers](images)
        masks = found.block(features, features[partner], 0.5, images.shape[2:])
        mixed, loss = found.mix(images, partner, 0.5, targets, 0.0)
    assert features.shape[2:] == ((4, 4) if name == "small" else (8, 8))
    assert masks.shape == (2, 1, 32, 32)
    assert masks.dtype == mixed.dtype == torch.float32
    assert 0 < masks.min() <= masks.max() < 1
    torch.testing.assert_close(mixed, (1 - masks) * images + masks * images[partner])
    loss.backward()
    assert all(p.grad.isfinite().all() for p in found.block.parameters())


def test_the_ratios_loss_pulls_the_means_of_the_masks():
    torch.manual_seed(0)
    block, features = MixBlock(16), torch.randn(8, 16, 4, 4).relu()
    optimizer = torch.optim.Adam(block.parameters(), 0.01)
    ratios = (0.2, 0.8)

    def masks(lam):
        return block(features, features.flip(0), lam, (8, 8))

    before = [automix.ratio_loss(masks(lam), lam).item() for lam in ratios]
    for _ in range(300):
        optimizer.zero_grad()
        sum(automix.ratio_loss(masks(lam), lam) for lam in ratios).backward()
        optimizer.step()
    assert sum(before) > 0.3
    for lam in ratios:
        assert (1 - masks(lam).mean()).item() == pytest.approx(lam, abs=automix.RATIO_SLACK + 0.02)


def test_the_ratios_loss_has_slack():
    masks = torch.tensor([0.3, 0.45, 0.7])[:, None, None, None].expand(3, 1, 4, 4)
    assert automix.ratio_loss(masks, 0.7).item() == pytest.approx((0 + 0.05 + 0.3) / 3)


def test_gradients_reach_the_block_only_through_the_averaged_network(batch):
    images, targets = batch
    network, found = made()
    drawing(found, 0.4)
    loss, logits, mixed_targets = found.loss(network, images, targets, 0.0)
    loss.backward()
    assert all(p.grad is None for p in found.average.parameters())
    torch.testing.assert_close(mixed_targets, 0.4 * targets + 0.6 * targets[[1, 0, 3, 2, 5, 4, 7, 6]])

    _, alone = made()
    partner = torch.tensor([1, 0, 3, 2, 5, 4, 7, 6])
    mixed, block_loss = alone.mix(images, partner, 0.4, mixed_targets, 0.0)
    block_loss.backward()
    for own, other in zip(found.block.parameters(), alone.block.parameters(), strict=True):
        assert own.grad.abs().max() > 0
        torch.testing.assert_close(own.grad, other.grad)

    same, _ = made()
    one_hot = F.cross_entropy(same(images), targets)
    on_mixed = same(mixed.detach())
    (one_hot + F.cross_entropy(on_mixed, mixed_targets)).backward()
    torch.testing.assert_close(logits, on_mixed)
    for own, other in zip(network.parameters(), same.parameters(), strict=True):
        torch.testing.assert_close(own.grad, other.grad)


def test_the_weight_of_the_ratios_loss_ends_at_0(batch):
    images, targets = batch
    _, found = made()
    with torch.no_grad():
        found.block.value.bias.fill_(9.0)  # masks of 1: the partner only
        losses = [found.mix(images, torch.arange(7, -1, -1), 0.8, targets, done)[1].item() for done in (0.0, 0.5, 1.0)]
    assert losses[0] - losses[2] == pytest.approx(0.1 * 0.7, abs=1e-3)
    assert losses[1] - losses[2] == pytest.approx(0.05 * 0.7, abs=1e-3)


def test_the_averaged_network_follows(batch):
    network, found = made(options=AutoMixOptions(momentum=0.9))
    before = [p.clone() for p in found.average.parameters()]
    assert all(torch.equal(a, b) for a, b in zip(before, network.parameters(), strict=True))
    with torch.no_grad():
        for p in network.parameters():
            p.add_(torch.randn_like(p))
    found.follow(network, 0.0)
    for old, now, target in zip(before, found.average.parameters(), network.parameters(), strict=True):
        torch.testing.assert_close(now, 0.9 * old + 0.1 * target)
    assert not list(found.average.buffers())  # it normalises by its batch, in evaluation too
    with torch.no_grad():
        torch.testing.assert_close(found.average.eval()(batch[0]), found.average.train()(batch[0]))


def test_momentum_rises_to_its_end():
    rising = [automix.momentum(0.999, done) for done in (0.0, 0.25, 0.5, 0.75, 1.0)]
    assert (rising[0], rising[-1]) == (pytest.approx(0.999), pytest.approx(0.99999))
    assert rising == sorted(rising)
    assert rising[2] == pytest.approx((0.999 + 0.99999) / 2)


@pytest.mark.parametrize(("lam", "plain"), [(0.079, True), (0.081, False), (0.919, False), (0.921, True)])
def test_near_0_and_1_it_is_plain_mixup(batch, lam, plain):
    images, targets = batch
    network, found = made()
    drawing(found, lam)
    seen = []
    loss, _, mixed_targets = found.loss(lambda x: (seen.append(x), network(x))[1], images, targets, 0.0)
    loss.backward()
    mixup = lam * images + (1 - lam) * images[[1, 0, 3, 2, 5, 4, 7, 6]]
    assert torch.equal(seen[0], images)
    assert torch.allclose(seen[1], mixup, atol=1e-5) == plain
    assert all((p.grad is None) == plain for p in found.block.parameters())
    assert mixed_targets[0].tolist()[:2] == pytest.approx([lam, 1 - lam])
    assert set(found.noted()) == ({"one_hot_loss", "mixed_loss"} if plain else NOTED)


def test_a_run_logs_and_resumes_as_if_it_had_not_stopped(cifar, tmp_path, monkeypatch):
    asked = ("--methods", "automix", "--seeds", "3", "--epochs", "2")
    assert train.main(command(cifar, tmp_path / "whole", *asked)) == 0
    whole = results(tmp_path / "whole")
    ((curves, final),) = whole.values()
    assert set(curves) >= NOTED | {"loss", "mixed_accuracy"}
    assert all(len(curves[name]) == 2 and np.isfinite(curves[name][0]) for name in NOTED)
    assert final["images"] == 40

    stopped = command(cifar, tmp_path / "stopped", *asked)
    with monkeypatch.context() as patch:
        clock = itertools.chain([0.0] * 2, itertools.repeat(61.0))
        patch.setattr(train, "time", SimpleNamespace(monotonic=lambda: next(clock)))
        assert train.main([*stopped, "--minutes", "1"]) == train.UNFINISHED
    ((curves, final),) = results(tmp_path / "stopped").values()
    assert (len(curves["loss"]), final) == (1, None)
    assert train.main(stopped) == 0
    assert results(tmp_path / "stopped") == whole
    ends = []
    for path in (tmp_path / "whole", tmp_path / "stopped"):
        (file,) = path.glob("*/checkpoint.pt")
        ends.append(torch.load(file, weights_only=True)["automix"])
    assert ends[0].keys() == ends[1].keys()
    assert all(torch.equal(value, ends[1][name]) for name, value in ends[0].items())


@pytest.mark.parametrize("amp", ["off", "bfloat16"])
def test_the_optimizer_trains_the_block_and_the_evaluated_network_is_the_trained_one(cifar, tmp_path, amp):
    images = load(cifar)
    recipe = Recipe(method="automix", network="resnet8", batch=20, epochs=2, amp=amp)
    trainer = Trainer(Run(recipe, Machine(), images, tmp_path), images.train, ((0.5,) * 3, (0.2,) * 3), None)
    before = [p.clone() for p in trainer.automix.block.parameters()]
    trainer.epoch(0)
    assert not any(torch.equal(a, b) for a, b in zip(before, trainer.automix.block.parameters(), strict=True))
    trainer.automix.average = None
    assert 0 <= trainer.accuracy(images.test) <= 1


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("amp", ["off", "bfloat16", "float16"])
def test_it_runs_on_a_gpu(cifar, tmp_path, amp):
    asked = ("--methods", "automix", "--epochs", "2", "--device", "cuda", "--amp", amp)
    assert train.main(command(cifar, tmp_path, *asked)) == 0
    ((curves, _),) = results(tmp_path).values()
    assert all(np.isfinite(curves[name]).all() for name in NOTED)


def test_dry_run_cost_and_report_know_it(cifar, tmp_path, capsys):
    path = tmp_path / "cost.json"
    asked = ("--methods", "automix:alpha=1", "--epochs", "1")
    assert train.main(command(cifar, tmp_path, *asked, "--dry-run")) == 0
    assert "by a block that is trained along, alpha=1.0, momentum=0.999" in capsys.readouterr().out
    assert train.main(command(cifar, tmp_path, *asked, "--cost", "1", "--json", str(path))) == 0
    assert list(json.loads(path.read_text())["epochs"]) == ["vanilla", "automix:alpha=1"]
    assert train.main(command(cifar, tmp_path / "runs", *asked)) == 0
    capsys.readouterr()
    assert report.main([str(tmp_path / "runs")]) == 0
    assert "| automix:alpha=1 | 1 |" in capsys.readouterr().out


def test_spellings():
    assert method("automix:alpha=2+momentum=0.999").spelling == "automix"
    assert method("automix").probability == 0
    found = method("automix:momentum=0.99")
    assert spelling_of(json.loads(json.dumps(found.describe()))) == found.spelling == "automix:momentum=0.99"
    assert "automix" not in method("vanilla").describe()  # whose runs keep their names
    for wrong in ("automix:beta=1", "automix:momentum=1", "automix:alpha=0", "automix:alpha"):
        with pytest.raises(ValueError, match=r"AutoMixOptions|must be"):
            method(wrong)
