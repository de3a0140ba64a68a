import dataclasses
import pickle

import numpy as np
import pytest

from miamix_cpu import (
    AGMixOptions,
    AttentiveCutMixOptions,
    CutMixOptions,
    FMixOptions,
    GridMixOptions,
    GuidedMixupOptions,
    HMixOptions,
    MiAMix,
    MiAMixConfig,
    ResizeMixOptions,
    SaliencyMixOptions,
    SmoothMixOptions,
)
from miamix_cpu.methods import METHODS

pytestmark = pytest.mark.filterwarnings("ignore:.*come out unmixed")

TABLE_1 = {
    "alpha": 1.0, "k_min": 1, "k_max": 2, "methods": ("mixup", "cutmix", "fmix", "gridmix", "agmix"),
    "weights": (2, 1, 1, 1, 1), "p_self": 0.10, "p_aug": 0.25, "p_smooth": 0.5, "merge": "mul", "lam_from": "merged",
    "gauss_scale": "paper",
}  # fmt: skip


def test_the_default_is_table_1():
    config = MiAMixConfig()
    assert {name: getattr(config, name) for name in TABLE_1} == TABLE_1


def test_ranges_that_the_paper_leaves_open():
    config = MiAMixConfig()
    assert (config.angle_max, config.shear_max, config.smooth_max, config.gridmix.pattern) == (
        180,
        0.5,
        0.25,
        "regular",
    )


def ablations():
    """The rows of Tables 4 to 8: methods and weights, k, mask augmentation, merging and lam, self-mixing."""
    five = MiAMixConfig().methods
    for weights in ((1, 1, 1, 1, 1), (2, 1, 1, 1, 1), (1, 2, 1, 1, 1), (1, 1, 1, 1, 2)):
        yield f"4-{weights}", {"weights": weights}
    for left_out in five:
        methods = tuple(name for name in five if name != left_out)
        yield f"4-without-{left_out}", {"methods": methods, "weights": (1,) * 4}
    for k in (1, 2, 3, 4):
        yield f"5-k={k}", {"k_min": k, "k_max": k}
        yield f"5-k<={k}", {"k_max": k}
    for p_aug in (0, 0.25, 0.5, 1):
        for p_smooth in (0, 0.25, 0.5, 1):
            yield f"6-aug={p_aug}-smooth={p_smooth}", {"p_aug": p_aug, "p_smooth": p_smooth}
    for merge in ("mul", "sum"):
        for lam_from in ("merged", "orig"):
            yield f"7-{merge}-{lam_from}", {"merge": merge, "lam_from": lam_from}
    for p_self in (0, 0.05, 0.1, 0.2, 0.3, 0.5, 1):
        yield f"8-self={p_self}", {"p_self": p_self}


@pytest.mark.parametrize("changes", [pytest.param(c, id=name) for name, c in ablations()])
def test_every_row_of_tables_4_to_8_is_a_configuration(changes, rng):
    config = MiAMixConfig(**changes)
    images = rng.integers(0, 256, (6, 12, 10, 3), dtype=np.uint8)
    batch = MiAMix(6, config)(images, np.arange(6), rng=rng)
    np.testing.assert_allclose(batch.targets.sum(axis=1), 1, atol=1e-6)
    for name, value in changes.items():
        assert getattr(config, name) == value


@pytest.mark.parametrize("method", METHODS)
def test_plain_is_the_published_baseline(method):
    config = MiAMixConfig.plain(method)
    assert (config.methods, config.k_min, config.k_max) == ((method,), 1, 1)
    assert (config.p_self, config.p_aug, config.p_smooth, config.second_view) == (0, 0, 0, "shared")
    assert MiAMixConfig.plain(method, alpha=0.2, p_self=0.5).p_self == 0.5


def test_plain_of_several_methods_chooses_one_of_them():
    config = MiAMixConfig.plain("mixup", "cutmix", "hmix", weights={"hmix": 3, "mixup": 1, "cutmix": 0})
    assert (config.methods, config.weights) == (("mixup", "cutmix", "hmix"), (1.0, 0.0, 3.0))
    assert MiAMixConfig.plain("fmix", "cutmix").weights == (1.0, 1.0)
    assert config.replace(k_max=2).weights == config.weights


