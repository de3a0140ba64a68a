"""Each step of a program makes the same bytes as the transform's own `apply`, for the same parameters."""

import warnings

import numpy as np
import pytest

A = pytest.importorskip("albumentations", reason="Albumentations is not installed")

from albumentations.augmentations.geometric import functional as fgeometric  # noqa: E402

from miamix_cpu.compiled_views.program import Program  # noqa: E402
from miamix_cpu.compiled_views.step import STEPS  # noqa: E402
from miamix_cpu.compiled_views.working import Working  # noqa: E402

ELEMENTS = ["e", "r90", "r180", "r270", "v", "hvt", "h", "t"]
BORDERS = [0, 1, 2, 3, 4]


def of_pad(t, v, shape):
    return {f"pad_{side}": int(x) for side, x in zip(("top", "bottom", "left", "right"), v, strict=True)}


def of_crop(t, v, shape):
    top, left, *pads = map(int, v)
    height, width = (t.height, t.width) if hasattr(t, "height") else (t.y_max - t.y_min, t.x_max - t.x_min)
    names = ("pad_top", "pad_bottom", "pad_left", "pad_right")
    return {"crop_coords": (left, top, left + width, top + height),
            "pad_params": dict(zip(names, pads, strict=True)) if any(pads) else None}  # fmt: skip


def of_resized_crop(t, v, shape):
    top, left, height, width = map(int, v[:4])
    return {"crop_coords": (left, top, left + width, top + height)}


def of_max_size(t, v, shape):
    """Albumentations is given a scale: the one with which a side has its length."""
    pick = min if type(t).__name__ == "SmallestMaxSize" else max
    if t.max_size is not None:
        lengths = np.atleast_1d(t.max_size)
        for length in lengths:
            scale = length / pick(shape[:2])
            if tuple(max(1, round(side * scale)) for side in shape[:2]) == (v[4], v[5]):
                return {"scale": scale}
        raise AssertionError("no such scale")
    scales = [length / side for length, side in zip(t.max_size_hw, shape, strict=False) if length]
    return {"scale": max(scales) if pick is min else min(scales)}


def of_affine(t, v, shape):
    rotate, scale_x, scale_y, shear_x, shear_y, x, y = v
    matrix = fgeometric.create_affine_transformation_matrix(
        {"x": x, "y": y},
        {"x": shear_x, "y": shear_y},
        {"x": scale_x, "y": scale_y},
        rotate,
        fgeometric.center(shape[:2]),
    )
    return {"matrix": matrix, "output_shape": shape[:2], "x_min": -1, "x_max": -1, "y_min": -1, "y_max": -1}


def of_boxes(t, v, shape):
    boxes = v[~np.isnan(v)].reshape(-1, 4).astype(np.int64)
    return {"holes": boxes, "seed": 0}


def of_jitter(t, v, shape):
    return {**dict(zip(("brightness", "contrast", "saturation", "hue"), v[:4].tolist(), strict=True)),
            "order": v[4:].astype(int).tolist()}  # fmt: skip


def of_brightness(t, v, shape):
    return {"alpha": float(v[0]), "beta": float(v[1])}


def nothing(t, v, shape):
    return {}


INTERPOLATIONS = [
    {"interpolation": i, "mask_interpolation": m} for i, m in ((0, 0), (1, 0), (2, 1), (3, 2), (4, 3), (6, 0))
]
DOWN = [{"area_for_downscale": way, "interpolation": 1} for way in (None, "image", "image_mask")]
FILLS = [{"fill": 0, "fill_mask": 0}, {"fill": 127.6, "fill_mask": 3}, {"fill": (10, 20, 300), "fill_mask": 1}]
POSITIONS = ["center", "top_left", "top_right", "bottom_left", "bottom_right", "random"]
HOLES = [{"fill": 0}, {"fill": 7, "fill_mask": 2}, {"fill": (1, 2, 3)}]

