"""A site's protocol history: what it answered in which round, the results it knows, and the state they led to.

The ledger says what was spent; this says what was said. Every row is on the disk (SQLite, WAL, synchronous=EXTRA,
mode 0600) before the bytes it stands for leave. Secrets are never written: after a crash past the masked upload the
round is lost for this site.

The attested state is one file, named by its SHA-256. It is written whole and fsynced before the row that points to it,
and the row is committed before the old file may go, so a crash at any point leaves the old state or the new one. A file
that is gone or damaged counts as no state, and the coordinator sends it again.
"""

from __future__ import annotations

import hashlib
import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from privacy.durable import sync, write_whole
from privacy.errors import FaultyCoordinatorError
from privacy.messages import Plan, Result, SignedResult
from privacy.results import RoundView

__all__ = ["HeldState", "RoundRecord", "RoundStore"]

_SCHEMA = """
CREATE TABLE IF NOT EXISTS rounds (
    run TEXT NOT NULL, round INTEGER NOT NULL, attempt INTEGER NOT NULL, plan BLOB NOT NULL, h1 BLOB NOT NULL,
    h2 BLOB NOT NULL, h3 BLOB NOT NULL, announced INTEGER NOT NULL, survivors TEXT NOT NULL,
    masked INTEGER NOT NULL, unmasked INTEGER NOT NULL, PRIMARY KEY (run, round)
) STRICT;
CREATE TABLE IF NOT EXISTS results (
    run TEXT NOT NULL, round INTEGER NOT NULL, result BLOB NOT NULL, attest BLOB NOT NULL, PRIMARY KEY (run, round)
) STRICT;
CREATE TABLE IF NOT EXISTS states (
    run TEXT NOT NULL PRIMARY KEY, round INTEGER NOT NULL, name TEXT NOT NULL
) STRICT;
"""
_MORE_STATES = 2  # runs whose state is kept: the newest ones to change


@dataclass(frozen=True)
class RoundRecord:
    """One round as this site saw it: its newest plan, what was agreed, and what has left (flags are never taken back).

    Args:
        plan: of the newest attempt whose keys were announced.
        view: hashes and lists up to the step that was reached.
        masked, unmasked: the masked vector, the shares may have left.
    """

    plan: Plan
    view: RoundView
    masked: bool
    unmasked: bool


@dataclass(frozen=True, eq=False)
class HeldState:
    """The state after `round`, packed as `model.server_optimizer.ServerState.packed` does (uint8)."""

    round: int
    packed: npt.NDArray[np.uint8]


