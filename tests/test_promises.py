"""A batch is a pure function of (seed, epoch, its samples): through real loaders, workers, ranks and interruptions."""

import os
import subprocess
import sys
from pathlib import Path

import albumentations as A
import numpy as np
import pytest
import torch
from scipy import stats
from sklearn.datasets import load_digits
from torch.utils.data import DataLoader, DistributedSampler, Subset

from miamix_cpu import EpochSampler, Indexed, MiAMix, MiAMixCollator, MiAMixConfig, MixSchedule
from miamix_cpu.methods import METHODS
from miamix_cpu.plan.streams import PLAN, stream
from tests.transforms import Numbers, Positions

pytestmark = pytest.mark.filterwarnings(
    "ignore:This DataLoader will create:UserWarning",  # more than there are cores
    "ignore:a batch of one sample",
)
CONFIG = MiAMixConfig(methods=METHODS, weights=(1,) * len(METHODS), k_max=3, p_aug=0.5, p_self=0.2)
BATCH, N = 4, 36
ROOT = Path(__file__).parents[1]


def collator(**options):
    transform = A.Compose([A.RandomCrop(6, 6), A.HorizontalFlip()])
    return MiAMixCollator(10, CONFIG, transform=transform, seed=11, **options)


def by_hand(epoch, order=range(N)):
    """Each batch made in this process, by a call."""
    collate, dataset = collator(), Numbers(N)
    collate.set_epoch(epoch)
    order = list(order)
    return [collate([dataset[i] for i in order[b : b + BATCH]]) for b in range(0, len(order), BATCH)]


def as_bytes(batches):
    return [(images.numpy().tobytes(), targets.numpy().tobytes()) for images, targets in batches]


# 1. The same bytes ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("workers", "method", "persistent"), [
    (0, None, False), (1, "fork", False), (2, "fork", True), (4, "fork", False), (2, "forkserver", False),
    (2, "forkserver", True), (2, "spawn", True), (1, "spawn", False),
])  # fmt: skip
def test_same_bytes_for_any_workers(workers, method, persistent):
    collate = collator()
    loader = DataLoader(
        Numbers(N), BATCH, num_workers=workers, collate_fn=collate, persistent_workers=persistent,
        multiprocessing_context=method,
    )  # fmt: skip
    for epoch in (3, 4):
        collate.set_epoch(epoch)
        assert as_bytes(loader) == as_bytes(by_hand(epoch))


def test_same_bytes_out_of_order():
    collate = collator()
    collate.set_epoch(3)
    loader = DataLoader(Numbers(N), BATCH, num_workers=3, collate_fn=collate, in_order=False)
    assert sorted(as_bytes(loader)) == sorted(as_bytes(by_hand(3)))


def test_same_bytes_on_another_rank():
    """Rank 1 of two sees every other sample: its batches are those of the same samples anywhere."""
    collate = collator()
    collate.set_epoch(3)
    sampler = DistributedSampler(Numbers(N), num_replicas=2, rank=1, shuffle=False)
    loader = DataLoader(Numbers(N), BATCH, sampler=sampler, num_workers=1, collate_fn=collate)
    assert as_bytes(loader) == as_bytes(by_hand(3, range(1, N, 2)))


def test_same_bytes_after_a_resume_in_mid_epoch():
    """Stop after batch 5, start again at batch 6 in a new loader with new workers."""
    whole = by_hand(3)
    resumed = collator()
    resumed.set_epoch(3)
    rest = DataLoader(Subset(Numbers(N), range(6 * BATCH, N)), BATCH, num_workers=2, collate_fn=resumed)
    assert as_bytes(rest) == as_bytes(whole[6:])


def test_same_bytes_through_miamix_by_hand():
    samples = [Numbers(N)[i] for i in range(8)]
    batch = MiAMixCollator(10, CONFIG.replace(p_self=0), seed=1, dtype="uint8", return_batch=True)(samples)
    images, labels = np.array([image for image, _ in samples]), [label for _, label in samples]
    other = MiAMix(10, CONFIG.replace(p_self=0))(images, labels, rng=stream(batch.plan.key, PLAN))
    np.testing.assert_array_equal(batch.images.permute(0, 2, 3, 1), other.images)
    np.testing.assert_array_equal(batch.targets, other.targets)


# 2. Never a shared stream --------------------------------------------------------------------------------------------


