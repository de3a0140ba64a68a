"""The training experiments, in small: data in every form, runs that are stopped and go on, tables by hand."""

import itertools
import json
import os
import re
import shlex
import signal
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from benchmarks import report, train
from benchmarks.training import loop, methods, tables
from benchmarks.training.augment import augmentation
from benchmarks.training.corruptions import GROUPS, MADE, make
from benchmarks.training.data import DataError, corrupted, fixed_order, load, training_and_held_out
from benchmarks.training.loop import Machine, Recipe, Run, Trainer
from benchmarks.training.methods import TABLES, method
from benchmarks.training.networks import NETWORKS
from miamix_cpu import MiAMixCollator, MiAMixConfig


def pictures(rng, labels):
    """Images of one colour a class, noisy."""
    colours = np.random.default_rng(0).integers(40, 215, (100, 3))
    return (colours[labels][:, None, None] + rng.integers(-40, 40, (len(labels), 32, 32, 3))).astype(np.uint8)


def write_records(path, images, labels, coarse=False):
    planes = images.transpose(0, 3, 1, 2).reshape(len(images), -1)
    columns = [labels[:, None].astype(np.uint8), planes]
    np.hstack([np.full((len(images), 1), 7, np.uint8), *columns] if coarse else columns).tofile(path)


@pytest.fixture
def cifar(tmp_path, rng):
    """A folder of CIFAR-10's binary form: 5 files of 20 images, 40 to test on."""
    folder = tmp_path / "cifar" / "cifar-10-batches-bin"
    folder.mkdir(parents=True)
    for name, n in [*((f"data_batch_{i}.bin", 20) for i in range(1, 6)), ("test_batch.bin", 40)]:
        labels = rng.permutation(np.arange(n) % 10)
        write_records(folder / name, pictures(rng, labels), labels)
    return folder.parent


def command(data, runs, *more):
    small = (
        "--network",
        "resnet8",
        "--batch",
        "16",
        "--epochs",
        "4",
        "--every",
        "2",
        "--device",
        "cpu",
        "--amp",
        "off",
    )
    return ["--data", str(data), "--runs", str(runs), *small, *more]


def results(runs):
    """What a run's numbers are, without the times."""
    found = {}
    for path in sorted(runs.glob("*/run.json")):
        result = json.loads(path.read_text())
        result["curves"].pop("seconds")
        if result["final"]:
            result["final"].pop("seconds")
        found[result["run"]] = result["curves"], result["final"]
    return found


# Data


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


# Methods


def test_every_row_of_every_table_is_a_method_and_spellings_are_one():
    for row in itertools.chain(*TABLES.values()):
        found = method(row)
        assert method(found.spelling) == found
    assert method("miamix:k_min=1+weights=2/1/1/1/1").spelling == "miamix"
    assert method("miamix:k_min=4+k_max=4").config == MiAMixConfig(k_min=4, k_max=4)
    assert method("gridmix:gridmix.pattern=random").config.gridmix.pattern == "random"
    assert method("cutmix").config == MiAMixConfig.plain("cutmix")
    lacking = method("miamix:methods=mixup/cutmix+weights=1/3").config
    assert (lacking.methods, lacking.weights) == (("mixup", "cutmix"), (1, 3))


@pytest.mark.parametrize(
    "spelling",
    ["mixmup", "miamix:foo=1", "miamix:merge=other", "vanilla:k_max=1", "gridmix:gridmix.side=1", "miamix:k_max"],
)
def test_a_bad_method_is_one_line_and_status_2(tmp_path, capsys, spelling):
    assert train.main(command(tmp_path, tmp_path, "--methods", spelling)) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_vanilla_is_one_augmented_view_unmixed(rng):
    vanilla, calls = method("vanilla"), []

    def transform(image):
        calls.append(image[0, 0, 0])
        return image[:, ::-1]

    labels = np.arange(8)
    images = pictures(rng, labels)
    collate = MiAMixCollator(10, vanilla.config, transform=transform, seed=0, dtype="uint8", schedule=vanilla.schedule)
    mixed, targets = collate(list(zip(images, labels.tolist(), strict=True)))
    np.testing.assert_array_equal(mixed.numpy(), images[:, :, ::-1].transpose(0, 3, 1, 2))
    np.testing.assert_array_equal(targets.numpy(), np.eye(10, dtype=np.float32)[labels])
    assert len(calls) == 8


