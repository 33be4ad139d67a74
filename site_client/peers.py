"""What this site remembers of every ledger of the federation, its own among them: the highest mark each has signed.

A peer that comes back with an older copy of its ledger is told so. The site's own highest mark is kept too, so an older
ledger beside a current memory is found without anybody's help.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable
from pathlib import Path

from privacy.messages import LedgerMark

__all__ = ["PeerMarks"]

MOST_FORKS = 16  # of one site

_SCHEMA = """
CREATE TABLE IF NOT EXISTS marks (
    federation TEXT NOT NULL, site TEXT NOT NULL, sequence INTEGER NOT NULL, message BLOB NOT NULL,
    PRIMARY KEY (federation, site)
) STRICT;
CREATE TABLE IF NOT EXISTS forks (
    federation TEXT NOT NULL, site TEXT NOT NULL, sequence INTEGER NOT NULL, first BLOB NOT NULL, other BLOB NOT NULL,
    UNIQUE (federation, site, first, other)
) STRICT;
"""


class PeerMarks:
    """A small database (mode 0600) of signed marks. A mark is on the disk before `note` returns.

    Args:
        path: the file; it is made when missing, and then nothing was seen yet.
        federation_id: site identifiers are those of this federation.
    """

    def __init__(self, path: Path, federation_id: str) -> None:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600))
        path.chmod(0o600)
        self._federation = federation_id
        self._db = sqlite3.connect(path, isolation_level=None, timeout=30)
        self._db.execute("PRAGMA synchronous = EXTRA")
        self._db.execute("PRAGMA cache_size = -256")  # KiB: small, a simulation holds many sites
        for statement in _SCHEMA.split(";\n"):
            self._db.execute(statement)

    def highest(self, site_id: str) -> LedgerMark | None:
        """The mark with the largest sequence number that was noted of that site; the first of equal ones."""
        row = self._db.execute(
            "SELECT message FROM marks WHERE federation = ? AND site = ?", (self._federation, site_id)).fetchone()
        return None if row is None else LedgerMark.from_bytes(bytes(row[0]))

    def note(self, marks: Iterable[LedgerMark]) -> tuple[str, ...]:
        """Keep each mark that is higher than what is known; the caller has checked the signatures.

        Returns:
            Sites that signed two heads for one sequence number. The first is kept as theirs, and both signed marks
            stay as evidence (see `forks`).
        """
        forked = []
        self._db.execute("BEGIN IMMEDIATE")
        try:
            for mark in marks:
                if self._note(mark):
                    forked.append(mark.site_id)
            self._db.execute("COMMIT")
        except BaseException:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise
        return tuple(forked)

    def forks(self, site_id: str) -> tuple[tuple[LedgerMark, LedgerMark], ...]:
        """Pairs of marks with one sequence number and two heads, each signed by that site."""
        rows = self._db.execute(
            "SELECT first, other FROM forks WHERE federation = ? AND site = ? ORDER BY sequence",
            (self._federation, site_id))
        return tuple((LedgerMark.from_bytes(bytes(a)), LedgerMark.from_bytes(bytes(b))) for a, b in rows)

    def close(self) -> None:
        """Release the file."""
        self._db.close()

    def _note(self, mark: LedgerMark) -> bool:
        """True when `mark` contradicts the one that is kept."""
        known = self.highest(mark.site_id)
        if known is None or mark.sequence > known.sequence:
            self._db.execute(
                "INSERT OR REPLACE INTO marks VALUES (?, ?, ?, ?)",
                (self._federation, mark.site_id, mark.sequence, mark.to_bytes()))
            return False
        if mark.sequence < known.sequence or mark.head == known.head:
            return False
        kept = self._db.execute("SELECT COUNT(*) FROM forks WHERE federation = ? AND site = ?",
                                (self._federation, mark.site_id)).fetchone()[0]
        if kept >= MOST_FORKS:  # proved often enough
            return True
        self._db.execute(
            "INSERT OR IGNORE INTO forks VALUES (?, ?, ?, ?, ?)",
            (self._federation, mark.site_id, mark.sequence, known.to_bytes(), mark.to_bytes()))
        return True
