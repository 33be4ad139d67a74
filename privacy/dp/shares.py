"""How the noise of a sum is shared out, and what some of the shares are worth. Numbers only.

*Guarantees.*
    * h shares together have the variance h v = (z S)**2 + 16 exactly, v being `NoiseShare.variance`.
    * The sum over sites with k shares in it is a function of f + N(0, (k v - 16) I), f the sum of clipped and rounded
      patients: k discrete Gaussians add up to one of variance k v, and that is a continuous Gaussian of variance
      k v - 16, rounded at random with a discrete Gaussian of standard deviation 4 about it, whose shift by the integers
      of f is free (convolution lemma: Peikert, CRYPTO 2010, theorem 3.1). So a Poisson-subsampled Gaussian mechanism of
      multiplier `counted_multiplier(...)` covers the release, rotation invariance included. Gap: the probabilities of
      one coordinate change by a factor within 1 +- (k + 1) 4 exp(-2 pi**2 16), that is 1 +- (k + 1) 10**-136; 10**8
      coordinates, 10**5 steps and 200 sites leave it below 10**-120. The sampler adds 2**-110 a draw in statistical
      distance (`privacy.dp.discrete_gaussian`), below 2**-59 for all of these draws: that adds to delta.

*Assumes.*
    * At least k of the sites in the sum add their share as `privacy.dp.noise_share` does, and tell nobody what it was.
      A site that adds none cannot be found out: its upload is masked.

*Does not cover.*
    * A patient known to two sites, who moves the sum by up to 2 S.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction

__all__ = ["ROUNDING_VARIANCE", "NoiseShare", "counted_multiplier", "share_variance"]

ROUNDING_VARIANCE = 16
"""Variance of the random rounding that the accounting takes out of a sum's noise: 4**2, gap exp(-2 pi**2 16)."""
# A share's least standard deviation: far above the 4 of the lemma, and of what a table needs.
_LEAST_STD = 32.0


@dataclass(frozen=True, slots=True)
class NoiseShare:
    """How one site rounds its patients and how much noise it adds, in one round.

    Args:
        levels: S, the L2 bound on a patient's integer vector.
        dimension: d, coordinates of the vector, its statistic lanes included.
        clip_norm: C, what S - sqrt(d) / 2 stands for.
        noise_multiplier: z of the h shares together.
        honest: h.

    Raises ValueError where rounding would take half of S, or a share would have a standard deviation below 32 levels.
    """

    levels: int
    dimension: int
    clip_norm: float
    noise_multiplier: float
    honest: int

    def __post_init__(self) -> None:
        if self.honest < 1:
            raise ValueError("noise is shared by at least one honest site")
        if math.sqrt(self.dimension) > self.levels:
            raise ValueError(f"{self.levels} levels are too few for {self.dimension} coordinates: rounding would take "
                             "half of the bound; raise levels")
        if self.variance < _LEAST_STD**2:
            raise ValueError("a share of the noise has a standard deviation below 32 levels; raise levels")

    @property
    def scale(self) -> float:
        """s: levels per unit, (S - sqrt(d) / 2) / C."""
        return (self.levels - math.sqrt(self.dimension) / 2) / self.clip_norm

    @property
    def variance(self) -> Fraction:
        """v of one share, in levels squared."""
        return share_variance(self.noise_multiplier, self.levels, self.honest)

    def noise_std(self, shares: int) -> float:
        """Standard deviation of so many shares together on one coordinate of the sum, in units of the vector."""
        return math.sqrt(shares * self.variance) / self.scale


def share_variance(noise_multiplier: float, levels: int, honest: int) -> Fraction:
    """v = ((z S)**2 + 16) / h, exactly."""
    return (Fraction(noise_multiplier) ** 2 * levels**2 + ROUNDING_VARIANCE) / honest


def counted_multiplier(noise_multiplier: float, levels: int, honest: int, shares: int) -> float:
    """What `shares` shares of the noise are worth: sqrt(k v - 16) / S, which is z for k = h.

    Rounded down by a float's last place or so, never up: an accountant then reports no less than is true.
    """
    if shares == honest:
        return noise_multiplier
    square = (shares * share_variance(noise_multiplier, levels, honest) - ROUNDING_VARIANCE) / levels**2
    if square <= 0:
        raise ValueError("a share this small is lost in rounding; raise levels")
    return math.sqrt(square) * (1 - 1e-12)
