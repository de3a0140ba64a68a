"""Training runs, in small: stopped, gone on with, and asked for by the command line."""

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
from benchmarks.training.data import load
from benchmarks.training.loop import Recipe, Run, Trainer
from benchmarks.training.machine import Machine
from benchmarks.training.methods import TABLES
from tests.benchmarks.common import command, results


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
