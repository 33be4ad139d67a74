"""The ledger's rows on the disk: appended, signed, and durable before anything that they book happens.

*Guarantees.*
    * A transaction is on the disk (SQLite, synchronous=EXTRA) before it returns, and is alone: another process waits.
    * Every transaction begins with a check of the whole chain, hashes and signatures; on a fault nothing is written.
    * After each commit the newest row's number and hash go into a second file, `<name>.mark`, fsynced. A database that
      was restored alone, cut or replaced is behind its mark and refused. A mark is never ahead of its database,
      whatever line the process dies at.
    * A file of another schema is refused with a sentence, never converted in silence.
    * `LedgerFile.looking` changes nothing and takes no lock that a writer has to wait for longer than one read.

*Assumes.* The file system keeps what fsync promised. Who may write is the operating system's matter (mode 0600).

*Does not cover.* Restoring the whole disk, database and mark together: only a head kept elsewhere shows that.
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from privacy.durable import sync, write_whole
from privacy.identity import SigningKey
from privacy.ledger_chain import GENESIS, ROTATION_LABEL, ROW_LABEL, LedgerTamperedError, Row, check_rows, row_hash

__all__ = ["SCHEMA_VERSION", "LedgerFile", "LedgerVersionError", "mark_path"]

SCHEMA_VERSION = 2
_SCHEMA = """
CREATE TABLE IF NOT EXISTS events (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, kind TEXT NOT NULL, body TEXT NOT NULL, hash BLOB NOT NULL,
    signer BLOB NOT NULL, signature BLOB NOT NULL
) STRICT;
CREATE TRIGGER IF NOT EXISTS events_no_update BEFORE UPDATE ON events
    BEGIN SELECT RAISE(ABORT, 'the ledger is append-only'); END;
CREATE TRIGGER IF NOT EXISTS events_no_delete BEFORE DELETE ON events
    BEGIN SELECT RAISE(ABORT, 'the ledger is append-only'); END;
