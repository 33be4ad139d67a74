"""Epsilon stays an upper bound at deltas near float64's rounding, and of a hostile schedule it is answered in time."""

from __future__ import annotations

import math
import time

import numpy as np
import pytest

from privacy.dp.accounting import ReleaseEvent, calibrate, epsilon, epsilon_rdp
from privacy.dp.loss_distribution import rounding

SMALL = [1e-8, 1e-9, 1e-10, 1e-11, 1e-12, 1e-13, 1e-14]


def gaussian_epsilon(mu: float, delta: float) -> float:
    """Balle and Wang, ICML 2018, theorem 8, by bisection in logarithms."""
    from scipy.stats import norm

    def spent(eps: float) -> float:
        return float(norm.sf(eps / mu - mu / 2) - math.exp(eps + norm.logcdf(-mu / 2 - eps / mu)))

    low, high = 0.0, 600.0
    for _ in range(80):
        middle = (low + high) / 2
        low, high = (middle, high) if spent(middle) > delta else (low, middle)
    return high


@pytest.mark.parametrize("delta", SMALL)
@pytest.mark.parametrize(
    "events",
    [
        [(100, 20000)], [(50, 20000)], [(100, 20000), (101, 3)], [(3, 10), (100, 20000)], [(400, 400000)],
        [(100, 20000), (101, 20000), (102, 20000), (103, 20000)], [(8, 20), (9, 30), (10, 50)], [(2, 1)],
    ],
)  # fmt: skip
def test_without_subsampling_it_is_never_below_the_closed_form(events, delta):
    mu = math.sqrt(sum(steps / sigma**2 for sigma, steps in events))
    found = epsilon([ReleaseEvent(1.0, float(sigma), steps) for sigma, steps in events], delta)
    assert gaussian_epsilon(mu, delta) - 1e-6 <= found <= 1.2 * gaussian_epsilon(mu, delta)


def long_double_epsilon(event: ReleaseEvent, delta: float) -> float:
    """The same distribution of one step, composed by transforms in long double."""
    from dp_accounting.pld import common
    from dp_accounting.pld import privacy_loss_distribution as pld
    from scipy import fft

    step = pld.from_gaussian_mechanism(
        event.noise_multiplier, sampling_prob=event.sampling_rate, value_discretization_interval=1e-3)
    worst = 0.0
    for one in (step._pmf_remove, step._pmf_add):
        dense = one.to_dense_pmf()
        probs = np.asarray(dense._probs, dtype=np.longdouble)
        low, high = common.compute_self_convolve_bounds(dense._probs, event.steps, 1e-15)
        size = fft.next_fast_len(max(high - low + 1, len(probs)))
        whole = np.real(fft.ifft(fft.fft(probs, size) ** event.steps))
        masses = np.roll(whole, -low)[: high - low + 1]
        losses = (dense._lower_loss * event.steps + low + np.arange(len(masses))) * 1e-3
        beyond = -math.expm1(event.steps * math.log1p(-dense._infinity_mass))
        lower, upper = 0.0, float(losses[-1])
        for _ in range(50):
            middle = (lower + upper) / 2
            tail = losses > middle
            spent = beyond - np.sum(masses[tail] * np.expm1((middle - losses[tail]).astype(np.longdouble)))
            lower, upper = (middle, upper) if spent > delta else (lower, middle)
        worst = max(worst, lower)
    return worst


@pytest.mark.skipif(np.finfo(np.longdouble).eps > 2e-19, reason="long double is no wider than double here")
@pytest.mark.parametrize("delta", [1e-9, 1e-11, 1e-13])
@pytest.mark.parametrize(
    "event",
    [
        ReleaseEvent(0.01, 1.0, 100000), ReleaseEvent(0.002, 0.5, 100000), ReleaseEvent(0.001, 0.7, 100000),
        ReleaseEvent(0.01, 1.0, 10000), ReleaseEvent(1.0, 100.0, 20000),
    ],
)  # fmt: skip
def test_with_subsampling_it_is_never_below_transforms_in_long_double(event, delta):
    exact = long_double_epsilon(event, delta)
    assert exact - 1e-6 <= epsilon([event], delta) <= 1.2 * exact


@pytest.mark.parametrize("delta", [1e-12, 1e-14])
def test_calibration_at_a_small_delta_meets_the_exact_target(delta):
    steps = 20000
    scale = calibrate([ReleaseEvent(1.0, 1.0, steps)], 8.0, delta)
    assert gaussian_epsilon(math.sqrt(steps) / scale, delta) <= 8.0
    assert epsilon([ReleaseEvent(1.0, scale, steps)], delta) <= 8.0


def test_at_ordinary_deltas_the_correction_does_not_show():
    from dp_accounting.pld import privacy_loss_distribution as pld

    for event, delta in ((ReleaseEvent(0.01, 0.7, 1000), 1e-5), (ReleaseEvent(0.001, 1.0, 100000), 1e-6)):
        step = pld.from_gaussian_mechanism(event.noise_multiplier, sampling_prob=event.sampling_rate,
                                           value_discretization_interval=1e-3)
        uncorrected = step.self_compose(event.steps).get_epsilon_for_delta(delta)
        assert uncorrected <= epsilon([event], delta) <= uncorrected * (1 + 1e-5)


def test_rounding_grows_with_steps_and_a_delta_below_it_is_answered_with_renyi():
    event = ReleaseEvent(1.0, 100.0, 20000)
    assert rounding([event, event]) == 2 * rounding([event]) > 20000 * 3e-17
    assert epsilon([event], 1e-14) == epsilon_rdp([event], 1e-14)


# ------------------------------------------------------------------ schedules that are made to be slow

HOSTILE = [
    [ReleaseEvent(1.0, 10000.0, 10**8)],
    [ReleaseEvent(1.0, 3000.0, 10**7)],
    [ReleaseEvent(1.0, 10000.0 + one, 10**7) for one in range(32)],
    [ReleaseEvent(0.01, 0.2 + one / 1000, 2000) for one in range(32)],
]


@pytest.mark.parametrize("events", HOSTILE)
def test_a_hostile_schedule_is_answered_in_seconds(events):
    began = time.process_time()
    found = epsilon(events, 1e-6)
    assert time.process_time() - began < 10 and math.isfinite(found)
    if all(event.sampling_rate == 1.0 for event in events):
        mu = math.sqrt(sum(event.steps / event.noise_multiplier**2 for event in events))
        assert gaussian_epsilon(mu, 1e-6) <= found


def test_a_schedule_of_a_million_steps_is_still_composed_tightly():
    event = ReleaseEvent(0.001, 1.0, 10**6)
    assert epsilon([event], 1e-6) < epsilon_rdp([event], 1e-6)
