"""A real DataLoader, plain against MiAMix: images a second, where the time goes, and the training cost.

Plain is one view by Albumentations and `default_collate`; MiAMix two views and everything of Table 1, with compiled
views and with Albumentations' own. The training cost is the paper's:
time with / time without, for a consumer whose step takes a given time and leaves the CPU idle, as an accelerator does;
also with workers at a lower priority than the main process, where they take every core. With `--device cuda` it is the
real thing: a network's training steps.
"""

from __future__ import annotations

import math
import os
import statistics
import tempfile
import time
import warnings
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.consumer import Step, Training, asleep, copied, finish
from benchmarks.datasets import Arrays, Jpegs, Nothing
from benchmarks.timing import new_figure, one_thread, parser, table, write
from benchmarks.torchvision_wheel import import_torchvision
from tests.shared_memory import lies_in_shared_memory

NICE = 10
UNCOMPILED = "MiAMix, views by Albumentations"


class Plain:
    """One view a sample, then `default_collate`; keyed like ours, so that workers differ."""

    def __init__(self, transform: Any) -> None:
        from miamix_cpu.views.transform import Transform

        self.make = Transform(transform, compiled_views=False).make
        self.seed = 0

    def __call__(self, samples: list[Any]) -> Any:
        from torch.utils.data import default_collate, get_worker_info

        self.seed += 1
        info = get_worker_info()
        rng = np.random.default_rng((self.seed, 0 if info is None else info.id))
        views = self.make([image for image, _ in samples], False, range(len(samples)), rng, str)
        planar = [(np.ascontiguousarray(v.transpose(2, 0, 1)), y) for v, (_, y) in zip(views, samples, strict=True)]
        return default_collate(planar)


class OnlyFills:
    """Fills as much shared memory as a batch has, and nothing else: lent as ours is, or fresh as torch's is."""

    def __init__(self, shape: tuple[int, ...], lent: bool) -> None:
        self.shape, self.lent = shape, lent

    def __call__(self, samples: list[Any]) -> Any:
        import torch

        from miamix_cpu.workers.transport import empty

        shape = (len(samples), *self.shape)
        if self.lent:
            images = empty(shape, torch.uint8)
        else:
            images = torch.empty(0, dtype=torch.uint8)
            storage: Any = images.untyped_storage()
            images = images.set_(storage._new_shared(math.prod(shape))).view(shape)
        images.fill_(1)
        return images, empty((len(samples),), torch.int64).zero_()


def at_lower_priority(_: int) -> None:
    """For a worker: whenever the main process wants a core, it has it at once."""
    os.nice(NICE)


def loader_of(dataset: Any, collate: Any, workers: int, batch: int, begin: Any = None, device: str = "cpu") -> Any:
    from torch.utils.data import DataLoader

    return DataLoader(
        dataset, batch, num_workers=workers, collate_fn=collate, persistent_workers=workers > 0, worker_init_fn=begin,
        pin_memory=device != "cpu",
    )  # fmt: skip


def epoch_time(loader: Any, collate: Any, epoch: int, step: Step | None = None) -> float:
    """Seconds of an epoch in which `step` takes each batch."""
    if hasattr(collate, "set_epoch"):
        collate.set_epoch(epoch)
    start = time.perf_counter()
    for images, targets in loader:
        if step is not None:
            step(images, targets)
    finish()
    return time.perf_counter() - start


def training_cost(
    loaders: dict[str, Any], kinds: dict[str, Any], steps: dict[str, Step], epochs: Iterator[int], rounds: int
) -> dict[str, float]:
    """Time with / time without, for each of the steps."""
    found = {}
    for name, step in steps.items():
        costs = []
        for turn in range(rounds):
            epoch, seconds = next(epochs), {}
            for kind in ("plain", "MiAMix")[:: 1 if turn % 2 else -1]:
                seconds[kind] = epoch_time(loaders[kind], kinds[kind], epoch, step)
            costs.append(seconds["MiAMix"] / seconds["plain"])
        found[name] = statistics.median(costs)
    return found


def simulated_steps(mixed: float, plain: float) -> dict[str, Step]:
    """Steps by how much faster the workers are, who need `mixed` seconds a batch; and one that waits for them.

    The last is half as long as the plain loader takes for a batch.
    """
    steps = {f"workers {slack:g}x as fast as the consumer": asleep(slack * mixed) for slack in (1.2, 1.5, 2.0)}
    return {**steps, "consumer 2x as fast as the plain loader": asleep(plain / 2)}


def taking_over(loader: Any, collate: Any, epoch: int) -> float:
    """Milliseconds of the main process's CPU for taking a batch over from a worker."""
    start = time.process_time()
    epoch_time(loader, collate, epoch)
    return 1e3 * (time.process_time() - start) / len(loader)


