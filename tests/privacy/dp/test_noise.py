"""The release: on the grid, of the right variance, new at every call, and only for a ClippedSum."""

from __future__ import annotations

import math

import numpy as np
import pytest

from privacy.dp.clipping import SLACK, ClippedSum
from privacy.dp.noise import GRID_BITS, grid_step, noisy_sum
from privacy.dp.params import DPParams
from privacy.entropy import Entropy, SystemEntropy


def clipped(values, bound=0.3) -> ClippedSum:
    return ClippedSum(np.asarray(values, np.float64), bound, 1, 0)


def test_the_variance_is_that_of_the_parameters():
    size, params = 50_000, DPParams(clip_norm=0.3, noise_multiplier=1.7, sampling_rate=0.1)
    centre = np.linspace(-1, 1, size)
    noise = noisy_sum(clipped(centre), params.noise_multiplier, SystemEntropy()) - centre
    statistic = (noise**2).sum() / params.noise_std**2
    assert abs(statistic - size) < 5 * math.sqrt(2 * size)  # chi-square with `size` degrees of freedom
    assert abs(noise.mean()) < 5 * params.noise_std / math.sqrt(size)
    assert abs(np.corrcoef(noise, centre)[0, 1]) < 5 / math.sqrt(size)


def test_every_release_has_new_noise():
    entropy, zero = SystemEntropy(), clipped(np.zeros(4000))
    first, second = noisy_sum(zero, 1.0, entropy), noisy_sum(zero, 1.0, entropy)
    assert (first != second).all()
    assert abs(np.corrcoef(first, second)[0, 1]) < 5 / math.sqrt(4000)


@pytest.mark.parametrize("bound", [0.3, 1.0, 7e-4])
def test_the_release_lies_on_the_public_grid(bound):
    step = grid_step(bound)
    values = np.random.default_rng(0).normal(size=1000) * bound
    released = noisy_sum(clipped(values, bound), 1.0, SystemEntropy())
    ticks = np.rint(released / step)
    assert np.array_equal(ticks * step, released)
    assert step == bound * 2.0**-GRID_BITS


def test_sum_and_noise_are_rounded_apart():
    """Rounding their sum instead would let the sum's low bits shift the noise's grid."""

    class Half(Entropy):
        def gaussian(self, n):
            return np.full(n, 0.4 * 2.0**-GRID_BITS)

    step = grid_step(1.0)
    released = noisy_sum(clipped([0.4 * step, 0.6 * step], 1.0), 1.0, Half(bytes(32), simulated=True))
    assert released.tolist() == [0.0, step]


def test_only_a_clipped_sum_is_released():
    with pytest.raises(TypeError):
        noisy_sum(np.zeros(3), 1.0, SystemEntropy())
    for multiplier in (0.0, -1.0, math.nan, math.inf):
        with pytest.raises(ValueError, match="noise_multiplier"):
            noisy_sum(clipped([0.0]), multiplier, SystemEntropy())
    with pytest.raises(ValueError, match="exceeds"):
        noisy_sum(clipped([1e9], 1.0), 1.0, SystemEntropy())


def test_the_grid_has_room_for_experts_of_the_large_model():
    assert math.ldexp(math.sqrt(88.5e6), -GRID_BITS) <= SLACK / 2


@pytest.mark.parametrize("length", [2 * 10**8, 1.2 * 10**8])
def test_a_vector_too_long_for_half_of_the_slack_is_refused(length):
    class Long(np.ndarray):
        @property
        def size(self):
            return int(length)

    value = clipped([0.0])
    object.__setattr__(value, "vector", value.vector.view(Long))
    with pytest.raises(ValueError, match="too long"):
        noisy_sum(value, 1.0, SystemEntropy())


def test_a_clipped_sum_shows_no_numbers_and_refuses_bad_ones():
    assert "vector" not in repr(clipped([0.25])) and "0.25" not in repr(clipped([0.25]))
    for vector, bound in (([math.nan], 1.0), ([0.0], 0.0), ([0.0], math.inf), ([[0.0]], 1.0)):
        with pytest.raises(ValueError):
            clipped(vector, bound)
    with pytest.raises(ValueError):
        ClippedSum(np.zeros(2, np.float32), 1.0, 0, 0)


@pytest.mark.parametrize(
    "values", [(0, 1, 0.1), (1, 0, 0.1), (1, 1, 0), (1, 1, 1.1), (math.inf, 1, 0.1), (1, math.nan, 0.1)]
)
def test_parameters_out_of_range_are_refused(values):
    with pytest.raises(ValueError):
        DPParams(*values)
