"""The examples, run as they stand against the packages that they are for."""

import importlib.metadata
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def needs(*distributions):
    """Skip where a package is not installed; fail instead where REQUIRE_EXTRAS is set, as in CI."""
    for name in distributions:
        try:
            importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            if os.environ.get("REQUIRE_EXTRAS"):
                raise
            pytest.skip(f'{name} is not installed: pip install -c constraints.txt -e ".[integrations]"')


def run(name, *arguments, folder=None, quiet=True, torchvision=False):
    """An example's output.

    Parameters
    ----------
    name : of a file in examples/
    arguments : of its command line
    folder : where it runs; not the repository
    quiet : bool, nothing may warn
    torchvision : bool
        It is needed: make it importable first where its wheel lacks its operators.
    """
    launch = [Path(__file__).with_name("launch.py")] if torchvision else []
    command = [sys.executable, *launch, ROOT / "examples" / name, *arguments]
    result = subprocess.run(command, capture_output=True, text=True, timeout=600, cwd=folder or Path.home())
    assert result.returncode == 0, result.stderr
    assert not quiet or "Warning" not in result.stderr, result.stderr
    return result.stdout
