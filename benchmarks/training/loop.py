"""One run: a network trained with a method, stopped at any time, gone on with where it stopped.

A run's folder holds `checkpoint.pt`, written after each epoch, and `run.json`: configuration, curves, results. All
that is random comes from the seed and the epoch's number (the order of the images, the collator's key), so a run that
was stopped shows the same numbers as one that was not.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import math
import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from torch.utils.data import DataLoader, RandomSampler
from tqdm import tqdm

from benchmarks.training.augment import augmentation
from benchmarks.training.automix import AutoMix
from benchmarks.training.data import ImageSet, Split, channel_statistics, training_and_held_out
from benchmarks.training.machine import Machine, where
from benchmarks.training.methods import method
from benchmarks.training.networks import NETWORKS, Residual
from miamix_cpu import MiAMixCollator, mixed_accuracy, mixed_cross_entropy, normalize_on_device
from miamix_cpu.checks import check_integer, check_real

_EVALUATION_BATCH = 500


class TrainingError(Exception):
    """A run that can't go on; one line."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """All that a run's numbers hang on; the defaults are the paper's.

    Parameters
    ----------
    method : str
        Its spelling, see `methods`.
    network : str
    seed : int
        Of the network's first weights, the order of the images, views and mixing.
    fraction : float in (0, 1]
        Of the training images, the same ones for all methods and seeds.
    held_out : bool
        Evaluate on 5,000 held-out training images, not on the test images.
    augment : "crop", "resized" or "none"
    amp : "off", "bfloat16" or "float16"
    every : int
        Held-out accuracy and accuracy on unmixed training images each so many epochs; 0 for the end only.
    """

    method: str
    network: str = "resnet18"
    seed: int = 0
    epochs: int = 400
    batch: int = 128
    lr: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 5e-4
    nesterov: bool = False
    fraction: float = 1.0
    held_out: bool = False
    augment: str = "crop"
    amp: str = "off"
    every: int = 1

    def __post_init__(self) -> None:
        for name, low in (("seed", 0), ("epochs", 1), ("batch", 2), ("every", 0)):
            check_integer(name, getattr(self, name), low=low)
        check_real("lr", self.lr, above=True)
        check_real("momentum", self.momentum, high=1.0, below=True)
        check_real("weight_decay", self.weight_decay)
        check_real("fraction", self.fraction, high=1.0, above=True)


class Run:
    """One run in one folder.

    Parameters
    ----------
    recipe, machine : Recipe, Machine
    images : ImageSet
    runs : Path
        The folder of all runs' folders.
    """

    def __init__(self, recipe: Recipe, machine: Machine, images: ImageSet, runs: Path) -> None:
        self.method = method(recipe.method)
        self.recipe, self.machine, self.images = replace(recipe, method=self.method.spelling), machine, images
        self.settings = {"data": images.name, **asdict(self.recipe), "training_images": len(self._training()[0])}
        if images.resized:
            self.settings["size"] = images.side
        self.settings["config"] = self.method.describe()  # whole: a later default makes another run
        digest = hashlib.sha256(json.dumps(self.settings, sort_keys=True).encode()).hexdigest()[:8]
        words = re.sub(r"[^\w=.,+-]+", "_", f"{images.name}-{recipe.network}-{self.recipe.method}")[:80]
        self.name = f"{words}-s{recipe.seed}-{digest}"
        self.folder = runs / self.name

    @property
    def result(self) -> dict[str, Any] | None:
        """`run.json`, once there is one."""
        path = self.folder / "run.json"
        return json.loads(path.read_text()) if path.exists() else None

    @property
    def finished(self) -> bool:
        """It has been trained and evaluated."""
        result = self.result
        return result is not None and result["final"] is not None

    def update(self, result: dict[str, Any]) -> None:
        """Replace `run.json`."""
        _replace(self.folder / "run.json", lambda path: path.write_text(json.dumps(result) + "\n"))

    def trained(self) -> Trainer:
        """The finished run's network, to be evaluated."""
        state = self._load()
        if state is None:
            raise TrainingError(f"{self.folder}: the checkpoint is gone, the network can't be evaluated")
        return Trainer(self, self._training()[0], state["statistics"], state)

    @contextmanager
    def locked(self) -> Iterator[bool]:
        """Whether the run is ours: another process may be at it. The lock goes with the process."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / "lock").open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
            else:
                yield True

    def train(self, seconds_left: Callable[[], float]) -> bool:
        """Go on from the last checkpoint; False where the time ran out before the end."""
        recipe = self.recipe
        state = self._load()
        training, held_out = self._training()
        if len(training) < recipe.batch:
            raise TrainingError(f"a batch of {recipe.batch} needs as many training images, there are {len(training)}")
        statistics = state["statistics"] if state else channel_statistics(training)
        trainer = Trainer(self, training, statistics, state)
        curves = trainer.curves
        last = curves[-1]["seconds"] if curves else 0.0
        for epoch in tqdm(
            range(len(curves), recipe.epochs), initial=len(curves), total=recipe.epochs, desc=self.name, unit="epoch",
            disable=None,
        ):  # fmt: skip
            if seconds_left() < last:
                return False
            began = time.perf_counter()
            row = trainer.epoch(epoch)
            row["seconds"] = round(time.perf_counter() - began, 3)
            if (recipe.every and (epoch + 1) % recipe.every == 0) or epoch + 1 == recipe.epochs:
                row["training_accuracy"] = trainer.accuracy(training)
                if held_out is not None:
                    row["held_out_accuracy"] = trainer.accuracy(held_out)
            curves.append(row)
            self._save(trainer)
            last = time.perf_counter() - began
        self._finish(trainer, held_out)
        return True

    def _finish(self, trainer: Trainer, held_out: Split | None) -> None:
        """Evaluate on the test images, once, or where they must not be looked at yet on the held-out ones."""
        self._save(trainer)
        result = self.result
        on = held_out if self.recipe.held_out else self.images.test
        result["final"] = {
            "on": "held-out" if self.recipe.held_out else "test",
            "images": len(on),
            "accuracy": trainer.accuracy(on),
            "training_accuracy": trainer.curves[-1]["training_accuracy"],
            "seconds": round(sum(row["seconds"] for row in trainer.curves), 1),
        }
        self.update(result)

    def _training(self) -> tuple[Split, Split | None]:
        return training_and_held_out(self.images.train, self.recipe.fraction, self.recipe.held_out)

    def _new_network(self) -> Residual:
        torch.manual_seed(self.recipe.seed)
        model = NETWORKS[self.recipe.network](self.images.num_classes)
        return model.to(self.machine.device, memory_format=torch.channels_last)

    def _load(self) -> dict[str, Any] | None:
        path = self.folder / "checkpoint.pt"
        if not path.exists():
            return None
        try:
            return torch.load(path, map_location=self.machine.device, weights_only=True)
        except (RuntimeError, EOFError, UnpicklingError) as error:
            raise TrainingError(f"{path}: can't be read, delete it to begin this run anew") from error

    def _save(self, trainer: Trainer) -> None:
        """The checkpoint first: `run.json` is derived from it."""
        self.folder.mkdir(parents=True, exist_ok=True)
        _replace(self.folder / "checkpoint.pt", lambda path: torch.save(trainer.state(), path))
        columns = {name: [row.get(name) for row in trainer.curves] for name in _columns(trainer.curves)}
        result = {"run": self.name, "settings": self.settings, "environment": where(self.machine)}
        self.update({**result, "curves": columns, "final": None})


class Trainer:
    """A network, its optimizer, and the loaders.

    Parameters
    ----------
    run : Run
    training : Split
    statistics : mean and standard deviation of the channels
    state : dict, optional
        Of a checkpoint.
    """

    def __init__(self, run: Run, training: Split, statistics: Any, state: dict[str, Any] | None) -> None:
        recipe = self.recipe = run.recipe
        self.machine, self.statistics = run.machine, statistics
        self.collate = MiAMixCollator(
            run.images.num_classes, run.method.config, transform=augmentation(recipe.augment, run.images.side),
            seed=recipe.seed, dtype="uint8", memory_format="channels_last", schedule=run.method.schedule,
        )  # fmt: skip
        self.order = torch.Generator()
        workers = run.machine.workers
        self.loader = DataLoader(
            training, recipe.batch, sampler=RandomSampler(training, generator=self.order), drop_last=True,
            collate_fn=self.collate, num_workers=workers, persistent_workers=workers > 0, pin_memory=self.cuda,
        )  # fmt: skip
        self.model = run._new_network()
        self.automix = AutoMix(self.model, run.method.automix) if run.method.automix else None
        parameters = [*self.model.parameters(), *(self.automix.block.parameters() if self.automix else ())]
        self.optimizer = torch.optim.SGD(
            parameters, recipe.lr, recipe.momentum, weight_decay=recipe.weight_decay, nesterov=recipe.nesterov
        )
        self.scaler = torch.amp.GradScaler(enabled=self.cuda and recipe.amp == "float16")
        self.curves: list[dict[str, Any]] = []
        if state is not None:
            self.model.load_state_dict(state["model"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.scaler.load_state_dict(state["scaler"])
            if self.automix:
                self.automix.load_state_dict(state["automix"])
            self.curves = state["curves"]

    @property
    def cuda(self) -> bool:
        """On a GPU."""
        return self.machine.device.startswith("cuda")

    def state(self) -> dict[str, Any]:
        """Of a checkpoint: all that the coming epochs hang on."""
        return {
            "model": self.model.state_dict(), "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(), "curves": self.curves, "statistics": self.statistics,
            **({"automix": self.automix.state_dict()} if self.automix else {}),
        }  # fmt: skip

    def epoch(self, epoch: int) -> dict[str, Any]:
        """Train for one epoch; its mean loss, the accuracy on mixed batches, and what AutoMix notes."""
        self.collate.set_epoch(epoch)
        self.order.manual_seed(self.recipe.seed * 1_000_003 + epoch)
        torch.empty((), dtype=torch.int64).random_(generator=self.order)  # as a loader draws its seed first
        self.model.train()
        if self.automix:
            self.automix.begin(self.recipe.seed, epoch)
        totals = torch.zeros(2, dtype=torch.float64, device=self.machine.device)  # read once, at the end
        batches = len(self.loader)
        bar = tqdm(self.loader, desc=f"epoch {epoch}", leave=False, disable=None)
        for step, (images, targets) in enumerate(bar):
            done = (epoch + step / batches) / self.recipe.epochs
            self._set_lr(done)
            targets = targets.to(self.machine.device, non_blocking=True)
            if self.automix:
                with self._autocast():
                    loss, logits, targets = self.automix.loss(self.model, self._pictures(images), targets, done)
            else:
                logits = self.logits(images)
                loss = mixed_cross_entropy(logits, targets)
            self.optimizer.zero_grad(set_to_none=True)
            self.scaler.scale(loss).backward()
            self.scaler.step(self.optimizer)
            self.scaler.update()
            if self.automix:
                self.automix.follow(self.model, done)
            totals += torch.stack([loss.detach(), mixed_accuracy(logits.detach(), targets)])
        loss, accuracy = (totals / batches).tolist()
        if not math.isfinite(loss):
            raise TrainingError(f"the loss is {loss} in epoch {epoch}: try a smaller --lr")
        noted = self.automix.noted() if self.automix else {}
        return {"loss": round(loss, 5), "mixed_accuracy": round(accuracy, 5), **noted}

    def logits(self, images: torch.Tensor) -> torch.Tensor:
        """Of a batch of bytes; float32 (N, classes)."""
        pictures = self._pictures(images)
        with self._autocast():
            logits = self.model(pictures)
        return logits.float()

    def _pictures(self, images: torch.Tensor) -> torch.Tensor:
        return normalize_on_device(images.to(self.machine.device, non_blocking=True), *self.statistics)

    def _autocast(self) -> torch.autocast:
        enabled = self.recipe.amp != "off"
        half = getattr(torch, self.recipe.amp) if enabled else None
        return torch.autocast(torch.device(self.machine.device).type, dtype=half, enabled=enabled)

    @torch.inference_mode()
    def accuracy(self, split: Split) -> float:
        """Share of `split`, as it is, that is named rightly."""
        self.model.eval()
        loader = DataLoader(split, _EVALUATION_BATCH, collate_fn=self.collate.plain(), num_workers=self.machine.workers)
        right = 0
        for images, targets in loader:
            right += int((self.logits(images).argmax(1).cpu() == targets.argmax(1)).sum())
        return round(right / len(split), 5)

    def _set_lr(self, done: float) -> None:
        """The cosine's value where `done` of the training is done, in [0, 1)."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.recipe.lr * 0.5 * (1 + math.cos(math.pi * done))


def _columns(curves: list[dict[str, Any]]) -> dict[str, None]:
    return dict.fromkeys(name for row in curves for name in row)


def _replace(path: Path, write: Callable[[Path], Any]) -> None:
    """Write beside `path`, then put it in its place: whenever we are stopped, one of both is whole."""
    beside = path.with_name(f"{path.name}.new")
    write(beside)
    os.replace(beside, path)
