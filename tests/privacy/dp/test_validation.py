"""One patient moves an evaluation by at most the bound, and the noise is the one that is charged."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from privacy.dp.clipping import SLACK
from privacy.dp.validation import patient_vectors, released, validation_sum
from privacy.entropy import Entropy
from privacy.gates import UNIT

LOSSES = st.lists(st.one_of(st.floats(width=64), st.floats(0, 8)), max_size=30)


@given(LOSSES, st.one_of(st.floats(width=64), st.floats(0, 8)), st.floats(1e-3, 100))
def test_adding_or_removing_any_one_patient_moves_the_sum_by_at_most_the_bound(
    others: list[float], one: float, loss_cap: float
) -> None:
    """Whatever its loss is: not a number, infinite, negative or huge."""
    without = validation_sum(np.array(others, dtype=float), loss_cap)
    with_one = validation_sum(np.array([*others, one], dtype=float), loss_cap)
    moved = float(np.linalg.norm(with_one.vector - without.vector))
    assert moved <= with_one.l2_bound * (1 - SLACK) == without.l2_bound * (1 - SLACK)
    assert float(np.linalg.norm(patient_vectors(np.array([one]), loss_cap))) <= 1 - SLACK


def test_a_loss_that_is_not_finite_counts_as_the_largest_and_none_is_lost() -> None:
    for loss in (math.nan, math.inf, 1e300):
        assert (patient_vectors(np.array([loss]), 4.0) == UNIT).all()
    assert (patient_vectors(np.array([-math.inf, -1.0]), 4.0)[:, 0] == [UNIT, -UNIT]).all()
    assert validation_sum(np.array([math.nan, 1.0]), 4.0).num_nonfinite_local == 1
    assert (validation_sum(np.zeros(0), 4.0).vector == 0).all()


@pytest.mark.parametrize("noise_multiplier", [0.5, 3.0])
def test_the_noise_has_the_deviation_that_the_ledger_is_charged_for(noise_multiplier: float) -> None:
    entropy = Entropy(bytes(32), simulated=True)
    total = validation_sum(np.array([0.5, 3.0]), 4.0)
    draws = np.array([released(total, noise_multiplier, entropy) for _ in range(20_000)])
    assert draws.mean(axis=0) == pytest.approx(total.vector, abs=4 * noise_multiplier / math.sqrt(len(draws)))
    assert draws.std(axis=0) == pytest.approx(np.full(2, noise_multiplier), rel=0.03)  # of a bound of 1
    assert abs(np.corrcoef(draws.T)[0, 1]) < 0.03