"""


class LedgerVersionError(ValueError):
    """The file is a ledger of another release."""


def mark_path(ledger: Path) -> Path:
    """Where the high-water mark of `ledger` is."""
    return ledger.with_name(f"{ledger.name}.mark")


class LedgerFile:
    """Rows in SQLite with their chain and mark. Safe between processes, not between threads.

    Args:
        path: the database; made with mode 0600 when it does not exist.
        key: the site's signing key; None reads only.
        must_exist: refuse to make a new one.

    Raises:
        FileNotFoundError: missing though it `must_exist`, or though its mark says that it was there.
        LedgerTamperedError, LedgerVersionError: see there.
        ValueError: `key` is not the one that the newest row is signed for.
    """

    def __init__(self, path: Path, key: SigningKey | None, must_exist: bool) -> None:
        self.path, self._key = path, key
        _prepare(path, must_exist)
        self.connection = _connect(path)
        try:
            if not mark_path(path).exists() and not self.sequence:
                if must_exist:
                    raise LedgerTamperedError("the ledger is empty and its mark is gone, though this site kept one: "
                                              "restore the whole state folder from its newest backup")
                _write_mark(path, 0, GENESIS)
            self.verify()
        except BaseException:
            self.connection.close()
            raise

    @classmethod
    def looking(cls, path: Path) -> LedgerFile:
        """For a process that only shows the ledger while another one writes it; the file is neither made nor mended.

        Raises:
            FileNotFoundError, LedgerTamperedError, LedgerVersionError: as above.
            TimeoutError: it is being written just now, or a write was cut off and the next start has to mend it.
        """
        file = cls.__new__(cls)
        file.path, file._key = path, None
        if not path.exists():
            raise FileNotFoundError("the ledger file is missing: restore it, a new one forgets what was spent")
        file.connection = sqlite3.connect(
            f"{path.absolute().as_uri()}?mode=ro", uri=True, isolation_level=None, timeout=5)
        try:
            _require_known(file.connection)
            file.verify()
        except sqlite3.OperationalError as error:
            file.connection.close()
            raise TimeoutError("the ledger is being written, or a write was cut off: look again in a moment; if it "
                               "stays so, `site-client ledger` mends it") from error
        except sqlite3.DatabaseError as error:
            file.connection.close()
            raise LedgerTamperedError("the ledger file is not a readable database") from error
        except BaseException:
            file.connection.close()
            raise
        return file

    def close(self) -> None:
        """Release the file."""
        self.connection.close()

    @property
    def sequence(self) -> int:
        """How many rows there are."""
        return int(self.connection.execute("SELECT coalesce(max(seq), 0) FROM events").fetchone()[0])

    def head(self) -> bytes:
        """The hash of the last row (32 bytes, zero for an empty ledger)."""
        row = self.connection.execute("SELECT hash FROM events ORDER BY seq DESC LIMIT 1").fetchone()
        return bytes(row[0]) if row else GENESIS

    def rows(self) -> tuple[Row, ...]:
        """Every row, oldest first."""
        found = self.connection.execute("SELECT seq, kind, body, hash, signer, signature FROM events ORDER BY seq")
        return tuple(Row(*values) for values in found)

    def _rows_and_counter(self) -> tuple[tuple[Row, ...], int]:
        """Both of one state of the file: another process may add rows in between."""
        alone = not self.connection.in_transaction
        if alone:
            self.connection.execute("BEGIN")
        try:
            rows = self.rows()
            counter = self.connection.execute("SELECT seq FROM sqlite_sequence WHERE name = 'events'").fetchone()
        finally:
            if alone:
                self.connection.execute("COMMIT")
        return rows, int(counter[0]) if counter else 0

    def verify(self) -> tuple[Row, ...]:
        """The rows, after chain, signatures, SQLite's own counter and the mark were compared.

        Raises LedgerTamperedError, and ValueError when this process's key is not the current one.
        """
        mark = _read_mark(self.path)  # before the rows: another process may add some in between
        rows, counter = self._rows_and_counter()
        current = check_rows(rows)
        if counter > len(rows):
            raise LedgerTamperedError("rows are missing at the end of the ledger")
        if mark is None and rows:
            raise LedgerTamperedError(f"{mark_path(self.path).name} is missing: restore the whole state folder, or "
                                      "accept this ledger's head with `site-client ledger verify --accept-head HEAD`")
        sequence, head = mark or (0, GENESIS)
        if sequence and (sequence > len(rows) or rows[sequence - 1].hash != head):
            raise LedgerTamperedError(f"the ledger is older than its mark, which has seen row {sequence}: restore the "
                                      "newest copy, an older one forgets what was spent")
        if self._key is not None and rows and current != self._key.public_bytes():
            raise ValueError("this ledger is signed by another key than this site's identity.key: restore that key, "
                             "or rotate the ledger's key with the old one")
        return rows

    @contextmanager
    def transaction(self) -> Iterator[tuple[Row, ...]]:
        """All or nothing, and alone: yields the checked rows; the mark follows the commit.

        Raises ValueError when the ledger was opened without a key.
        """
        if self._key is None:
            raise ValueError("this ledger was opened for reading: pass signing_key to write")
        self.connection.execute("BEGIN IMMEDIATE")
        try:
            rows = self.verify()
            yield rows
            grown = self.sequence > len(rows)
            self.connection.execute("COMMIT")
        except BaseException:
            if self.connection.in_transaction:
                self.connection.execute("ROLLBACK")
            raise
        if grown:
            self._raise_mark()

    def _raise_mark(self) -> None:
        """Bring the mark up to the newest row, alone: of two processes the later row wins."""
        self.connection.execute("BEGIN IMMEDIATE")
        try:
            _write_mark(self.path, self.sequence, self.head())
        finally:
            self.connection.execute("ROLLBACK")

    def append(self, kind: str, body: dict[str, Any]) -> int:
        """Sign and add one row inside a transaction; its number."""
        if self._key is None:
            raise ValueError("this ledger was opened for reading: pass signing_key to write")
        text = json.dumps(body, sort_keys=True, separators=(",", ":"), allow_nan=False)
        seq, signer = self.sequence + 1, self._key.public_bytes()
        digest = row_hash(self.head(), seq, kind, text, signer)
        self.connection.execute(
            "INSERT INTO events VALUES (?, ?, ?, ?, ?, ?)",
            (seq, kind, text, digest, signer, self._key.sign(ROW_LABEL, digest)))
        return seq

    def rotate(self, new_key: SigningKey) -> int:
        """Hand over to `new_key` in a row signed by both; this object signs with it from then on."""
        with self.transaction():
            proof = new_key.sign(ROTATION_LABEL, self.head()).hex()
            seq = self.append("rotate", {"public_key": new_key.public_bytes().hex(), "proof": proof})
        self._key = new_key
        return seq

    @staticmethod
    def accept(path: Path, head: bytes) -> int:
        """Make `path` as it is the newest, on its operator's word, when it ends at `head`; its number of rows.

        Raises LedgerTamperedError when its own chain does not hold, ValueError when it ends elsewhere.
        """
        connection = _connect(path)
        try:
            found = connection.execute("SELECT seq, kind, body, hash, signer, signature FROM events ORDER BY seq")
            rows = [Row(*values) for values in found]
        finally:
            connection.close()
        check_rows(rows)
        if (rows[-1].hash if rows else GENESIS) != head:
            raise ValueError("this ledger does not end at that head: look again before you accept it")
        mark_path(path).unlink(missing_ok=True)
        _write_mark(path, len(rows), head)
        return len(rows)


def _prepare(file: Path, must_exist: bool) -> None:
    """Make the file with mode 0600 before SQLite opens it, and make its name durable."""
    if not file.exists() and (must_exist or mark_path(file).exists()):
        raise FileNotFoundError("the ledger file is missing: restore it, a new one forgets what was spent")
    os.close(os.open(file, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600))
    file.chmod(0o600)
    sync(file.parent)


def _connect(file: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(file, isolation_level=None, timeout=30)
    try:
        # EXTRA is FULL and also syncs the folder once the journal is gone: a commit survives a power cut.
        connection.execute("PRAGMA journal_mode = DELETE")
        connection.execute("PRAGMA synchronous = EXTRA")
        connection.execute("PRAGMA cache_size = -256")  # KiB: small, a simulation holds many sites
        connection.execute("BEGIN IMMEDIATE")
        _require_known(connection)
        for statement in _SCHEMA.split(";\n"):
            connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        connection.execute("COMMIT")
    except sqlite3.OperationalError as error:
        connection.close()
        if "locked" in str(error):
            raise TimeoutError("another process of this site holds the ledger: wait for it, then try again") from error
        raise LedgerTamperedError("the ledger file is not a readable database") from error
    except sqlite3.DatabaseError as error:
        connection.close()
        raise LedgerTamperedError("the ledger file is not a readable database") from error
    except LedgerVersionError:
        connection.close()
        raise
    return connection


def _require_known(connection: sqlite3.Connection) -> None:
    known = connection.execute("SELECT count(*) FROM sqlite_master WHERE name = 'events'").fetchone()[0]
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if known and version != SCHEMA_VERSION:
        raise LedgerVersionError(
            f"this ledger has schema {version or 1}, and this release keeps signed ledgers of schema "
            f"{SCHEMA_VERSION}: go on with the release that wrote it, or delete it if it is a simulation's")


def _read_mark(ledger: Path) -> tuple[int, bytes] | None:
    try:
        values = json.loads(mark_path(ledger).read_text(encoding="ascii"))
        return int(values["sequence"]), bytes.fromhex(values["head"])
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError):
        raise LedgerTamperedError(f"{mark_path(ledger).name} is damaged: restore the whole state folder") from None


def _write_mark(ledger: Path, sequence: int, head: bytes) -> None:
    """Whole or not at all, on the disk before it returns; never back to an earlier row."""
    known = _read_mark(ledger)
    if known is not None and known[0] >= sequence:
        return
    write_whole(mark_path(ledger), json.dumps({"sequence": sequence, "head": head.hex()}).encode("ascii"))
