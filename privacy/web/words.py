"""How values are written on a page: protocol steps, times, sizes, and what a code means and what to do about it.

*Guarantees.* A code's meaning and remedy are the fixed sentences of `privacy.errors`, whatever stood around it.

*Assumes.* Values are numbers and our own words; the templates escape them.

*Does not cover.* Codes that this release does not know: they are shown as they are.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from privacy.errors import FAULTS, POLICY_ACTIONS, POLICY_REFUSALS

__all__ = ["FILTERS", "STEPS", "Meaning", "ago", "duration", "meanings", "rough", "size", "step_words", "utc"]

STEPS = {
    "sa_train": "train and announce keys", "sa_share": "exchange key shares", "sa_mask": "upload masked updates",
    "sa_confirm": "confirm who is in the sum", "sa_unmask": "open the sum", "sa_result": "check the result and attest"}
_ADMISSION = {"roster": "roster", "hello": "accept the run", "witness": "witness ledgers", "restore": "compare ledgers"}
_CODE = re.compile(r"[EP]_[A-Z0-9_]+")

Meaning = tuple[str, str, str]  # code, what it means, what to do


def meanings(*reasons: str, plain: Mapping[str, tuple[str, str]] | None = None) -> list[Meaning]:
    """What the codes in `reasons` mean and what to do, each once, in order.

    Args:
        plain: word -> (meaning, what to do) of reasons that are no codes.
    """
    found: dict[str, Meaning] = {}
    for reason in reasons:
        for code in _CODE.findall(reason):
            if code in FAULTS:
                found[code] = (code, FAULTS[code].sentence, FAULTS[code].action)
            elif code in POLICY_REFUSALS:
                found[code] = (code, POLICY_REFUSALS[code], POLICY_ACTIONS[code])
        for word, (sentence, action) in (plain or {}).items():
            if reason == word or reason.endswith(f": {word}"):
                found[word] = (word, sentence, action)
    return [found[code] for code in sorted(found)]


def step_words(step: str) -> str:
    """A protocol step in words; one that is not known as it is."""
    return STEPS.get(step) or _ADMISSION.get(step) or step


def ago(seconds: float | None) -> str:
    """A duration since something, rounded to its largest unit."""
    if seconds is None:
        return "never"
    for unit_s, unit in ((86400, "days"), (3600, "h"), (60, "min")):
        if seconds >= 2 * unit_s:
            return f"{seconds / unit_s:.0f} {unit} ago"
    return f"{max(0.0, seconds):.0f} s ago"


def duration(seconds: float | None) -> str:
    """A duration."""
    if seconds is None:
        return "-"
    if seconds < 100:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def rough(seconds: float) -> str:
    """A duration that is a guess: a few digits would promise too much."""
    return f"{max(10, round(seconds, -1)):.0f} s" if seconds < 100 else duration(seconds)


def size(count: float | None) -> str:
    """Bytes."""
    value = float(count or 0)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000 or unit == "GB":
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    return ""


def utc(when: float | None) -> str:
    """A Unix time as ISO 8601 in UTC, to the second; "" for none or one outside the calendar."""
    try:
        return "" if when is None else datetime.fromtimestamp(when, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    except (ValueError, OverflowError, OSError):
        return ""


def _since(when: float | None) -> str:
    return ago(None if when is None else time.time() - when)


def _value(number: float | None, digits: int = 3) -> str:
    return "-" if number is None else f"{number:.{digits}g}" if abs(number) < 1000 else f"{number:,.0f}"


FILTERS: dict[str, Any] = {
    "ago": ago, "since": _since, "duration": duration, "rough": rough, "size": size, "utc": utc, "value": _value,
    "step_words": step_words}
"""Jinja's filters."""
