"""What is wrong with `also` and with what belongs to images is named: the entry, the sample, and what is allowed."""

import re
import traceback
import warnings

import albumentations as A
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from miamix_cpu import MiAMix, MiAMixBatch, MiAMixCollator, MiAMixConfig, TwoViews

pytestmark = pytest.mark.filterwarnings(
    "ignore:.*come out unmixed", "ignore:a batch of one sample", "ignore:the transform returned", "ignore:float images"
)
IMAGE, MAP = np.zeros((6, 8, 3), np.uint8), np.zeros((6, 8), np.uint8)
NO_SELF = MiAMixConfig(p_self=0.0)
DOORS = pytest.mark.parametrize("make", [MiAMix, MiAMixBatch, MiAMixCollator])
WAYS = r'must be "blend", "choose" or \("soft", number of classes\)'


@DOORS
@pytest.mark.parametrize(("also", "error", "words"), [
    ("mask", TypeError, r'also must be a mapping from keys to "blend", "choose" or \("soft", number of classes\), got \'mask\''),
    (["mask"], TypeError, "also must be a mapping .* got "),
    ({"mask": "mean"}, ValueError, rf"also\['mask'\] {WAYS}, got 'mean'"),
    ({"mask": None}, ValueError, rf"also\['mask'\] {WAYS}, got None"),
    ({"mask": ("choose", 3)}, ValueError, rf"also\['mask'\] {WAYS}, got \('choose', 3\)"),
    ({"mask": np.zeros(2)}, ValueError, rf"also\['mask'\] {WAYS}, got ndarray"),
    ({"mask": (np.zeros(2), 3)}, ValueError, rf"also\['mask'\] {WAYS}, got a tuple of 2"),
    ({2: "soft"}, ValueError, r'also\[2\] must say how many classes there are: \("soft", 21\)'),
    ({"mask": ("soft", 0)}, ValueError, r"the number of classes of also\['mask'\] must be at least 1, got 0"),
    ({"mask": ("soft", 2.5)}, TypeError, r"the number of classes of also\['mask'\] must be an integer, got 2.5"),
    ({"mask": ("soft", True)}, TypeError, r"the number of classes of also\['mask'\] must be an integer, got True"),
    ({"image": "blend"}, ValueError, "also must name other entries than the image, which is always mixed, got 'image'"),
    ({0: "blend"}, ValueError, "also must name other entries than the image, which is always mixed, got 0"),
    ({-1: "blend"}, ValueError, "also must have positions of at least 1, counted from the image, got -1"),
    ({True: "blend"}, TypeError, "also must have keys of samples that are dicts, or positions in tuples, got True"),
    ({1.5: "blend"}, TypeError, "also must have keys of samples .* got 1.5"),
    ({None: "blend"}, TypeError, "also must have keys of samples .* got None"),
])  # fmt: skip
def test_wrong_ways_are_named(make, also, error, words):
    with pytest.raises(error, match=f"^{words}"):
        make(3, also=also)


@pytest.mark.parametrize(("options", "words"), [
    ({"map_key": "map", "also": {"map": "blend"}}, r"'map' is either a guide \(map_key\) or mixed \(also\), got both"),
    ({"map_key": 2, "also": {2: "blend"}}, r"2 is either a guide \(map_key\) or mixed \(also\), got both"),
    ({"also": {"x": "blend"}, "keys": ("x", "y")}, "also must name other entries than the image, .* got 'x'"),
    ({"also": {"label": "choose"}, "label_smoothing": 0.1}, "also has the label's key, 'label' or 1, so there are no labels"),
    ({"also": {1: "choose"}, "targets": "pair"}, "also has the label's key, 'label' or 1, so there are no labels: targets='pair'"),
])  # fmt: skip
def test_options_that_exclude_each_other_are_named(options, words):
    with pytest.raises(ValueError, match=f"^{words}"):
        MiAMixCollator(3, **options)


# ---- entries of samples


def samples_with(bad, sample=2, key="map", kind=dict):
    """Samples with maps, of which one is another."""
    samples = [{"image": IMAGE, "label": 0, "map": MAP.copy()} for _ in range(4)]
    samples[sample][key] = bad
    return samples if kind is dict else [tuple(sample.values()) for sample in samples]


