"""The documentation names everything public, its tests and pictures exist, and its pictures are what is drawn today."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import miamix_cpu

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.glob("*.md"))


def test_everything_public_is_in_the_api():
    named = re.findall(r"^\.\. auto(?:class|function):: (\w+)$", (DOCS / "api.md").read_text(), flags=re.MULTILINE)
    assert sorted(named) == sorted(miamix_cpu.__all__)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_what_a_page_names_exists(page):
    """Tests that are named as evidence, and links to files; on the site Sphinx checks links, here they are GitHub's."""
    text = page.read_text()
    for path, name in re.findall(r"(tests/[\w/]+\.py)::(\w+)", text):
        assert f"def {name}(" in (ROOT / path).read_text(), (path, name)
    for target in re.findall(r"\]\(([^)#\s]+)", text):
        if "://" not in target:
            assert (DOCS / target).exists(), target


def test_decisions_have_evidence():
    _, *decisions = re.split(r"^## ", (DOCS / "decisions.md").read_text(), flags=re.MULTILINE)
    assert len(decisions) >= 10
    for decision in decisions:
        for part in ("*What.*", "*Why.*", "*Tests.* `tests/"):
            assert part in decision, decision.splitlines()[0]


def test_links_of_the_readme_lead_somewhere():
    for target in re.findall(r"\]\(([^)#\s]+)", (ROOT / "README.md").read_text()):
        assert "://" in target or (ROOT / target).exists(), target


def test_pictures_are_what_is_drawn_today(tmp_path):
    """All but for a few grey levels, which another version of the font renderer may move."""
    subprocess.run([sys.executable, DOCS / "pictures.py", "--out", tmp_path], check=True, timeout=600, cwd=ROOT)
    shown = set(re.findall(r"\]\(algorithm/(\w+\.png)\)", (DOCS / "algorithm.md").read_text()))
    committed = {path.name: path for path in (DOCS / "algorithm").iterdir()}
    assert shown == set(committed) == {path.name for path in tmp_path.iterdir()}
    assert sum(path.stat().st_size for path in committed.values()) < 1_700_000
    for name, path in committed.items():
        before, now = (np.asarray(Image.open(p).convert("L"), dtype=float) for p in (path, tmp_path / name))
        assert before.shape == now.shape, name
        assert np.abs(before - now).mean() < 2, name
