"""What `explore` shows: controls and configurations, the code of a scene, its pictures."""

import dataclasses
import re

import cv2
import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

import miamix_cpu
from miamix_cpu import (
    AGMixOptions,
    AttentiveCutMixOptions,
    CutMixOptions,
    FMixOptions,
    GridMixOptions,
    GuidedMixupOptions,
    HMixOptions,
    MiAMixConfig,
    ResizeMixOptions,
    SaliencyMixOptions,
    SmoothMixOptions,
)
from miamix_cpu.cli import UserError, explore
from miamix_cpu.cli.explore import Scene, draw
from miamix_cpu.cli.explore_code import code_of, config_code
from miamix_cpu.cli.explore_controls import _RANGES, CONTROLS, PRESETS, config_of, preset_of, values_of
from miamix_cpu.cli.explore_html import gallery_html, histogram_html, problem_html
from miamix_cpu.methods import METHODS
from tests.cli.common import executed

OTHER = MiAMixConfig(
    alpha=0.35, k_min=2, k_max=5, methods=METHODS, weights=(1, 2, 0.5, 3, 4, 5, 1.5, 2.5, 3.5, 4.5, 5.5, 6),
    ratio_range=(0.1, 0.8), pairing="other_class", p_self=0.4, p_aug=0.6, p_smooth=0.7, merge="sum", lam_from="orig", gauss_scale="area",
    second_view="shared", angle_max=30, shear_max=0.25, smooth_max=0.3,
    cutmix=CutMixOptions(inside=True, minmax=(0.3, 0.6)), fmix=FMixOptions(decay=2.1),
    gridmix=GridMixOptions(cells=(3, 5), pattern="random"), agmix=AGMixOptions(q_max=0.5), hmix=HMixOptions(share=0.3),
    smoothmix=SmoothMixOptions(sigma=(0.2, 0.6)), resizemix=ResizeMixOptions(tau=(0.2, 0.7), tau_from="alpha"),
    saliencymix=SaliencyMixOptions(guide="spectral"),
    attentivecutmix=AttentiveCutMixOptions(grid=5, cells=4, guide="spectral"),
    guidedmixup=GuidedMixupOptions(guide="fine_grained"),
)  # fmt: skip


def leaves(options):
    """The names of all fields, an option's with its method's before it."""
    for field in dataclasses.fields(options):
        value = getattr(options, field.name)
        if dataclasses.is_dataclass(value):
            yield from (f"{field.name}.{name}" for name in leaves(value))
        else:
            yield field.name


# ---- controls and configurations


def test_every_field_has_a_control():
    shown = {control.name for control in CONTROLS}
    for leaf in leaves(MiAMixConfig()):
        parts = {name for name in shown if name == leaf or name.startswith(f"{leaf}.")}
        assert parts or leaf in ("methods", "mixes", "partners"), leaf
    assert {name for name in shown if name.startswith("weights.")} == {f"weights.{method}" for method in METHODS}
    assert len(shown) == len(CONTROLS)


@pytest.mark.parametrize("control", CONTROLS, ids=lambda control: control.name)
def test_every_control_changes_its_own_field(control):
    values = values_of(OTHER)
    before, (field, _, option) = values[control.name], control.name.partition(".")
    if control.choices:
        other = next(choice for choice in control.choices if choice != before)
    elif control.low is None:
        other = not before
    else:
        other = before + control.step
        unset = field == "alpha" and option  # 0 is the alpha of all methods
        assert unset or control.low < before < control.high
    after = config_of({**values, control.name: other})
    changed = [name for name in OTHER.__dataclass_fields__ if getattr(after, name) != getattr(OTHER, name)]
    assert changed == [field]
    if field in METHODS:
        assert getattr(getattr(after, field), option.split(".")[0]) != getattr(
            getattr(OTHER, field), option.split(".")[0]
        )


