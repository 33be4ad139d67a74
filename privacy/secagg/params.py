"""The ring that masked vectors live in, and why their sum cannot wrap.

*Guarantees.* A `RingParams` that exists satisfies n (ceil(c s) + 1) < 2^(bits-1): the sum of up to
`max_summands` quantised vectors is below half the modulus in magnitude in every coordinate, so its centred
lift is exact. This is deterministic, not a matter of probability.

*Assumes.* Every summand was saturated to +-c before it was rounded (`privacy.secagg.quantize`).

*Does not cover.* Noise added after quantisation, which must not be saturated: `privacy.secagg.rings` has the ring of
distributed noise.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

__all__ = ["BITS", "RingParams", "ring_params"]

BITS = (16, 24, 32)  # wire widths; arithmetic is modulo 2^32 and reducing modulo 2^bits is a homomorphism


@dataclass(frozen=True)
class RingParams:
    """A ring Z mod 2^bits with its fixed-point scale.

    Args:
        bits: wire width of a coordinate, one of `BITS`.
        scale: s, quantisation steps per unit.
        saturation: c, the largest magnitude of one coordinate, in units.
        max_summands: n, the most vectors that are ever added (the size of the roster).

    Raises:
        ValueError: the sum of `max_summands` vectors could wrap, or a value is not positive and finite.
    """

    bits: int
    scale: float
    saturation: float
    max_summands: int

    def __post_init__(self) -> None:
        if self.bits not in BITS:
            raise ValueError(f"bits must be one of {BITS}")
        if not (0 < self.scale < math.inf and 0 < self.saturation < math.inf and self.max_summands >= 1):
            raise ValueError("scale, saturation and max_summands must be positive and finite")
        if self.saturation * self.scale >= 2.0**self.bits or not self._fits(self.max_level):
            raise ValueError("the sum of all sites could wrap; lower the scale or raise the bits")

    @property
    def max_level(self) -> int:
        """ceil(c s): the largest magnitude of a quantised coordinate."""
        return math.ceil(self.saturation * self.scale)

    @property
    def modulus(self) -> int:
        """2^bits."""
        return 1 << self.bits

    def _fits(self, level: int) -> bool:
        return self.max_summands * (level + 1) < self.modulus // 2


def ring_params(bits: int, saturation: float, max_summands: int) -> RingParams:
    """The ring with the largest power-of-two scale that cannot wrap.

    Raises:
        ValueError: an argument is out of range, or the roster is too large for `bits`.
    """
    if bits not in BITS or not 2.0**-100 <= saturation <= 2.0**100 or max_summands < 1:
        raise ValueError(f"give bits from {BITS}, a saturation from 2^-100 to 2^100, max_summands > 0")
    headroom = (1 << (bits - 1)) // max_summands
    if headroom < 4:
        raise ValueError("the roster is too large for this ring; raise the bits")
    exponent = math.frexp(headroom)[1] - math.frexp(saturation)[1] + 1  # never too small; step down
    while True:
        try:
            return RingParams(bits, math.ldexp(1.0, exponent), saturation, max_summands)
        except ValueError:
            exponent -= 1
