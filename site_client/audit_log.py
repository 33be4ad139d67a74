"""The site's audit log, `state/audit.sqlite`: what left, what was refused, what its operator approved, when it ran.

A message is in the log, on the disk, before it is handed on; if it cannot be written, nothing leaves. Rows are chained
(`site_client.audit_chain`) and heads are signed every `HEAD_EVERY` rows and when the log is closed. The newest head is
also in `audit.sqlite.head`, so a log that lost its end is behind its head. SQLite (synchronous=EXTRA) keeps a row whole
or not at all. Restoring log and head together to an earlier day shows only against an export kept elsewhere.

Fields are numbers, hashes and names of the protocol, from a fixed list for each kind: never a patient's value.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from privacy.durable import sync, write_whole
from privacy.identity import SigningKey
from privacy.messages import ErrorReply, MaskedHeader
from site_client.audit_chain import GENESIS, AuditBrokenError, Event, Head, check_events, check_heads, event_hash
from site_client.keystore import signing_key
from site_client.leaving import message_of

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

__all__ = ["FIELDS", "HEAD_EVERY", "AuditBrokenError", "AuditLog", "AuditUnwritableError", "head_path",
           "looked_at", "site_log"]

HEAD_EVERY = 64
FIELDS: dict[str, frozenset[str]] = {
    "egress": frozenset({"step", "message", "body_bytes", "vector_bytes", "sha256", "run_id", "round"}),
    "refusal": frozenset({"step", "code", "blamed"}),
    "approval": frozenset({"what", "hash", "run_id"}),
    "start": frozenset({"release", "version"}),
    "stop": frozenset({"reason"}),
    "roster": frozenset({"version", "hash"}),
    "transport": frozenset({"request", "count", "bytes_out", "bytes_in"}),
}
"""The kinds of events, and the fields that each may have."""

_WORD = re.compile(r"[A-Za-z0-9._:/+-]{0,128}")
_SCHEMA = """
CREATE TABLE IF NOT EXISTS events (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, utc TEXT NOT NULL, kind TEXT NOT NULL, body TEXT NOT NULL, hash BLOB NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS heads (
    seq INTEGER PRIMARY KEY, hash BLOB NOT NULL, signer BLOB NOT NULL, signature BLOB NOT NULL
) STRICT;
CREATE TRIGGER IF NOT EXISTS events_no_update BEFORE UPDATE ON events
    BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END;
CREATE TRIGGER IF NOT EXISTS events_no_delete BEFORE DELETE ON events
    BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END;
"""


class AuditUnwritableError(Exception):
    """The log cannot be written, so nothing may leave; `str()` is one sentence."""


def site_log(state: Path) -> AuditLog:
    """The log in a site's state folder, with its identity key. Raises as `AuditLog.open`."""
    return AuditLog.open(state / "audit.sqlite", signing_key(state))


def head_path(log: Path) -> Path:
    """Where the newest signed head of `log` is."""
    return log.with_name(f"{log.name}.head")


class AuditLog:
    """The log of one site; safe between processes and between threads. Open it with `AuditLog.open`."""

    def __init__(self, path: Path, key: SigningKey) -> None:
        self.path, self._key = path, key
        self._alone = threading.RLock()
        self._db = _connect(path)
        self._inode = path.stat().st_ino
        self._seen = 0

    @classmethod
    def open(cls, path: Path, key: SigningKey) -> Self:
        """Open or create the log (mode 0600) and check the whole of it.

        Raises:
            AuditBrokenError: see `verify`; also when the file is gone though its head is there.
            AuditUnwritableError: the disk does not take it.
        """
        if not path.exists() and head_path(path).exists():
            raise AuditBrokenError(f"{path.name} is gone though {head_path(path).name} is there: restore the whole "
                                   "state folder from its newest backup")
        with _refusing():
            log = cls(path, key)
            try:
                log._begin()
                log.verify()
            except BaseException:
                log._db.close()
                raise
        return log

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Sign the end and release the file; idempotent.

        Raises:
            AuditUnwritableError: the end could not be signed; the file is released all the same.
        """
        with self._alone:
            try:
                with _refusing():
                    self._sign_end()
            except sqlite3.ProgrammingError:  # closed already
                pass
            finally:
                self._db.close()

    def release(self) -> None:
        """Release the file and sign nothing: for readers."""
        with self._alone:
            self._db.close()

    # -------------------------------------------------------------- writing

    def egress(
        self, *, step: str, body: bytes, vector: npt.NDArray[np.generic] | None, run_id: str = "",
        round: int | None = None,
    ) -> int:
        """Book a reply durably, then return its number; only now may it be handed to the transport.

        A refusal (`ErrorReply`) is booked as an event of its own as well.

        Args:
            step: of the coordinator's message that it answers.
            body: the reply's canonical bytes.
            vector: the masked vector beside it, or None.
            run_id, round: where they are known.

        Raises:
            ValueError: not a message that may answer this step, or a vector that no masked upload's header signs.
            AuditBrokenError, AuditUnwritableError: nothing was booked.
        """
        message = message_of(step, body)
        if vector is not None and not (
                isinstance(message, MaskedHeader) and hashlib.sha256(vector.data).digest() == message.upload_hash):
            raise ValueError("an array may leave beside a masked upload's header only, and only the one that it signs")
        events: list[tuple[str, dict[str, Any]]] = [("egress", {
            "step": step, "message": type(message).__name__, "body_bytes": len(body),
            "vector_bytes": 0 if vector is None else int(vector.nbytes), "sha256": hashlib.sha256(body).hexdigest(),
            "run_id": run_id, "round": round})]
        if isinstance(message, ErrorReply):
            events.append(("refusal", {"step": step, "code": message.code, "blamed": message.blamed}))
        return self._append(events)

    def note(self, kind: str, **fields: int | str | None) -> int:
        """Book another event durably; its number.

        Raises:
            ValueError: a kind or field that is not in `FIELDS`, or a value that is no number or short word.
            AuditBrokenError, AuditUnwritableError: nothing was booked.
        """
        return self._append([(kind, dict(fields))])

    def _append(self, events: list[tuple[str, dict[str, Any]]]) -> int:
        for kind, fields in events:
            _check_fields(kind, fields)
        with self._alone, _refusing():
            with self._transaction():
                seq, previous = self._end()
                for kind, fields in events:
                    utc, body = _now(), json.dumps(fields, sort_keys=True, separators=(",", ":"))
                    seq, previous = seq + 1, event_hash(previous, seq + 1, utc, kind, body)
                    self._db.execute("INSERT INTO events VALUES (?, ?, ?, ?, ?)", (seq, utc, kind, body, previous))
            self._seen = seq
            if seq - self._newest_head() >= HEAD_EVERY:
                self._sign_end()
            return seq

    def _end(self) -> tuple[int, bytes]:
        """Number and hash of the last event. Raises AuditBrokenError when the file was replaced or cut."""
        if not self.path.exists() or self.path.stat().st_ino != self._inode:
            raise AuditBrokenError("the audit log's file was removed or replaced while the site ran: restore it")
        row = self._db.execute("SELECT seq, hash FROM events ORDER BY seq DESC LIMIT 1").fetchone()
        seq, digest = (int(row[0]), bytes(row[1])) if row else (0, GENESIS)
        if seq < self._seen:
            raise AuditBrokenError("events were removed from the audit log while the site ran: restore it")
        return seq, digest

    def _newest_head(self) -> int:
        return int(self._db.execute("SELECT coalesce(max(seq), 0) FROM heads").fetchone()[0])

    def _sign_end(self) -> None:
        """Sign everything so far, in the table and in the second file, which never names what is not on the disk."""
        with self._transaction():
            seq, digest = self._end()
            if seq > self._newest_head():
                head = Head.make(seq, digest, self._key)
                write_whole(head_path(self.path), json.dumps(head.values()).encode())
                self._db.execute("INSERT INTO heads VALUES (?, ?, ?, ?)", (seq, digest, head.signer, head.signature))

    def _begin(self) -> None:
        """A new log gets its first head, of nothing, before its first event."""
        with self._transaction():
            if not head_path(self.path).exists() and self._end()[0] == 0:
                write_whole(head_path(self.path), json.dumps(Head.make(0, GENESIS, self._key).values()).encode())

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        """All or nothing, and alone among this site's processes."""
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._db.execute("COMMIT")
        except BaseException:
            with contextlib.suppress(sqlite3.Error):
                self._db.execute("ROLLBACK")
            raise

    # -------------------------------------------------------------- reading

    def verify(self) -> tuple[Event, ...]:
        """Every event, oldest first, after chain, signatures and the newest head were checked.

        Raises:
            AuditBrokenError: the first thing that does not hold.
        """
        with self._alone, _refusing():
            read = _read_all(self._db, self.path)
        return _checked(*read, self._key.public_bytes())

    def signed_up_to(self) -> int:
        """Number of the newest event that a kept head covers."""
        with self._alone, _refusing():
            return self._newest_head()

    def head(self) -> Head:
        """The newest event's hash, signed now; nothing is written."""
        with self._alone, _refusing():
            return Head.make(*self._end(), self._key)


def looked_at(path: Path, public: bytes) -> tuple[Event, ...]:
    """Every event, checked as `AuditLog.verify` does, for a process that only shows the log while another writes it:
    the file is neither made nor mended, and no writer waits longer than one read.

    Raises:
        AuditBrokenError: see there.
        TimeoutError: it is being written just now, or a write was cut off and the next start has to mend it.
    """
    if not path.exists():
        raise AuditBrokenError(f"{path.name} is gone: restore the whole state folder from its newest backup")
    try:
        with contextlib.closing(sqlite3.connect(
                f"{path.absolute().as_uri()}?mode=ro", uri=True, isolation_level=None, timeout=5)) as connection:
            read = _read_all(connection, path)
    except sqlite3.OperationalError as error:
        raise TimeoutError("the audit log is being written, or a write was cut off: look again in a moment; if it "
                           "stays so, `site-client audit` mends it") from error
    except sqlite3.DatabaseError as error:
        raise AuditBrokenError("the audit log is not a readable database: restore it from backup") from error
    return _checked(*read, public)


def _read_all(connection: sqlite3.Connection, path: Path) -> tuple[tuple[Event, ...], list[Head], int, Head]:
    """Events, heads, SQLite's own counter, and the newest head in the second file."""
    newest = _read_head(path)  # before the rows: another process may add some in between
    connection.execute("BEGIN")  # one state of the file for all three
    try:
        found = connection.execute("SELECT seq, utc, kind, body, hash FROM events ORDER BY seq")
        events = tuple(Event(*values) for values in found)
        heads = [Head(*values) for values in connection.execute("SELECT * FROM heads ORDER BY seq")]
        counter = connection.execute("SELECT seq FROM sqlite_sequence WHERE name = 'events'").fetchone()
    finally:
        connection.execute("COMMIT")
    return events, heads, counter[0] if counter else 0, newest


def _checked(
    events: tuple[Event, ...], heads: list[Head], counter: int, newest: Head, public: bytes
) -> tuple[Event, ...]:
    check_events(events)
    if counter > len(events):
        raise AuditBrokenError("events are missing at the end of the audit log")
    if newest.sequence > len(events):
        raise AuditBrokenError(f"the audit log is older than its head, which has seen event {newest.sequence}: "
                               "restore the newest copy of the whole state folder")
    check_heads([newest, *heads], events, public)
    return events


def _check_fields(kind: str, fields: dict[str, Any]) -> None:
    if kind not in FIELDS or not fields.keys() <= FIELDS[kind]:
        raise ValueError(f"the audit log has no event {kind[:20]!r} with such fields; see site_client.audit_log.FIELDS")
    for name, value in fields.items():
        if not (value is None or type(value) is int or (type(value) is str and _WORD.fullmatch(value))):
            raise ValueError(f"{name} of an event must be a number or a word of at most 128 letters, digits and ._:/+-")


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _read_head(log: Path) -> Head:
    path = head_path(log)
    try:
        return Head.of(json.loads(path.read_text(encoding="ascii")))
    except FileNotFoundError:
        raise AuditBrokenError(f"{path.name} is missing: restore the whole state folder from backup") from None
    except (ValueError, KeyError, TypeError):
        raise AuditBrokenError(f"{path.name} is damaged: restore the whole state folder") from None


def _connect(path: Path) -> sqlite3.Connection:
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600))
    path.chmod(0o600)
    sync(path.parent)
    connection = sqlite3.connect(path, isolation_level=None, timeout=30, check_same_thread=False)
    try:
        # EXTRA is FULL and also syncs the folder once the journal is gone: a commit survives a power cut.
        connection.execute("PRAGMA journal_mode = DELETE")
        connection.execute("PRAGMA synchronous = EXTRA")
        connection.execute("PRAGMA cache_size = -256")  # KiB: small, a simulation holds many sites
        connection.execute("BEGIN IMMEDIATE")
        for statement in _SCHEMA.split(";\n"):
            connection.execute(statement)
        connection.execute("COMMIT")
    except BaseException:
        connection.close()
        raise
    return connection


@contextmanager
def _refusing() -> Iterator[None]:
    """SQLite's and the disk's errors as this module's; their texts would say neither what failed nor what to do."""
    try:
        yield
    except sqlite3.ProgrammingError:
        raise
    except (sqlite3.OperationalError, OSError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise AuditUnwritableError(f"the audit log cannot be written ({reason}), so nothing leaves this site: make "
                                   "room on the disk of the state folder and check its owner") from error
    except sqlite3.DatabaseError as error:
        raise AuditBrokenError("the audit log is not a readable database: restore it from backup") from error