def test_augmentation_keeps_the_size(rng):
    image = rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)
    for name in ("crop", "resized"):
        views = [augmentation(name, 64)(image=image)["image"] for _ in range(4)]
        assert {view.shape for view in views} == {(64, 64, 3)}
        assert any((view != image).any() for view in views)
    assert augmentation("none", 64) is None


# Networks


def test_networks_have_their_published_sizes():
    """ResNet-18's CIFAR form by He et al.'s layers; ResNeXt-50's from torchvision's 25,028,904 less stem and classes."""
    parameters = {name: sum(p.numel() for p in make(10).parameters()) for name, make in NETWORKS.items()}
    stem, classes = 64 * 3 * (3 * 3 - 7 * 7), 2049 * (10 - 1000)
    assert parameters["resnext50"] == 25_028_904 + stem + classes
    assert parameters["resnet18"] == 11_689_512 + stem + 513 * (10 - 1000)
    with torch.inference_mode():
        for make_network in NETWORKS.values():
            network = make_network(7).eval()
            assert network[:-3](torch.zeros(1, 3, 32, 32)).shape[2:] in ((4, 4), (8, 8))
            assert network(torch.zeros(2, 3, 32, 32)).shape == (2, 7)


# Runs


@pytest.mark.parametrize(
    ("stop", "workers"), [("minutes", 0), ("minutes", 1), ("terminate", 0), ("interrupt", 0), ("write", 0)]
)
def test_a_stopped_run_goes_on_as_if_it_had_not(cifar, tmp_path, monkeypatch, capsys, stop, workers):
    """Stopped at an epoch's end, in the middle of the third by either signal, or while its checkpoint is written."""
    asked = ("--methods", "miamix", "--seeds", "3", "--workers", str(workers))
    assert train.main(command(cifar, tmp_path / "whole", *asked)) == 0
    whole = results(tmp_path / "whole")
    (curves, final), = whole.values()  # fmt: skip
    assert len(curves["loss"]) == 4
    assert final["accuracy"] > 0.1

    stopped = command(cifar, tmp_path / "stopped", *asked)
    with monkeypatch.context() as patch:
        if stop == "minutes":
            clock = itertools.chain([0.0] * 3, itertools.repeat(61.0))  # the start, and before each epoch
            patch.setattr(train, "time", SimpleNamespace(monotonic=lambda: next(clock)))
            assert train.main([*stopped, "--minutes", "1"]) == train.UNFINISHED
        elif stop == "write":
            patch.setattr(loop.torch, "save", _failing_in_call(3, loop.torch.save))
            assert train.main(stopped) == 2
        else:
            number = signal.SIGTERM if stop == "terminate" else signal.SIGINT
            patch.setattr(loop, "mixed_cross_entropy", _signal_in_call(15, number, loop.mixed_cross_entropy))
            assert train.main(stopped) == 130
            assert "the same command goes on" in capsys.readouterr().err
    ((curves, final),) = results(tmp_path / "stopped").values()
    assert (len(curves["loss"]), final) == (2, None)
    assert train.main(stopped) == 0
    assert results(tmp_path / "stopped") == whole


def _signal_in_call(call, number, function):
    calls = itertools.count(1)

    def wrapped(*arguments):
        if next(calls) == call:
            os.kill(os.getpid(), number)
        return function(*arguments)

    return wrapped


def _failing_in_call(call, function):
    calls = itertools.count(1)

    def wrapped(state, path):
        if next(calls) == call:
            path.write_bytes(b"half")
            raise OSError("no space left")
        function(state, path)

    return wrapped


def test_a_finished_run_is_not_run_again_and_workers_change_nothing(cifar, tmp_path, monkeypatch, capsys):
    asked = ("--methods", "vanilla,miamix", "--seeds", "0,1", "--epochs", "3")
    assert train.main(command(cifar, tmp_path / "a", *asked)) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [("vanilla" in line, f"-s{seed}-" in line) for line, seed in zip(lines, (0, 0, 1, 1), strict=True)] == [
        (True, True), (False, True), (True, True), (False, True)
    ]  # fmt: skip
    monkeypatch.setattr(Run, "train", None)
    assert train.main(command(cifar, tmp_path / "a", *asked)) == 0
    monkeypatch.undo()
    assert train.main(command(cifar, tmp_path / "b", "--methods", "miamix", "--epochs", "3", "--workers", "1")) == 0
    alone = results(tmp_path / "b")
    assert alone.items() <= results(tmp_path / "a").items()


