"""`simulate run`: prepare the data, train every row of the table in parallel processes, write the report."""

from __future__ import annotations

import json
import multiprocessing
import os
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from configs.load import load_config
from configs.schema import CurriculumConfig, SimulationConfig
from simulations.arms import ArmJob, arm_names, run_arm
from simulations.materials import Materials, prepare
from simulations.report import write_report

__all__ = ["SimulationFailedError", "run_simulation"]


class SimulationFailedError(RuntimeError):
    """A row of the table could not be made; the text says which and why, finished rows are kept."""


def run_simulation(
    config: SimulationConfig, out: Path, engine: str, console: Console, audit: Path | None = None
) -> dict[str, Any]:
    """Run `config` into the folder `out` (continued if it holds part of the same run); the report as plain values.

    Raises:
        SimulationFailedError: a row failed.
        ValueError: the folder belongs to another configuration, or the data cannot be made.
    """
    load_config(CurriculumConfig, config.curriculum)  # a typo there should be told before anything is made
    _claim(out, config, engine)
    begin = time.time()
    with _progress(console) as progress:
        materials = _prepared(config, progress)
        names = arm_names(config, list(materials.declared))
        jobs = [ArmJob(name, config, materials, out / "arms" / name.replace(":", "-"), engine, audit)
                for name in names]
        results = _run_all(jobs, config.arms.processes, progress)
    return write_report(out, config, materials, [results[name] for name in names], engine, time.time() - begin, audit)


def _claim(out: Path, config: SimulationConfig, engine: str) -> None:
    """Remember what `out` is for; refuse to mix two configurations in one folder."""
    out.mkdir(parents=True, exist_ok=True)
    text = json.dumps({"config": asdict(config), "engine": engine}, indent=1, sort_keys=True)
    mark = out / "simulation.json"
    if mark.is_file() and mark.read_text() != text:
        raise ValueError(f"{out} holds a run of another configuration; choose another --out or remove that folder")
    mark.write_text(text)


@contextmanager
def _progress(console: Console) -> Iterator[Progress]:
    columns = (TextColumn("{task.description:<22}"), BarColumn(bar_width=28), MofNCompleteColumn(),
               TextColumn("{task.fields[note]}"), TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        yield progress


def _prepared(config: SimulationConfig, progress: Progress) -> Materials:
    bars: dict[str, TaskID] = {}

    def show(what: str, done: int, total: int) -> None:
        if what not in bars:
            bars[what] = progress.add_task(what, total=total, note="")
            if not progress.console.is_terminal:
                progress.console.print(f"preparing {what}")
        progress.update(bars[what], completed=done, total=total)

    return prepare(config, show)


def _run_all(jobs: Sequence[ArmJob], processes: int, progress: Progress) -> dict[str, dict[str, Any]]:
    """All rows over `processes` fresh processes of one thread each; progress is read from the rows' journals."""
    bars = {job.name: progress.add_task(job.name, total=None, note="waiting", start=False) for job in jobs}
    results: dict[str, dict[str, Any]] = {}
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(processes, len(jobs)), mp_context=context) as pool:
        futures: dict[Future[dict[str, Any]], ArmJob] = {pool.submit(run_arm, job): job for job in jobs}
        pending = set(futures)
        try:
            while pending:
                for job in jobs:
                    _show(progress, bars[job.name], job)
                done = {future for future in pending if future.done()}
                for future in done:
                    _collect(future, futures[future], results, progress)
                pending -= done
                time.sleep(0.2 if pending else 0)
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise
        for job in jobs:
            _show(progress, bars[job.name], job)
    return results


def _collect(
    future: Future[dict[str, Any]], job: ArmJob, results: dict[str, dict[str, Any]], progress: Progress
) -> None:
    error = future.exception()
    if error is not None:
        raise SimulationFailedError(f"row {job.name} failed: {error}") from error
    results[job.name] = future.result()
    if not progress.console.is_terminal:
        progress.console.print(f"finished {job.name} in {results[job.name]['seconds']:.0f} s "
                               f"({len(results)} rows done)")


def _show(progress: Progress, bar: TaskID, job: ArmJob) -> None:
    """Bring one bar up to date with the last line of the row's journal (or of its coordinator's)."""
    for journal in (job.folder / "progress.jsonl", job.folder / "coordinator" / "progress.jsonl"):
        event = _last_event(journal)
        if event is None:
            continue
        if not progress.tasks[bar].started:
            progress.start_task(bar)
        if "rounds_total" in event:
            progress.update(bar, total=event["rounds_total"])
        if event["event"] == "round":
            progress.update(bar, completed=event["round"], note=event.get("stage_name", ""))
        elif event["event"] in ("end", "finished"):
            total = progress.tasks[bar].total or 1
            progress.update(bar, total=total, completed=total, note="done")


def _last_event(path: Path) -> dict[str, Any] | None:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
        return dict(json.loads(lines[-1])) if lines else None
    except (OSError, ValueError):
        return None
