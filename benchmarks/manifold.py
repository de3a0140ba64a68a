"""What it costs to mix a hidden layer: a training step of a small ResNet, unmixed, mixed, and mixed by hand."""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch

from benchmarks import timing
from benchmarks.timing import one_thread, parser, table, write
from benchmarks.training.networks import NETWORKS
from miamix_cpu import ManifoldMixup, MiAMixCollator, MiAMixConfig, MixedBatch, mixed_cross_entropy

NETWORK, BATCH, SIDE = "resnet8", 64, 32
#: The images, and the outputs of the stem and of two stages: 3 x 32 x 32, 16 x 32 x 32 twice, 32 x 16 x 16.
LAYERS = ("input", "2", "3", "4")
PLAIN, HAND, OURS, MASKS = "unmixed", "w * h + (1 - w) * h[p]", "ManifoldMixup, mixup", "ManifoldMixup, cutmix"
RATIOS = ((OURS, PLAIN), (HAND, PLAIN), (OURS, HAND), (MASKS, PLAIN))


def cases(layer: str) -> dict[str, Callable[[], Any]]:
    """Steps that mix this layer, of one network; outputs are checked."""
    torch.manual_seed(0)
    model = NETWORKS[NETWORK](10).train()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0, momentum=0.9)  # a step's work, but the weights stay
    manifold = ManifoldMixup(model, LAYERS)
    rng = np.random.default_rng(0)
    samples = [(rng.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8), i % 10) for i in range(BATCH)]

    def collated(method: str) -> MixedBatch:
        config = MiAMixConfig.plain(method, alpha=2.0, mixes="features")
        batch = MiAMixCollator(10, config, seed=0, return_batch=True)(samples)
        plan = dataclasses.replace(batch.plan, depth=(LAYERS.index(layer) + 0.5) / len(LAYERS))
        return dataclasses.replace(batch, plan=plan)

    def unmixed(batch: MixedBatch) -> torch.Tensor:
        return model(batch.images)

    def by_hand(batch: MixedBatch) -> torch.Tensor:
        weight, partner, h = batch.lam.view(-1, 1, 1, 1), batch.partner, batch.images
        if layer == LAYERS[0]:
            h = weight * h + (1 - weight) * h[partner]
        for name, module in model.named_children():
            h = module(h)
            if name == layer:
                h = weight * h + (1 - weight) * h[partner]
        return h

    def by_manifold(batch: MixedBatch) -> torch.Tensor:
        with manifold(batch):
            return model(batch.images)

    def step(forward: Callable[[MixedBatch], torch.Tensor], batch: MixedBatch) -> None:
        loss = mixed_cross_entropy(forward(batch), batch.targets)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()

    even, masked = collated("mixup"), collated("cutmix")
    torch.testing.assert_close(by_manifold(even), by_hand(even))
    if torch.allclose(by_manifold(masked), unmixed(masked)):
        raise ValueError(f"{layer} is not mixed")
    return {
        PLAIN: partial(step, unmixed, even),
        HAND: partial(step, by_hand, even),
        OURS: partial(step, by_manifold, even),
        MASKS: partial(step, by_manifold, masked),
    }


def ratio(times: dict[str, dict[str, Any]], ours: str, theirs: str) -> list[float]:
    """Median, lower and upper quartile of the ratios within each round."""
    ratios = [a / b for a, b in zip(times[ours]["times"], times[theirs]["times"], strict=True)]
    low, middle, high = statistics.quantiles(ratios, n=4)
    return [middle, low, high]


def main() -> None:
    """Measure, print, write."""
    given = parser(__doc__.splitlines()[0], "manifold", plots=False).parse_args()
    one_thread()
    rounds, seconds = (3, 0.05) if given.quick else (31, 0.4)
    milliseconds: dict[str, dict[str, float]] = {}
    ratios: dict[str, dict[str, list[float]]] = {}
    for layer in LAYERS:
        times = timing.measure(cases(layer), rounds=rounds, seconds=seconds, label=layer)
        milliseconds[layer] = {name: 1e3 * t["median"] for name, t in times.items()}
        ratios[layer] = {f"{a} / {b}": ratio(times, a, b) for a, b in RATIOS}
    rows = [[name, *(f"{milliseconds[x][name]:.1f}" for x in LAYERS)] for name in (PLAIN, HAND, OURS, MASKS)]
    print(table([f"ms a step of {BATCH}, by layer", *LAYERS], rows))
    names = [f"{a} / {b}" for a, b in RATIOS]
    cells = [[name, *("{:.3f} [{:.3f}, {:.3f}]".format(*ratios[x][name]) for x in LAYERS)] for name in names]
    print(table(["median ratio [quartiles]", *LAYERS], cells))
    write(given.json, {"network": NETWORK, "batch": BATCH, "milliseconds": milliseconds, "ratios": ratios})


if __name__ == "__main__":
    main()
