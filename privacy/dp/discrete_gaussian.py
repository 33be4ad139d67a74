"""The discrete Gaussian over the integers, from the one random source, by tables and convolution.

*Guarantees.*
    * `DiscreteGaussian(variance).draw` gives independent integers x with probability proportional to
      exp(-x**2 / (2 variance)), within a statistical distance of 2**-110 a draw: tables hold the cumulative
      distribution as 128-bit integers, computed with 60 decimal digits and cut at 12.5 standard deviations (tails
      below 2**-116), and a draw is compared with all 128 bits.
    * Standard deviations above 1024 are built as m Y + W, with W of standard deviation 8 m and Y of what is left:
      var(m Y + W) is the asked-for variance exactly, and the distribution is the discrete Gaussian up to a factor
      within 1 +- 4 exp(-2 pi**2 s**2) a value, s**2 = 64 v / (64 + v) with v = var(Y) >= 4096 (convolution lemma:
      Peikert, CRYPTO 2010, theorem 3.1; Micciancio and Walter, CRYPTO 2017, section 3): s**2 >= 63, a gap of
      exp(-1243).
    * Only `privacy.entropy` is asked for bits.

*Assumes.*
    * `entropy` is a `SystemEntropy`; with a simulated source the output is repeatable and not private.

*Does not cover.*
    * Constant time: one draw in 300 or fewer takes a second look-up, so the time of a long vector tells a little about
      the noise, which a scheduled reply hides (`site_client.schedule`).
    * Standard deviations below 1: nothing here needs them.

Exact rejection sampling (Canonne, Kamath and Steinke, arXiv 2004.00010, algorithm 3) is the oracle in the tests.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from decimal import Decimal, localcontext
from fractions import Fraction
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from privacy.entropy import Entropy

__all__ = ["DiscreteGaussian"]

Int64 = npt.NDArray[np.int64]
UInt64 = npt.NDArray[np.uint64]

_DIGITS = 60
_TAIL = 12.5       # standard deviations on each side
_LARGEST = 1024    # standard deviation of the largest table: its arrays stay in the second-level cache
_RATIO = 8         # of W's standard deviation to m
_STEP = _LARGEST // _RATIO
_LARGEST_STD = 2.0**40
_GUIDE_BITS = 16
_BLOCK = 1 << 16   # draws at a time: scratch stays in the cache


@dataclass(frozen=True, eq=False)
class _Table:
    """Cumulative distribution of a small discrete Gaussian.

    Args:
        lowest: the value of the first entry.
        high, low: uint64[n] each: entry i is floor(2**128 P[X <= lowest + i]); the last entry, which would be 2**128,
            is a sentinel that no draw passes.
        guide: int64[2**16]: how many entries are below the smallest draw with these top bits.
    """

    lowest: int
    high: UInt64
    low: UInt64
    guide: Int64

    def draw(self, n: int, entropy: Entropy) -> Int64:
        """`n` values: the number of entries that a uniform 128-bit integer has reached, by inversion."""
        bits = entropy.uniform64(n)
        index = self.guide.take((bits >> np.uint64(64 - _GUIDE_BITS)).view(np.int64))
        index += bits > self.high.take(index)
        late = np.flatnonzero(bits >= self.high.take(index))
        if late.size:
            index[late] = self._searched(bits[late], entropy)
        index += self.lowest
        return index

    def _searched(self, bits: UInt64, entropy: Entropy) -> Int64:
        """The same for the few draws that the guide leaves more than one entry short, or on an entry's upper half."""
        index = np.searchsorted(self.high, bits, side="left")
        for place in np.flatnonzero(bits == self.high.take(index)).tolist():
            index[place] += self._reached(int(bits[place]), int(index[place]), entropy)
        return index

    def _reached(self, high: int, index: int, entropy: Entropy) -> int:
        """Of the entries with this upper half, how many the whole draw has reached; its lower half is drawn now."""
        low, reached = int(entropy.uniform64(1)[0]), 0
        while index < self.high.size - 1 and int(self.high[index]) == high and int(self.low[index]) <= low:
            index, reached = index + 1, reached + 1
        return reached


class DiscreteGaussian:
    """The sampler for one variance, in units of the integers' spacing.

    Args:
        variance: of the distribution's parameter, at least 1; a float is taken as the exact number it is.

    Raises ValueError for a variance below 1 or above 2**80.
    """

    def __init__(self, variance: float | Fraction) -> None:
        left = Fraction(variance)
        if not 1 <= left <= Fraction(_LARGEST_STD) ** 2:
            raise ValueError(f"the variance of a discrete Gaussian must lie in [1, 2**80], not {float(left):g}")
        self._levels: list[tuple[int, _Table]] = []
        while left > _LARGEST**2:
            # With the largest step the rest may fall below what the lemma asks of Y: then a smaller one.
            step = min(_STEP, math.isqrt(int(left / (_RATIO**2 + _RATIO**4))))
            self._levels.append((step, _table(Fraction((_RATIO * step) ** 2))))
            left = left / step**2 - _RATIO**2
        self._base = _table(left)

    def draw(self, n: int, entropy: Entropy) -> Int64:
        """`n` independent draws."""
        values = np.empty(n, dtype=np.int64)
        for start in range(0, n, _BLOCK):
            size = min(_BLOCK, n - start)
            block = self._base.draw(size, entropy)
            for step, table in reversed(self._levels):
                block *= step
                block += table.draw(size, entropy)
            values[start : start + size] = block
        return values


@lru_cache(maxsize=64)
def _table(variance: Fraction) -> _Table:
    last = math.ceil(_TAIL * math.sqrt(variance))
    weights = _weights(variance, last)
    weights = weights[:0:-1] + weights  # -last .. last
    total, reached, entries = sum(weights), 0, []
    for weight in weights[:-1]:
        reached += weight
        entries.append((reached << 128) // total)
    high = np.array([entry >> 64 for entry in entries] + [2**64 - 1], dtype=np.uint64)
    low = np.array([entry & (2**64 - 1) for entry in entries] + [2**64 - 1], dtype=np.uint64)
    starts = np.arange(1 << _GUIDE_BITS, dtype=np.uint64) << np.uint64(64 - _GUIDE_BITS)
    return _Table(-last, high, low, np.searchsorted(high, starts, side="left").astype(np.int64))


def _weights(variance: Fraction, last: int) -> list[int]:
    """exp(-k**2 / (2 variance)) for k = 0 .. last as integers in units of 10**-60, each within a few units.

    By exp(-(k + 1)**2 / 2v) = exp(-k**2 / 2v) r**(2 k + 1) with r = exp(-1 / 2v): two products a value.
    """
    with localcontext() as context:
        context.prec = 2 * _DIGITS
        ratio = (Decimal(-variance.denominator) / Decimal(2 * variance.numerator)).exp()
        value, factor, square = Decimal(1), ratio, ratio * ratio
        weights = []
        for _ in range(last + 1):
            weights.append(int(value.scaleb(_DIGITS)))
            value, factor = value * factor, factor * square
    return weights
