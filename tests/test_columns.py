"""MiAMixBatch: columns or samples in NumPy in, the collator's bytes out, without torch."""

import pickle
import subprocess
import sys
import warnings
import zlib

import albumentations as A
import numpy as np
import pytest
from PIL import Image

from miamix_cpu import EpochIndex, Indexed, MiAMixBatch, MiAMixCollator, MiAMixConfig, MixSchedule, TwoViews
from miamix_cpu.epochs import IndexedSample
from tests.collate.dots import CROP as CROP_DOTS
from tests.collate.dots import INDEPENDENT, Dots, N, assert_aimed, by_name, collator
from tests.transforms import Numbers
from tests.views.test_guides import AIMED

CROP = A.Compose([A.PadIfNeeded(12, 12), A.RandomCrop(8, 8), A.HorizontalFlip()])
NO_SELF = MiAMixConfig(p_self=0.0)


def columns(n=16, **more):
    samples = [Numbers(n)[i] for i in range(n)]
    return {"image": np.stack([image for image, _ in samples]), "label": np.array([y for _, y in samples]), **more}


def digest(batch):
    return zlib.crc32(batch["image"].tobytes() + batch["label"].tobytes())


@pytest.mark.parametrize("options", [
    {}, {"transform": CROP}, {"dtype": "uint8"}, {"dtype": "float16", "transform": CROP}, {"mean": [0.5] * 3, "std": [0.2] * 3},
    {"label_smoothing": 0.1, "return_masks": True}, {"memory_format": "channels_first"}, {"config": NO_SELF, "index_key": "id"},
    {"schedule": MixSchedule(start=4)},
], ids=str)  # fmt: skip
def test_equals_the_collator(options):
    options = {"config": NO_SELF, "dtype": "float32", "memory_format": "channels_last", **options}
    batch = columns(id=np.arange(16))
    mixed = MiAMixBatch(10, seed=5, epoch=3, **options)(batch)
    collate = MiAMixCollator(10, seed=5, **options)
    collate.set_epoch(3)
    rows = [{key: column[i] for key, column in batch.items()} for i in range(16)]
    theirs = collate(rows)
    images = theirs["image"] if options["memory_format"] == "channels_first" else theirs["image"].permute(0, 2, 3, 1)
    np.testing.assert_array_equal(mixed["image"], images.numpy())
    for key in mixed.keys() - {"image"}:
        np.testing.assert_array_equal(mixed[key], theirs[key].numpy())
    assert mixed.keys() == theirs.keys()
    again = MiAMixBatch(10, seed=5, epoch=3, **options)(rows)
    for key in mixed:
        np.testing.assert_array_equal(mixed[key], again[key])
    assert mixed["image"].dtype == options["dtype"]
    assert ("schedule" in options) == (mixed["label"].max(1) == 1).all()


def test_a_task_that_is_tried_again_gives_the_same_bytes():
    """In another process, from a pickle, on read-only columns."""
    mix, batch = MiAMixBatch(10, transform=CROP, seed=1, epoch=2), columns()
    code = "import pickle, sys; from tests.test_columns import digest; mix, batch = pickle.load(sys.stdin.buffer); print(digest(mix(batch)))"
    again = subprocess.run([sys.executable, "-c", code], input=pickle.dumps((mix, batch)), capture_output=True, check=True)  # fmt: skip
    for column in batch.values():
        column.flags.writeable = False
    assert digest(mix(batch)) == digest(mix(batch)) == int(again.stdout)


def test_epochs_and_seeds_and_samples_differ():
    some = [
        MiAMixBatch(10, NO_SELF, seed=seed, epoch=epoch)(columns(n)) for n, seed, epoch in
        [(16, 0, 0), (16, 0, 1), (16, 1, 0), (15, 0, 0)]
    ]  # fmt: skip
    assert len(set(map(digest, some))) == 4


def test_other_columns_are_kept_and_nothing_is_modified():
    ids, words = np.arange(16), [f"picture {i}" for i in range(16)]
    boxes = [(np.zeros((i, 4)),) for i in range(16)]  # ragged
    batch = columns(id=ids, words=words, boxes=boxes)
    before = batch["image"].copy(), batch["label"].copy()
    mixed = MiAMixBatch(10, NO_SELF, out_keys=("pixel_values", "labels"))(batch)
    assert list(mixed) == ["pixel_values", "labels", "id", "words", "boxes"]
    assert mixed["boxes"] is boxes
    assert mixed["id"] is ids
    assert mixed["words"] is words
    np.testing.assert_array_equal(batch["image"], before[0])
    np.testing.assert_array_equal(batch["label"], before[1])


