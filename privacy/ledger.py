"""The site's own account of what was released, written before anything is.

*Guarantees.*
    * `reserve` is on the disk (SQLite, synchronous=EXTRA, one transaction) before it returns, and refuses a
      step that would take epsilon past the cap. A crash after it can over-count, never under-count.
    * Rows are only appended: triggers refuse changes, and each row's SHA-256 covers the one before, so an
      edit or a removal inside the chain is found before the next reservation, which is then refused.
    * Epsilon is computed from the entries whenever it is asked for; no total is stored.
    * A step without noise makes epsilon infinite for good; a statement of privacy is refused over such a step
      and over noise from a simulated source.

*Assumes.*
    * One file a site, kept for as long as its patients' data is used: another file, or an older copy, would
      start another budget. Who may write the file is the operating system's matter (mode 0600).
    * Entries describe what is then done: unit, sampling and noise are the trainer's to keep.

*Does not cover.*
    * Someone who rewrites the whole chain or cuts its end and sequence counter. Hand `head()` to a third
      party and compare with `verify_chain(expected_head)`; that finds both.
    * Later runs whose parameters were chosen by looking at earlier releases (`privacy.dp.accounting`).
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from privacy.dp.accounting import ReleaseEvent, epsilon
from privacy.errors import BudgetExceededError

__all__ = ["Ledger", "LedgerEntry", "LedgerTamperedError", "NotPrivateError", "Statement"]

Mechanism = Literal["poisson-gaussian", "none"]

_GENESIS = bytes(32)
_SCHEMA = """
CREATE TABLE IF NOT EXISTS events (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, kind TEXT NOT NULL, body TEXT NOT NULL, hash BLOB NOT NULL
) STRICT;
CREATE TRIGGER IF NOT EXISTS events_no_update BEFORE UPDATE ON events
    BEGIN SELECT RAISE(ABORT, 'the ledger is append-only'); END;
CREATE TRIGGER IF NOT EXISTS events_no_delete BEFORE DELETE ON events
    BEGIN SELECT RAISE(ABORT, 'the ledger is append-only'); END;
"""


class LedgerTamperedError(Exception):
    """The chain of hashes does not hold; nothing is released until an operator restores the ledger."""


class NotPrivateError(Exception):
    """No differential-privacy statement can be made over these entries; `str()` says why."""


@dataclass(frozen=True)
class LedgerEntry:
    """One reservation: `steps` releases of one attempt of one round.

    `accountant` names what epsilon was planned with, `delta` is the site's; `created_utc` is an ISO 8601 time.
    For mechanism "none" the sampling rate and noise multiplier are recorded and not interpreted. Raises
    ValueError for values that the accountant could not book.
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
    unit: str = "patient"
    neighbouring: str = "add-remove-one-patient"
    accountant: str = "dp-accounting PLD 1e-3"

    def __post_init__(self) -> None:
        if self.mechanism not in ("poisson-gaussian", "none"):
            raise ValueError("mechanism must be 'poisson-gaussian' or 'none'")
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
        if self.mechanism == "poisson-gaussian":
            self.event()

    def event(self) -> ReleaseEvent:
        """What the accountant reads."""
        return ReleaseEvent(self.sampling_rate, self.noise_multiplier, self.steps)


@dataclass(frozen=True)
class Statement:
    """What a site may claim: (`epsilon`, `delta`)-DP for every patient over all of its `entries`."""

    epsilon: float
    delta: float
    entries: int
    head: str

    def __str__(self) -> str:
        return (
            f"({self.epsilon:.4g}, {self.delta:.3g})-differential privacy for each patient (add/remove one "
            f"patient, Poisson sampling, Gaussian noise, PLD accountant) over {self.entries} ledger entries, "
            f"head {self.head[:16]}"
        )


