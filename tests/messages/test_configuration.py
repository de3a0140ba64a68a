"""What a newcomer gives for the configuration."""

import pytest

from miamix_cpu import MiAMix, MiAMixBatch, MiAMixCollator, MiAMixConfig


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


@pytest.mark.parametrize(("name", "guess"), [("cutmx", True), ("agmx", True), ("resizemix", False), ("puzzle", False)])
def test_no_name_is_suggested_that_is_not_near(name, guess):
    with pytest.raises(ValueError, match=r"The methods are mixup, cutmix") as caught:
        MiAMixConfig.plain(name)
    assert ("did you mean" in str(caught.value)) == guess