def test_pictures_of_different_sizes_that_a_transform_makes_alike():
    images = np.empty(6, dtype=object)
    for i in range(6):
        images[i] = np.full((8 + i, 9, 3), i, np.uint8)
    mixed = MiAMixBatch(10, transform=CROP)({"image": images, "label": np.arange(6)})
    assert mixed["image"].shape == (6, 8, 8, 3)
    with pytest.raises(ValueError, match=r"image of sample 1 has shape \(9, 9, 3\)"):
        MiAMixBatch(10, NO_SELF)({"image": images, "label": np.arange(6)})


def test_grey_pictures_come_back_as_they_went_in():
    batch = {"image": columns()["image"][..., 0], "label": np.arange(16) % 10}
    assert MiAMixBatch(10, NO_SELF)(batch)["image"].shape == (16, 8, 8)
    assert MiAMixBatch(10, NO_SELF, memory_format="channels_first")(batch)["image"].shape == (16, 1, 8, 8)


def test_samples_that_are_tuples_pairs_or_indexed():
    images, targets, more = MiAMixBatch(10, NO_SELF)([(*Numbers(8)[i], i / 2) for i in range(8)])
    assert images.shape == (8, 8, 8, 3)
    assert targets.shape == (8, 10)
    assert more.tolist() == [i / 2 for i in range(8)]
    pairs = TwoViews(Indexed(Numbers(8)), CROP)
    mix = MiAMixBatch(10, seed=1)
    batches = [mix([pairs[EpochIndex(epoch, i)] for i in range(8)]) for epoch in (0, 1, 0)]
    assert batches[0][1].tobytes() == batches[2][1].tobytes() != batches[1][1].tobytes()
    assert isinstance(pairs[EpochIndex(0, 0)], IndexedSample)


def test_the_unmixed_twin():
    mix = MiAMixBatch(10, transform=CROP, label_smoothing=0.2, memory_format="channels_first")
    plain = mix.plain()(columns())
    np.testing.assert_array_equal(plain["image"], columns()["image"].transpose(0, 3, 1, 2))
    np.testing.assert_array_equal(plain["label"], np.eye(10, dtype=np.float32)[columns()["label"]])
    assert mix(columns())["label"].max() < 0.99


def test_self_pairs_without_second_views_warn_once():
    mix = MiAMixBatch(10, MiAMixConfig(p_self=1.0))
    with pytest.warns(UserWarning, match="about 100% of the images come out unmixed"):
        mix(columns())
    with warnings.catch_warnings():
        mix(columns())


def test_torch_is_not_imported():
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "import numpy as np\nfrom miamix_cpu import MiAMixBatch, MixSchedule\n"
        "mix = MiAMixBatch(2, schedule=MixSchedule(), transform=lambda image: image)\n"
        "print(mix({'image': np.zeros((4, 8, 8, 3), np.uint8), 'label': np.zeros(4, int)})['label'].shape)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.stdout == "(4, 2)\n", result.stderr


@pytest.mark.parametrize(("batch", "error", "words"), [
    ({"label": np.arange(3)}, ValueError, "the batch has no 'image', it has 'label'"),
    ({"image": np.zeros((3, 8, 8, 3), np.uint8), "label": np.arange(4)}, ValueError, "'label' has 4 values, 'image' has 3"),
    ({"id": [1, 2], "image": np.zeros((3, 8, 8, 3), np.uint8), "label": [1, 2, 3]}, ValueError, "'id' has 2 values, 'image' has 3"),
    ({"image": np.zeros((3, 8, 8, 3), np.uint8), "label": 7}, TypeError, "'label' must be a column of values, got 7"),
    ({"image": np.zeros((0, 8, 8, 3), np.uint8), "label": []}, ValueError, "at least one sample"),
    ({"image": np.zeros((3, 8, 8, 3), np.int16), "label": np.arange(3)}, TypeError, "image of sample 0 must be uint8 or float32"),
    ({"image": np.zeros((3, 3, 8, 8), np.uint8), "label": np.arange(3)}, ValueError, "layout='channels_first'"),
    ({"image": np.zeros((3, 8, 8, 3), np.uint8), "label": [1, 2, 10]}, ValueError, "label of sample 2"),
    ({"image": np.zeros((3, 8, 8, 3), np.uint8), "label": [1, 2, 3], "masks": [0] * 3}, ValueError, "have the key 'masks'"),
    ([({}, 1, np.zeros(2)), ({}, 1, np.zeros(3))], ValueError, "entries 2 can't be stacked"),
    (iter([]), TypeError, "samples must be a list"),
])  # fmt: skip
def test_bad_batches(batch, error, words):
    with pytest.raises(error, match=words):
        MiAMixBatch(10, NO_SELF, return_masks=True)(batch)


