import importlib.util
import re

import numpy as np
import pytest

from tests.examples import ROOT, needs, run


@pytest.mark.parametrize("mixing", ["keyed", "drawn"])
def test_processes_show_the_same_bytes_without_torch(mixing):
    needs("grain", "jax")

    def lines(epochs, workers):
        # Grain frees its last shared memory while Python exits, of which multiprocessing warns.
        out = run(
            "jax_grain.py", "--mixing", mixing, "--epochs", epochs, "--workers", workers, quiet=workers == "0"
        )  # fmt: skip
        return re.findall(r"^epoch \d+: shown (\w+), accuracy ([\d.]+)$", out, re.MULTILINE)

    alone = lines("8", "0")
    assert alone[:2] == lines("2", "2")
    assert len({shown for shown, _ in alone}) == 8
    assert float(alone[-1][1]) > 0.7


def test_the_generator_given_is_the_one_used():
    """One batch again and again: only what Grain gives makes a difference, and only to `drawn`."""
    needs("grain", "jax")
    import grain

    spec = importlib.util.spec_from_file_location("jax_grain", ROOT / "examples" / "jax_grain.py")
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    pictures = np.random.default_rng(0).integers(256, size=(64, 8, 8, 1)).astype(np.uint8)
    batch = [{"image": picture, "label": i % 10} for i, picture in enumerate(pictures)]

    def shown(mixing, seed):
        dataset = mixing(grain.MapDataset.source(batch * 2).seed(seed)).repeat(2)
        return [dataset[i]["label"].tobytes() for i in (0, 1, 2, 3, 0)]

    assert len(set(shown(example.keyed, 0) + shown(example.keyed, 1))) == 1
    drawn = shown(example.drawn, 0)
    assert drawn[0] == drawn[4]
    assert len(set(drawn + shown(example.drawn, 1))) == 8