class Ledger:
    """The account of one site. Open it with `Ledger.open`; safe between processes, not between threads."""

    def __init__(self, connection: sqlite3.Connection, epsilon_cap: float | None) -> None:
        self._db = connection
        self._cap = epsilon_cap

    @classmethod
    def open(cls, path: Path | str, *, epsilon_cap: float | None = None, must_exist: bool = False) -> Ledger:
        """Open or create the ledger file (mode 0600) and check its chain.

        `epsilon_cap` is the site's own limit; without one the ledger can be read but not reserved on, and
        `math.inf` says in so many words that there is no limit. Raises LedgerTamperedError, ValueError for a
        cap that is not above 0, FileNotFoundError when it `must_exist`.
        """
        if epsilon_cap is not None and not epsilon_cap > 0:
            raise ValueError(f"epsilon_cap must be above 0, not {epsilon_cap}")
        file = Path(path)
        _prepare(file, must_exist)
        ledger = cls(_connect(file), epsilon_cap)
        ledger.verify_chain()
        return ledger

    def close(self) -> None:
        """Release the file."""
        self._db.close()

    def reserve(self, entry: LedgerEntry) -> int:
        """Book `entry` durably, then return its row number; only now may anything of it be released.

        Raises BudgetExceededError when epsilon of all entries and this one is above the cap (and books
        nothing), LedgerTamperedError, ValueError when the ledger was opened without a cap or when the run's
        (round, attempt) does not come after the last one.
        """
        if self._cap is None:
            raise ValueError("this ledger was opened for reading: pass epsilon_cap to reserve")
        with self._transaction():
            self.verify_chain()
            self._require_later(entry.run_id, entry.round, entry.attempt)
            booked = self.entries()
            requested = _epsilon_of([*booked, entry], None)
            if requested > self._cap:
                raise BudgetExceededError(_epsilon_of(booked, None), requested, self._cap)
            return self._append("release", asdict(entry))

    def bind_run(self, run_id: str, manifest_hash: str) -> bool:
        """Book that `run_id` stands for this manifest (its hash in hex).

        False, and nothing is booked, when something was already reserved under `run_id` for another manifest:
        its rounds were planned and approved under that one.
        """
        with self._transaction():
            self.verify_chain()
            bound = [b["manifest_hash"] for b in self._bodies("run") if b["run_id"] == run_id]
            if bound and bound[-1] == manifest_hash:
                return True
            if self.last_attempt(run_id) is not None:
                return False
            self._append("run", {"run_id": run_id, "manifest_hash": manifest_hash})
            return True

    def record_attempt(self, run_id: str, round: int, attempt: int) -> int:
        """Book an attempt that releases nothing new (it re-sends a vector already reserved and noised)."""
        with self._transaction():
            self.verify_chain()
            self._require_later(run_id, round, attempt)
            return self._append("attempt", {"run_id": run_id, "round": round, "attempt": attempt})

    def mark_masked(self, run_id: str, round: int) -> None:
        """Book, durably, that this round's masked vector is about to leave; idempotent.

        Raises ValueError when nothing was reserved for the round.
        """
        with self._transaction():
            self.verify_chain()
            if not any(e.run_id == run_id and e.round == round for e in self.entries()):
                raise ValueError("nothing was reserved for this round: reserve before masking")
            if not self.is_masked(run_id, round):
                self._append("masked", {"run_id": run_id, "round": round})

    def is_masked(self, run_id: str, round: int) -> bool:
        """Whether this round's masked vector may have left the site."""
        return {"run_id": run_id, "round": round} in self._bodies("masked")

    def last_attempt(self, run_id: str) -> tuple[int, int] | None:
        """The largest (round, attempt) booked for the run, None for a run not seen."""
        seen = [*self._bodies("release"), *self._bodies("attempt")]
        return max(((b["round"], b["attempt"]) for b in seen if b["run_id"] == run_id), default=None)

    def entries(self) -> tuple[LedgerEntry, ...]:
        """Every reservation, oldest first."""
        return tuple(LedgerEntry(**body) for body in self._bodies("release"))

    def spent(self, delta: float | None = None) -> float:
        """Epsilon of all entries at `delta`; by default at the smallest delta of any entry, as in `reserve`."""
        return _epsilon_of(self.entries(), delta)

    def would_spend(self, events: Sequence[ReleaseEvent], delta: float) -> float:
        """Epsilon at `delta` if `events` (say, all rounds of a run's plan) followed what is booked."""
        booked = self.entries()
        if any(entry.mechanism == "none" for entry in booked):
            return math.inf
        return epsilon([*(entry.event() for entry in booked), *events], delta)

    def is_private(self) -> bool:
        """False when an entry has no noise or noise from a simulated source."""
        return self._objection() is None

    def statement(self, delta: float | None = None) -> Statement:
        """The claim over all entries. Raises NotPrivateError when none can be made, LedgerTamperedError."""
        self.verify_chain()
        objection = self._objection()
        if objection is not None:
            raise NotPrivateError(objection)
        entries = self.entries()
        smallest = min((entry.delta for entry in entries), default=1e-5) if delta is None else delta
        return Statement(_epsilon_of(entries, smallest), smallest, len(entries), self.head().hex())

    def head(self) -> bytes:
        """The hash of the last row (32 bytes, zero for an empty ledger): what a third party may keep."""
        row = self._db.execute("SELECT hash FROM events ORDER BY seq DESC LIMIT 1").fetchone()
        return bytes(row[0]) if row else _GENESIS

    @property
    def sequence(self) -> int:
        """Number of rows; with `head` it says how far this ledger is."""
        row = self._db.execute("SELECT max(seq) FROM events").fetchone()
        return int(row[0] or 0)

    def holds(self, sequence: int, head: bytes) -> bool:
        """Whether row `sequence` has the hash `head`; (0, 32 zero bytes) is where every ledger starts."""
        if sequence == 0:
            return head == _GENESIS
        row = self._db.execute("SELECT hash FROM events WHERE seq = ?", (sequence,)).fetchone()
        return row is not None and bytes(row[0]) == head

    def verify_chain(self, expected_head: bytes | None = None) -> None:
        """Recompute every hash. Raises LedgerTamperedError when one differs or a row is missing.

        With `expected_head`, a head noted earlier, that row must still be in the chain.
        """
        previous, last, seen = _GENESIS, 0, {_GENESIS}
        for seq, kind, body, stored in self._rows():
            previous = _row_hash(previous, seq, kind, body)
            if seq != last + 1 or stored != previous:
                raise LedgerTamperedError(f"ledger row {seq} was altered, or a row before it removed")
            last = seq
            seen.add(previous)
        counter = self._db.execute("SELECT seq FROM sqlite_sequence WHERE name = 'events'").fetchone()
        if (counter[0] if counter else 0) != last:
            raise LedgerTamperedError("rows are missing at the end of the ledger")
        if expected_head is not None and expected_head not in seen:
            raise LedgerTamperedError("the ledger does not contain the head that was noted earlier")

    def _objection(self) -> str | None:
        entries = self.entries()
        if any(entry.mechanism == "none" for entry in entries):
            return "a step was released without noise, so no differential-privacy statement holds"
        if any(entry.entropy == "simulated" for entry in entries):
            return "noise came from a simulated source, so no differential-privacy statement holds"
        return None

    def _require_later(self, run_id: str, round: int, attempt: int) -> None:
        last = self.last_attempt(run_id)
        if last is not None and (round, attempt) <= last:
            raise ValueError("this round and attempt are already in the ledger: use the next attempt number")

    def _append(self, kind: str, body: dict[str, Any]) -> int:
        text = json.dumps(body, sort_keys=True, separators=(",", ":"), allow_nan=False)
        row = self._db.execute("SELECT max(seq) FROM events").fetchone()
        seq = (row[0] or 0) + 1
        digest = _row_hash(self.head(), seq, kind, text)
        self._db.execute("INSERT INTO events VALUES (?, ?, ?, ?)", (seq, kind, text, digest))
        return int(seq)

    def _bodies(self, kind: str) -> list[dict[str, Any]]:
        rows = self._db.execute("SELECT body FROM events WHERE kind = ? ORDER BY seq", (kind,))
        return [json.loads(row[0]) for row in rows]

    def _rows(self) -> Iterator[tuple[int, str, str, bytes]]:
        yield from self._db.execute("SELECT seq, kind, body, hash FROM events ORDER BY seq")

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        """All or nothing, and alone: another process waits. A commit returns after the disk has it."""
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._db.execute("COMMIT")
        except BaseException:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise


