"""The site's own account of what was released, written before anything is.

*Guarantees.*
    * `reserve_run` and `reserve` are on the disk before they return, and refuse what would take epsilon or delta past
      the site's caps, or a round outside its run's reserved schedule. A crash after them can over-count, never
      under-count.
    * Rows are only appended, chained by hashes and signed by the site's key (`privacy.ledger_chain`,
      `privacy.ledger_file`); any fault is found before the next row, which is then refused.
    * Epsilon is computed from the rows whenever it is asked for (`privacy.ledger_account`); no total is stored.
    * One budget for everything at this site: other data folders, indexes, pseudonym keys, runs, restarts and a
      rotated signing key all book here.

*Assumes.*
    * One file a site, kept for as long as its patients' data is used.
    * Entries describe what is then done: unit, sampling and noise are the trainer's to keep.

*Does not cover.*
    * A whole disk restored to an earlier day, or a new chain written with the site's own key. Peers that keep
      (`sequence`, `head`) and ask `holds` find both.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from privacy.dp.accounting import ReleaseEvent
from privacy.dp.guarantees import Guarantees
from privacy.identity import SigningKey
from privacy.ledger_account import Account, Limits, NotPrivateError, Statement
from privacy.ledger_bookings import booking_fault
from privacy.ledger_chain import EXPORT_FORMAT, GENESIS, LedgerTamperedError, Row
from privacy.ledger_entries import Composition, LedgerEntry, Reservation, parse_entry, parse_reservation
from privacy.ledger_file import LedgerFile, LedgerVersionError

__all__ = ["Ledger", "LedgerEntry", "LedgerTamperedError", "LedgerVersionError", "NotPrivateError", "Statement",
           "account_of", "objection_of"]


class Ledger:
    """The account of one site. Open it with `Ledger.open`; safe between processes, not between threads."""

    def __init__(self, file: LedgerFile, limits: Limits | None) -> None:
        self._file = file
        self._limits = limits

    @classmethod
    def open(
        cls, path: Path | str, *, signing_key: SigningKey | None = None, epsilon_cap: float | None = None,
        delta_cap: float | None = None, composition: Composition = "sum", renyi_order: int = 8,
        must_exist: bool = False, allow_unnoised: bool = False, shared: Guarantees | None = None,
    ) -> Ledger:
        """Open or create the ledger file (mode 0600) and check it.

        Without `signing_key` it can be read only. `epsilon_cap` and `delta_cap` are the site's own limits; nothing is
        reserved without the first, and `math.inf` says in so many words that there is no limit; without the second
        delta is not limited. Steps without noise are booked only where `allow_unnoised`, runs with distributed noise
        only under the caps `shared` (`privacy.ledger_account.Limits`). `composition` and `renyi_order` are fixed by the
        ledger's first run.

        Raises LedgerTamperedError; LedgerVersionError (a ValueError) for a file of another release; ValueError for
        bad caps or a key that is not the ledger's; FileNotFoundError when it `must_exist` or once did.
        """
        limits = None
        if epsilon_cap is not None:
            delta = 1.0 if delta_cap is None else delta_cap
            limits = Limits(epsilon_cap, delta, composition, renyi_order, allow_unnoised, shared)
        return cls(LedgerFile(Path(path), signing_key, must_exist), limits)

    @classmethod
    def looking(cls, path: Path, epsilon_cap: float, delta_cap: float, shared: Guarantees | None = None) -> Ledger:
        """The ledger as it is, checked, for a page: nothing is made, mended or kept waiting (`LedgerFile.looking`)."""
        return cls(LedgerFile.looking(path), Limits(epsilon_cap, delta_cap, shared=shared))

    def close(self) -> None:
        """Release the file."""
        self._file.close()

    # -------------------------------------------------------------- before a release

    def reserve_run(
        self, run_id: str, manifest_hash: str, events: Sequence[ReleaseEvent], delta: float,
        created_utc: str | None = None,
    ) -> None:
        """Book a run's whole maximum schedule durably, once, before its first training; idempotent.

        Args:
            manifest_hash: hex, of the manifest that the schedule is from.
            events: every release that the run can make.
            delta: the site's for this run.
            created_utc: ISO 8601, None = now. The row's hash leaves in the ledger's mark and every other field can be
                guessed, so a time that depends on the data would tell it.

        Raises:
            BudgetExceededError: with the numbers, code P_BUDGET or P_DELTA; nothing is booked.
            ValueError: the run was reserved or bound for something else, or this ledger cannot be written.
            LedgerTamperedError: see `verify_chain`.
        """
        with self._file.transaction() as rows:
            account = self._account(rows)
            bound = _bound_manifest(rows, run_id)
            if bound is not None and bound != manifest_hash:
                raise ValueError("this run stands for another manifest here: use another run_id")
            held = account.reservation(run_id)
            if held is not None:
                if (held.manifest_hash, held.events, held.delta) != (manifest_hash, tuple(events), delta):
                    raise ValueError("this run was reserved with another schedule: use another run_id")
                account.require_room(run_id, events, delta)
                return
            account.require_room(run_id, events, delta)
            booked = Reservation(
                run_id, manifest_hash, tuple(events), delta, account.composition, account.order,
                created_utc or datetime.now(UTC).isoformat(timespec="seconds"))
            self._file.append("reservation", booked.body())

    def reserve(self, entry: LedgerEntry) -> int:
        """Book one round durably, then return its row number; only now may anything of it be released.

        Raises BudgetExceededError when the run's reserved schedule has too few such steps left or a cap is reached
        (and books nothing), LedgerTamperedError, ValueError when the run was not reserved, when the ledger cannot be
        written, or when the run's (round, attempt) does not come after the last one.
        """
        with self._file.transaction() as rows:
            _require_later(rows, entry.run_id, entry.round, entry.attempt)
            self._account(rows).require_fits(entry)
            return self._file.append("release", asdict(entry))

    def bind_run(self, run_id: str, manifest_hash: str) -> bool:
        """Book that `run_id` stands for this manifest (its hash in hex).

        False, and nothing is booked, when something was already reserved under `run_id` for another manifest:
        its rounds were planned and approved under that one.
        """
        with self._file.transaction() as rows:
            if _bound_manifest(rows, run_id) == manifest_hash:
                return True
            if self._is_taken(rows, run_id):
                return False
            self._file.append("run", {"run_id": run_id, "manifest_hash": manifest_hash})
            return True

    def may_bind(self, run_id: str, manifest_hash: str) -> bool:
        """What `bind_run` would say now; books nothing."""
        rows = self._file.rows()
        return _bound_manifest(rows, run_id) == manifest_hash or not self._is_taken(rows, run_id)

    def _is_taken(self, rows: Sequence[Row], run_id: str) -> bool:
        account = self._account(rows)
        return account.reservation(run_id) is not None or any(e.run_id == run_id for e in account.entries)

    # -------------------------------------------------------------- during a round

    def record_attempt(self, run_id: str, round: int, attempt: int) -> int:
        """Book an attempt that releases nothing new (it re-sends a vector already reserved and noised)."""
        with self._file.transaction() as rows:
            _require_later(rows, run_id, round, attempt)
            return self._file.append("attempt", {"run_id": run_id, "round": round, "attempt": attempt})

    def mark_masked(self, run_id: str, round: int) -> bool:
        """Book, durably, that this round's masked vector is about to leave; False when that was booked before.

        Of two processes that ask at once, one is told True. Raises ValueError when nothing was reserved for the round.
        """
        return self._book_round("masked", run_id, round, "nothing was reserved for this round: reserve before masking")

    def finish_round(self, run_id: str, round: int) -> None:
        """Book that this round's unmask shares are about to leave, so that its sum can be opened; idempotent.

        Raises ValueError when nothing was reserved for the round.
        """
        self._book_round("finished", run_id, round, "nothing was reserved for this round: reserve before finishing")

    def is_masked(self, run_id: str, round: int) -> bool:
        """Whether this round's masked vector may have left the site."""
        return (run_id, round) in _rounds(self._file.rows(), "masked")

    def last_attempt(self, run_id: str) -> tuple[int, int] | None:
        """The largest (round, attempt) booked for the run, None for a run not seen."""
        return _last_attempt(self._file.rows(), run_id)

    # -------------------------------------------------------------- what it adds up to

    def account(self) -> Account:
        """Everything that the rows say about the budget, as a value."""
        return self._account(self._file.rows())

    def entries(self) -> tuple[LedgerEntry, ...]:
        """Every round's reservation, oldest first."""
        return self.account().entries

    def spent(self) -> float:
        """The site's epsilon over all runs, as charged: reserved schedules, or entries at one Renyi order."""
        return self.account().spent()

    def spent_delta(self) -> float:
        """The delta that goes with `spent`."""
        return self.account().delta()

    def ran(self, delta: float | None = None) -> float:
        """For information: PLD epsilon of what is booked as released, at `delta` or the smallest of any entry."""
        return self.account().ran(delta)

    def wasted_rounds(self, *, next_round: bool = False) -> int:
        """Reserved rounds that came to nothing; see `Account.wasted`."""
        return self.account().wasted(next_round=next_round)

    def is_private(self) -> bool:
        """Whether a statement of privacy can be made over the entries."""
        return objection_of(self._file.rows()) is None

    def statement(self) -> Statement:
        """The claim over all entries. Raises NotPrivateError when none holds, LedgerTamperedError."""
        rows = self._file.verify()
        objection = objection_of(rows)
        if objection is not None:
            raise NotPrivateError(objection)
        account = self._account(rows)
        head = rows[-1].hash if rows else GENESIS
        against = account.guarantees() if account.shares_noise() else None
        return Statement(account.spent(), account.delta(), len(account.entries), head.hex(), account.ran(), against)

    # -------------------------------------------------------------- the chain

    @property
    def sequence(self) -> int:
        """How many rows there are; it only grows."""
        return self._file.sequence

    def head(self) -> bytes:
        """The hash of the last row (32 bytes, zero for an empty ledger): what a third party may keep."""
        return self._file.head()

    def holds(self, sequence: int, head: bytes) -> bool:
        """Whether row `sequence` has that hash; (0, 32 zero bytes) is always held."""
        if sequence == 0:
            return head == GENESIS
        return any(row.seq == sequence and row.hash == head for row in self._file.rows())

    def verify_chain(self, expected_head: bytes | None = None) -> None:
        """Recompute every hash, check every signature and the high-water mark.

        With `expected_head`, a head noted earlier, that row must still be in the chain. Raises LedgerTamperedError.
        """
        rows = self._file.verify()
        if expected_head is not None and expected_head not in {GENESIS, *(row.hash for row in rows)}:
            raise LedgerTamperedError("the ledger does not contain the head that was noted earlier")

    def verify_bookings(self) -> None:
        """Raises LedgerTamperedError when a release row stands under no reservation (`privacy.ledger_bookings`)."""
        fault = booking_fault(self._file.verify())
        if fault is not None:
            raise LedgerTamperedError(fault)

    def rotate_key(self, new_key: SigningKey) -> int:
        """Hand the ledger over to `new_key`: a row signed by both keys. What was spent stays spent."""
        return self._file.rotate(new_key)

    @property
    def current_key(self) -> bytes:
        """The public key (32 bytes) that signs the next row; b"" for an empty ledger opened for reading."""
        rows = self._file.verify()
        for row in reversed(rows):
            if row.kind == "rotate":
                return bytes.fromhex(json.loads(row.body)["public_key"])
        return rows[0].signer if rows else b""

    def export(self) -> dict[str, Any]:
        """Rows, hashes, signatures and keys as plain JSON values, for `privacy.ledger_chain.check_export`."""
        rows = self._file.verify()
        return {
            "format": EXPORT_FORMAT, "sequence": len(rows), "head": (rows[-1].hash if rows else GENESIS).hex(),
            "first_key": rows[0].signer.hex() if rows else "", "current_key": self.current_key.hex(),
            "rows": [{"seq": row.seq, "kind": row.kind, "body": row.body, "hash": row.hash.hex(),
                      "signer": row.signer.hex(), "signature": row.signature.hex()} for row in rows]}

    def _account(self, rows: Sequence[Row]) -> Account:
        return account_of(rows, self._limits)

    def _book_round(self, kind: str, run_id: str, round: int, missing: str) -> bool:
        with self._file.transaction() as rows:
            if not any(e.run_id == run_id and e.round == round for e in self._account(rows).entries):
                raise ValueError(missing)
            new = (run_id, round) not in _rounds(rows, kind)
            if new:
                self._file.append(kind, {"run_id": run_id, "round": round})
            return new


