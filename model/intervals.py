"""Confidence intervals that respect groups: the bootstrap draws whole patients, images or videos, because the
questions about one of them are alike.

Percentile bootstrap (Efron and Tibshirani, An Introduction to the Bootstrap, 1993, section 13.3) of a ratio of sums:
a mean is one with denominators 1, and F1 = 2 TP / (2 TP + FP + FN) is another. The seed is fixed, so that the same
answers always have the same interval, and the draws of a difference are the same for both sides (paired).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["DRAWS", "Interval", "ratio_difference", "ratio_interval"]

Interval = tuple[float, float, float]  # estimate, low, high
DRAWS = 4000
_CELLS = 1 << 22  # of one block of draws: 32 MiB of indices

Terms = tuple[Sequence[float], Sequence[float]]  # numerators, denominators


def ratio_interval(
    numerators: Sequence[float], denominators: Sequence[float], groups: Sequence[str], level: float = 0.95
) -> Interval:
    """sum(numerators) / sum(denominators) and its interval, resampling groups.

    Draws without any denominator are left out. Raises ValueError for no items, unequal lengths, or a sum of 0.
    """
    return _interval([(numerators, denominators)], [1.0], groups, level)


def ratio_difference(first: Terms, second: Terms, groups: Sequence[str], level: float = 0.95) -> Interval:
    """The ratio of `first` minus that of `second` over the same items, resampling groups; raises as `ratio_interval`.

    Each is (numerators, denominators), in the order of `groups`.
    """
    return _interval([first, second], [1.0, -1.0], groups, level)


def _interval(sides: Sequence[Terms], signs: Sequence[float], groups: Sequence[str], level: float) -> Interval:
    names, owner = np.unique(np.asarray(groups), return_inverse=True)
    tables = [[_sums(values, owner, len(names)) for values in side] for side in sides]
    if not len(names) or any(not denominators.sum() for _, denominators in tables):
        raise ValueError("an interval needs at least one item that counts for the measure")
    estimate = sum(sign * n.sum() / d.sum() for sign, (n, d) in zip(signs, tables, strict=True))
    drawn = _drawn(tables, signs, len(names))
    drawn = drawn[np.isfinite(drawn)]
    tail = 100 * (1 - level) / 2
    low, high = np.percentile(drawn, [tail, 100 - tail])
    return float(estimate), float(low), float(high)


def _sums(values: Sequence[float], owner: NDArray[Any], count: int) -> NDArray[np.float64]:
    if len(values) != len(owner):
        raise ValueError("an interval needs one numerator, denominator and group for each item")
    return np.bincount(owner, weights=np.asarray(values, dtype=np.float64), minlength=count).astype(np.float64)


def _drawn(tables: Sequence[Sequence[NDArray[np.float64]]], signs: Sequence[float], count: int) -> NDArray[np.float64]:
    """float64 (DRAWS,): the measure on each resampled set of groups, NaN where nothing counted."""
    rng, parts = np.random.default_rng(0), []
    rows = max(1, _CELLS // count)
    for start in range(0, DRAWS, rows):
        draws = rng.integers(0, count, size=(min(rows, DRAWS - start), count))
        with np.errstate(invalid="ignore", divide="ignore"):
            parts.append(sum(sign * n[draws].sum(axis=1) / d[draws].sum(axis=1)
                             for sign, (n, d) in zip(signs, tables, strict=True)))
    return np.concatenate(parts)