#: A transform is known by one row here: its options, and what its `apply` is given for the parameters.
CASES = {
    "PadIfNeeded": (of_pad, [
        *({"min_height": 13, "min_width": 17, "border_mode": border, **fill} for border in BORDERS for fill in FILLS),
        *({"min_height": 20, "min_width": 20, "position": position} for position in POSITIONS),
        {"min_height": None, "min_width": None, "pad_height_divisor": 8, "pad_width_divisor": 5, "border_mode": 4},
    ]),
    "Pad": (of_pad, [{"padding": p, "border_mode": b} for p in (3, (2, 5), (1, 2, 3, 4)) for b in BORDERS]),
    "RandomCrop": (of_crop, [
        {"height": 3, "width": 4},
        *({"height": 14, "width": 9, "pad_if_needed": True, "border_mode": b, "pad_position": p, **f}
          for b, p, f in zip([0, 0, 1, 2, 3, 4], POSITIONS, [*FILLS, *FILLS], strict=True)),
    ]),
    "CenterCrop": (of_crop, [
        {"height": 3, "width": 4},
        *({"height": 14, "width": 9, "pad_if_needed": True, "pad_position": p, "border_mode": 4} for p in POSITIONS),
    ]),
    "Crop": (of_crop, [
        {"x_min": 1, "y_min": 2, "x_max": 4, "y_max": 5},
        *({"x_min": 2, "y_min": 1, "x_max": 15, "y_max": 14, "pad_if_needed": True, "pad_position": p, "fill": 9}
          for p in POSITIONS),
    ]),
    "HorizontalFlip": (nothing, [{}]),
    "VerticalFlip": (nothing, [{}]),
    "Transpose": (nothing, [{}]),
    "RandomRotate90": (lambda t, v, s: {"factor": int(v[0])}, [{}]),
    "D4": (lambda t, v, s: {"group_element": ELEMENTS[int(v[0])]}, [{}]),
    "SquareSymmetry": (lambda t, v, s: {"group_element": ELEMENTS[int(v[0])]}, [{}]),
    "Resize": (nothing, [{"height": 9, "width": 6, **o} for o in (*INTERPOLATIONS, *DOWN)]
               + [{"height": 21, "width": 33, **o} for o in INTERPOLATIONS]),
    "SmallestMaxSize": (of_max_size, [{"max_size": 5}, {"max_size": 24}, {"max_size": [4, 9, 15], "interpolation": 0},
                                      {"max_size_hw": (6, 9)}, {"max_size_hw": (None, 8)}, {"max_size": 4, **DOWN[2]}]),
    "LongestMaxSize": (of_max_size, [{"max_size": 5}, {"max_size": 24}, {"max_size": [4, 9, 15], "interpolation": 0},
                                     {"max_size_hw": (6, 9)}, {"max_size_hw": (7, None)}, {"max_size": 6, **DOWN[1]}]),
    "RandomSizedCrop": (of_resized_crop, [{"min_max_height": (2, 5), "size": (8, 6), "w2h_ratio": 0.8, **o}
                                          for o in (*INTERPOLATIONS, *DOWN)]),
    "RandomResizedCrop": (of_resized_crop, [{"size": (8, 6), **o} for o in (*INTERPOLATIONS, *DOWN)]
                          + [{"size": (4, 4), "scale": (0.9, 1.0), "ratio": (3.0, 4.0)},
                             {"size": (4, 4), "scale": (0.9, 1.0), "ratio": (0.1, 0.2)}]),
    "Affine": (of_affine, [
        {"scale": (0.5, 1.5), "rotate": (-180, 180), "shear": (-20, 20), "translate_percent": (-0.3, 0.3)},
        {"translate_px": {"x": (-3, 3), "y": (0, 2)}, "interpolation": 0},
        {"rotate": 0, "scale": 1.0},
        {"scale": {"x": (0.5, 2), "y": (0.8, 0.9)}, "balanced_scale": True, "interpolation": 2, "mask_interpolation": 1},
        {"scale": (1.2, 1.5), "keep_ratio": True, "balanced_scale": True, "border_mode": 4},
        {"rotate": (0, 45), "fill": 90.7, "fill_mask": 4}, {"rotate": (0, 45), "fill": (10, 20, 30)},
    ]),
    "Rotate": (of_affine, [{"limit": 90}, {"limit": (10, 20), "border_mode": 4}, {"limit": 30, "fill": 50, "interpolation": 2}]),
    "ShiftScaleRotate": (of_affine, [{}, {"shift_limit": 0.3, "scale_limit": 0.5, "rotate_limit": 180, "border_mode": 4}]),
    "RandomBrightnessContrast": (of_brightness, [
        {}, {"brightness_limit": 0.9, "contrast_limit": 0.9}, {"ensure_safe_range": True, "contrast_limit": (-3, 2)},
        {"brightness_limit": 0, "contrast_limit": 0},
    ]),
    "InvertImg": (nothing, [{}]),
    "Solarize": (lambda t, v, s: {"threshold": float(v[0])}, [{}, {"threshold_range": (0, 1)}, {"threshold_range": (0.5, 0.5)}]),
    "Posterize": (lambda t, v, s: {"num_bits": int(v[0])}, [{"num_bits": (1, 7)}, {"num_bits": 4}]),
    "ToGray": (nothing, [{}]),
    "ColorJitter": (of_jitter, [
        {}, {"brightness": (0, 3), "contrast": (0, 3), "saturation": (0, 3), "hue": (-0.5, 0.5)},
        {"brightness": (0, 0), "contrast": (0, 0), "saturation": (0, 0), "hue": (0, 0)},
        {"brightness": (1, 1), "contrast": (1, 1), "saturation": (1, 1), "hue": (0.5, 0.5)},
    ]),
    "Normalize": (nothing, [{}, {"mean": (0.5,), "std": (0.25,)}, {"max_pixel_value": 1.0}]),
    "ToFloat": (nothing, [{"max_value": 255}, {"max_value": None}, {"max_value": 100.0}]),
    "CoarseDropout": (of_boxes, [{**fill, **size} for fill in HOLES for size in (
        {"num_holes_range": (1, 4), "hole_height_range": (1, 3), "hole_width_range": (2, 20)},
        {"num_holes_range": (2, 2), "hole_height_range": (0.1, 0.5), "hole_width_range": (0.2, 0.9)},
    )]),
    "Erasing": (of_boxes, [{**fill, "scale": (0.05, 0.5)} for fill in HOLES] + [{"scale": (0.9, 1.0), "ratio": (3, 4)}]),
    "GridDropout": (of_boxes, [{"ratio": 0.4}, {"holes_number_xy": (2, 3), "random_offset": False, "shift_xy": (1, 1)},
                               {"unit_size_range": (2, 4), "fill": 5, "fill_mask": 1, "ratio": 0.7}]),
    "NoOp": (nothing, [{}]),
    "ToTensorV2": (nothing, [{}]),
}  # fmt: skip