def parts_of(dataset: Any, transform: Any, size: int, batch: int) -> dict[str, float]:
    """Milliseconds a batch in one process: decoding, both views, and what collating takes beside its views."""
    from miamix_cpu import MiAMixCollator

    found: dict[str, list[float]] = {"decode": [], "two views": [], "mixing": [], "default_collate": []}
    mix, plain = MiAMixCollator(10, transform=transform, seed=0, dtype="uint8"), Plain(transform)
    spent = [0.0]

    def timed(make: Any) -> Any:
        def run(*arguments: Any) -> Any:
            start = time.perf_counter()
            views = make(*arguments)
            spent[0] += time.perf_counter() - start
            return views

        return run

    mix._transform.compiled.make, plain.make = timed(mix._transform.compiled.make), timed(plain.make)
    turns = 40 if size < 224 else 12
    for turn in range(turns):
        start = time.perf_counter()
        samples = [dataset[i] for i in range(batch)]
        seconds = {"decode": time.perf_counter() - start}
        mix.set_epoch(turn)
        for name, collate in (("default_collate", plain), ("mixing", mix))[:: 1 if turn % 2 else -1]:
            spent[0] = 0.0
            start = time.perf_counter()
            collate(samples)
            seconds[name] = time.perf_counter() - start - spent[0]
            if name == "mixing":
                seconds["two views"] = spent[0]
        if turn >= turns // 10:
            for name, times in found.items():
                times.append(1e3 * seconds[name])
    return {name: statistics.median(times) for name, times in found.items()}


def one_view(images: list[Any], transform: Any) -> float:
    """How many times as long Albumentations takes for one view of each image as a program takes for all."""
    from miamix_cpu.samples.images import TRANSFORMED, read_images
    from miamix_cpu.views.transform import Transform

    theirs, ours = Transform(transform, compiled_views=False), Transform(transform, compiled_views=True)
    times: dict[str, list[float]] = {"theirs": [], "ours": []}
    for turn in range(30):
        held, rng = read_images(images, "auto", str, TRANSFORMED), np.random.default_rng(turn)
        addresses = held.gathered.addresses if held.alike else None
        start = time.perf_counter()
        theirs.make(images, False, range(len(images)), rng, str)
        middle = time.perf_counter()
        ours.compiled.make(images, addresses, range(len(images)), rng, str, {})
        times["theirs"].append(middle - start)
        times["ours"].append(time.perf_counter() - middle)
    return statistics.median(times["theirs"][3:]) / statistics.median(times["ours"][3:])


def speeds(
    dataset: Any, transform: Any, given: Any, batch: int, epochs: Iterator[int], peers: dict[str, Any]
) -> dict[str, dict[str, float]]:
    """Images a second by workers and kind, interleaved; `peers` are further collate functions."""
    from miamix_cpu import MiAMixCollator

    found = {}
    for workers in given.workers:
        kinds = {
            "plain": Plain(transform),
            "MiAMix": MiAMixCollator(10, transform=transform, seed=0, dtype="uint8"),
            UNCOMPILED: MiAMixCollator(10, transform=transform, seed=0, dtype="uint8", compiled_views=False),
            **peers,
        }
        loaders = {kind: loader_of(dataset, collate, workers, batch) for kind, collate in kinds.items()}
        times: dict[str, list[float]] = {kind: [] for kind in kinds}
        for turn in range(2 if given.quick else 4):
            for kind, loader in loaders.items():
                seconds = epoch_time(loader, kinds[kind], next(epochs))
                times[kind] += [seconds] if turn else []
        found[str(workers)] = {kind: len(dataset) / statistics.median(values) for kind, values in times.items()}
    return found


class TorchvisionViews:
    """One view a sample by torchvision's v2 transforms on tensors, then `default_collate`."""

    def __init__(self) -> None:
        import_torchvision()
        from torchvision.transforms import v2

        self.make = v2.Compose([v2.Pad(4), v2.RandomCrop(32), v2.RandomHorizontalFlip()])

    def __call__(self, samples: list[Any]) -> Any:
        import torch
        from torch.utils.data import default_collate

        views = [(self.make(torch.from_numpy(image).permute(2, 0, 1)), label) for image, label in samples]
        return default_collate(views)


class KorniaViews:
    """One view a sample by kornia, of the collated batch as floats."""

    def __init__(self) -> None:
        from kornia.augmentation import AugmentationSequential, RandomCrop, RandomHorizontalFlip

        self.make = AugmentationSequential(RandomCrop((32, 32), padding=4), RandomHorizontalFlip())

    def __call__(self, samples: list[Any]) -> Any:
        import torch
        from torch.utils.data import default_collate

        images, labels = default_collate([(torch.from_numpy(image).permute(2, 0, 1), y) for image, y in samples])
        return self.make(images.float() / 255), labels


