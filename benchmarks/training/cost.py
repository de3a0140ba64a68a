"""What training with a method costs: epochs with and without it, interleaved, and the ratio of their medians."""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Sequence
from typing import Any

from tqdm import tqdm

from benchmarks.training.data import channel_statistics, training_and_held_out
from benchmarks.training.loop import Run, Trainer


def cost(runs: Sequence[Run], rounds: int) -> dict[str, Any]:
    """Time an epoch of each run in every round, in a new order each time, after one that does not count.

    Parameters
    ----------
    runs : those to compare, the first one the plain training
    rounds : int

    Returns
    -------
    dict
        By method: the median, least and greatest seconds an epoch, and the median's ratio to the first one's.
    """
    training, _ = training_and_held_out(runs[0].images.train, runs[0].recipe.fraction, runs[0].recipe.held_out)
    pixels = channel_statistics(training)
    trainers = {run.recipe.method: Trainer(run, training, pixels, None) for run in runs}
    seconds: dict[str, list[float]] = {name: [] for name in trainers}
    shuffle = random.Random(0)
    with tqdm(total=(rounds + 1) * len(trainers), desc="epochs", unit="epoch", leave=False) as bar:
        for epoch in range(rounds + 1):
            for name in shuffle.sample(list(trainers), len(trainers)):
                began = time.perf_counter()
                trainers[name].epoch(epoch)
                if epoch > 0:
                    seconds[name].append(time.perf_counter() - began)
                bar.update()
    plain = statistics.median(seconds[runs[0].recipe.method])
    return {
        name: {
            "median": statistics.median(values), "least": min(values), "greatest": max(values),
            "ratio": statistics.median(values) / plain,
        }
        for name, values in seconds.items()
    }  # fmt: skip
