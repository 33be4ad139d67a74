"""Events as `coordinator.app` writes them, and a folder of runs that holds them."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from coordinator.rounds import RoundReport, report_fields

SITES = ("site-1", "site-2", "site-3", "site-4")


def cohort(time: float, accepted: Iterable[str] = SITES, refused: Iterable[str] = ()) -> dict[str, Any]:
    return {"event": "cohort", "time": time, "accepted": list(accepted), "refused": list(refused), "floor": 3}


def begin(time: float, total: int = 6, done: int = 0) -> dict[str, Any]:
    return {"event": "begin", "time": time, "rounds_total": total, "rounds_done": done}


def round_event(number: int, time: float, missing: dict[str, str] | None = None, **changed: Any) -> dict[str, Any]:
    """A finished round, from the real report's fields."""
    missing = missing or {}
    there = [site for site in SITES if site not in missing]
    report = RoundReport(
        round=number, attempt=1, stage=(number - 1) // 2, stage_name=("alignment", "multi-image", "instruction")[
            min(2, (number - 1) // 2)], factor="B" if number % 2 else "A", invited=list(SITES), started=list(SITES),
        masked=there, summed=there, missing=missing, drawn=12.5, mean_loss=2.0 / number, accuracy=0.4,
        bytes_to_sites=dict.fromkeys(SITES, 1000), bytes_from_sites=dict.fromkeys(there, 2000), seconds=4.5,
        saturated=0.001, attested=there, public={"loss_alike": 1.5 / number, "accuracy_alike": 0.5 + number / 20})
    return {"event": "round", "time": time, **report_fields(report), **changed}


def step_event(number: int, step: str, time: float, seconds: float = 0.5) -> dict[str, Any]:
    return {"event": "step", "time": time, "round": number, "step": step, "seconds": seconds, "asked": 4, "answered": 4}


def append(folder: Path, *events: dict[str, Any]) -> None:
    """As the observer of `coordinator.app` does."""
    for event in events:
        name = "steps.jsonl" if event["event"] == "step" else "progress.jsonl"
        with (folder / name).open("a", encoding="utf-8") as file:
            file.write(json.dumps(event) + "\n")


def make_run_folder(runs: Path, run_id: str, *events: dict[str, Any], state: str = "running", **more: Any) -> Path:
    folder = runs / run_id
    folder.mkdir(parents=True)
    (folder / "state.json").write_text(json.dumps(
        {"run_id": run_id, "state": state, "queued": 100.0, "tries": 0, "reason": "", "rounds": 0, **more}))
    append(folder, *events)
    return folder
