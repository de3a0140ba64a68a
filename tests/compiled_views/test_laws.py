"""What a program draws has the distribution of what Albumentations draws, for each transform and each kind of group."""

import random
import warnings
from collections import Counter

import numpy as np
import pytest

A = pytest.importorskip("albumentations", reason="Albumentations is not installed")
stats = pytest.importorskip("scipy.stats")

from miamix_cpu.compiled_views.program import Program  # noqa: E402
from tests.compiled_views.test_equal import CASES, made  # noqa: E402

SHAPE = (23, 31)
DRAWS = 1500


def flat(params):
    """All numbers in a dict of parameters, by a name of their own."""
    numbers = {}
    for key, value in params.items():
        if key in ("shape", "seed", "bbox_matrix", "output_shape", "scale", "rotate"):
            continue
        if isinstance(value, dict):
            numbers.update({f"{key}.{inner}": number for inner, number in flat(value).items()})
        elif key == "group_element":
            numbers[key] = hash(value) % 1000
        elif key == "holes":
            boxes = np.asarray(value, float).reshape(-1, 4)
            numbers["holes"] = len(boxes)
            numbers.update({f"hole {i}": x for i, x in enumerate(boxes[0])} if len(boxes) else {})
        elif value is not None:
            numbers.update({f"{key} {i}": float(x) for i, x in enumerate(np.ravel(np.asarray(value)))})
    return numbers


def collected(rows):
    found = {}
    for row in rows:
        for key, value in row.items():
            found.setdefault(key, []).append(value)
    return found


@pytest.mark.parametrize("name", [name for name in CASES if name != "Pad"])
def test_parameters_are_drawn_alike(name):
    """Kolmogorov and Smirnov's test for each number, with seeds that are fixed."""
    params_of, cases = CASES[name]
    image = np.zeros((*SHAPE, 3), np.uint8)
    for case, options in enumerate(cases):
        transform = made(name, options)
        transform.set_random_seed(case)
        theirs = []
        for _ in range(DRAWS):
            params = dict(transform.get_params())
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                params.update(transform.get_params_dependent_on_data({"shape": image.shape}, {"image": image}))
            theirs.append(flat(params))
        sizes = np.repeat(np.array(SHAPE)[:, None], DRAWS, 1)
        values = Program(transform).draw(np.random.default_rng(case), sizes)[0].values
        ours = [flat(params_of(transform, row, image.shape)) for row in values]
        if name == "RandomBrightnessContrast":
            ours = [{key: value * (255 if key == "beta 0" else 1) for key, value in row.items()} for row in ours]
        expected, got = collected(theirs), collected(ours)
        common = expected.keys() & got.keys()
        assert common or not expected or name in ("Normalize", "Resize"), (name, expected.keys(), got.keys())
        for key in sorted(common):
            assert abs(len(got[key]) - len(expected[key])) < 5 * np.sqrt(DRAWS), (name, options, key)
            found = stats.ks_2samp(expected[key], got[key])
            assert found.pvalue > 1e-5, (name, options, key, found)


class Recorder(A.ImageOnlyTransform):
    """Stands for a transform, and records that it is applied."""

    def __init__(self, name, log, p):
        super().__init__(p=p)
        self.name, self.log = name, log

    def apply(self, img, **params):
        self.log.append(self.name)
        return img


NAMES = ("HorizontalFlip", "VerticalFlip", "Transpose", "InvertImg")
GROUPS = {
    "one of": lambda make: A.OneOf(make(0.2, 0.6, 0.0, 1.0), p=0.7),
    "one of, nested": lambda make: A.OneOf(
        [A.Sequential(make(0.5, 0.5), p=0.1), A.Compose(make(0, 0, 0.5), p=0.3)], p=1
    ),
    "one of some": lambda make: A.OneOf([A.SomeOf(make(1, 1), n=1, p=0.4), *make(0, 0, 0.4)], p=1),
    "some of": lambda make: A.SomeOf(make(0.9, 0.5, 0.2, 1.0), n=2, p=0.8),
    "some of, with repeats": lambda make: A.SomeOf(make(1, 0.5, 1), n=3, replace=True),
    "random order": lambda make: A.RandomOrder(make(1, 0.5, 1), n=2, p=0.9),
    "random order of all": lambda make: A.RandomOrder(make(1, 1, 1), n=3),
    "compose": lambda make: A.Compose(make(0.5, 0.3), p=0.6),
    "compose in compose": lambda make: A.Compose([A.Compose(make(0.5, 0.3), p=0.6), *make(0, 0, 0.5)], p=0.9),
    "sequential": lambda make: A.Sequential(make(0.5, 1, 0), p=0.6),
}


@pytest.mark.parametrize("name", GROUPS)
def test_groups_choose_alike(name):
    """By the frequency of each sequence of transforms, to five standard errors."""
    runs, count, log = 4000, 20_000, []
    recorded = GROUPS[name](lambda *ps: [Recorder(which, log, p) for which, p in zip(NAMES, ps, strict=False)])
    recorded.set_random_state(
        np.random.default_rng(1), random.Random(1)
    )  # with a seed, all parts draw the same numbers
    theirs = Counter()
    for _ in range(runs):
        log.clear()
        recorded(image=np.zeros((8, 8, 3), np.uint8))
        theirs[tuple(log)] += 1
    transform = GROUPS[name](lambda *ps: [getattr(A, which)(p=p) for which, p in zip(NAMES, ps, strict=False)])
    drawn = Program(transform).draw(np.random.default_rng(0), np.full((2, count), 8))
    sequences = [[] for _ in range(count)]
    for step in drawn:
        for view in step.views.tolist():
            sequences[view].append(step.name)
    ours = Counter(map(tuple, sequences))
    for sequence in theirs.keys() | ours.keys():
        a, b = theirs[sequence] / runs, ours[sequence] / count
        error = np.sqrt(max(a, b) * (1 / runs + 1 / count)) + 1e-4
        assert abs(a - b) < 5 * error, (sequence, a, b)
