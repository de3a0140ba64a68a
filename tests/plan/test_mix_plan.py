import dataclasses

import numpy as np
import pytest

from miamix_cpu import AttentiveCutMixOptions, FMixOptions, GridMixOptions, MiAMix, MiAMixConfig, MixPlan
from miamix_cpu.methods import METHODS

EVERYTHING = MiAMixConfig(methods=METHODS, weights=(1,) * len(METHODS), k_max=4, p_aug=0.5)


@pytest.mark.parametrize("config", [
    EVERYTHING, EVERYTHING.replace(merge="sum", lam_from="orig", second_view="shared"),
    EVERYTHING.replace(fmix=FMixOptions(decay=0.8), gridmix=GridMixOptions(pattern="random"),
                       attentivecutmix=AttentiveCutMixOptions(cells="ratio", guide="spectral")),
    *(MiAMixConfig(methods=(method,), weights=(1,), k_max=2, p_aug=0.5) for method in METHODS[6:]),
])  # fmt: skip
def test_a_saved_plan_gives_the_same_bytes(config, tmp_path, rng):
    images = rng.integers(0, 256, (9, 70, 40, 3), dtype=np.uint8)
    second = rng.integers(0, 256, (9, 70, 40, 3), dtype=np.uint8)
    mix = MiAMix(9, config, return_masks=True)
    batch = mix(images, np.arange(9), rng=rng, second=second)
    batch.plan.save(tmp_path / "plan.npz")
    plan = MixPlan.load(tmp_path / "plan.npz")
    again = mix.render(plan, images, np.arange(9), second=second)
    for name in ("images", "targets", "lam", "partner", "masks"):
        assert getattr(again, name).tobytes() == getattr(batch, name).tobytes(), name
    assert [again.describe(i) for i in range(9)] == [batch.describe(i) for i in range(9)]
    assert (plan.merge, plan.lam_from, plan.second_view, plan.key) == (
        config.merge, config.lam_from, config.second_view, None)  # fmt: skip


@pytest.mark.parametrize("method", METHODS[9:])
def test_a_saved_plan_is_aimed_again_by_the_same_maps(method, tmp_path, rng):
    """And by other maps elsewhere: a plan holds what was drawn, and what it looked at last."""
    images = rng.integers(0, 256, (9, 20, 16, 3), dtype=np.uint8)
    maps, others = rng.random((2, 9, 10, 8))
    mix = MiAMix(9, MiAMixConfig.plain(method, p_self=0.0))
    batch = mix(images, np.arange(9), rng=rng, maps=maps)
    batch.plan.save(tmp_path / "plan.npz")
    plan = MixPlan.load(tmp_path / "plan.npz")
    np.testing.assert_array_equal(plan.layers, batch.plan.layers)
    np.testing.assert_array_equal(plan.coefficients, batch.plan.coefficients)
    for given, same in ((others, False), (maps, True)):
        again = mix.render(plan, images, np.arange(9), maps=given)
        assert (again.images.tobytes() == batch.images.tobytes()) == same
        plan = again.plan


def test_a_saved_plan_holds_no_pickle(tmp_path, rng):
    MiAMix(3).plan(4, 8, 8, rng=rng).save(tmp_path / "plan.npz")
    with np.load(tmp_path / "plan.npz", allow_pickle=False) as file:
        assert all(file[name].dtype != object for name in file.files)


def test_files_that_are_no_plans(tmp_path, rng):
    with pytest.raises(FileNotFoundError):
        MixPlan.load(tmp_path / "none.npz")
    (tmp_path / "text.npz").write_text("not a zip file")
    with pytest.raises(ValueError, match=r"text.npz is not a saved plan"):
        MixPlan.load(tmp_path / "text.npz")
    np.savez(tmp_path / "other.npz", a=np.zeros(3))
    with pytest.raises(ValueError, match=r"other.npz is not a plan that can be rendered"):
        MixPlan.load(tmp_path / "other.npz")