def made(name, options):
    from albumentations.pytorch import ToTensorV2

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return (ToTensorV2 if name == "ToTensorV2" else getattr(A, name))(**options, p=1)


def suits(transform, dtype, channels):
    name = type(transform).__name__
    fill = getattr(transform, "fill", 0)
    if isinstance(fill, tuple) and len(fill) != channels:
        return False
    if name == "ToGray":
        return channels in (1, 3)
    if name == "ColorJitter":
        return channels in (1, 3)
    if name == "Posterize":
        return dtype == np.uint8
    if name == "Normalize":
        return channels == 3 or len(transform.mean) == 1
    if name == "Affine" and transform.interpolation == 4:
        return channels <= 4
    return True


def images(rng, dtype, channels, sizes):
    """Images of these sizes; 0 channels stands for (h, w)."""
    found = []
    for height, width in sizes:
        shape = (height, width) if channels == 0 else (height, width, channels)
        found.append(rng.integers(0, 256, shape, np.uint8) if dtype == np.uint8 else rng.random(shape, np.float32))
    return found


def compare(name, options, dtype, channels, sizes, seed):
    transform, params_of = made(name, options), CASES[name][0]
    if not suits(transform, dtype, max(1, channels)):
        return 0
    rng = np.random.default_rng(seed)
    given = images(rng, dtype, channels, sizes)
    program = Program(transform)
    assert program.unfit(max(1, channels)) is None
    drawn = program.draw(rng, np.array(sizes).T)
    values = drawn[0].values
    kept = [image.copy() for image in given]
    for is_map in (False, True):
        working = Working(given, is_map=is_map)
        program.run(working, drawn)
        for i, image in enumerate(given):
            apply = getattr(transform, "apply_to_mask", lambda mask, **params: mask) if is_map else transform.apply
            params = {**params_of(transform, values[i], image.shape), "shape": image.shape}
            if name == "RandomBrightnessContrast" and dtype == np.uint8:
                params["beta"] *= 255
            expected = np.asarray(apply(image.copy(), **params))
            if name == "ToTensorV2" and (channels or not is_map):
                expected = np.moveaxis(expected, 0, -1) if not is_map else expected
                expected = expected if channels or is_map else expected[..., 0]
            got = working.arrays[i]
            assert got.dtype == expected.dtype, (name, options, got.dtype, expected.dtype)
            assert got.shape == expected.shape, (name, options, got.shape, expected.shape, values[i])
            np.testing.assert_array_equal(got, expected, f"{name} {options} {values[i]} {image.shape}")
    for before, after in zip(kept, given, strict=True):
        np.testing.assert_array_equal(before, after)
    return 1


SIZES = [[(6, 7), (6, 7), (6, 7)], [(8, 8)] * 5, [(5, 9), (12, 6), (30, 17), (6, 6)], [(40, 31)] * 2]


@pytest.mark.filterwarnings("ignore:The image is already gray")
@pytest.mark.parametrize("channels", [0, 1, 3, 4, 6])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32], ids=["uint8", "float32"])
@pytest.mark.parametrize("name", CASES)
def test_the_same_bytes(name, dtype, channels):
    count = 0
    for options in CASES[name][1]:
        for seed, sizes in enumerate(SIZES):
            if name in ("RandomCrop", "CenterCrop", "Crop") and not options.get("pad_if_needed"):
                sizes = [(max(6, h), max(6, w)) for h, w in sizes]
            count += compare(name, options, dtype, channels, sizes, seed)
    if not count:
        pytest.skip("Albumentations does not take such images")


def test_each_known_transform_has_a_case():
    assert set(CASES) == set(STEPS)
