"""The goals of `benchmarks.dp_step`, judged on what was measured. Needs no torch."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from benchmarks._grid import Family
from benchmarks._ratios import Goal

if TYPE_CHECKING:
    from benchmarks._exactness import Deviation
    from benchmarks._measure import ArmResult, PointResult

__all__ = ["goals_of"]

OURS, PACKED = "ours", "ours packed"
_RANK_SHARE = 0.25  # memory counts where r/T is at most this

Pick = Callable[["PointResult"], float | None]


def goals_of(results: Sequence[PointResult], deviations: Sequence[Deviation], *, quick: bool) -> list[Goal]:
    """Every goal in order. With `quick` only a part of each grid was measured: medians decide nothing then."""
    small = [r for r in results if r.point.rank / r.point.length <= _RANK_SHARE]
    return [
        _over("attention-time-median", 1.03, results, "attention", _median, statistics.median, quick, decides=False),
        _over("attention-time-interval", 1.06, results, "attention", _low, max, quick),
        _over("attention-memory", 1.10, small, "attention", _memory, max, quick),
        _over("experts-time-median", 1.03, results, "experts", _median, statistics.median, quick, decides=False),
        _over("experts-memory", 1.05, results, "experts", _memory, max, quick),
        _over("packed-time", 0.55, results, "packed", _packed, max, quick, decides=False),
        _error("error-float32", 1e-5, deviations, "float32", quick),
        _error("error-float64", 1e-10, deviations, "float64", quick),
    ]


def _over(name: str, most: float, results: Sequence[PointResult], family: Family, pick: Pick,
          summary: Callable[[list[float]], float], quick: bool, *, decides: bool = True) -> Goal:
    """A goal on one number of every point of a family."""
    values = [pick(result) for result in results if result.point.family == family]
    found = [value for value in values if value is not None]
    if not found:
        return Goal(name, most, reason=f"no {family} point could be measured")
    missing = len(values) - len(found)
    partial = f"quick, {len(found)} point of the grid" if quick else ""
    if missing:
        partial = f"{missing} of {len(values)} points could not be measured"
    return Goal(name, most, float(summary(found)), partial=partial, decides=decides or not quick)


def _error(name: str, most: float, deviations: Sequence[Deviation], dtype: str, quick: bool) -> Goal:
    values = [deviation.worst for deviation in deviations if deviation.dtype == dtype]
    if not values:
        return Goal(name, most, reason="no point was compared with the float64 loop")
    # max() would pass over a NaN that does not come first.
    worst = float("nan") if any(value != value for value in values) else max(values)
    return Goal(name, most, worst, partial="quick, a part of the layouts" if quick else "")


def _arm(result: PointResult, name: str = OURS) -> ArmResult | None:
    return result.arms.get(name)


def _median(result: PointResult) -> float | None:
    arm = _arm(result)
    return arm.ratio.median if arm and arm.ratio else None


def _low(result: PointResult) -> float | None:
    arm = _arm(result)
    return arm.ratio.low if arm and arm.ratio else None


def _memory(result: PointResult) -> float | None:
    arm = _arm(result)
    return arm.memory_ratio if arm else None


def _packed(result: PointResult) -> float | None:
    arm = _arm(result, PACKED)
    return arm.ratio.median if arm and arm.ratio else None
