"""What this hospital's operator should look at first, each with what to do about it. Worst first."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from configs.schema import PolicyConfig
from site_client.web.readings import LedgerReading, LogReading, Readings

__all__ = ["Alarm", "alarms_of"]

Level = Literal["alarm", "warning"]
_LOW = 0.1  # of the budget


@dataclass(frozen=True)
class Alarm:
    """What is wrong and what to do."""

    level: Level
    what: str
    do: str


def alarms_of(
    readings: Readings, processes: dict[str, Any], ledger: LedgerReading, log: LogReading, site_file: str
) -> list[Alarm]:
    """Every alarm, alarms before warnings."""
    found = [*_of_processes(processes, site_file), *_of_ledger(ledger, readings.config.policy, site_file),
             *_of_log(log, site_file), *_of_index(readings.index(), site_file)]
    if waiting := readings.waiting():
        found.append(Alarm("warning", f"Waiting for your word: {', '.join(waiting)}.",
                           f"site-client approve {site_file}"))
    return sorted(found, key=lambda one: one.level)


def _of_processes(processes: dict[str, Any], site_file: str) -> Iterator[Alarm]:
    if processes["state"] == "not running":
        yield Alarm("warning", "This site is not started: it takes part in nothing.", f"site-client start {site_file}")
        return
    for child in processes["children"]:
        if child["state"] in ("running", "starting"):
            continue
        why = f": {child['last_reason']}" if child["last_reason"] else ""
        yield Alarm("alarm", f"The process {child['name']} is {child['state']}{why}.",
                    "It is started again by itself; see log/ in the state folder, and run the doctor.")


def _of_ledger(ledger: LedgerReading, policy: PolicyConfig, site_file: str) -> Iterator[Alarm]:
    if ledger.fault:
        yield Alarm("alarm", f"The ledger cannot be relied on: {ledger.fault}",
                    f"site-client ledger show {site_file}; until it is whole no run is accepted.")
    facts = ledger.facts
    if facts is None:
        return
    if not facts["private"]:
        yield Alarm("alarm", "A step was booked without noise, or with noise from a simulated source: no privacy "
                    "statement holds for this site.", f"site-client ledger show {site_file}")
    elif facts["left"] <= 0:
        yield Alarm("alarm", "The budget is spent: no further run is accepted.",
                    "policy.max_epsilon is the hospital's promise to its patients; raising it is a new promise.")
    elif facts["left"] < _LOW * facts["max_epsilon"]:
        yield Alarm("warning", f"Less than a tenth of the budget is left (epsilon {facts['left']:.3g}).",
                    "Plan the last runs; a run that does not fit is refused before any patient is read.")
    if facts["wasted_rounds"] >= policy.max_wasted_rounds > 0:
        yield Alarm("warning", f"{facts['wasted_rounds']} rounds were trained for and never finished; at more than "
                    f"{policy.max_wasted_rounds} runs are refused (P_WASTED).",
                    "Look into why with the coordinator, then raise policy.max_wasted_rounds.")


def _of_log(log: LogReading, site_file: str) -> Iterator[Alarm]:
    if log.fault:
        yield Alarm("alarm", f"The record of what left cannot be relied on: {log.fault}",
                    f"site-client audit verify {site_file}; while it cannot be written nothing leaves.")


def _of_index(index: dict[str, Any], site_file: str) -> Iterator[Alarm]:
    if index["opt_out_fault"]:
        yield Alarm("alarm", index["opt_out_fault"], f"site-client doctor {site_file}")
    summary = index["summary"]
    if summary is not None and summary["identity_conflicts"]:
        yield Alarm("warning", f"Two patients claim the identifier of {summary['identity_conflicts']} items.",
                    f"site-client index {site_file} --refused, on a screen that may show identifiers")
