"""fastai on scikit-learn's digits: the training loader mixes, validation stays fastai's own, the epoch comes in time.

python examples/fastai_digits.py --epochs 4
"""

import argparse
import zlib

import numpy as np
import torch
from fastai.vision.all import (
    Callback,
    CategoryBlock,
    CrossEntropyLossFlat,
    DataBlock,
    ImageBlock,
    IndexSplitter,
    Learner,
    Normalize,
    PILImage,
    accuracy,
    set_seed,
)  # fmt: skip
from sklearn.datasets import load_digits
from torch import nn
from torchvision.transforms import v2

from miamix_cpu import MiAMixCollator


class SetEpoch(Callback):
    """Before fastai asks the loader for an iterator, which is when its workers start."""

    def __init__(self, collate: MiAMixCollator) -> None:
        self.collate = collate

    def before_epoch(self) -> None:
        """fastai counts from 0 in each `fit`."""
        self.collate.set_epoch(self.epoch)


class Shown(Callback):
    """A checksum of all that the model was shown in an epoch."""

    order = 60  # after the Recorder

    def before_train(self) -> None:
        """A new one."""
        self.checksum = 0

    def before_batch(self) -> None:
        """Images and targets, as they reach the model."""
        for part in (*self.xb, *self.yb) if self.training else ():
            self.checksum = zlib.crc32(part.as_subclass(torch.Tensor).numpy(force=True).tobytes(), self.checksum)

    def after_epoch(self) -> None:
        """One line an epoch."""
        right = self.recorder.values[-1][-1]
        print(f"epoch {self.epoch}: shown {self.checksum:08x}, accuracy {right:.3f}")


def main() -> None:
    """Train."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    digits = load_digits()
    pictures = np.repeat((digits.images * 255 / 16).round().astype(np.uint8)[..., None], 3, axis=3)

    block = DataBlock(
        (ImageBlock, CategoryBlock),
        get_x=lambda i: PILImage.create(pictures[i]),
        get_y=lambda i: int(digits.target[i]),
        splitter=IndexSplitter(range(500)),
        batch_tfms=Normalize.from_stats((0.31,) * 3, (0.37,) * 3, cuda=False),
    )
    set_seed(0)
    dls = block.dataloaders(range(len(pictures)), bs=64, num_workers=options.workers, device="cpu")
    # Bytes out: fastai's IntToFloatTensor divides by 255, whatever it is given.
    crop = v2.RandomCrop(8, padding=1)
    collate = MiAMixCollator(dls.c, transform=crop, seed=0, dtype="uint8")
    dls.train.create_batch = collate

    layers = nn.Sequential(nn.Flatten(), nn.Linear(192, 128), nn.ReLU(), nn.Linear(128, dls.c))
    loss = CrossEntropyLossFlat(flatten=False)  # soft targets in training, class numbers in validation
    learner = Learner(dls, layers, loss_func=loss, metrics=accuracy, lr=1e-2, cbs=[SetEpoch(collate), Shown()])
    with learner.no_bar(), learner.no_logging():
        learner.fit(options.epochs)


if __name__ == "__main__":
    main()
