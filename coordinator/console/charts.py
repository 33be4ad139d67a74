"""Line charts as geometry: a template draws them as SVG, with a table of the same numbers beside them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

__all__ = ["Bar", "Chart", "Line", "Tick", "line_chart", "step_bars"]

WIDTH, HEIGHT = 360, 200
_LEFT, _RIGHT, _TOP, _BOTTOM = 44, 10, 10, 30
_MOST_MARKS = 40  # points that get a mark of their own; more would be a smear
STYLES = 6


@dataclass(frozen=True)
class Tick:
    """Where an axis is labelled: pixel and text."""

    at: float
    text: str


@dataclass(frozen=True)
class Line:
    """One series: its name, its points as SVG wants them, and each mark's place and text."""

    name: str
    style: int
    points: str
    marks: list[tuple[float, float, str]]


@dataclass(frozen=True)
class Chart:
    """A chart: `rows` is its table, one row a round with a value or None for each line; `summary` says it in words."""

    key: str
    title: str
    unit: str
    lines: list[Line]
    x_ticks: list[Tick]
    y_ticks: list[Tick]
    stages: list[Tick]
    rows: list[tuple[int, list[float | None]]]
    summary: str
    width: int = WIDTH
    height: int = HEIGHT
    left: int = _LEFT
    right: int = WIDTH - _RIGHT
    top: int = _TOP
    bottom: int = HEIGHT - _BOTTOM


def line_chart(
    key: str, title: str, unit: str, series: Mapping[str, Sequence[tuple[int, float]]],
    stages: Sequence[tuple[int, str]] = (), *, share: bool = False,
) -> Chart | None:
    """A chart of values over rounds; None without a value.

    Args:
        key: a word of ours that makes the identifiers in the page.
        series: name -> (round, value), rounds ascending.
        stages: (first round, name) of each stage.
        share: the values are shares: the axis goes from 0 to 1.
    """
    series = {name: points for name, points in series.items() if points}
    if not series:
        return None
    numbers = sorted({number for points in series.values() for number, _ in points})
    values = [value for points in series.values() for _, value in points]
    low, high, marks = _axis(0.0, 1.0) if share else _axis(min(values), max(values))
    across = _scale(numbers[0], numbers[-1], _LEFT, WIDTH - _RIGHT)
    up = _scale(low, high, HEIGHT - _BOTTOM, _TOP)
    lines = []
    for place, (name, points) in enumerate(series.items()):
        drawn = [(across(number), up(min(max(value, low), high)), f"{name}, round {number}: {value:.4g}")
                 for number, value in points]
        lines.append(Line(name, place % STYLES, " ".join(f"{x:.1f},{y:.1f}" for x, y, _ in drawn),
                          drawn if len(drawn) <= _MOST_MARKS else drawn[-1:]))
    tables = {name: dict(points) for name, points in series.items()}
    return Chart(
        key, title, unit, lines, [Tick(across(number), str(number)) for number in _some(numbers)],
        [Tick(up(mark), f"{mark:.3g}") for mark in marks],
        [Tick(across(first), f"{name} from round {first}") for first, name in stages
         if numbers[0] < first <= numbers[-1]],
        [(number, [tables[name].get(number) for name in series]) for number in numbers], _summary(title, series))


def _summary(title: str, series: Mapping[str, Sequence[tuple[int, float]]]) -> str:
    parts = [f"{name} from {points[0][1]:.3g} in round {points[0][0]} to {points[-1][1]:.3g} in round {points[-1][0]}"
             for name, points in series.items()]
    return f"{title}: {'; '.join(parts)}."


def _scale(low: float, high: float, begin: float, end: float) -> _Scale:
    return _Scale(low, (end - begin) / (high - low) if high > low else 0.0, begin if high > low else (begin + end) / 2)


@dataclass(frozen=True)
class _Scale:
    """value -> pixel."""

    low: float
    factor: float
    begin: float

    def __call__(self, value: float) -> float:
        return self.begin + (value - self.low) * self.factor


def _axis(low: float, high: float) -> tuple[float, float, list[float]]:
    """Round limits around the values, and about four marks between them."""
    if not high > low:
        pad = abs(low) / 10 or 1.0
        low, high = low - pad, high + pad
    rough = (high - low) / 4
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor >= rough * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return first * step, last * step, [number * step for number in range(first, last + 1)]


def _some(numbers: Sequence[int], most: int = 7) -> list[int]:
    """Round numbers to label, the first included."""
    every = max(1, math.ceil(len(numbers) / most))
    return list(numbers[::every])


@dataclass(frozen=True)
class Bar:
    """A step's time: its name, seconds, start and width as shares of the round, sites asked and answered."""

    step: str
    seconds: float
    begin: float
    width: float
    asked: int
    answered: int


def step_bars(rows: Sequence[Mapping[str, float | int | str]]) -> list[Bar]:
    """Steps one after the other, in the order in which they were closed."""
    total = sum(float(row["seconds"]) for row in rows) or 1.0
    bars, before = [], 0.0
    for row in rows:
        seconds = float(row["seconds"])
        bars.append(Bar(str(row["step"]), seconds, before / total, seconds / total, int(row["asked"]),
                        int(row["answered"])))
        before += seconds
    return bars
