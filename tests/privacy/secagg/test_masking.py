from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from privacy.secagg.masking import apply_masks, mask_and_pack
from privacy.secagg.quantize import pack, unpack

KEYS = [bytes([i] * 32) for i in range(1, 7)]


def mask(key, d):
    total = np.zeros(d, dtype=np.uint32)
    apply_masks(total, [key], [])
    return total


@pytest.mark.parametrize("d", [0, 1, 3, 65_535, 65_536, 65_537, 200_003])
def test_masks_cancel_whatever_the_order_and_length(d):
    start = np.arange(d, dtype=np.uint32)
    total = start.copy()
    apply_masks(total, KEYS[:3], KEYS[3:])
    assert d == 0 or not np.array_equal(total, start)
    apply_masks(total, KEYS[3:][::-1], [])
    apply_masks(total, [], KEYS[:3][::-1])
    np.testing.assert_array_equal(total, start)


@pytest.mark.parametrize("d", [5, 65_537, 131_073])
def test_mask_is_the_aes_counter_keystream_read_little_endian(d):
    """Against a one-shot keystream: NIST SP 800-38A counter mode from counter zero."""
    stream = Cipher(algorithms.AES256(KEYS[0]), modes.CTR(bytes(16))).encryptor().update(bytes(4 * d))
    np.testing.assert_array_equal(mask(KEYS[0], d), np.frombuffer(stream, dtype="<u4"))


def test_distinct_keys_give_distinct_masks():
    masks = {mask(key, 64).tobytes() for key in KEYS}
    assert len(masks) == len(KEYS)


@pytest.mark.parametrize("bits", [16, 24, 32])
def test_masks_are_uniform_over_the_whole_modulus(bits):
    """chi-square of the top byte and of the low byte, 255 degrees of freedom; mean 255, standard deviation 22.6."""
    values = unpack(pack(mask(KEYS[0], 2**18), bits), bits)
    for byte in (values >> np.uint32(bits - 8), values & np.uint32(255)):
        counts = np.bincount(byte.astype(np.int64), minlength=256)
        expected = values.size / 256
        chi2 = ((counts - expected) ** 2 / expected).sum()
        assert 255 - 5 * 22.6 < chi2 < 255 + 5 * 22.6
    assert values.max() > 0.999 * 2**bits


def test_a_masked_vector_is_uniform_and_unrelated_to_its_content():
    content = np.full(2**18, 12345, dtype=np.uint32)
    apply_masks(content, [KEYS[1]], [KEYS[2]])
    counts = np.bincount((content >> np.uint32(16) & np.uint32(255)).astype(np.int64), minlength=256)
    chi2 = ((counts - 1024) ** 2 / 1024).sum()
    assert 255 - 5 * 22.6 < chi2 < 255 + 5 * 22.6


def test_a_key_of_another_length_is_refused():
    with pytest.raises(ValueError, match="32 bytes"):
        apply_masks(np.zeros(1, np.uint32), [bytes(16)], [])


@pytest.mark.parametrize("bits", [16, 24, 32])
@pytest.mark.parametrize("d", [0, 1, 3, 65_536, 65_537, 200_003])
def test_masking_and_packing_in_one_pass_is_masking_then_packing(bits, d):
    values = np.random.default_rng(d).integers(0, 2**32, d, dtype=np.uint32)
    apart = values.copy()
    apply_masks(apart, KEYS[:2], KEYS[2:3])
    packed = mask_and_pack(values, KEYS[:2], KEYS[2:3], bits)
    np.testing.assert_array_equal(packed, pack(apart, bits))
    assert packed.flags.c_contiguous and (d == 0 or np.shares_memory(packed, values))


def test_masking_and_packing_takes_no_second_vector():
    """Peak extra memory of a site: quantising makes uint32[d], masking and packing stay inside it."""
    d = 1 << 20
    values = np.zeros(d, dtype=np.uint32)
    tracemalloc.start()
    try:
        packed = mask_and_pack(values, KEYS, [], 24)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert packed.size == 3 * d
    assert peak < 0.5 * values.nbytes  # blocks only; they do not grow with d
