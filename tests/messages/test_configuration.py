"""What a newcomer gives for the configuration."""

import warnings

import numpy as np
import pytest
import torch

from miamix_cpu import CutMixOptions, GridMixOptions, MiAMix, MiAMixBatch, MiAMixCollator, MiAMixConfig
from tests.messages.common import told


@pytest.mark.parametrize(("config", "words"), [
    ("cutmix", r"did you mean MiAMixConfig.plain\('cutmix'\)"), (lambda image: image, "transform=..."),
])  # fmt: skip
def test_what_is_given_for_the_configuration(config, words):
    with pytest.raises(TypeError, match=words):
        MiAMixCollator(10, config)


@pytest.mark.parametrize("make", [MiAMix, MiAMixBatch, MiAMixCollator])
def test_a_field_of_the_configuration_is_named(make):
    with pytest.raises(
        TypeError, match=r"alpha is a field of MiAMixConfig: \w+\(..., config=MiAMixConfig\(alpha=...\)\)"
    ):
        make(10, alpha=0.2)
    with pytest.raises(TypeError, match="unexpected keyword argument 'aplha'"):
        make(10, aplha=0.2)


def test_weights_that_kept_their_defaults():
    with pytest.raises(
        ValueError, match=r"because methods were set but not weights: set, for example, weights=\(1, 1\)"
    ):
        MiAMixConfig(methods=("mixup", "cutmix"))
    with pytest.raises(ValueError, match=r"got 1: set, for example, weights=\(1, 1\)"):
        MiAMixConfig(methods=("mixup", "cutmix"), weights=(3,))


@pytest.mark.parametrize(
    ("name", "guess"), [("cutmx", True), ("agmx", True), ("resizmix", True), ("transmix", False), ("puzzle", False)]
)
def test_no_name_is_suggested_that_is_not_near(name, guess):
    with pytest.raises(ValueError, match=r"The methods are mixup, cutmix") as caught:
        MiAMixConfig.plain(name)
    assert ("did you mean" in str(caught.value)) == guess


@pytest.mark.parametrize(("name", "guess"), [
    ("diet", "deit"), ("rsb-a4", "rsb-a"), ("RandomMix", "randommix"), ("grid-mix", "gridmix"), ("puzzle", None),
])  # fmt: skip
def test_the_nearest_recipe_is_named(name, guess):
    with pytest.raises(ValueError, match=r"The recipes are miamix, mixup, cutmix, .*randommix") as caught:
        MiAMixConfig.recipe(name)
    assert str(caught.value).startswith(f"unknown recipe {name!r}")
    assert ("did you mean" in str(caught.value)) == (guess is not None)
    assert guess is None or f"did you mean '{guess}" in str(caught.value)


FIVE = r"\('mixup', 'cutmix', 'fmix', 'gridmix', 'agmix'\)"


@pytest.mark.parametrize("name", ["alpha", "weights"])
@pytest.mark.parametrize(("values", "words"), [
    ({"mixup": 1.0, "cutmix": 2.0}, f"must have a number for each of {FIVE}, got none for 'fmix'"),
    ({}, f"must have a number for each of {FIVE}, got none for 'mixup'"),
    ({"gmix": 1.0}, f"has a number for 'gmix', which is not one of methods={FIVE}"),
], ids=["missing", "empty", "of another"])  # fmt: skip
def test_a_mapping_has_all_methods_and_no_others(name, values, words):
    with pytest.raises(ValueError, match=f"{name} {words}"):
        MiAMixConfig(**{name: values})


@pytest.mark.parametrize("name", ["alpha", "weights"])
def test_a_mapping_of_an_unknown_method_names_the_nearest(name):
    with pytest.raises(ValueError, match="unknown method 'cutmx', did you mean 'cutmix'"):
        MiAMixConfig(methods=("mixup", "cutmix"), **{"weights": (1, 1), name: {"mixup": 1, "cutmx": 1}})


@pytest.mark.parametrize(("changes", "error", "words"), [
    ({"alpha": {"mixup": 1.0, "cutmix": -2.0}}, ValueError, "alpha must be above 0 and finite, got -2.0"),
    ({"alpha": {"mixup": 1.0, "cutmix": 0}}, ValueError, "alpha must be above 0 and finite, got 0"),
    ({"alpha": (1.0, float("inf"))}, ValueError, "alpha must be above 0 and finite, got inf"),
    ({"alpha": {"mixup": 1.0, "cutmix": "one"}}, TypeError, "alpha must be a number, got 'one'"),
    ({"alpha": (1.0,)}, ValueError, r"alpha must be a number, or one for each of \('mixup', 'cutmix'\), got 1"),
    ({"alpha": [1.0, 1.0, 1.0]}, ValueError, "alpha must be a number, or one for each of .*, got 3"),
    ({"weights": {"mixup": 1.0, "cutmix": -2.0}}, ValueError, "weights must be at least 0 and finite, got -2.0"),
    ({"alpha": np.array([1.0, -2.0])}, ValueError, "alpha must be above 0 and finite, got -2.0"),
    ({"alpha": np.array([True, True])}, TypeError, "alpha must be a number, got True"),
    ({"alpha": np.ones(3)}, ValueError, "alpha must be a number, or one for each of .*, got 3"),
    ({"weights": np.ones(3)}, ValueError, r"weights must have one number for each of .*, got 3: set, .*weights=\(1, 1\)"),
    ({"weights": np.array([1.0, np.nan])}, ValueError, "weights must be at least 0 and finite, got nan"),
    ({"weights": {"mixup": 0.0, "cutmix": 0.0}}, ValueError, r"weights must not all be 0, got \(0.0, 0.0\)"),
    ({"weights": {"mixup": 1.0, "cutmix": None}}, TypeError, "weights must be a number, got None"),
])  # fmt: skip
def test_bad_numbers_of_methods_are_named(changes, error, words):
    with pytest.raises(error, match=words):
        MiAMixConfig.plain("mixup", "cutmix", **changes)