def test_a_size_is_part_of_a_runs_name(tmp_path, rng):
    for place in ("train/a", "test/a"):
        (tmp_path / "set" / place).mkdir(parents=True)
        cv2.imwrite(str(tmp_path / "set" / place / "0.png"), rng.integers(0, 256, (8, 9, 3), dtype=np.uint8))
    names = [
        Run(Recipe(method="vanilla"), Machine(), load(tmp_path / "set", size=size), tmp_path).name for size in (8, 16)
    ]
    assert names[0] != names[1]


def test_a_changed_default_makes_another_run(cifar, tmp_path, monkeypatch):
    images = load(cifar)
    before = Run(Recipe(method="miamix"), Machine(), images, tmp_path)
    changed = methods.Method("miamix", before.method.config.replace(smooth_max=0.1), 1.0)
    monkeypatch.setattr(loop, "method", lambda spelling: changed)
    assert Run(Recipe(method="miamix"), Machine(), images, tmp_path).name != before.name


def test_a_run_that_another_process_is_at_is_left_alone(cifar, tmp_path, capsys):
    asked = command(cifar, tmp_path, "--methods", "vanilla", "--epochs", "1")
    run = Run(train.recipes(train.parser().parse_args(asked))[0], Machine(), load(cifar), tmp_path)
    with run.locked() as ours:
        assert ours
        assert train.main(asked) == train.UNFINISHED
    assert "0 of 1 runs" in capsys.readouterr().out
    assert not run.finished


def test_an_unreadable_checkpoint_is_named(cifar, tmp_path, capsys):
    asked = command(cifar, tmp_path, "--methods", "vanilla", "--epochs", "1")
    run = Run(train.recipes(train.parser().parse_args(asked))[0], Machine(), load(cifar), tmp_path)
    run.folder.mkdir()
    (run.folder / "checkpoint.pt").write_bytes(b"nothing")
    assert train.main(asked) == 2
    assert "checkpoint.pt: can't be read, delete it" in capsys.readouterr().err


def test_the_order_is_a_shuffling_loaders_own(cifar, tmp_path):
    """So the committed runs were made; and it hangs on seed and epoch alone."""
    images = load(cifar)
    asked = []

    class Asked:
        def __len__(self):
            return len(images.train)

        def __getitem__(self, index):
            asked.append(index)
            return images.train[index]

    recipe = Recipe(method="vanilla", network="resnet8", batch=20, epochs=2, seed=3)
    Trainer(Run(recipe, Machine(), images, tmp_path), Asked(), ((0.5,) * 3, (0.2,) * 3), None).epoch(1)
    order = torch.Generator().manual_seed(3 * 1_000_003 + 1)
    loader = DataLoader(range(len(images.train)), 20, shuffle=True, drop_last=True, generator=order)
    assert asked == torch.cat(list(loader)).tolist()


def test_learning_rate_follows_the_cosine(cifar, tmp_path):
    recipe = Recipe(method="vanilla", network="resnet8", batch=20, epochs=2, lr=0.4)
    images = load(cifar)
    trainer = Trainer(Run(recipe, Machine(), images, tmp_path), images.train, ((0.5,) * 3, (0.2,) * 3), None)
    seen = []
    trainer.optimizer.register_step_pre_hook(lambda optimizer, *_: seen.append(optimizer.param_groups[0]["lr"]))
    for epoch in range(2):
        trainer.epoch(epoch)
    np.testing.assert_allclose(seen, 0.2 * (1 + np.cos(np.pi * np.arange(10) / 10)))


