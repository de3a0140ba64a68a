"""Anything in: a valid batch, or the documented error in words that name what is wrong. Never a crash, never NaN.

`HYPOTHESIS_PROFILE=nightly` draws 10,000 examples.
"""

import re
import traceback
import warnings

import albumentations as A
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from miamix_cpu import MiAMix, MiAMixBatch, MiAMixCollator, MiAMixConfig
from miamix_cpu.methods import METHODS

pytestmark = pytest.mark.filterwarnings(
    "ignore:.*c[ao]me out unmixed",
    "ignore:a batch of one sample",
    "ignore:float images have",
    "ignore:the transform returned",
)

C = 4  # classes
NAMED = (
    r"(samples? |sample \d|images? |labels?|mean|std|dtype|weights|methods|alpha|k_min|k_max|p_self|p_aug|p_smooth"
    r"|ratio_range|pairing|partners|num_classes|smoothing|layout|second|axes|channels|seed|batch)"
)


@st.composite
def sometimes(draw, right, wrong, once_in=40):
    """`right`, and once in so many draws `wrong`; hypothesis favours ends, so it is one from the middle."""
    return draw(wrong if draw(st.integers(0, once_in - 1)) == once_in // 2 else right)


dtypes = sometimes(
    st.sampled_from([np.uint8, np.float32]), st.sampled_from([np.float64, np.int32, np.float16, bool]), 8
)
sides = sometimes(st.integers(1, 9), st.just(0))
shapes = sometimes(
    st.one_of(st.tuples(sides, sides, st.sampled_from([3, 1, 4])), st.tuples(sides, sides)),
    st.one_of(
        st.tuples(sides, sides, st.sampled_from([2, 5, 0])), st.tuples(sides), st.tuples(st.just(3), sides, sides),
        st.tuples(sides, sides, st.just(3), st.just(1)),
    ),
    8,
)  # fmt: skip
strides = st.sampled_from(["plain", "fortran", "negative", "stepped", "read-only", "broadcast"])
classes = st.integers(0, C - 1)
vectors = st.sampled_from([[0.0, 1.0, 0.0, 0.0], np.array([0.5, 0.5, 0, 0], np.float32), torch.tensor([1.0, 0, 1, 0])])
odd_labels = st.one_of(
    st.integers(-2, C + 2), st.floats(), st.none(), st.text(max_size=2), st.just([float("nan")] * C), st.just([0, 1]),
    st.lists(st.floats(-0.2, 1.2), min_size=C, max_size=C),
)  # fmt: skip


@st.composite
def images(draw, shape=None, dtype=None):
    """An array in some memory layout; seldom with NaN or infinity."""
    shape, dtype = shape or draw(shapes), dtype or draw(dtypes)
    image = np.random.default_rng(draw(st.integers(0, 99))).integers(0, 256, shape).astype(dtype)
    how = draw(strides)
    if how == "fortran":
        image = np.asfortranarray(image)
    elif how == "negative":
        image = image[::-1]
    elif how == "stepped" and image.ndim > 1:
        image = np.repeat(image, 2, axis=1)[:, ::2]
    elif how == "broadcast" and image.size:
        image = np.broadcast_to(image.ravel()[0], shape)
    elif how == "read-only":
        image.setflags(write=False)
    if image.dtype.kind == "f" and image.flags.writeable and image.size and draw(st.integers(0, 9)) == 5:
        image.ravel()[0] = draw(st.sampled_from([np.nan, np.inf]))
    return draw(st.sampled_from([image, image, image, torch.from_numpy(np.array(image).copy())]))


@st.composite
def batches(draw):
    """Mostly alike samples, with now and then one that is not."""
    n = draw(sometimes(st.integers(1, 5), st.just(0)))
    shape, dtype = draw(shapes), draw(dtypes)
    label = draw(st.sampled_from([classes, classes, classes.map(np.int64), classes.map(torch.tensor), vectors]))
    odd_images = st.one_of(images(), st.sampled_from([None, "a picture", 7, [], (np.zeros((2, 2, 3), np.uint8),)]))
    samples = []
    for _ in range(n):
        image = draw(sometimes(images(shape, dtype), odd_images))
        samples.append((image, draw(sometimes(label, odd_labels))))
    if draw(st.booleans()):
        samples = [((image, image), label) for image, label in samples]
    if draw(st.booleans()):
        samples = [{"image": image, "label": label} for image, label in samples]
    return samples + draw(
        sometimes(st.just([]), st.sampled_from([[None], [()], [(np.zeros((2, 2, 3), np.uint8),)], [{"image": 1}], [5]]))
    )


numbers = st.one_of(st.floats(), st.integers(-3, 3), st.none(), st.just("0.5"), st.booleans())
probabilities = sometimes(st.floats(0, 1), numbers)
alphas = st.floats(1e-3, 1e3)


def next_one(labels, generator):
    return (np.arange(len(labels)) + 1) % len(labels)


def beyond(labels, generator):
    return np.arange(len(labels)) + 1


pairings = sometimes(
    st.sampled_from(["random", "random", "same_class", "other_class", next_one]),
    st.sampled_from(["same class", None, 3, beyond]),
)
partners = sometimes(st.sampled_from(["sample", "layer"]), st.sampled_from(["layers", None, 2, True]))


@st.composite
def settings_of(draw):
    methods = draw(sometimes(st.lists(st.sampled_from(METHODS), min_size=1, max_size=4, unique=True),
                             st.lists(st.sampled_from([*METHODS, "cutmxi", ""]), max_size=3)))  # fmt: skip
    weight = sometimes(st.floats(0.1, 5), numbers)
    config = {
        "methods": tuple(methods), "weights": tuple(draw(weight) for _ in methods),
        "alpha": draw(sometimes(st.one_of(alphas, st.just(dict.fromkeys(methods, draw(alphas)))), numbers)),
        "ratio_range": draw(sometimes(st.tuples(st.floats(0, 0.5), st.floats(0.5, 1)), st.tuples(numbers, numbers))),
        "k_min": draw(sometimes(st.integers(1, 2), numbers)),
        "k_max": draw(sometimes(st.integers(2, 4), numbers)), "merge": draw(st.sampled_from(["mul", "sum"])),
        "pairing": draw(pairings), "partners": draw(partners), "lam_from": draw(st.sampled_from(["merged", "orig"])),
        **{name: draw(probabilities) for name in ("p_self", "p_aug", "p_smooth")},
    }  # fmt: skip
    options = {
        "dtype": draw(st.sampled_from(["uint8", "float32", "float16"])),
        "targets": draw(st.sampled_from(["soft", "soft", "pair"])),
        "label_smoothing": draw(sometimes(st.just(0.0), st.floats(0, 1))),
        "layout": draw(st.sampled_from(["auto", "auto", "channels_last", "channels_first"])),
        "return_masks": draw(st.booleans()),
    }
    if draw(st.integers(0, 7)) == 4 and options["dtype"] != "uint8":
        options |= {"mean": draw(sometimes(st.just((0.5,) * 3), numbers)), "std": draw(st.just((0.2,) * 3))}
    return config, options


def brighter(image):
    """As a caller may write it: whatever comes is taken, and only a tensor or an array can be."""
    return image + 1


transforms = st.sampled_from([
    None, None, A.Compose([A.HorizontalFlip(), A.VerticalFlip()]), A.Compose([A.RandomCrop(2, 2)]), brighter, np.asarray
])  # fmt: skip
indices = st.one_of(st.integers(), st.text(), st.binary(), st.tuples(st.integers(), st.text()))
odd_indices = st.one_of(st.none(), st.floats(), st.just([{}]))
columns = st.sampled_from(["list", "array", "object"])


def as_column(values, how):
    """Values as somebody's batch may hold them."""
    if how == "array":
        try:
            return np.array(values)
        except (ValueError, TypeError, RuntimeError):
            return values
    if how == "object":
        column = np.empty(len(values), dtype=object)
        for i, value in enumerate(values):
            column[i] = value
        return column
    return values


def copied(samples):
    def one(value):
        if isinstance(value, torch.Tensor):
            return value.clone()
        if isinstance(value, np.ndarray):
            return [one(part) for part in value.flat] if value.dtype == object else value.copy()
        if isinstance(value, (tuple, list)):
            return [one(part) for part in value]
        return {key: one(part) for key, part in value.items()} if isinstance(value, dict) else value

    return one(samples)


def equal(one, other):
    if isinstance(other, np.ndarray) and other.dtype == object:
        return equal(one, list(other.flat))
    if isinstance(one, (torch.Tensor, np.ndarray)):
        return np.array_equal(np.asarray(one), np.asarray(other), equal_nan=np.asarray(one).dtype.kind == "f")
    if isinstance(one, (tuple, list)):
        return all(equal(a, b) for a, b in zip(one, other, strict=True))
    if isinstance(one, dict):
        return all(equal(one[key], other[key]) for key in one)
    return one is other or one == other or one != one


def finite(samples):
    images = [s["image"] if isinstance(s, dict) else s[0] for s in samples]
    parts = [part for image in images for part in (image if isinstance(image, (tuple, list)) else (image,))]
    return all(np.isfinite(np.asarray(part, dtype=np.float64)).all() for part in parts)


@st.composite
def blocks(draw):
    shape = draw(sometimes(shapes.map(lambda shape: (3, *shape)), shapes))
    image = draw(images(shape, draw(dtypes)))
    return np.asarray(image) if draw(st.integers(0, 20)) != 10 else image


def check_words(error):
    """Our own error, not one that a line further down happened to raise."""
    assert type(error) in (TypeError, ValueError), type(error)
    assert re.search(NAMED, str(error)), error
    raised = traceback.extract_tb(error.__traceback__)[-1]
    assert "miamix_cpu" in raised.filename, raised


def check_refusal(error):
    """Our own words, or whatever a transform or `default_collate` raised, with our note."""
    if not any(note.startswith("raised by ") for note in getattr(error, "__notes__", ())):
        check_words(error)


@given(batches(), settings_of())
def test_a_collator_gives_a_batch_or_says_what_is_wrong(samples, chosen):
    config, options = chosen
    before = copied(samples)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*c[ao]me out unmixed")  # no second view
        try:
            batch = MiAMixCollator(C, MiAMixConfig(**config), seed=0, return_batch=True, **options)(samples)
        except (TypeError, ValueError) as error:
            check_words(error)
            batch = None
    assert equal(before, samples)
    if batch is None:
        return
    n = len(samples)
    assert batch.images.shape[0] == n
    assert batch.images.ndim == 4
    assert batch.images.dtype == getattr(torch, options["dtype"])
    assert (batch.lam >= 0).all()
    assert (batch.lam <= 1).all()
    if finite(samples):
        assert torch.isfinite(batch.images.float()).all() or options["dtype"] == "float16"
    if options["targets"] == "soft":
        assert batch.targets.shape == (n, C)
        assert torch.isfinite(batch.targets).all()
        if all(np.ndim(s["label"] if isinstance(s, dict) else s[1]) == 0 for s in samples):
            torch.testing.assert_close(batch.targets.sum(dim=1), torch.ones(n))
    else:
        labels, weights = batch.targets[0], batch.targets[-1]
        assert len(batch.targets) == (2 if batch.plan.is_layered else 3)
        assert labels.shape[: weights.ndim] == weights.shape == batch.lam.shape
    if batch.plan.is_layered:
        views = (n, config["k_max"] + 1)
        assert batch.lam.shape == batch.partner.shape == views
        torch.testing.assert_close(batch.lam.sum(dim=1), torch.ones(n))
    if options["return_masks"]:
        assert 0 <= batch.masks.min() <= batch.masks.max() <= 1
        assert batch.masks.shape[: batch.lam.ndim] == batch.lam.shape
        assert not batch.plan.is_layered or ((batch.masks.sum(dim=1) - 1).abs() < 1e-5).all()


@given(batches(), settings_of(), transforms, st.lists(sometimes(indices, odd_indices), min_size=6, max_size=6))
def test_a_collator_with_a_transform_does_too(samples, chosen, transform, ids):
    """With views to make, an identity instead of pixels, and an entry that is carried along."""
    config, options = chosen
    samples = [{**s, "id": ids[i]} if isinstance(s, dict) else s for i, s in enumerate(samples)]
    index_key = "id" if samples and isinstance(samples[0], dict) else None
    before = copied(samples)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*c[ao]me out unmixed")
        try:
            collate = MiAMixCollator(
                C, MiAMixConfig(**config), seed=0, transform=transform, index_key=index_key, **options
            )
            images = collate(samples)
        except Exception as error:
            check_refusal(error)
            images = None
    assert equal(before, samples)
    if images is not None:
        images = images["image"] if isinstance(images, dict) else images[0]
        assert images.shape[0] == len(samples)
        assert images.ndim == 4


@given(batches(), settings_of(), transforms, columns, columns)
def test_columns_do_too(samples, chosen, transform, images_as, labels_as):
    """`MiAMixBatch` on the same samples, as columns."""
    config, options = chosen
    options = {name: value for name, value in options.items() if name != "targets"}
    pairs = [(s.get("image"), s.get("label")) if isinstance(s, dict) else tuple(s or ())[:2] for s in samples if s != 5]
    pairs = [pair for pair in pairs if len(pair) == 2]
    batch = {
        "image": as_column([image for image, _ in pairs], images_as),
        "label": as_column([label for _, label in pairs], labels_as), "name": [f"{i}" for i in range(len(pairs))],
    }  # fmt: skip
    before = copied([batch])[0]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*c[ao]me out unmixed")
        try:
            mixed = MiAMixBatch(C, MiAMixConfig(**config), seed=0, transform=transform, **options)(batch)
        except Exception as error:
            check_refusal(error)
            mixed = None
    assert equal(before, batch)
    if mixed is not None:
        assert mixed["name"] is batch["name"]
        assert mixed["image"].shape[0] == mixed["label"].shape[0] == len(pairs)
        assert mixed["image"].dtype == np.dtype(options["dtype"])
        assert np.isfinite(mixed["label"]).all()


@given(blocks(), st.lists(sometimes(classes, odd_labels, 20), min_size=3, max_size=3), settings_of())
def test_miamix_gives_a_batch_or_says_what_is_wrong(block, labels, chosen):
    config, options = chosen
    options = {name: value for name, value in options.items() if name != "layout"}
    before = copied([block])[0]
    try:
        batch = MiAMix(C, MiAMixConfig(**config), **options)(block, labels, rng=np.random.default_rng(0))
    except (TypeError, ValueError) as error:
        check_words(error)
        batch = None
    assert equal(before, block)
    if batch is not None:
        assert batch.images.shape == block.shape
        assert batch.lam.shape == ((3, config["k_max"] + 1) if config["partners"] == "layer" else (3,))
        assert batch.images.dtype == np.dtype(options["dtype"])
