"""The utility study's tables, goals and plot, from its result files.

Intervals are 95 % Student t over seeds. A seed draws its own patients, test patients, base, draws and noise, so they
cover all of that; differences are paired by seed. With two or three seeds they are wide, and say so.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from scipy.stats import t as student

from simulations.studies.utility_design import ARMS, Arm, Cell

__all__ = ["Results", "facts_of", "goal_lines", "plot", "text_of"]

Results = Mapping[Cell, Mapping[str, Any]]
_HEAD = ("| arm | epsilon | sites | split | schedule | seeds | accuracy, % | loss | minus pooled DP, points | "
         "minus local noise, points |")
_WITHIN_POINTS, _WITHIN_LOSS, _ABOVE_LOCAL = 1.0, 1.0, 2.0


def _interval(values: Sequence[float]) -> tuple[float, float]:
    """(mean, half width of the 95 % interval); infinite for one value."""
    mean = sum(values) / len(values)
    if len(values) < 2:
        return mean, math.inf
    spread = math.sqrt(sum((value - mean) ** 2 for value in values) / (len(values) - 1))
    return mean, float(student.ppf(0.975, len(values) - 1)) * spread / math.sqrt(len(values))


def _rows(results: Results) -> dict[Cell, list[Cell]]:
    rows: dict[Cell, list[Cell]] = defaultdict(list)
    for cell in results:
        rows[cell.row].append(cell)
    return {row: sorted(cells, key=lambda cell: cell.seed) for row, cells in rows.items()}


def _difference(
    results: Results, first: Cell, second: Callable[[Cell], Cell], measure: Callable[[Mapping[str, Any]], float],
    relative: bool = False,
) -> tuple[float, float, int] | None:
    """(mean, half width, seeds) of `first` minus its partner, paired by seed; None where no pair is there."""
    pairs = [(measure(results[cell]), measure(results[second(cell)])) for cell in _rows(results).get(first, [])
             if second(cell) in results]
    if not pairs:
        return None
    return (*_interval([100 * (a - b) / (b if relative else 1.0) for a, b in pairs]), len(pairs))


def _pooled(cell: Cell) -> Cell:
    return replace(cell, arm="pooled-dp", sites=1, split="even")


def _local(cell: Cell) -> Cell:
    return replace(cell, arm="local")


def _accuracy(facts: Mapping[str, Any]) -> float:
    return float(facts["accuracy"])


def _loss(facts: Mapping[str, Any]) -> float:
    return float(facts["loss"])


def facts_of(results: Results) -> dict[str, Any]:
    """The table's rows and the paired differences as JSON values."""
    rows = []
    for row, cells in _rows(results).items():
        accuracy, width = _interval([100 * _accuracy(results[cell]) for cell in cells])
        loss, loss_width = _interval([_loss(results[cell]) for cell in cells])
        first = results[cells[0]]
        rows.append({
            "task": row.task, "arm": row.arm, "epsilon": row.epsilon, "sites": row.sites, "split": row.split,
            "schedule": row.schedule, "seeds": len(cells), "rate": first.get("rate"),
            **{name: first.get(name) for name in ("noise_multiplier", "epsilon_outside", "epsilon_alone")},
            "accuracy_points": accuracy, "accuracy_half_width": _json(width), "loss": loss,
            "loss_half_width": _json(loss_width),
            "minus_pooled_dp_points": _json(_difference(results, row, _pooled, _accuracy)),
            "minus_pooled_dp_loss_percent": _json(_difference(results, row, _pooled, _loss, relative=True)),
            "minus_local_points": _json(_difference(results, row, _local, _accuracy))})
    return {"rows": rows, "cpu_seconds": sum(facts["cpu_seconds"] for facts in results.values()), "runs": len(results)}


