"""Whether every release that a ledger books stands under a reservation: the rule of booking, asked of checked rows.

*Guarantees.* `booking_fault` names the first release that `Ledger.reserve` would not have booked where it stands: its
run was not reserved before it, was reserved with another delta, or had too few such steps left. What a ledger charges
is its reservations, so a release outside them is charged nothing.

*Assumes.* Chain and signatures were checked (`privacy.ledger_chain`).

*Does not cover.* The site's caps, which an export does not hold. Steps without noise: they stand under no reservation
and make epsilon infinite (`Account.objection`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from privacy.dp.accounting import ReleaseEvent
from privacy.ledger_chain import Row
from privacy.ledger_entries import LedgerEntry, Reservation, parse_entry, parse_reservation

__all__ = ["booking_fault"]


def booking_fault(rows: Sequence[Row]) -> str | None:
    """One sentence about the first release row that no reservation covers; None when each one is covered."""
    held: dict[str, Reservation] = {}
    left: Counter[tuple[str, ReleaseEvent]] = Counter()
    for row in rows:
        if row.kind == "reservation":
            reservation = parse_reservation(row.body)
            if reservation.run_id not in held:  # the first one is what `Account.reservation` books under
                held[reservation.run_id] = reservation
                for event in reservation.events:
                    left[reservation.run_id, replace(event, steps=1)] += event.steps
        elif row.kind == "release":
            entry = parse_entry(row.body)
            why = _why_not(entry, held.get(entry.run_id), left)
            if why is not None:
                return (f"ledger row {row.seq} books a release {why}, so what this ledger charges does not cover it: "
                        "restore the newest copy, and ask who wrote this one")
    return None


def _why_not(
    entry: LedgerEntry, reservation: Reservation | None, left: Counter[tuple[str, ReleaseEvent]]
) -> str | None:
    if entry.mechanism == "none":
        return None
    if reservation is None:
        return "of a run that was not reserved before it"
    if entry.delta != reservation.delta:
        return "at another delta than its run was reserved with"
    mechanism = entry.run_id, replace(entry.event(), steps=1)
    left[mechanism] -= entry.steps
    return "beyond the steps that its run reserved" if left[mechanism] < 0 else None