def test_numbers_by_method_are_kept_as_a_tuple_in_the_methods_order():
    config = MiAMixConfig.plain("cutmix", "mixup", alpha={"mixup": 2, "cutmix": np.float32(0.5)})
    assert config.alpha == (0.5, 2.0)
    assert [type(value) for value in config.alpha] == [float, float]
    assert config == MiAMixConfig.plain("cutmix", "mixup", alpha=[0.5, 2])
    assert hash(config) == hash(config.replace())
    assert pickle.loads(pickle.dumps(config)) == config
    by_code = dict(zip(METHODS, config.alphas, strict=True))
    assert (by_code["cutmix"], by_code["mixup"]) == (0.5, 2.0)
    assert MiAMixConfig(alpha=3).alphas == 3.0
    assert isinstance(MiAMixConfig(alpha=3).alpha, float)


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16, np.int64, object])
def test_arrays_are_kept_as_tuples_of_pythons_floats(dtype):
    numbers = np.array([0.5, 2], dtype) + 1
    given = numbers.tolist()
    config = MiAMixConfig.plain("cutmix", "mixup", alpha=numbers, weights=numbers[::-1])
    assert (config.alpha, config.weights) == (tuple(given), tuple(given[::-1]))
    assert {type(value) for value in config.alpha + config.weights} == {float}
    assert config == MiAMixConfig.plain("cutmix", "mixup", alpha=given, weights=given[::-1])
    assert hash(config) == hash(config.replace())
    assert "array" not in repr(config)
    numbers[:] = 7
    assert config.alpha == tuple(given)


BASELINE = {"k_min": 1, "k_max": 1, "p_self": 0, "p_aug": 0, "p_smooth": 0, "second_view": "shared", "alpha": 1.0}
#: Each recipe's methods, all with equal weights, and what differs from `BASELINE`.
RECIPES = {
    **{name: ((name,), {}) for name in METHODS},
    "gridmix-cells": (("gridmix",), {"gridmix": GridMixOptions(pattern="random")}),
    "randommix": (("mixup", "cutmix", "fmix", "resizemix"), {}),
    "manifold-mixup": (("mixup",), {"alpha": 2.0, "mixes": "features"}),
    "deit": (("mixup", "cutmix"), {"alpha": (0.8, 1.0)}),
    "torchvision": (("mixup", "cutmix"), {"alpha": (0.2, 1.0)}),
    "rsb-a1": (("mixup", "cutmix"), {"alpha": (0.2, 1.0)}),
    "rsb-a2": (("mixup", "cutmix"), {"alpha": (0.1, 1.0)}),
}


def test_recipes_are_what_was_published():
    assert set(MiAMixConfig.recipes()) == {"miamix", *RECIPES}
    assert all(isinstance(source, str) and len(source) > 10 for source in MiAMixConfig.recipes().values())
    assert MiAMixConfig.recipe("miamix") == MiAMixConfig()
    for name, (methods, changes) in RECIPES.items():
        wanted = {**BASELINE, "methods": methods, "weights": (1.0,) * len(methods), **changes}
        assert MiAMixConfig.recipe(name) == MiAMixConfig(**wanted), name


def test_a_recipe_may_be_changed():
    changed = MiAMixConfig.recipe("deit", p_self=0.1, alpha=2)
    assert changed == MiAMixConfig.recipe("deit").replace(p_self=0.1, alpha=2.0)
    assert MiAMixConfig.recipe("miamix", k_max=4) == MiAMixConfig(k_max=4)


@pytest.mark.parametrize("name", ["miamix", *RECIPES])
def test_every_recipe_mixes_a_batch(name, rng):
    images = rng.integers(0, 256, (12, 20, 16, 3), dtype=np.uint8)
    config = MiAMixConfig.recipe(name)
    batch = MiAMix(12, config)(images, np.arange(12), rng=rng)
    assert {METHODS[code] for code in batch.plan.layers["method"]} <= set(config.methods)
    np.testing.assert_allclose(batch.targets.sum(axis=1), 1, atol=1e-6)
    assert len(np.unique(batch.lam)) > 1 or name == "attentivecutmix"  # 6 of 7 x 7 cells, but for pixels
    assert (batch.images != images).any() == (config.mixes == "images")


def test_frozen_printable_replaceable_hashable_picklable():
    config = MiAMixConfig(k_max=3, fmix=FMixOptions(decay=2))
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.k_max = 4
    assert "k_max=3" in repr(config)
    assert config.replace(alpha=0.5) == MiAMixConfig(k_max=3, alpha=0.5, fmix=FMixOptions(decay=2))
    assert hash(config) == hash(config.replace())
    assert pickle.loads(pickle.dumps(config)) == config
    with pytest.raises(TypeError):
        MiAMixConfig(1.0)


