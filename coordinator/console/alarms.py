"""What an operator should look at first, each with what to do about it. Worst first."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal

from sqlalchemy import Connection

from coordinator.console.words import meanings
from coordinator.home import Home
from coordinator.run_store import queries
from privacy.web.words import duration

__all__ = ["Alarm", "home_alarms", "run_alarms"]

Level = Literal["alarm", "warning"]
_QUIET_S = 600.0     # without an event, beyond three rounds' time
_STREAK = 2          # rounds in a row without a site
_SATURATED = 0.01
_RENEW_DAYS = 30


@dataclass(frozen=True)
class Alarm:
    """What is wrong, what to do, and whose it is ("" = the folder's)."""

    level: Level
    what: str
    do: str
    run_id: str = ""
    site_id: str = ""


def home_alarms(home: Home, processes: dict[str, Any], failing: str) -> list[Alarm]:
    """Of the coordinator's folder: its processes, its roster, its certificate, and the run store itself."""
    return [*_of_processes(home, processes), *_of_roster(home), *_of_certificate(home.server_certificate_file),
            *([Alarm("alarm", f"The run store cannot be brought up to date ({failing}): these pages may be old.",
                     "Look at the disk and the database; the runs themselves go on. See log/console.log.")]
              if failing else [])]


def _of_processes(home: Home, processes: dict[str, Any]) -> Iterator[Alarm]:
    if processes["state"] == "not running":
        yield Alarm("warning", "The coordinator is not up: no site can connect and no run goes on.",
                    f"coordinator up {home.folder}")
        return
    for child in processes["children"]:
        if child["state"] not in ("running", "starting"):
            why = f": {child['last_reason']}" if child["last_reason"] else ""
            yield Alarm("alarm", f"The process {child['name']} is {child['state']}{why}.",
                        f"It is started again by itself; see log/{child['name']}.log.")


def _of_roster(home: Home) -> Iterator[Alarm]:
    try:
        roster = home.roster().roster
        latest = home.latest()
    except (ValueError, OSError) as error:
        yield Alarm("alarm", f"No roster is in force: {error}", f"coordinator roster show {home.folder}")
        return
    if latest is not None and latest.roster.version > roster.version:
        yield Alarm("warning", f"A newer roster waits: {home.still_needed(latest)}",
                    f"coordinator roster show {home.folder}")


def _of_certificate(path: Path) -> Iterator[Alarm]:
    from privacy.enrolment import certificate_of

    try:
        ends = certificate_of(path.read_bytes()).not_valid_after_utc
    except (OSError, ValueError):
        yield Alarm("alarm", "The server's certificate is missing or damaged.", "coordinator renew-certificate DIR")
        return
    left = ends - datetime.now(UTC)
    if left < timedelta(days=_RENEW_DAYS):
        yield Alarm("alarm" if left < timedelta(0) else "warning",
                    f"The server's certificate {'ended' if left < timedelta(0) else 'ends'} on {ends:%Y-%m-%d}.",
                    "coordinator renew-certificate DIR, between two runs")


def run_alarms(connection: Connection, home: Home, run: dict[str, Any]) -> list[Alarm]:
    """Of one run (`queries.run_summaries`)."""
    found = [*_of_state(home, run), *_of_quiet(run), *_of_evidence(home, run)]
    if run["state"] == "running":
        found += _of_cohort(connection, run)
    if (run["saturated"] or 0.0) > _SATURATED:
        found.append(Alarm("warning", f"{run['saturated']:.1%} of an upload's coordinates were cut off in the newest "
                           "round.", "Raise `saturation` in the next run's configuration.", run["run_id"]))
    if run["unreadable"]:
        found.append(Alarm("warning", f"{run['unreadable']} lines of the run's journals cannot be read and are left "
                           "out here.", f"Look at runs/{run['run_id']}/progress.jsonl; the run does not depend on it.",
                           run["run_id"]))
    return found


def _of_state(home: Home, run: dict[str, Any]) -> Iterator[Alarm]:
    if run["state"] == "failed":
        meant = meanings(run["reason"])
        do = f"{meant[0][2]} Then: " if meant else ""
        yield Alarm("alarm", f"The run has failed: {run['reason'] or run['ended_text'] or 'no reason was kept'}",
                    f"{do}coordinator resume {home.folder} {run['run_id']}", run["run_id"])
    elif run["state"] == "unknown":
        yield Alarm("warning", "The run's state cannot be read.", f"Restore runs/{run['run_id']}/state.json from "
                    "backup.", run["run_id"])
    elif run["state"] == "queued" and run["reason"]:
        yield Alarm("warning", f"The run waits for its next try: {run['reason']}", "Nothing, unless it happens again.",
                    run["run_id"])


def _of_quiet(run: dict[str, Any]) -> Iterator[Alarm]:
    if run["state"] != "running" or run["last_time"] is None:
        return
    quiet, ends = time.time() - run["last_time"], run["ends"]
    usual = (ends[-1] - ends[0]) / (len(ends) - 1) if len(ends) > 1 else 0.0
    if quiet > max(_QUIET_S, 3 * usual):
        yield Alarm("alarm", f"Nothing has been heard of the run for {duration(quiet)}.",
                    "coordinator doctor DIR, and see log/executor.log", run["run_id"])


def _of_evidence(home: Home, run: dict[str, Any]) -> Iterator[Alarm]:
    kept = [path for path in (home.runs_folder / run["run_id"] / "evidence").glob("*.bin") if path.name != "roster.bin"]
    if kept:
        yield Alarm("alarm", f"{len(kept)} pieces of signed evidence against sites are kept.",
                    f"coordinator evidence {home.folder}", run["run_id"])


def _of_cohort(connection: Connection, run: dict[str, Any]) -> Iterator[Alarm]:
    """A site that is missing again and again; a sum from which none may be missing any more."""
    newest = [row["round"] for row in queries.newest_rounds(connection, run["run_id"], 5)]
    for site, (streak, why) in sorted(queries.unsummed_streaks(connection, run["run_id"], newest).items()):
        if streak >= _STREAK:
            yield Alarm("warning", f"{site} is missing in the last {streak} rounds ({why}).",
                        _do(why, "Ask the site's operator: site-client doctor SITE_FILE."), run["run_id"], site)
    floor = (run["manifest"] or {}).get("floor")
    if newest and floor is not None:
        people = queries.participants(connection, run["run_id"], newest[-1:])[newest[-1]]
        summed = sum(row["summed"] for row in people)
        if summed <= floor and len(people) > floor:
            yield Alarm("warning", f"The newest sum has {summed} sites and {floor} are needed: the next one that is "
                        "missing stops the run.", "Bring the missing sites back.", run["run_id"])
    for row in queries.newest_cohort(connection, run["run_id"]):
        if not row["accepted"]:
            yield Alarm("warning", f"{row['site_id'] or 'A node without a name'} is not in the run: {row['reason']}.",
                        _do(row["reason"], "See its answer on the run's page."), run["run_id"], row["site_id"])


def _do(reason: str, otherwise: str) -> str:
    found: Sequence[tuple[str, str, str]] = meanings(reason)
    return found[0][2] if found else otherwise
