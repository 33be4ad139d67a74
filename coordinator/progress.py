"""A run as it goes: its journal's events, as plain lines or as a live table with the time left."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from coordinator.gate_report import evaluation_text

if TYPE_CHECKING:
    from rich.table import Table

    from coordinator.run_queue import RunQueue

__all__ = ["events_after", "follow", "lines_of", "live"]

Event = dict[str, Any]
_ENDED = ("finished", "failed", "stopped")


def events_after(path: Path, position: int) -> tuple[list[Event], int]:
    """The whole events of a journal from byte `position` on, and the position after them."""
    if not path.is_file():
        return [], position
    with path.open("rb") as file:
        file.seek(position)
        data = file.read()
    whole = data[: data.rfind(b"\n") + 1]
    events = []
    for line in whole.splitlines():
        try:
            event = json.loads(line)
        except ValueError:
            continue
        if isinstance(event, dict) and "event" in event:
            events.append(event)
    return events, position + len(whole)


def follow(queue: RunQueue, run_id: str, every_s: float = 0.2) -> Iterator[Event]:
    """The run's events from its beginning, as they come, until it has ended; last one event `state`."""
    path, position = queue.folder(run_id) / "progress.jsonl", 0
    while True:
        run = queue.get(run_id)  # before the journal: what ended has written its last event
        events, position = events_after(path, position)
        yield from events
        if run.state in _ENDED:
            yield {"event": "state", "state": run.state, "reason": run.reason, "tries": run.tries}
            return
        time.sleep(every_s)


def lines_of(event: Event) -> list[str]:
    """An event in words; nothing for one that says nothing new."""
    kind = event["event"]
    if kind == "cohort":
        refused = [f"  refused   {one}" for one in event["refused"]]
        return [f"accepted  {', '.join(event['accepted']) or 'nobody'} ({event['floor']} needed)", *refused]
    if kind == "begin":
        return [f"begin     {event['rounds_done']} of {event['rounds_total']} rounds done"]
    if kind == "round":
        return [_round_line(event), *(f"  missing   {site}: {why}" for site, why in sorted(event["missing"].items()))]
    if kind in ("failed", "stopped"):
        return [f"{kind:<10}{event.get('text', '')}"]
    if kind == "state":
        return [f"{event['state']}" + (f": {event['reason']}" if event["reason"] else "")]
    return []


def _round_line(event: Event) -> str:
    public = " ".join(f"{name}={value:.4g}" for name, value in sorted(event.get("public", {}).items()))
    begin = (f"round {event['round']:<4}{event['stage_name']} ({event['factor']}): {len(event['summed'])} of "
             f"{len(event['invited'])} sites, {event['seconds']:.1f} s, ")
    if event.get("evaluation"):
        return begin + evaluation_text(event["evaluation"], len(event["summed"]))
    loss = "-" if event["mean_loss"] is None else f"{event['mean_loss']:.3f}"
    line = f"{begin}noised loss {loss}"
    return f"{line}, {public}" if public else line


def live(queue: RunQueue, run_id: str) -> None:
    """A table that follows the run on a terminal. Ctrl-C ends the watching."""
    from rich.console import Console
    from rich.live import Live

    seen: list[Event] = []
    with Live(_table(run_id, seen), console=Console(), refresh_per_second=4) as view:
        for event in follow(queue, run_id):
            seen.append(event)
            view.update(_table(run_id, seen))


def _table(run_id: str, seen: list[Event]) -> Table:
    from rich.table import Table

    rounds = {event["round"]: event for event in seen if event["event"] == "round"}
    total = next((event["rounds_total"] for event in reversed(seen) if event["event"] == "begin"), None)
    cohort = next((event for event in reversed(seen) if event["event"] == "cohort"), None)
    table = Table(title=f"{run_id}: {len(rounds)} of {total if total is not None else '?'} rounds"
                  + _left(list(rounds.values()), total), caption=_caption(seen, cohort))
    for name in ("round", "stage", "summed", "missing", "noised loss", "seconds", "public"):
        table.add_column(name)
    for number in sorted(rounds)[-15:]:
        event = rounds[number]
        table.add_row(
            str(number), f"{event['stage_name']} ({event['factor']})",
            f"{len(event['summed'])} of {len(event['invited'])}",
            ", ".join(f"{site}: {why}" for site, why in sorted(event["missing"].items())) or "-",
            "-" if event["mean_loss"] is None else f"{event['mean_loss']:.3f}", f"{event['seconds']:.1f}",
            evaluation_text(event["evaluation"], len(event["summed"])) if event.get("evaluation") else
            " ".join(f"{name}={value:.3g}" for name, value in sorted(event.get("public", {}).items())) or "-")
    return table


def _left(rounds: list[Event], total: int | None) -> str:
    """The time left, from the mean time between the last rounds' ends."""
    ends = [event["time"] for event in rounds][-6:]
    if total is None or len(ends) < 2 or total <= len(rounds):
        return ""
    each = (ends[-1] - ends[0]) / (len(ends) - 1)
    seconds = each * (total - len(rounds)) - (time.time() - ends[-1])
    return f", about {max(seconds, 0) / 60:.0f} min left" if seconds > 90 else f", about {max(seconds, 0):.0f} s left"


def _caption(seen: list[Event], cohort: Event | None) -> str:
    last = seen[-1] if seen else {"event": ""}
    if last["event"] in ("state", "failed", "stopped"):
        return "; ".join(lines_of(last))
    if cohort is None:
        return "waiting for the sites"
    refused = f"; refused: {', '.join(cohort['refused'])}" if cohort["refused"] else ""
    return f"accepted: {', '.join(cohort['accepted']) or 'nobody yet'} ({cohort['floor']} needed){refused}"
