"""Report installed packages, conflicts between them, and what the machine supports."""

from __future__ import annotations

import multiprocessing
import os
import platform
import sys
import time
import warnings
from importlib import metadata
from typing import Any

#: Distributions that install the same folder, `cv2/`, and overwrite each other's files.
_CV2 = ("opencv-python", "opencv-python-headless", "opencv-contrib-python", "opencv-contrib-python-headless")
#: The same for `albumentations/`. The second one is licensed under the AGPL or commercially.
_ALBUMENTATIONS = ("albumentations", "albumentationsx")
_PACKAGES = ("numpy", "numba", "llvmlite", "xxhash", "torch", *_ALBUMENTATIONS, *_CV2, "pillow")


def check_environment() -> dict[str, str]:
    """Return the versions of Python and relevant packages; warn if packages conflict.

    Returns
    -------
    dict
        Versions by name, for Python and the installed distributions.

    Warns
    -----
    RuntimeWarning
        One for each conflict: OpenCV distributions of different versions, or albumentations together with
        AlbumentationsX. In both cases, the packages overwrite each other's files.
    """
    found = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    for problem in problems_of(found):
        warnings.warn(problem, RuntimeWarning, stacklevel=2)
    return found


def problems_of(versions: dict[str, str]) -> list[str]:
    """Return the conflicts between distributions, one sentence each.

    Parameters
    ----------
    versions : dict of versions by distribution name
    """
    problems = []
    builds = {name: versions[name] for name in _CV2 if name in versions}
    if len({version.split("+")[0] for version in builds.values()}) > 1:
        names = " and ".join(f"{name} {version}" for name, version in builds.items())
        problems.append(
            f"{names} install the same files (cv2/) in different versions and overwrite each other: uninstall all of "
            "them, then install one of them (opencv-python-headless, unless you open windows)"
        )
    if all(name in versions for name in _ALBUMENTATIONS):
        free, paid = (versions[name] for name in _ALBUMENTATIONS)
        problems.append(
            f"albumentations {free} and AlbumentationsX {paid} install the same files (albumentations/) and overwrite "
            "each other: uninstall both, then install the one you want"
        )
    return problems


def describe_environment() -> list[tuple[str, str]]:
    """Return readable rows (name, value), also for bug reports: `python -m miamix_cpu doctor`."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        versions = check_environment()
    rows = [(name, version) for name, version in versions.items() if name not in _ALBUMENTATIONS]
    rows += [("albumentations", _albumentations(versions)), ("compiled views", _compiled_views())]
    rows += [("system", f"{platform.system()} {platform.machine()}"), ("cpu", _cpu())]
    rows += [("cores", f"{os.cpu_count()}, {_usable_cores()} of them for this process")]
    rows += [("kernel cache", _cache()), ("start method", _start_method()), ("threads", _threads())]
    rows += [("first batch", _first_batch())]
    return rows


def _albumentations(versions: dict[str, str]) -> str:
    names = {"albumentations": "albumentations", "albumentationsx": "AlbumentationsX"}
    found = [f"{words} {versions[name]}" for name, words in names.items() if name in versions]
    return " and ".join(found) or "not installed"


def _compiled_views() -> str:
    try:
        import albumentations

        from miamix_cpu.compiled_views.program import Program
        from miamix_cpu.compiled_views.step import STEPS, NotKnown

        Program(albumentations.NoOp())
    except ImportError as error:
        return f"no: {error}"
    except NotKnown as reason:
        return f"no: {reason} is not known"
    return f"{len(STEPS)} transforms are known; `collate.views` says whether yours are"


def _cpu() -> str:
    from miamix_cpu.jit.compiler import cpu

    name, features = cpu()
    wanted = ("sse4.2", "avx2", "fma", "avx512f", "avx512bw", "avx512vl", "neon", "sve")
    return f"{name}: {', '.join(feature for feature in wanted if feature in features) or 'no vectors'}"


def _usable_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _cache() -> str:
    import miamix_cpu.warm  # noqa: F401  # imports every module with kernels
    from miamix_cpu.jit.cache import cache_folders

    folders = cache_folders()
    if not folders:
        return "none: each process compiles the kernels again; set NUMBA_CACHE_DIR to a writable folder"
    files = [file for folder in folders for file in folder.glob("*.nbc")]
    size = sum(file.stat().st_size for file in files) / 2**20
    return f"{os.path.commonpath(folders)}, {len(files)} files, {size:.1f} MiB"


def _start_method() -> str:
    chosen = multiprocessing.get_start_method(allow_none=True)
    # Without `allow_none`, this call would fix the start method for the whole process.
    return chosen or f"{multiprocessing.get_all_start_methods()[0]} (default)"


def _threads() -> str:
    import numba

    # Numba's own function would start its threads.
    found = [f"numba {numba.config.NUMBA_NUM_THREADS} (kernels use one)"]
    if "torch" in sys.modules:
        found.append(f"torch {sys.modules['torch'].get_num_threads()}")
    try:
        import cv2

        found.append(f"OpenCV {cv2.getNumThreads()} (0 in workers)")
    except ImportError as error:
        found.append(f"OpenCV can't be imported: {error}")
    return ", ".join(found)


def _first_batch() -> str:
    import numpy as np

    start = time.perf_counter()
    from miamix_cpu.config import MiAMixConfig
    from miamix_cpu.mixer import MiAMix

    images: Any = np.random.default_rng(0).integers(0, 256, (128, 32, 32, 3), dtype=np.uint8)
    mix, rng = MiAMix(10, MiAMixConfig(p_self=0.0)), np.random.default_rng(0)
    mix(images, np.arange(128) % 10, rng=rng)
    first = time.perf_counter() - start
    times = []
    for _ in range(9):
        start = time.perf_counter()
        mix(images, np.arange(128) % 10, rng=rng)
        times.append(time.perf_counter() - start)
    return f"{first:.2f} s, later ones {1e3 * sorted(times)[4]:.2f} ms (128 images, 32 x 32, uint8)"
