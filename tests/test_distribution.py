"""What a registry and its users would get: built in isolation, checked, installed alone."""

import ast
import os
import shutil
import subprocess
import sys
import tarfile
import venv
import zipfile
from email import message_from_bytes
from types import SimpleNamespace

import pytest

import miamix_cpu
from tests.examples import ROOT, needs

NAME = f"miamix_cpu-{miamix_cpu.__version__}"
UNWANTED = shutil.ignore_patterns(".*", "*.egg-info", "build", "dist", "_build", "__pycache__")


def run(*command, folder=None, **environment):
    """The finished process; PYTHONPATH does not reach it."""
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=900, cwd=folder,
                          env={**kept, **environment})  # fmt: skip


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """An sdist from a copy of the repository, and a wheel from that sdist."""
    needs("build")
    folder = tmp_path_factory.mktemp("distribution")
    shutil.copytree(ROOT, folder / "source", ignore=UNWANTED)
    result = run(sys.executable, "-m", "build", "--outdir", folder / "dist", folder / "source")
    assert result.returncode == 0, result.stdout[-2000:] + result.stderr[-2000:]
    return SimpleNamespace(sdist=folder / "dist" / f"{NAME}.tar.gz", wheel=folder / "dist" / f"{NAME}-py3-none-any.whl")


@pytest.fixture(scope="module")
def installed(built, tmp_path_factory):
    """The Python of an environment that has the wheel and what it requires, nothing else."""
    folder = tmp_path_factory.mktemp("installed")
    venv.create(folder, with_pip=True)
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    result = run(python, "-m", "pip", "install", "-q", "-c", ROOT / "constraints.txt", built.wheel, folder=folder)
    assert result.returncode == 0, result.stderr[-2000:]
    return python


def test_the_wheel_holds_the_package_alone(built):
    with zipfile.ZipFile(built.wheel) as wheel:
        names = {name for name in wheel.namelist() if not name.startswith(f"{NAME}.dist-info/")}
        licences = [name for name in wheel.namelist() if name.endswith("LICENSE")]
        assert wheel.read(licences[0]) == (ROOT / "LICENSE").read_bytes()
    package = ROOT / "miamix_cpu"
    files = [path for path in package.rglob("*") if path.suffix == ".py" or path.name == "py.typed"]
    assert names == {path.relative_to(ROOT).as_posix() for path in files}
    assert "miamix_cpu/py.typed" in names


def test_its_metadata(built):
    with zipfile.ZipFile(built.wheel) as wheel:
        metadata = message_from_bytes(wheel.read(f"{NAME}.dist-info/METADATA"))
    core = [line for line in metadata.get_all("Requires-Dist") if "extra ==" not in line]
    assert sorted(line.split(">")[0] for line in core) == ["numba", "numpy", "xxhash"]
    assert metadata["Version"] == miamix_cpu.__version__
    assert metadata["Requires-Python"] == ">=3.11"
    assert (metadata["License-Expression"] or metadata["License"]) == "MIT"
    assert metadata.get_payload(decode=True).decode().startswith("# miamix_cpu\n")


def test_the_sdist_holds_what_its_tests_need(built, tmp_path):
    with tarfile.open(built.sdist) as archive:
        archive.extractall(
            tmp_path, **({"filter": "data"} if hasattr(tarfile, "data_filter") else {})
        )  # from 3.11.4 on
    source = tmp_path / NAME
    for folder in ("benchmarks", "docs", "examples", "tests"):
        held = {path.relative_to(source) for path in (source / folder).rglob("*") if path.is_file()}
        tree = shutil.copytree(ROOT / folder, tmp_path / "tree" / folder, ignore=UNWANTED)
        assert held == {path.relative_to(tmp_path / "tree") for path in tree.rglob("*") if path.is_file()}
    result = run(sys.executable, "-m", "pytest", "-q", "--collect-only", "tests", folder=source)
    assert result.returncode == 0, result.stdout[-2000:]


def test_twine_finds_nothing_wrong(built):
    needs("twine")
    result = run(sys.executable, "-m", "twine", "check", "--strict", built.sdist, built.wheel)
    assert result.returncode == 0, result.stdout
    assert result.stdout.count("PASSED") == 2


def test_it_works_alone(installed, tmp_path):
    code = (
        "import importlib.metadata, numpy as np, miamix_cpu\n"
        "print(sorted(d.name.lower() for d in importlib.metadata.distributions()))\n"
        "print('site-packages' in miamix_cpu.__file__)\n"
        "batch = miamix_cpu.MiAMix(3, miamix_cpu.MiAMixConfig(p_self=0))(np.full((4, 8, 8, 3), 9, np.uint8), [0, 1, 2, 0], rng=np.random.default_rng(0))\n"
        "print(batch.images.shape, int(batch.images.min()), batch.targets.sum(axis=1))\n"
    )
    result = run(installed, "-W", "error", "-c", code, folder=tmp_path)
    assert result.returncode == 0, result.stderr
    distributions, place, batch = result.stdout.splitlines()
    assert set(ast.literal_eval(distributions)) - {"pip", "setuptools"} == {
        "llvmlite",
        "miamix_cpu",
        "numba",
        "numpy",
        "xxhash",
    }
    assert place == "True"
    assert batch == "(4, 8, 8, 3) 9 [1. 1. 1. 1.]"


def test_its_command_line(installed, tmp_path):
    assert run(installed, "-m", "miamix_cpu", "--version", folder=tmp_path).stdout.split() == NAME.split("-")
    result = run(installed, "-m", "miamix_cpu", "demo", folder=tmp_path)
    assert result.returncode == 2
    assert result.stderr.count("\n") == 1
    assert "pip install 'miamix_cpu[demo]'" in result.stderr
