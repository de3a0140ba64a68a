"""The table of docs/methods.md: it has every system, and what it says to write runs."""

import importlib
import importlib.util
import re
import shlex
import sys
from pathlib import Path

import pytest

from miamix_cpu import MiAMixCollator, MiAMixConfig, MixSchedule
from miamix_cpu.methods import METHODS
from tests.examples import needs

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "methods.md").read_text()
_, _, *LINES = (line for line in PAGE.splitlines() if line.startswith("|"))
ROWS = {cells[0]: cells[1:] for cells in (line.strip("| ").split(" | ") for line in LINES)}
CODE = {name: re.findall(r"`([^`]+)`", row[2]) for name, row in ROWS.items()}
COMMANDS = [code for codes in CODE.values() for code in codes if code.startswith("python ")]
EXPRESSIONS = [code for codes in CODE.values() for code in codes if not code.startswith("python ")]

#: What the MiAMix paper names.
NAMED = (
    "miamix", "mixup", "cutmix", "fmix", "gridmix", "gmix", "agmix", "saliencymix", "automix", "attentivecutmix",
    "randommix", "manifold mixup", "cutout", "random erasing", "randaugment", "autoaugment", "augmix",
)  # fmt: skip


def test_every_system_has_a_row():
    assert {len(row) for row in ROWS.values()} == {4}
    assert len(ROWS) == len(LINES)
    assert set(NAMED) == set(list(ROWS)[: len(NAMED)])  # they come first
    assert set(METHODS) <= set(ROWS)
    assert all(CODE.values())


def test_every_recipe_is_there_once():
    recipes = [name for code in EXPRESSIONS for name in re.findall(r'^MiAMixConfig\.recipe\("(.+)"\)$', code)]
    assert sorted(recipes) == sorted(MiAMixConfig.recipes())


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_an_expression_runs(expression):
    config = eval(expression, {"MiAMixConfig": MiAMixConfig})
    assert isinstance(config, MiAMixConfig)


def test_a_method_has_its_own_file_and_its_own_papers():
    for name in METHODS:
        _, where, _, papers = ROWS[name]
        assert f"(../miamix_cpu/masks/{name}.py)" in where
        source = (ROOT / "miamix_cpu" / "masks" / f"{name}.py").read_text()
        for number in re.findall(r"arXiv:([\d.]+\d)", source.split('"""')[1]):
            assert f"https://arxiv.org/abs/{number}" in papers, name


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_is_understood(command, monkeypatch, capsys):
    """Its arguments are those of the program; tests/examples and tests/benchmarks run the programs."""
    python, program, *arguments = shlex.split(command)
    assert python == "python"
    if program == "-m":
        from benchmarks.train import parser
        from benchmarks.training.methods import method

        module, *arguments = arguments
        assert module == "benchmarks.train"
        for spelling in parser().parse_args(arguments).methods.split(","):
            assert method(spelling).spelling == spelling
        return
    path = ROOT / program
    assert (ROOT / "tests" / "examples" / f"test_{path.stem}.py").exists()
    spec = importlib.util.spec_from_file_location(path.stem, path)
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    monkeypatch.setattr(sys, "argv", [program, *arguments, "--help"])  # other arguments are checked first
    with pytest.raises(SystemExit) as stopped:
        example.main()
    assert stopped.value.code == 0
    assert "usage" in capsys.readouterr().out


def test_code_on_the_page_runs():
    needs("timm", "torchvision")
    from benchmarks.torchvision_wheel import import_torchvision

    import_torchvision()
    names = {"MiAMixCollator": MiAMixCollator, "MixSchedule": MixSchedule}
    blocks = re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)
    assert len(blocks) == 2
    for block in blocks:
        exec(compile(block, "docs/methods.md", "exec"), names)
    below = PAGE.partition(LINES[-1])[2]
    spans = [code for code in re.findall(r"`([^`\n]+)`", below) if code.startswith(("MiAMixCollator(", "MixSchedule("))]
    assert len(spans) >= 2
    for code in spans:
        eval(code, names)
