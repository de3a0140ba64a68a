import pickle
import random
import threading
import warnings

import albumentations as A
import numpy as np
import pytest
import torch
from albumentations.pytorch import ToTensorV2
from torch.utils.data import DataLoader

from miamix_cpu import EpochIndex, Indexed, MiAMixCollator, MiAMixConfig, TwoViews
from miamix_cpu.views.transform import Transform, is_albumentations, takes_keyword
from tests.transforms import Numbers, draws_from_everything


def crop():
    return A.Compose([A.RandomCrop(6, 6), A.HorizontalFlip(), A.RandomBrightnessContrast()])


def make(transform, images, seed=0, planar=False):
    return Transform(transform).make(images, planar, range(len(images)), np.random.default_rng(seed), str)


class Plain:
    def __call__(self, x):
        return x


class Keyword:
    def __call__(self, *, image):
        return {"image": image, "other": 1}


class Image:
    def __call__(self, image):
        return image


class Anything:
    def __call__(self, *args, **kwargs):
        return args[0]


@pytest.mark.parametrize(("transform", "keyword"), [
    (Plain(), False), (lambda x: x, False), (np.asarray, False), (torch.nn.Identity(), False), (Anything(), False),
    (Keyword(), True), (Image(), True), (lambda **data: data, True), (crop(), True), (A.HorizontalFlip(), True),
])  # fmt: skip
def test_how_a_transform_is_called(transform, keyword):
    assert takes_keyword(transform) == keyword
    image = np.arange(192, dtype=np.uint8).reshape(8, 8, 3)
    (view,) = make(transform, [image])
    assert view.shape in ((8, 8, 3), (6, 6, 3))
    assert is_albumentations(transform) == isinstance(transform, (A.Compose, A.BasicTransform))


@pytest.mark.parametrize("transform", [crop, lambda: draws_from_everything], ids=["albumentations", "globals"])
def test_views_are_keyed_and_differ(transform, rng):
    images = [rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)] * 12
    one, two, other = make(transform(), images), make(transform(), images), make(transform(), images, seed=1)
    np.testing.assert_array_equal(one, two)
    assert not np.array_equal(one, other)
    assert len(np.unique(np.array(one).reshape(12, -1), axis=0)) > 8


def test_the_callers_compose_is_not_touched(rng):
    compose = crop()
    image = rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)
    compose.set_random_state(np.random.default_rng(3), random.Random(3))
    expected = [compose(image=image)["image"] for _ in range(5)]
    compose.set_random_state(np.random.default_rng(3), random.Random(3))
    make(compose, [image] * 4)
    np.testing.assert_array_equal([compose(image=image)["image"] for _ in range(5)], expected)


def test_a_compose_with_a_seed_is_taken_over_with_a_warning(rng):
    image = rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)
    with pytest.warns(UserWarning, match="the transform's own seed=7 is not used"):
        transform = Transform(A.Compose([A.HorizontalFlip(), A.VerticalFlip()], seed=7))
    views = transform.make([image] * 400, False, range(400), np.random.default_rng(0), str)
    both = [np.array_equal(view, image[::-1, ::-1]) for view in views]
    none = [np.array_equal(view, image) for view in views]
    # Compose(seed=) gives each child the same seed: both flips or none, 400 times out of 400.
    assert 60 < sum(both) < 140
    assert 60 < sum(none) < 140


def test_planar_images_reach_albumentations_as_it_wants_them(rng):
    image = torch.from_numpy(rng.integers(0, 256, (3, 8, 9), dtype=np.uint8))
    (view,) = make(A.Compose([A.NoOp()]), [image.numpy()], planar=True)
    np.testing.assert_array_equal(view, image.numpy().transpose(1, 2, 0))
    (view,) = make(A.Compose([ToTensorV2()]), [image.numpy()], planar=True)
    assert torch.equal(view, image)


def test_what_fails_is_named():
    def fails(x):
        raise ZeroDivisionError("no")

    with pytest.raises(ZeroDivisionError) as caught:
        Transform(fails).make([1], False, [0], np.random.default_rng(0), lambda i: f"the first view of sample {i}")
    assert caught.value.__notes__ == [
        "raised by the transform, for the first view of sample 0",
        "it gets only the image; if it needs the whole sample, move it into the dataset",
    ]
    for nothing in (lambda x: None, lambda **data: {"img": 1}):
        with pytest.raises(TypeError, match="the transform returned nothing for view 0"):
            Transform(nothing).make(
                [np.zeros((2, 2), np.uint8)], False, [0], np.random.default_rng(0), "view {}".format
            )
    with pytest.raises(TypeError, match="transform must be callable, got 3"):
        Transform(3)