BAD = [
    ("choose", None, TypeError, "must be an array, a PIL image or a tensor, got None"),
    ("blend", "map.png", TypeError, "must be an array, a PIL image or a tensor, got 'map.png'"),
    ("choose", 3, TypeError, "must be an array, a PIL image or a tensor, got 3"),
    ("choose", [[1, 2], [3, 4]], TypeError, "must be an array, a PIL image or a tensor, got a list of 2"),
    ("choose", np.zeros(6, np.uint8), ValueError, r"must have 2 or 3 axes.* got \(6,\)"),
    ("choose", np.zeros((0, 8), np.uint8), ValueError, r"must have .* none empty, got \(0, 8\)"),
    ("choose", np.array([["a"]]), TypeError, "must contain numbers, got <U1"),
    ("choose", np.zeros((6, 8), complex), TypeError, "must contain numbers, got complex128"),
    ("choose", np.zeros((6, 8), object), TypeError, "must contain numbers, got object"),
    ("choose", np.zeros((6, 8), "M8[s]"), TypeError, "must contain numbers, got datetime64"),
    ("choose", np.zeros((3, 4), np.uint8), ValueError, r"is \(3, 4\) uint8, 'map' of sample 0 is \(6, 8\) uint8: all must have"),
    ("choose", np.zeros((6, 8), np.int16), ValueError, r"is \(6, 8\) int16, 'map' of sample 0 is \(6, 8\) uint8: all must have"),
    ("choose", np.zeros((6, 8, 1), np.uint8), ValueError, r"is \(6, 8, 1\) uint8, 'map' of sample 0 is \(6, 8\) uint8"),
    ("choose", np.zeros((3, 6, 8), np.uint8), ValueError, r"is an array of shape \(3, 6, 8\); read as \(H, W, C\), it has 8 channels"),
    ("blend", np.zeros((6, 8), np.int32), TypeError, r"must be uint8, int16, uint16 or floats to be blended, got int32: use .astype"),
    ("blend", np.zeros((6, 8), bool), TypeError, 'must be uint8, int16, uint16 or floats to be blended, got bool: .* or "choose"'),
    ("blend", Image.new("P", (8, 6)), TypeError, "is a PIL image of mode 'P', allowed modes are"),
    (("soft", 3), np.full((6, 8), 3, np.uint8), ValueError, r"must have classes in \[0, 2\], got 3: make a value that is to be ignored"),
    (("soft", 3), np.full((6, 8), -1), ValueError, r"must have classes in \[0, 2\], got -1"),
    (("soft", 3), np.full((6, 8), 255, np.uint8), ValueError, r'must have classes in \[0, 2\], got 255: .* or use "choose"'),
    (("soft", 3), np.zeros((6, 8)), TypeError, "must be a map of integer classes, got float64"),
    (("soft", 3), np.zeros((6, 8, 3), np.uint8), ValueError, r"must be a map of classes, \(h, w\), got \(6, 8, 3\)"),
    ("choose", torch.zeros(6, 8, device="meta"), TypeError, "must be on the CPU, got a tensor on meta"),
    ("choose", torch.zeros(6, 8).to_sparse(), TypeError, "must be dense, got a tensor of layout torch.sparse_coo"),
]  # fmt: skip
if np.dtype(np.longdouble).itemsize > 8:
    words = "must be integers or floats of up to 64 bits, got (float|longdouble)"
    BAD.append(("choose", np.zeros((6, 8), np.longdouble), TypeError, words))


@pytest.mark.parametrize(("way", "bad", "error", "words"), BAD)
def test_a_wrong_entry_is_named(way, bad, error, words):
    """By every front door; a position is called an entry."""
    named = f"^'map' of sample 2 {words}"
    for make in (MiAMixCollator, MiAMixBatch):
        with pytest.raises(error, match=named):
            make(3, NO_SELF, also={"map": way})(samples_with(bad))
    with pytest.raises(error, match=named.replace("'map'", "entry 2")):
        MiAMixCollator(3, NO_SELF, also={2: way})(samples_with(bad, kind=tuple))
    samples = samples_with(bad)
    columns = {key: [sample[key] for sample in samples] for key in samples[0]}
    with pytest.raises(error, match=named):
        MiAMixBatch(3, NO_SELF, also={"map": way})(columns)
    if "channels" not in words and "PIL image of" not in words:  # MiAMix has channels last
        with pytest.raises(error, match=named):
            mix_arrays(way, {"map": columns["map"]})


@pytest.mark.parametrize(("way", "bad", "error", "words"), BAD)
def test_a_wrong_entry_of_a_view_is_named(way, bad, error, words):
    """What the transform made, and what a pair holds."""
    words = words.replace("'map' of sample 0", "'map' of the (first|second) view of sample 0")

    def transform(entries):
        return {**entries, "map": bad if entries["image"][0, 0, 0] == 2 and bad is not None else entries["map"]}

    samples = [{**sample, "image": IMAGE + np.uint8(i)} for i, sample in enumerate(samples_with(MAP))]
    if bad is not None:
        with pytest.raises(error, match=f"^'map' of the first view of sample 2 {words}"):
            MiAMixCollator(3, NO_SELF, also={"map": way}, transform=transform)(samples)
    pairs = [{**s, "image": (s["image"],) * 2, "map": (MAP, bad if i == 2 else MAP)} for i, s in enumerate(samples)]
    with pytest.raises(error, match=f"^'map' of the second view of sample 2 {words}"):
        MiAMixCollator(3, NO_SELF, also={"map": way})(pairs)


