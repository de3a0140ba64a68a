"""What another package never promised is taken away, as its next release may: the same bytes come out, with one warning.

Each case runs in a process of its own, before anything of ours is imported: loaders with two workers, uint8 images,
small ones that travel in the message and large ones that travel in shared memory.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

PROBE = """
import hashlib
import warnings
shown = []
warnings.showwarning = lambda message, *rest: shown.append(str(message))
import numpy as np
import torch
CHANGE
from miamix_cpu import MiAMixCollator, MiAMixConfig

CONFIG = MiAMixConfig(methods=("mixup", "cutmix"), weights=(1, 1), p_self=0, p_aug=0, p_smooth=0)


class Images:
    def __init__(self, size):
        self.size = size

    def __len__(self):
        return 16

    def __getitem__(self, i):
        return np.random.default_rng(i).integers(0, 256, (self.size, self.size, 3), np.uint8), i % 4


digest = hashlib.sha256()
for size in (8, 96):
    collate = MiAMixCollator(4, CONFIG, seed=0, dtype="uint8", return_batch=True)
    loader = torch.utils.data.DataLoader(Images(size), 4, num_workers=2, collate_fn=collate)
    for epoch in range(2):
        collate.set_epoch(epoch)
        for batch in loader:
            for part in (batch.images, batch.targets, batch.lam, batch.partner):
                digest.update(np.ascontiguousarray(part.numpy()).tobytes())
print(digest.hexdigest())
print(*[words for words in shown if words.startswith("miamix_cpu")], sep="\\n")
"""

#: For a name that its own package goes on needing: it is away only while ours is imported.
HIDDEN = """
import importlib, sys
module = importlib.import_module("MODULE")
kept = module.NAME
del module.NAME
import miamix_cpu.collate
module.NAME = kept
"""

NO_REDUCTIONS = """
import sys
name = "torch.multiprocessing.reductions"
kept = sys.modules[name]
del torch.multiprocessing.reductions
sys.modules[name] = None
import miamix_cpu.collate
sys.modules[name] = torch.multiprocessing.reductions = kept
"""

REFUSED = """
import numba.core.cpu as m
before = m.CPUTargetOptions.parse_as_flags.__func__
def parse(cls, flags, options):
    if "OPTION" in options:
        raise KeyError("OPTION")
    return before(cls, flags, options)
m.CPUTargetOptions.parse_as_flags = classmethod(parse)
"""
NO_SUCH_FLAG = """
import numba.core.compiler as m
class Flags(m.Flags):
    def __setattr__(self, name, value):
        if name == "noalias":
            raise AttributeError(name)
        super().__setattr__(name, value)
m.Flags = Flags
"""
RENAMED = """
import numba.core.caching as m
m.Cache._index_key_2 = m.Cache._index_key
del m.Cache._index_key
def load_2(self, sig, target_context):
    return None
m.Cache._load_overload = load_2
m.Cache._save_overload = load_2
"""


def hidden(module, name):
    return HIDDEN.replace("MODULE", module).replace("NAME", name)


ADJUSTED, REPAIRED = "Numba's compiler cannot be adjusted", "Numba's cache is used without this package's fixes"

#: What is taken away, how, and the beginning of the warning.
CHANGES = {
    "numba Compiler": (hidden("numba.core.compiler", "Compiler"), ADJUSTED),
    "numba register_pass": ("import numba, numba.core.compiler_machinery as m; del m.register_pass", ADJUSTED),
    "numba Lower": (hidden("numba.core.lowering", "Lower"), ADJUSTED),
    "numba NativeLowering": ("import numba, numba.core.typed_passes as m; del m.NativeLowering", ADJUSTED),
    "numba CPUTargetOptions": ("import numba, numba.core.cpu as m; del m.CPUTargetOptions", ADJUSTED),
    "numba flag noalias": (NO_SUCH_FLAG, ADJUSTED),
    "numba option _nrt": (REFUSED.replace("OPTION", "_nrt"), ADJUSTED),
    "numba option no_cfunc_wrapper": (REFUSED.replace("OPTION", "no_cfunc_wrapper"), ADJUSTED),
    "numba FunctionCache": (hidden("numba.core.caching", "FunctionCache"), REPAIRED),
    "numba _index_key": (RENAMED, REPAIRED),
    "torch reductions": (NO_REDUCTIONS, "torch does not send tensors as expected"),
    "torch reduce_tensor": ("import torch.multiprocessing.reductions as m; del m.reduce_tensor", "torch does not send tensors"),
    "torch reduce_storage": (
        "import torch.multiprocessing.reductions as m; del m.reduce_storage", "torch does not send tensors as expected",
    ),
    "torch _new_shared": ("import torch.storage as m; del m._StorageBase._new_shared", "torch's shared memory cannot be allocated directly"),
    "torch _pytree": (
        "import torch.utils._pytree as m; del m.register_pytree_node", "torch's pytrees treat a MixedBatch as a single leaf",
    ),
    "torch fetch": (
        "import sys, torch.utils.data; sys.modules['torch.utils.data._utils.fetch'] = None",
        "torch's DataLoader does not work as expected",
    ),
    "multiprocessing DupFd": (
        "import multiprocessing.reduction as m; del m.DupFd", "multiprocessing cannot send a file descriptor",
    ),
    "multiprocessing register": (
        "from multiprocessing.reduction import ForkingPickler; del ForkingPickler.register", "torch does not send tensors",
    ),
    "multiprocessing _start_method": ("import multiprocessing.context as m; m.ForkProcess._start_method = None", None),
}  # fmt: skip


def run(change, cache):
    """The digest of all batches, and our warnings."""
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(cache), "MIAMIX_CPU_QUIET": "1"}
    result = subprocess.run(
        [sys.executable, "-c", PROBE.replace("CHANGE", change)],
        capture_output=True, text=True, timeout=300, env=environment, cwd=Path(__file__).parents[1],
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    digest, *warned = result.stdout.strip().splitlines()
    return digest, warned


@pytest.fixture(scope="module")
def caches(tmp_path_factory):
    return tmp_path_factory.mktemp("kernels")


@pytest.fixture(scope="module")
def expected(caches):
    digest, warned = run("", caches / "as it is")
    assert warned == []
    return digest


@pytest.mark.parametrize("name", CHANGES)
def test_the_same_bytes_come_out(name, expected, caches):
    change, words = CHANGES[name]
    # Compiled code in a cache would hide what changes in Numba.
    cache = caches / name if name.startswith("numba") else caches / "as it is"
    digest, warned = run(change, cache)
    assert digest == expected
    if words is None:
        assert warned == []
    else:
        assert len(warned) == 1, warned
        assert warned[0].startswith(f"miamix_cpu: {words}"), warned
        assert "Results do not change" in warned[0]


FAILS = """
import sys
sys.path.insert(0, FOLDER)
try:
    from miamix_cpu import MiAMixCollator
except ImportError as error:
    print(error)
"""


def test_a_failed_import_says_its_cause(tmp_path):
    """Python itself would only say "cannot import name 'MiAMixCollator'"."""
    change = "import torch\ndel torch.set_num_threads, torch.utils.data.default_collate"
    code = change + FAILS.replace("FOLDER", repr(str(Path(__file__).parents[1])))
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert "miamix_cpu.MiAMixCollator cannot be imported" in result.stdout, result.stdout + result.stderr
    assert "default_collate" in result.stdout
