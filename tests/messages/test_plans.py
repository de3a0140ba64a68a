"""Plans that are for other samples, of another version, or none."""

import re

import numpy as np
import pytest
import torch

from miamix_cpu import MiAMix, MiAMixCollator
from tests.messages.common import IMAGE, PLAIN, told


def test_replay_refuses_other_samples(rng):
    samples = [(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8), i) for i in range(4)]
    collate = MiAMixCollator(10, PLAIN, seed=0, return_batch=True)
    plan = collate(samples).plan
    assert torch.equal(collate.replay(samples, plan).images, collate.replay(samples, plan).images)
    for others in (samples[::-1], [(IMAGE, i) for i in range(4)], [(image, 0) for image, _ in samples]):
        with pytest.raises(ValueError, match=r"the plan was drawn for other samples.*MiAMix.render"):
            collate.replay(others, plan)


def test_a_saved_plan_knows_its_samples(tmp_path, rng):
    from miamix_cpu import MixPlan

    samples = [(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8), i) for i in range(4)]
    collate = MiAMixCollator(10, PLAIN, seed=0, return_batch=True)
    collate(samples).plan.save(tmp_path / "plan.npz")
    plan = MixPlan.load(tmp_path / "plan.npz")
    collate.replay(samples, plan)
    with pytest.raises(ValueError, match="other samples"):
        collate.replay(samples[::-1], plan)
    plan.samples = None  # as saved by an earlier version
    collate.replay(samples[::-1], plan)


def test_files_that_are_no_plans(tmp_path):
    import pickle

    from miamix_cpu import MixPlan

    path = tmp_path / "plan.npz"
    path.write_bytes(pickle.dumps({"a": 1}))
    kind, words = told(MixPlan.load, path)
    assert kind is ValueError
    assert "is not a saved plan: it must be an .npz file that MixPlan.save wrote" in words
    assert "unsafe" not in words
    assert "pickle" not in words


def test_a_plan_of_another_version_names_both(tmp_path):
    from miamix_cpu import MixPlan, __version__

    path = tmp_path / "plan.npz"
    MiAMix(10).plan(2, 8, 8, rng=np.random.default_rng(0)).save(path)
    with np.load(path) as file:
        parts = {name: file[name] for name in file.files}
    np.savez(path, **{**parts, "methods": np.array(["mixup"]), "version": np.array("9.9")})
    with pytest.raises(
        ValueError,
        match=rf"miamix_cpu 9.9 saved it in another format, .* than {re.escape(__version__)} reads: draw it again",
    ):
        MixPlan.load(path)
