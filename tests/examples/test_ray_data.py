import re

import numpy as np

from miamix_cpu import MiAMixBatch, MiAMixConfig
from tests.examples import ROOT, needs, run

DIES_ONCE = """
import os, sys
sys.path.insert(0, {examples!r})
import ray_data

class DiesOnce(ray_data.MiAMixBatch):
    def __call__(self, batch):
        try:
            open({marker!r}, "x").close()
        except FileExistsError:
            return super().__call__(batch)
        os._exit(1)

ray_data.MiAMixBatch = DiesOnce
ray_data.main()
"""


def lines(name, *arguments):
    out = run(name, *arguments, quiet=False)  # Ray warns of more than it can be kept from
    return re.findall(r"^epoch \d+: (\d+) samples, shown (\w+), accuracy ([\d.]+)$", out, re.MULTILINE)


def test_a_killed_actor_is_started_again_and_makes_the_same_bytes(tmp_path):
    needs("ray")
    whole = lines("ray_data.py", "--epochs", "3")
    assert [samples for samples, _, _ in whole] == ["1280"] * 3
    assert len({shown for _, shown, _ in whole}) == 3
    assert float(whole[-1][2]) > 0.6
    script, marker = tmp_path / "dies_once.py", tmp_path / "died"
    script.write_text(DIES_ONCE.format(examples=str(ROOT / "examples"), marker=str(marker)))
    assert lines(script, "--epochs", "1") == whole[:1]
    assert marker.exists()


def test_the_epoch_alone_changes_the_mix_of_a_read_only_block():
    block = {"image": np.zeros((64, 8, 8, 1), np.uint8), "label": np.arange(64) % 10, "id": np.arange(64)}
    for column in block.values():
        column.flags.writeable = False
    config = MiAMixConfig(p_self=0.0)
    first, again, other = (MiAMixBatch(10, config, seed=0, epoch=epoch)(block)["label"] for epoch in (0, 0, 1))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
