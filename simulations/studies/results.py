"""The figures of `docs/results.md`: the demo's comparison over five disjoint test sets, and the goals it must meet.

Each seed draws its own public, private and test patients (five seeds: five pairwise disjoint test sets), pretrains
its own public base, and trains every row with equal steps. A finished seed is kept, so the command can be repeated.

    python -m simulations.studies.results --out runs/results --seeds 0 1 2 3 4
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from configs.load import load_config
from configs.schema import SimulationConfig
from simulations.intervals import paired_interval
from simulations.report_text import KIND_TITLES
from simulations.run import run_simulation

__all__ = ["main", "summarise"]

ROWS = ("base", "pooled", "federated", "federated-dp")
# Two-sided 95% quantiles of Student's t for 1 to 9 degrees of freedom.
T_QUANTILE = (12.71, 4.30, 3.18, 2.78, 2.57, 2.45, 2.36, 2.31, 2.26)

Seeds = Mapping[int, Mapping[str, Mapping[str, Any]]]  # seed -> row -> arm.json


def main(argv: Sequence[str] | None = None) -> int:
    """Run what is missing, print the tables and the goals; exit code 1 if a goal is short."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/results"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--config", default="configs/simulations/demo.yaml")
    arguments = parser.parse_args(argv)
    results: dict[int, dict[str, Any]] = {}
    for seed in arguments.seeds:
        folder = arguments.out / f"seed-{seed}"
        config = load_config(SimulationConfig, arguments.config, [
            f"data.seed={seed}", f"arms.names=[{','.join(ROWS)}]"])
        if not all((folder / "arms" / row / "arm.json").is_file() for row in ROWS):
            run_simulation(config, folder, "in-process", Console())
        results[seed] = {row: json.loads((folder / "arms" / row / "arm.json").read_text()) for row in ROWS}
    text, goals = summarise(results)
    (arguments.out / "results.md").write_text(text, encoding="utf-8")
    print(text)
    for line, _ in goals:
        print(line)
    return int(any(not met for _, met in goals))


def summarise(results: Seeds) -> tuple[str, list[tuple[str, bool]]]:
    """Markdown tables over the seeds, and (goal line, met) for each goal."""
    parts = [_table(results, kind) for kind in KIND_TITLES]
    parts.append(_cost_table(results))
    return "\n\n".join(parts) + "\n", _goals(results)


def _accuracy(row: Mapping[str, Any], kind: str) -> float:
    correct = row["test"][kind]["correct"]
    return 100 * sum(correct) / len(correct)


def _mean_interval(values: Sequence[float]) -> tuple[float, float]:
    """Mean and half-width of its 95% t-interval over seeds (0 for a single seed)."""
    if len(values) < 2:
        return values[0], 0.0
    spread = statistics.stdev(values) / math.sqrt(len(values))
    return statistics.mean(values), T_QUANTILE[min(len(values) - 2, 8)] * spread


def _table(results: Seeds, kind: str) -> str:
    seeds = list(results)
    lines = [f"### {KIND_TITLES[kind]}", "", "| row | " + " | ".join(f"seed {s}" for s in seeds) + " | mean (95%) |",
             "|---|" + "---|" * (len(seeds) + 1)]
    for row in ROWS:
        values = [_accuracy(results[seed][row], kind) for seed in seeds]
        mean, half = _mean_interval(values)
        cells = " | ".join(f"{value:.1f}" for value in values)
        lines.append(f"| {row} | {cells} | {mean:.1f} ± {half:.1f} |")
    lines += ["", "Paired differences on the same questions, pooled over the seeds, bootstrap over patients:", ""]
    for first, second in (("federated-dp", "base"), ("federated", "base"), ("federated-dp", "federated")):
        estimate, low, high = (100 * value for value in _paired(results, kind, first, second))
        lines.append(f"- {first} minus {second}: {estimate:+.1f} [{low:+.1f}, {high:+.1f}]")
    return "\n".join(lines)


def _paired(results: Seeds, kind: str, first: str, second: str) -> tuple[float, float, float]:
    """Difference of two rows over all seeds; a patient is told apart by its seed too."""
    ours, theirs, patients = [], [], []
    for seed, rows in results.items():
        ours += rows[first]["test"][kind]["correct"]
        theirs += rows[second]["test"][kind]["correct"]
        patients += [f"{seed}/{name}" for name in rows[first]["test"][kind]["patients"]]
    return paired_interval(ours, theirs, patients)


def _cost_table(results: Seeds) -> str:
    lines = ["### Privacy and cost", "", "| seed | largest epsilon of a site | delta | sent by all sites, MB | "
             "seconds federated | seconds federated-dp |", "|---|---|---|---|---|---|"]
    for seed, rows in results.items():
        dp = rows["federated-dp"]
        worst = max(dp["privacy"].values(), key=lambda site: site["epsilon"])
        sent = sum(sum(entry["bytes_from_sites"].values()) for entry in dp["rounds"]) / 1e6
        lines.append(f"| {seed} | {worst['epsilon']:.3f} | {worst['delta']:.0e} | {sent:.2f} | "
                     f"{rows['federated']['seconds']:.0f} | {dp['seconds']:.0f} |")
    return "\n".join(lines)


def _goals(results: Seeds) -> list[tuple[str, bool]]:
    def mean(row: str, kind: str) -> float:
        return statistics.mean(_accuracy(rows[row], kind) for rows in results.values())

    gain = mean("federated-dp", "normal") - mean("base", "normal")
    gap = mean("federated", "normal") - mean("federated-dp", "normal")
    plain = mean("federated", "alike") - mean("base", "alike")
    share = (mean("federated-dp", "alike") - mean("base", "alike")) / plain if plain > 0 else math.nan
    return [
        _goal("normal-gain-points", gain, ">=", 8.0), _goal("normal-gap-points", gap, "<=", 6.0),
        _goal("alike-share-of-gain", share, ">=", 0.5),
    ]


def _goal(name: str, value: float, sign: str, target: float) -> tuple[str, bool]:
    met = value >= target if sign == ">=" else value <= target
    return f"goal {name}: {value:.2f} {sign} {target:g} {'ok' if met else 'short'}", met


if __name__ == "__main__":
    raise SystemExit(main())
