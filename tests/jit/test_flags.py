"""The flags by which kernels are compiled hold, and nothing is compiled twice, or that nobody uses."""

import math
import os
import re
import subprocess
import sys
from pathlib import Path

import numba
import numpy as np
import pytest
from numba.core.runtime import _nrt_python, rtsys

from miamix_cpu.jit.flags import allocating, entry, exact, exact_entry, kernel
from miamix_cpu.masks.smooth import mean_rows, slide_row
from miamix_cpu.mix.blend import mix_evenly, to_weights
from miamix_cpu.mix.merge import merge
from tests.kernels import compiled


def python(code, **environment):
    """What a fresh process prints."""
    environment = {**os.environ, "MIAMIX_CPU_QUIET": "1", **environment}
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300, env=environment)
    assert result.returncode == 0, result.stderr
    return result.stdout


# Flags ---------------------------------------------------------------------------------------------------------------

F32, I16, U8, I32, I64 = (np.ones(9, dtype) for dtype in (np.float32, np.int16, np.uint8, np.int32, np.int64))
#: Kernels whose loops read and write several arrays, with arguments to compile them for.
LOOPS = {
    merge: (F32, 0, np.ones((2, 9), np.float32), np.arange(2), 1.0, True),
    to_weights: (I16, F32),
    mix_evenly: (U8, np.zeros(9, np.uint8), np.zeros(9, np.uint8), 0, 9, np.int16(5)),
    slide_row: (I16, np.zeros(9, np.int16), F32, F32),
    mean_rows: (F32, np.zeros(9, np.float32), np.zeros(15, np.int32), 3, np.float32(1 / 9), True),
}


def text_of(function, arguments):
    """What LLVM made of a kernel, called by an entry that counts references."""
    compiled(function)(*arguments)
    return "".join(function.inspect_llvm().values())


@pytest.mark.parametrize(("function", "arguments"), LOOPS.items(), ids=lambda value: getattr(value, "__name__", ""))
def test_loops_are_told_that_arrays_do_not_overlap(function, arguments):
    """A promise that Numba passes on to LLVM by an inner switch: were it gone, kernels would be slower, not wrong."""
    text = text_of(function, arguments)
    assert "vector.body" in text
    assert "vector.memcheck" not in text


@pytest.mark.parametrize(("function", "arguments"), LOOPS.items(), ids=lambda value: getattr(value, "__name__", ""))
def test_kernels_use_wide_vectors_and_count_no_references(function, arguments):
    """Inner switches of Numba's likewise; wrappers that nobody calls would take a tenth longer to compile."""
    text = text_of(function, arguments)
    assert '"prefer-vector-width"="512"' in text
    for unwanted in "NRT_incref", "NRT_decref", "@cfunc.", "PyArg_", "PyErr_":
        assert unwanted not in text


def add_products(out, a, b, c):
    for i in range(out.size):
        out[i] = a[i] * b[i] + c[i] / a[i]


ARGUMENTS = tuple(np.ones(9, np.float32) for _ in range(4))


@pytest.fixture
def cold(tmp_path, monkeypatch):
    """An empty place for the code of entries."""
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize("decorator", [kernel, allocating, exact, entry, exact_entry])
def test_each_decorator_has_its_flags(decorator, cold):
    function = decorator(add_products)
    is_entry = decorator in (entry, exact_entry)
    (function if is_entry else compiled(function))(*ARGUMENTS)
    (text,) = function.inspect_llvm().values()
    assert '"prefer-vector-width"="512"' in text
    assert "vector.memcheck" not in text
    assert "@cfunc." not in text
    assert ("PyArg_" in text) == is_entry  # the wrapper that Python calls
    words = {part for found in re.findall(r" f(?:add|mul|div) ([a-z ]*)", text) for part in found.split()}
    wanted = set() if decorator in (exact, exact_entry) else {"nsz", "contract"}
    assert words - {"float", "double", "x"} == wanted
    assert function.targetoptions["nogil"]
    assert bool(list(cold.rglob("*.nbc"))) == is_entry


def quotient(a, b):
    return a / b


@pytest.mark.parametrize("decorator", [kernel, allocating, exact, entry, exact_entry])
def test_division_by_zero_is_infinite(decorator, cold):
    """As in NumPy, and without a branch in every loop."""
    function = decorator(quotient)
    called = function if decorator in (entry, exact_entry) else compiled(function)
    assert called(1.0, 0.0) == math.inf
    assert math.isnan(called(0.0, 0.0))