def test_bad_options():
    with pytest.raises(ValueError, match=r"epoch must be .*-1"):
        MiAMixBatch(10, epoch=-1)
    with pytest.raises(ValueError, match="has no 'id'"):
        MiAMixBatch(10, index_key="id")(columns())


# ---- guides


def dots_in_columns(**more):
    samples = [Dots()[i] for i in range(N)]
    images, labels, maps = (np.stack(parts) for parts in zip(*samples, strict=True))
    return {"image": images, "label": labels, "map": maps, **more}


def assert_columns_are_aimed(mixed, collated):
    """The collator's bytes, whose boxes show their partner's dot."""
    assert_aimed(collated)
    np.testing.assert_array_equal(mixed["image"], collated.images.permute(0, 2, 3, 1).numpy())
    np.testing.assert_array_equal(mixed["label"], collated.targets.numpy())


@pytest.mark.parametrize("transform", [None, CROP_DOTS, by_name], ids=["none", "albumentations", "callable"])
@pytest.mark.filterwarnings("ignore:p_self")
def test_maps_follow_their_images(transform):
    batch, config = dots_in_columns(id=np.arange(N)), INDEPENDENT if transform else AIMED
    before = {key: column.copy() for key, column in batch.items()}
    for column in batch.values():
        column.flags.writeable = False
    mixed = MiAMixBatch(10, config, transform=transform, seed=3, map_key="map")(batch)
    assert list(mixed) == ["image", "label", "id"]
    rows = [{key: column[i] for key, column in batch.items()} for i in range(N)]
    assert_columns_are_aimed(mixed, collator(config, map_key="map", transform=transform)(rows))
    for key, column in batch.items():
        np.testing.assert_array_equal(column, before[key])
    of_rows = MiAMixBatch(10, config, transform=transform, seed=3, map_key="map")(rows)
    np.testing.assert_array_equal(of_rows["image"], mixed["image"])
    assert list(of_rows) == list(mixed)


def test_columns_of_maps_may_be_lists_and_channels():
    batch = dots_in_columns()
    expected = MiAMixBatch(10, AIMED, map_key="map")(batch)["image"]
    for column in (list(batch["map"]), batch["map"][..., None] > 0, [Image.fromarray(map_) for map_ in batch["map"]]):
        np.testing.assert_array_equal(
            MiAMixBatch(10, AIMED, map_key="map")({**batch, "map": column})["image"], expected
        )
    by_guide = MiAMixBatch(10, AIMED, guide=lambda view: view[..., 1])
    np.testing.assert_array_equal(by_guide(dots_in_columns())["image"], expected)
    assert list(by_guide(batch)) == ["image", "label", "map"]


def test_wrong_columns_of_maps_are_named():
    batch = dots_in_columns()
    mix = MiAMixBatch(10, AIMED, map_key="map")
    with pytest.raises(ValueError, match="the batch has no 'map', it has 'image', 'label'; see `keys`"):
        mix({key: batch[key] for key in ("image", "label")})
    with pytest.raises(ValueError, match="'map' has 23 values, 'image' has 24"):
        mix({**batch, "map": batch["map"][1:]})
    with pytest.raises(ValueError, match=r"the guide of the first view of sample \d+ must be at least 0, got -1"):
        mix({**batch, "map": -batch["map"]})
    with pytest.raises(ValueError, match="map_key must be another key than those of image and label, got 'image'"):
        MiAMixBatch(10, map_key="image")
    with pytest.raises(ValueError, match="guides are either made"):
        MiAMixBatch(10, map_key="map", guide=len)


def test_evaluation_needs_no_map():
    batch = dots_in_columns()
    plain = MiAMixBatch(10, AIMED, map_key="map", transform=CROP_DOTS).plain(lambda image: image[:5])
    results = [plain(batch), plain({key: batch[key] for key in ("image", "label")})]
    for result in results:
        np.testing.assert_array_equal(result["image"], batch["image"][:, :5])
        assert list(result) == ["image", "label"]