def view_peers() -> tuple[dict[str, Any], list[str]]:
    """Collate functions of other packages, and those that can't be had here."""
    peers, skipped = (
        {},
        ["FFCV: its transforms are compiled against OpenCV's and pthread's headers, not installed here"],
    )
    for name, make in (("torchvision v2, one view", TorchvisionViews), ("kornia, one view, float32", KorniaViews)):
        try:
            peers[name] = make()
        except ImportError as error:
            skipped.append(f"{name}: {error}")
    return peers, skipped


def shared_memory_cost(shape: tuple[int, ...], batch: int, lent: bool) -> float:
    """Milliseconds a batch for filling shared memory and handing it over, from a worker that does nothing else."""
    loader = loader_of(Nothing(batch * 20), OnlyFills(shape, lent), 1, batch)
    epoch_time(loader, None, 0)
    return 1e3 * statistics.median(epoch_time(loader, None, 0) for _ in range(3)) / 20


class Shared:
    """Whether a collate function's images lie in shared memory already in the worker, before they are sent."""

    def __init__(self, collate: Any) -> None:
        self.collate = collate

    def __call__(self, samples: list[Any]) -> Any:
        images, _ = self.collate(samples)
        return images, lies_in_shared_memory(images)


def written_once(dataset: Any, collate: Any, batch: int) -> bool:
    """Whether all images are written where they travel; others are copied there when they are sent."""
    return all(shared for _, shared in loader_of(dataset, Shared(collate), 1, batch))


def main() -> None:
    """Measure, print, write."""
    options = parser(__doc__.splitlines()[0], "loader")
    options.add_argument("--workers", type=int, nargs="+", default=[0, 1, 2])
    options.add_argument("--device", default="cpu", help="cuda: real training steps there; cpu: simulated ones")
    given = options.parse_args()
    one_thread()
    warnings.simplefilter("ignore")
    import albumentations as A
    import cv2

    from miamix_cpu import MiAMixCollator, warmup
    from miamix_cpu.cli.preview import photographs

    warmup()
    pictures = [picture for _, picture in photographs()]
    result: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        paths = []
        for i, picture in enumerate(pictures):
            scale = 400 / min(picture.shape[:2])
            resized = cv2.resize(picture, None, fx=scale, fy=scale)
            paths.append(Path(folder) / f"{i}.jpg")
            cv2.imwrite(str(paths[-1]), cv2.cvtColor(resized, cv2.COLOR_RGB2BGR))
        few = given.quick
        peers, skipped = view_peers()
        crop = A.RandomResizedCrop((224, 224))
        tasks = {
            "CIFAR-sized arrays": (Arrays(2048 if few else 12_800, pictures), 32, 128, peers),
            "arrays": (Arrays(1024 if few else 6400, pictures, 64), 64, 128, {}),
            "JPEG photographs": (Jpegs(256 if few else 1024 if given.device == "cpu" else 4096, paths), 224, 64, {}),
            "large arrays": (Arrays(256 if few else 1024, pictures, 320), 224, 64, {}),
        }
        for name, (dataset, size, batch, others) in tasks.items():
            moves = [crop] if size == 224 else [A.PadIfNeeded(size + 8, size + 8), A.RandomCrop(size, size)]
            transform = A.Compose([*moves, A.HorizontalFlip()])
            more = A.Compose([*transform.transforms, A.CoarseDropout(p=0.5), A.ColorJitter(p=0.5)])
            epochs = count(1)
            found = {
                "size": size,
                "batch": batch,
                "images_per_second": speeds(dataset, transform, given, batch, epochs, others),
                "with_dropout_and_jitter": speeds(dataset, more, given, batch, epochs, {}),
                "one_view": one_view([dataset[i][0] for i in range(batch)], transform),
            }
            if name in ("CIFAR-sized arrays", "JPEG photographs"):
                found.update(run(dataset, size, batch, transform, given, MiAMixCollator))
            result[name] = found
            print(f"\n{name}, {size} x {size}, batch {batch}")
            print(report(found))
    write(given.json, {"tasks": result, "skipped": skipped})
    if given.plot:
        figure = new_figure(figsize=(9, 4))
        for axis, (name, found) in zip(figure.subplots(1, len(result)), result.items(), strict=True):
            for kind in ("plain", "MiAMix"):
                speed = [found["images_per_second"][str(w)][kind] for w in given.workers]
                axis.plot(given.workers, speed, "o-", label=kind)
            axis.set(title=name, xlabel="workers", ylabel="images/s", xticks=given.workers, ylim=(0, None))
            axis.legend()
        figure.savefig(given.plot)