def _epsilon_of(entries: Sequence[LedgerEntry], delta: float | None) -> float:
    """Epsilon of `entries`; infinite as soon as one has no noise."""
    if any(entry.mechanism == "none" for entry in entries):
        return math.inf
    if not entries:
        return 0.0
    smallest = min(entry.delta for entry in entries) if delta is None else delta
    return epsilon([entry.event() for entry in entries], smallest)


def _row_hash(previous: bytes, seq: int, kind: str, body: str) -> bytes:
    """SHA-256 over the previous hash and a JSON array of the row: any auditor can redo it in a few lines."""
    row = json.dumps([seq, kind, body], separators=(",", ":")).encode()
    return hashlib.sha256(b"ledger/1|" + previous + row).digest()


def _prepare(file: Path, must_exist: bool) -> None:
    """Make the file with mode 0600 before SQLite opens it, and make its name durable."""
    if must_exist and not file.exists():
        raise FileNotFoundError("the ledger file is missing: restore it, a new one forgets what was spent")
    os.close(os.open(file, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600))
    file.chmod(0o600)
    directory = os.open(file.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def _connect(file: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(file, isolation_level=None, timeout=30)
    try:
        # EXTRA is FULL and also syncs the folder once the journal is gone: a commit survives a power cut.
        connection.execute("PRAGMA journal_mode = DELETE")
        connection.execute("PRAGMA synchronous = EXTRA")
        connection.execute("BEGIN IMMEDIATE")
        for statement in _SCHEMA.split(";\n"):
            connection.execute(statement)
        connection.execute("COMMIT")
    except sqlite3.DatabaseError as error:
        connection.close()
        raise LedgerTamperedError("the ledger file is not a readable database") from error
    return connection