def test_threads_do_not_share_a_compose(rng):
    images = [rng.integers(0, 256, (8, 8, 3), dtype=np.uint8) for _ in range(60)]
    transform = Transform(crop())
    expected = np.array([make(crop(), images, seed) for seed in range(8)])
    found = [None] * 8

    def work(seed):
        found[seed] = transform.make(images, False, range(60), np.random.default_rng(seed), str)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    np.testing.assert_array_equal(np.array(found), expected)


def test_transforms_pickle(rng):
    images = [rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)] * 3
    transform = Transform(crop())
    before = transform.make(images, False, range(3), np.random.default_rng(0), str)
    again = pickle.loads(pickle.dumps(transform)).make(images, False, range(3), np.random.default_rng(0), str)
    np.testing.assert_array_equal(before, again)


def test_two_views_of_a_dataset():
    dataset = TwoViews(Numbers(6), crop(), seed=1)
    assert len(dataset) == 6
    (first, second), label = dataset[3]
    assert (first.shape, second.shape, label) == ((6, 6, 3), (6, 6, 3), 3)
    assert not np.array_equal(first, second)
    np.testing.assert_array_equal(dataset[3][0], TwoViews(Numbers(6), crop(), seed=1)[3][0])
    assert not np.array_equal(dataset[3][0], TwoViews(Numbers(6), crop(), seed=2)[3][0])
    dataset.set_epoch(1)
    assert not np.array_equal(dataset[3][0][0], first)


def test_two_views_of_dicts_and_longer_tuples():
    image = np.zeros((8, 8, 3), np.uint8)
    sample = TwoViews([{"img": image, "label": 1, "id": 5}], crop(), key="img")[0]
    assert (len(sample["img"]), sample["label"], sample["id"]) == (2, 1, 5)
    assert TwoViews([(image, 1, 5)], crop())[0][1:] == (1, 5)


def any_grey(image, **parameters):
    return np.full_like(image, random.randrange(256))


class DrawsFromGlobals(A.ImageOnlyTransform):
    """As users write them: Albumentations' own generators are not used."""

    def __init__(self):
        super().__init__(p=1.0)

    def apply(self, image, **parameters):
        return any_grey(image)


@pytest.mark.parametrize("compose", [
    lambda: A.Compose([A.HorizontalFlip(), A.OneOf([DrawsFromGlobals()], p=1)]),
    lambda: A.Compose([A.Lambda(image=any_grey)]),
], ids=["class", "lambda"])  # fmt: skip
def test_the_callers_code_in_a_compose_is_keyed_too(compose, rng):
    images = [rng.integers(0, 256, (4, 4, 3), dtype=np.uint8)] * 5
    random.seed(0)
    one, two = make(compose(), images), make(compose(), images)
    np.testing.assert_array_equal(one, two)
    assert len(np.unique(one)) > 3
    assert random.random() == random.Random(0).random()


def test_a_function_of_an_image_gets_it_as_it_is():
    """Only Albumentations wants arrays, whatever the parameter is called."""

    def turn(image):
        return image.rotate(90)

    from PIL import Image as pil

    (view,) = make(turn, [pil.new("RGB", (4, 6))])
    assert view.size == (4, 6)


def test_raw_images_of_any_dtype_reach_albumentations():
    dataset = TwoViews([(np.full((4, 4, 3), 65535, np.uint16), 0)], A.Compose([A.ToFloat(max_value=65535)]))
    (first, _), _ = dataset[0]
    assert first.dtype == np.float32
    assert first.max() == 1


def test_two_views_see_the_epoch_that_travels():
    dataset = TwoViews(Indexed(Numbers(6)), crop())
    epochs = [dataset[EpochIndex(epoch, 3)] for epoch in (0, 1)]
    assert [sample.epoch for sample in epochs] == [0, 1]
    assert not np.array_equal(epochs[0].sample[0][0], epochs[1].sample[0][0])
    np.testing.assert_array_equal(epochs[0].sample[0], TwoViews(Numbers(6), crop())[3][0])
    with pytest.raises(TypeError, match="Indexed must be inside TwoViews"):
        Indexed(TwoViews(Numbers(6), crop()))


def test_a_copied_dataset_shares_its_epoch():
    dataset = pickle.loads(pickle.dumps(TwoViews(Numbers(4), crop())))
    loader = DataLoader(dataset, 4, num_workers=1, persistent_workers=True, collate_fn=list)
    epochs = []
    for epoch in range(2):
        dataset.set_epoch(epoch)
        epochs.append([pair for pair, _ in next(iter(loader))])
    assert not np.array_equal(*epochs)


def test_views_that_repeat_are_warned_of():
    dataset = TwoViews(Numbers(3), crop())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for epoch in range(4):
            dataset.set_epoch(epoch)
            for i in range(3):
                dataset[i]
        for i in (0, 1, 2):
            dataset[i]
    with pytest.warns(
        UserWarning,
        match=r"returned 7 items in epoch 3 from a dataset of 3,.*call set_epoch\(epoch\) before iter.*EpochSampler",
    ):
        dataset[0]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        dataset[0]


def test_grey_tensors_reach_albumentations_beside_none():
    pictures = [torch.zeros(3, 4, 5), torch.ones(4, 5)]
    collate = MiAMixCollator(2, MiAMixConfig(p_self=0), seed=0, transform=A.Compose([A.HorizontalFlip()]))
    with pytest.raises(ValueError, match="first view of sample 1 has shape"):
        collate([(picture, 0) for picture in pictures])


# ---- maps


def with_maps(transform, images, maps, seed=0):
    """Views and maps."""
    made = Transform(transform).make(
        images,
        False,
        range(len(images)),
        np.random.default_rng(seed),
        "view {}".format,
        others={"map": maps},
    )
    return [(view, others["map"]) for view, others in made]


@pytest.mark.parametrize(("transform", "call"), [
    (crop(), "transform(image=image, mask=..)"), (A.HorizontalFlip(), "transform(image=image, mask=..)"),
    (lambda image, map: {"image": image, "map": map}, "transform(image=image, map=map)"),
    (lambda image, **others: {"image": image, **others}, "transform(image=image, map=map)"),
    (lambda **data: data, "transform(image=image, map=map)"),
    (lambda image, map_=None: image, "transform({'image': .., 'map': ..})"),
    (lambda image: image, "transform({'image': .., 'map': ..})"), (lambda x: x, "transform({'image': .., 'map': ..})"),
    (lambda *inputs: inputs[0], "transform({'image': .., 'map': ..})"), (Plain(), "transform({'image': .., 'map': ..})"),
    (Anything(), "transform({'image': .., 'map': ..})"),
])  # fmt: skip
def test_how_a_transform_is_called_with_a_map(transform, call):
    assert Transform(transform)._with_others.example({"map": None}) == call
    image = np.arange(192, dtype=np.uint8).reshape(8, 8, 3)
    ((view, map_),) = with_maps(transform, [image], [image[..., 0]])
    assert map_.dtype == np.uint8
    assert map_.shape == view.shape[:2]


def test_maps_are_given_and_returned_as_copies():
    """They are not the caller's, who may keep and reuse both."""
    kept, maps, memory = [], [np.ones((8, 8), np.float32), np.zeros((8, 8), np.float32)], bytearray(256)

    def transform(image, map):
        map += 1
        result = np.frombuffer(memory, np.float32).reshape(8, 8)
        result[:] = map
        kept.append(result)
        return {"image": image + 1, "map": result}

    made = with_maps(transform, [np.zeros((8, 8, 3), np.uint8)] * 2, maps)
    for map_ in kept:
        map_[:] = 9
    assert [map_.max() for _, map_ in made] == [2, 1]
    assert [map_.max() for map_ in maps] == [1, 0]


def test_maps_leave_views_as_they_are(rng):
    images = list(rng.integers(0, 256, (6, 8, 8, 3), dtype=np.uint8))
    made = with_maps(crop(), images, [image[..., 0] for image in images])
    for view, (other, map_) in zip(make(crop(), images), made, strict=True):
        np.testing.assert_array_equal(view, other)
        assert map_.shape == (6, 6)
