"""MiAMix on arrays: the naive twin, identity, labels that match the pixels, inputs left alone."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from miamix_cpu import (
    AttentiveCutMixOptions,
    CutMixOptions,
    GridMixOptions,
    HMixOptions,
    MiAMix,
    MiAMixConfig,
    ResizeMixOptions,
)
from miamix_cpu.methods import METHODS
from tests import naive

pytestmark = pytest.mark.filterwarnings("ignore:.*come out unmixed", "ignore:float images have")

EVERYTHING = MiAMixConfig(methods=METHODS, weights=(1,) * len(METHODS), k_max=4, p_aug=0.5)
SIZES = [(1, 1), (1, 17), (32, 32), (31, 57), (224, 224)]


def views(n, height, width, channels, dtype, rng):
    shape = (n, height, width, channels) if channels else (n, height, width)
    values = rng.integers(0, 256, (2, *shape), dtype=np.uint8)
    return values if dtype == np.uint8 else (values / np.float32(255)).astype(np.float32)


# The naive twin ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("config", [
    MiAMixConfig(), EVERYTHING, EVERYTHING.replace(merge="sum"), EVERYTHING.replace(lam_from="orig"),
    EVERYTHING.replace(
        gauss_scale="area", gridmix=GridMixOptions(pattern="random"), cutmix=CutMixOptions(inside=True),
        hmix=HMixOptions(share=0.9), resizemix=ResizeMixOptions(tau_from="alpha"),
        attentivecutmix=AttentiveCutMixOptions(grid=5, cells="ratio", guide="spectral"),
    ),
], ids=["table1", "everything", "sum", "orig", "options"])  # fmt: skip
@pytest.mark.parametrize(("height", "width", "channels", "source", "target"), [
    (12, 12, 3, np.uint8, np.uint8), (9, 14, 1, np.uint8, np.float32), (1, 17, 4, np.float32, np.float32),
    (16, 5, 0, np.uint8, np.uint8), (60, 41, 3, np.uint8, np.uint8), (2, 1601, 3, np.uint8, np.float32),
])  # fmt: skip
def test_a_batch_equals_its_naive_twin(config, height, width, channels, source, target, rng):
    first, second = views(10, height, width, channels, source, rng)
    labels = rng.integers(0, 7, 10)
    mix = MiAMix(7, config, dtype=target, return_masks=True)
    batch = mix(first, labels, rng=rng, second=second)
    images, targets, lam, masks = naive.mix(batch.plan, first, second, labels, 7)
    # Pixels on the very edge of a hole may fall on either side in float32: a few in all of these batches.
    off = np.abs(batch.masks - masks) > 1e-5
    assert off.mean() < 0.002
    may_differ = off.mean(axis=(1, 2)) + 2e-6
    assert (np.abs(batch.lam - lam) <= may_differ).all()
    assert (np.abs(batch.targets - targets) <= may_differ[:, None]).all()
    tolerance = np.full(10, 0.5 + 255 / 2**16 if target == np.uint8 else 2e-6)
    if source == np.uint8:  # partners are resized to whole grey levels
        tolerance += [
            0.5 * (len(naive.resized_layers(batch.plan, i)) > 0) / (1 if target == np.uint8 else 255) for i in range(10)
        ]
    if source == np.uint8 and target == np.float32:
        images = images / 255
    error = np.abs(batch.images - images).reshape(*off.shape, -1).max(axis=-1)
    assert (error <= tolerance[:, None, None])[~off].all()


# What must hold ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("source", "dtype"), [("uint8", "uint8"), ("uint8", "float32"), ("float32", "float32")])
@pytest.mark.parametrize("p_self", [0.0, 0.4])
@pytest.mark.parametrize("method", [*METHODS, "all"])
def test_identity(method, p_self, source, dtype, rng):
    """Who is mixed with whom, and by how much, read back from the pixels alone: a resized partner has its colour."""
    n, methods = 60, METHODS if method == "all" else (method,)
    config = EVERYTHING.replace(methods=methods, weights=(1,) * len(methods), k_max=3, p_self=p_self)
    first, second = np.zeros((2, n, 24, 20, 3), dtype=np.uint8)
    first[..., 0] = second[..., 1] = np.arange(n)[:, None, None] * 4
    second[..., 2] = 255
    if source == "float32":
        first, second = first / np.float32(255), second / np.float32(255)
    batch = MiAMix(n, config, dtype=dtype)(first, np.arange(n), rng=rng, second=second)
    means = batch.images.astype(np.float64).mean(axis=(1, 2)) * (1 if dtype == "uint8" else 255)
    lam = 1 - means[:, 2] / 255
    np.testing.assert_allclose(lam, batch.lam, atol=0.5 / 255)
    for i in range(n):
        if 0.1 < lam[i] < 0.9:
            assert round(means[i, 0] / lam[i] / 4) == i or dtype == "uint8"
            assert abs(means[i, 0] / lam[i] / 4 - i) < 2
            assert abs(means[i, 1] / (1 - lam[i]) / 4 - batch.partner[i]) < 2
        if dtype == "float32":
            np.testing.assert_allclose(means[i, 1], 4 * (1 - batch.lam[i]) * batch.partner[i], atol=1e-3)
        expected = np.zeros(n)
        expected[i] += batch.lam[i]
        expected[batch.partner[i]] += 1 - batch.lam[i]
        np.testing.assert_allclose(batch.targets[i], expected, atol=1e-6)


def check_black_and_white(config, height, width, source, target, rng, n=12):
    """First views white, second views black: an image's mean is its lam."""
    white = 255 if source == np.uint8 else 1.0
    first, second = np.full((n, height, width, 3), white, source), np.zeros((n, height, width, 3), source)
    mix = MiAMix(n, config, dtype=target)
    batch = mix(first, np.arange(n), rng=rng, second=second)
    assert np.isfinite(batch.images).all()
    means = batch.images.astype(np.float64).mean(axis=(1, 2, 3)) * (1 if target == "uint8" else 255)
    tolerance = 0.5 + 1e-3 if target == "uint8" else 1e-3
    np.testing.assert_allclose(means, 255 * batch.lam, atol=tolerance)