@allocating
def work(n):
    total = 0
    for i in range(n):
        one, other = np.empty(1000, np.int64), np.empty((10, 100), np.int64)
        for p in range(1000):
            one[p] = i
            other[p // 100, p % 100] = -i
        part = one[990:]
        one = np.empty(1, np.int64)  # the first lives on in its part
        again = np.empty(1000, np.int64)  # which would be where that was
        for p in range(1000):
            again[p] = -1
        total += part[0] + part[9] + other[9, 99] + again[0] + 1
    return total


@kernel
def have_work_done(n):
    return work(n)


@pytest.mark.parametrize("function", [work, have_work_done], ids=["by an entry", "by a kernel that counts none"])
def test_new_arrays_are_freed_once_and_not_before(function):
    """Of kernels that allocate, whoever calls them; each array is filled anew, so memory that came back too early would show."""
    call = compiled(function)
    call(3)
    _nrt_python.memsys_enable_stats()
    before = rtsys.get_allocation_stats()
    assert call(500) == 500 * 499 // 2
    after = rtsys.get_allocation_stats()
    _nrt_python.memsys_disable_stats()
    assert after.alloc - before.alloc == 4 * 500
    assert after.alloc - after.free == before.alloc - before.free


# What is compiled ----------------------------------------------------------------------------------------------------

#: Each compiled function, as module.name, once for each signature.
LISTENER = """
from numba.core import event
class Listener(event.Listener):
    def on_start(self, found):
        function = found.data["dispatcher"].py_func
        print(function.__module__.removeprefix("miamix_cpu."), function.__name__)
    def on_end(self, found):
        pass
event.register("numba:compile", Listener())
"""


def test_kernels_are_compiled_once(tmp_path):
    """But for what handles several dtypes; a literal among the arguments, say, would double a large one unseen."""
    out = python(LISTENER + "import miamix_cpu; miamix_cpu.warmup()", NUMBA_CACHE_DIR=str(tmp_path))
    times = {name: out.splitlines().count(name) for name in every_kernel()}
    twice = (
        "mix.kernels mix_floats", "mix.resize paste_resized", "masks.resample average_into", "masks.resample take_nearest",
        "views.grey copy_grey", "views.grey to_grey",
    )  # fmt: skip
    by_dtype = {"mix.blend blend": 3, **dict.fromkeys(twice, 2)}
    on_demand = [
        name
        for name in times
        if name.startswith(("mix.layered", "mix.companions", "compiled_views.")) or "pairing draw_pairing" in name
    ]
    assert len(on_demand) > 5
    assert times == {**dict.fromkeys(times, 1), **by_dtype, **dict.fromkeys(on_demand, 0)}


def test_compiled_views_compile_their_kernels_when_the_collator_is_made(tmp_path):
    """Before workers are forked, and only where the transform has a program; each of them once."""
    pytest.importorskip("albumentations", reason="Albumentations is not installed")
    code = (
        LISTENER
        + """
import numpy as np, albumentations as A
from miamix_cpu import MiAMixCollator
moves = [A.PadIfNeeded(12, 12), A.RandomCrop(8, 8), A.HorizontalFlip()]
MiAMixCollator(2, transform=A.Blur(), seed=0)
print("unknown")
collate = MiAMixCollator(2, transform=A.Compose([*moves, A.InvertImg()]), seed=0)
print("made")
collate([(np.zeros((8, 8, 3), np.uint8), 0)] * 4)
"""
    )
    out = python(code, NUMBA_CACHE_DIR=str(tmp_path)).splitlines()
    ours = [name for name in out if name.startswith("compiled_views.") or name in ("unknown", "made")]
    assert ours[0] == "unknown"
    assert ours[-1] == "made"
    expected = {"shift_axes", "border_entry", "flip_axis", "gather_pixels", "gather_view", "copy_pixels", "copy_values"}
    assert sorted(ours[1:-1]) == sorted(
        [*(f"compiled_views.moves {name}" for name in expected), "compiled_views.values look_up"]
    )


def every_kernel():
    """All functions of the package that have a decorator of `jit.compile`."""
    import miamix_cpu

    package = Path(miamix_cpu.__file__).parent
    for path in sorted(package.rglob("*.py")):
        module = ".".join(path.relative_to(package).with_suffix("").parts)
        text = path.read_text()
        for name in re.findall(r"^@(?:kernel|allocating|exact|entry|exact_entry)\ndef (\w+)", text, flags=re.M):
            yield f"{module} {name}"


COLLATE = """
import numpy as np
from miamix_cpu import MiAMixCollator, MiAMixConfig
collate = MiAMixCollator(4, {config}, seed=0, dtype={dtype!r})
print("made")
samples = [(np.full((16, 16, 3), i, np.uint8), i) for i in range(4)]
for _ in range(20):
    collate.set_epoch(_)
    collate(samples)
"""


@pytest.mark.parametrize(("config", "dtype", "masks", "mixing"), [
    ("MiAMixConfig(methods=('mixup', 'cutmix'), weights=(1, 1), p_self=0)", "uint8",
     {"augment fill_augmentation", "cutmix draw_boxes", "cutmix fill", "smooth smooth"}, ["mix_bytes"]),
    ("MiAMixConfig(methods=('mixup', 'cutmix', 'fmix'), weights=(1, 1, 0), p_self=0, p_smooth=0)", "float32",
     {"augment fill_augmentation", "cutmix draw_boxes", "cutmix fill"}, ["mix_floats", "mix_floats"]),
    ("MiAMixConfig.plain('mixup')", "uint8", {"augment fill_augmentation"}, ["mix_bytes"]),
    ("MiAMixConfig.plain('mixup', pairing='other_class')", "uint8", {"augment fill_augmentation"}, ["mix_bytes"]),
    ("MiAMixConfig.plain('resizemix')", "uint8", {"augment fill_augmentation", "resizemix draw_boxes", "cutmix fill"},
     ["mix_bytes"]),
    ("MiAMixConfig.plain('saliencymix')", "uint8",
     {"augment fill_augmentation", "saliencymix draw_boxes", "saliencymix aim", "cutmix fill"}, ["mix_bytes"]),
    ("MiAMixConfig.plain('cutmix', k_max=2, partners='layer')", "uint8",
     {"augment fill_augmentation", "cutmix draw_boxes", "cutmix fill"}, []),
], ids=["two methods", "a method that is never drawn", "mixup", "a pairing by class", "a resized partner", "a guide",
        "partners of layers"])  # fmt: skip
def test_what_nobody_uses_is_not_compiled(config, dtype, masks, mixing, tmp_path):
    """A collator compiles what its methods, its smoothing and its dtype need, when it is made, and later nothing."""
    out = python(LISTENER + COLLATE.format(config=config, dtype=dtype), NUMBA_CACHE_DIR=str(tmp_path))
    before, after = out.split("made\n")
    assert after == ""
    kept = [path.name.split("-")[0].replace(".", " ") for path in tmp_path.rglob("*.nbc")]
    paired = {name for name in before.split() if name in ("swap_partners", "derange_blocks")}
    assert paired == ({"swap_partners"} if "other_class" in config else set())
    rooms = {name.split()[1]: name.split(".")[0] for name in before.splitlines()}
    assert {name for name in kept if rooms[name.split()[1]] == "masks"} == masks
    assert sorted(name.split()[1] for name in kept if name.startswith("kernels ")) == mixing
    for method in {"cutmix", "fmix", "gridmix", "gmix", "threshold", "smooth"} - {name.split()[0] for name in masks}:
        # Of cutmix a box is looked at wherever masks are merged.
        found = {name for name in before.splitlines() if name.startswith(f"masks.{method} ")}
        assert found <= {"masks.cutmix box_of"}


EVERYTHING = """
import itertools
import numpy as np
import torch
from miamix_cpu import *
from miamix_cpu.methods import METHODS
warmup()
print("warm")
rng = np.random.default_rng(0)
options = GridMixOptions(pattern="random"), FMixOptions(decay=0.5)  # of which the latter needs all frequencies
usual = MiAMixConfig(p_self=0)
every = dict(methods=METHODS, weights=(1,) * len(METHODS), p_self=0, p_aug=0.5)
configs = [usual, *(MiAMixConfig.plain(method) for method in every["methods"]), MiAMixConfig(alpha=0.05, **every),
           MiAMixConfig(merge="sum", lam_from="orig", gauss_scale="area", second_view="shared", k_max=4, **every),
           MiAMixConfig(gridmix=options[0], fmix=options[1], cutmix=CutMixOptions(minmax=(0.2, 0.8)), **every),
           MiAMixConfig(alpha=dict.fromkeys(METHODS, 0.5), ratio_range=(0, 1), hmix=HMixOptions(share=1),
                        smoothmix=SmoothMixOptions(sigma=(0, 1)), resizemix=ResizeMixOptions(tau=[0, 1]),
                        saliencymix=SaliencyMixOptions(guide="spectral"), **every),
           MiAMixConfig(resizemix=ResizeMixOptions(tau_from="alpha"), guidedmixup=GuidedMixupOptions(guide="fine_grained"),
                        attentivecutmix=AttentiveCutMixOptions(grid=np.int8(5), cells="ratio"), **every)]
for config, channels in itertools.product(configs, (0, 1, 3, 4)):
    shape = (12, 9, 8, channels) if channels else (12, 9, 8)
    images = rng.integers(0, 256, shape, np.uint8)
    for dtype, masks in itertools.product(("uint8", "float32", "float16"), (False, True)):
        mix = MiAMix(3, config, dtype=dtype, return_masks=masks, label_smoothing=0.1)
        mix(images, np.arange(12) % 3, rng=rng)
        if dtype != "uint8":
            mix((images / 255).astype("float32"), np.eye(3, dtype="float32")[np.arange(12) % 3], rng=rng)
for config in configs[0], configs[-4]:
    for layout, dtype in itertools.product(("channels_first", "channels_last"), ("uint8", "float32", "bfloat16")):
        collate = MiAMixCollator(3, config, seed=0, dtype=dtype, memory_format=layout, targets="pair")
        for make in np.asarray, torch.from_numpy:
            collate([(make(np.full((4, 4, 4), i, np.uint8)), i % 3) for i in range(5)])
"""


def test_after_warmup_nothing_is_compiled():
    """Whatever the dtypes, methods, options and layouts."""
    out = python(LISTENER + "import warnings; warnings.simplefilter('ignore')\n" + EVERYTHING)
    assert out.split("warm\n")[1] == ""


WHATEVER = """
import dataclasses, pickle
import numpy as np
from miamix_cpu import MiAMix, MiAMixCollator, MiAMixConfig, warmup
warmup()
print("warm")
images = np.zeros((4, 8, 8, 3), np.uint8)
kinds = dict(p_self=0, alpha=1, k_min=np.int8(1), k_max=np.uint8(3), p_aug=np.float32(0.5), smooth_max=1, shear_max=1)
mix = MiAMix(np.int16(3), MiAMixConfig(**kinds), label_smoothing=0)
rng = np.random.default_rng(0)
wide = np.arange(8) % 3
frozen = wide[:4].copy()
frozen.setflags(write=False)
for given in ([0, 1, 2, 0], [np.uint8(1)] * 4, wide[::2], frozen, np.array([1, 2, 0, 1], ">i4"), [True] * 4, [np.uint64(2)] * 4):
    batch = mix(images, given, rng=rng)
    assert not np.shares_memory(batch.targets, given)
mix.plan(np.int8(100), np.int16(8), 8, rng=rng)
buffers = []
data = pickle.dumps(batch.plan, 5, buffer_callback=buffers.append)
plan = pickle.loads(data, buffers=[bytes(buffer) for buffer in buffers])
assert not plan.partner.flags.writeable
mix.render(plan, images[:, ::-1], frozen)
collate = MiAMixCollator(3, MiAMixConfig(**kinds), seed=np.int64(3), return_batch=True)
samples = [(image, label) for image, label in zip(images, frozen)]
collate.replay(samples, dataclasses.replace(plan, partner=np.array([1, 0, 3, 2], np.int32), key=collate(samples).plan.key))
"""


def test_whatever_is_given_compiles_nothing_anew():
    """Other kinds of numbers, and arrays that are read-only, strided or of another dtype: seconds each, were it so."""
    assert python(LISTENER + WHATEVER).split("warm\n")[1] == ""


def test_a_warm_process_compiles_nothing():
    """A building block that Python calls is cached nowhere: a tenth of a second in each worker."""
    code = (
        "import numpy as np\n"
        "from miamix_cpu import MiAMixCollator, MiAMixConfig, warmup\n"
        "samples = [(np.full((32, 32, 3), i, np.uint8), i) for i in range(4)]\n"
        "MiAMixCollator(4, MiAMixConfig(p_self=0), seed=0)(samples)\n"
        "warmup()\n"
    )
    for _ in range(2):  # by the second run the cache is warm
        out = python(LISTENER + code)
    assert out == ""
