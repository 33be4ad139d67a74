"""What this site heard others sign, and the pairs that contradict each other: evidence that anybody can check.

The first validly signed statement about each thing is kept (one manifest a run, one plan an attempt, one key
announcement a peer and attempt). Another one about the same thing makes evidence, which is on the disk before the
message is answered.

Old statements give way to new ones: of each party the newest are kept, up to `KEEP_BYTES` (`KEEP_SITE_BYTES` of a
site), so evidence against an older one is no longer found. Evidence itself is never removed; one pair is kept for each
thing that was contradicted, up to `EVIDENCE_BYTES` in all.
"""

from __future__ import annotations

import logging
import os
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from privacy.encoding import digest
from privacy.errors import COORDINATOR, MessageFormatError
from privacy.evidence import Evidence, Opened, Statement, contradiction, is_guilty, open_statement, topics
from privacy.identity import Roster
from privacy.messages import AdvertiseList, Attest, EnvelopeList, MaskedList, Plan, SignedResult

__all__ = ["EvidenceStore", "KeptEvidence"]

_log = logging.getLogger(__name__)

KEEP_BYTES = 32 << 20       # of the coordinator's statements: about 60,000 plans
KEEP_SITE_BYTES = 512 << 10  # of each site's: about 300 rounds
EVIDENCE_BYTES = 256 << 20

_SCHEMA = """
CREATE TABLE IF NOT EXISTS statements (
    number INTEGER PRIMARY KEY, key BLOB NOT NULL UNIQUE, party TEXT NOT NULL, size INTEGER NOT NULL,
    statement BLOB NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS sizes ON statements (party, size);
CREATE TABLE IF NOT EXISTS evidence (
    number INTEGER PRIMARY KEY, about BLOB NOT NULL, kind TEXT NOT NULL, noted_utc TEXT NOT NULL,
    roster BLOB NOT NULL, evidence BLOB NOT NULL, UNIQUE (about, kind)
) STRICT;
CREATE TABLE IF NOT EXISTS rosters (hash BLOB PRIMARY KEY, roster BLOB NOT NULL) STRICT;
"""


@dataclass(frozen=True, slots=True)
class KeptEvidence:
    """Evidence, the roster that it was proved with, and when: this site's clock, which is no part of the proof."""

    evidence: Evidence
    roster: Roster
    noted_utc: str


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


