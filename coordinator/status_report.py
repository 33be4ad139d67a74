"""`coordinator status DIR`: processes, roster, what each site last answered, and the queue of runs.

That a site is connected right now only the hub knows. What is shown here is its last answer in a run's journal.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from coordinator.home import Home
from coordinator.progress import events_after
from coordinator.run_queue import QueuedRun, RunQueue
from coordinator.up_command import status_file
from privacy.transport.process_status import process_facts, process_lines

__all__ = ["home_facts", "home_text", "is_home"]

Event = dict[str, Any]


def is_home(folder: Path) -> bool:
    """Whether it is a coordinator's folder, and not a run's, which also holds a coordinator.yaml."""
    return (folder / "coordinator.yaml").is_file() and (folder / "invitation.json").is_file()


def home_facts(folder: Path) -> dict[str, Any]:
    """Everything as JSON values; a roster that cannot be used says why in `fault`."""
    home = Home.open(folder)
    queue = RunQueue(home.runs_folder)
    journals = {run.run_id: events_after(queue.folder(run.run_id) / "progress.jsonl", 0)[0] for run in queue.all()}
    roster = _roster(home)
    return {
        "federation_id": home.config.federation_id, "address": home.config.address,
        "processes": process_facts(status_file(home.folder), home.config.health_port), "roster": roster,
        "sites": {site: _last_answer(site, journals) for site in roster.get("active", [])},
        "runs": [_run(run, journals[run.run_id]) for run in queue.all()]}


def _roster(home: Home) -> dict[str, Any]:
    latest = home.latest()
    try:
        roster = home.roster().roster
    except ValueError as error:
        return {"fault": str(error)}
    draft = home.still_needed(latest) if latest is not None and latest.roster.version > roster.version else ""
    return {"version": roster.version, "hash": roster.hash().hex(), "active": list(roster.active_ids),
            "suspended": sorted(set(roster.site_ids) - set(roster.active_ids)), "draft": draft}


def _last_answer(site: str, journals: dict[str, list[Event]]) -> dict[str, Any] | None:
    """The newest event of any run that says something of the site: {run_id, what, time}; None without one."""
    newest: dict[str, Any] | None = None
    for run_id, events in journals.items():
        for event in events:
            what = _said(site, event)
            if what and (newest is None or event.get("time", 0.0) >= newest["time"]):
                newest = {"run_id": run_id, "what": what, "time": event.get("time", 0.0)}
    return newest


def _said(site: str, event: Event) -> str:
    if event["event"] == "round":
        if site in event.get("missing", {}):
            return f"missing in round {event['round']}: {event['missing'][site]}"
        return f"in the sum of round {event['round']}" if site in event.get("summed", []) else ""
    if event["event"] == "cohort":
        refused = [one[len(site) + 1:] for one in event.get("refused", []) if one.split(" ")[0] == site]
        return f"refused {refused[0]}" if refused else "accepted the run" if site in event.get("accepted", []) else ""
    return ""


def _run(run: QueuedRun, events: list[Event]) -> dict[str, Any]:
    totals = [event["rounds_total"] for event in events if event["event"] == "begin"]
    rounds = {event["round"] for event in events if event["event"] == "round"}
    return {"run_id": run.run_id, "state": run.state, "reason": run.reason, "tries": run.tries,
            "rounds_done": len(rounds), "rounds_total": totals[-1] if totals else None,
            "queued_s": max(0.0, time.time() - run.queued)}


def home_text(facts: dict[str, Any], folder: Path) -> str:
    """The facts for a screen."""
    roster = facts["roster"]
    lines = [f"federation {facts['federation_id']}, sites connect to {facts['address']}",
             *process_lines(facts["processes"], f"coordinator up {folder}")]
    if "fault" in roster:
        lines.append(f"roster     {roster['fault']}")
    else:
        suspended = f"; suspended: {', '.join(roster['suspended'])}" if roster["suspended"] else ""
        lines.append(f"roster     version {roster['version']}{suspended}")
        lines += [f"  draft    {roster['draft']}"] if roster["draft"] else []
    for site, last in facts["sites"].items():
        said = "no answer yet" if last is None else (
            f"run {last['run_id']}, {last['what']}, {_age(time.time() - last['time'])} ago")
        lines.append(f"site       {site}: {said}")
    for run in facts["runs"]:
        total = run["rounds_total"] if run["rounds_total"] is not None else "?"
        lines.append(f"run        {run['run_id']}: {run['state']}, {run['rounds_done']} of {total} rounds"
                     + (f"; {run['reason']}" if run["reason"] else ""))
    if not facts["runs"]:
        lines.append(f"run        none yet: coordinator launch {folder} CONFIG")
    return "\n".join(lines)


def _age(seconds: float) -> str:
    for size, unit in ((86400, "days"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{max(0.0, seconds):.0f} s"
