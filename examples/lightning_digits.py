"""Lightning on scikit-learn's digits: a DataModule whose epoch travels with the samples, also when training resumes.

python examples/lightning_digits.py --epochs 4 --folder run
python examples/lightning_digits.py --epochs 8 --folder run --resume run/last.ckpt
"""

import argparse
import zlib

import albumentations as A
import lightning as L
import numpy as np
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from sklearn.datasets import load_digits
from torch.nn import functional as F
from torch.utils.data import DataLoader, DistributedSampler

from miamix_cpu import EpochSampler, Indexed, MiAMixCollator, mixed_cross_entropy


class Digits(L.LightningDataModule):
    """1,297 digits to train on, 500 to validate on."""

    def __init__(self, workers: int) -> None:
        super().__init__()
        digits = load_digits()
        pictures = (digits.images * 255 / 16).round().astype(np.uint8)
        samples = list(zip(pictures, digits.target, strict=True))
        self.training, self.validation, self.workers = samples[500:], samples[:500], workers
        self.first_epoch = 0
        self.collate = MiAMixCollator(10, transform=A.Compose([A.PadIfNeeded(10, 10), A.RandomCrop(8, 8)]), seed=0)

    def train_dataloader(self) -> DataLoader:
        """Lightning calls `set_epoch` on the sampler, which shuffles by it and sends it along with each index.

        On a resume it does so only after workers have prefetched, so the first epoch is told here.
        """
        dataset = Indexed(self.training)
        shuffled = DistributedSampler(dataset, num_replicas=1, rank=0, shuffle=True, seed=0)
        sampler = EpochSampler(shuffled, epoch=self.first_epoch)
        return DataLoader(
            dataset, 64, sampler=sampler, drop_last=True, collate_fn=self.collate,
            num_workers=self.workers, persistent_workers=self.workers > 0,
        )  # fmt: skip

    def state_dict(self) -> dict[str, int]:
        """What a checkpoint holds: it is saved at an epoch's end here, or after the last."""
        return {"first_epoch": self.trainer.fit_loop.epoch_progress.current.ready}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Called before `train_dataloader`."""
        self.first_epoch = state["first_epoch"]

    def val_dataloader(self) -> DataLoader:
        """Nothing is mixed here."""
        return DataLoader(self.validation, 250, collate_fn=self.collate.plain())


class Network(L.LightningModule):
    """A perceptron, and a checksum of all that it was shown in an epoch."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = torch.nn.Sequential(
            torch.nn.Flatten(), torch.nn.Linear(64, 128), torch.nn.ReLU(), torch.nn.Linear(128, 10)
        )
        self.shown = 0

    def training_step(self, batch: tuple[torch.Tensor, torch.Tensor], index: int) -> torch.Tensor:
        """Cross-entropy with mixed targets."""
        images, targets = batch
        for part in batch:
            self.shown = zlib.crc32(part.numpy(force=True).tobytes(), self.shown)
        return mixed_cross_entropy(self.layers(images), targets)

    def validation_step(self, batch: tuple[torch.Tensor, torch.Tensor], index: int) -> None:
        """One-hot targets in the same format."""
        images, targets = batch
        logits = self.layers(images)
        self.log("loss", F.cross_entropy(logits, targets))
        self.log("accuracy", (logits.argmax(1) == targets.argmax(1)).float().mean())

    def on_train_epoch_end(self) -> None:
        """One line an epoch."""
        accuracy = self.trainer.callback_metrics["accuracy"]
        print(f"epoch {self.current_epoch}: shown {self.shown:08x}, accuracy {accuracy:.3f}")
        self.shown = 0

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Adam."""
        return torch.optim.Adam(self.parameters(), lr=3e-3)


def main() -> None:
    """Train, from a checkpoint if one is given."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--folder", default="lightning_digits")
    parser.add_argument("--resume", help="a checkpoint")
    options = parser.parse_args()
    L.seed_everything(0, workers=True)
    trainer = L.Trainer(
        max_epochs=options.epochs, accelerator="cpu", logger=False, enable_model_summary=False,
        callbacks=[ModelCheckpoint(options.folder, save_last=True)],
    )  # fmt: skip
    trainer.fit(Network(), Digits(options.workers), ckpt_path=options.resume)
    trainer.save_checkpoint(f"{options.folder}/final.ckpt")


if __name__ == "__main__":
    main()
