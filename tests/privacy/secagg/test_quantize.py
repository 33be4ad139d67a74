from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from privacy.secagg.params import BITS, RingParams, ring_params
from privacy.secagg.quantize import (
    QuantizedVector,
    dequantize_sum,
    fold,
    pack,
    packed_size,
    quantize,
    unpack,
)


@settings(max_examples=50)
@given(st.sampled_from(BITS), st.integers(1, 200), st.integers(1, 40), st.integers(0, 2**32 - 1))
def test_sum_of_quantised_vectors_is_within_the_bound(bits, n, d, seed):
    ring = ring_params(bits, 1.5, n)
    vectors = np.random.default_rng(seed).uniform(-1.5, 1.5, (n, d))
    total = sum(quantize(vector, ring).values.astype(np.int64) for vector in vectors).astype(np.uint32)
    error = np.abs(dequantize_sum(total & np.uint32(ring.modulus - 1), ring) - vectors.sum(axis=0))
    assert error.max() <= n * 0.5 / ring.scale + 1e-9


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("n", [1, 3, 64, 200])
def test_no_wrap_at_the_extremes(bits, n):
    ring = ring_params(bits, 3.7, n)
    for sign in (1.0, -1.0):
        one = quantize(np.full(3, sign * 1e9), ring).values  # saturates
        total = (n * one.astype(np.int64)).astype(np.uint32)
        np.testing.assert_allclose(dequantize_sum(total, ring), sign * n * 3.7, atol=n * 0.5 / ring.scale)


def test_rounds_to_nearest_and_saturates():
    ring = RingParams(24, 4.0, 2.0, 10)
    got = quantize(np.array([0.12, 0.13, -0.13, 5.0, -5.0]), ring).values.view(np.int32)
    assert got.tolist() == [0, 1, -1, 8, -8]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("place", [0, 70_000])
def test_non_finite_input_is_refused(bad, place):
    vector = np.zeros(70_001)
    vector[place] = bad
    with pytest.raises(ValueError, match="finite"):
        quantize(vector, ring_params(24, 1.0, 3))


def test_input_is_left_as_it_is_and_must_be_flat():
    ring = ring_params(24, 1.0, 3)
    vector = np.full(4, 7.0)
    quantize(vector, ring)
    assert (vector == 7.0).all()
    with pytest.raises(ValueError, match="flatten"):
        quantize(vector.reshape(2, 2), ring)


def test_a_vector_beyond_its_ring_cannot_be_made():
    ring = ring_params(24, 1.0, 3)
    for value in (ring.max_level + 1, -ring.max_level - 1):
        with pytest.raises(ValueError, match="bound"):
            QuantizedVector(np.array([value % 2**32], dtype=np.uint32), ring)
    for wrong in (np.zeros(3), np.zeros((2, 2), np.uint32), np.zeros(6, np.uint32)[::2]):
        with pytest.raises(ValueError, match="contiguous"):
            QuantizedVector(wrong, ring)


@given(st.sampled_from(BITS), st.lists(st.integers(0, 2**32 - 1), max_size=30))
def test_pack_and_unpack_are_inverse_modulo_the_ring(bits, numbers):
    values = np.array(numbers, dtype=np.uint32)
    packed = pack(values, bits)
    assert packed.dtype == np.uint8 and packed.size == packed_size(values.size, bits)
    np.testing.assert_array_equal(unpack(packed, bits), values & np.uint32(2**bits - 1))


def test_packed_form_is_little_endian():
    assert pack(np.array([0x04030201, 0xFF], dtype=np.uint32), 24).tolist() == [1, 2, 3, 255, 0, 0]


def test_unpack_refuses_a_broken_coordinate_and_other_types():
    for wrong in (np.zeros(4, np.uint8), np.zeros(3, np.uint32), np.zeros((1, 3), np.uint8)):
        with pytest.raises(ValueError, match="whole coordinates"):
            unpack(wrong, 24)
    with pytest.raises(ValueError, match="bits"):
        pack(np.zeros(1, np.uint32), 12)


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("d", [1, 65_536, 65_537])
def test_fold_adds_a_packed_vector_in_place(bits, d):
    numbers = np.random.default_rng(1)
    total, extra = (numbers.integers(0, 2**32, d, dtype=np.uint32) for _ in range(2))
    wanted = (total + extra) & np.uint32(2**bits - 1)
    fold(total, pack(extra, bits), bits)
    np.testing.assert_array_equal(total & np.uint32(2**bits - 1), wanted)
    with pytest.raises(ValueError, match="dimension"):
        fold(total, pack(extra, bits)[:-1], bits)


