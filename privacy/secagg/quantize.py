"""Real vectors to ring elements and back, and their packed form on the wire.

*Guarantees.* A `QuantizedVector` holds no coordinate larger than its ring's bound, so a sum of at most
`ring.max_summands` of them is exact: `dequantize_sum` differs from the sum of the saturated inputs by at most
n / (2 s) in each coordinate. `unpack` inverts `pack`. Non-finite input is refused, never rounded.

*Assumes.* The vector is already noised: quantisation and saturation are then post-processing.

*Does not cover.* Privacy. A quantised vector is as sensitive as the vector it came from until it is masked.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from privacy.secagg.keys import RandomSource
from privacy.secagg.params import BITS, RingParams

__all__ = ["QuantizedVector", "dequantize_sum", "fold", "pack", "packed_size", "quantize", "unpack"]

UInt32 = npt.NDArray[np.uint32]
_BLOCK = 1 << 16  # coordinates; a block's float64 scratch (512 KiB) stays in the second-level cache


@dataclass(frozen=True, eq=False)
class QuantizedVector:
    """A vector that may be masked.

    Args: values: uint32[d], two's complement, contiguous. Masking overwrites it: whoever masks the vector
    owns it. ring: the ring it was quantised for.

    Raises:
        ValueError: another type or shape, or a coordinate beyond the ring's bound.
    """

    values: UInt32
    ring: RingParams

    def __post_init__(self) -> None:
        values = self.values
        if values.dtype != np.uint32 or values.ndim != 1 or not values.flags.c_contiguous:
            raise ValueError("a quantised vector must be a contiguous one-dimensional uint32 array")
        lifted = values.view(np.int32)
        if values.size and max(int(lifted.max()), -int(lifted.min())) > self.ring.max_level:
            raise ValueError("a quantised vector exceeds its ring's bound; make it with quantize()")


def quantize(
    vector: npt.NDArray[np.floating], ring: RingParams, *, rounding: Literal["nearest", "stochastic"] = "nearest",
    entropy: RandomSource | None = None,
) -> QuantizedVector:
    """q = round(s * clip(x, -c, c)): to nearest, ties to even; or stochastically, up with probability frac(s x).

    Stochastic rounding is unbiased, E[q] = s x within the saturation, up to 2^-53 in the probability. It is for the
    16-bit ring without noise, where rounding to nearest would lose every update below half a step, each round again.

    Args:
        vector: float[d], finite; left as it is.
        ring: see `privacy.secagg.params`.
        rounding: "stochastic" needs `entropy`, of which it takes 8 bytes a coordinate.

    Raises:
        ValueError: the rounding is unknown or lacks its random source; `vector` is not one-dimensional, or
            holds a NaN or an infinity.
    """
    if vector.ndim != 1:
        raise ValueError("a vector to quantise must be one-dimensional; flatten it")
    if rounding not in ("nearest", "stochastic") or (rounding == "stochastic") != (entropy is not None):
        raise ValueError('rounding is "nearest" without a random source, or "stochastic" with one')
    values = np.empty(vector.shape, dtype=np.uint32)
    for start in range(0, vector.size, _BLOCK):
        block = vector[start : start + _BLOCK].astype(np.float64)
        if not np.isfinite(block).all():
            raise ValueError("a vector to quantise must be finite; clip and noise it first")
        np.clip(block, -ring.saturation, ring.saturation, out=block)
        block *= ring.scale
        rounded = np.rint(block) if entropy is None else _stochastic(block, entropy)
        values[start : start + _BLOCK] = rounded.astype(np.int64).astype(np.uint32)
    return QuantizedVector(values, ring)


def _stochastic(block: npt.NDArray[np.float64], entropy: RandomSource) -> npt.NDArray[np.float64]:
    """floor(x), plus one with probability x - floor(x), within 2^-53; an integer stays as it is."""
    low = np.floor(block)
    draws = np.frombuffer(entropy.random_bytes(8 * block.size), dtype="<u8") >> np.uint64(11)
    low += draws * 2.0**-53 < block - low
    return low


def dequantize_sum(total: UInt32, ring: RingParams) -> npt.NDArray[np.float64]:
    """The real sum, float64[d], from a ring sum uint32[d]: the centred lift of total mod 2^bits, over s."""
    unused = np.uint32(32 - ring.bits)
    lifted = (total << unused).view(np.int32) >> np.int32(unused)  # arithmetic shift: keeps the sign
    return lifted.astype(np.float64) / ring.scale


def packed_size(dimension: int, bits: int) -> int:
    """Bytes of a packed vector."""
    return dimension * bits // 8


def pack(values: UInt32, bits: int) -> npt.NDArray[np.uint8]:
    """values mod 2^bits, little-endian, bits/8 bytes a coordinate; uint8[d * bits / 8]."""
    _check_bits(bits)
    octets = values.astype("<u4", copy=False).view(np.uint8).reshape(-1, 4)
    return octets[:, : bits // 8].reshape(-1)


def unpack(packed: npt.NDArray[np.uint8], bits: int) -> UInt32:
    """The inverse of `pack` on values below 2^bits; uint32[d].

    Raises:
        ValueError: not a whole number of coordinates.
    """
    _check_bits(bits)
    if packed.dtype != np.uint8 or packed.ndim != 1 or packed.size % (bits // 8):
        raise ValueError("a packed vector must be a one-dimensional uint8 array of whole coordinates")
    octets = np.zeros((packed.size // (bits // 8), 4), dtype=np.uint8)
    octets[:, : bits // 8] = packed.reshape(-1, bits // 8)
    return octets.reshape(-1).view("<u4").astype(np.uint32, copy=False)


def fold(total: UInt32, packed: npt.NDArray[np.uint8], bits: int) -> None:
    """total += unpack(packed), in place and block by block, so that no unpacked copy of an upload ever
    exists."""
    _check_bits(bits)
    if packed.size != packed_size(total.size, bits):
        raise ValueError("a packed vector has another dimension than the sum it is added to")
    width = bits // 8
    for start in range(0, total.size, _BLOCK):
        block = total[start : start + _BLOCK]
        block += unpack(packed[start * width : (start + block.size) * width], bits)


def _check_bits(bits: int) -> None:
    if bits not in BITS:
        raise ValueError(f"bits must be one of {BITS}")
