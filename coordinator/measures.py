"""A run's journal as numbers and times for other people's trackers: what is public, and what is noised and summed.

Nothing of one site but its part in byte totals, no file, no reason's text; of patients only noised means over all.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

__all__ = ["RoundMeasures", "StepTime", "measures_of", "step_times"]

Event = Mapping[str, Any]


@dataclass(frozen=True)
class RoundMeasures:
    """One round with a sum. `values`: name -> number; `begin` and `end` in Unix seconds."""

    round: int
    stage: str
    factor: str
    begin: float
    end: float
    values: dict[str, float]


@dataclass(frozen=True)
class StepTime:
    """One step of the protocol in a round: Unix seconds, and how many sites were asked and answered."""

    round: int
    step: str
    begin: float
    end: float
    asked: int
    answered: int


def measures_of(event: Event) -> RoundMeasures | None:
    """The numbers of a `round` event; None for any other event."""
    if event.get("event") != "round":
        return None
    end, seconds = float(event["time"]), float(event["seconds"])
    values = {f"public/{name}": float(value) for name, value in event.get("public", {}).items()}
    for name, key in (("noised/mean_loss", "mean_loss"), ("noised/accuracy", "accuracy"), ("noised/drawn", "drawn"),
                      ("upload/saturated_share", "saturated")):
        if event.get(key) is not None:
            values[name] = float(event[key])
    for name in ("invited", "started", "masked", "summed", "attested"):
        values[f"cohort/{name}"] = float(len(event.get(name, ())))
    values["round/seconds"] = seconds
    for name in ("bytes_to_sites", "bytes_from_sites"):
        values[f"round/{name}"] = float(sum(event.get(name, {}).values()))
    return RoundMeasures(round=int(event["round"]), stage=str(event["stage_name"]), factor=str(event["factor"]),
                         begin=end - seconds, end=end, values=values)


def step_times(events: Sequence[Event]) -> Iterator[StepTime]:
    """The steps of a run's `steps.jsonl`, in its order."""
    for event in events:
        if event.get("event") == "step":
            end, seconds = float(event["time"]), float(event["seconds"])
            yield StepTime(int(event["round"]), str(event["step"]), end - seconds, end, int(event["asked"]),
                           int(event["answered"]))
