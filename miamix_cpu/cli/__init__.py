"""The command line, `python -m miamix_cpu`. Incorrect usage prints one line and exits with status 2, no traceback."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from miamix_cpu import __version__
from miamix_cpu.methods import METHODS
from miamix_cpu.recipes import RECIPES


class UserError(Exception):
    """An error that the user can fix; only its message is shown."""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """Print one line, without the usage."""
        self.exit(2, f"{self.prog}: {message}\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit status."""
    parser = _parser()
    if not (sys.argv[1:] if arguments is None else arguments):
        parser.print_help()
        return 0
    options = parser.parse_args(arguments)
    try:
        return _run(options)
    except UserError as error:
        print(f"miamix_cpu {options.command}: {error}", file=sys.stderr)
        return 2
    except ImportError as error:
        extra = "explore" if options.command == "explore" else "demo"
        print(f"miamix_cpu {options.command}: {error}; pip install 'miamix_cpu[{extra}]'", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # the reader of the output has closed it
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _parser() -> _Parser:
    parser = _Parser(
        prog="miamix_cpu",
        description="MiAMix on the CPU: train, look at pictures, try settings, check the installation.",
    )
    parser.add_argument("--version", action="version", version=f"miamix_cpu {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="demo|preview|explore|doctor")

    demo = commands.add_parser(
        "demo", help="train a small network on digits, plainly and with mixing, and test it on corrupted digits"
    )
    demo.add_argument(
        "--epochs", type=_positive, default=30, metavar="N", help="epochs of each training run (default: 30)"
    )
    demo.add_argument("--seeds", type=_positive, default=3, metavar="N", help="runs of each kind (default: 3)")
    demo.add_argument("--seed", type=_natural, default=0, metavar="S", help="the first seed (default: 0)")
    demo.add_argument("--out", type=Path, default=Path("miamix_demo.png"), metavar="PNG", help="default: %(default)s")

    preview = commands.add_parser("preview", help="draw mixed pictures with their views and masks")
    preview.add_argument(
        "folder", type=Path, nargs="?", help="folder of pictures (default: photographs of scikit-image)"
    )
    preview.add_argument(
        "--method",
        choices=METHODS,
        metavar="NAME",
        help="use only this method, augmented as in Table 1 (default: all of it)",
    )
    preview.add_argument("--recipe", choices=tuple(RECIPES), metavar="NAME", help=f"use a recipe: {', '.join(RECIPES)}")
    preview.add_argument("--seed", type=_natural, default=0, metavar="S", help="default: 0")
    preview.add_argument("--rows", type=_positive, default=6, metavar="N", help="samples (default: 6)")
    preview.add_argument("--size", type=_positive, default=224, metavar="PIXELS", help="side of a view (default: 224)")
    preview.add_argument(
        "--out", type=Path, default=Path("miamix_preview.png"), metavar="PNG", help="default: %(default)s"
    )

    explore = commands.add_parser("explore", help="serve a page on this machine with a control for every setting")
    explore.add_argument("--port", type=_port, metavar="N", help="default: the first free port from 7860 on")

    commands.add_parser("doctor", help="show what is installed, whether packages conflict, and how long a batch takes")
    return parser


def _run(options: argparse.Namespace) -> int:
    if options.command == "doctor":
        from miamix_cpu.cli.doctor import run_doctor

        return run_doctor()
    if options.command == "explore":
        from miamix_cpu.cli.explore_page import run_explore

        run_explore(options.port)
        return 0
    check_out(options.out)
    if options.command == "demo":
        from miamix_cpu.cli.demo import run_demo

        run_demo(epochs=options.epochs, seeds=options.seeds, seed=options.seed, out=options.out)
    else:
        from miamix_cpu.cli.preview import run_preview

        run_preview(
            folder=options.folder,
            method=options.method,
            recipe=options.recipe,
            seed=options.seed,
            rows=options.rows,
            size=options.size,
            out=options.out,
        )
    return 0


def check_out(path: Path) -> None:
    """Raise UserError unless a PNG can be written to `path`; this is checked before the work starts."""
    if path.suffix.lower() != ".png":
        raise UserError(f"--out must end in .png, got {path}")
    if not path.parent.is_dir():
        raise UserError(f"--out: there is no folder {path.parent}")
    if path.is_dir():
        raise UserError(f"--out: {path} is a folder")
    if not os.access(path if path.exists() else path.parent, os.W_OK):
        raise UserError(f"--out: {path} can't be written")


def _natural(text: str) -> int:
    number = int(text) if text.isascii() and text.isdigit() else -1
    if not 0 <= number < 1 << 63:
        raise argparse.ArgumentTypeError(f"must be an integer of at least 0 and below 2^63, got {text!r}")
    return number


def _port(text: str) -> int:
    number = int(text) if text.isascii() and text.isdigit() else 0
    if not 1 <= number <= 65535:
        raise argparse.ArgumentTypeError(f"must be an integer from 1 to 65535, got {text!r}")
    return number


def _positive(text: str) -> int:
    number = int(text) if text.isascii() and text.isdigit() else 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be an integer of at least 1, got {text!r}")
    return number