class EvidenceStore:
    """A database (mode 0600) of signed statements; safe between processes. Nothing raises for bad or unsigned bytes:
    they are no statement.

    Args:
        path: the file; it is made when missing.
        roster: as pinned; only its parties' statements count.
        now: UTC time as text, for the note of when evidence came.
    """

    def __init__(self, path: Path, roster: Roster, now: Callable[[], str] = _now) -> None:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600))
        path.chmod(0o600)
        self._roster, self._now = roster, now
        self._db = sqlite3.connect(path, isolation_level=None, timeout=30)
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = EXTRA")
        self._db.execute("PRAGMA cache_size = -256")  # KiB: small, a simulation holds many sites
        for statement in _SCHEMA.split(";\n"):
            self._db.execute(statement)

    def saw_manifest(self, message: bytes) -> tuple[Evidence, ...]:
        """A signed manifest arrived. Returns what is now proved; it is on the disk."""
        return self.saw(_alone(message))

    def saw_plan(self, message: bytes) -> tuple[Evidence, ...]:
        """A signed plan arrived, whether or not it is then refused."""
        return self.saw(_alone(message))

    def saw_list(self, step: str, message: bytes, plan: Plan, h1: bytes, h2: bytes) -> tuple[Evidence, ...]:
        """A list of peers' messages arrived in the plan's round; h1, h2: hashes of U1 and U2 here, b"" before that."""
        ctx = plan.context()
        bound = {"sa_share": (ctx,), "sa_mask": (ctx, h1), "sa_confirm": (ctx, h2)}.get(step, (b"",))
        return self.saw(_entries(step, message, plan, bound)) if all(bound) else ()

    def saw_result(self, signed: SignedResult, attests: Iterable[Attest], plan: Plan | None) -> tuple[Evidence, ...]:
        """A result and attestations of it arrived; `plan`: of its round. Without that plan they prove nothing here."""
        result = signed.result
        if plan is None or plan.context() != result.ctx:
            return ()
        stated = [Statement(signed.to_bytes(), (), plan.to_bytes())]
        stated += [Statement.in_round(attest, (result.ctx, result.h3, result.hash()), plan) for attest in attests]
        return self.saw(stated)

    def saw(self, statements: Iterable[Statement]) -> tuple[Evidence, ...]:
        """Keep each statement that its signature holds for, if it is the first about its topic.

        Returns:
            What each proves, alone or with one kept before. It is on the disk, unless the evidence is full.
        """
        opened = [(statement, one) for statement in statements
                  if (one := open_statement(statement, self._roster)) is not None]
        if not opened:
            return ()
        found: list[Evidence] = []
        with self._transaction():
            for statement, one in opened:
                found += self._weigh(statement, one)
            for party in sorted({one.signer for _, one in opened}):
                self._prune(party)
        for evidence in found:
            _log.error("evidence kind=%s code=%s blamed=%s", evidence.kind, evidence.code, evidence.blamed)
        return tuple(found)

    def list(self) -> tuple[KeptEvidence, ...]:
        """All evidence, oldest first."""
        rows = self._db.execute(
            "SELECT evidence, rosters.roster, noted_utc FROM evidence JOIN rosters ON evidence.roster = hash "
            "ORDER BY number")
        return tuple(
            KeptEvidence(Evidence.from_bytes(bytes(data)), Roster.from_bytes(bytes(roster)), str(noted))
            for data, roster, noted in rows)

    def close(self) -> None:
        """Release the file."""
        self._db.close()

    def _weigh(self, statement: Statement, opened: Opened) -> tuple[Evidence, ...]:
        own, others = topics(opened)
        found = []
        alone = contradiction([statement], self._roster) if is_guilty(opened, self._roster) else None
        if alone is not None:
            found.append(self._keep(alone, digest("alone", alone.hash())))
        for key in others:
            row = self._db.execute("SELECT statement FROM statements WHERE key = ?", (key,)).fetchone()
            first = None if row is None else Statement.from_bytes(bytes(row[0]))
            pair = None if first is None or first == statement else contradiction([first, statement], self._roster)
            if pair is not None:
                found.append(self._keep(pair, key))
        data = statement.to_bytes()
        self._db.executemany(
            "INSERT OR IGNORE INTO statements (key, party, size, statement) VALUES (?, ?, ?, ?)",
            [(key, opened.signer, len(data), data) for key in own])
        return tuple(dict.fromkeys(found))

    def _keep(self, evidence: Evidence, about: bytes) -> Evidence:
        data = evidence.to_bytes()
        held = self._db.execute("SELECT COALESCE(SUM(LENGTH(evidence)), 0) FROM evidence").fetchone()[0]
        if held + len(data) > EVIDENCE_BYTES:
            _log.error("the evidence is full; export it and move %s away", "evidence.sqlite")
            return evidence
        known = self._roster.hash()
        self._db.execute("INSERT OR IGNORE INTO rosters VALUES (?, ?)", (known, self._roster.to_bytes()))
        self._db.execute(
            "INSERT OR IGNORE INTO evidence (about, kind, noted_utc, roster, evidence) VALUES (?, ?, ?, ?, ?)",
            (about, evidence.kind, self._now(), known, data))
        return evidence

    def _prune(self, party: str) -> None:
        most = KEEP_BYTES if party == COORDINATOR else KEEP_SITE_BYTES
        held = self._db.execute("SELECT COALESCE(SUM(size), 0) FROM statements WHERE party = ?", (party,)).fetchone()[0]
        while held > most:
            number, size = self._db.execute(
                "SELECT number, size FROM statements WHERE party = ? ORDER BY number LIMIT 1", (party,)).fetchone()
            self._db.execute("DELETE FROM statements WHERE number = ?", (number,))
            held -= size

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._db.execute("COMMIT")
        except BaseException:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise


def _alone(message: bytes) -> Iterator[Statement]:
    """The message as a statement of its own; nothing when it is empty or too long."""
    try:
        yield Statement(message)
    except ValueError:
        return


_LISTS: dict[str, type[AdvertiseList | EnvelopeList | MaskedList]] = {
    "sa_share": AdvertiseList, "sa_mask": EnvelopeList, "sa_confirm": MaskedList}


def _entries(step: str, message: bytes, plan: Plan, binding: tuple[bytes, ...]) -> Iterator[Statement]:
    """The signed messages of a list, each with what it must be bound to; nothing when it is no such list."""
    try:
        entries = _LISTS[step].from_bytes(message).entries
    except MessageFormatError:
        return
    for entry in entries:
        yield Statement.in_round(entry, binding, plan)
