"""Batches kept in many ways: no byte of one ever changes while somebody holds it, though its memory is used again.

Thousands of batches of 10 KB to 20 MB come from DataLoaders of several kinds; threads, forked children and another
process keep something of each (a view, an array, a pickle, ...) for a random time. Checksums are taken in the worker,
when a batch arrives, and before what was kept is dropped. The control does the same with faults put in on purpose,
memory that counts as idle while it is in use. Exit status 1 where bytes changed without a fault, or a fault was not
found. For Linux, where workers lend memory.
"""

from __future__ import annotations

import copy
import gc
import os
import pickle
import queue
import random
import resource
import sys
import time
import weakref
import zlib
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from torch.utils.data import DataLoader
from tqdm import tqdm

from benchmarks.timing import environment, one_thread, parser, table, write
from miamix_cpu import MiAMixCollator, MiAMixConfig, MixedBatch, memory, warmup
from miamix_cpu.workers import shared_buffers as lending

_LENT = 1 << 16  # bytes, from which on a tensor is lent, not sent in the message
_MODEST = 1 << 20  # bytes of images, up to which they may be kept to the end, or by another process
_MOST, _EACH = 256 << 20, 1 << 20  # bytes that a thread keeps, and how many each thing counts beside its own
_WHILE, _PATIENCE = 0.3, 120  # seconds that a child keeps something, and to wait for other threads and processes
_OVERWRITTEN, _HERE, _THREAD = "written over", "this thread", "another thread"
_LAST, _ARRIVED = "this thread, to the end", "nobody, on its way"

Case = tuple[int, int, dict[str, Any]]  # images of its largest batch, their side, the collator's options
CASES: list[Case] = [
    (7, 24, {"dtype": "uint8"}),
    (16, 44, {"dtype": "uint8", "memory_format": "channels_last", "return_masks": True}),  # in the message, or lent
    (64, 32, {"dtype": "uint8", "return_batch": True, "return_masks": True}),
    (32, 32, {"targets": "pair", "return_masks": True}),
    (48, 64, {"dtype": "float16", "memory_format": "channels_last"}),
    (128, 32, {"num_classes": 1000, "return_batch": True}),  # targets are lent too
    (16, 224, {"dtype": "uint8", "memory_format": "channels_last", "return_batch": True, "targets": "pair"}),
    (40, 112, {"memory_format": "channels_last", "return_masks": True}),
    (34, 224, {"return_batch": True, "return_masks": True}),
]
Loader = tuple[int, str | None, bool]  # workers, how they are started, and whether they stay for the second epoch
LOADERS: list[Loader] = [
    (0, None, False), (1, "fork", False), (2, "fork", True), (1, "spawn", True), (2, "spawn", False),
]  # fmt: skip
Plan = tuple[Case, Loader, int]  # and batches an epoch
Kept = tuple[str, str, int, Callable[[], bool]]  # how, by whom, bytes of the images, and whether any byte has changed
Result = tuple[str, str, int, bool]


def same(x: Any) -> Any:
    return x