@pytest.mark.parametrize(("source", "target"), [(np.uint8, "uint8"), (np.uint8, "float32"), (np.float32, "float32")])
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("merge", ["mul", "sum"])
@pytest.mark.parametrize("method", [*METHODS, "all"])
def test_labels_match_the_pixels(method, merge, size, source, target, rng):
    methods = METHODS if method == "all" else (method,)
    for scale in ("paper", "area"):
        config = MiAMixConfig(methods=methods, weights=(1,) * len(methods), k_max=4, p_aug=0.5, p_self=0.2, merge=merge,
                              gauss_scale=scale)  # fmt: skip
        check_black_and_white(config, *size, source, target, rng, n=3 if size[0] > 200 else 12)


@pytest.mark.parametrize(
    "augmentation", [{"p_aug": 1, "p_smooth": 0}, {"p_aug": 0, "p_smooth": 1}, {"p_aug": 1, "p_smooth": 1}]
)
@pytest.mark.parametrize("method", ["cutmix", "fmix", "gridmix", "hmix", "saliencymix", "attentivecutmix"])
def test_labels_match_the_pixels_of_augmented_masks(method, augmentation, rng):
    config = MiAMixConfig(methods=(method,), weights=(1,), k_max=3, **augmentation)
    for pattern in ("regular", "random"):
        changed = config.replace(gridmix=GridMixOptions(pattern=pattern))
        check_black_and_white(changed, 40, 33, np.uint8, "float32", rng)


@given(
    st.integers(1, 9), st.integers(1, 40), st.integers(1, 40), st.sampled_from([1, 3, 4]),
    st.sampled_from([*METHODS]), st.integers(1, 4), st.sampled_from(["mul", "sum"]), st.floats(0.05, 5),
    st.floats(0, 1), st.floats(0, 1), st.floats(0, 1), st.integers(0, 2**32 - 1),
)  # fmt: skip
def test_any_batch(n, height, width, channels, method, k_max, merge, alpha, p_self, p_aug, p_smooth, seed):
    rng = np.random.default_rng(seed)
    config = MiAMixConfig(methods=(method, "mixup") if method != "mixup" else (method,),
                          weights=(3, 1) if method != "mixup" else (1,), k_max=k_max, merge=merge, alpha=alpha,
                          p_self=p_self, p_aug=p_aug, p_smooth=p_smooth)  # fmt: skip
    first, second = views(n, height, width, channels, np.uint8, rng)
    labels = rng.integers(0, 5, n)
    batch = MiAMix(5, config, dtype="float32", return_masks=True)(first, labels, rng=rng, second=second)
    assert np.isfinite(batch.images).all()
    assert batch.images.min() >= 0
    assert batch.images.max() <= 1 + 1e-6
    assert ((batch.masks >= 0) & (batch.masks <= 1)).all()
    np.testing.assert_allclose(batch.lam, batch.masks.mean(axis=(1, 2), dtype=np.float64), atol=1e-6)
    np.testing.assert_allclose(batch.targets.sum(axis=1), 1, atol=1e-6)
    same = labels == labels[batch.partner]
    np.testing.assert_array_equal(batch.targets[same], np.eye(5, dtype=np.float32)[labels[same]])
    others = second[batch.partner]
    low, high = (f(first, others) / np.float32(255) for f in (np.minimum, np.maximum))
    if method == "resizemix":  # any pixel of the partner may show
        least, most = others.min(axis=(1, 2), keepdims=True), others.max(axis=(1, 2), keepdims=True)
        low, high = np.minimum(first, least) / np.float32(255), np.maximum(first, most) / np.float32(255)
    assert ((batch.images >= low - 1e-6) & (batch.images <= high + 1e-6)).all()


