"""JAX and Grain on scikit-learn's digits: mixed in Grain's workers, NumPy in and out, no torch.

python examples/jax_grain.py --mixing keyed --workers 2
python examples/jax_grain.py --mixing drawn --workers 0
"""

import argparse
import random
import sys
import zlib
from contextlib import closing
from itertools import islice

import grain
import jax
import jax.numpy as jnp
import numpy as np
from absl import flags
from sklearn.datasets import load_digits

from miamix_cpu import MiAMix, MiAMixBatch, MiAMixConfig


def crop(picture: np.ndarray) -> np.ndarray:
    """A view, shifted by up to a pixel; `random` and `numpy.random` are seeded by the batch's key while it runs."""
    y, x = random.randrange(3), random.randrange(3)
    return np.pad(picture, ((1, 1), (1, 1), (0, 0)))[y : y + 8, x : x + 8]


def keyed(samples: grain.MapDataset) -> grain.MapDataset:
    """A batch is mixed by (seed, what is in it), so epochs differ because they are shuffled; views are augmented."""
    mix = MiAMixBatch(10, transform=crop, seed=0, dtype="float32")
    return samples.batch(64, drop_remainder=True, batch_fn=mix)


def drawn(samples: grain.MapDataset) -> grain.MapDataset:
    """A batch is mixed by the generator that Grain gives for (seed, its number, epochs counted on)."""
    mix = MiAMix(10, MiAMixConfig(p_self=0.0), dtype="float32")

    def mixed(batch: dict, rng: np.random.Generator) -> dict:
        made = mix(batch["image"], batch["label"], rng=rng)
        return {"image": made.images, "label": made.targets}

    return samples.batch(64, drop_remainder=True).random_map(mixed)


def logits(weights: dict, images: jax.Array) -> jax.Array:
    """A perceptron of one hidden layer."""
    hidden = jax.nn.relu(images.reshape(len(images), -1) @ weights["in"] + weights["shift"])
    return hidden @ weights["out"]


@jax.jit
def step(weights: dict, momentum: dict, images: jax.Array, targets: jax.Array) -> tuple[dict, dict]:
    """One step of SGD on the cross-entropy with soft targets."""
    gradient = jax.grad(lambda w: -(targets * jax.nn.log_softmax(logits(w, images))).sum(axis=1).mean())(weights)
    momentum = jax.tree.map(lambda m, g: 0.9 * m + g, momentum, gradient)
    return jax.tree.map(lambda w, m: w - 0.1 * m, weights, momentum), momentum


def main() -> None:
    """Train, and print a checksum of what each epoch showed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--mixing", choices=["keyed", "drawn"], default="keyed")
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    flags.FLAGS.mark_as_parsed()  # Grain's processes ask absl, whose command line this is not

    digits = load_digits()
    images = (digits.images * 255 / 16).round().astype(np.uint8)[..., None]
    samples = [{"image": image, "label": label} for image, label in zip(images[500:], digits.target[500:], strict=True)]
    key = jax.random.key(0)
    weights = {"in": jax.random.normal(key, (64, 128)) / 8, "shift": jnp.zeros(128), "out": jnp.zeros((128, 10))}
    momentum = jax.tree.map(jnp.zeros_like, weights)
    dataset = {"keyed": keyed, "drawn": drawn}[options.mixing](grain.MapDataset.source(samples).seed(0).shuffle())
    prefetch = grain.MultiprocessingOptions(num_workers=options.workers)
    with closing(iter(dataset.repeat(options.epochs).to_iter_dataset().mp_prefetch(prefetch))) as batches:
        for epoch in range(options.epochs):
            shown = 0
            for batch in islice(batches, len(dataset)):
                shown = zlib.crc32(batch["label"], zlib.crc32(batch["image"], shown))
                weights, momentum = step(weights, momentum, batch["image"], batch["label"])
            right = logits(weights, images[:500] / 255).argmax(axis=1) == digits.target[:500]
            print(f"epoch {epoch}: shown {shown:08x}, accuracy {right.mean():.3f}")
    assert "torch" not in sys.modules


if __name__ == "__main__":
    main()
