"""In a notebook, workers are no noisier than with torch's own collate function."""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from tests.examples import needs

linux = pytest.mark.skipif(sys.platform != "linux", reason="needs workers that are forked, and other users")

NOTEBOOK = """
import sys
import nbformat
from nbclient import NotebookClient

cells = [nbformat.v4.new_code_cell(cell) for cell in {cells!r}]
notebook = nbformat.v4.new_notebook(cells=cells)
NotebookClient(notebook, timeout=300, kernel_name="this_python").execute()
for cell in notebook.cells:
    for output in cell.outputs:
        if output.output_type == "stream" and output.name == "stderr":
            sys.stderr.write(output.text)
"""

# ipykernel now and then misses that a stream was flushed while workers are forked, whatever collates; it then waits for
# ten seconds at each pass, and shows what is printed too late.
DATASET = """
import sys
import torch
from torch.utils.data import DataLoader, default_collate
from tqdm.auto import tqdm
sys.stdout.flush_timeout = sys.stderr.flush_timeout = 1
images = torch.arange(512 * 3 * 32 * 32).remainder(251).to(torch.uint8).reshape(512, 3, 32, 32)
dataset = [(image, i % 10) for i, image in enumerate(images)]
"""

TORCHS = "collate = default_collate"

OURS = """
from miamix_cpu import MiAMixCollator, MiAMixConfig
collate = MiAMixCollator(10, MiAMixConfig(p_self=0.0), seed=0)
"""

EPOCHS = """
loader = DataLoader(dataset, batch_size=32, shuffle=True, num_workers=2, collate_fn=collate,
                    multiprocessing_context="fork")
seen = 0
for epoch in range(8):
    for images, targets in tqdm(loader, desc=f"epoch {epoch}"):
        seen += len(images)
with open("seen", "w") as file:
    file.write(str(seen))
"""


def noise(collate, folder):
    """How many lines a notebook's cells, and its kernel, print as errors."""
    kernel = folder / "share" / "kernels" / "this_python"
    kernel.mkdir(parents=True, exist_ok=True)
    argv = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    (kernel / "kernel.json").write_text(json.dumps({"argv": argv, "display_name": "", "language": "python"}))
    environment = {
        **os.environ, "JUPYTER_PATH": str(folder / "share"), "JUPYTER_RUNTIME_DIR": str(folder / "runtime"),
        "JUPYTER_CONFIG_DIR": str(folder), "IPYTHONDIR": str(folder), "TMPDIR": str(folder),
    }  # fmt: skip
    environment.pop("PYTEST_CURRENT_TEST", None)  # by which ipykernel tells tests from use, and shows less
    command = [sys.executable, "-c", NOTEBOOK.format(cells=[DATASET, collate, EPOCHS])]
    result = subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment, cwd=folder)
    assert result.returncode == 0, result.stderr
    seen = folder / "seen"
    assert seen.read_text() == str(8 * 512)
    seen.unlink()
    return len(result.stderr.splitlines())


@pytest.fixture
def short_folder():
    """With room in its name for a socket's; a kernel that is shut down leaves some in its temporary folder."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        yield Path(folder)


@linux
def test_a_notebook_is_no_noisier_than_with_torchs_collate(short_folder):
    """A bar of tqdm's keeps a loader's past iterators until garbage is collected. Where a worker that was forked
    meanwhile collects it, each prints "can only test a child process", and whoever compiles or loads kernels collects
    a lot.

    Which process collects when is nearly chance, so that of three runs each the noisiest with torch's function counts
    and the quietest with this one. In eight passes it was 40 to 160 lines with the former, 20 to 70 with the latter, 70
    to 125 where it had to compile first, and 400 to 530 where its workers loaded the kernels.
    """
    needs("nbclient", "ipykernel", "ipywidgets", "tqdm")
    torchs, ours = [], []
    for _ in range(3):
        torchs.append(noise(TORCHS, short_folder))
        ours.append(noise(OURS, short_folder))
        if min(ours) <= max(torchs):
            return
    pytest.fail(f"{ours} lines with the collator, {torchs} with torch's default_collate")
