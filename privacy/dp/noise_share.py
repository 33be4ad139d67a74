"""A site's sum over patients in integers, and its share of the noise: rounded per patient, nothing saturated after.

*Guarantees.*
    * An `IntegerSum` is a sum over patients of integer vectors of L2 norm at most S = `levels` each: a patient's
      vector is clipped to S - sqrt(d) / 2 and every coordinate then rounded to nearest, which moves it by at most
      sqrt(d) / 2 (triangle inequality). Sums are exact integers.
    * `add_share` adds one discrete Gaussian of the share's variance to each coordinate and does nothing afterwards:
      no clip, no saturation. Reduction modulo the ring's size commutes with the sum over sites, so what a wrapped sum
      says is a function of the whole sum (post-processing); a wrap costs accuracy only. Integrity tags are not a
      function of the sum where one site's own numbers leave the ring: `privacy.secagg.rings.fits_alone` rules that out.

*Assumes.*
    * One share is drawn for one sum, and that sum is opened at most once. A retry sends the same noised vector.
    * What shares are worth together (`privacy.dp.shares`) holds for the sum over sites; the upload of this site alone
      has one share's noise and leaves under a mask only.

*Does not cover.*
    * Sites that add no noise, and patients known to two sites: see `privacy.dp.shares`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from privacy.dp.clipping import ClippedSum
from privacy.dp.discrete_gaussian import DiscreteGaussian
from privacy.dp.shares import NoiseShare
from privacy.entropy import Entropy

__all__ = ["IntegerSum", "add_share", "ring_elements"]

_BLOCK = 1 << 16


@dataclass(frozen=True)
class IntegerSum(ClippedSum):
    """A sum over patients of integer vectors, each of L2 norm at most `l2_bound` levels.

    `vector` is float64[d] and holds integers below 2**53, so that it is exact. Raises ValueError for anything else.
    """

    def __post_init__(self) -> None:
        ClippedSum.__post_init__(self)
        if not (self.l2_bound == math.floor(self.l2_bound) and np.array_equal(np.rint(self.vector), self.vector)):
            raise ValueError("a sum of rounded patients holds integers only")
        if self.vector.size and max(float(self.vector.max()), -float(self.vector.min())) >= 2.0**53:
            raise ValueError("a sum of rounded patients must be exact: below 2**53")


def add_share(clipped: ClippedSum, share: NoiseShare, entropy: Entropy) -> npt.NDArray[np.int64]:
    """int64[d], in levels: the sum plus this site's share of the noise. An empty draw gives the share alone.

    Raises TypeError for anything but an `IntegerSum`, ValueError for a sum of another bound or length.
    """
    if not isinstance(clipped, IntegerSum):
        raise TypeError("a share of the noise is added to an IntegerSum only, so that its sensitivity is known")
    if clipped.l2_bound != share.levels or clipped.vector.size != share.dimension:
        raise ValueError("the sum was rounded for another share: its bound or its length differs")
    noised = DiscreteGaussian(share.variance).draw(share.dimension, entropy)
    for start in range(0, noised.size, _BLOCK):  # so that no second vector of that length is needed
        noised[start : start + _BLOCK] += clipped.vector[start : start + _BLOCK].astype(np.int64)
    return noised


def ring_elements(levels: npt.NDArray[np.int64]) -> npt.NDArray[np.uint32]:
    """uint32[d]: `levels` modulo 2**32, which is what a cast keeps; nothing is saturated."""
    return levels.astype(np.uint32)
