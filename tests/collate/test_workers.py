"""Workers, start methods, copies and threads: the same batches, and OpenCV's threads in each worker."""

import pickle
import sys
import threading
import time

import cloudpickle
import cv2
import numpy as np
import pytest
from torch.utils.data import DataLoader

from miamix_cpu import MiAMixCollator, MiAMixConfig, MixSchedule
from tests.collate.common import NO_SELF, UNMIXED, crop, same, samples_of
from tests.transforms import Numbers, draws_from_everything

pytestmark = UNMIXED


@pytest.mark.parametrize("transform", [None, crop(), draws_from_everything], ids=["none", "albumentations", "globals"])
@pytest.mark.parametrize("workers", [0, 1, 2])
def test_workers_do_not_matter(workers, transform):
    def batches(workers):
        collate = MiAMixCollator(10, NO_SELF, seed=4, transform=transform)
        return list(DataLoader(Numbers(40), 8, num_workers=workers, collate_fn=collate))

    assert same(batches(workers), batches(0))


def last_first(labels, generator):
    return np.argsort(labels)[::-1]


@pytest.mark.parametrize("pairing", ["same_class", "other_class", last_first])
@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_partners_by_the_labels_are_the_same_in_workers(pairing, method):
    def batches(**options):
        collate = MiAMixCollator(4, MiAMixConfig(pairing=pairing, p_self=0.2), seed=4, transform=crop())
        collate.return_batch = True
        samples = [(image, label % 4) for image, label in samples_of(32)]
        return list(DataLoader(samples, 8, collate_fn=collate, **options))

    found, wanted = batches(num_workers=2, multiprocessing_context=method), batches()
    for one, other in zip(found, wanted, strict=True):
        assert same(one.partner, other.partner)
        assert same(one.images, other.images)
        if pairing == "same_class":
            assert (one.targets > 0).sum() == 8
    assert not same(found[0].partner, found[1].partner) or pairing is last_first


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_start_methods_do_not_matter(method):
    def batches(**options):
        collate = MiAMixCollator(10, seed=4, transform=crop())
        return list(DataLoader(Numbers(32), 8, collate_fn=collate, **options))

    found = batches(num_workers=2, multiprocessing_context=method)
    assert same(found, batches())


@pytest.mark.parametrize(
    ("option", "in_worker"), [({}, 1), ({"opencv_threads": None}, 3)], ids=["default", "left alone"]
)
def test_opencvs_thread_pool_in_workers(option, in_worker):
    """Each view is as grey as OpenCV has threads; the parent's setting stays."""
    before = cv2.getNumThreads()
    cv2.setNumThreads(3)
    try:
        collate = MiAMixCollator(10, NO_SELF, seed=0, dtype="uint8", transform=as_grey_as_there_are_threads, **option)
        ((images, _),) = DataLoader(Numbers(4), 4, num_workers=1, collate_fn=collate)
        assert images.unique().tolist() == [in_worker]
        without = MiAMixCollator(10, NO_SELF, seed=0, **option)
        batches = list(DataLoader(ThreadsOfOpenCV(), 1, num_workers=1, collate_fn=without))
        assert [int(labels.argmax()) for _, labels in batches] == [3, in_worker, in_worker]
        collate.set_epoch(1)
        assert collate([Numbers(4)[i] for i in range(4)])[0].unique().tolist() == [3]
        assert cv2.getNumThreads() == 3
    finally:
        cv2.setNumThreads(before)


def test_opencv_that_is_imported_later(monkeypatch):
    """Its pool is set by the first batch that finds it, and from then on left to the caller."""
    monkeypatch.setattr("miamix_cpu.workers.settling.get_worker_info", lambda: object())
    collate, before = MiAMixCollator(10, NO_SELF, seed=0), cv2.getNumThreads()
    try:
        cv2.setNumThreads(3)
        with monkeypatch.context() as patch:
            patch.delitem(sys.modules, "cv2")
            collate(samples_of(2))
        assert cv2.getNumThreads() == 3
        collate(samples_of(3))
        assert cv2.getNumThreads() == 1
        cv2.setNumThreads(2)
        collate(samples_of(4))
        assert cv2.getNumThreads() == 2
    finally:
        cv2.setNumThreads(before)


class ThreadsOfOpenCV:
    """A dataset that uses OpenCV itself; the collator sees that at its first batch."""

    def __len__(self):
        return 3

    def __getitem__(self, index):
        time.sleep(0.1)
        return np.full((2, 2), index, np.uint8), cv2.getNumThreads()


def as_grey_as_there_are_threads(image):
    return np.full((2, 2), cv2.getNumThreads(), np.uint8)


@pytest.mark.parametrize("module", [pickle, cloudpickle])
def test_a_collator_pickles(module):
    collate = MiAMixCollator(10, seed=0, transform=crop(), schedule=MixSchedule(off=3))
    collate.set_epoch(2)
    expected = collate(samples_of(6))
    again = module.loads(module.dumps(collate))
    assert again.epoch == 2
    again.set_epoch(1)
    again.set_epoch(2)
    assert same(again(samples_of(6)), expected)


def test_threads_share_a_collator():
    batches = [samples_of(8, seed=seed) for seed in range(24)]
    for transform in (crop(), draws_from_everything):
        expected = [MiAMixCollator(10, seed=0, transform=transform, dtype="float16")(samples) for samples in batches]
        shared = MiAMixCollator(10, seed=0, transform=transform, dtype="float16")
        found = [None] * 24

        def work(start, shared=shared, found=found):
            for i in range(start, 24, 8):
                found[i] = shared(batches[i])

        threads = [threading.Thread(target=work, args=(start,)) for start in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert same(found, expected)