def test_held_out_runs_never_see_the_test_images(cifar, tmp_path, monkeypatch):
    seen = []
    accuracy = Trainer.accuracy
    monkeypatch.setattr(Trainer, "accuracy", lambda self, split: (seen.append(split), accuracy(self, split))[1])
    assert train.main(command(cifar, tmp_path, "--methods", "vanilla", "--held-out")) == 0
    ((curves, final),) = results(tmp_path).values()
    assert (final["on"], final["images"]) == ("held-out", 20)
    assert curves["held_out_accuracy"][-1] == final["accuracy"]
    test = load(cifar).test.images
    assert not any((split.images[:, None] == test[None]).all(axis=(2, 3, 4)).any() for split in seen)
    assert train.main(command(cifar, tmp_path, "--held-out", "--robust")) == 2


def test_a_loss_that_is_not_finite_is_one_line(cifar, tmp_path, capsys):
    assert train.main(command(cifar, tmp_path, "--methods", "vanilla", "--lr", "1e30")) == 2
    assert "the loss is nan in epoch" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (("--fraction", "0"), "fraction must be in (0, 1]"),
        (("--epochs", "0"), "epochs must be at least 1"),
        (("--seeds", "a"), "--seeds must be integers"),
        (("--workers", "-1"), "--workers must be at least 0"),
        (("--device", "abacus"), "--device must be one that torch can use here"),
        (("--batch", "1000"), "a batch of 1000 needs as many training images, there are 100"),
    ],
)
def test_bad_options_are_one_line_and_status_2(cifar, tmp_path, capsys, more, words):
    assert train.main(command(cifar, tmp_path, *more)) == 2
    error = capsys.readouterr().err
    assert words in error
    assert error.count("\n") == 1


def test_dry_run_lists_commands_that_ask_for_the_same_runs(tmp_path, capsys):
    for number, rows in TABLES.items():
        asked = command(tmp_path / "nowhere", tmp_path, f"--table={number}", "--seeds", "0,1", "--dry-run")
        assert train.main(asked) == 0
        lines = capsys.readouterr().out.splitlines()
        assert len(lines) == 4 * len(rows)
        wanted = train.recipes(train.parser().parse_args(asked))
        for line, recipe in zip(lines[::2], wanted, strict=True):
            given = train.parser().parse_args(shlex.split(line)[3:])
            assert train.recipes(given) == [recipe]
            assert given.robust == (number in methods.ROBUST_TABLES)


def test_cost_compares_interleaved_epochs(cifar, tmp_path, capsys):
    path = tmp_path / "cost.json"
    assert train.main(command(cifar, tmp_path, "--cost", "2", "--json", str(path), "--methods", "miamix")) == 0
    result = json.loads(path.read_text())
    assert list(result["epochs"]) == ["vanilla", "miamix"]
    assert result["epochs"]["vanilla"]["ratio"] == 1
    assert any("| MiAMix (Table 1) |" in line for line in tables.cost_table(result))
    assert not list(tmp_path.glob("*/run.json"))


# Corruptions


@pytest.mark.parametrize("name", [name for names in GROUPS.values() for name in names])
def test_corruptions_are_fixed_and_grow(name, rng):
    coarse = rng.integers(0, 256, (6, 8, 8, 3), dtype=np.uint8)
    images = np.stack([cv2.resize(image, (32, 32), interpolation=cv2.INTER_CUBIC) for image in coarse])
    made = [make(images, name, severity) for severity in (1, 5)]
    np.testing.assert_array_equal(made[0], make(images, name, 1))
    assert all(array.dtype == np.uint8 and array.shape == images.shape for array in made)
    weak, strong = (np.abs(array.astype(int) - images).mean() for array in made)
    assert 0 < weak < strong


