from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from privacy.secagg.params import BITS, RingParams, ring_params


@given(st.sampled_from(BITS), st.floats(1e-6, 1e6), st.integers(1, 200))
def test_scale_is_the_largest_power_of_two_that_cannot_wrap(bits, saturation, n):
    ring = ring_params(bits, saturation, n)
    assert math.frexp(ring.scale)[0] == 0.5
    assert n * (math.ceil(saturation * ring.scale) + 1) < 2 ** (bits - 1)
    with pytest.raises(ValueError, match="wrap"):
        RingParams(bits, 2 * ring.scale, saturation, n)


@pytest.mark.parametrize(("bits", "n", "resolution"), [(16, 8, 11), (16, 200, 7), (24, 50, 17), (32, 200, 23)])
def test_resolution_below_the_saturation_bound(bits, n, resolution):
    """Bits b - 1 - ceil(log2(n + 1)); a saturation of 1 leaves exactly that, or one more at a lucky n."""
    assert resolution <= math.log2(ring_params(bits, 1.0, n).scale) <= resolution + 1


@pytest.mark.parametrize(
    ("bits", "saturation", "n"), [(8, 1.0, 3), (24, 0.0, 3), (24, math.nan, 3), (24, math.inf, 3), (24, 1.0, 0)]
)
def test_bad_arguments_are_refused(bits, saturation, n):
    with pytest.raises(ValueError, match="give bits"):
        ring_params(bits, saturation, n)


def test_a_roster_too_large_for_the_ring_is_refused():
    with pytest.raises(ValueError, match="too large"):
        ring_params(16, 1.0, 10_000)


@pytest.mark.parametrize(
    ("scale", "saturation"), [(0.0, 1.0), (math.inf, 1.0), (1.0, math.nan), (1.0, -1.0), (1.0, math.inf)])
def test_a_ring_needs_positive_finite_values(scale, saturation):
    with pytest.raises(ValueError, match="positive and finite"):
        RingParams(24, scale, saturation, 3)


def test_a_ring_needs_a_summand():
    with pytest.raises(ValueError, match="positive and finite"):
        RingParams(24, 1.0, 1.0, 0)


def test_a_level_beyond_every_float_is_refused_like_any_other():
    with pytest.raises(ValueError, match="wrap"):
        RingParams(24, 1e200, 1e200, 3)


def test_a_ring_of_another_width_is_refused():
    with pytest.raises(ValueError, match="bits must be"):
        RingParams(20, 1.0, 1.0, 3)
