"""What is installed and what of it will not work together."""

import subprocess
import sys
import warnings
from importlib import metadata

import pytest

from miamix_cpu import check_environment
from miamix_cpu.cli import main
from miamix_cpu.environment import describe_environment, problems_of


def install(folder, **versions):
    """Distributions of these names, as far as their metadata goes."""
    for name, version in versions.items():
        info = folder / f"{name}-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name.replace('_', '-')}\nVersion: {version}\n")


def run(code, folder):
    """Run code in a fresh process with `folder` first on its path; its output and its warnings."""
    command = [sys.executable, "-W", "always", "-c", f"import sys; sys.path.insert(0, {str(folder)!r})\n{code}"]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


def test_two_builds_of_opencv_give_one_warning(tmp_path):
    install(tmp_path, opencv_python_headless="5.0.0.93", opencv_python="4.11.0.86")
    result = run("import miamix_cpu; miamix_cpu.check_environment()", tmp_path)
    assert result.returncode == 0
    assert result.stderr.count("RuntimeWarning") == 1
    assert "opencv-python 4.11.0.86 and opencv-python-headless 5.0.0.93 install the same files" in result.stderr


def test_doctor_tells_it_and_exits_1(tmp_path):
    install(tmp_path, opencv_python_headless="5.0.0.93", opencv_contrib_python="4.11.0.86")
    result = run("from miamix_cpu.cli import main; sys.exit(main(['doctor']))", tmp_path)
    assert result.returncode == 1, result.stderr
    assert result.stdout.count("problem: ") == 1
    assert "opencv-contrib-python 4.11.0.86" in result.stdout


@pytest.mark.parametrize(("versions", "words"), [
    ({"opencv-python": "5.0.0.93", "opencv-python-headless": "5.0.0.93"}, []),
    ({"opencv-python": "5.0.0.93"}, []),
    ({}, []),
    ({"albumentations": "2.0.8"}, []),
    ({"albumentationsx": "2.1.0"}, []),
    ({"albumentations": "2.0.8", "albumentationsx": "2.1.0"}, ["albumentations 2.0.8 and AlbumentationsX 2.1.0"]),
    ({"opencv-python": "4.9.0", "opencv-python-headless": "5.0.0"}, ["opencv-python 4.9.0 and opencv-python-headless"]),
])  # fmt: skip
def test_problems(versions, words):
    found = problems_of(versions)
    assert len(found) == len(words)
    assert all(part in problem for part, problem in zip(words, found, strict=True))


def test_versions_are_those_installed():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = check_environment()
    assert found["numpy"] == metadata.version("numpy")
    assert found["python"].startswith(f"{sys.version_info.major}.{sys.version_info.minor}")


def test_everything_is_described():
    rows = dict(describe_environment())
    for what in ("numba", "albumentations", "cpu", "cores", "kernel cache", "start method", "threads", "first batch"):
        assert rows[what]
    assert "ms" in rows["first batch"]


def test_doctor_prints_it(capsys):
    assert main(["doctor"]) in (0, 1)
    out = capsys.readouterr().out
    assert out.startswith("miamix_cpu")
    assert "first batch" in out


def test_the_start_method_is_not_settled_by_asking():
    code = (
        "from miamix_cpu.environment import describe_environment; describe_environment()\n"
        "import multiprocessing; print(multiprocessing.get_start_method(allow_none=True))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert result.stdout.strip() == "None", result.stderr
