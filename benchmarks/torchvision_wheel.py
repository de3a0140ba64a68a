"""torchvision's wheel beside a CPU build of torch, for which it has no compiled operators."""

from __future__ import annotations

import re
import sys
from types import ModuleType

import torch


def import_torchvision() -> ModuleType:
    """torchvision, with the operators that its wheel lacks beside a CPU build of torch declared but not defined."""
    library = torch.library.Library("torchvision", "FRAGMENT")
    for _ in range(40):
        try:
            import torchvision

            # The library must outlive the import.
            torchvision._declared = library  # type: ignore[attr-defined]
            return torchvision
        except RuntimeError as error:
            missing = re.search(r"operator torchvision::(\w+) does not exist", str(error))
            if missing is None:
                raise ImportError(f"torchvision: {error}") from error
            library.define(f"{missing[1]}(Tensor a) -> Tensor")
            for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
                del sys.modules[name]
    raise ImportError("torchvision lacks too many operators")
