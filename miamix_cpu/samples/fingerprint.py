"""Compute a digest of all bytes of a batch's images, from which, with the labels, its random streams are derived."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import xxhash


def digest_of_images(images: Iterable[np.ndarray]) -> bytes:
    """Return a 128-bit digest of all values of the images, independent of their strides.

    XXH3 runs at memory speed. It is not a cryptographic hash, but in practice only data made to collide will collide.

    Parameters
    ----------
    images : arrays of numbers, of any shapes and dtypes

    Returns
    -------
    bytes
        Of length 16.
    """
    digest = xxhash.xxh3_128()
    for image in images:
        digest.update(image if image.flags.c_contiguous else np.ascontiguousarray(image))  # type: ignore[arg-type]
    return digest.digest()