class RoundStore:
    """Opens or makes `rounds.sqlite` and the folder `attested` under `state`. Safe between processes, not threads.

    Raises:
        OSError: the file is a link, or cannot be made (TimeoutError: another process holds it).
        ValueError: it is not a readable database.
    """

    def __init__(self, state: Path) -> None:
        path = state / "rounds.sqlite"
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600))
        path.chmod(0o600)  # its journal and index files inherit the mode
        sync(state)
        self._folder = state / "attested"
        self._folder.mkdir(mode=0o700, exist_ok=True)
        self._db = sqlite3.connect(path, isolation_level=None, timeout=30)
        try:
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = EXTRA")
            self._db.execute("PRAGMA cache_size = -256")  # KiB: small, a simulation holds many sites
            for statement in _SCHEMA.split(";\n"):
                self._db.execute(statement)
        except sqlite3.DatabaseError as error:
            self._db.close()
            if "locked" in str(error):
                raise TimeoutError("another process of this site holds rounds.sqlite: wait for it, then try again") \
                    from error
            raise ValueError("rounds.sqlite is not a readable database: move it away; the ledger still knows which "
                             "rounds are spent, and the coordinator sends the state again") from error

    def close(self) -> None:
        """Release the file."""
        self._db.close()

    # -------------------------------------------------------------- a round's steps

    def advertised(self, plan: Plan) -> None:
        """Keys for this attempt are about to leave. Raises FaultyCoordinatorError E_SPENT when it was masked before."""
        with self._alone():
            if self.is_masked(plan.run_id, plan.round):
                raise FaultyCoordinatorError("E_SPENT")
            self._db.execute(
                "INSERT OR REPLACE INTO rounds VALUES (?, ?, ?, ?, x'', x'', x'', 0, '', 0, 0)",
                (plan.run_id, plan.round, plan.attempt, plan.to_bytes()))

    def masked(self, plan: Plan, view: RoundView) -> None:
        """The masked vector of this attempt is about to leave; once a round, whichever process asks first.

        Raises FaultyCoordinatorError: E_SPENT when it was booked before, or another attempt is in progress.
        """
        with self._alone():
            changed = self._db.execute(
                "UPDATE rounds SET masked = 1, h1 = ?, h2 = ?, announced = ? "
                "WHERE run = ? AND round = ? AND attempt = ? AND masked = 0",
                (view.h1, view.h2, view.announced, plan.run_id, plan.round, plan.attempt)).rowcount
            if changed != 1:
                raise FaultyCoordinatorError("E_SPENT")

    def confirmed(self, plan: Plan, view: RoundView) -> None:
        """The signature of this survivor list is about to leave; the first one stands.

        Raises FaultyCoordinatorError: E_STAGE when another list was confirmed, or nothing was masked.
        """
        survivors = ",".join(view.survivors)
        with self._alone():
            self._db.execute(
                "UPDATE rounds SET h3 = ?, survivors = ? WHERE run = ? AND round = ? AND attempt = ? "
                "AND masked = 1 AND h3 = x''", (view.h3, survivors, plan.run_id, plan.round, plan.attempt))
            row = self._row(plan.run_id, plan.round)
            if row is None or row.view != view or row.plan != plan:
                raise FaultyCoordinatorError("E_STAGE")

    def unmasked(self, plan: Plan) -> None:
        """Shares of this round are about to leave."""
        with self._alone():
            self._db.execute("UPDATE rounds SET unmasked = 1 WHERE run = ? AND round = ?", (plan.run_id, plan.round))

    def find(self, run_id: str, round: int) -> RoundRecord | None:
        """What is known of that round."""
        return self._row(run_id, round)

    def is_masked(self, run_id: str, round: int) -> bool:
        """Whether that round's masked vector may have left."""
        row = self._row(run_id, round)
        return row is not None and row.masked

    def withheld(self, run_id: str) -> int:
        """Rounds after the run's newest known result whose shares may have left: their sums were not shown here."""
        newest = self.newest(run_id)
        found = self._db.execute("SELECT COUNT(*) FROM rounds WHERE run = ? AND unmasked = 1 AND round > ?",
                                 (run_id, -1 if newest is None else newest.round)).fetchone()
        return int(found[0])

    # -------------------------------------------------------------- results

    def newest(self, run_id: str) -> Result | None:
        """The newest result of the run that this site attested or accepted."""
        row = self._db.execute(
            "SELECT result FROM results WHERE run = ? ORDER BY round DESC LIMIT 1", (run_id,)).fetchone()
        return None if row is None else SignedResult.from_bytes(bytes(row[0])).result

    def attested(self, signed: SignedResult) -> bytes | None:
        """This site's attestation of exactly these bytes, None when it gave none for that round.

        Raises FaultyCoordinatorError: E_RESULT_MISMATCH when it knows another result of that round.
        """
        row = self._db.execute("SELECT result, attest FROM results WHERE run = ? AND round = ?",
                               (signed.result.run_id, signed.result.round)).fetchone()
        if row is None:
            return None
        if bytes(row[0]) != signed.to_bytes():
            raise FaultyCoordinatorError("E_RESULT_MISMATCH")
        return bytes(row[1]) or None

    def keep(self, signed: SignedResult, attest: bytes, packed: npt.NDArray[np.uint8]) -> bytes:
        """Keep a result, this site's attestation (b"": it only accepted a quorum's) and the state after it, durably.

        Returns:
            The attestation that stands: of two processes with the same result, the first one's.

        Raises:
            FaultyCoordinatorError: E_RESULT_MISMATCH when another result of that round is known, or a newer one.
        """
        result = signed.result
        name = hashlib.sha256(packed.data).hexdigest()
        with self._alone():
            attest = self.attested(signed) or attest
            newest = self.newest(result.run_id)
            if newest is not None and newest.round > result.round:
                raise FaultyCoordinatorError("E_RESULT_MISMATCH")
            self._remove_unnamed(name)
            if self._read(name) is None:
                write_whole(self._folder / name, packed.tobytes())
            self._db.execute("INSERT OR REPLACE INTO results VALUES (?, ?, ?, ?)",
                             (result.run_id, result.round, signed.to_bytes(), attest))
            self._db.execute("DELETE FROM states WHERE run = ?", (result.run_id,))
            self._db.execute("INSERT INTO states VALUES (?, ?, ?)", (result.run_id, result.round, name))
            self._db.execute("DELETE FROM states WHERE rowid NOT IN (SELECT rowid FROM states ORDER BY rowid DESC "
                             f"LIMIT {_MORE_STATES})")
        return attest

    def state(self, run_id: str) -> HeldState | None:
        """The state after the run's newest result; None when there is none, or its file is gone or damaged."""
        row = self._db.execute("SELECT round, name FROM states WHERE run = ?", (run_id,)).fetchone()
        content = None if row is None else self._read(str(row[1]))
        return None if content is None else HeldState(int(row[0]), np.frombuffer(content, dtype=np.uint8))

    def _read(self, name: str) -> bytes | None:
        try:
            content = (self._folder / name).read_bytes()
        except FileNotFoundError:
            return None
        return content if hashlib.sha256(content).hexdigest() == name else None

    def _remove_unnamed(self, new: str) -> None:
        """Files that no row names (an earlier state, or one that a crash left); only ever inside a transaction."""
        named = {str(row[0]) for row in self._db.execute("SELECT name FROM states")}
        for path in self._folder.iterdir():
            if path.name not in named and path.name != new:
                path.unlink(missing_ok=True)

    def _row(self, run_id: str, round: int) -> RoundRecord | None:
        row = self._db.execute(
            "SELECT plan, h1, h2, h3, announced, survivors, masked, unmasked FROM rounds WHERE run = ? AND round = ?",
            (run_id, round)).fetchone()
        if row is None:
            return None
        plan = Plan.from_bytes(bytes(row[0]))
        survivors = tuple(row[5].split(",")) if row[5] else ()
        view = RoundView(plan.context(), bytes(row[1]), bytes(row[2]), bytes(row[3]), int(row[4]), survivors)
        return RoundRecord(plan, view, bool(row[6]), bool(row[7]))

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """One writer at a time, over all processes; all or nothing; on the disk when it returns."""
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._db.execute("COMMIT")
        except BaseException:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise
