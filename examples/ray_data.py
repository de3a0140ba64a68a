"""Ray Data on scikit-learn's digits: actors on CPUs mix, the training process takes torch batches.

python examples/ray_data.py --epochs 3
"""

import argparse
import logging
import zlib

import albumentations as A
import numpy as np
import ray
import torch
from sklearn.datasets import load_digits
from torch import nn

from miamix_cpu import MiAMixBatch, mixed_cross_entropy


def mixed(samples: ray.data.Dataset, epoch: int) -> ray.data.Dataset:
    """The samples shuffled, augmented and mixed for `epoch`, which is a value that travels to every machine."""
    options = {
        "num_classes": 10, "seed": 0, "epoch": epoch, "dtype": "float32", "memory_format": "channels_first",
        "transform": A.Compose([A.PadIfNeeded(10, 10), A.RandomCrop(8, 8)]),
    }  # fmt: skip
    return samples.random_shuffle(seed=epoch).map_batches(
        MiAMixBatch, fn_constructor_kwargs=options, batch_size=128, batch_format="numpy", num_cpus=0.5,
        compute=ray.data.ActorPoolStrategy(size=2),
    )  # fmt: skip


def main() -> None:
    """Train, and print a checksum of what each epoch showed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=3)
    options = parser.parse_args()
    torch.manual_seed(0)
    ray.init(num_cpus=2, include_dashboard=False, logging_level="ERROR", log_to_driver=False)
    logging.getLogger("ray.data").setLevel("ERROR")
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.execution_options.preserve_order = True  # the same samples in each batch, in each run

    digits = load_digits()
    images = (digits.images * 255 / 16).round().astype(np.uint8)[..., None]
    samples = ray.data.from_items(
        [{"image": images[i], "label": int(digits.target[i]), "id": i} for i in range(500, len(images))],
        override_num_blocks=4,
    )
    validation = torch.from_numpy(images[:500]).permute(0, 3, 1, 2) / 255
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for epoch in range(options.epochs):
        shown, ids = 0, []
        for batch in mixed(samples, epoch).iter_torch_batches(batch_size=128, drop_last=True):
            loss = mixed_cross_entropy(model(batch["image"]), batch["label"])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            shown = zlib.crc32(batch["label"].numpy(), zlib.crc32(batch["image"].numpy(), shown))
            ids += batch["id"].tolist()
        with torch.inference_mode():
            right = model(validation).argmax(1).numpy() == digits.target[:500]
        print(f"epoch {epoch}: {len(set(ids))} samples, shown {shown:08x}, accuracy {right.mean():.3f}")
    ray.shutdown()


if __name__ == "__main__":
    main()
