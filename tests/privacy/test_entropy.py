"""The random source: known answers, distribution, forks, and what it refuses."""

from __future__ import annotations

import copy
import os
import pickle

import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from privacy.entropy import Entropy, SystemEntropy

KEY = bytes(range(32))


def keystream(key: bytes, n: int) -> bytes:
    return Cipher(algorithms.AES(key), modes.CTR(bytes(16))).encryptor().update(bytes(n))


@pytest.mark.parametrize("n", [0, 1, 31, 1 << 18, (1 << 18) + 7, 3 * (1 << 18) - 5])
def test_bytes_are_the_counter_mode_stream_after_the_next_key(n):
    source = Entropy(KEY, simulated=True)
    stream = keystream(KEY, 32 + n + 10)
    assert source.random_bytes(n) == stream[32 : 32 + n]
    assert source.random_bytes(10) == keystream(stream[:32], 42)[32:]


def test_the_key_in_use_is_never_given_out():
    source = Entropy(KEY, simulated=True)
    given = source.random_bytes(256)
    assert source._key not in given and source._key != KEY


def test_uniform64_is_little_endian_on_every_machine():
    source, twin = Entropy(KEY, simulated=True), Entropy(KEY, simulated=True)
    assert source.uniform64(3).tobytes() == twin.random_bytes(24)
    assert source.uniform64(3).dtype == np.uint64


def test_gaussian_is_standard_normal():
    n = 200_000
    values = SystemEntropy().gaussian(n)
    cuts = np.array([-2.0, -1.0, -0.5, 0.0, 0.5, 1.0, 2.0])
    inner = np.array([0.0227501, 0.1359051, 0.1498823, 0.1914625, 0.1914625, 0.1498823, 0.1359051, 0.0227501])
    counts = np.bincount(np.digitize(values, cuts), minlength=8)
    chi_square = (((counts - n * inner) ** 2) / (n * inner)).sum()
    assert chi_square < 36.0  # 7 degrees of freedom, p = 7e-6
    assert abs(values.mean()) < 5 / np.sqrt(n)
    assert abs(values.var() - 1) < 5 * np.sqrt(2 / n)
    assert np.abs(values).max() <= np.sqrt(128 * np.log(2))


def test_gaussian_halves_and_neighbours_are_uncorrelated():
    values = SystemEntropy().gaussian(100_000)
    half = values.size // 2
    for left, right in ((values[:half], values[half:]), (values[:-1], values[1:])):
        for power in (1, 2):
            assert abs(np.corrcoef(left**power, right**power)[0, 1]) < 5 / np.sqrt(len(left))


@pytest.mark.parametrize("n", [0, 1, 2, 7])
def test_gaussian_lengths(n):
    assert SystemEntropy().gaussian(n).shape == (n,)


def test_the_smallest_and_largest_bits_stay_finite():
    class Fixed(Entropy):
        def uniform64(self, n):
            return np.array([0, 2**64 - 1, 0, 2**64 - 1], np.uint64)

    values = Fixed(KEY, simulated=True).gaussian(4)
    assert np.isfinite(values).all()
    assert values[0] == pytest.approx(np.sqrt(128 * np.log(2)))


def test_system_sources_differ_and_take_no_seed():
    assert SystemEntropy().random_bytes(32) != SystemEntropy().random_bytes(32)
    assert SystemEntropy().simulated is False
    with pytest.raises(TypeError):
        SystemEntropy(KEY)
    with pytest.raises(AttributeError):
        SystemEntropy().simulated = False


def test_a_forked_child_has_another_stream():
    source = SystemEntropy()
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writer, source.random_bytes(32))
        os._exit(0)
    os.waitpid(child, 0)
    assert os.read(reader, 32) != source.random_bytes(32)
    os.close(reader)
    os.close(writer)


def test_a_source_cannot_be_copied():
    for source in (SystemEntropy(), Entropy(KEY, simulated=True)):
        for duplicate in (copy.copy, copy.deepcopy, pickle.dumps):
            with pytest.raises(TypeError, match="copied"):
                duplicate(source)


def test_bad_arguments_are_refused():
    with pytest.raises(ValueError, match="32 bytes"):
        Entropy(KEY[:31], simulated=True)
    with pytest.raises(ValueError, match="negative"):
        SystemEntropy().random_bytes(-1)