BREAKS = {
    "partner must be a sample": lambda p: {"partner": p.partner + 100},
    "first_layer must rise": lambda p: {"first_layer": p.first_layer[::-1].copy()},
    "coefficients must be finite": lambda p: {"coefficients": p.coefficients * np.nan},
    "coefficients must be finite, at most": lambda p: {"coefficients": p.coefficients * np.float32(3e37)},
    "decay must be at least 0": lambda p: {"layers": changed(p, "decay", -1000)},
    "blocks must lie inside": lambda p: {"coefficients": p.coefficients[:1]},
    "height and width": lambda p: {"height": 0},
    "merge must be": lambda p: {"merge": "max"},
    "lam_from must be": lambda p: {"lam_from": "max"},
    "second_view must be": lambda p: {"second_view": "max"},
    "key must be 16 bytes": lambda p: {"key": b"short"},
    "mixes must be 'images' or 'features'": lambda p: {"mixes": "both"},
    "depth must be in": lambda p: {"depth": 1.0},
    "level must be in": lambda p: {"layers": changed(p, "level", -0.1)},
    r"level must be in \[0, 1\]": lambda p: {"layers": changed(p, "level", 1.1)},
    "guide must be a known code": lambda p: {"layers": changed(p, "guide", 3)},
    "method must be a known code": lambda p: {"layers": changed(p, "method", 77)},
    "ratio must be in": lambda p: {"layers": changed(p, "ratio", 1.5)},
    "layers must be finite": lambda p: {"layers": changed(p, "angle", np.inf)},
    "dither must be in": lambda p: {"layers": changed(p, "dither", 1.0)},
    "window must be odd": lambda p: {"layers": changed(p, "window", 4)},
    "window must be at most 181": lambda p: {"layers": changed(p, "window", 183)},
    "cells must be at least 1": lambda p: {"layers": changed(p, "cells", 0)},
    "blocks must not be negative": lambda p: {"layers": changed(p, "start", -5)},
    "fmix must have harmonics below": lambda p: {"width": 3, "height": 3},
    "fmix must have harmonics": lambda p: {"layers": changed(p, "rows", 4, "fmix")},
    "a field of fmix must": lambda p: {"layers": changed(p, "is_field", True)},
    "gridmix must have a block": lambda p: {"layers": changed(p, "columns", 3, "gridmix")},
    "saliencymix must name a guide": lambda p: {"layers": changed(p, "guide", 0, "saliencymix")},
    "attentivecutmix must name a guide": lambda p: {"layers": changed(p, "guide", 0, "attentivecutmix")},
    "guidedmixup must name a guide": lambda p: {"layers": changed(p, "guide", 0, "guidedmixup")},
    "attentivecutmix must have a block with all its cells": lambda p: {
        "layers": changed(p, "columns", 3, "attentivecutmix")
    },
    "attentivecutmix's cells must be 0 or 1": lambda p: {"coefficients": set_block(p, 0.5, "attentivecutmix")},
    "guidedmixup must have a block of 1 to 64 pixels a side": lambda p: {
        "layers": changed(p, "rows", 0, "guidedmixup")
    },
    r"guidedmixup's hole must be in \[0, 1\]": lambda p: {"coefficients": set_block(p, 1.5, "guidedmixup")},
}


def changed(plan, name, value, method=None):
    layers = plan.layers.copy()
    layers[name][slice(None) if method is None else layers["method"] == METHODS.index(method)] = value
    return layers


def set_block(plan, value, method):
    """Coefficients whose last number of the method's last block is `value`."""
    layer, coefficients = plan.layers[plan.layers["method"] == METHODS.index(method)][-1], plan.coefficients.copy()
    coefficients[layer["start"] + layer["rows"] * layer["columns"] - 1] = value
    return coefficients


@pytest.mark.parametrize(("side", "start"), [(3037000500, 0), (2**32, 0), (3, 2**63 - 5)])
@pytest.mark.parametrize("method", ["gridmix", "fmix", "attentivecutmix", "guidedmixup"])
def test_a_block_so_large_that_its_end_overflows_is_refused(method, side, start, rng):
    plan = MiAMix(3, EVERYTHING).plan(30, 16, 16, rng=rng)
    for name, value in (("rows", side), ("columns", side), ("cells", side), ("start", start)):
        plan = dataclasses.replace(plan, layers=changed(plan, name, value, method))
    with pytest.raises(ValueError, match="blocks must lie inside"):
        plan.checked()


@pytest.mark.parametrize("name", ["is_field", "cells", "rows", "columns"])
def test_a_block_of_random_cells_must_be_one_number_a_cell(name, rng):
    config = EVERYTHING.replace(gridmix=GridMixOptions(cells=(3, 4), pattern="random"))
    plan = MiAMix(3, config).plan(30, 16, 16, rng=rng).checked()
    broken = dataclasses.replace(
        plan,
        layers=changed(plan, name, {"is_field": False}.get(name, 2), "gridmix"),
        coefficients=np.zeros(3 * len(plan.coefficients), np.float32),
    )
    with pytest.raises(ValueError, match="gridmix must have a block with all its cells, or no block"):
        broken.checked()


