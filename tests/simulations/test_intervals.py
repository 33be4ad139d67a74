"""The bootstrap resamples patients, not questions."""

from __future__ import annotations

import numpy as np

from simulations.intervals import mean_interval, paired_interval


def test_questions_of_one_patient_do_not_narrow_the_interval() -> None:
    generator = np.random.default_rng(0)
    patients = [f"p{number}" for number in range(40)]
    single = generator.integers(0, 2, size=40)
    _, low, high = mean_interval(single.tolist(), patients)
    tenfold = np.repeat(single, 10).tolist()
    _, low10, high10 = mean_interval(tenfold, np.repeat(patients, 10).tolist())
    assert abs((high10 - low10) - (high - low)) < 0.02
    _, wrong_low, wrong_high = mean_interval(tenfold, [str(number) for number in range(400)])
    assert wrong_high - wrong_low < 0.6 * (high - low)


def test_a_paired_difference_of_equal_rows_is_zero_with_no_width() -> None:
    assert paired_interval([1, 0, 1], [1, 0, 1], ["a", "b", "c"]) == (0.0, 0.0, 0.0)


def test_the_estimate_is_the_plain_mean() -> None:
    estimate, low, high = mean_interval([1, 1, 0, 1], ["a", "a", "b", "c"])
    assert estimate == 0.75 and low <= estimate <= high
