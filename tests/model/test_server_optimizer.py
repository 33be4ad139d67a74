"""From the sites' weighted sum to the next adapter, against a straightforward computation."""

from __future__ import annotations

import numpy as np
import pytest

from model.server_optimizer import NonFiniteUpdateError, ServerOptimizer, initial_velocity, moving_average

ADAPTER = np.array([1.0, 2.0, 3.0, 4.0, 5.0], dtype=np.float32)
INDICES = np.array([1, 3], dtype=np.int64)
SUM = np.array([0.5, -1.0])


def test_plain_averaging_adds_the_weighted_mean_to_the_covered_coordinates() -> None:
    adapter, velocity = ServerOptimizer().step(ADAPTER, initial_velocity(5), INDICES, SUM, 0.5)
    assert adapter.dtype == np.float32 and velocity.dtype == np.float64
    assert adapter.tolist() == [1.0, 3.0, 3.0, 2.0, 5.0]
    assert velocity.tolist() == [0.0, 1.0, 0.0, -2.0, 0.0]


def test_the_mean_is_over_the_sites_in_the_sum_not_over_the_roster() -> None:
    updates, weights = np.array([[2.0, 4.0], [4.0, 8.0], [9.0, 9.0]]), np.array([0.2, 0.3, 0.5])
    survivors = (weights[:2, None] * updates[:2]).sum(axis=0)
    adapter, _ = ServerOptimizer().step(ADAPTER, initial_velocity(5), INDICES, survivors, float(weights[:2].sum()))
    expected = ADAPTER[INDICES] + np.average(updates[:2], axis=0, weights=weights[:2])
    np.testing.assert_allclose(adapter[INDICES], expected, rtol=1e-6)


def test_momentum_follows_fedavgm_and_the_other_factors_momentum_waits() -> None:
    optimizer = ServerOptimizer(learning_rate=0.5, momentum=0.9)
    adapter, velocity = optimizer.step(ADAPTER, initial_velocity(5), INDICES, SUM, 1.0)
    other = np.array([0, 2], dtype=np.int64)
    adapter, velocity = optimizer.step(adapter, velocity, other, np.array([1.0, 1.0]), 1.0)
    assert velocity[INDICES].tolist() == SUM.tolist()  # untouched by the round of the other factor
    adapter, velocity = optimizer.step(adapter, velocity, INDICES, SUM, 1.0)
    np.testing.assert_allclose(velocity[INDICES], 1.9 * SUM)
    np.testing.assert_allclose(adapter[INDICES], ADAPTER[INDICES] + 0.5 * (SUM + 1.9 * SUM), rtol=1e-6)


def test_inputs_are_left_alone() -> None:
    adapter, velocity, total = ADAPTER.copy(), np.ones(5), SUM.copy()
    ServerOptimizer(momentum=0.5).step(adapter, velocity, INDICES, total, 2.0)
    assert adapter.tolist() == ADAPTER.tolist() and velocity.tolist() == [1.0] * 5 and total.tolist() == SUM.tolist()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_sum_that_is_not_finite_stops_the_run(bad: float) -> None:
    with pytest.raises(NonFiniteUpdateError, match="not finite"):
        ServerOptimizer().step(ADAPTER, initial_velocity(5), INDICES, np.array([bad, 0.0]), 1.0)


@pytest.mark.parametrize("weight", [0.0, -1.0, float("nan")])
def test_a_sum_of_no_weight_stops_the_run(weight: float) -> None:
    with pytest.raises(NonFiniteUpdateError):
        ServerOptimizer().step(ADAPTER, initial_velocity(5), INDICES, SUM, weight)


def test_an_adapter_that_overflows_float32_stops_the_run() -> None:
    with pytest.raises(NonFiniteUpdateError, match="updated adapter"), np.errstate(over="ignore"):
        ServerOptimizer().step(ADAPTER, initial_velocity(5), INDICES, np.array([1e39, 0.0]), 1.0)


def test_the_average_is_the_plain_mean_at_first_and_forgets_later() -> None:
    average = np.zeros(1)
    for rounds, value in enumerate([2.0, 4.0]):
        average = moving_average(average, np.array([value], np.float32), rounds, 0.7)
    assert average == 3.0
    for rounds in range(2, 40):
        average = moving_average(average, np.array([10.0], np.float32), rounds, 0.7)
    assert abs(average[0] - 10.0) < 1e-4


def test_no_decay_exports_the_last_adapter() -> None:
    assert moving_average(np.array([5.0]), np.array([1.0], np.float32), 9, 0.0) == 1.0