#: By name: what part of a batch, what is kept of it, and how to read that.
WAYS: dict[str, tuple[str, Callable[[Any], Any], Callable[[Any], Any]]] = {
    "tensor": ("images", same, same),
    "slice": ("images", lambda x: x[1:, :, ::2], same),
    "row": ("images", lambda x: x[len(x) // 2], same),
    "iterator": ("images", iter, tuple),
    "permuted": ("images", lambda x: x.permute(2, 0, 3, 1), same),
    "reshaped": ("images", lambda x: x.unflatten(0, (1, -1)), same),
    "detached": ("images", lambda x: x.detach(), same),
    "parameter": ("images", lambda x: torch.nn.Parameter(x, requires_grad=False), same),
    "for a gradient": ("images", lambda x: (torch.ones((), requires_grad=True) * x).grad_fn, lambda x: x._saved_other),
    "storage": ("images", lambda x: x.untyped_storage(), lambda x: torch.empty(0, dtype=torch.uint8).set_(x)),
    "array": ("images", lambda x: x.numpy(), same),
    "view of an array": ("images", lambda x: x.numpy()[::-1, 1:], same),
    "memoryview": ("images", lambda x: memoryview(x.numpy())[1:], same),
    "weak reference": ("images", lambda x: (memoryview(a := x.numpy()), weakref.ref(a)), lambda x: x[1]()),
    "array by DLPack": ("images", np.from_dlpack, same),
    "capsule of DLPack": ("images", torch.to_dlpack, torch.from_dlpack),
    "cycle": ("images", lambda x: ((cycle := [x]).append(cycle), cycle), lambda x: x[1][0]),
    _OVERWRITTEN: ("images", lambda x: x.fill_(7), same),
    "deep copy": ("images", copy.deepcopy, same),
    "pickle": ("images", pickle.dumps, pickle.loads),
    "targets": ("targets", same, same),
    "lam": ("lam", same, same),
    "masks": ("masks", same, same),
    "everything": ("everything", same, same),
}


def checksum(thing: Any, found: int = 0) -> int:
    """Of the bytes of a tensor or an array, or of a tuple of them."""
    if not isinstance(thing, tuple):
        return zlib.crc32(np.ascontiguousarray(thing), found)
    for part in thing:
        found = checksum(part, found)
    return found


def parts_of(batch: Any) -> dict[str, Any]:
    """What there is of images, targets, lam, and masks, and the tuple of them."""
    if isinstance(batch, MixedBatch):
        parts = {name: getattr(batch, name) for name in ("images", "targets", "lam", "masks")}
    else:
        parts = dict(zip(("images", "targets", "masks"), batch, strict=False))
        parts["lam"] = parts["targets"][2] if isinstance(parts["targets"], tuple) else None
    parts = {name: part for name, part in parts.items() if part is not None}
    return {**parts, "everything": tuple(parts.values())}


def summed(collate: Any, samples: list[Any]) -> Any:
    """A batch, its checksum, and by whom and where the images were made."""
    parts = parts_of(batch := collate(samples))
    return batch, checksum(parts["everything"]), (os.getpid(), parts["images"].data_ptr())


def keep(way: str, parts: dict[str, Any]) -> Callable[[], bool]:
    """Keep something of a batch; the result tells whether any byte of it has changed since."""
    part, make, read = WAYS[way]
    expected = checksum(read(make(parts[part])))  # what is kept may be read once only
    kept = make(parts[part])
    return lambda: checksum(read(kept)) != expected


def keep_in_child(way: str, parts: dict[str, Any]) -> Callable[[], bool]:
    """The same in a forked child, for a while; one that fails counts as changed."""
    changed, child = keep(way, parts), os.fork()
    if child == 0:
        try:
            time.sleep(_WHILE)
            os._exit(changed())
        finally:
            os._exit(2)
    return lambda: os.waitpid(child, 0)[1] != 0


def some_of(parts: dict[str, Any], chance: random.Random, pool: Any) -> Iterator[Kept]:
    """Keep a batch in one way or two."""
    images, size, luck = parts["images"], parts["images"].nbytes, chance.random()
    ways = [way for way, (part, *_) in WAYS.items() if part in parts and way != _OVERWRITTEN]
    if luck < 0.03:
        yield _OVERWRITTEN, _HERE, size, keep(_OVERWRITTEN, parts)
    elif luck < 0.05 and size < _MODEST:  # torch moves the tensor, away from whoever else looks at it
        expected, answer = checksum(images), pool.apply_async(checksum, (images,))
        yield "tensor", "another process", size, lambda: answer.get(_PATIENCE) != expected
    elif luck < 0.07 and size < _MODEST:
        way = chance.choice(ways)
        yield way, "a forked child", size, keep_in_child(way, parts)
    else:
        for way in chance.sample(ways, 2):
            whose = _LAST if luck > 0.99 and size < _MODEST else chance.choice((_HERE, _THREAD))
            yield way, whose, size, keep(way, parts)


class Shelf:
    """What a thread keeps, each thing for a random number of others; the next one goes early where it is too much."""

    def __init__(self, results: list[Result], seed: int) -> None:
        self.results, self.random, self.now = results, random.Random(seed), 0
        self.kept: list[tuple[float, int, Kept]] = []

    def add(self, thing: Kept) -> None:
        self.now += 1
        turns = float("inf") if thing[1] == _LAST else self.random.expovariate(1 / self.random.choice((1, 10, 50)))
        self.kept.append((self.now + turns, self.now, thing))
        self.kept.sort()
        while self.kept and (self.kept[0][0] <= self.now or sum(thing[2] + _EACH for *_, thing in self.kept) > _MOST):
            self.drop()

    def drop(self) -> None:
        *_, (way, whose, size, changed) = self.kept.pop(0)
        self.results.append((way, whose, size, changed()))

    def add_all(self, things: Iterator[Kept]) -> None:
        """Until there is no more, then drop all."""
        for thing in things:
            self.add(thing)
        while self.kept:
            self.drop()


def batches_of(case: Case, loader: Loader, n: int, seed: int) -> Iterator[Any]:
    """Two epochs of `n` batches, some half as large as others."""
    (batch, side, options), (workers, context, persistent) = case, loader
    rng = np.random.default_rng(seed)
    data: Any = [(picture, i % 10) for i, picture in enumerate(rng.integers(0, 256, (64, side, side, 3), np.uint8))]
    collate = MiAMixCollator(config=MiAMixConfig(p_self=0.0), seed=seed, **{"num_classes": 10, **options})
    chosen = [rng.integers(0, 64, rng.integers(batch // 2, batch + 1)).tolist() for _ in range(n)]
    batches = DataLoader(
        data, batch_sampler=chosen, collate_fn=partial(summed, collate),
        num_workers=workers, multiprocessing_context=context, persistent_workers=persistent,
    )  # fmt: skip
    for epoch in range(2):
        collate.set_epoch(epoch)
        yield from batches


def run(plans: list[Plan], seed: int, label: str) -> tuple[list[Result], list[Any]]:
    """Keep something of every batch; what was found, and by whom and where each large one was made."""
    results, made, chance, things = [], [], random.Random(seed), queue.Queue[Kept | None](maxsize=4)
    here, *others = (Shelf(results, seed + i) for i in range(3))
    with torch.multiprocessing.get_context("fork").Pool(1) as pool, ThreadPoolExecutor(len(others)) as threads:
        ends = [threads.submit(other.add_all, iter(things.get, None)) for other in others]
        try:
            for number, plan in enumerate(tqdm(plans, desc=label, unit="loader")):
                for batch, expected, where in batches_of(*plan, seed + number):
                    parts = parts_of(batch)
                    size = parts["images"].nbytes
                    results.append(("everything", _ARRIVED, size, checksum(parts["everything"]) != expected))
                    made += [where] if size >= _LENT else []
                    for thing in some_of(parts, chance, pool):
                        things.put(thing, timeout=_PATIENCE) if thing[1] == _THREAD else here.add(thing)
                    del batch, parts, thing
                gc.collect()
            here.add_all(iter(()))
        finally:
            for _ in ends:
                things.put(None, timeout=_PATIENCE)
        for end in ends:
            end.result(_PATIENCE)
    return results, made


def plans_for(batches: int, quick: bool) -> list[Plan]:
    """All cases, each from several loaders (from one where it has to be quick); small batches more often."""
    pairs = [(case, loader) for i, case in enumerate(CASES) for loader in LOADERS[:3] + LOADERS[3 + i % 3 : 4 + i % 3]]
    if quick:
        pairs = [(case, LOADERS[i % 3]) for i, case in enumerate(CASES, 1)] + [(CASES[2], LOADERS[3])]
    shares = [1 / (1 + batch * side**2 / 1e5) for (batch, side, _), _ in pairs]
    numbers = [max(2, round(batches / 2 * share / sum(shares))) for share in shares]
    return [(*pair, n) for pair, n in zip(pairs, numbers, strict=True)]


def control(n: int, seed: int) -> dict[str, list[Result]]:
    """What is found with each fault."""
    lent: list[Plan] = [(CASES[2], LOADERS[1], n), (CASES[3], LOADERS[2], n), (CASES[5], LOADERS[2], n)]
    with patch.object(lending.Piece, "idle", property(lambda piece: True)):
        found = {"workers' memory": run(lent, seed, "control")[0]}
    with patch.multiple(memory, _idle=deque(maxlen=2), _taken=cache(memory._taken)):
        found["this process's memory"] = run([(CASES[7], LOADERS[0], 2 * n)], seed, "control")[0]
    return found


def changed(results: list[Result]) -> int:
    return sum(result[3] for result in results)


def tally(real: list[Result], control: list[Result]) -> list[tuple[str, int, int, int, int, int]]:
    """By how it was kept, and by whom: how often, MB, what changed; how often in the control, and what changed."""
    rows = []
    for by in (0, 1):
        for name in sorted({result[by] for result in real}):
            mine, theirs = ([result for result in results if result[by] == name] for results in (real, control))
            megabytes = round(sum(size for *_, size, _ in mine) / 1e6)
            rows.append((name, len(mine), megabytes, changed(mine), len(theirs), changed(theirs)))
    return rows


def main() -> int:
    """Run, judge, write; return the exit status."""
    options = parser(__doc__.splitlines()[0], "stress", plots=False)
    options.add_argument("--batches", type=int, help="default: 6,000; with --quick 400")
    options.add_argument("--seed", type=int, default=0, help="default: %(default)s")
    given = options.parse_args()
    one_thread()
    warmup()
    start = time.perf_counter()
    real, made = run(plans_for(given.batches or (400 if given.quick else 6000), given.quick), given.seed, "batches")
    faults = control(15 if given.quick else 60, given.seed)
    seconds, batches = time.perf_counter() - start, sum(whose == _ARRIVED for _, whose, *_ in real)
    peaks = [resource.getrusage(who).ru_maxrss >> 10 for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    rows = tally(real, [result for results in faults.values() for result in results])
    cells = [[name, *(f"{number:,}" for number in numbers)] for name, *numbers in rows]
    print(table(["kept", "times", "MB", "changed", "control: times", "changed"], cells))
    print(f"{batches:,} batches in {seconds:,.0f} s, {len(made):,} large ones in {len(set(made)):,} places of memory")
    print("peak memory: {:,} MiB in this process, {:,} MiB in the largest of the others".format(*peaks))
    print("{cpu}, {cores} cores, Python {python}, torch {versions[torch]}, commit {commit}".format(**environment()))
    failed = [f"{changed(real)} of {len(real):,} changed"] if changed(real) else []
    failed += ["no memory was used again, so nothing is shown"] if len(made) == len(set(made)) else []
    for fault, results in faults.items():
        print(f"control: {changed(results)} of {len(results)} changed ({fault})")
        failed += [] if changed(results) else [f"the control found nothing ({fault})"]
    found = {"batches": batches, "seconds": seconds, "large": len(made), "places": len(set(made)), "peak_mib": peaks}
    checked = {fault: [changed(results), len(results)] for fault, results in faults.items()}
    write(given.json, {**found, "kept": rows, "control": checked, "failed": failed})
    print("".join(f"failed: {what}\n" for what in failed), end="", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