def test_workers_never_share_an_augmentation():
    """Albumentations 2.0.8 left alone crops alike in all workers; our views of the same pictures do not."""
    crop = A.Compose([A.RandomCrop(1, 1)])  # each pixel holds its own position

    def places(loader):
        return [tuple(images.flatten().tolist()) for images in loader]

    alone = DataLoader(Positions(32, crop), 8, num_workers=2)
    first, second = places(alone)[:2]
    if A.__version__ == "2.0.8":
        assert first == second  # the bug; a later version may have mended it
    unmixed = MixSchedule(probability=0.0)
    keyed = MiAMixCollator(10, seed=0, dtype="uint8", transform=crop, index_key=2, schedule=unmixed)
    loader = DataLoader(Positions(32), 8, num_workers=2, collate_fn=keyed)
    assert len({tuple(images.flatten().tolist()) for images, _, _ in loader}) == 4


def test_epochs_differ_by_set_epoch_or_by_order():
    assert not set(as_bytes(by_hand(0))) & set(as_bytes(by_hand(1)))
    shuffled = np.random.default_rng(0).permutation(N)
    assert not set(as_bytes(by_hand(0))) & set(as_bytes(by_hand(0, shuffled)))


def rank_main(rank, folder, results):
    torch.distributed.init_process_group("gloo", f"file://{folder}/store", rank=rank, world_size=2)
    try:
        collate, dataset = collator(return_batch=True), Numbers(N)
        sampler = DistributedSampler(dataset, shuffle=True, seed=1)
        loader = DataLoader(dataset, BATCH, sampler=sampler, num_workers=1, collate_fn=collate)
        found = []
        for epoch in range(2):
            collate.set_epoch(epoch)
            sampler.set_epoch(epoch)
            found += [(batch.plan.key, batch.images.sum().item()) for batch in loader]
        everything = [None, None]
        torch.distributed.all_gather_object(everything, found)
        if rank == 0:
            results.put(everything)
    finally:
        torch.distributed.destroy_process_group()


def test_ranks_differ(tmp_path):
    """Two real processes with gloo and a DistributedSampler, the same seed on both."""
    context = torch.multiprocessing.get_context("spawn")
    results = context.Queue()
    ranks = [context.Process(target=rank_main, args=(rank, tmp_path, results)) for rank in range(2)]
    for process in ranks:
        process.start()
    zero, one = results.get(timeout=120)
    for process in ranks:
        process.join(60)
        assert process.exitcode == 0
    keys = [key for key, _ in zero + one]
    assert len(zero) == len(one) == 10
    assert len(set(keys)) == len(keys)


def key_of(samples, **options):
    collate = MiAMixCollator(10, MiAMixConfig(p_self=0), seed=0, return_batch=True, **options)
    return collate(samples).plan.key


def digits():
    images = load_digits().images
    return [(image.astype(np.uint8), int(label)) for image, label in zip(images, load_digits().target, strict=True)]


def white_borders():
    """Photograph-sized, different in the centre only."""
    rng = np.random.default_rng(0)
    images = np.full((60, 160, 160, 3), 255, np.uint8)
    images[:, 70:90, 70:90] = rng.integers(0, 256, (60, 20, 20, 3), dtype=np.uint8)
    return [(image, 0) for image in images]


@pytest.mark.parametrize("n", [1, 2, 16])
@pytest.mark.parametrize("data", ["digits", "white borders", "single class", "unlabelled", "floats"])
def test_keys_of_what_breaks_weak_fingerprints(data, n):
    samples = white_borders() if data == "white borders" else digits()
    if data == "single class":
        samples = [(image, label) for image, label in samples if label == 3]
    elif data == "unlabelled":
        samples = [(image, 0) for image, _ in samples]
    elif data == "floats":
        samples = [((image / 16).astype(np.float32), label) for image, label in samples]
    batches = [samples[i : i + n] for i in range(0, min(len(samples), 40 * n), n)]
    distinct = {tuple(image.tobytes() + bytes([label]) for image, label in batch) for batch in batches}
    assert len({key_of(batch) for batch in batches}) == len(distinct)
    if n > 1:  # and the order within a batch is part of it
        assert key_of(batches[0]) != key_of(batches[0][::-1])


