"""Medians of interleaved ratios, their intervals, and the goals' lines. Pure: no torch, no clock."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["Goal", "Ratio", "exit_code", "goal_line", "ratio_of"]


@dataclass(frozen=True)
class Ratio:
    """Median of the ratios of one arm to the non-private step of the same round, with its 95 % interval."""

    median: float
    low: float
    high: float
    rounds: int


def ratio_of(values: Sequence[float]) -> Ratio:
    """The median of `values` and the interval between two order statistics that covers the true median.

    Its coverage is at least 95 % whatever the distribution (David and Nagaraja, Order Statistics, section 7.1);
    with fewer than six values no pair reaches 95 % and the interval is the whole range. Raises ValueError when empty.
    """
    if not values:
        raise ValueError("a ratio needs at least one round")
    ordered, n = sorted(values), len(values)
    # The widest margin k with P(Binomial(n, 1/2) < k) <= 2.5 %: the interval is [x_(k), x_(n+1-k)].
    below, margin = 0.0, 0
    for k in range(n // 2):
        below += math.comb(n, k) / 2**n
        if below > 0.025:
            break
        margin = k + 1
    margin = max(margin, 1)
    return Ratio(statistics.median(ordered), ordered[margin - 1], ordered[n - margin], n)


@dataclass(frozen=True)
class Goal:
    """A goal: its name and the most its value may be.

    value: None where it could not be measured. reason: why not. partial: text saying that only a part of what the goal
    speaks of was measured; such a goal can be found short (when `decides`: one bad point is enough) but never ok.
    """

    name: str
    most: float
    value: float | None = None
    reason: str = ""
    partial: str = ""
    decides: bool = True

    @property
    def is_short(self) -> bool:
        """Whether what was measured breaks the goal."""
        if self.value is None or (self.partial and not self.decides):
            return False
        return not self.value <= self.most


def goal_line(goal: Goal) -> str:
    """`goal NAME: VALUE <= TARGET ok|short`, or `goal NAME: not measured (reason)`."""
    if goal.value is None:
        return f"goal {goal.name}: not measured ({goal.reason})"
    shown = f"{goal.value:.3f}" if goal.value >= 1e-3 else f"{goal.value:.1e}"
    if goal.is_short:
        return f"goal {goal.name}: {shown} <= {goal.most:g} short"
    if goal.partial:
        return f"goal {goal.name}: not measured ({goal.partial}: {shown}, target {goal.most:g})"
    return f"goal {goal.name}: {shown} <= {goal.most:g} ok"


def exit_code(goals: Sequence[Goal]) -> int:
    """1 when a goal is short, else 0."""
    return int(any(goal.is_short for goal in goals))