def test_robustness_goes_on_from_the_networks_of_finished_runs(cifar, tmp_path, rng, capsys):
    """Made corruptions, then a file in CIFAR-C's form whose severities 2 to 5 hold other images than its first."""
    asked = command(cifar, tmp_path / "runs", "--methods", "vanilla,miamix", "--epochs", "6")
    assert train.main([*asked, "--robust", "--robust-images", "4"]) == 0
    (path, _) = sorted((tmp_path / "runs").glob("*/run.json"))
    robust = json.loads(path.read_text())["robust"]
    assert (robust["source"], robust["images"]) == (MADE, 4)
    assert set(robust["accuracy"]) == {name for names in GROUPS.values() for name in names}
    assert all(len(values) == 5 for values in robust["accuracy"].values())

    test, folder = load(cifar).test, tmp_path / "CIFAR-10-C"
    folder.mkdir()
    noise = rng.integers(0, 256, test.images.shape, dtype=np.uint8)
    np.save(folder / "fog.npy", np.concatenate([test.images, *[noise] * 4]))
    np.save(folder / "labels.npy", np.tile(test.labels, 5).astype(np.uint8))
    assert train.main([*asked, "--corruptions", str(folder)]) == 0
    result = json.loads(path.read_text())
    assert result["robust"]["source"] == "CIFAR-10-C"
    fog = result["robust"]["accuracy"]["fog"]
    assert fog[0] == result["final"]["accuracy"] > fog[1] == fog[4]
    (title, *_) = [line for line in tables.robustness(tables.read([tmp_path / "runs"])) if line.startswith("Table 3")]
    assert "CIFAR-10-C" in title
    assert MADE not in title
    assert train.main([*asked, "--corruptions", str(folder), "--robust-images", str(len(test) + 3)]) == 0
    assert json.loads(path.read_text())["robust"]["accuracy"]["fog"] == fog

    np.save(folder / "labels.npy", np.arange(7))
    never = command(cifar, tmp_path / "never", "--methods", "vanilla")
    assert train.main([*never, "--corruptions", str(folder)]) == 2
    assert not (tmp_path / "never").exists()
    assert train.main([*asked, "--corruptions", str(folder)]) == 2
    assert "fog.npy: expected uint8 (5 n, H, W, 3) and as many labels" in capsys.readouterr().err
    with pytest.raises(DataError, match=r"labels.npy: expected an array in a .npy file"):
        corrupted(tmp_path)


# Report


def run_of(name, seed, accuracy, **settings):
    return {
        "run": f"{name}-{seed}",
        "settings": {"data": "d", "network": "n", "training_images": 10, "epochs": 3, "batch": 2, "lr": 0.1,
                     "momentum": 0.9, "weight_decay": 0, "amp": "off", "augment": "crop", "method": name, "seed": seed,
                     "config": methods.method(name).describe(), **settings},
        "environment": {"device": "cpu", "cpu": "c", "cores": 1, "python": "3", "date": "2023-08-07",
                        "versions": {"torch": "1", "albumentations": "2", "numba": "3"}},
        "curves": {"loss": [2.0, 1.0, 0.5], "training_accuracy": [None, 0.5, 0.9], "held_out_accuracy": [None, 0.4, 0.5]},
        "final": {"on": "test", "images": 100, "accuracy": accuracy, "training_accuracy": 1.0, "seconds": 1.0},
    }  # fmt: skip


RUNS = [
    run_of("vanilla", 0, 0.50), run_of("vanilla", 1, 0.60), run_of("vanilla", 2, 0.40),
    run_of("miamix", 0, 0.54), run_of("miamix", 1, 0.62), run_of("miamix", 5, 0.10),
    run_of("miamix:k_min=4+k_max=4", 0, 0.51), run_of("miamix:gauss_scale=area", 0, 0.49),
]  # fmt: skip


def test_tables_pair_by_seed():
    """miamix: +4 and +2 points where vanilla has the same seed, so +3 with a standard error of 1; seed 5 has no pair."""
    lines = tables.report(RUNS).splitlines()
    assert "| vanilla | 3 | 50.00 ± 10.00 |  | -3.00 ± 1.00 (2) | 100.00 ± 0.00 |" in lines
    assert "| MiAMix (Table 1) | 3 | 42.00 ± 28.00 | +3.00 ± 1.00 (2) |  | 100.00 ± 0.00 |" in lines
    assert "| k_min=4, k_max=4 | 1 | 51.00 | +1.00 (1) | -3.00 (1) | 100.00 | 67.0 |" in lines
    assert "| gauss_scale=area | 1 | 49.00 | -1.00 (1) | -5.00 (1) | 100.00 |" in lines
    assert any(line.startswith("Table 2") and "Not run: mixup; cutmix" in line for line in lines)
    assert not any(line.startswith("Table 7") for line in lines)


def test_runs_with_other_settings_are_kept_apart():
    text = tables.report([*RUNS, run_of("vanilla", 0, 0.9, epochs=7)])
    assert text.count("Table 2") == 2
    assert "| vanilla | 3 | 50.00" in text
    assert "| vanilla | 1 | 90.00 |" in text


