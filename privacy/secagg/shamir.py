"""Shamir's secret sharing of 32-byte secrets over GF(p), p = 2^256 + 297.

*Guarantees.* Any t shares give back the secret; t - 1 shares say nothing about it, information-theoretically
(Shamir 1979), up to a bias of 2^-127 in the coefficients (48 random bytes are reduced modulo p, without
rejection).

*Assumes.* The random source is uniform and secret.

*Does not cover.* Wrong shares: `combine` of a false share gives a wrong secret. Commitments catch that,
outside. Big integers are not constant-time; dealing happens inside the site, where nobody else times it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from privacy.secagg.keys import RandomSource

__all__ = ["PRIME", "SHARE_BYTES", "Share", "combine", "split"]

PRIME = 2**256 + 297  # the smallest prime above 2^256: every 32-byte secret is a field element
SHARE_BYTES = 33
_COEFFICIENT_BYTES = 48
_LAZY = 32  # steps between reductions: x is a small index, so the value grows by a byte or two a step


@dataclass(frozen=True, repr=False)
class Share:
    """The polynomial's value at `index` (1 to n)."""

    index: int
    value: int

    def to_bytes(self) -> bytes:
        """The value, 33 bytes big-endian; the index goes by the recipient's place in the cohort."""
        return self.value.to_bytes(SHARE_BYTES, "big")

    @classmethod
    def from_bytes(cls, index: int, data: bytes) -> Share:
        """Raises ValueError for another length or a value that is not a field element."""
        value = int.from_bytes(data, "big")
        if len(data) != SHARE_BYTES or value >= PRIME:
            raise ValueError("a share must be 33 bytes and below the field's prime")
        return cls(index, value)


def split(secret: bytes, t: int, n: int, entropy: RandomSource) -> list[Share]:
    """n shares at 1..n of a 32-byte secret, any t of which rebuild it.

    Raises:
        ValueError: `secret` is not 32 bytes, or not 1 <= t <= n.
    """
    if len(secret) != 32 or not 1 <= t <= n:
        raise ValueError("a secret of 32 bytes can be split for thresholds from 1 to the number of shares")
    drawn = entropy.random_bytes(_COEFFICIENT_BYTES * (t - 1))
    starts = range(0, len(drawn), _COEFFICIENT_BYTES)
    coefficients = [int.from_bytes(drawn[at : at + _COEFFICIENT_BYTES], "big") % PRIME for at in starts]
    coefficients.append(int.from_bytes(secret, "big"))  # highest degree first, the secret last
    return [Share(index, _evaluate(coefficients, index)) for index in range(1, n + 1)]


def _evaluate(coefficients: Sequence[int], x: int) -> int:
    value = 0
    for start in range(0, len(coefficients), _LAZY):
        for coefficient in coefficients[start : start + _LAZY]:  # Horner
            value = value * x + coefficient
        value %= PRIME
    return value


def combine(shares: Sequence[Share]) -> bytes:
    """The 32-byte secret, by Lagrange interpolation at zero. Give exactly t shares.

    Raises: ValueError: an index repeats, or the value is not a 32-byte secret (the shares do not belong
    together).
    """
    indices = tuple(share.index for share in shares)
    if len(set(indices)) < len(indices) or not indices:
        raise ValueError("shares must have distinct indices")
    weights = _weights_at_zero(indices)
    secret = sum(weight * share.value for weight, share in zip(weights, shares, strict=True)) % PRIME
    if secret >= 1 << 256:
        raise ValueError("the shares do not belong to one secret")
    return secret.to_bytes(32, "big")


@lru_cache(maxsize=64)
def _weights_at_zero(indices: tuple[int, ...]) -> tuple[int, ...]:
    """prod_{j != i} x_j / (x_j - x_i) mod p; the same for every secret that the same sites rebuild."""
    weights = []
    for i in indices:
        numerator = denominator = 1
        for j in indices:
            if j != i:
                numerator = numerator * j % PRIME
                denominator = denominator * (j - i) % PRIME
        weights.append(numerator * pow(denominator, -1, PRIME) % PRIME)
    return tuple(weights)