def test_self_pairs_and_same_classes_give_the_hard_label(rng):
    images = rng.integers(0, 256, (40, 8, 8, 3), dtype=np.uint8)
    batch = MiAMix(3, EVERYTHING.replace(p_self=1.0))(images, np.arange(40) % 3, rng=rng)
    np.testing.assert_array_equal(batch.targets, np.eye(3, dtype=np.float32)[np.arange(40) % 3])
    batch = MiAMix(3)(images, np.ones(40, int), rng=rng)
    np.testing.assert_array_equal(batch.targets, np.eye(3, dtype=np.float32)[np.ones(40, int)])
    soft = np.tile(np.array([0.1, 0.2, 0.7], np.float32), (40, 1))
    np.testing.assert_array_equal(MiAMix(3)(images, soft, rng=rng).targets, soft)


@pytest.mark.parametrize("change", ["read-only", "fortran", "every other", "reversed", "transposed"])
def test_any_memory_layout_and_no_input_modified(change, rng):
    plain = rng.integers(0, 256, (6, 20, 16, 3), dtype=np.uint8)
    images = {
        "read-only": plain.copy(),
        "fortran": np.asfortranarray(plain),
        "every other": np.repeat(plain, 2, axis=2)[:, :, ::2],
        "reversed": plain[:, ::-1, ::-1].copy()[:, ::-1, ::-1],
        "transposed": plain.transpose(0, 2, 1, 3).copy().transpose(0, 2, 1, 3),
    }[change]
    np.testing.assert_array_equal(images, plain)
    labels = np.arange(6)
    if change == "read-only":
        images.setflags(write=False)
        labels.setflags(write=False)
    found = MiAMix(6)(images, labels, rng=np.random.default_rng(3), second=images)
    expected = MiAMix(6)(plain, np.arange(6), rng=np.random.default_rng(3))
    np.testing.assert_array_equal(found.images, expected.images)
    np.testing.assert_array_equal(images, plain)
    assert found.images.flags.c_contiguous


def test_same_generator_same_bytes(rng):
    images = rng.integers(0, 256, (16, 32, 32, 3), dtype=np.uint8)
    one, two = (MiAMix(16, EVERYTHING)(images, np.arange(16), rng=np.random.default_rng(9)) for _ in range(2))
    assert one.images.tobytes() == two.images.tobytes()
    other = MiAMix(16, EVERYTHING)(images, np.arange(16), rng=np.random.default_rng(10))
    assert one.images.tobytes() != other.images.tobytes()


def test_the_two_halves_are_the_whole(rng):
    images = rng.integers(0, 256, (8, 10, 12), dtype=np.uint8)
    mix = MiAMix(8)
    plan = mix.plan(8, 10, 12, rng=np.random.default_rng(2))
    whole = mix(images, range(8), rng=np.random.default_rng(2))
    np.testing.assert_array_equal(mix.render(plan, images, range(8)).images, whole.images)


# Outputs -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("source", "dtype", "expected"), [
    (np.uint8, None, np.uint8), (np.float32, None, np.float32), (np.uint8, "float32", np.float32),
    (np.uint8, np.float16, np.float16), (np.float32, "float16", np.float16), (np.uint8, np.dtype("uint8"), np.uint8),
])  # fmt: skip
def test_dtypes(source, dtype, expected, rng):
    first, _ = views(4, 6, 6, 3, source, rng)
    assert MiAMix(4, dtype=dtype)(first, range(4), rng=rng).images.dtype == expected


def test_normalisation_is_fused(rng):
    images = rng.integers(0, 256, (5, 9, 8, 3), dtype=np.uint8)
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    plain = MiAMix(5, dtype="float32")(images, range(5), rng=np.random.default_rng(1)).images
    found = MiAMix(5, mean=mean, std=std)(images, range(5), rng=np.random.default_rng(1)).images
    np.testing.assert_allclose(found, (plain - np.float32(mean)) / np.float32(std), atol=2e-6)
    assert found.dtype == np.float32


def test_floats_are_never_rescaled(rng):
    images = (rng.standard_normal((4, 5, 5, 3)) * 1000).astype(np.float32)
    batch = MiAMix(4, MiAMixConfig.plain("mixup", p_self=1.0))(images, range(4), rng=rng)
    np.testing.assert_allclose(batch.images, images, rtol=1e-6)


