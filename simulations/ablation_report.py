"""The result of an ablation: `report.json`, `ablation.md`, a plot, and the table on the screen."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from configs.ablation import AblationConfig
from model.intervals import Interval
from simulations.ablation import FULL, Variant
from simulations.intervals import mean_interval, paired_interval
from simulations.report_text import KIND_TITLES, NOT_PRIVATE, percent

__all__ = ["ablation_facts", "table_text", "write_ablation"]

Results = Mapping[int, Mapping[str, Mapping[str, Any]]]  # seed -> row -> arm.json
_INKS = {"normal": "#0b6e99", "impression": "#b08900", "alike": "#c8553d"}


def ablation_facts(config: AblationConfig, rows: Sequence[Variant], results: Results) -> dict[str, Any]:
    """Everything that the table and the plot show.

    Accuracies and differences to `full` are over the questions of all seeds, patients of a seed resampled together and
    apart from those of other seeds (95 %); `seeds` has each seed's accuracy by itself.
    """
    return {"name": config.name, "config": asdict(config), "not_private": NOT_PRIVATE,
            "rows": [_row(row, results) for row in rows]}


def _row(row: Variant, results: Results) -> dict[str, Any]:
    mine = {seed: arms[row.name] for seed, arms in results.items()}
    kinds = list(next(iter(mine.values()))["test"])
    accuracy, difference, seeds = {}, {}, {}
    for kind in kinds:
        correct, patients = _pooled(mine, kind)
        accuracy[kind] = mean_interval(correct, patients)
        seeds[kind] = [float(sum(arm["test"][kind]["correct"]) / len(arm["test"][kind]["correct"]))
                       for arm in mine.values()]
        if row.name != FULL:
            whole, _ = _pooled({seed: arms[FULL] for seed, arms in results.items()}, kind)
            difference[kind] = paired_interval(correct, whole, patients)
    spent = [site["epsilon"] for arm in mine.values() for site in arm.get("privacy", {}).values()]
    return {"name": row.name, "dropped": row.dropped, "accuracy": accuracy, "difference": difference, "seeds": seeds,
            "epsilon": max(spent, default=None), "stages": [stage.name for stage in row.stages],
            "seconds": sum(arm["seconds"] for arm in mine.values()) / len(mine)}


def _pooled(arms: Mapping[int, Mapping[str, Any]], kind: str) -> tuple[list[int], list[str]]:
    """Right or wrong for every question of every seed, and whose question it is."""
    tests = [(seed, arm["test"][kind]) for seed, arm in arms.items()]
    return ([value for _, test in tests for value in test["correct"]],
            [f"{seed}|{patient}" for seed, test in tests for patient in test["patients"]])


def write_ablation(out: Path, facts: Mapping[str, Any]) -> None:
    """`report.json`, `ablation.md` and `ablation.png` under `out`, each whole."""
    _write(out / "report.json", (json.dumps(facts, indent=1) + "\n").encode())
    _write(out / "ablation.md", table_text(facts).encode())
    _write(out / "ablation.png", _plot(facts))


def table_text(facts: Mapping[str, Any]) -> str:
    """One Markdown table, and what its numbers are."""
    kinds = _kinds(facts)
    head = ["without", *(KIND_TITLES[kind] for kind in kinds),
            *(f"difference: {KIND_TITLES[kind]}" for kind in kinds), "epsilon", "seconds"]
    lines = [f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
    for row in facts["rows"]:
        cells = [row["dropped"], *(percent(row["accuracy"][kind]) for kind in kinds),
                 *(_points(row["difference"].get(kind)) for kind in kinds),
                 "-" if row["epsilon"] is None else f"{row['epsilon']:.2f}", f"{row['seconds']:.0f}"]
        lines.append(f"| {' | '.join(cells)} |")
    seeds = ", ".join(map(str, facts["config"]["seeds"]))
    remarks = [
        f"Accuracy on patients that no training saw, seeds {seeds} together; differences in points to the row with "
        "nothing left out, on the same questions; 95 % intervals over patients.",
        "One training a seed: an interval holds the chance of the patients, not that of the training.",
        "A row without a stage or the projector has the noise of its own, fewer rounds at the same epsilon."]
    return "\n".join([*lines, "", *remarks, facts["not_private"], ""])


def _points(interval: Interval | None) -> str:
    if interval is None:
        return "-"
    estimate, low, high = (100 * value for value in interval)
    return f"{estimate:+.1f} [{low:+.1f}, {high:+.1f}]"


def _kinds(facts: Mapping[str, Any]) -> list[str]:
    return [kind for kind in KIND_TITLES if all(kind in row["accuracy"] for row in facts["rows"])]


def _plot(facts: Mapping[str, Any]) -> bytes:
    """Differences to `full` with their intervals, as PNG."""
    import io

    from matplotlib.figure import Figure

    rows, kinds = [row for row in facts["rows"] if row["difference"]], _kinds(facts)
    figure = Figure(figsize=(8, 1.2 + 0.5 * len(rows)), layout="constrained")
    axes = figure.subplots()
    for offset, kind in enumerate(kinds):
        values = [[100 * value for value in row["difference"][kind]] for row in rows]
        heights = [number + 0.22 * (offset - (len(kinds) - 1) / 2) for number in range(len(rows))]
        errors = [[v[0] - v[1] for v in values], [v[2] - v[0] for v in values]]
        axes.errorbar([v[0] for v in values], heights, xerr=errors, fmt="o", markersize=4, capsize=2,
                      color=_INKS[kind], label=KIND_TITLES[kind])
    axes.axvline(0, color="#7a8794", linewidth=1)
    axes.set_yticks(range(len(rows)), [f"without {row['dropped']}" for row in rows])
    axes.invert_yaxis()
    axes.set_xlabel("points of accuracy against everything (95 %)")
    axes.legend(loc="best", fontsize=8)
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=120, metadata={"Software": None})
    return stream.getvalue()


def _write(path: Path, content: bytes) -> None:
    partial = path.with_name(path.name + ".partial")
    partial.write_bytes(content)
    partial.replace(path)
