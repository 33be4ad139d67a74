"""Bootstrap intervals of ratios: groups are resampled, differences are paired, the seed is fixed."""

from __future__ import annotations

import numpy as np
import pytest

from model import intervals
from model.intervals import ratio_difference, ratio_interval

GROUPS = [f"p{number % 40}" for number in range(120)]
RIGHT = np.random.default_rng(1).integers(0, 2, 120).tolist()
ONES = [1] * 120


def test_a_ratio_is_of_sums_and_not_a_mean_of_ratios() -> None:
    estimate, low, high = ratio_interval([1, 8], [1, 10], ["a", "b"])
    assert estimate == pytest.approx(9 / 11) and low == pytest.approx(0.8) and high == 1.0


def test_the_interval_of_a_mean_is_about_the_textbooks() -> None:
    estimate, low, high = ratio_interval(RIGHT, ONES, [str(number) for number in range(120)])
    half = 1.96 * np.sqrt(estimate * (1 - estimate) / 120)
    assert estimate == np.mean(RIGHT) and abs((high - low) / 2 - half) < 0.01


def test_the_same_answers_have_the_same_interval_however_the_draws_are_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = ratio_interval(RIGHT, ONES, GROUPS)
    assert whole == ratio_interval(RIGHT, ONES, GROUPS)
    monkeypatch.setattr(intervals, "_CELLS", 40 * 7)  # 7 draws at a time
    assert ratio_interval(RIGHT, ONES, GROUPS) == whole


def test_a_paired_difference_is_narrower_than_its_sides() -> None:
    better = [1 if number in (3, 50, 77) else right for number, right in enumerate(RIGHT)]
    estimate, low, high = ratio_difference((better, ONES), (RIGHT, ONES), GROUPS)
    _, left, right = ratio_interval(RIGHT, ONES, GROUPS)
    assert estimate == pytest.approx((sum(better) - sum(RIGHT)) / 120) and estimate > 0
    assert 0 <= low <= estimate <= high and high - low < 0.5 * (right - left)


def test_draws_without_a_denominator_are_left_out() -> None:
    estimate, low, high = ratio_interval([1.0, 0.0, 0.0], [1.0, 0.0, 0.0], ["a", "b", "c"])
    assert (estimate, low, high) == (1.0, 1.0, 1.0)


@pytest.mark.parametrize(
    ("numerators", "denominators", "groups"), [([], [], []), ([0.0], [0.0], ["a"]), ([1.0], [1.0], ["a", "b"])])
def test_what_has_no_interval(numerators: list[float], denominators: list[float], groups: list[str]) -> None:
    with pytest.raises(ValueError, match="interval needs"):
        ratio_interval(numerators, denominators, groups)
