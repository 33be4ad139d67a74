"""What the ledger's rows say: a run's whole schedule, reserved before it begins, and each round's releases.

*Guarantees.* A row that the accountant could not book is refused when it is made and when it is read.

*Assumes.* Entries describe what is then done: unit, sampling and noise are the trainer's to keep.

*Does not cover.* How rows are kept (`privacy.ledger_file`) and what they add up to (`privacy.ledger_account`).
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any, Literal

from privacy.dp.accounting import ReleaseEvent

__all__ = ["Composition", "LedgerEntry", "Mechanism", "Reservation", "parse_entry", "parse_reservation"]

Mechanism = Literal["poisson-gaussian", "distributed-gaussian", "none"]
Composition = Literal["sum", "rdp"]


@dataclass(frozen=True)
class LedgerEntry:
    """One reservation: `steps` releases of one attempt of one round.

    `accountant` names what epsilon was planned with, `delta` is the site's; `created_utc` is an ISO 8601 time.
    `truncated_batch` and `most_patients` are those of `ReleaseEvent`, 0 for plain Poisson sampling; so are
    `min_survivors`, `colluders` and `levels`, above 0 for mechanism "distributed-gaussian" only. For mechanism
    "none" the sampling rate and noise multiplier are recorded and not interpreted. Raises ValueError for values
    that the accountant could not book.
    """

    run_id: str
    round: int
    attempt: int
    stage: int
    mechanism: Mechanism
    sampling_rate: float
    noise_multiplier: float
    steps: int
    clip_norm: float
    delta: float
    entropy: Literal["system", "simulated"]
    created_utc: str
    truncated_batch: int = 0
    most_patients: int = 0
    unit: str = "patient"
    neighbouring: str = "add-remove-one-patient"
    accountant: str = "dp-accounting PLD 1e-3"
    min_survivors: int = 0
    colluders: int = 0
    levels: int = 0

    def __post_init__(self) -> None:
        if self.mechanism not in ("poisson-gaussian", "distributed-gaussian", "none"):
            raise ValueError("mechanism must be 'poisson-gaussian', 'distributed-gaussian' or 'none'")
        if (self.mechanism == "distributed-gaussian") != (self.levels > 0):
            raise ValueError("mechanism 'distributed-gaussian' goes with the levels and sites of its noise, no other")
        if self.entropy not in ("system", "simulated"):
            raise ValueError("entropy must be 'system' or 'simulated'")
        if (self.unit, self.neighbouring) != ("patient", "add-remove-one-patient"):
            raise ValueError("the ledger books one unit only: the patient, added or removed")
        if min(self.round, self.attempt, self.stage) < 0 or self.steps < 1:
            raise ValueError("round, attempt and stage count from 0, and an entry has at least one step")
        if not 0 < self.delta < 1:
            raise ValueError(f"delta must lie in (0, 1), not {self.delta}")
        if not all(map(math.isfinite, (self.sampling_rate, self.noise_multiplier, self.clip_norm))):
            raise ValueError("sampling_rate, noise_multiplier and clip_norm must be finite numbers")
        if self.mechanism != "none":
            self.event()

    def event(self) -> ReleaseEvent:
        """What the accountant reads."""
        return ReleaseEvent(
            self.sampling_rate, self.noise_multiplier, self.steps, self.truncated_batch, self.most_patients,
            self.min_survivors, self.colluders, self.levels)


@dataclass(frozen=True)
class Reservation:
    """A run's maximum schedule and its delta, fixed before its first training.

    `composition` (and `renyi_order`, 0 for "sum") is how this ledger composes across runs: that of its first
    reservation, for good. Raises ValueError for an empty schedule or a delta outside (0, 1).
    """

    run_id: str
    manifest_hash: str
    events: tuple[ReleaseEvent, ...]
    delta: float
    composition: Composition
    renyi_order: int
    created_utc: str

    def __post_init__(self) -> None:
        if not any(event.steps for event in self.events):
            raise ValueError("a run's schedule has at least one step: reserve its whole maximum")
        if not 0 < self.delta < 1:
            raise ValueError(f"delta must lie in (0, 1), not {self.delta}")
        if self.composition not in ("sum", "rdp"):
            raise ValueError("composition must be 'sum' or 'rdp'")

    def body(self) -> dict[str, Any]:
        """As it is written."""
        return asdict(self)


@lru_cache(maxsize=8192)
def parse_entry(body: str) -> LedgerEntry:
    """The entry of a "release" row's text."""
    return LedgerEntry(**json.loads(body))


@lru_cache(maxsize=1024)
def parse_reservation(body: str) -> Reservation:
    """The reservation of a "reservation" row's text."""
    values = json.loads(body)
    events = tuple(ReleaseEvent(**event) for event in values.pop("events"))
    return Reservation(events=events, **values)