@pytest.mark.parametrize(("bad", "error", "words"), [
    (None, TypeError, "must be an array, a PIL image or a tensor, got None"),
    (np.zeros((6, 8), complex), TypeError, "must contain numbers, got complex128"),
    (np.full((6, 8), 1 << 33), ValueError, "must fit into 32-bit integers to go through Albumentations, got values from 8589934592 to"),
])  # fmt: skip
def test_what_albumentations_can_not_take_is_named(bad, error, words):
    """The transform is not blamed for it."""
    with pytest.raises(
        error, match=rf"^'map' (for the first view )?of sample 2 {words}|^'map' for the first view of sample 2 {words}"
    ) as caught:
        MiAMixCollator(3, NO_SELF, also={"map": "choose"}, transform=A.HorizontalFlip())(samples_with(bad))
    assert not getattr(caught.value, "__notes__", [])


def test_masks_that_differ_are_told_to_be_declared():
    samples = [{"image": IMAGE, "label": 0, "a": MAP, "b": MAP, "c": MAP.astype(np.float32)} for _ in range(3)]
    words = r"^'b', 'c' differ in shape or dtype for the first view of sample 0, but .* additional_targets="
    also, flip = dict.fromkeys("abc", "choose"), A.HorizontalFlip(p=1)
    with pytest.raises(TypeError, match=words):
        MiAMixCollator(3, NO_SELF, also=also, transform=flip, compiled_views=False)(samples)


def test_masks_that_differ_go_through_compiled_views():
    steps = np.arange(48, dtype=np.uint8).reshape(6, 8)
    maps = {"a": steps, "b": steps[::-1], "c": steps.astype(np.float32)}
    samples = [{"image": IMAGE, "label": 0, **maps} for _ in range(3)]
    also, flip = dict.fromkeys("abc", "choose"), A.HorizontalFlip(p=1)
    out = MiAMixCollator(3, NO_SELF, also=also, transform=flip, compiled_views=True)(samples)
    for name, map_ in maps.items():
        made = out[name].numpy()
        assert made.dtype == map_.dtype
        np.testing.assert_array_equal(made, np.stack([map_[:, ::-1]] * 3))


@pytest.mark.parametrize(("samples", "also", "words"), [
    (samples_with(MAP), {"depth": "blend"}, r"samples have no 'depth' \(also\), they have 'image', 'label', 'map'"),
    (samples_with(MAP), {2: "blend"}, r"samples have no 2 \(also\), they have 'image', 'label', 'map'"),
    (samples_with(MAP, kind=tuple), {3: "blend"}, "also must be a position in samples of 3 entries, after the image, got 3"),
    (samples_with(MAP, kind=tuple), {"map": "blend"}, "also must be a position in samples of 3 entries, after the image, got 'map'"),
    ([{"image": (IMAGE, IMAGE), "label": 0, "map": MAP}] * 2, {"map": "blend"}, "'map' of sample 0 must be a pair, as its image is, got ndarray"),
    ([((IMAGE, IMAGE), MAP)] * 2, {1: "blend"}, "entry 1 of sample 0 must be a pair, as its image is, got ndarray"),
    ([{"image": IMAGE, "label": 0, "map": np.zeros((7, 8))}] * 2, {"map": "blend"}, "'map' of sample 0 is 7 x 8, larger than the images, 6 x 8: resize it"),
    ([{"image": (IMAGE, IMAGE), "label": 0, "map": (MAP, MAP[:3])}] * 2, {"map": "blend"},
     r"'map' of the second view of sample 0 is uint8 \(3, 8\), 'map' of the first view of sample 0 is uint8 \(6, 8\): both must"),
])  # fmt: skip
def test_entries_that_do_not_fit_are_named(samples, also, words):
    with pytest.raises(ValueError, match=f"^{words}"):
        MiAMixCollator(3, NO_SELF, also=also)(samples)


def test_columns_that_are_missing_are_named():
    with pytest.raises(ValueError, match=r"the batch has no 'depth', it has 'image', 'label'; see .*`also`"):
        MiAMixBatch(3, NO_SELF, also={"depth": "blend"})({"image": np.stack([IMAGE] * 3), "label": [0] * 3})


