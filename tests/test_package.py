"""Rules that hold for the package as a whole."""

import ast
import importlib
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


#: What each room, and each module beside them, may import of the package: cli -> front doors -> keyed -> views, samples,
#: plan, mix -> masks -> config, options, jit. `workers` knows nothing of mixing; TwoViews, which runs in workers too,
#: uses it for the epoch.
ANYONE = {"checks", "memory", "once", "private_api"}
MAY_IMPORT = {
    "checks": set(),
    "memory": set(),
    "private_api": {"checks"},
    "once": {"checks"},
    "options": {"checks"},
    "recipes": {"options"},
    "methods": {"checks"},
    "config": {"checks", "methods", "options", "recipes"},
    "epochs": {"checks"},
    "training": {"checks"},
    "manifold": {"masks", "mix"},
    "formats": {"checks"},
    "jit": {"private_api"},
    "masks": {"config", "jit", "methods", "options"},
    "plan": {"checks", "config", "jit", "masks", "methods", "options"},
    "mix": {"checks", "config", "jit", "masks", "memory", "methods", "plan", "samples"},
    "samples": {"epochs"} | ANYONE,
    "workers": ANYONE,
    "compiled_views": {"jit", "memory", "plan"},
    "views": {"compiled_views", "epochs", "jit", "masks", "options", "plan", "samples", "workers"} | ANYONE,
    "warm": {"config", "masks", "methods", "mix", "plan", "samples", "views"},
    "mixer": {"config", "formats", "methods", "mix", "plan", "samples", "views"} | ANYONE,
    "prepared": {"formats", "mix", "plan", "samples", "views"},
    "keyed": {"config", "epochs", "mix", "mixer", "plan", "prepared", "samples", "views", "warm"} | ANYONE,
    "columns": {"config", "epochs", "keyed", "mix", "prepared", "samples"} | ANYONE,
    "collate": {"config", "epochs", "formats", "keyed", "mix", "plan", "prepared", "samples", "workers"} | ANYONE,
    "environment": {"compiled_views", "config", "jit", "mixer", "warm"},
}
ROOMS = ("plan", "masks", "mix", "compiled_views", "views", "samples", "workers", "jit")


@pytest.mark.parametrize("unit", MAY_IMPORT)
def test_imports_go_one_way(unit):
    paths = sorted(PACKAGE.glob(f"{unit}/*.py")) or [PACKAGE / f"{unit}.py"]
    for path in paths:
        found = set(re.findall(r"^\s*(?:from|import) miamix_cpu\.(\w+)", path.read_text(), flags=re.M)) - {unit}
        assert found <= MAY_IMPORT[unit], (path.name, found - MAY_IMPORT[unit])


def test_every_module_has_its_place():
    """A new one needs a row above, or a room."""
    units = {path.relative_to(PACKAGE).parts[0].removesuffix(".py") for path in PACKAGE.rglob("*.py")}
    assert units - {"__init__", "__main__", "cli"} == set(MAY_IMPORT)


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_says_what_happens_in_it(room):
    """What, in which order to read it, and what it may import, in ten lines."""
    words = importlib.import_module(f"miamix_cpu.{room}").__doc__.splitlines()
    assert 3 <= len(words) <= 10
    assert any(line.startswith("May import ") for line in words)
    named = set(re.findall(r"\w+\.py", "\n".join(words)))
    assert named <= {path.name for path in (PACKAGE / room).iterdir()} | {"config.py"}


def test_only_jit_imports_the_inside_of_numba():
    for path in PACKAGE.rglob("*.py"):
        found = re.findall(r"^\s*(?:from|import) (numba\.core\S*|numba\.np\S*|llvmlite\S*)", path.read_text(), re.M)
        assert not found or path.parent.name == "jit", (path, found)


def test_every_kernel_is_part_of_the_caches_key():
    for path in PACKAGE.rglob("*.py"):
        decorators = r"^@(kernel|allocating|exact|entry|exact_entry|intrinsic|overload|register_jitable)\b"
        if re.search(decorators, path.read_text(), flags=re.M):
            assert path.relative_to(PACKAGE).parts[0] in KERNEL_SOURCES, path


def test_no_file_and_no_function_is_long():
    """350 lines a file, 60 a function, but for kernels, which are flat."""
    for path in PACKAGE.rglob("*.py"):
        text = path.read_text()
        assert len(text.splitlines()) <= 350, path
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef):
                is_kernel = {getattr(d, "id", "") for d in node.decorator_list} & {
                    "kernel",
                    "entry",
                    "exact",
                    "allocating",
                }
                assert is_kernel or node.end_lineno - node.lineno < 60, (path, node.name)


def test_no_assert_validates():
    """`python -O` drops them."""
    for path in PACKAGE.rglob("*.py"):
        assert not re.search(r"^\s*assert ", path.read_text(), flags=re.M), path
