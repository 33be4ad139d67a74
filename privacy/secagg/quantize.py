"""Real vectors to ring elements and back, and their packed form on the wire.

*Guarantees.* A `QuantizedVector` holds no coordinate larger than its ring's bound, so a sum of at most
`ring.max_summands` of them is exact: `dequantize_sum` differs from the sum of the saturated inputs by at most
n / (2 s) in each coordinate. `unpack` inverts `pack`. Non-finite input is refused, never rounded.

*Assumes.* The vector is already noised: quantisation and saturation are then post-processing.

*Does not cover.* Privacy. A quantised vector is as sensitive as the vector it came from until it is masked.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from privacy.secagg.keys import RandomSource
from privacy.secagg.params import BITS, RingParams

__all__ = ["QuantizedVector", "dequantize_sum", "dequantized_blocks", "fold", "pack", "pack_in_place", "packed_size",
           "quantize", "unpack"]

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
        if _largest(values.view(np.int32)) > self.ring.max_level:
            raise ValueError("a quantised vector exceeds its ring's bound; make it with quantize()")


def _largest(lifted: npt.NDArray[np.int32]) -> int:
    """The largest magnitude, in one pass over memory."""
    blocks = (lifted[start : start + _BLOCK] for start in range(0, lifted.size, _BLOCK))
    return max((max(int(block.max()), -int(block.min())) for block in blocks), default=0)


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
    lifted, scratch = values.view(np.int32), np.empty(min(vector.size, _BLOCK), dtype=np.float64)
    for start in range(0, vector.size, _BLOCK):
        part = vector[start : start + _BLOCK]
        block = scratch[: part.size]
        block[:] = part
        if not np.isfinite(block).all():
            raise ValueError("a vector to quantise must be finite; clip and noise it first")
        np.clip(block, -ring.saturation, ring.saturation, out=block)
        block *= ring.scale
        if entropy is None:
            np.rint(block, out=block)
        else:
            block = _stochastic(block, entropy)
        np.copyto(lifted[start : start + _BLOCK], block, casting="unsafe")  # integers below 2^31: exact
    return QuantizedVector(values, ring)


def _stochastic(block: npt.NDArray[np.float64], entropy: RandomSource) -> npt.NDArray[np.float64]:
    """floor(x), plus one with probability x - floor(x), within 2^-53; an integer stays as it is."""
    low = np.floor(block)
    draws = np.frombuffer(entropy.random_bytes(8 * block.size), dtype="<u8") >> np.uint64(11)
    low += draws * 2.0**-53 < block - low
    return low


def dequantize_sum(total: UInt32, ring: RingParams) -> npt.NDArray[np.float64]:
    """The real sum, float64[d], from a ring sum uint32[d]: the centred lift of total mod 2^bits, over s."""
    real = np.empty(total.size, dtype=np.float64)
    for part, values in dequantized_blocks(total, ring):
        real[part] = values
    return real


def dequantized_blocks(total: UInt32, ring: RingParams) -> Iterator[tuple[slice, npt.NDArray[np.float64]]]:
    """`dequantize_sum` block by block: where each block lies, and its real sums. The array is reused for the next one,
    so that a caller who needs each number once takes no memory of the size of the vector."""
    unused = 32 - ring.bits
    lifted, real = np.empty(_BLOCK, dtype=np.int32), np.empty(_BLOCK, dtype=np.float64)
    for start in range(0, total.size, _BLOCK):
        part = slice(start, min(start + _BLOCK, total.size))
        size = part.stop - start
        np.left_shift(total[part], np.uint32(unused), out=lifted[:size].view(np.uint32))
        np.right_shift(lifted[:size], np.int32(unused), out=lifted[:size])  # arithmetic: keeps the sign
        yield part, np.divide(lifted[:size], ring.scale, out=real[:size])


def packed_size(dimension: int, bits: int) -> int:
    """Bytes of a packed vector."""
    return dimension * bits // 8


def pack(values: UInt32, bits: int) -> npt.NDArray[np.uint8]:
    """values mod 2^bits, little-endian, bits/8 bytes a coordinate; uint8[d * bits / 8]."""
    _check_bits(bits)
    if bits == 16:
        return values.astype("<u2").view(np.uint8)
    octets = values.astype("<u4", copy=False).view(np.uint8).reshape(-1, 4)
    packed = np.empty((values.size, bits // 8), dtype=np.uint8)
    for place in range(bits // 8):  # one byte of every coordinate at a time: five times faster than rows of bytes
        packed[:, place] = octets[:, place]
    return packed.reshape(-1)


def pack_in_place(values: UInt32, start: int, stop: int, bits: int) -> None:
    """Put coordinates `start` to `stop` of `values`, packed, at their place in a vector packed from the beginning of
    the same memory. A vector is packed by packing its blocks in ascending order: a block never reaches beyond its own
    coordinates, so none that still has to be read is overwritten."""
    width = bits // 8
    values.view(np.uint8)[start * width : stop * width] = pack(values[start:stop], bits)


def unpack(packed: npt.NDArray[np.uint8], bits: int) -> UInt32:
    """The inverse of `pack` on values below 2^bits; uint32[d].

    Raises:
        ValueError: not a whole number of coordinates.
    """
    _check_bits(bits)
    if packed.dtype != np.uint8 or packed.ndim != 1 or packed.size % (bits // 8):
        raise ValueError("a packed vector must be a one-dimensional uint8 array of whole coordinates")
    values = np.zeros(packed.size // (bits // 8), dtype=np.uint32)
    fold(values, np.ascontiguousarray(packed), bits)
    return values


def fold(total: UInt32, packed: npt.NDArray[np.uint8], bits: int) -> None:
    """total += unpack(packed), modulo 2^32, in place and block by block, so that no unpacked copy of an upload ever
    exists.

    Raises:
        ValueError: another dimension, or not a contiguous uint8 array.
    """
    _check_bits(bits)
    if packed.size != packed_size(total.size, bits):
        raise ValueError("a packed vector has another dimension than the sum it is added to")
    if packed.dtype != np.uint8 or not packed.flags.c_contiguous:
        raise ValueError("a packed vector must be a contiguous uint8 array")
    if bits == 24:
        _fold24(total, packed)
        return
    words = packed.view(f"<u{bits // 8}")
    for start in range(0, total.size, _BLOCK):
        total[start : start + _BLOCK] += words[start : start + _BLOCK]


def _fold24(total: UInt32, packed: npt.NDArray[np.uint8]) -> None:
    """Three-byte coordinates are read as four-byte words that overlap by one byte, and that byte is taken off."""
    if not total.size:
        return
    last = total.size - 1  # a fourth byte after it does not exist
    window = np.ndarray((last,), dtype="<u4", buffer=packed, strides=(3,))
    scratch = np.empty(min(last, _BLOCK), dtype=np.uint32)
    for start in range(0, last, _BLOCK):
        block = total[start : min(start + _BLOCK, last)]
        word = scratch[: block.size]
        np.bitwise_and(window[start : start + block.size], np.uint32(0xFFFFFF), out=word)
        block += word
    total[last:] += np.uint32(int.from_bytes(packed[3 * last :].tobytes(), "little"))


def _check_bits(bits: int) -> None:
    if bits not in BITS:
        raise ValueError(f"bits must be one of {BITS}")
