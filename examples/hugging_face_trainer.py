"""Hugging Face's Trainer and datasets on scikit-learn's digits: mixed in training and only there.

python examples/hugging_face_trainer.py --epochs 8
"""

import argparse
import zlib
from typing import Any

import albumentations as A
import datasets
import numpy as np
import torch
from sklearn.datasets import load_digits
from transformers import EvalPrediction, PrinterCallback, Trainer, TrainerCallback, TrainingArguments
from transformers import ResNetConfig as Config
from transformers import ResNetForImageClassification as Network

from miamix_cpu import MiAMixCollator, MixSchedule, mixed_cross_entropy


class MixingTrainer(Trainer):
    """Mixes in training; `data_collator`, which all else uses too, is the unmixed twin."""

    def __init__(self, *args: Any, collate: MiAMixCollator, **kwargs: Any) -> None:
        super().__init__(*args, data_collator=collate.plain(), compute_loss_func=soft_cross_entropy, **kwargs)
        self.collate = collate
        self.add_callback(SetEpoch(collate))

    def get_train_dataloader(self) -> torch.utils.data.DataLoader:
        """Trainer's own, with the collator that mixes."""
        plain, self.data_collator = self.data_collator, self.collate
        try:
            return super().get_train_dataloader()
        finally:
            self.data_collator = plain


class SetEpoch(TrainerCallback):
    """In time: Trainer says that an epoch begins before it asks the loader for an iterator."""

    def __init__(self, collate: MiAMixCollator) -> None:
        self.collate = collate

    def on_train_begin(self, args: TrainingArguments, state: Any, control: Any, **kwargs: Any) -> None:
        """`state.epoch` has a fraction where training resumes in mid-epoch."""
        self.epoch = int(state.epoch)

    def on_epoch_begin(self, args: TrainingArguments, state: Any, control: Any, **kwargs: Any) -> None:
        """Counted here, since for a dataset without a length `state.epoch` falls behind."""
        self.collate.set_epoch(self.epoch)
        self.epoch += 1


def soft_cross_entropy(outputs: Any, labels: torch.Tensor, num_items_in_batch: Any = None) -> torch.Tensor:
    """The mean over one optimizer step, for which Trainer counts the entries of `labels`, `num_labels` a sample.

    Left to itself, the model would take float labels for multi-label ones.
    """
    if num_items_in_batch is None:
        return mixed_cross_entropy(outputs.logits, labels)
    return mixed_cross_entropy(outputs.logits, labels, reduction="sum") * labels.shape[1] / num_items_in_batch


def metrics_of(prediction: EvalPrediction) -> dict[str, float]:
    """Labels are one-hot in evaluation."""
    logits, targets = prediction.predictions, prediction.label_ids
    accuracy = (logits.argmax(axis=1) == targets.argmax(axis=1)).mean()
    return {"accuracy": accuracy, "mixed": (targets.max(axis=1) < 1).mean()}


class TellingTrainer(MixingTrainer):
    """One line an epoch, with a checksum of all that the model was shown."""

    shown, steps = 0, ()

    def training_step(self, model: Any, inputs: dict[str, torch.Tensor], *args: Any) -> torch.Tensor:
        """Trainer's."""
        self.shown = zlib.crc32(inputs["pixel_values"].numpy(force=True).tobytes(), self.shown)
        mixed = (inputs["labels"].amax(dim=1) < 1).float().mean().item()
        loss = super().training_step(model, inputs, *args)
        self.steps = (*self.steps, (loss.item(), mixed))
        return loss

    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        """At each epoch's end."""
        metrics = super().evaluate(*args, **kwargs)
        loss, mixed = np.mean(self.steps, axis=0)
        told = f"loss {loss:.4f}, mixed {mixed:.3f}, shown {self.shown:08x}"
        tested = ", ".join(f"{name} {metrics['eval_' + name]:.4f}" for name in ("loss", "mixed", "accuracy"))
        print(f"epoch {metrics['epoch'] - 1:.0f}: {told}; evaluation: {tested}")
        self.shown, self.steps = 0, ()
        return metrics


def main() -> None:
    """Train, from a checkpoint if one is given."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--folder", default="hugging_face_trainer")
    parser.add_argument("--resume", help="a checkpoint")
    options = parser.parse_args()

    digits = load_digits()
    pictures = (digits.images * 255 / 16).round().astype(np.uint8).repeat(2, axis=1).repeat(2, axis=2)
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(10)})
    data = datasets.Dataset.from_dict({"image": list(pictures), "label": digits.target}, features)
    data = data.train_test_split(500, seed=0)  # samples are {"image": PIL image, "label": int}

    collate = MiAMixCollator(
        10, transform=A.Compose([A.PadIfNeeded(18, 18), A.RandomCrop(16, 16)]), seed=0, mean=(0.31,), std=(0.37,),
        out_keys=("pixel_values", "labels"), schedule=MixSchedule(off=options.epochs - 1),
    )  # fmt: skip
    arguments = TrainingArguments(
        options.folder, num_train_epochs=options.epochs, per_device_train_batch_size=64, learning_rate=1e-2,
        remove_unused_columns=False, eval_strategy="epoch", save_steps=30, report_to="none", disable_tqdm=True,
        dataloader_num_workers=options.workers, dataloader_persistent_workers=options.workers > 0,
        dataloader_pin_memory=torch.cuda.is_available(),
    )  # fmt: skip
    torch.manual_seed(0)
    config = Config(num_channels=1, embedding_size=32, hidden_sizes=[32, 64], depths=[1, 1], layer_type="basic")
    config.num_labels = 10
    trainer = TellingTrainer(
        Network(config), arguments, collate=collate, compute_metrics=metrics_of,
        train_dataset=data["train"], eval_dataset=data["test"],
    )  # fmt: skip
    trainer.remove_callback(PrinterCallback)
    trainer.train(resume_from_checkpoint=options.resume)


if __name__ == "__main__":
    main()
