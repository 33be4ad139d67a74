"""The integrity tag: a one-time authenticator of the sum, whose key the sites share and the coordinator lacks.

*Guarantees.* Lane l of site i is tau_il = sum_j r_lj q_ij + p_il mod 2^64, with r and p from AES-256-CTR under keys
derived from K. The sum over the survivors is T_l = sum_j r_lj S_j + sum_i p_il, S the exact integer sum. A coordinator
that announces another S' != S (or another T') passes a site's check with probability at most 2^-(65 - bits) a lane,
and the lanes are independent: at 24 bits 2^-41 a lane, at 32 bits 2^-33; plus what an attack on AES gains.

*Why.* K is new in each attempt and p_il is uniform, so T says nothing about r, whatever S is. For a fixed error
e = S' - S and a fixed error t of the tag, the check passes iff sum_j r_lj e_j = t mod 2^64. Both sums are centred
lifts, so 0 < max |e_j| < 2^bits; let 2^v, v <= bits - 1, be the largest power of two that divides every e_j. Then
sum_j r_lj e_j is uniform over the multiples of 2^v, of which there are 2^(64-v), and hits t with probability at most
2^-(64-v) <= 2^-(65-bits). The factor lost to 2^v is real: an error of 2^(bits-1) in one coordinate meets the bound.
(Universal hashing with a one-time pad: Wegman and Carter, JCSS 22, 1981, section 3. The pad p is needed: without
it S' = 2 S with T' = 2 T, or zero with zero, always passes.)

*Assumes.* No site gives K to the coordinator: one that does voids this, and only this. K is used for one round.

*Does not cover.* Which party altered a sum: a site that uploads another tag fails the check for all, and nobody is
blamed. Poisoned inputs: the tag proves addition, not that the vectors are good. Privacy: T is a function of S and K.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import numpy.typing as npt
from cryptography.hazmat.primitives.ciphers import Cipher, CipherContext, algorithms, modes

from privacy.encoding import transcript
from privacy.errors import NOBODY, ProtocolError
from privacy.secagg.keys import derive, matches

__all__ = [
    "LANE_BYTES", "add_tags", "check_tags", "mask_tags", "masked_tags", "site_tags", "tag_key", "tags_from_bytes",
    "tags_to_bytes"]

LANE_BYTES = 8
_BLOCK = 1 << 14  # coordinates; keystream and lifted block (128 KiB each) stay in the second-level cache
_ZEROS = bytes(LANE_BYTES * _BLOCK)
_MASK = (1 << 64) - 1

UInt32 = npt.NDArray[np.uint32]
Tags = list[int]  # one value below 2^64 a lane


def tag_key(contributions: Mapping[str, bytes], ctx: bytes, h2: bytes) -> bytes:
    """K, 32 bytes: HKDF over the 32-byte contributions of all dealers in U2, in ascending order of site."""
    secret = b"".join(contributions[dealer] for dealer in sorted(contributions))
    return derive(secret, ctx, transcript("tag-key", ctx, h2, tuple(sorted(contributions))))


def site_tags(key: bytes, site_id: str, values: UInt32, lanes: int) -> Tags:
    """tau of one site from its quantised vector uint32[d] (two's complement); O(1) extra memory."""
    tags = _inner(key, values, lanes, bits=32)
    add_tags(tags, _pad(key, site_id, lanes))
    return tags


def check_tags(
    key: bytes, total: UInt32, bits: int, survivors: Iterable[str], tags: Sequence[bytes], *, lanes: int
) -> None:
    """Accept a ring sum only with its tags.

    Args:
        key: K.
        total: uint32[d] below 2^bits, the announced sum; its centred lift is what was tagged.
        survivors: U3, whose pads are in the tags.
        tags: the announced sums of tau, 8 bytes each, little-endian.
        lanes: how many the manifest asks for; with 0 there is nothing to check.

    Raises:
        ProtocolError: E_TAG, blaming nobody.
    """
    expected = _inner(key, total, lanes, bits)
    for site in survivors:
        add_tags(expected, _pad(key, site, lanes))
    if not matches(b"".join(tags_to_bytes(expected)), b"".join(tags)):
        raise ProtocolError("E_TAG", NOBODY)


def add_tags(tags: Tags, more: Tags, sign: int = 1) -> None:
    """tags += sign * more, modulo 2^64, in place."""
    tags[:] = [(one + sign * other) & _MASK for one, other in zip(tags, more, strict=True)]


def mask_tags(tags: Tags, keys_add: Sequence[bytes], keys_subtract: Sequence[bytes]) -> None:
    """Add and subtract one mask word a lane for each mask key, modulo 2^64, in place.

    The keys are those of `privacy.secagg.masking.apply_masks`; another label makes the words unrelated to its masks.
    """
    for key in keys_add:
        add_tags(tags, _words(derive(key, b"", transcript("tag-mask")), len(tags)))
    for key in keys_subtract:
        add_tags(tags, _words(derive(key, b"", transcript("tag-mask")), len(tags)), -1)


def masked_tags(
    key: bytes, site_id: str, values: UInt32, lanes: int, keys_add: Sequence[bytes], keys_subtract: Sequence[bytes]
) -> npt.NDArray[np.uint8]:
    """What a site appends to its upload, uint8[8 * lanes]; `values` are not masked yet."""
    tags = site_tags(key, site_id, values, lanes)
    mask_tags(tags, keys_add, keys_subtract)
    return np.frombuffer(b"".join(tags_to_bytes(tags)), dtype=np.uint8)


def tags_to_bytes(tags: Tags) -> tuple[bytes, ...]:
    """One 8-byte little-endian string a lane."""
    return tuple(tag.to_bytes(LANE_BYTES, "little") for tag in tags)


def tags_from_bytes(data: bytes) -> Tags:
    """The inverse of `tags_to_bytes` on the joined strings."""
    return [int.from_bytes(data[at : at + LANE_BYTES], "little") for at in range(0, len(data), LANE_BYTES)]


def _inner(key: bytes, values: UInt32, lanes: int, bits: int) -> Tags:
    """sum_j r_lj q_j mod 2^64 for each lane l, with q the centred lift of `values` mod 2^bits."""
    streams = [_keystream(derive(key, b"", transcript("tag-coefficients", lane))) for lane in range(lanes)]
    out = [0] * lanes
    unused = 32 - bits
    scratch = bytearray(LANE_BYTES * _BLOCK + 15)  # update_into asks for one cipher block less a byte of slack
    lifted = np.empty(_BLOCK, dtype=np.int64)
    for start in range(0, values.size, _BLOCK):
        block = values[start : start + _BLOCK]
        signed = lifted[: block.size]
        np.right_shift((block << np.uint32(unused)).view(np.int32), unused, out=signed)  # keeps the sign
        zeros = memoryview(_ZEROS)[: LANE_BYTES * block.size]
        for lane, stream in enumerate(streams):
            stream.update_into(zeros, scratch)
            coefficients = np.frombuffer(scratch, dtype="<u8", count=block.size)
            out[lane] = (out[lane] + int(np.dot(coefficients, signed.view(np.uint64)))) & _MASK  # the dot wraps
    return out


def _pad(key: bytes, site_id: str, lanes: int) -> Tags:
    return _words(derive(key, b"", transcript("tag-pad", site_id)), lanes)


def _words(key: bytes, count: int) -> Tags:
    return tags_from_bytes(_keystream(key).update(bytes(LANE_BYTES * count)))


def _keystream(key: bytes) -> CipherContext:
    """AES-256-CTR from a zero counter; every key is derived for one stream."""
    return Cipher(algorithms.AES256(key), modes.CTR(bytes(16))).encryptor()
