"""`simulate study utility`: what shared-out noise is worth, against pooled data, local noise and each site alone.

On the real chest X-ray reports (unit: the patient) and the dermoscopy patches (unit: the source image). The design is
in `simulations.studies.utility_design`, what a run does in `simulations.studies.utility_train`. A finished run is kept,
so the same command goes on; `--tune` chooses learning rates on public patients.
"""

from __future__ import annotations

import json
import multiprocessing
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

from rich.console import Console

from simulations.studies.utility_design import Cell, design, quick_design
from simulations.studies.utility_report import facts_of, goal_lines, plot, text_of
from simulations.studies.utility_train import STEPS, Recipe, public_losses, run_cell

__all__ = ["run_study", "tune"]

SECONDS = 45.0
"""Of one run on one core: what the first estimate of the time left is made from."""


def run_study(
    out: Path, console: Console, *, quick: bool = False, only: Sequence[str] = (), report: bool = False,
    jobs: int = 1,
) -> tuple[dict[str, Any], bool]:
    """Run what is missing, write `utility.json`, `utility.md` and `utility.png` into `out`.

    Args:
        out: the study's folder; one JSON file a run is kept in `out/runs`.
        console: for progress, with the time left.
        quick: the headline at epsilon 1 with one seed.
        only: tasks or arms to run; empty = all.
        report: make no run; table, plot and goals of those that are there.
        jobs: how many runs at once, each in a process and on one core.

    Returns:
        The facts, and whether a goal is short.
    """
    cells = [cell for cell in (quick_design() if quick else design())
             if not only or cell.task in only or cell.arm in only]
    if not cells:
        raise ValueError(f"no run of the design has {', '.join(only)}; name a task or an arm")
    folder = out / "runs"
    folder.mkdir(parents=True, exist_ok=True)
    if report:
        cells = [cell for cell in cells if (folder / f"{cell.name}.json").is_file()]
        if not cells:
            raise ValueError(f"{folder} holds no finished run; leave out --report to make some")
    missing = [cell for cell in cells if not (folder / f"{cell.name}.json").is_file()]
    console.print(f"{len(missing)} of {len(cells)} runs to make, about {SECONDS * len(missing) / 60 / jobs:.0f} min on "
                  f"{'one core' if jobs == 1 else f'{jobs} cores'}; stop at any time, finished runs are kept")
    begin = time.monotonic()
    for done, (cell, facts) in enumerate(_made(missing, jobs)):
        _save(folder / f"{cell.name}.json", facts)
        left = (time.monotonic() - begin) / (done + 1) * (len(missing) - done - 1)
        console.print(f"{cell.name}: {100 * facts['accuracy']:.1f} %, loss {facts['loss']:.4f}, "
                      f"{facts['seconds']:.0f} s; about {left / 60:.0f} min left")
    results = {cell: json.loads((folder / f"{cell.name}.json").read_text()) for cell in cells}
    summary = {"steps": STEPS, **facts_of(results)}
    lines, short = goal_lines(results)
    summary["goals"] = lines
    _save(out / "utility.json", summary)
    (out / "utility.md").write_text(text_of(summary) + "\n" + "\n".join(lines) + "\n", encoding="utf-8")
    plot(results, out / "utility.png")
    return summary, short


def _made(cells: Sequence[Cell], jobs: int) -> Iterator[tuple[Cell, dict[str, Any]]]:
    """Each cell with its facts, as they are done."""
    if jobs == 1:
        for cell in cells:
            yield cell, run_cell(cell, Recipe.of(cell.seed))
        return
    pool = ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn"), initializer=_one_thread)
    try:
        running = {pool.submit(run_cell, cell, Recipe.of(cell.seed)): cell for cell in cells}
        for future in as_completed(running):
            yield running[future], future.result()
    finally:
        pool.shutdown(cancel_futures=True)


def _one_thread() -> None:
    import torch

    torch.set_num_threads(1)


def tune(
    out: Path, console: Console, only: Sequence[str] = (), rates: Sequence[float] = (0.625, 1.25, 2.5, 5.0, 10.0)
) -> None:
    """Print the loss on held-out public patients for each rate; the choice is written down in `RATES`. `only`: tasks or
    arms; empty = all."""
    out.mkdir(parents=True, exist_ok=True)
    seen = set()
    for cell in design():
        key = (cell.task, cell.arm, cell.epsilon)
        if only and not {cell.task, cell.arm} & set(only):
            continue
        if cell.arm in ("base", "alone-dp") or key in seen or cell.seed or (cell.schedule, cell.split) != (
                "alternate", "even"):
            continue
        seen.add(key)
        losses = public_losses(cell, Recipe.of(0), rates)
        best = min(losses, key=lambda rate: losses[rate])
        console.print(f"{cell.task} {cell.arm} epsilon {cell.epsilon:g}: best {best:g}  "
                      + "  ".join(f"{rate:g}: {loss:.4f}" for rate, loss in losses.items()))
        _save(out / f"rates_{cell.task}_{cell.arm}_eps{cell.epsilon:g}.json", {str(k): v for k, v in losses.items()})


def _save(path: Path, facts: dict[str, Any]) -> None:
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(facts, indent=1))
    partial.replace(path)
