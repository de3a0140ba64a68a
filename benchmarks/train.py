"""Train networks with MiAMix, its ablations and the published baselines, and measure what it costs.

python -m benchmarks.train --data cifar-10-batches-bin --table 2 --seeds 0,1,2
python -m benchmarks.train --data cifar10_train.npz --methods vanilla,miamix --network small --fraction 0.1 --epochs 60

Started again, the same command goes on where it stopped; started twice, both share the work. The exit status is 0 where
all runs are finished, 3 where --minutes ended first or another process is still at some of them, 2 for bad input, 130
after Ctrl-C or SIGTERM.
"""

from __future__ import annotations

import argparse
import shlex
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path

from benchmarks.timing import RESULTS, one_thread, table, write
from benchmarks.training import corruptions
from benchmarks.training.augment import AUGMENTS
from benchmarks.training.cost import cost
from benchmarks.training.data import KINDS, DataError, load
from benchmarks.training.loop import Recipe, Run, TrainingError
from benchmarks.training.machine import Machine, best_device, check_device, set_threads, where
from benchmarks.training.methods import ROBUST_TABLES, TABLES, method
from benchmarks.training.networks import NETWORKS

UNFINISHED = 3


def parser() -> argparse.ArgumentParser:
    """The command line; the defaults are the paper's recipe."""
    found = argparse.ArgumentParser(
        prog="python -m benchmarks.train", description=__doc__, allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    add = found.add_argument
    add("--data", type=Path, required=True, help="a set's folder, or NAME_train.npz with NAME_test.npz beside it")
    add("--kind", choices=KINDS, help="of the set; recognised by its files")
    add("--size", type=int, help="side in pixels to which images of folders are resized")
    add("--table", type=int, choices=TABLES, help="the rows of this table of the paper")
    add("--methods", help="instead of a table's rows: vanilla,miamix:merge=sum+p_self=0, .. (default: vanilla,miamix)")
    add("--seeds", default="0", help="0,1,2 (default: 0)")
    add("--runs", type=Path, default=Path("runs"), help="folder of checkpoints and results (default: runs)")
    add("--robust", action="store_true", help="try the networks on corrupted test images, as Tables 3 and 8 do")
    add("--corruptions", type=Path, help="folder of CIFAR-C's .npy files; without it they are made")
    add("--robust-images", type=int, default=0, help="only the first so many test images (default: all)")
    add("--cost", type=int, metavar="ROUNDS", help="only time interleaved epochs of vanilla and the methods")
    add("--json", type=Path, default=RESULTS / "cost.json", help="for --cost (default: %(default)s)")
    add("--dry-run", action="store_true", help="list the runs and their configurations")
    add("--minutes", type=float, default=float("inf"), help="stop after so long, at the end of an epoch")
    add("--resume", action="store_true", help="go on with what is there, which is done in any case")
    defaults = {field.name: field.default for field in fields(Recipe)}
    add("--network", choices=NETWORKS, default=defaults["network"], help="default: %(default)s")
    for name in ("epochs", "batch", "every"):
        add(f"--{name}", type=int, default=defaults[name], help="default: %(default)s")
    for name in ("lr", "momentum", "weight-decay", "fraction"):
        add(f"--{name}", type=float, default=defaults[name.replace("-", "_")], help="default: %(default)s")
    add("--nesterov", action="store_true", help="Nesterov's momentum")
    add("--held-out", action="store_true", help="evaluate on 5,000 held-out training images, not on the test images")
    add("--augment", choices=AUGMENTS, default=defaults["augment"], help="default: %(default)s")
    add("--amp", choices=("off", "bfloat16", "float16"), help="default: bfloat16 on CUDA, else off")
    add("--device", default=best_device(), help="default: %(default)s")
    add("--workers", type=int, default=0, help="of the loader (default: 0)")
    add("--threads", type=int, default=1, help="of torch (default: 1)")
    return found


def recipes(given: argparse.Namespace) -> list[Recipe]:
    """What the command line asks for, checked: seed by seed, so that methods are balanced whenever the time ends."""
    if _robust(given) and given.held_out:
        raise ValueError("--held-out keeps away from the test images, which --robust and Tables 3 and 8 look at")
    for name, low in (("robust_images", 0), ("cost", 1), ("workers", 0), ("threads", 1), ("size", 1)):
        value = getattr(given, name)
        if value is not None and value < low:
            raise ValueError(f"--{name.replace('_', '-')} must be at least {low}, got {value}")
    check_device(given.device)
    rows = TABLES[given.table] if given.table else ("vanilla", "miamix")
    rows = given.methods.split(",") if given.methods else rows
    try:
        seeds = [int(seed) for seed in given.seeds.split(",")]
    except ValueError:
        raise ValueError(f"--seeds must be integers with commas between, got {given.seeds!r}") from None
    amp = given.amp or ("bfloat16" if given.device.startswith("cuda") else "off")
    common = {f.name: getattr(given, f.name) for f in fields(Recipe) if f.name not in ("method", "seed", "amp")}
    spellings = dict.fromkeys(method(row).spelling for row in rows)
    return [Recipe(method=name, seed=seed, amp=amp, **common) for seed in seeds for name in spellings]


def list_runs(asked: list[Recipe], given: argparse.Namespace, arguments: list[str]) -> None:
    """Each run's command, and how its configuration differs from Table 1."""
    kept = _without(arguments, ("--table", "--methods", "--seeds"), ("--dry-run",))
    robust = ["--robust"] if _robust(given) and "--robust" not in kept else []
    for recipe in asked:
        own = ["--methods", recipe.method, "--seeds", str(recipe.seed)]
        print(shlex.join(["python", "-m", "benchmarks.train", *kept, *robust, *own]))
        print(f"    {method(recipe.method).summary()}")


def train(runs: list[Run], seconds_left: Callable[[], float]) -> bool:
    """Each run that no other process is at, until the time is over; whether all are finished."""
    for run in runs:
        if run.finished:
            continue
        with run.locked() as ours:
            if not ours or run.finished:
                continue
            if not run.train(seconds_left):
                break
        final = run.result["final"]
        print(
            f"{run.name}: {100 * final['accuracy']:.2f}% of {final['images']} {final['on']} images, "
            f"{100 * final['training_accuracy']:.2f}% of the training images, {final['seconds']:.0f} s",
            flush=True,
        )
    done = sum(run.finished for run in runs)
    if done < len(runs):
        print(f"{done} of {len(runs)} runs are finished; the same command goes on", flush=True)
    return done == len(runs)


def measure_cost(runs: list[Run], given: argparse.Namespace) -> None:
    """Print and write what an epoch costs, by method, compared with vanilla."""
    found = cost(runs, given.cost)
    rows = [[name, f"{t['median']:.3f}", f"{t['least']:.3f}", f"{t['greatest']:.3f}", f"{t['ratio']:.3f}"]
            for name, t in found.items()]  # fmt: skip
    print(table(["seconds an epoch", "median", "least", "greatest", "ratio"], rows))
    settings = {name: value for name, value in runs[0].settings.items() if name not in ("method", "config", "seed")}
    write(given.json, {"settings": settings, "where": where(runs[0].machine), "rounds": given.cost, "epochs": found})


def carry_out(asked: list[Recipe], given: argparse.Namespace) -> int:
    """Measure the cost, or train and evaluate; the exit status."""
    images = load(given.data, given.kind, given.size)
    if given.corruptions is not None:
        corruptions.read(given.corruptions, images.num_classes)  # wrong files are better known before hours of training
    machine = Machine(device=given.device, workers=given.workers)
    runs = [Run(recipe, machine, images, given.runs) for recipe in asked]
    if given.cost:
        plain = [Run(replace(runs[0].recipe, method="vanilla"), machine, images, given.runs)]
        first = [run for run in runs if run.recipe.seed == runs[0].recipe.seed and run.recipe.method != "vanilla"]
        measure_cost(plain + first, given)
        return 0
    end = time.monotonic() + 60 * given.minutes
    done = train(runs, lambda: end - time.monotonic())
    if _robust(given):
        finished = [run for run in runs if run.finished]
        done &= corruptions.evaluate(finished, given.corruptions, given.robust_images, lambda: end - time.monotonic())
    return 0 if done else UNFINISHED


def main(arguments: list[str] | None = None) -> int:
    """Read the command line, do it; the exit status."""
    arguments = sys.argv[1:] if arguments is None else arguments
    given = parser().parse_args(arguments)
    try:
        asked = recipes(given)
    except (ValueError, TypeError) as error:
        return _refuse(error)
    if given.dry_run:
        list_runs(asked, given, arguments)
        return 0
    one_thread()
    set_threads(given.threads)
    before = signal.signal(signal.SIGTERM, _stop)
    try:
        return carry_out(asked, given)
    except (DataError, TrainingError, OSError) as error:
        return _refuse(error)
    except KeyboardInterrupt:
        print("stopped; the same command goes on from the last whole epoch", file=sys.stderr)
        return 130
    finally:
        signal.signal(signal.SIGTERM, before)


def _refuse(error: Exception) -> int:
    """One line; an error from a loader's worker brings its traceback along, of which it is the last one."""
    print(f"{parser().prog}: {str(error).strip().splitlines()[-1]}", file=sys.stderr)
    return 2


def _robust(given: argparse.Namespace) -> bool:
    return given.robust or given.corruptions is not None or given.table in ROBUST_TABLES


def _without(arguments: list[str], options: tuple[str, ...], flags: tuple[str, ...]) -> list[str]:
    """The command line less these options, their values, and these flags."""
    kept, skip = [], False
    for argument in arguments:
        if skip or argument in flags or argument.partition("=")[0] in options:
            skip = not skip and argument in options
            continue
        kept.append(argument)
    return kept


def _stop(number: int, frame: object) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
