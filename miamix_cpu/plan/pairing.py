"""Stage 1: who is mixed with whom (MiAMix, section 3.2.1 and Algorithm 1)."""

from __future__ import annotations

import math

import numpy as np

from miamix_cpu.jit.flags import exact, exact_entry


def uniforms_for(n: int) -> int:
    """How many uniform numbers `draw_partners` is given: enough for all but three batches in a thousand."""
    return 7 * n + 64


@exact
def draw_partners(partner: np.ndarray, p_self: float, uniforms: np.ndarray) -> bool:
    """A uniform random derangement of the batch, in which each sample then becomes its own partner with `p_self`.

    It takes e tries on average (`derange`), whatever n, most of them short. Self-pairing by itself
    makes `p_self` exact: a permutation that is not deranged would add 1/n.

    Parameters
    ----------
    partner : int64 (n,); overwritten. `partner[i]` is sample i's partner; after self-pairing a sample may be the
        partner of none, one or two. A single sample is its own.
    p_self : float in [0, 1]
    uniforms : float64 (m,), in [0, 1)

    Returns
    -------
    bool
        False where `uniforms` did not suffice.
    """
    n = partner.size
    if derange(partner, uniforms, n) < 0:
        return False
    for i in range(n):
        if uniforms[i] < p_self:
            partner[i] = i
    return True


@exact
def derange(partner: np.ndarray, uniforms: np.ndarray, used: int) -> int:
    """A uniform random derangement: shuffle, and begin anew at the first sample that stays in place.

    Parameters
    ----------
    partner : int64 (n,); overwritten. A single sample is its own.
    uniforms : float64 (m,), in [0, 1)
    used : int
        The first of `uniforms` that may be used.

    Returns
    -------
    int
        `used` for the next; -1 where `uniforms` did not suffice.
    """
    n = partner.size
    deranged = n == 1
    partner[0] = 0
    while not deranged:
        if used + n - 1 > uniforms.size:
            return -1
        for i in range(n):
            partner[i] = i
        deranged = True
        # Place i is settled once it has been swapped with one at or below it.
        for i in range(n - 1, 0, -1):
            j = math.floor(uniforms[used] * (i + 1))
            used += 1
            partner[i], partner[j] = partner[j], partner[i]
            if partner[i] == i:
                deranged = False
                break
        if partner[0] == 0:
            deranged = False
    return used


@exact_entry
def draw_pairing(partner: np.ndarray, p_self: float, uniforms: np.ndarray) -> bool:
    """`draw_partners` by itself, for layers that bring partners of their own.

    Parameters
    ----------
    partner, p_self, uniforms : as in `draw_partners`

    Returns
    -------
    bool
        False where `uniforms` did not suffice.
    """
    return draw_partners(partner, p_self, uniforms)  # type: ignore[no-any-return]
