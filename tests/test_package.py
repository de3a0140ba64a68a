"""Rules that hold for the package as a whole."""

import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest

import miamix_cpu
from miamix_cpu.jit.cache import KERNEL_SOURCES

PACKAGE = Path(miamix_cpu.__file__).parent
MODULES = sorted(
    ".".join(("miamix_cpu", *path.relative_to(PACKAGE).with_suffix("").parts)).removesuffix(".__init__")
    for path in PACKAGE.rglob("*.py")
    if path.name != "__main__.py"
)


def python(code, **environment):
    import os

    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300,
                          env={**os.environ, **environment})  # fmt: skip


@pytest.mark.parametrize("code", [
    "import miamix_cpu", "from miamix_cpu import MiAMixConfig", "from miamix_cpu import MiAMix, MixPlan, MixedBatch, warmup; "
    "import numpy as np; MiAMix(2)(np.zeros((2, 4, 4, 3), np.uint8), [0, 1], rng=np.random.default_rng(0))",
])  # fmt: skip
def test_the_core_imports_neither_torch_nor_albumentations(code):
    """For JAX users torch is not imported; it is not needed either."""
    result = python(code + "\nimport sys; heavy = {'torch', 'albumentations', 'cv2', 'PIL', 'matplotlib', 'sklearn'} & set(sys.modules)\n"
                    "print(sorted(heavy))")  # fmt: skip
    assert result.stdout.strip() == "[]", result.stderr


def test_the_core_works_where_torch_is_missing():
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "import numpy as np, miamix_cpu\n"
        "mix = miamix_cpu.MiAMix(2)\n"
        "print(mix(np.zeros((2, 4, 4, 3), np.uint8), [0, 1], rng=np.random.default_rng(0)).images.shape)\n"
        "views = miamix_cpu.TwoViews([(np.zeros((2, 2), np.uint8), 0)], lambda image: image)\n"
        "print(len(views[0][0]))\n"
        "try: miamix_cpu.MiAMixCollator\n"
        "except ImportError as error: print(error)\n"
    )
    assert python(code).stdout.splitlines() == [
        "(2, 4, 4, 3)", "2", "miamix_cpu.MiAMixCollator needs PyTorch: pip install 'miamix_cpu[torch]'",
    ]  # fmt: skip


def test_everything_public_is_exported_and_documented():
    for name in miamix_cpu.__all__:
        thing = getattr(miamix_cpu, name)
        assert inspect.getdoc(thing), name
        assert name in dir(miamix_cpu)
        if inspect.isclass(thing):
            for member, value in vars(thing).items():
                if not member.startswith("_") and callable(value):
                    assert inspect.getdoc(value), f"{name}.{member}"
    with pytest.raises(AttributeError, match="module 'miamix_cpu' has no attribute 'Mixer'"):
        miamix_cpu.Mixer  # noqa: B018


@pytest.mark.parametrize("name", ["MiAMix", "MiAMixCollator", "MiAMixConfig", "MixSchedule", "TwoViews"])
def test_options_are_keyword_only(name):
    parameters = list(inspect.signature(getattr(miamix_cpu, name)).parameters.values())
    positional = [p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD]
    assert positional in ([], ["num_classes", "config"], ["dataset", "transform"])


