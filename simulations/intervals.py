"""Confidence intervals that respect patients: the bootstrap draws whole patients, because their questions are alike.

Percentile bootstrap (Efron and Tibshirani, An Introduction to the Bootstrap, 1993, section 13.3).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

__all__ = ["Interval", "mean_interval", "paired_interval"]

Interval = tuple[float, float, float]  # estimate, low, high
DRAWS = 4000


def mean_interval(correct: Sequence[int], patients: Sequence[str], level: float = 0.95) -> Interval:
    """Share of right answers and its interval, resampling patients."""
    return _interval(np.asarray(correct, dtype=float), patients, level)


def paired_interval(
    first: Sequence[int], second: Sequence[int], patients: Sequence[str], level: float = 0.95
) -> Interval:
    """Mean of `first` minus `second` on the same questions, resampling patients."""
    return _interval(np.asarray(first, dtype=float) - np.asarray(second, dtype=float), patients, level)


def _interval(values: npt.NDArray[np.float64], patients: Sequence[str], level: float) -> Interval:
    names, owner = np.unique(np.asarray(patients), return_inverse=True)
    sums = np.bincount(owner, weights=values, minlength=len(names))
    counts = np.bincount(owner, minlength=len(names))
    draws = np.random.default_rng(0).integers(0, len(names), size=(DRAWS, len(names)))
    means = sums[draws].sum(axis=1) / counts[draws].sum(axis=1)
    tail = 100 * (1 - level) / 2
    low, high = np.percentile(means, [tail, 100 - tail])
    return float(values.mean()), float(low), float(high)
