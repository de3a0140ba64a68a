"""A schedule that nobody drives, in other people's loaders: each pass is an epoch."""

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from miamix_cpu import MiAMixCollator, MiAMixConfig, MixSchedule
from tests.examples import needs

SAMPLES = [(np.full((8, 8, 3), i, np.uint8), i % 10) for i in range(24)]
WORKERS = pytest.mark.parametrize(("workers", "persistent"), [(0, False), (2, False), (2, True)])


def collator():
    return MiAMixCollator(10, MiAMixConfig.plain("mixup"), seed=0, schedule=MixSchedule(start=1, off=3))


def share(targets):
    return float((targets.amax(dim=1) < 1).float().mean())


def check(loader):
    shares = [np.mean([share(targets) for _, targets in loader]) for _ in range(4)]
    assert shares[0] == shares[3] == 0
    assert min(shares[1:3]) > 0.6


class Dealt(IterableDataset):
    """Each worker has its share."""

    def __iter__(self):
        info = get_worker_info()
        yield from SAMPLES if info is None else SAMPLES[info.id :: info.num_workers]


@WORKERS
def test_an_iterable_dataset(workers, persistent):
    check(DataLoader(Dealt(), 6, collate_fn=collator(), num_workers=workers, persistent_workers=persistent))


@WORKERS
def test_webdataset(workers, persistent):
    needs("webdataset")
    import webdataset as wds

    batches = wds.DataPipeline(lambda: iter(Dealt()), wds.batched(6, collation_fn=collator()))
    check(wds.WebLoader(batches, batch_size=None, num_workers=workers, persistent_workers=persistent))


@WORKERS
@pytest.mark.filterwarnings("ignore:.*set_vital")
def test_torchdata(workers, persistent):
    needs("torchdata")
    from torchdata.stateful_dataloader import StatefulDataLoader

    options = {"shuffle": True, "num_workers": workers, "persistent_workers": persistent, "collate_fn": collator()}
    check(StatefulDataLoader(SAMPLES, 6, **options))


@WORKERS
def test_accelerate(workers, persistent):
    needs("accelerate")
    from accelerate import Accelerator

    loader = DataLoader(
        SAMPLES, 6, shuffle=True, collate_fn=collator(), num_workers=workers, persistent_workers=persistent
    )
    check(Accelerator(cpu=True).prepare(loader))


@WORKERS
@pytest.mark.filterwarnings("ignore")
def test_lightning(workers, persistent):
    """Its sanity check of the validation loader is no pass of the training's."""
    needs("lightning", "torchvision")
    from benchmarks.torchvision_wheel import import_torchvision

    import_torchvision()
    import lightning

    found = {}

    class Module(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.layer = torch.nn.Linear(192, 10)

        def training_step(self, batch, number):
            found.setdefault(self.current_epoch, []).append(share(batch[1]))
            return torch.nn.functional.cross_entropy(self.layer(batch[0].flatten(1)), batch[1])

        def validation_step(self, batch, number):
            assert share(batch[1]) == 0

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), 0.1)

    collate = collator()
    loader = DataLoader(
        SAMPLES, 6, shuffle=True, collate_fn=collate, num_workers=workers, persistent_workers=persistent
    )
    trainer = lightning.Trainer(
        max_epochs=4, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(Module(), loader, DataLoader(SAMPLES, 6, collate_fn=collate.plain()))
    shares = [np.mean(found[epoch]) for epoch in range(4)]
    assert shares[0] == shares[3] == 0
    assert min(shares[1:3]) > 0.6
