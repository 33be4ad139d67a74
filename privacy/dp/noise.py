"""Gaussian noise on a clipped sum, released on a public grid.

*Guarantees.*
    * The result is g (round(sum / g) + round(noise / g)) with g = 2**-30 C and noise of standard deviation
      `noise_multiplier` C per coordinate, added as int64: its low-order bits carry nothing of the sum, which
      closes the floating-point attacks of Mironov (CCS 2012) and Jin et al. (arXiv 2112.05307).
    * Rounding widens one patient's reach by at most g sqrt(d). Half of the slack that clipping leaves covers it, the
      other half is for float rounding, and a vector too long for that (above 2.8e7 coordinates) is refused. So
      the L2 sensitivity of what is released is at most C.
    * Only a `ClippedSum` is accepted, so nothing unbounded can be released by mistake.

*Assumes.*
    * `entropy` is a `SystemEntropy`; with a simulated source the output is repeatable and not private.
    * Every call's output is released at most once and no second noise is drawn for the same sum.

*Does not cover.*
    * Exactness of the Gaussian beyond float64: this is an engineering mitigation, not a proof about discrete
      distributions (Canonne, Kamath and Steinke, arXiv 2004.00010, treat those).
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from privacy.dp.clipping import SLACK, ClippedSum
from privacy.entropy import Entropy

__all__ = ["GRID_BITS", "grid_step", "noisy_sum"]

GRID_BITS = 30
# The largest integer up to which every integer is a float64.
_EXACT = 1 << 53


def grid_step(l2_bound: float) -> float:
    """The spacing g = 2**-30 C of the public grid, in units of the vector."""
    return math.ldexp(l2_bound, -GRID_BITS)


def noisy_sum(clipped: ClippedSum, noise_multiplier: float, entropy: Entropy) -> npt.NDArray[np.float64]:
    """float64[d] on the grid: the sum plus N(0, (noise_multiplier C)**2) on each coordinate.

    An empty draw (a zero sum) gives noise alone, which is a legal step. Raises TypeError for anything but a
    `ClippedSum`, ValueError for noise that is not above 0 or a vector too long or too large for the grid.
    """
    if not isinstance(clipped, ClippedSum):
        raise TypeError("noise is added to a ClippedSum only, so that its sensitivity is known")
    if not (math.isfinite(noise_multiplier) and noise_multiplier > 0):
        raise ValueError(f"noise_multiplier must be a finite number above 0, not {noise_multiplier}")
    size = clipped.vector.size
    if math.ldexp(math.sqrt(size), -GRID_BITS) > SLACK / 2:
        raise ValueError(f"a vector of {size} coordinates is too long for the grid: train fewer parameters")
    step = grid_step(clipped.l2_bound)
    noise = entropy.gaussian(size)
    noise *= math.ldexp(noise_multiplier, GRID_BITS)
    ticks = _ticks(clipped.vector / step) + _ticks(noise)
    return ticks.astype(np.float64) * step


def _ticks(values: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    if values.size and max(float(values.max()), -float(values.min())) >= _EXACT / 2:
        raise ValueError("the sum or its noise exceeds 2**22 clip norms: check noise and clip norm")
    return np.rint(values).astype(np.int64)