@pytest.mark.parametrize("name", MODULES)
def test_docstrings_name_every_parameter(name):
    """A docstring with a section of parameters has all of them, and none that is not there."""
    import importlib

    if name.endswith("explore_page"):
        pytest.importorskip("gradio", reason="the extra `explore` is not installed")
    module = importlib.import_module(name)
    assert module.__doc__
    for thing in vars(module).values():
        function = getattr(thing, "py_func", thing)
        if not (inspect.isfunction(function) or inspect.isclass(function)) or function.__module__ != name:
            continue
        doc = inspect.getdoc(function) or ""
        if "Parameters\n----------" not in doc:
            assert not hasattr(thing, "py_func") or doc, function
            continue
        section = doc.split("Parameters\n----------\n")[1].split("\n\n")[0]
        section = re.split(r"\n\w+\n-{4,}", section)[0]
        named = [part.strip(" *") for line in section.splitlines() if re.match(r"\S.* : |\*\*", line)
                 for part in line.split(" : ")[0].split(",")]  # fmt: skip
        real = [p for p in inspect.signature(function).parameters if p != "self"]
        assert set(named) <= set(real), (function, set(named) - set(real))
        if hasattr(thing, "py_func"):
            assert set(real) <= set(named), (function, set(real) - set(named))


def test_stages_do_not_import_each_other():
    """collate, batch -> keyed -> mixer -> stages -> plan, config; never the other way."""
    allowed = {
        "config": {"checks"},
        "plan": {"config"},
        "cache": set(),
        "pipeline": {"cache"},
        "compile": {"cache", "pipeline"},
        "arrays": {"compile"},
        "scalars": {"compile"},
        "normals": {"arrays", "compile", "scalars"},
        "pairing": {"compile"},
        "output": {"arrays", "compile", "scalars"},
        "fingerprint": {"arrays", "compile", "gather", "scalars"},
        "gather": {"arrays", "compile"},
        "labels": {"arrays", "checks", "compile"},
        "images": {"checks", "gather", "once"},
        "randomness": set(),
        "masks": {"arrays", "compile", "config", "masks", "scalars"},
        "samples": {"checks", "epochs"},
        "checks": set(),
        "once": {"checks"},
        "passes": {"once"},
        "generators": set(),
        "shared": {"once", "passes"},
        "sampling": {"arrays", "compile", "config", "masks", "normals", "pairing", "plan", "scalars"},
        "holes": {"arrays", "compile", "config", "masks", "output", "plan"},
        "render": {"arrays", "compile", "holes", "masks", "output", "scalars"},
        "mixed_batch": {"plan"},
        "mixer": {
            "checks", "config", "gather", "holes", "images", "labels", "masks", "memory", "mixed_batch", "once", "plan", "render",
            "sampling",
        },
        "views": {"checks", "generators", "images", "once", "randomness"},
        "two_views": {"checks", "epochs", "images", "once", "passes", "randomness", "views"},
        "epochs": {"checks"},
        "lending": set(),
        "memory": set(),
        "transport": {"lending", "memory"},
        "keyed": {
            "checks", "config", "epochs", "fingerprint", "gather", "images", "labels", "mixer", "plan", "randomness",
            "once", "samples", "sampling", "views", "warm",
        },
        "batch": {"checks", "config", "epochs", "keyed", "labels", "memory", "samples"},
        "collate": {
            "checks", "config", "epochs", "keyed", "labels", "memory", "mixed_batch", "mixer", "plan", "samples", "shared",
            "transport",
        },
    }  # fmt: skip
    for stage, may in allowed.items():
        paths = sorted(PACKAGE.glob(f"{stage}/*.py")) or [PACKAGE / f"{stage}.py"]
        for path in paths:
            found = set(re.findall(r"^\s*from miamix_cpu\.(\w+)", path.read_text(), flags=re.M))
            assert found <= may, (path.name, found - may)


def test_every_kernel_is_part_of_the_caches_key():
    for path in PACKAGE.rglob("*.py"):
        decorators = (
            r"^@(kernel|allocating|exact|inlined|entry|entry_with_gil|by_address|intrinsic|overload|instructions)\b"
        )
        if re.search(decorators, path.read_text(), flags=re.M):
            assert path.relative_to(PACKAGE).parts[0] in KERNEL_SOURCES, path


def test_no_assert_validates():
    """`python -O` drops them."""
    for path in PACKAGE.rglob("*.py"):
        assert not re.search(r"^\s*assert ", path.read_text(), flags=re.M), path
