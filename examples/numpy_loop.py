"""No framework: `MiAMix` on NumPy arrays, in ten lines.

python examples/numpy_loop.py
"""

import numpy as np
from sklearn.datasets import load_digits

from miamix_cpu import MiAMix


def main() -> list[np.ndarray]:
    """Two epochs; return what was measured of each batch."""
    digits = load_digits()
    images = (digits.images * 255 / 16).round().astype(np.uint8)
    mix, lams = MiAMix(num_classes=10), []
    for epoch in range(2):
        rng = np.random.default_rng([0, epoch])  # the seed, and what makes epochs differ
        order = rng.permutation(len(images))
        for batch in np.array_split(order, len(order) // 128):
            second = np.roll(images[batch], rng.integers(-1, 2), axis=2)  # another view of each, for pairs with itself
            mixed = mix(images[batch], digits.target[batch], second=second, rng=rng)
            lams.append(mixed.lam)  # here the model's step: mixed.images, mixed.targets
        print(f"epoch {epoch}: {mixed.describe(0)}; mean lam {np.concatenate(lams).mean():.2f}")
    return lams


if __name__ == "__main__":
    main()
