"""How far the run is that this site takes part in, from its own ledger and audit log alone.

A site knows the steps that were reserved for a run, those that ran, and when its answers left. It does not know how
many rounds the coordinator will really make, so the time left is for the whole reserved schedule.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from privacy.ledger_entries import LedgerEntry
    from site_client.audit_chain import Event

__all__ = ["RunProgress", "run_progress", "seconds_of"]

_GONE_S = 900.0   # after the last answer a run counts as going on for so long, or three rounds' time
_ROUNDS = 6       # whose beginnings give the usual time of a round


@dataclass(frozen=True)
class RunProgress:
    """The run whose message left last.

    Args:
        round: the newest one that a message named; None before the first.
        stage: from 0, of the newest round in the ledger; None before the first.
        step: of the last answer. since: when it left, Unix seconds.
        steps, planned_steps: that ran, and that are reserved.
        left_s: seconds until the whole schedule has run; None where nobody can say.
        going_on: whether its last answer is recent.
    """

    run_id: str
    round: int | None
    stage: int | None
    step: str
    since: float
    rounds: int
    steps: int
    planned_steps: int
    left_s: float | None
    going_on: bool


def run_progress(
    entries: Sequence[LedgerEntry], per_run: Sequence[dict[str, Any]], events: Sequence[Event], now: float,
) -> RunProgress | None:
    """Of the newest run in `events`; None where no message named one.

    Args:
        entries: of the ledger, oldest first.
        per_run: `ledger_report.facts_of(...)["per_run"]`.
        events: of the audit log, oldest first.
        now: Unix seconds.
    """
    sent = [(event, event.fields) for event in events if event.kind == "egress"]
    named = [(event, fields) for event, fields in sent if fields.get("run_id")]
    if not named:
        return None
    last, fields = named[-1]
    run_id, since = str(fields["run_id"]), seconds_of(last.utc)
    mine = [entry for entry in entries if entry.run_id == run_id]
    facts: dict[str, Any] = next((run for run in per_run if run["run_id"] == run_id), {})
    begun: dict[int, float] = {}
    for event, one in named:
        if one["run_id"] == run_id and one.get("round") is not None and one["step"] == "sa_train":
            begun.setdefault(int(one["round"]), seconds_of(event.utc))
    usual = _usual(sorted(begun.values())[-_ROUNDS:])
    steps, planned = int(facts.get("steps", 0)), int(facts.get("planned_steps", 0))
    going_on = now - since < max(_GONE_S, 3 * (usual or 0.0)) and not (planned and steps >= planned
                                                                      and fields["step"] == "sa_result")
    left = None
    if going_on and usual is not None and mine and planned > steps:
        left = max(0.0, usual * -(-(planned - steps) // mine[-1].steps) - (now - max(begun.values())) + usual)
    return RunProgress(run_id, fields.get("round"), mine[-1].stage if mine else None, str(fields["step"]), since,
                       int(facts.get("rounds", 0)), steps, planned, left, going_on)


def _usual(begun: Sequence[float]) -> float | None:
    return None if len(begun) < 2 else (begun[-1] - begun[0]) / (len(begun) - 1)


def seconds_of(utc: str) -> float:
    """Unix seconds of an ISO time."""
    return datetime.fromisoformat(utc).timestamp()
