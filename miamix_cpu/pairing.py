"""Stage 1: who is mixed with whom (MiAMix, section 3.2.1 and Algorithm 1)."""

from __future__ import annotations

import numpy as np


def draw_partners(n: int, p_self: float, rng: np.random.Generator) -> np.ndarray:
    """A uniform random derangement of the batch, in which each sample then becomes its own partner with `p_self`.

    Parameters
    ----------
    n : int, at least 1
    p_self : float in [0, 1]
        Exact: a permutation that is not deranged would add 1/n of chance self-pairs.
    rng : numpy.random.Generator

    Returns
    -------
    int64 (n,)
        `partner[i]`. After self-pairing a sample may be the partner of none, one or two. A single sample is its own.
    """
    identity = np.arange(n)
    if n == 1:
        return identity
    partner = rng.permutation(n)
    while np.any(partner == identity):  # e tries on average, whatever n
        partner = rng.permutation(n)
    return np.where(rng.random(n) < p_self, identity, partner)