def test_random_cells_must_be_0_or_1(rng):
    """Any other number would lead masks and lam out of [0, 1]."""
    config = EVERYTHING.replace(gridmix=GridMixOptions(cells=(3, 4), pattern="random"))
    plan = MiAMix(3, config).plan(30, 16, 16, rng=rng).checked()
    for value in (0.5, -1.0, 2.0):
        for method in ("gridmix", "attentivecutmix"):
            with pytest.raises(ValueError, match=f"{method}'s cells must be 0 or 1"):
                dataclasses.replace(plan, coefficients=set_block(plan, value, method)).checked()


@pytest.mark.parametrize(("method", "name", "value"), [
    ("attentivecutmix", "is_field", False), ("attentivecutmix", "cells", 0), ("attentivecutmix", "cells", 8),
    ("attentivecutmix", "rows", 6), ("guidedmixup", "is_field", False), ("guidedmixup", "rows", 65),
    ("guidedmixup", "columns", 65), ("guidedmixup", "columns", 0),
])  # fmt: skip
def test_a_block_that_a_guide_fills_must_have_its_size(method, name, value, rng):
    """Whatever is written or read of it lies inside."""
    plan = MiAMix(3, EVERYTHING).plan(30, 16, 16, rng=rng).checked()
    layers, room = changed(plan, name, value, method), np.zeros(40 * len(plan.coefficients), np.float32)
    with pytest.raises(ValueError, match=f"{method} must have a block"):
        dataclasses.replace(plan, layers=layers, coefficients=room).checked()


@pytest.mark.parametrize("value", [-0.01, 1.01])
def test_a_hole_of_guides_must_be_in_range(value, rng):
    plan = MiAMix(3, EVERYTHING).plan(30, 16, 16, rng=rng).checked()
    with pytest.raises(ValueError, match=r"guidedmixup's hole must be in \[0, 1\]"):
        dataclasses.replace(plan, coefficients=set_block(plan, value, "guidedmixup")).checked()


@pytest.mark.parametrize("words", BREAKS)
def test_a_damaged_plan_is_refused(words, tmp_path, rng):
    """Kernels trust a plan, so a file must not bring one that reads past an array."""
    plan = MiAMix(3, EVERYTHING).plan(60, 16, 16, rng=rng)
    broken = dataclasses.replace(plan, **BREAKS[words](plan))
    broken.save(tmp_path / "plan.npz")
    with pytest.raises(ValueError, match=words):
        MixPlan.load(tmp_path / "plan.npz")
    with pytest.raises(ValueError, match=words):
        MiAMix(3, EVERYTHING).render(broken, np.zeros((60, 16, 16), np.uint8), np.zeros(60, int))


def test_description_in_words():
    config = EVERYTHING.replace(p_self=0.3, k_max=3)
    plan = MiAMix(3, config).plan(300, 64, 64, rng=np.random.default_rng(0))
    words = [plan.describe(i) for i in range(300)]
    assert all("\n" not in line for line in words)
    for i, line in enumerate(words):
        partner = plan.partner[i]
        assert line.startswith(
            f"sample {i} with " + ("another view of itself" if partner == i else f"sample {partner}")
        )
        layers = plan.layers_of(i)
        assert line.count(" then ") == len(layers) - 1
        for layer, part in zip(layers, line.split(": ", 1)[1].split(" then "), strict=True):
            assert part.startswith(f"{METHODS[layer['method']]} {layer['ratio']:.2f}")
            assert ("rotated" in part) == bool(layer["augmented"])
            assert (f"smoothed {layer['window']} px" in part) == bool(layer["window"])
    with pytest.raises(IndexError, match=r"sample must be in \[0, 299\], got 300"):
        plan.describe(300)
    with pytest.raises(IndexError):
        plan.describe(-1)


def test_description_of_what_is_not_mixed(rng):
    plan = MiAMix(3, MiAMixConfig.plain("mixup", p_self=1.0)).plan(2, 4, 4, rng=rng)
    assert plan.describe(0).startswith("sample 0 with itself: mixup")
    empty = dataclasses.replace(plan, layers=plan.layers[:0], first_layer=np.zeros(3, np.int64))
    assert empty.describe(1) == "sample 1, not mixed"


def test_who_needs_a_second_view(rng):
    plan = MiAMix(3, MiAMixConfig(p_self=0.5)).plan(50, 4, 4, rng=rng)
    assert plan.needs_second_view == np.unique(plan.partner).tolist()
    nothing = dataclasses.replace(plan, layers=plan.layers[:0], first_layer=np.zeros(51, np.int64))
    assert nothing.needs_second_view == []
    assert not nothing.mixed.any()