def test_stochastic_rounding_is_unbiased_and_never_leaves_the_ring(make_stream):
    ring = ring_params(16, 1.0, 8)
    size = 140_000  # more than two blocks
    for steps in (0.25, -0.25, 3.9, -1000.5, 1e-4):
        levels = quantize(np.full(size, steps / ring.scale), ring, rounding="stochastic",
                          entropy=make_stream(f"draws {steps}")).values.view(np.int32)  # fmt: skip
        assert set(np.unique(levels)) <= {math.floor(steps), math.ceil(steps)}
        share = steps - math.floor(steps)
        assert abs(levels.mean() - steps) <= 5 * math.sqrt(share * (1 - share) / size)
    extreme = np.array([1e9, 1.0, -1.0, -1e9, 0.0, 5 / ring.scale])
    levels = quantize(extreme, ring, rounding="stochastic", entropy=make_stream("edge")).values.view(np.int32)
    top = ring.max_level
    assert levels.tolist() == [top, top, -top, -top, 0, 5]  # whole levels are not drawn


def test_nearest_rounding_loses_what_stochastic_rounding_keeps(make_stream):
    ring = ring_params(16, 1.0, 8)
    small = np.full(10_000, 0.3 / ring.scale)
    assert not quantize(small, ring).values.any()
    assert quantize(small, ring, rounding="stochastic", entropy=make_stream("x")).values.mean() == pytest.approx(
        0.3, abs=0.03)


def test_a_rounding_without_its_random_source_is_refused(make_stream):
    ring = ring_params(16, 1.0, 8)
    for options in ({"rounding": "stochastic"}, {"entropy": make_stream("x")}, {"rounding": "up"},
                    {"rounding": "up", "entropy": make_stream("x")}):
        with pytest.raises(ValueError, match="rounding"):
            quantize(np.zeros(2), ring, **options)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("bits", BITS)
def test_blocks_are_rounded_as_one_coordinate_is(bits, dtype):
    """Against Python's own round (ties to even), across a block's edge, for a c that float32 cannot hold."""
    ring = ring_params(bits, 0.7, 5)
    vector = np.random.default_rng(2).uniform(-1.0, 1.0, 65_540).astype(dtype)
    vector[:4] = np.array([0.5, 1.5, -0.5, -2.5]) / ring.scale
    got = quantize(vector, ring).values.view(np.int32)
    picked = [0, 1, 2, 3, 65_535, 65_536, 65_539, *np.flatnonzero(np.abs(vector) > 0.7)[:5]]
    assert [got[i] for i in picked] == [round(ring.scale * min(max(float(vector[i]), -0.7), 0.7)) for i in picked]


def test_a_bound_is_kept_in_every_block():
    ring = ring_params(24, 1.0, 3)
    values = np.zeros(70_001, dtype=np.uint32)
    values[70_000] = ring.max_level + 1
    with pytest.raises(ValueError, match="bound"):
        QuantizedVector(values, ring)


def test_fold_refuses_what_it_would_have_to_copy():
    total = np.zeros(4, dtype=np.uint32)
    for wrong in (np.zeros(24, np.uint8)[::2], np.zeros(12, np.int8)):
        with pytest.raises(ValueError, match="contiguous uint8"):
            fold(total, wrong, 24)


@pytest.mark.parametrize("bits", BITS)
def test_an_empty_vector_packs_to_nothing(bits):
    empty = np.zeros(0, dtype=np.uint32)
    assert pack(empty, bits).size == 0 and unpack(pack(empty, bits), bits).size == 0
    assert quantize(np.zeros(0), ring_params(bits, 1.0, 3)).values.size == 0


@pytest.mark.parametrize("bits", [4, 8, 20, 64])
def test_another_width_is_refused_whichever_way_a_vector_goes(bits):
    for work in (
        lambda: pack(np.zeros(8, dtype=np.uint32), bits), lambda: unpack(np.zeros(8, dtype=np.uint8), bits),
        lambda: fold(np.zeros(64 // bits, dtype=np.uint32), np.zeros(8, dtype=np.uint8), bits),
    ):
        with pytest.raises(ValueError, match="bits must be one of"):
            work()