def _json(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_json(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def text_of(facts: Mapping[str, Any]) -> str:
    """Markdown: a table a task."""
    parts = []
    for task in dict.fromkeys(row["task"] for row in facts["rows"]):
        parts += [f"**{task}**", "", _HEAD, "|---" * _HEAD.count(" | ") + "|---|"]
        for row in (row for row in facts["rows"] if row["task"] == task):
            several = row["arm"] not in ("base", "pooled", "pooled-dp")
            parts.append(
                f"| {ARMS[row['arm']]} | {format(row['epsilon'], 'g') if row['epsilon'] else '-'} | "
                f"{row['sites'] if several else '-'} | {row['split'] if several else '-'} | {row['schedule']} | "
                f"{row['seeds']} | "
                f"{_with(row['accuracy_points'], row['accuracy_half_width'], '.1f')} | "
                f"{_with(row['loss'], row['loss_half_width'], '.4f')} | "
                f"{_gap(row['minus_pooled_dp_points']) if several else ''} | "
                f"{_gap(row['minus_local_points']) if row['arm'] in ('banded', 'distributed') else ''} |")
        parts.append("")
    return "\n".join(parts)


def _with(value: float, width: float | None, form: str) -> str:
    return format(value, form) + ("" if width is None else f" ± {width:{form}}")


def _gap(found: Sequence[float | None] | None) -> str:
    if found is None:
        return ""
    mean, width = found[0], found[1]
    return f"{mean:+.1f}" + ("" if width is None else f" ± {width:.1f}")


def goal_lines(results: Results) -> tuple[list[str], bool]:
    """A line a goal, and whether one is short; a goal with fewer than two seeds is not measured."""
    lines, short = [], False
    for epsilon in (1.0, 3.0, 8.0):
        row = Cell("reports", "distributed", -1, epsilon, 8)
        points = _difference(results, row, _pooled, _accuracy)
        loss = _difference(results, row, _pooled, _loss, relative=True)
        name = f"distributed-near-pooled-eps{epsilon:g}"
        if points is None or loss is None or points[2] < 2:
            lines.append(f"goal {name}: not measured (needs two seeds or more)")
            continue
        reach, reach_loss = abs(points[0]) + points[1], abs(loss[0]) + loss[1]
        ok = reach <= _WITHIN_POINTS or reach_loss <= _WITHIN_LOSS
        short |= not ok
        lines.append(f"goal {name}: {reach:.2f} <= {_WITHIN_POINTS:g} {'ok' if ok else 'short'}  (points; "
                     f"{reach_loss:.2f} % of the loss, either within 1)")
    gap = _difference(results, Cell("reports", "distributed", -1, 1.0, 8), _local, _accuracy)
    if gap is None or gap[2] < 2:
        lines.append("goal distributed-above-local-eps1: not measured (needs two seeds or more)")
    else:
        ok = gap[0] >= _ABOVE_LOCAL
        short |= not ok
        lines.append(f"goal distributed-above-local-eps1: {gap[0]:.2f} >= {_ABOVE_LOCAL:g} {'ok' if ok else 'short'}  "
                     f"(points, ± {gap[1]:.2f})")
    return lines, short


def plot(results: Results, path: Path) -> None:
    """Accuracy against epsilon of the report task's headline, one line an arm, with the rows without privacy."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    rows = _rows(results)
    figure, axes = pyplot.subplots(figsize=(6.4, 4.0), dpi=120)
    lines: tuple[tuple[Arm, int, str], ...] = (
        ("pooled-dp", 1, "o"), ("distributed", 8, "s"), ("local", 8, "^"), ("alone-dp", 8, "v"))
    flat: tuple[tuple[Arm, str], ...] = (("pooled", "--"), ("base", ":"))
    for arm, sites, mark in lines:
        points = [(epsilon, *_interval([100 * _accuracy(results[cell]) for cell in rows[row]]))
                  for epsilon in (1.0, 3.0, 8.0) if (row := Cell("reports", arm, -1, epsilon, sites)) in rows]
        if points:
            widths = [width if math.isfinite(width) else 0.0 for _, _, width in points]
            axes.errorbar([at for at, _, _ in points], [mean for _, mean, _ in points], yerr=widths, marker=mark,
                          capsize=3, label=ARMS[arm])
    for arm, style in flat:
        if (row := Cell("reports", arm, -1)) in rows:
            axes.axhline(_interval([100 * _accuracy(results[cell]) for cell in rows[row]])[0], linestyle=style,
                         color="grey", label=ARMS[arm])
    axes.set(xscale="log", xlabel="epsilon of each patient (log scale)", ylabel="is this study normal: accuracy, %",
             title="Eight hospitals, equal epsilon, 95 % over seeds")
    axes.minorticks_off()
    axes.set_xticks([1, 3, 8], ["1", "3", "8"])
    axes.legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(path)
    pyplot.close(figure)