@pytest.mark.parametrize(
    ("kind", "changes", "error", "words"),
    [
        (MiAMixConfig, {"alpha": 0}, ValueError, "alpha must be above 0 and finite, got 0"),
        (MiAMixConfig, {"alpha": -1.0}, ValueError, "alpha must be above 0"),
        (MiAMixConfig, {"alpha": float("nan")}, ValueError, "alpha must be above 0 and finite, got nan"),
        (MiAMixConfig, {"alpha": "1"}, TypeError, "alpha must be a number, got '1'"),
        (MiAMixConfig, {"k_min": 0}, ValueError, "k_min must be at least 1, got 0"),
        (MiAMixConfig, {"k_min": 3}, ValueError, "k_min must be at most k_max=2, got 3"),
        (MiAMixConfig, {"k_max": 2.0}, TypeError, "k_max must be an integer, got 2.0"),
        (MiAMixConfig, {"methods": ("mixup", "cutmx"), "weights": (1, 1)}, ValueError, "unknown method 'cutmx', did you mean 'cutmix'"),
        (MiAMixConfig, {"methods": ("GridMix",), "weights": (1,)}, ValueError, "did you mean 'gridmix'"),
        (MiAMixConfig, {"methods": (), "weights": ()}, ValueError, "methods must name at least one method"),
        (MiAMixConfig, {"methods": "mixup", "weights": (1,)}, TypeError, "methods must be a tuple of names, got the string 'mixup'"),
        (MiAMixConfig, {"methods": ("mixup", "mixup"), "weights": (1, 1)}, ValueError, "methods must not contain a name twice"),
        (MiAMixConfig, {"weights": (1, 1)}, ValueError, "weights must have one number for each of .*, got 2"),
        (MiAMixConfig, {"weights": (2, 1, 1, 1, -1)}, ValueError, "weights must be at least 0 and finite, got -1"),
        (MiAMixConfig, {"weights": (0, 0, 0, 0, 0)}, ValueError, "weights must not all be 0"),
        (MiAMixConfig, {"p_self": 1.5}, ValueError, r"p_self must be in \[0, 1\], got 1.5"),
        (MiAMixConfig, {"p_aug": -0.1}, ValueError, r"p_aug must be in \[0, 1\], got -0.1"),
        (MiAMixConfig, {"p_smooth": None}, TypeError, "p_smooth must be a number, got None"),
        (MiAMixConfig, {"merge": "product"}, ValueError, "merge must be 'mul' or 'sum', got 'product'"),
        (MiAMixConfig, {"lam_from": "mean"}, ValueError, "lam_from must be 'merged' or 'orig', got 'mean'"),
        (MiAMixConfig, {"gauss_scale": 1}, ValueError, "gauss_scale must be 'paper' or 'area', got 1"),
        (MiAMixConfig, {"second_view": "own"}, ValueError, "second_view must be 'independent' or 'shared', got 'own'"),
        (MiAMixConfig, {"angle_max": 200}, ValueError, r"angle_max must be in \[0, 180\], got 200"),
        (MiAMixConfig, {"shear_max": -1}, ValueError, r"shear_max must be in \[0, 10\], got -1"),
        (MiAMixConfig, {"smooth_max": 0}, ValueError, r"smooth_max must be in \(0, 1\], got 0"),
        (MiAMixConfig, {"smooth_max": 1e5}, ValueError, r"smooth_max must be in \(0, 1\], got 100000"),
        (MiAMixConfig, {"shear_max": 1e200}, ValueError, r"shear_max must be in \[0, 10\], got 1e\+200"),
        (MiAMixConfig, {"fmix": 3.0}, TypeError, "fmix must be a FMixOptions, got 3.0"),
        (CutMixOptions, {"minmax": (0.5, 0.2)}, ValueError, r"cutmix.minmax must be \(low, high\) with 0 <= low <= high <= 1"),
        (CutMixOptions, {"minmax": 0.5}, TypeError, "cutmix.minmax must be a pair"),
        (CutMixOptions, {"inside": 1}, TypeError, "cutmix.inside must be True or False, got 1"),
        (FMixOptions, {"decay": -1}, ValueError, r"fmix.decay must be in \[0, 100\], got -1"),
        (GridMixOptions, {"cells": (4, 2)}, ValueError, r"gridmix.cells must be \(low, high\) with low <= high"),
        (GridMixOptions, {"cells": (0, 2)}, ValueError, "gridmix.cells must be at least 1, got 0"),
        (GridMixOptions, {"cells": (1.5, 2)}, TypeError, "gridmix.cells must be an integer, got 1.5"),
        (GridMixOptions, {"pattern": "hexagonal"}, ValueError, "gridmix.pattern must be 'regular' or 'random'"),
        (AGMixOptions, {"q_max": 1}, ValueError, r"agmix.q_max must be in \[0, 1\), got 1"),
        (MiAMixConfig, {"ratio_range": (0.5, 0.2)}, ValueError, r"ratio_range must be \(low, high\) with 0 <= low <= high <= 1, got \(0.5, 0.2\)"),
        (MiAMixConfig, {"ratio_range": (-0.1, 1)}, ValueError, "ratio_range must be .* with 0 <= low"),
        (MiAMixConfig, {"ratio_range": (0, 1.1)}, ValueError, "ratio_range must be .* high <= 1"),
        (MiAMixConfig, {"ratio_range": (float("nan"), 1)}, ValueError, r"ratio_range must be .*, got \(nan, 1\)"),
        (MiAMixConfig, {"ratio_range": 0.5}, TypeError, r"ratio_range must be a pair \(low, high\), got 0.5"),
        (MiAMixConfig, {"ratio_range": (0, 0.5, 1)}, TypeError, "ratio_range must be a pair"),
        (MiAMixConfig, {"ratio_range": ("0", "1")}, TypeError, "ratio_range must be a pair"),
        (MiAMixConfig, {"hmix": 0.5}, TypeError, "hmix must be a HMixOptions, got 0.5"),
        (MiAMixConfig, {"saliencymix": "spectral"}, TypeError, "saliencymix must be a SaliencyMixOptions, got 'spectral'"),
        (MiAMixConfig, {"resizemix": SmoothMixOptions()}, TypeError, "resizemix must be a ResizeMixOptions, got SmoothMixOptions"),
        (HMixOptions, {"share": 1.1}, ValueError, r"hmix.share must be in \[0, 1\], got 1.1"),
        (HMixOptions, {"share": -0.1}, ValueError, r"hmix.share must be in \[0, 1\], got -0.1"),
        (HMixOptions, {"share": "half"}, TypeError, "hmix.share must be a number, got 'half'"),
        (SmoothMixOptions, {"sigma": (0.5, 0.25)}, ValueError, r"smoothmix.sigma must be \(low, high\) with 0 <= low <= high <= 10"),
        (SmoothMixOptions, {"sigma": (-0.1, 0.25)}, ValueError, "smoothmix.sigma must be .* with 0 <= low"),
        (SmoothMixOptions, {"sigma": (0.5, 11)}, ValueError, "smoothmix.sigma must be .* high <= 10"),
        (SmoothMixOptions, {"sigma": 0.3}, TypeError, "smoothmix.sigma must be a pair"),
        (ResizeMixOptions, {"tau": (0.8, 0.1)}, ValueError, r"resizemix.tau must be \(low, high\) with 0 <= low <= high <= 1"),
        (ResizeMixOptions, {"tau": (0.1, 1.2)}, ValueError, "resizemix.tau must be .* high <= 1"),
        (ResizeMixOptions, {"tau": 0.5}, TypeError, "resizemix.tau must be a pair"),
        (ResizeMixOptions, {"tau_from": "beta"}, ValueError, "resizemix.tau_from must be 'uniform' or 'alpha', got 'beta'"),
        (SaliencyMixOptions, {"guide": "gradcam"}, ValueError, "saliencymix.guide must be 'fine_grained' or 'spectral', got 'gradcam'"),
        (AttentiveCutMixOptions, {"guide": None}, ValueError, "attentivecutmix.guide must be 'fine_grained' or 'spectral', got None"),
        (GuidedMixupOptions, {"guide": "edges"}, ValueError, "guidedmixup.guide must be 'fine_grained' or 'spectral', got 'edges'"),
        (AttentiveCutMixOptions, {"grid": 0}, ValueError, "attentivecutmix.grid must be at least 1, got 0"),
        (AttentiveCutMixOptions, {"grid": 65}, ValueError, "attentivecutmix.grid must be at most 64, got 65"),
        (AttentiveCutMixOptions, {"grid": 7.0}, TypeError, "attentivecutmix.grid must be an integer, got 7.0"),
        (AttentiveCutMixOptions, {"cells": 50}, ValueError, r"attentivecutmix.cells must be at most grid \* grid = 49, got 50"),
        (AttentiveCutMixOptions, {"cells": -1}, ValueError, "attentivecutmix.cells must be at least 0, got -1"),
        (AttentiveCutMixOptions, {"cells": "all"}, ValueError, "attentivecutmix.cells must be 'ratio', got 'all'"),
        (AttentiveCutMixOptions, {"cells": 6.5}, TypeError, "attentivecutmix.cells must be an integer, got 6.5"),
    ],
)  # fmt: skip
def test_bad_values_are_named(kind, changes, error, words):
    with pytest.raises(error, match=words):
        kind(**changes)


def test_plain_names_the_nearest_method():
    with pytest.raises(ValueError, match="unknown method 'fmixx', did you mean 'fmix'"):
        MiAMixConfig.plain("fmixx")
