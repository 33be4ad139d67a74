"""Masks: AES-256-CTR keystreams added to and subtracted from a vector in place, and packed in the same pass.

*Guarantees.* A mask is computationally indistinguishable from uniform over Z mod 2^32, hence over Z mod
2^bits. Adding and subtracting the same keys in any order cancels exactly.

*Assumes.* Every key is used for one mask only (keys are derived per pair, round and cohort), which makes the
zero initial counter safe.

*Does not cover.* Where keys come from (`privacy.secagg.keys`); CPUs without AES instructions are slow, not
unsafe.

Words are little-endian whatever the machine. The loop is block-outer and key-inner, so that a block of the
accumulator stays in the cache while all masks go over it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
from cryptography.hazmat.primitives.ciphers import Cipher, CipherContext, algorithms, modes

from privacy.secagg.quantize import pack_in_place, packed_size

__all__ = ["apply_masks", "mask_and_pack"]

UInt32 = npt.NDArray[np.uint32]

_BLOCK = 1 << 16  # coordinates, 256 KiB
_ZEROS = bytes(4 * _BLOCK)
_FIRST_COUNTER = bytes(16)


def apply_masks(total: UInt32, keys_add: Sequence[bytes], keys_subtract: Sequence[bytes]) -> None:
    """total += sum of masks of `keys_add` - sum of masks of `keys_subtract`, modulo 2^32, in place.

    Args:
        total: uint32[d], contiguous.
        keys_add, keys_subtract: 32-byte keys, each used once ever.
    """
    for _ in _masked_blocks(total, keys_add, keys_subtract):
        pass


def mask_and_pack(
    values: UInt32, keys_add: Sequence[bytes], keys_subtract: Sequence[bytes], bits: int
) -> npt.NDArray[np.uint8]:
    """`apply_masks`, then `pack`, in one pass over memory and without a second vector.

    Args:
        values: uint32[d], contiguous. Overwritten: the result lives in its memory.
        keys_add, keys_subtract: 32-byte keys, each used once ever.
        bits: the ring's width.

    Returns:
        The packed masked vector, uint8[d * bits / 8], the first bytes of `values`.
    """
    for start, stop in _masked_blocks(values, keys_add, keys_subtract):
        pack_in_place(values, start, stop, bits)
    return values.view(np.uint8)[: packed_size(values.size, bits)]


def _masked_blocks(
    total: UInt32, keys_add: Sequence[bytes], keys_subtract: Sequence[bytes]
) -> Iterator[tuple[int, int]]:
    """Mask block after block in ascending order; each one's bounds as soon as it is done."""
    adders = [_keystream(key) for key in keys_add]
    subtracters = [_keystream(key) for key in keys_subtract]
    scratch = bytearray(4 * _BLOCK + 15)  # update_into asks for one cipher block less a byte of slack
    for start in range(0, total.size, _BLOCK):
        block = total[start : start + _BLOCK]
        zeros = memoryview(_ZEROS)[: 4 * block.size]
        mask = np.frombuffer(scratch, dtype="<u4", count=block.size)
        for stream in adders:
            stream.update_into(zeros, scratch)
            block += mask
        for stream in subtracters:
            stream.update_into(zeros, scratch)
            block -= mask
        yield start, start + block.size


def _keystream(key: bytes) -> CipherContext:
    if len(key) != 32:
        raise ValueError("a mask key must be 32 bytes")
    return Cipher(algorithms.AES256(key), modes.CTR(_FIRST_COUNTER)).encryptor()
