"""Correlated noise of the utility study: what it costs, whom a step draws, and that the noise is C^-1 Z."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from privacy.dp.accounting import ReleaseEvent, epsilon
from privacy.dp.clipping import ClippedSum
from simulations.seeded import SeededEntropy
from simulations.studies.banded import _Banded, _Memory, coefficients, error, event_of, matched, response
from simulations.studies.utility_train import BANDS

STEPS, MOMENTUM, RATE, DELTA = 24, 0.5, 0.08, 1e-5


def made(memory: _Memory, column: tuple[float, ...], seed: int) -> _Banded:
    """A round's mechanism without a model."""
    one = object.__new__(_Banded)
    one._entropy = SeededEntropy(seed, "banded")
    one._task = SimpleNamespace(stage=SimpleNamespace(sampling_rate=RATE, noise_multiplier=1.5))  # type: ignore[assignment]
    one._memory, one._column = memory, column
    one._past = memory.noise.setdefault((3, 0), [])
    return one


def test_the_matrix_times_the_noise_is_independent_noise_of_the_multiplier() -> None:
    column, size, memory = coefficients(4, STEPS, MOMENTUM), 4000, _Memory()
    zero = ClippedSum(np.zeros(size), 2.0, 0, 0)
    released = [made(memory, column, number).release(zero) for number in range(12)]  # over twelve rounds of one step
    mixed = [sum(c * released[step - lag] for lag, c in enumerate(column[: step + 1])) for step in range(12)]
    correlation = np.corrcoef(np.stack(mixed))
    assert np.std(mixed) == pytest.approx(1.5 * 2.0, rel=0.02)
    assert np.abs(correlation - np.eye(12)).max() < 5 / size**0.5
    assert np.abs(np.corrcoef(np.stack(released)) - np.eye(12)).max() > 0.3  # what is released is correlated


def test_a_patient_is_drawn_by_one_step_in_so_many_bands_and_then_at_their_multiple_of_the_rate() -> None:
    memory, counts, patients = _Memory(), np.zeros(200), 200
    one = made(memory, coefficients(4, STEPS, MOMENTUM), 1)
    for step in range(4000):
        drawn = one.draw(patients)
        assert np.all(drawn % 4 == step % 4)
        counts[drawn] += 1
    assert counts.mean() / 4000 == pytest.approx(RATE, rel=0.02)


def test_columns_have_norm_one_and_more_bands_mean_less_error_for_the_same_multiplier() -> None:
    moved = response(STEPS, MOMENTUM)
    errors = [error(coefficients(bands, STEPS, MOMENTUM), moved) for bands in (1, 2, 4, 8)]
    assert errors == sorted(errors, reverse=True)
    assert errors[0] == pytest.approx(error([1.0], moved))
    for bands in (1, 2, 4, 8):
        assert np.linalg.norm(coefficients(bands, STEPS, MOMENTUM)) == pytest.approx(1.0)
    with pytest.raises(ValueError, match="between 1 and"):
        coefficients(25, STEPS, MOMENTUM)


def test_it_is_charged_as_fewer_steps_of_a_higher_rate() -> None:
    assert event_of(4, RATE, 48, 1.5) == ReleaseEvent(0.32, 1.5, 12)
    noise = matched(4, RATE, 48, 3.0, DELTA)
    assert epsilon([event_of(4, RATE, 48, noise)], DELTA) == pytest.approx(3.0, rel=2e-3)
    assert noise > matched(1, RATE, 48, 3.0, DELTA)
    with pytest.raises(ValueError, match="multiple"):
        event_of(5, RATE, 48)


def test_the_studys_bands_are_the_best_divisors_of_a_rounds_steps() -> None:
    moved = response(STEPS, MOMENTUM)
    for target, chosen in BANDS.items():
        errors = {bands: matched(bands, RATE, 48, target, DELTA) * error(coefficients(bands, STEPS, MOMENTUM), moved)
                  for bands in (1, 2, 4, 8)}
        assert min(errors, key=lambda bands: errors[bands]) == chosen, errors
