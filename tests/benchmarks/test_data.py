"""Data in every form, and subsets that are fixed."""

import cv2
import numpy as np
import pytest

from benchmarks import train
from benchmarks.training import loop
from benchmarks.training.data import DataError, fixed_order, load, training_and_held_out
from tests.benchmarks.common import command, pictures, write_records


def test_cifar_10_binary(cifar, rng):
    images = load(cifar)
    assert (images.kind, images.num_classes, len(images.train), len(images.test)) == ("cifar10", 10, 100, 40)
    record = np.fromfile(cifar / "cifar-10-batches-bin" / "data_batch_2.bin", np.uint8).reshape(-1, 3073)[3]
    image, label = images.train[23]
    assert label == record[0]
    np.testing.assert_array_equal(image, record[1:].reshape(3, 32, 32).transpose(1, 2, 0))


def test_cifar_100_binary_takes_the_fine_label(tmp_path, rng):
    labels = rng.integers(0, 100, 30)
    images = pictures(rng, labels)
    for name in ("train.bin", "test.bin"):
        write_records(tmp_path / name, images, labels, coarse=True)
    found = load(tmp_path)
    assert (found.kind, found.num_classes) == ("cifar100", 100)
    np.testing.assert_array_equal(found.test.labels, labels)
    np.testing.assert_array_equal(found.test.images, images)


def write_streams(path, images, labels):
    streams = [cv2.imencode(".png", image[..., ::-1])[1] for image in images]  # lossless, and read alike
    offset = np.cumsum([0, *map(len, streams)])
    np.savez(path, jpeg=np.concatenate(streams), offset=offset, label=labels.astype(np.uint8), classes=np.arange(10))


def test_streams_in_npz(tmp_path, rng):
    labels = rng.integers(0, 10, 20)
    images = pictures(rng, labels)
    for name in ("some_train.npz", "some_test.npz"):
        write_streams(tmp_path / name, images, labels)
    for path in (tmp_path, tmp_path / "some_train.npz"):
        found = load(path)
        assert (found.name, found.num_classes) == ("some-jpeg", 10)
        np.testing.assert_array_equal(found.train.images, images)
        np.testing.assert_array_equal(found.test.labels, labels)


def test_tiny_imagenet(tmp_path, rng):
    (tmp_path / "wnids.txt").write_text("n02\nn01\n")
    for name in ("n01", "n02"):
        folder = tmp_path / "train" / name / "images"
        folder.mkdir(parents=True)
        for i in range(3):
            cv2.imwrite(str(folder / f"{name}_{i}.JPEG"), np.full((64, 64, 3), 40 * i + int(name[1:]), np.uint8))
    (tmp_path / "val" / "images").mkdir(parents=True)
    cv2.imwrite(str(tmp_path / "val" / "images" / "val_0.JPEG"), np.full((64, 64, 3), 9, np.uint8))
    (tmp_path / "val" / "val_annotations.txt").write_text("val_0.JPEG\tn02\t0\t0\t62\t62\n")
    found = load(tmp_path)
    assert (found.kind, found.num_classes, found.side) == ("tiny", 2, 64)
    assert [label for _, label in found.train] == [0, 0, 0, 1, 1, 1]
    assert found.test[0][1] == 1
    np.testing.assert_allclose(found.test[0][0], 9, atol=1)


def test_a_tree_of_class_folders_is_resized(tmp_path, rng):
    for place, side in (("train", 20), ("test", 40)):
        for name in ("cat", "dog"):
            folder = tmp_path / place / name
            folder.mkdir(parents=True)
            cv2.imwrite(str(folder / "0.png"), np.full((side, side + 4, 3), (1, 2, 3), np.uint8))
    found = load(tmp_path, size=16)
    assert (found.kind, found.num_classes) == ("folder", 2)
    assert [label for _, label in found.test] == [0, 1]
    np.testing.assert_array_equal(found.train[0][0], np.full((16, 16, 3), (3, 2, 1), np.uint8))  # RGB
    with pytest.raises(DataError, match="say --size PIXELS"):
        load(tmp_path)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda path: None, "there is no such file or folder"),
        (lambda path: path.mkdir(), r"expected data_batch_1.bin \(CIFAR-10\), train.bin"),
        (lambda path: (path.mkdir(), (path / "data_batch_1.bin").write_bytes(b"")), "records of 3073 bytes, got 0"),
        (lambda path: (path.mkdir(), (path / "train.bin").write_bytes(b"x" * 3073)), "records of 3074 bytes, got 3073"),
        (lambda path: (path.mkdir(), (path / "train.bin").write_bytes(b"x" * 3074)), "test.bin: expected this file"),
        (lambda path: (path.mkdir(), (path / "wnids.txt").write_text("n01")), "val_annotations.txt: expected this file"),
        (lambda path: (path / "train").mkdir(parents=True), "test: expected a folder of class folders"),
        (lambda path: (path.mkdir(), (path / "a_train.npz").write_bytes(b"zip")), "expected the arrays jpeg, offset"),
        (lambda path: (path.mkdir(), np.savez(path / "a_train.npz", jpeg=np.zeros(9, np.uint8), offset=np.arange(3),
                                              label=np.zeros(2, np.uint8))), "image 0 is no JPEG stream"),
        (lambda path: (path.mkdir(), np.savez(path / "a_train.npz", jpeg=np.zeros(1, np.uint8), offset=np.arange(3),
                                              label=np.zeros(2, np.uint8))), "to end in jpeg"),
    ],
)  # fmt: skip
def test_a_bad_set_is_one_line_and_status_2(tmp_path, capsys, spoil, words):
    spoil(tmp_path / "set")
    assert train.main(command(tmp_path / "set", tmp_path / "runs")) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1, error
    assert str(tmp_path / "set") in error
    with pytest.raises(DataError, match=words):
        load(tmp_path / "set")


def test_labels_beyond_the_classes(cifar):
    path = cifar / "cifar-10-batches-bin" / "test_batch.bin"
    path.write_bytes(b"\x0a" + path.read_bytes()[1:])
    with pytest.raises(DataError, match=r"test labels must be in \[0, 10\), got 10"):
        load(cifar)


def test_subsets_are_fixed_balanced_and_apart_from_the_held_out():
    labels = np.random.default_rng(3).permutation(np.arange(60_000) % 10)
    order = fixed_order(labels)
    np.testing.assert_array_equal(np.sort(order), np.arange(60_000))
    for n in (10, 500, 2503):
        counts = np.bincount(labels[order[:n]], minlength=10)
        assert counts.max() - counts.min() <= 1
    images = np.arange(60_000)[:, None]
    split = loop.Split(images, labels)
    small, held_out = training_and_held_out(split, 0.05, False)
    again, tuning = training_and_held_out(split, 0.05, True)
    np.testing.assert_array_equal(small.images, again.images)
    np.testing.assert_array_equal(held_out.images, tuning.images)
    assert (len(small), len(held_out)) == (3000, 5000)
    assert not np.intersect1d(small.images, held_out.images).size
    whole, nothing = training_and_held_out(split, 1.0, False)
    assert (len(whole), nothing) == (60_000, None)
    most, held_out = training_and_held_out(split, 1.0, True)
    assert (len(most), np.intersect1d(most.images, held_out.images).size) == (55_000, 0)