@pytest.mark.parametrize("config", [*PRESETS.values(), OTHER])
def test_controls_show_a_configuration(config):
    assert config_of(values_of(config)) == config
    assert set(values_of(config)) == {control.name for control in CONTROLS}
    for control in CONTROLS:
        value = values_of(config)[control.name]
        assert value in control.choices or (isinstance(value, bool) and control.low is None) or (
            control.low <= value <= control.high
        )  # fmt: skip


def test_presets_are_recognised():
    assert preset_of(MiAMixConfig()) == "Table 1 of the paper"
    assert preset_of(MiAMixConfig.plain("fmix")) == "fmix"
    assert preset_of(OTHER) is None


@pytest.mark.parametrize(("changes", "words"), [
    ({"k_min": 3}, "k_min must be at most k_max=2, got 3"),
    ({f"weights.{method}": 0 for method in METHODS}, "weights must not all be 0"),
    ({"cutmix.minmax": True, "cutmix.minmax.low": 0.9}, r"cutmix.minmax must be \(low, high\) with 0 <= low <= high <= 1"),
    ({"gridmix.cells.low": 9}, "gridmix.cells must be"),
])  # fmt: skip
def test_wrong_combinations_are_the_librarys_own_errors(changes, words):
    with pytest.raises(ValueError, match=words):
        config_of({**values_of(MiAMixConfig()), **changes})


@pytest.mark.parametrize("changes", [{"seed": None}, {"seed": -1}, {"rows": 0}, {"size": 0}])
def test_a_scene_is_checked(changes):
    with pytest.raises((TypeError, ValueError), match=next(iter(changes))):
        Scene(**{"config": MiAMixConfig(), "seed": 0, "rows": 1, "size": 8, **changes})


def settings():
    """What sliders, boxes and choices can be set to."""

    def of(control):
        if control.choices:
            return st.sampled_from(control.choices)
        if control.low is None:
            return st.booleans()
        steps = st.integers(0, round((control.high - control.low) / control.step))
        whole = isinstance(control.step, int)
        return steps.map(
            lambda n: control.low + n * control.step if whole else round(control.low + n * control.step, 6)
        )

    return st.fixed_dictionaries({control.name: of(control) for control in CONTROLS}).map(in_order)


def in_order(values):
    """Both ends of a range in order, and not all weights 0: hardly any setting of the sliders is valid otherwise."""
    for low, high in (
        ("k_min", "k_max"),
        *((f"{name}.low", f"{name}.high") for name in ("cutmix.minmax", *_RANGES)),
    ):
        values[low], values[high] = sorted((values[low], values[high]))
    values["attentivecutmix.cells"] = min(values["attentivecutmix.cells"], values["attentivecutmix.grid"] ** 2)
    return values


@given(settings())
def test_code_of_a_configuration_is_the_configuration(values):
    try:
        config = config_of(values)
    except ValueError:
        assume(False)
    code, classes = config_code(config)
    names = {name: getattr(miamix_cpu, name) for name in ["MiAMixConfig", *classes]}
    assert executed(f"config = {code}", **names)["config"] == config
    assert max(map(len, f"config = {code}".splitlines())) <= 120


def test_code_holds_only_what_differs():
    assert config_code(MiAMixConfig()) == ("MiAMixConfig()", [])
    config = MiAMixConfig(alpha=0.5, methods=("cutmix",), weights=(1,))
    assert config_code(config) == ('MiAMixConfig(alpha=0.5, methods=("cutmix",), weights=(1,))', [])
    code, classes = config_code(MiAMixConfig(gridmix=GridMixOptions(cells=(2, 3))))
    assert (code, classes) == ("MiAMixConfig(gridmix=GridMixOptions(cells=(2, 3)))", ["GridMixOptions"])


# ---- pictures