def account_of(rows: Sequence[Row], limits: Limits | None = None) -> Account:
    """What checked rows add up to; also for the rows of an export."""
    return Account(
        reservations=tuple(parse_reservation(row.body) for row in rows if row.kind == "reservation"),
        entries=tuple(parse_entry(row.body) for row in rows if row.kind == "release"),
        finished=frozenset(_rounds(rows, "finished")), limits=limits)


def objection_of(rows: Sequence[Row]) -> str | None:
    """Why no statement can be made over checked rows, None when one can; also for the rows of an export."""
    return account_of(rows).objection() or booking_fault(rows)


def _bound_manifest(rows: Sequence[Row], run_id: str) -> str | None:
    bodies = [json.loads(row.body) for row in rows if row.kind in ("run", "reservation")]
    found = [str(body["manifest_hash"]) for body in bodies if body["run_id"] == run_id]
    return found[-1] if found else None


def _rounds(rows: Sequence[Row], kind: str) -> set[tuple[str, int]]:
    bodies = [json.loads(row.body) for row in rows if row.kind == kind]
    return {(body["run_id"], body["round"]) for body in bodies}


def _last_attempt(rows: Sequence[Row], run_id: str) -> tuple[int, int] | None:
    seen = [json.loads(row.body) for row in rows if row.kind in ("release", "attempt")]
    return max(((body["round"], body["attempt"]) for body in seen if body["run_id"] == run_id), default=None)


def _require_later(rows: Sequence[Row], run_id: str, round: int, attempt: int) -> None:
    last = _last_attempt(rows, run_id)
    if last is not None and (round, attempt) <= last:
        raise ValueError("this round and attempt are already in the ledger: use the next attempt number")
