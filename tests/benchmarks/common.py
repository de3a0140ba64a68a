"""Small sets of images, and the command line of small runs."""

import json

import numpy as np


def pictures(rng, labels):
    """Images of one colour a class, noisy."""
    colours = np.random.default_rng(0).integers(40, 215, (100, 3))
    return (colours[labels][:, None, None] + rng.integers(-40, 40, (len(labels), 32, 32, 3))).astype(np.uint8)


def write_records(path, images, labels, coarse=False):
    planes = images.transpose(0, 3, 1, 2).reshape(len(images), -1)
    columns = [labels[:, None].astype(np.uint8), planes]
    np.hstack([np.full((len(images), 1), 7, np.uint8), *columns] if coarse else columns).tofile(path)


def command(data, runs, *more):
    small = (
        "--network",
        "resnet8",
        "--batch",
        "16",
        "--epochs",
        "4",
        "--every",
        "2",
        "--device",
        "cpu",
        "--amp",
        "off",
    )
    return ["--data", str(data), "--runs", str(runs), *small, *more]


def results(runs):
    """What a run's numbers are, without the times."""
    found = {}
    for path in sorted(runs.glob("*/run.json")):
        result = json.loads(path.read_text())
        result["curves"].pop("seconds")
        if result["final"]:
            result["final"].pop("seconds")
        found[result["run"]] = result["curves"], result["final"]
    return found
