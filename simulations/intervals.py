"""Confidence intervals that respect patients: the bootstrap of `model.intervals` over right and wrong answers."""

from __future__ import annotations

from collections.abc import Sequence

from model.intervals import Interval, ratio_difference, ratio_interval

__all__ = ["Interval", "mean_interval", "paired_interval"]


def mean_interval(correct: Sequence[int], patients: Sequence[str], level: float = 0.95) -> Interval:
    """Share of right answers and its interval, resampling patients."""
    return ratio_interval(correct, [1] * len(correct), patients, level)


def paired_interval(
    first: Sequence[int], second: Sequence[int], patients: Sequence[str], level: float = 0.95
) -> Interval:
    """Mean of `first` minus `second` on the same questions, resampling patients."""
    ones = [1] * len(first)
    return ratio_difference((first, ones), (second, ones), patients, level)
