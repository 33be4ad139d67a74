"""What a supervisor's status file says, as facts and as lines: for `status` of both sides.

*Guarantees.* A supervisor that is gone is never shown as running, whatever its file says.

*Assumes.* The file is the supervisor's own (0600, in a folder of its user).

*Does not cover.* A process that hangs: it runs. The health service and the age of the last message tell.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from privacy.transport.health import check_health
from privacy.transport.supervisor import read_status

__all__ = ["process_facts", "process_lines"]


def process_facts(status_file: Path, health_port: int) -> dict[str, Any]:
    """Whether the service runs and is ready, its children, and what its health service answers (None: there is none).

    A service that does not run has `state` "not running" and no children.
    """
    status = read_status(status_file)
    if status is None or not status["alive"]:
        return {"state": "not running", "children": [], "health": None,
                "last_seen_s": None if status is None else max(0.0, time.time() - float(status["updated"]))}
    health = None
    if health_port:
        answer, reason = check_health(health_port)
        health = {"status": answer, "reason": reason}
    return {"state": "ready" if status["ready"] else "not ready", "pid": status["pid"], "health": health,
            "children": status["children"], "last_seen_s": 0.0}


def process_lines(facts: dict[str, Any], command: str) -> list[str]:
    """The facts for a screen; `command` starts the service."""
    lines = [f"service    {facts['state']}" + (f", pid {facts['pid']}" if "pid" in facts else f"; start it: {command}")]
    for child in facts["children"]:
        why = f"; {child['last_reason']}" if child["last_reason"] else ""
        again = f", started {child['starts']} times" if child["starts"] > 1 else ""
        lines.append(f"  {child['name']:<10}{child['state']}" + (f", pid {child['pid']}" if child["pid"] else "")
                     + again + why)
    if facts["health"] is not None:
        why = f": {facts['health']['reason']}" if facts["health"]["reason"] else ""
        lines.append(f"health     {facts['health']['status']}{why}")
    return lines
