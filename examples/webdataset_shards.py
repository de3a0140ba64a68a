"""WebDataset on scikit-learn's digits, which it writes into tar shards first; batches are mixed inside the workers.

python examples/webdataset_shards.py --epochs 4
"""

import argparse
import tempfile
import zlib
from pathlib import Path

import albumentations as A
import numpy as np
import torch
import webdataset as wds
from sklearn.datasets import load_digits

from miamix_cpu import MiAMixCollator, mixed_cross_entropy


def write_shards(pattern: str, pictures: np.ndarray, labels: np.ndarray, size: int) -> list[str]:
    """Tar files of `size` samples each, `<key>.png` and `<key>.cls`."""
    with wds.ShardWriter(pattern, maxcount=size, verbose=0) as shards:
        for i, (picture, label) in enumerate(zip(pictures, labels, strict=True)):
            shards.write({"__key__": f"digit{i:04d}", "png": picture, "cls": int(label)})
    return sorted(map(str, Path(pattern).parent.glob(Path(pattern).name.replace("%d", "*"))))


def batches_of(urls: list[str], collate: MiAMixCollator, batch_size: int, workers: int) -> wds.WebLoader:
    """The training pipeline; the key of each sample goes along, and stands for its pixels in the batch's key."""
    samples = (
        wds.WebDataset(urls, shardshuffle=len(urls), detshuffle=True, seed=0)
        .compose(wds.detshuffle(500, seed=0))  # another order in each epoch, the same in each run
        .decode("l8")
        .to_tuple("png", "cls", "__key__")
        .batched(batch_size, collation_fn=collate)  # here, not in the loader, which gets batches
    )
    # Persistent, because the order's epoch is counted in the worker.
    return wds.WebLoader(samples, batch_size=None, num_workers=workers, persistent_workers=workers > 0)


def main() -> None:
    """Train; print what came in each epoch, and the test accuracy."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.manual_seed(0)

    digits = load_digits()
    pictures = (digits.images * 255 / 16).round().astype(np.uint8)
    collate = MiAMixCollator(
        10, transform=A.Compose([A.PadIfNeeded(10, 10), A.RandomCrop(8, 8)]), seed=options.seed, index_key=2
    )
    test_images, test_targets, _ = collate.plain()([(pictures[i], digits.target[i], i) for i in range(500)])
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 128), torch.nn.ReLU(), torch.nn.Linear(128, 10))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    with tempfile.TemporaryDirectory() as folder:
        urls = write_shards(f"{folder}/digits-%d.tar", pictures[500:], digits.target[500:], size=200)
        loader = batches_of(urls, collate, 64, options.workers)
        for epoch in range(options.epochs):
            collate.set_epoch(epoch)  # for the schedule, and wherever the order of the samples repeats
            shown, came, sums = 0, [], []
            for images, targets, keys in loader:
                loss = mixed_cross_entropy(model(images), targets)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                shown = zlib.crc32(images.numpy().tobytes(), shown)
                came += keys
                sums.append(targets.sum(dim=1))
            off = (torch.cat(sums) - 1).abs().max().item()
            accuracy = (model(test_images).argmax(1) == test_targets.argmax(1)).float().mean().item()
            told = f"{len(came)} samples, {len(set(came))} different, sums within {off:.6f} of 1"
            print(f"epoch {epoch}: {told}, shown {shown:08x}, test {accuracy:.3f}")


if __name__ == "__main__":
    main()
