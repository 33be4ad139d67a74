"""How fast a hospital's data come in, and what their cache and their sandbox cost.

    python -m benchmarks.ingest [--quick] [--json FILE] [--only scan|epoch|sandbox|memory]

scan: files a second and core through the sandbox into the index. epoch: private steps on pictures from the cache, in
CPU time of the same steps on tensors in memory. sandbox: decoding in the child, in CPU time of decoding in-process.
memory: peak of a process that indexes 100,000 headers and reports them.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks._ratios import Goal, exit_code, goal_line

__all__ = ["goals_of", "main"]

PARTS = ("scan", "epoch", "sandbox", "memory")
LEAST_FILES_A_SECOND = 300


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print tables and goals; exit code 1 when a goal is short."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="small samples, within 50 s")
    parser.add_argument("--json", type=Path, help="write the figures here")
    parser.add_argument("--only", choices=PARTS, help="one part")
    arguments = parser.parse_args(argv)
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        for part in PARTS if arguments.only is None else (arguments.only,):
            found[part] = _measure(part, Path(folder), quick=arguments.quick)
            _show(part, found[part])
    goals = goals_of(found, quick=arguments.quick)
    print("\n" + "\n".join(map(goal_line, goals)))
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(found, indent=1) + "\n")
    return exit_code(goals)


def _measure(part: str, folder: Path, *, quick: bool) -> dict[str, Any]:
    from benchmarks import _ingest_arms as arms

    if part == "scan":
        return arms.scan(folder / "scan", files=600 if quick else 6000)
    if part == "epoch":
        return arms.epoch(folder / "epoch", patients=6 if quick else 24, rounds=3 if quick else 15)
    if part == "sandbox":
        return arms.sandbox(folder / "sandbox", rounds=2 if quick else 12)
    return arms.memory(folder / "memory", headers=10_000 if quick else 100_000)


def _show(part: str, found: dict[str, Any]) -> None:
    print(f"\n{part}\n\n| what | value |\n| --- | --- |")
    for name, value in found.items():
        if isinstance(value, dict):
            print(f"| {name} | {value['median']:.3f} (95 %: {value['low']:.3f} to {value['high']:.3f}) |")
        else:
            print(f"| {name} | {value:,.4g} |")


def goals_of(found: dict[str, Any], *, quick: bool) -> list[Goal]:
    """Every goal of the issue; those whose part did not run are not measured."""
    partial = "quick, small samples" if quick else ""

    def goal(name: str, most: float, part: str, key: str) -> Goal:
        if part not in found:
            return Goal(name, most, reason="not asked for")
        value = found[part][key]
        return Goal(name, most, value["median"] if isinstance(value, dict) else value, partial=partial,
                    decides=not quick)

    return [
        goal("scan-ms-a-file", 1000 / LEAST_FILES_A_SECOND, "scan", "CPU ms a file"),
        goal("epoch-cache-over-memory", 1.1, "epoch", "cache over memory"),
        goal("sandbox-over-in-process", 1.05, "sandbox", "sandbox over in-process"),
        goal("index-memory-mb", 400, "memory", "peak MB"),
    ]


if __name__ == "__main__":
    raise SystemExit(main())