# ---- MiAMix


def mix_arrays(way, also, **options):
    mix = MiAMix(3, NO_SELF, also={"map": way})
    return mix(np.stack([IMAGE] * 4), [0] * 4, rng=np.random.default_rng(0), also=also, **options)


MAPS, IMAGES = np.stack([MAP] * 4), np.stack([IMAGE] * 4)


@pytest.mark.parametrize(("options", "error", "words"), [
    ({"also": None}, ValueError, r"also must have 'map', as MiAMix\(also=...\) says, got {}"),
    ({"also": {}}, ValueError, r"also must have 'map', as MiAMix\(also=...\) says, got {}"),
    ({"also": {"map": MAPS, "more": MAPS}}, ValueError, "also must have 'map', as .* got a dict of 2"),
    ({"also": MAPS}, ValueError, "also must have 'map', as .* got ndarray"),
    ({"also": {"map": MAPS}, "second_also": {"map": MAPS}}, ValueError, "second_also must have no entries, as .* got a dict of 1"),
    ({"also": {"map": MAPS}, "second": IMAGES}, ValueError, "second_also must have 'map', as"),
    ({"also": {"map": MAPS[:3]}}, ValueError, "'map' of samples must be one for each of 4 images, got 3"),
    ({"also": {"map": 3}}, TypeError, "'map' of samples must be an array or a list of 4 entries, got 3"),
    ({"also": {"map": np.array(3)}}, TypeError, "'map' of samples must be an array or a list of 4 entries, got array"),
    ({"also": {"map": "abcd"}}, TypeError, "'map' of samples must be an array or a list of 4 entries, got 'abcd'"),
    ({"also": {"map": np.zeros((4, 7, 8), np.uint8)}}, ValueError, "'map' of sample 0 is 7 x 8, larger than the images, 6 x 8"),
    ({"also": {"map": MAPS}, "second": IMAGES, "second_also": {"map": MAPS[:, :3]}}, ValueError,
     r"'map' of the second view of sample 0 is uint8 \(3, 8\), 'map' of the first view of sample 0 is uint8 \(6, 8\)"),
    ({"also": {"map": MAPS}, "second": IMAGES, "second_also": {"map": MAPS.astype(int)}}, ValueError,
     r"'map' of the second view of sample 0 is int64 \(6, 8\)"),
])  # fmt: skip
def test_wrong_entries_of_arrays_are_named(options, error, words):
    with pytest.raises(error, match=f"^{words}"):
        mix_arrays("choose", **options)


# ---- TwoViews


@pytest.mark.parametrize(("also", "error", "words"), [
    ("mask", TypeError, "also must be a tuple of keys, or of positions in tuples, got 'mask'"),
    (2, TypeError, "also must be a tuple of keys, or of positions in tuples, got 2"),
    (iter(["mask"]), TypeError, "also must be a tuple of keys"),
    (("image",), ValueError, "also must name other entries than the image, whose views are always made, got 'image'"),
    ((0,), ValueError, "also must name other entries than the image, whose views are always made, got 0"),
    ((-1,), ValueError, "also must have positions of at least 1, counted from the image, got -1"),
    ((True,), TypeError, "also must have keys, or positions in tuples, got True"),
    ((1.5,), TypeError, "also must have keys, or positions in tuples, got 1.5"),
])  # fmt: skip
def test_wrong_entries_of_two_views_are_named(also, error, words):
    with pytest.raises(error, match=f"^{words}"):
        TwoViews([(IMAGE, 0)], A.HorizontalFlip(), also=also)


@pytest.mark.parametrize(("item", "also", "error", "words"), [
    ({"image": IMAGE, "label": 0}, ("mask",), ValueError, "item 0 has no 'mask', it has 'image', 'label'; see `also`"),
    ({"image": IMAGE, "label": 0}, (1,), ValueError, "item 0 has no 1, it has 'image', 'label'; see `also`"),
    ((IMAGE, 0), (2,), ValueError, "also must have positions in item 0, of 2 entries, after the image, got 2"),
    ((IMAGE, 0), ("mask",), ValueError, "also must have positions in item 0, of 2 entries, after the image, got 'mask'"),
    ((IMAGE, 0, None), (2,), TypeError, "entry 2 of item 0 must be an array, a PIL image or a tensor, got None"),
    ({"image": IMAGE, "map": "x.png"}, ("map",), TypeError, "'map' of item 0 must be an array, a PIL image or a tensor, got 'x.png'"),
])  # fmt: skip
def test_wrong_items_of_two_views_are_named(item, also, error, words):
    with pytest.raises(error, match=f"^{words}"):
        TwoViews([item], A.HorizontalFlip(), also=also)[0]


