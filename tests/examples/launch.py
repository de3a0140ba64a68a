"""Run a script, after declaring the operators that torchvision's wheel lacks beside a CPU build of torch."""

import runpy
import sys
from pathlib import Path

sys.path[0] = str(Path(__file__).parents[2])
from benchmarks.torchvision_wheel import import_torchvision  # noqa: E402

import_torchvision()
del sys.argv[0], sys.path[0]
runpy.run_path(sys.argv[0], run_name="__main__")
