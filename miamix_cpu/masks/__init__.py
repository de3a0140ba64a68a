"""Stage 3, masks: what each layer covers of an image (MiAMix, section 3.2.3). One file a published method.

Read cutmix.py first. `draw` derives the fields of a method's layers from uniform numbers, `fill` renders their holes:
both are jitted entry points, called once for all layers of the method. augment.py says which holes are rotated, sheared
and smoothed; smooth.py smooths them; threshold.py is fmix's. A new method is a file here and its name in
`methods.METHODS`.

May import config, options and jit.
"""

from __future__ import annotations

from functools import cache
from importlib import import_module
from typing import Any

import numpy as np

from miamix_cpu.methods import METHODS

#: Uniform numbers a layer: one for the method, five for the augmentation, four for `draw`.
UNIFORMS = 10


@cache
def method_of(code: int) -> Any:
    """The module of the method with this code; it is imported when it is first used.

    It has `draw`, and `fill` unless its hole is one number everywhere. Where they apply, it also has

    - `TURNS`, `SMOOTHS`: True if its masks are rotated and sheared, and smoothed
    - `BOX`: True if its hole is an upright box (unless turned) of 1, and `level` outside
    - `finish`: makes its blocks of `coefficients` of normals
    - `GUIDED`: "partner" if its hole depends on a guide of the partner's view, "both" if also on one of the first view,
      and `aim`, which sets its fields by the guides
    - `RESIZES`: True if its box shows the whole partner, resized (`mix/resize.py`)
    - `details`: what `describe` says of a layer beyond its ratio
    - `rules`: what must hold for its layers of a plan that is read from a file
    """
    return import_module(f"{__name__}.{METHODS[code]}")


@cache
def methods_that(have: str) -> np.ndarray:
    """bool (number of methods,): which have this attribute, and not as False."""
    return np.array([bool(getattr(method_of(code), have, False)) for code in range(len(METHODS))])