# ---- anything


def drawn(choices, odd, once_in=12):
    """One of the choices, and once in so many draws an odd one."""
    return st.integers(0, once_in - 1).flatmap(lambda n: st.sampled_from(odd if n == once_in // 2 else choices))


DTYPES = ["uint8", "int16", "uint16", "float32", "float16", "float64", "bool", "int8", "int32", "uint32", "int64", "uint64", ">i2", ">f4"]  # fmt: skip
ways = drawn(["blend", "choose", ("soft", 4), ("soft", 300)], ["mean", None, "soft", ("soft", 0), 3])
shapes = drawn([(6, 8), (3, 4), (6, 8, 1), (3, 4, 3), (1, 1), (6, 8, 4), (5, 3, 2), (2, 6, 8, 1)],
               [(7, 8), (0, 8), (6,), (2, 3, 4, 5, 6), (), (6, 8, 9), (6, 8, 0), (4, 4, 4, 4)])  # fmt: skip
TRANSFORMS = [None, None, A.Compose([A.HorizontalFlip()]), lambda entries: entries, lambda **entries: entries]
NAMED = r"(samples? |sample \d|item \d|also|'\w+'|entry \d|layout)"


@st.composite
def values(draw, dtype, shape):
    array = np.random.default_rng(draw(st.integers(0, 9))).integers(0, 4, shape).astype(dtype)
    how = draw(drawn(["array", "array", "tensor", "fortran", "negative"], [None, "a map", 7, (), object()]))
    if how == "tensor" and array.dtype.isnative:
        tensor = torch.from_numpy(array)
        return tensor.movedim(-1, -3) if array.ndim > 2 else tensor
    if how == "negative" and array.ndim:
        return array[::-1]
    return {"array": array, "tensor": array, "negative": array, "fortran": np.asfortranarray(array)}.get(how, how)


@given(st.data())
def test_either_it_is_mixed_as_it_should_be_or_the_error_names_what_is_wrong(data):
    """Never another error, nor another shape or dtype; and what came in is as it was."""
    way, dtype, shape = data.draw(ways), data.draw(st.sampled_from(DTYPES)), data.draw(shapes)
    position = data.draw(st.sampled_from([dict, dict, tuple]))
    key = data.draw(drawn(["map"] if position is dict else [2], ["image", "label", 0, 1, 2, -1, "x", 2.5]))
    maps = [data.draw(values(dtype, shape)) for _ in range(3)]
    maps = maps if data.draw(st.integers(0, 8)) != 4 else [maps[0], data.draw(values("int16", shape)), maps[2]]
    pairs = data.draw(st.booleans())
    transform = None if pairs else data.draw(st.sampled_from(TRANSFORMS))
    samples = [
        {"image": (IMAGE, IMAGE) if pairs else IMAGE, "label": 0, "map": (map_, map_) if pairs else map_}
        for map_ in maps
    ]
    samples = samples if position is dict else [tuple(sample.values()) for sample in samples]
    config = MiAMixConfig(p_self=0.0, methods=("cutmix", "resizemix"), weights=(1, 1))
    raised = None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            warnings.filterwarnings("ignore", "the transform returned its input arrays")
            collate = MiAMixCollator(3, config, also={key: way}, transform=transform, return_batch=True)
            batch = collate(samples)
    except Exception as error:
        raised = error
    if raised is not None:
        if not any(note.startswith("raised by the transform, for the") for note in getattr(raised, "__notes__", ())):
            assert type(raised) in (TypeError, ValueError), raised
            assert re.search(NAMED, str(raised)), raised
            assert "miamix_cpu" in traceback.extract_tb(raised.__traceback__)[-1].filename, raised
        return
    assert key in ("map", "label", 1, 2)
    found = batch.targets if key in ("label", 1) else batch.extras[key]
    height, width = shape[:2] if len(shape) < 4 else shape[1:3]
    if way[0] == "soft":
        assert (found.dtype, found.shape) == (torch.float32, (3, way[1], height, width))
        torch.testing.assert_close(found.sum(1), torch.ones(3, height, width))
        return
    native, found = np.dtype(dtype).newbyteorder("="), found.numpy()
    assert found.dtype == (np.dtype("float32") if way == "blend" and native.kind == "f" else native)
    assert found.shape == (3, *shape[2:][-1:], *shape[: -3 if len(shape) == 4 else 0], height, width)
    assert way == "blend" or set(np.unique(found).tolist()) <= {0, 1, 2, 3}
    assert 0 <= found.min() <= found.max() <= 3