def test_pairs_of_targets(rng):
    images, labels = rng.integers(0, 256, (6, 4, 4, 3), dtype=np.uint8), np.array([3, 1, 4, 1, 5, 0])
    batch = MiAMix(6, targets="pair")(images, labels, rng=rng)
    y_a, y_b, lam = batch.targets
    np.testing.assert_array_equal(y_a, labels)
    np.testing.assert_array_equal(y_b, labels[batch.partner])
    np.testing.assert_array_equal(lam, batch.lam)


@pytest.mark.parametrize("smoothing", [0.1, 1.0])
def test_label_smoothing_is_timms(smoothing, rng):
    images, labels = rng.integers(0, 256, (30, 4, 4, 3), dtype=np.uint8), rng.integers(0, 5, 30)
    batch = MiAMix(5, label_smoothing=smoothing)(images, labels, rng=rng)
    expected = [
        naive.target(*(naive.one_hot(labels[j], 5, smoothing) for j in (i, batch.partner[i])), float(batch.lam[i]))
        for i in range(30)
    ]
    np.testing.assert_allclose(batch.targets, expected, atol=1e-6)
    soft = np.eye(5, dtype=np.float32)[labels]
    same = MiAMix(5, label_smoothing=smoothing).render(batch.plan, images, soft)
    np.testing.assert_allclose(same.targets, expected, atol=1e-6)


def test_multi_label(rng):
    images = rng.integers(0, 256, (6, 4, 4, 3), dtype=np.uint8)
    labels = rng.integers(0, 2, (6, 9))
    batch = MiAMix(9)(images, labels, rng=rng)
    lam = batch.lam[:, None]
    np.testing.assert_allclose(batch.targets, lam * labels + (1 - lam) * labels[batch.partner], atol=1e-6)


def test_masks_only_when_asked_for(rng):
    images = rng.integers(0, 256, (3, 4, 5, 3), dtype=np.uint8)
    assert MiAMix(3)(images, range(3), rng=rng).masks is None
    assert MiAMix(3, return_masks=True)(images, range(3), rng=rng).masks.shape == (3, 4, 5)


def test_a_description_ends_with_the_measured_lam(rng):
    batch = MiAMix(9)(np.zeros((9, 8, 8), np.uint8), range(9), rng=rng)
    for i in range(len(batch)):
        assert batch.describe(i) == f"{batch.plan.describe(i)}, lam {batch.lam[i]:.2f}"


def test_few_signatures_are_compiled():
    """Whatever came in, the entries were compiled once, not for every dtype and memory layout."""
    from miamix_cpu.mix.kernels import mix_bytes, mix_floats
    from miamix_cpu.mix.render import assign_holes
    from miamix_cpu.mix.resize import paste_resized
    from miamix_cpu.mix.targets import mix_classes
    from miamix_cpu.plan.pairs import pair_and_divide
    from miamix_cpu.plan.sampling import choose_methods, draw_ratios, lay_out

    MiAMix(2)(np.zeros((2, 4, 4, 3), np.uint8), [0, 1], rng=np.random.default_rng(0))
    MiAMix(2)(np.zeros((2, 4, 4), np.float32), [0, 1], rng=np.random.default_rng(0))
    entries = pair_and_divide, draw_ratios, choose_methods, lay_out, assign_holes, mix_bytes, mix_classes
    assert [len(entry.signatures) for entry in entries] == [1] * 7
    assert len(mix_floats.signatures) in (1, 2)  # of bytes, and of floats
    assert len(paste_resized.signatures) <= 6  # of images, and of what other tests mix along with them


@pytest.mark.parametrize("merge", ["mul", "sum"])
@pytest.mark.parametrize("size", [(1, 1), (7, 1), (9, 13), (150, 70), (3, 1601)], ids=str)
@pytest.mark.parametrize(("source", "dtype"), [("uint8", "uint8"), ("uint8", "float32"), ("float32", "float32")])
def test_boxes_without_a_mask_equal_those_with_one(merge, size, source, dtype, rng):
    """mixup and upright boxes are mixed without making a mask, unless it is asked for: the same bytes, the same lam."""
    methods = ("mixup", "cutmix", "hmix", "resizemix", "saliencymix")
    config = MiAMixConfig(methods=methods, weights=(1,) * 5, k_max=3, p_aug=0.1, p_smooth=0.1, merge=merge)
    images = (rng.random((60, *size, 3)) * 255).astype(source)
    second = (rng.random((60, *size, 3)) * 255).astype(source)
    mixed = [
        MiAMix(5, config, dtype=dtype, return_masks=masks)(
            images, np.arange(60) % 5, second=second, rng=np.random.default_rng(3)
        )
        for masks in (False, True)
    ]
    np.testing.assert_array_equal(mixed[0].images, mixed[1].images)
    np.testing.assert_array_equal(mixed[0].lam, mixed[1].lam)
    np.testing.assert_allclose(mixed[1].lam, mixed[1].masks.mean(axis=(1, 2), dtype=np.float64), atol=1e-6)
