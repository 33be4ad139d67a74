"""Words and numbers that the screen's table and the page share."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["KIND_TITLES", "NOT_PRIVATE", "percent"]

KIND_TITLES = {
    "normal": "study normal?",
    "impression": "which impression?",
    "alike": "patches alike?",
}
NOT_PRIVATE = ("This is a simulation with repeatable (seeded) randomness. Its epsilon shows what a real run would "
               "spend; nothing in it is private, and it carries no privacy statement.")


def percent(interval: Sequence[float]) -> str:
    """`92.3% [90.1, 94.2]` from (estimate, low, high) as shares."""
    estimate, low, high = interval
    return f"{100 * estimate:.1f}% [{100 * low:.1f}, {100 * high:.1f}]"
