"""Lines of a run's journals, checked: what is no event of ours raises ValueError and is counted, never shown.

The files are the coordinator's own, and what sites said is in them: names, codes, numbers. So every value is taken as
if a stranger had written it: of its type, finite, within bounds, and without characters that a database refuses.
"""

from __future__ import annotations

import json
import math
import re
from typing import Any

__all__ = ["Event", "cohort_rows", "event_of", "measure_rows", "participation_rows", "round_row", "step_row", "text_of",
           "whole"]

Event = dict[str, Any]
_MOST_TEXT = 2000
_MOST_SITES = 4096
_REFUSED = re.compile(r"([A-Za-z0-9._-]{1,64}) \((.*)\)", re.DOTALL)
_LISTS = ("invited", "started", "masked", "summed", "attested")


def event_of(line: bytes) -> Event:
    """The event in a line, with a name and a time. Raises ValueError."""
    try:
        event = json.loads(line)
    except (ValueError, RecursionError):
        raise ValueError("no JSON") from None
    if not isinstance(event, dict) or not isinstance(event.get("event"), str):
        raise ValueError("no event")
    event["time"] = number(event.get("time"))
    return event


def text_of(value: Any) -> str:
    """A text that every database takes: no NUL, no lone surrogates, not endless. Raises ValueError for no text."""
    if not isinstance(value, str):
        raise ValueError("no text")
    return value[:_MOST_TEXT].replace("\0", "\ufffd").encode("utf-8", "replace").decode("utf-8")


def number(value: Any) -> float:
    """A finite number. Raises ValueError."""
    if isinstance(value, bool) or not isinstance(value, int | float) or abs(value) > 1e300 or not math.isfinite(value):
        raise ValueError("no number")
    return float(value)


def whole(value: Any, most: int = 2**31 - 1) -> int:
    """A whole number from 0 up. Raises ValueError."""
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= most:
        raise ValueError("no whole number")
    return value


_EVALUATED = {"mean_loss": "validation_loss", "failed": "gate_failed_sites"}


def round_row(entry: Event) -> dict[str, Any]:
    """A finished round: of a `round` event, or of a checkpoint's history (then without a time)."""
    return {
        "round": whole(entry.get("round")), "stage": whole(entry.get("stage")),
        "stage_name": text_of(entry.get("stage_name")), "factor": text_of(entry.get("factor", "")),
        "attempt": None if entry.get("attempt") is None else whole(entry["attempt"]), "ended": _or_none(entry, "time"),
        **{name: _or_none(entry, name) for name in ("seconds", "mean_loss", "accuracy", "saturated")},
        "drawn": None if entry.get("evaluation") else _or_none(entry, "drawn")}  # an evaluation draws nobody


def participation_rows(entry: Event) -> list[dict[str, Any]]:
    """Who was asked in that round, how far each came, and why one is missing."""
    lists = {name: set(_names(entry.get(name, []))) for name in _LISTS}
    missing = {text_of(site): text_of(why) for site, why in _table(entry, "missing").items()}
    to, back = (_sizes(entry, name) for name in ("bytes_to_sites", "bytes_from_sites"))
    sites = set().union(*lists.values(), missing, to, back)
    return [{"site_id": site, **{name: site in members for name, members in lists.items()},
             "missing": missing.get(site, ""), "bytes_to": to.get(site, 0), "bytes_from": back.get(site, 0)}
            for site in sorted(sites)]


def measure_rows(entry: Event) -> list[dict[str, Any]]:
    """What was measured on public questions or by the sites' noised evaluation; what is not finite is left out."""
    found, measured = [], dict(_table(entry, "public"))
    for name, value in (_table(entry, "evaluation") if entry.get("evaluation") else {}).items():
        if name in _EVALUATED and value is not None:
            measured[_EVALUATED[name]] = value
    for name, value in measured.items():
        if isinstance(value, float) and not math.isfinite(value):
            continue
        found.append({"name": text_of(name), "value": number(value)})
    return found


def cohort_rows(event: Event) -> list[dict[str, Any]]:
    """One row for each answer to an admission: `SITE`, `SITE (step: CODE)`, or the code of a node without a name."""
    floor, rows = whole(event.get("floor")), []
    for site in _names(event.get("accepted")):
        rows.append({"site_id": site, "accepted": True, "reason": ""})
    for text in _names(event.get("refused")):
        named = _REFUSED.fullmatch(text)
        rows.append({"site_id": named[1] if named else "", "accepted": False, "reason": named[2] if named else text})
    return [{**row, "entry": entry, "floor": floor, "time": event["time"]} for entry, row in enumerate(rows)]


def step_row(event: Event) -> dict[str, Any]:
    """A protocol step that was closed."""
    return {"time": event["time"], "round": whole(event.get("round")), "step": text_of(event.get("step")),
            "seconds": number(event.get("seconds")), "asked": whole(event.get("asked")),
            "answered": whole(event.get("answered"))}


def _or_none(entry: Event, name: str) -> float | None:
    return None if entry.get(name) is None else number(entry[name])


def _names(value: Any) -> list[str]:
    if not isinstance(value, list) or len(value) > _MOST_SITES:
        raise ValueError("no list of names")
    return [text_of(one) for one in value]


def _table(entry: Event, name: str) -> dict[str, Any]:
    value = entry.get(name, {})
    if not isinstance(value, dict) or len(value) > _MOST_SITES:
        raise ValueError(f"{name} is no table")
    return value


def _sizes(entry: Event, name: str) -> dict[str, int]:
    return {text_of(site): whole(size, 2**62) for site, size in _table(entry, name).items()}