def run(dataset: Any, size: int, batch: int, transform: Any, given: Any, collator: Any) -> dict[str, Any]:
    """The training cost on one data set, and where the time goes."""
    found: dict[str, Any] = {"training_cost": {}}
    epochs, rounds, real = count(1000), 2 if given.quick else 4, given.device != "cpu"
    delivered = copied(given.device) if real else None
    if real:
        training = Training(given.device, size)
        samples = [dataset[i] for i in range(batch)]
        step = training.seconds(*collator(10, transform=transform, seed=0, dtype="uint8")(samples))
        found["consumer"] = {"network": training.name, "seconds": step, "workers_over_it": {}}
    over: dict[str, list[float]] = {}
    for workers in given.workers:
        last = workers == max(given.workers)
        for begin in (None, at_lower_priority) if workers and last else (None,):
            kinds = {"plain": Plain(transform), "MiAMix": collator(10, transform=transform, seed=0, dtype="uint8")}
            loaders = {
                kind: loader_of(dataset, collate, workers, batch, begin, given.device)
                for kind, collate in kinds.items()
            }
            seconds = {}
            for kind, loader in loaders.items():
                epoch_time(loader, kinds[kind], next(epochs), delivered)
                seconds[kind] = epoch_time(loader, kinds[kind], next(epochs), delivered) / len(loader)
            if workers:
                name = str(workers) if begin is None else f"{workers}, nice {NICE}"
                steps = simulated_steps(seconds["MiAMix"], seconds["plain"])
                if real:
                    steps = {f"{training.name} on {given.device}": training}
                    found["consumer"]["workers_over_it"][name] = step / seconds["MiAMix"]
                found["training_cost"][name] = training_cost(loaders, kinds, steps, epochs, rounds)
            if last and begin is None:
                for kind in (*kinds, *kinds, *kinds):
                    over.setdefault(kind, []).append(taking_over(loaders[kind], kinds[kind], next(epochs)))
    found["milliseconds"] = parts_of(dataset, transform, size, batch)
    for kind, times_over in over.items():
        found["milliseconds"][f"main process, to take a batch over, {kind}"] = statistics.median(times_over)
    for lent, name in ((False, "fresh shared memory, torch's"), (True, "shared memory that comes back, ours")):
        found["milliseconds"][f"{name}: filled, handed over"] = shared_memory_cost((3, size, size), batch, lent)
    few = [dataset[i] for i in range(8 * batch)]
    found["written_once"] = written_once(few, collator(10, transform=transform, seed=0, dtype="uint8"), batch)
    parts = found["milliseconds"]
    rest = parts["decode"] + parts["two views"]
    found["mixing_over_the_rest"] = parts["mixing"] / rest
    found["default_collate_over_the_rest"] = parts["default_collate"] / rest
    return found


def report(found: dict[str, Any]) -> str:
    """Tables of one data set."""
    lines = []
    for title, key in (
        ("images/s by workers", "images_per_second"),
        ("with dropout and jitter", "with_dropout_and_jitter"),
    ):
        speed = found[key]
        kinds = next(iter(speed.values()))
        rows = [[kind, *(f"{speed[w][kind]:,.0f}" for w in speed)] for kind in kinds]
        rows.append(["MiAMix / plain", *(f"{speed[w]['MiAMix'] / speed[w]['plain']:.2f}" for w in speed)])
        lines.append(table([title, *speed], rows))
    lines.append(f"one view, Albumentations / compiled: {found['one_view']:.1f}")
    if "milliseconds" not in found:
        return "\n".join(lines)
    parts = [[name, f"{ms:.2f}"] for name, ms in found["milliseconds"].items()]
    lines.append(table(["milliseconds a batch", ""], parts))
    mixing, plain = found["mixing_over_the_rest"], found["default_collate_over_the_rest"]
    lines.append(f"mixing adds {mixing:.1%} to decoding and both views; default_collate, of one view, {plain:.1%}")
    lines.append(f"written straight into the shared tensor that travels: {found['written_once']}")
    cost = found["training_cost"]
    if cost:
        rows = [[step, *(f"{cost[w][step]:.3f}" for w in cost)] for step in next(iter(cost.values()))]
        if "consumer" in found:
            speeds = found["consumer"]["workers_over_it"]
            rows.append(["workers' speed over the consumer's", *(f"{speeds[w]:.2f}" for w in cost)])
        lines.append(table(["training cost by workers", *cost], rows))
    return "\n".join(lines)


if __name__ == "__main__":
    main()