def test_keys_of_a_hundred_thousand_batches():
    """No two alike, and the first draws of their streams uniform."""
    images, rng = load_digits().images.astype(np.uint8), np.random.default_rng(0)
    collate = MiAMixCollator(10, MiAMixConfig.plain("mixup"), seed=0, dtype="uint8", return_batch=True)
    pairs = rng.permutation(len(images) * (len(images) - 1))[:100_000]
    keys = set()
    for pair in pairs:
        one, other = divmod(int(pair), len(images) - 1)
        other += other >= one
        keys.add(collate([(images[one], 0), (images[other], 0)]).plan.key)
    # Some digits come twice in the data, pixel by pixel; the labels here are all alike.
    twins = len(images) - len(np.unique(images.reshape(len(images), -1), axis=0))
    assert len(keys) >= 100_000 - 200 * twins
    if twins == 0:
        assert len(keys) == 100_000
    draws = np.array([stream(key, PLAN).random() for key in keys])
    assert stats.kstest(draws, "uniform").pvalue > 1e-3
    octets = np.frombuffer(b"".join(keys), np.uint8)
    assert stats.chisquare(np.bincount(octets, minlength=256)).pvalue > 1e-3


# 4. Epochs -----------------------------------------------------------------------------------------------------------

LOOP = """
import sys
from torch.utils.data import DataLoader
from miamix_cpu import MiAMixCollator, MiAMixConfig
from tests.transforms import Numbers
if __name__ == "__main__":
    collate = MiAMixCollator(10, MiAMixConfig(p_self=0), seed=0)
    workers, persistent, how = int(sys.argv[1]), sys.argv[2] == "persistent", sys.argv[3]
    loader = DataLoader(Numbers(128), 4, num_workers=workers, persistent_workers=persistent, collate_fn=collate)
    for epoch in range(3):
        if how in ("early", "short"):
            collate.set_epoch(epoch)
        for i, batch in enumerate(loader):
            if how == "late" and i == 1:
                collate.set_epoch(epoch + 1)
            if how == "late" and i == 1 or how == "early" and epoch == 1 and i == 3:
                import time; time.sleep(0.3)  # workers have prefetched all they may, and are idle
            if how == "early" and epoch == 1 and i == 3:
                break  # a loop left early is no fault
            if how == "short" and i == 5:
                break  # nor are steps per epoch, at each of which batches are left that nobody takes
"""


def run_loop(workers, persistent, how):
    command = [sys.executable, "-c", LOOP, str(workers), "persistent" if persistent else "not", how]
    result = subprocess.run(
        command, capture_output=True, text=True, timeout=120, cwd=ROOT, env={**os.environ, "PYTHONWARNINGS": "always"}
    )
    assert result.returncode == 0, result.stderr
    return result.stderr


@pytest.mark.parametrize("how", ["early", "short"])
@pytest.mark.parametrize(("workers", "persistent"), [(0, False), (2, False), (2, True)])
def test_set_epoch_in_good_time_warns_of_nothing(workers, persistent, how):
    assert run_loop(workers, persistent, how) == ""


@pytest.mark.parametrize(("workers", "persistent"), [(0, False), (2, False), (2, True)])
def test_set_epoch_called_late_warns_once(workers, persistent):
    words = run_loop(workers, persistent, "late")
    assert words.count("in the middle of a loop") == 1
    assert "the epoch changed from 0 to 1" in words


@pytest.mark.parametrize(("workers", "persistent"), [(0, False), (2, False), (2, True)])
def test_an_unshuffled_loader_without_set_epoch_counts_its_passes(workers, persistent):
    assert run_loop(workers, persistent, "never") == ""


@pytest.mark.parametrize("workers", [0, 2])
def test_the_epoch_travels_with_the_samples_on_a_resume(workers):
    """No `set_epoch` on the collator: a trainer that resumes in epoch 2 calls it on the sampler, as Lightning does."""

    def loader(sampler):
        return DataLoader(
            Indexed(Numbers(N)), BATCH, sampler=sampler, num_workers=workers, collate_fn=collator(),
            persistent_workers=workers > 0,
        )  # fmt: skip

    whole = loader(EpochSampler(range(N)))
    epochs = [as_bytes(whole) for _ in range(3)]
    assert len({batch for epoch in epochs for batch in epoch}) == 3 * len(epochs[0])
    sampler = EpochSampler(range(N))
    resumed = loader(sampler)
    sampler.set_epoch(2)
    assert as_bytes(resumed) == epochs[2]
