"""A run as it goes: its journal's events, as they come and as plain lines (`coordinator.watch_table` has the table)."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from coordinator.gate_report import evaluation_text

if TYPE_CHECKING:
    from coordinator.run_queue import RunQueue

__all__ = ["events_after", "follow", "lines_of"]

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