@pytest.mark.parametrize("config", [MiAMixConfig(p_self=0.3), OTHER, MiAMixConfig.plain("cutmix")])
def test_rows_are_what_the_code_makes(config):
    scene = Scene(config, 5, 9, 24)
    rows = draw(scene, explore.default_pictures())
    batch = executed(code_of(scene))["batch"]
    assert len(rows) == 9
    for i, row in enumerate(rows):
        np.testing.assert_array_equal(row.mixed, batch.images[i].permute(1, 2, 0).numpy())
        assert row.caption.startswith(batch.describe(i))
        mask = row.mask[..., None]
        if "resizemix" in row.caption:  # shows the second view resized
            continue
        assert np.abs(mask * row.first + (1 - mask) * row.second - row.mixed).max() < 0.6
        if config.second_view == "shared":
            np.testing.assert_array_equal(row.second, rows[int(batch.partner[i])].first)


def test_a_scene_of_uploads_is_read_by_name(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    for name in ('a "b".png', "ü.png"):
        cv2.imwrite(str(tmp_path / name), rng.integers(0, 256, (40, 50, 3), dtype=np.uint8))
    pictures = explore.read_uploads([str(path) for path in sorted(tmp_path.iterdir())])
    scene = Scene(MiAMixConfig(), 1, 3, 16, tuple(name for name, _ in pictures))
    monkeypatch.chdir(tmp_path)
    images = executed(code_of(scene))["batch"].images
    for i, row in enumerate(draw(scene, pictures)):
        np.testing.assert_array_equal(row.mixed, images[i].permute(1, 2, 0).numpy())


def test_a_histogram_has_a_bar_a_bin():
    drawn = histogram_html(np.array([0.0, 0.01, 0.5, 1.0], np.float32))
    heights = [float(height) for height in re.findall(r'height="([0-9.]+)"', drawn)]
    assert [i for i, height in enumerate(heights) if height] == [0, 20, 39]
    assert heights[0] == 2 * heights[20] == 2 * heights[39] == 100
    assert "50% below 0.05, 25% above 0.95" in drawn


def test_lam_is_measured():
    lam = explore.measure_lam(MiAMixConfig.plain("mixup"), 0)
    assert lam.shape == (explore.LAM_SAMPLES,)
    assert abs(lam.mean() - 0.5) < 3 * np.sqrt(1 / 12 / len(lam))
    np.testing.assert_array_equal(lam, explore.measure_lam(MiAMixConfig.plain("mixup"), 0))
    extreme = explore.measure_lam(MiAMixConfig.plain("mixup", alpha=0.05), 0)
    assert ((extreme < 0.05) | (extreme > 0.95)).mean() > 0.8


def test_an_upload_is_read_once(tmp_path):
    """The page's server removes uploads after a day; those on show stay, another's absence is told."""
    path = tmp_path / "mine.png"
    cv2.imwrite(str(path), np.full((4, 5, 3), 7, np.uint8))
    ((_, before),) = explore.read_uploads([str(path)])
    path.unlink()
    ((_, after),) = explore.read_uploads([str(path)])
    assert after is before
    with pytest.raises(UserError, match=r"other\.png no longer exists: upload it again"):
        explore.read_uploads([str(tmp_path / "other.png")])


def test_bad_uploads(bad, tmp_path):
    for path, words in bad.items():
        with pytest.raises(UserError, match=words):
            explore.read_uploads([str(path)])
    good = tmp_path / "good.png"
    cv2.imwrite(str(good), np.zeros((8, 8, 3), np.uint8))
    with pytest.raises(UserError, match=r"two pictures are called good\.png"):
        explore.read_uploads([str(good), str(good)])
    with pytest.raises(UserError, match="17 pictures are too many: at most 16"):
        explore.read_uploads([str(good)] * 17)


def test_names_are_escaped():
    rows = draw(Scene(MiAMixConfig(), 0, 1, 8, ("<b>.png",)), [("<b>.png", np.zeros((9, 9, 3), np.uint8))])
    assert "<b>" not in gallery_html(rows)
    assert "&lt;b&gt;.png" in gallery_html(rows)
    assert "<b>" not in problem_html("<b>")