@pytest.mark.parametrize(("values", "given"), [
    (5, "5"), (None, "None"), ("2, 1", "'2, 1'"), (np.float32(2), "np.float32(2.0)"), (np.array(3.0), "array(3.)"),
    (np.ones((2, 500)), "ndarray of float64 (2, 500)"),
], ids=["number", "None", "string", "scalar", "array of no dimension", "matrix"])  # fmt: skip
def test_weights_are_several_numbers(values, given):
    assert told(MiAMixConfig.plain, "mixup", "cutmix", weights=values) == (
        TypeError,
        "weights must be a tuple, a 1-D array or a mapping, with one number for each of ('mixup', 'cutmix'), got "
        f"{given}: set, for example, weights=(1, 1)",
    )


@pytest.mark.parametrize(("values", "given"), [
    (np.array(3.0), "array(3.)"), (np.ones((500, 1), np.float32), "ndarray of float32 (500, 1)"),
], ids=["array of no dimension", "matrix"])  # fmt: skip
def test_an_array_of_concentrations_has_one_dimension(values, given):
    assert told(MiAMixConfig.plain, "mixup", alpha=values) == (
        TypeError,
        "alpha must be a tuple, a 1-D array or a mapping, with one number for each of ('mixup',), got "
        f"{given}: set, for example, alpha=(1,)",
    )


@pytest.mark.parametrize(("methods", "words"), [
    (5, "5: set, for example, methods=('mixup', 'cutmix')"),
    (None, "None: set, for example, methods=('mixup', 'cutmix')"),
    ("fmix", "the string 'fmix': set, for example, methods=('fmix',)"),
    ("fmixx", "the string 'fmixx': set, for example, methods=('mixup', 'cutmix')"),
], ids=str)  # fmt: skip
def test_methods_are_several_names(methods, words):
    assert told(MiAMixConfig, methods=methods) == (TypeError, f"methods must be a tuple of names, got {words}")


@pytest.mark.parametrize(("kind", "name", "value", "words"), [
    (MiAMixConfig, "ratio_range", 0.5, "0.5: set, for example, ratio_range=(0.5, 0.5)"),
    (MiAMixConfig, "ratio_range", np.float32(0.5), "np.float32(0.5): set, for example, ratio_range=(0.5, 0.5)"),
    (MiAMixConfig, "ratio_range", None, "None"),
    (MiAMixConfig, "ratio_range", np.zeros(1000), "ndarray of float64 (1000,)"),
    (CutMixOptions, "minmax", 0.3, "0.3: set, for example, cutmix.minmax=(0.3, 0.3)"),
    (GridMixOptions, "cells", 4, "4: set, for example, gridmix.cells=(4, 4)"),
], ids=str)  # fmt: skip
def test_one_number_instead_of_a_range(kind, name, value, words):
    error, told_ = told(kind, **{name: value})
    assert error is TypeError
    assert told_.endswith(f"{name} must be a pair (low, high), got {words}")


@pytest.mark.parametrize(("pairing", "error", "words"), [
    ("same-class", ValueError, "unknown pairing 'same-class', did you mean 'same_class'"),
    ("other_clas", ValueError, "unknown pairing 'other_clas', did you mean 'other_class'"),
    ("nearest", ValueError, "unknown pairing 'nearest'. The pairings are random, same_class, other_class"),
    (None, TypeError, "pairing must be 'random', 'same_class', 'other_class' or callable, got None"),
    (3, TypeError, "pairing must be 'random', 'same_class', 'other_class' or callable, got 3"),
], ids=str)  # fmt: skip
def test_a_pairing_is_a_name_or_a_function(pairing, error, words):
    with pytest.raises(error, match=words):
        MiAMixConfig(pairing=pairing)


def test_who_is_alone_in_his_class_is_said_to_stay_unmixed():
    samples = [(np.zeros((4, 4, 3), np.uint8), label) for label in range(8)]
    config = MiAMixConfig.plain("mixup", pairing="same_class")
    with pytest.warns(UserWarning, match="8 of 8 samples came out unmixed, because pairing='same_class' made them"):
        MiAMixCollator(10, config, seed=0)(samples)
    with pytest.warns(UserWarning, match="set p_self=0 and draw batches in which pairing='same_class' finds partners"):
        MiAMix(10, config)(np.zeros((8, 4, 4, 3), np.uint8), range(8), rng=np.random.default_rng(0))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        MiAMixCollator(10, config, seed=0)([(image, label // 4) for image, label in samples])


def test_no_function_pairs_what_is_evaluated():
    def pairing(labels, generator):
        raise AssertionError

    samples = [(np.zeros((4, 4, 3), np.uint8), label) for label in range(8)]
    _, targets = MiAMixCollator(10, MiAMixConfig(pairing=pairing), seed=0).plain()(samples)
    assert (targets.argmax(dim=1) == torch.arange(8)).all()
