"""Keras 3 on scikit-learn's digits: a PyDataset whose threads mix, and whose batches depend on nothing but their place.

python examples/keras_pydataset.py --epochs 8 --workers 4
"""

import argparse
import os
import zlib

os.environ.setdefault("KERAS_BACKEND", "torch")  # or jax; before the import

import albumentations as A
import keras
import numpy as np
from sklearn.datasets import load_digits

from miamix_cpu import MiAMixBatch


class Mixed(keras.utils.PyDataset):
    """Batches that are a function of (seed, epoch, index): any thread may make any of them, in any order."""

    def __init__(self, images: np.ndarray, labels: np.ndarray, size: int = 64, **options) -> None:
        super().__init__(**options)  # workers=, max_queue_size=
        self.images, self.labels, self.size = images, labels, size
        self.transform = A.Compose([A.PadIfNeeded(10, 10), A.RandomCrop(8, 8)])
        self.shown: dict[int, int] = {}
        self.set_epoch(0)

    def set_epoch(self, epoch: int) -> None:
        """Shuffle and mix otherwise; called before Keras starts an epoch's threads."""
        self.order = np.random.default_rng([0, epoch]).permutation(len(self.images))
        self.mix = MiAMixBatch(10, transform=self.transform, seed=0, epoch=epoch, dtype="float32")

    def __len__(self) -> int:
        return len(self.images) // self.size

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        rows = self.order[index * self.size : (index + 1) * self.size]
        mixed = self.mix({"image": self.images[rows], "label": self.labels[rows]})
        self.shown[index] = zlib.crc32(mixed["image"], zlib.crc32(mixed["label"]))
        return mixed["image"], mixed["label"]


class Epochs(keras.callbacks.Callback):
    """Tell the dataset which epoch begins, also where `fit` resumes with `initial_epoch`; print a line at its end."""

    def __init__(self, dataset: Mixed) -> None:
        super().__init__()
        self.dataset = dataset

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        """The callback's comes before the threads start; PyDataset's own `on_epoch_begin` after that."""
        self.dataset.set_epoch(epoch)

    def on_epoch_end(self, epoch: int, logs: dict) -> None:
        """Checksums of the mixed batches, and of the weights after training on them in this order."""
        batches = zlib.crc32(repr(sorted(self.dataset.shown.items())).encode())
        weights = zlib.crc32(b"".join(np.asarray(w).tobytes() for w in self.model.get_weights()))
        print(f"epoch {epoch}: batches {batches:08x}, weights {weights:08x}, accuracy {logs['val_accuracy']:.3f}")


def main() -> None:
    """Train."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--workers", type=int, default=4)
    options = parser.parse_args()
    keras.utils.set_random_seed(0)

    digits = load_digits()
    images = (digits.images * 255 / 16).round().astype(np.uint8)[..., None]
    validation = images[:500].astype(np.float32) / 255, keras.utils.to_categorical(digits.target[:500], 10)
    layers = keras.layers
    model = keras.Sequential(
        [keras.Input((8, 8, 1)), layers.Flatten(), layers.Dense(128, "relu"), layers.Dense(10, "softmax")]
    )
    model.compile(keras.optimizers.Adam(3e-3), loss="categorical_crossentropy", metrics=["accuracy"])
    # Builds loss and metrics. Else `fit` takes a batch for that, and those prefetched with it, of no epoch, come first.
    model.evaluate(*validation, verbose=0)
    training = Mixed(images[500:], digits.target[500:], workers=options.workers)
    model.fit(
        training, epochs=options.epochs, shuffle=False, validation_data=validation, verbose=0,
        callbacks=[Epochs(training)],
    )  # fmt: skip


if __name__ == "__main__":
    main()
