"""The index on disk: one row a file, kept from run to run, so that a million headers are read once.

The file is 0600 and stays on the site's protected volume. It holds paths, UIDs and keyed pseudonyms. What texts are
searched for (names, dates, identifiers of headers) is sealed under a key made from the site's own: a copy of the index
alone names nobody. It can be made again at any time, so it is in no backup.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import math
import os
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from site_client.imaging.header import Header
from site_client.phi.anchors import Anchors

__all__ = ["IndexStore", "IndexedFile", "Scanned", "modified_ns"]

SCHEMA = """
CREATE TABLE IF NOT EXISTS facts (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS files (
  id INTEGER PRIMARY KEY, source TEXT NOT NULL, path TEXT NOT NULL, mtime_ns INTEGER NOT NULL, size INTEGER NOT NULL,
  seen INTEGER NOT NULL, reason TEXT NOT NULL, patient TEXT NOT NULL DEFAULT '', sop_uid TEXT NOT NULL DEFAULT '',
  study_uid TEXT NOT NULL DEFAULT '', series_uid TEXT NOT NULL DEFAULT '', accession TEXT NOT NULL DEFAULT '',
  sop_class TEXT NOT NULL DEFAULT '', modality TEXT NOT NULL DEFAULT '', syntax TEXT NOT NULL DEFAULT '',
  rows INTEGER NOT NULL DEFAULT 0, columns INTEGER NOT NULL DEFAULT 0, frames INTEGER NOT NULL DEFAULT 0,
  instance_number INTEGER NOT NULL DEFAULT 0, position REAL, suspect INTEGER NOT NULL DEFAULT 0,
  anchors TEXT NOT NULL DEFAULT '', UNIQUE (source, path));
CREATE INDEX IF NOT EXISTS files_sop ON files (sop_uid, patient);
CREATE INDEX IF NOT EXISTS files_patient ON files (patient, anchors);
CREATE INDEX IF NOT EXISTS files_study ON files (study_uid, patient);
CREATE INDEX IF NOT EXISTS files_accession ON files (accession, patient);
CREATE TABLE IF NOT EXISTS anchors (
  patient TEXT NOT NULL, name TEXT NOT NULL, sealed BLOB NOT NULL, PRIMARY KEY (patient, name)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS pictures (
  file INTEGER NOT NULL, frame INTEGER NOT NULL, form TEXT NOT NULL, name TEXT NOT NULL, tiles INTEGER NOT NULL,
  reason TEXT NOT NULL, PRIMARY KEY (file, frame, form)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS verdicts (name TEXT PRIMARY KEY, hits TEXT NOT NULL, seen INTEGER NOT NULL) WITHOUT ROWID;
"""
_COLUMNS = ("id, source, path, mtime_ns, size, reason, patient, sop_uid, study_uid, series_uid, accession, modality, "
            "frames, instance_number, position, suspect")


def modified_ns(status: os.stat_result) -> int:
    """When the file last changed, nanoseconds: its time of modification, or of the inode's change where that is later,
    since who puts another patient's file in its place may keep the first; wrapped into what SQLite holds."""
    return (max(status.st_mtime_ns, status.st_ctime_ns) + (1 << 63)) % (1 << 64) - (1 << 63)


@dataclass(frozen=True, slots=True)
class Scanned:
    """One file as the walk found it; header is None where `reason` (a key of `records.REASONS`) says why."""

    source: str
    path: str = field(repr=False)
    mtime_ns: int
    size: int
    patient: str = field(default="", repr=False)
    header: Header | None = field(default=None, repr=False)
    reason: str = ""


@dataclass(frozen=True, slots=True)
class IndexedFile:
    """One row: `path` is relative to its source's folder, `patient` a pseudonym, `position` nan where unknown."""

    id: int
    source: str
    path: str = field(repr=False)
    mtime_ns: int
    size: int
    reason: str
    patient: str = field(repr=False)
    sop_uid: str = field(repr=False)
    study_uid: str = field(repr=False)
    series_uid: str = field(repr=False)
    accession: str = field(repr=False)
    modality: str
    frames: int
    instance_number: int
    position: float
    suspect: bool


class IndexStore:
    """The index in `folder` (0700). One process at a time writes; the second waits.

    Args:
        key: the site's pseudonym key.
        settings: what the rows depend on; under other settings, or another key, they are made anew.
    """

    def __init__(self, folder: Path, key: bytes, settings: str) -> None:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._sealing = AESGCM(HKDF(SHA256(), 32, None, b"site-client/index/anchors").derive(key))
        self._folder = folder
        self._lock = os.open(folder / "index.lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX)
            path = folder / "index.sqlite"
            os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
            self._db = self._open(path)
            self._forget_unless(hashlib.sha256(f"{settings}|{_fingerprint(key)}".encode()).hexdigest())
            self.generation = int(self.fact("generation") or 0) + 1
            self.note("generation", str(self.generation))
        except BaseException:  # else this very process would wait for itself the next time
            os.close(self._lock)
            raise

    @staticmethod
    def _open(path: Path) -> sqlite3.Connection:
        try:
            return _connect(path)
        except sqlite3.DatabaseError:  # it can be made again, so a damaged one never stands in the way
            for part in path.parent.glob(f"{path.name}*"):
                part.unlink()
            return _connect(path)

    def _forget_unless(self, settings: str) -> None:
        if self.fact("settings") != settings:
            with self.writing():
                for table in ("files", "anchors", "pictures", "verdicts", "facts"):
                    self._db.execute(f"DELETE FROM {table}")
                self.note("settings", settings)

    def close(self) -> None:
        """Give the index to the next process."""
        self._db.close()
        os.close(self._lock)

    @contextmanager
    def writing(self) -> Iterator[None]:
        """What is written inside is there as a whole or not at all."""
        if self._db.in_transaction:
            yield
            return
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")

    # -------------------------------------------------------------- facts

    def fact(self, name: str) -> str | None:
        """What was noted under this name."""
        row = self._db.execute("SELECT value FROM facts WHERE name = ?", (name,)).fetchone()
        return None if row is None else str(row[0])

    def note(self, name: str, value: str) -> None:
        """Keep a fact."""
        self._db.execute("INSERT OR REPLACE INTO facts VALUES (?, ?)", (name, value))

    # -------------------------------------------------------------- files

    def is_known(self, source: str, path: str, mtime_ns: int, size: int) -> bool:
        """True when the file was read as it is now; it counts as seen."""
        changed = self._db.execute(
            "UPDATE files SET seen = ? WHERE source = ? AND path = ? AND mtime_ns = ? AND size = ?",
            (self.generation, source, path, mtime_ns, size)).rowcount
        return changed == 1

    def put(self, scanned: Iterable[Scanned]) -> None:
        """Keep what a scan found, each in place of what was known of that file."""
        with self.writing():
            for one in scanned:
                self._forget("source = ? AND path = ?", (one.source, one.path))
                self._insert(one)

    def _insert(self, one: Scanned) -> None:
        values: dict[str, object] = {
            "source": one.source, "path": one.path, "mtime_ns": one.mtime_ns, "size": one.size,
            "seen": self.generation, "reason": one.reason, "patient": one.patient}
        if one.header is not None:
            head = one.header
            values |= {
                "sop_uid": head.sop_uid, "study_uid": head.study_uid, "series_uid": head.series_uid,
                "accession": head.accession, "sop_class": head.sop_class, "modality": head.modality,
                "syntax": head.transfer_syntax, "rows": head.rows, "columns": head.columns, "frames": head.frames,
                "instance_number": head.instance_number, "suspect": int(head.suspect),
                "position": head.position if head.position == head.position else None,
                "anchors": self._keep_anchors(one.patient, head)}
        names = ", ".join(values)
        marks = ", ".join("?" * len(values))
        self._db.execute(f"INSERT INTO files ({names}) VALUES ({marks})", tuple(values.values()))

    def forget_unseen(self) -> int:
        """Drop files that this walk did not meet, and what was kept for them; how many."""
        with self.writing():
            gone = self._forget("seen < ?", (self.generation,))
            self._db.execute("DELETE FROM anchors WHERE NOT EXISTS (SELECT 1 FROM files WHERE "
                             "files.patient = anchors.patient AND files.anchors = anchors.name)")
            self._db.execute("DELETE FROM verdicts WHERE seen < ?", (self.generation - 1,))
        return gone

    def forget_reasons(self, reasons: Sequence[str]) -> None:
        """Read files that were refused for one of these again."""
        with self.writing():
            marks = ", ".join("?" * len(reasons))
            self._forget(f"reason IN ({marks}) OR EXISTS (SELECT 1 FROM pictures WHERE pictures.file = files.id "
                         f"AND pictures.reason IN ({marks}))", (*reasons, *reasons))

    def forget_suspects(self) -> None:
        """Look again at every file that may have text in its pixels."""
        with self.writing():
            self._forget("suspect", ())

    def _forget(self, where: str, values: tuple[object, ...]) -> int:
        self._db.execute(f"DELETE FROM pictures WHERE file IN (SELECT id FROM files WHERE {where})", values)
        return self._db.execute(f"DELETE FROM files WHERE {where}", values).rowcount

    def opt_out(self, patients: Sequence[str]) -> None:
        """Of these patients nothing is kept but that a file is theirs."""
        with self.writing():
            for patient in patients:
                for row in self._files("patient = ? AND reason != 'opted-out'", (patient,)):
                    self._forget("id = ?", (row.id,))
                    self._insert(Scanned(row.source, row.path, row.mtime_ns, row.size, reason="opted-out"))
                self._db.execute("DELETE FROM anchors WHERE patient = ?", (patient,))

    def files(self, column: str, value: str, patient: str) -> list[IndexedFile]:
        """The usable files of `patient` whose `column` (sop_uid, study_uid, accession) is `value`, by series."""
        return self._files(f"{_checked(column)} = ? AND patient = ? AND reason = ''", (value, patient))

    def at(self, source: str, path: str) -> IndexedFile | None:
        """One file by where it lies."""
        found = self._files("source = ? AND path = ?", (source, path))
        return found[0] if found else None

    def has(self, column: str, value: str) -> bool:
        """Whether any patient's usable file has that value."""
        row = self._db.execute(
            f"SELECT 1 FROM files WHERE {_checked(column)} = ? AND reason = '' LIMIT 1", (value,)).fetchone()
        return row is not None

    def refused(self) -> Iterator[tuple[str, str, str]]:
        """(source, path, reason) of every file that is not used, repeats of an image by the same patient among them."""
        yield from self._db.execute("SELECT source, path, reason FROM files WHERE reason != '' ORDER BY source, path")
        yield from self._db.execute(
            "SELECT source, path, 'identifier-repeated' FROM files AS later WHERE reason = '' AND EXISTS ("
            "SELECT 1 FROM files AS first WHERE first.sop_uid = later.sop_uid AND first.patient = later.patient "
            "AND first.reason = '' AND (first.source, first.path) < (later.source, later.path)) ORDER BY source, path")
        yield from self._db.execute(
            "SELECT DISTINCT source, path, pictures.reason FROM pictures JOIN files ON files.id = pictures.file "
            "WHERE pictures.reason != '' AND files.reason = '' ORDER BY source, path")

    def conflicts(self) -> Iterator[tuple[str, str]]:
        """(source, path) of every bearer of an image UID that two patients claim."""
        yield from self._db.execute(
            "SELECT source, path FROM files WHERE reason = '' AND sop_uid IN (SELECT sop_uid FROM files "
            "WHERE reason = '' GROUP BY sop_uid HAVING COUNT(DISTINCT patient) > 1) ORDER BY source, path")

    def counts(self, column: str) -> dict[str, int]:
        """{value: usable files} of `column` (modality, syntax, sop_class)."""
        rows = self._db.execute(f"SELECT {_checked(column)}, COUNT(*) FROM files WHERE reason = '' GROUP BY 1 "
                                "ORDER BY 2 DESC, 1")
        return {str(value): int(count) for value, count in rows}

    def patients(self, column: str) -> dict[str, int]:
        """{value: patients of its usable files} of `column`."""
        rows = self._db.execute(f"SELECT {_checked(column)}, COUNT(DISTINCT patient) FROM files WHERE reason = '' "
                                "GROUP BY 1")
        return {str(value): int(count) for value, count in rows}

    def _files(self, where: str, values: tuple[object, ...]) -> list[IndexedFile]:
        rows = self._db.execute(f"SELECT {_COLUMNS} FROM files WHERE {where} ORDER BY series_uid, source, path", values)
        return [IndexedFile(*_row(values)) for values in rows]

    # -------------------------------------------------------------- anchors, pictures, verdicts

    def _keep_anchors(self, patient: str, head: Header) -> str:
        text = json.dumps([sorted(set(part)) for part in (head.names, head.identifiers, head.dates)]).encode()
        name = hashlib.sha256(text).hexdigest()[:32]
        known = self._db.execute("SELECT 1 FROM anchors WHERE patient = ? AND name = ?", (patient, name)).fetchone()
        if known is None:
            nonce = os.urandom(12)
            sealed = nonce + self._sealing.encrypt(nonce, text, patient.encode())
            self._db.execute("INSERT INTO anchors VALUES (?, ?, ?)", (patient, name, sealed))
        return name

    def anchors(self, patient: str) -> Anchors:
        """What this patient's headers say that no text of theirs may hold."""
        parts: list[set[str]] = [set(), set(), set()]
        for (sealed,) in self._db.execute("SELECT sealed FROM anchors WHERE patient = ?", (patient,)):
            try:
                opened = json.loads(self._sealing.decrypt(sealed[:12], sealed[12:], patient.encode()))
            except (InvalidTag, ValueError, TypeError):
                raise ValueError(f"the index in {self._folder} is damaged; remove index.sqlite there and run "
                                 "`site-client index` again") from None
            for part, found in zip(parts, opened, strict=True):
                part.update(found)
        return Anchors(*(tuple(sorted(part)) for part in parts))

    def picture(self, file: int, frame: int, form: str) -> tuple[str, int, str] | None:
        """(name in the cache, tiles, reason) of a picture that was made, or could not be."""
        row = self._db.execute("SELECT name, tiles, reason FROM pictures WHERE file = ? AND frame = ? AND form = ?",
                               (file, frame, form)).fetchone()
        return None if row is None else (str(row[0]), int(row[1]), str(row[2]))

    def put_picture(self, file: int, frame: int, form: str, name: str, tiles: int, reason: str = "") -> None:
        """Keep where a picture lies, or why there is none."""
        self._db.execute("INSERT OR REPLACE INTO pictures VALUES (?, ?, ?, ?, ?, ?)",
                         (file, frame, form, name, tiles, reason))

    def picture_names(self) -> set[str]:
        """Every name that the cache has to keep."""
        return {str(row[0]) for row in self._db.execute("SELECT DISTINCT name FROM pictures WHERE name != ''")}

    def verdict(self, name: str) -> list[tuple[str, int, int]] | None:
        """(kind, start, end) of each hit in a text that was checked before; it counts as seen."""
        row = self._db.execute("UPDATE verdicts SET seen = ? WHERE name = ? RETURNING hits",
                               (self.generation, name)).fetchone()
        return None if row is None else [(str(kind), int(start), int(end)) for kind, start, end in json.loads(row[0])]

    def put_verdict(self, name: str, hits: Sequence[tuple[str, int, int]]) -> None:
        """Keep what a check of a text found: kinds and places, nothing of the text."""
        self._db.execute("INSERT OR REPLACE INTO verdicts VALUES (?, ?, ?)", (name, json.dumps(hits), self.generation))


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None, timeout=30)
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute("PRAGMA cache_size = -8192")  # KiB
        connection.execute("PRAGMA secure_delete = ON")  # what is forgotten is overwritten
        connection.executescript(SCHEMA)
        if connection.execute("PRAGMA quick_check(1)").fetchone()[0] != "ok":
            raise sqlite3.DatabaseError("damaged")
    except BaseException:
        connection.close()
        raise
    return connection


def _row(values: tuple[Any, ...]) -> tuple[Any, ...]:
    *known, position, suspect = values
    return (*known, math.nan if position is None else position, bool(suspect))


def _fingerprint(key: bytes) -> str:
    return hashlib.sha256(b"site-client/index|" + key).hexdigest()


def _checked(column: str) -> str:
    if column not in ("sop_uid", "study_uid", "accession", "modality", "syntax", "sop_class"):
        raise ValueError(f"{column} is no column that can be asked for")
    return column