def test_report_names_runs_by_what_was_configured_not_by_the_defaults_of_their_time(tmp_path):
    old = run_of("miamix", 0, 0.3)
    old["settings"]["config"]["config"]["smooth_max"] = 0.125
    plain = run_of("cutmix", 0, 0.2)
    plain["settings"]["config"]["config"]["smooth_max"] = 0.125  # nothing is smoothed
    both = tmp_path / "runs.jsonl"
    both.write_text("\n".join(json.dumps({**run, "run": str(i)}) for i, run in enumerate((old, plain, RUNS[3]))))
    found = json.loads(json.dumps([run["settings"]["method"] for run in tables.read([both])]))
    assert found == ["miamix:smooth_max=0.125", "cutmix", "miamix"]


def test_a_configuration_that_is_none_today_is_no_run(tmp_path, capsys):
    foreign = run_of("miamix", 0, 0.3)
    foreign["settings"]["config"]["config"]["no_such_field"] = 1
    file = tmp_path / "runs.jsonl"
    file.write_text(json.dumps(foreign))
    assert report.main([str(file)]) == 2
    assert "runs.jsonl, line 1: expected a run" in capsys.readouterr().err


def test_two_runs_of_the_same_are_named(tmp_path, capsys):
    twice = tmp_path / "runs.jsonl"
    twice.write_text("\n".join(json.dumps({**RUNS[0], "run": name}) for name in ("one", "another")))
    assert report.main([str(twice)]) == 2
    assert "another and one are both vanilla, seed 0: give one of them" in capsys.readouterr().err


def test_report_gathers_writes_and_draws(tmp_path, capsys):
    for i, run in enumerate(RUNS):
        (tmp_path / "runs" / str(i)).mkdir(parents=True)
        (tmp_path / "runs" / str(i) / "run.json").write_text(json.dumps(run) + "\n")
    (tmp_path / "runs" / "0" / "run.json").write_text(json.dumps({**RUNS[0], "final": None}))
    gathered, page, figure = tmp_path / "all.jsonl", tmp_path / "page.md", tmp_path / "curves.png"
    page.write_text(f"before\n{report.BEGIN}\nold\n{report.END}\nafter\n")
    outputs = ["--gather", str(gathered), "--write", str(page), "--plot", str(figure), "--cost"]
    assert report.main([str(tmp_path / "runs"), *outputs]) == 0
    assert len(gathered.read_text().splitlines()) == len(RUNS) - 1
    text = page.read_text()
    assert text.startswith(f"before\n{report.BEGIN}\n**100 test images.**")
    assert text.endswith(f"|\n{report.END}\nafter\n")
    assert cv2.imread(str(figure)).std() > 1
    assert report.main([str(gathered)]) == 0
    assert capsys.readouterr().out in text
    assert report.main([]) == 0
    assert "Training cost" in capsys.readouterr().out
    assert report.main([str(gathered), "--cost", str(tmp_path / "no.json")]) == 2
    assert "no.json" in capsys.readouterr().err

    page.write_text("no marks")
    assert report.main([str(gathered), "--cost", "--write", str(page)]) == 2
    gathered.write_text("{}\n")
    assert report.main([str(gathered)]) == 2
    assert "all.jsonl, line 1: expected a run" in capsys.readouterr().err


def test_the_documentation_gives_commands_that_are_understood():
    text = (Path(__file__).parents[2] / "docs" / "experiments.md").read_text()
    commands = re.findall(r"python -m (benchmarks\.\w+) ([^#;\n]*)", text.partition(report.BEGIN)[0])
    assert len(commands) >= 10
    settings = re.findall(r'^(\w+)="(.*)"$', text, flags=re.MULTILINE)
    assert len(settings) == 2
    for module, words in commands:
        for name, value in settings:
            words = words.replace(f"${name}", value)
        arguments = shlex.split(words)
        if module == "benchmarks.report":
            report.parser().parse_args(arguments)
        else:
            asked = train.parser().parse_args([*arguments, "--device", "cpu"])
            recipes = train.recipes(asked)
            assert recipes
            if asked.methods:  # none of which is another one by today's defaults
                assert len({recipe.method for recipe in recipes}) == len(asked.methods.split(","))
