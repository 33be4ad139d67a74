"""What an archive's studies become here: whole DICOM files in a folder of the site's own, and a list of them.

``dicom/<study>/<instance>.dcm``, both names the SHA-256 of a UID, so that no name holds an identifier. A file is
written beside (``partial/``), fsynced and renamed, and only then listed in ``instances.sqlite``: a kill at any point
loses at most the file in flight. Folders are 0700, files 0600. One process writes at a time.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from privacy.durable import sync
from site_client.sources.interface import SourceError

__all__ = ["Mirror", "MirrorWriter", "NotDicomError", "locked_folder", "open_database"]

_SCHEMA = """CREATE TABLE IF NOT EXISTS instances (
    study TEXT NOT NULL, instance TEXT NOT NULL, mark TEXT NOT NULL, PRIMARY KEY (study, instance)) STRICT"""
LEAST_FREE_BYTES = 2 * 2**30  # as long as the largest file
_PREAMBLE_BYTES = 132  # PS3.10 7.1: 128 bytes and DICM


class NotDicomError(ValueError):
    """What came does not begin as a DICOM file (PS3.10); nothing of it was kept."""


class Mirror:
    """The mirror in `folder`, made at once; `writing` for everything that changes it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.dicom = folder / "dicom"
        self._partial = folder / "partial"
        for path in (folder, self.dicom, self._partial):
            path.mkdir(parents=True, exist_ok=True, mode=0o700)

    @contextmanager
    def writing(self) -> Iterator[MirrorWriter]:
        """The only writer while the block lasts. Raises SourceError when there is one already, or the disk fails."""
        with locked_folder(self.folder):
            for path in self._partial.iterdir():
                path.unlink()
            database = open_database(self.folder / "instances.sqlite", _SCHEMA)
            try:
                yield MirrorWriter(self.dicom, self._partial, database)
            except (OSError, sqlite3.Error) as error:
                reason = error.strerror if isinstance(error, OSError) else type(error).__name__
                raise SourceError(f"{self.folder} cannot be written ({reason}); free space or correct its owner, "
                                  "then sync again: what came is kept.") from None
            finally:
                database.close()


class MirrorWriter:
    """See `Mirror.writing`. A mark is what the archive said of a study when its instance was fetched."""

    def __init__(self, dicom: Path, partial: Path, database: sqlite3.Connection) -> None:
        self._dicom = dicom
        self._partial = partial
        self._database = database

    @property
    def folder(self) -> Path:
        """The mirror's folder."""
        return self._dicom.parent

    def studies(self) -> list[str]:
        """UIDs of the studies with anything here."""
        return [uid for (uid,) in self._database.execute("SELECT DISTINCT study FROM instances ORDER BY study")]

    def holds(self, study: str, instance: str, mark: str) -> bool:
        """Whether this instance is here, fetched under this mark."""
        row = self._database.execute("SELECT mark FROM instances WHERE study = ? AND instance = ?",
                                     (study, _name(instance))).fetchone()
        return row == (mark,) and self._path(study, _name(instance)).is_file()

    def keep(self, study: str, instance: str, mark: str, chunks: Iterable[bytes]) -> None:
        """Store a whole file. What `chunks` raises passes, and NotDicomError; nothing of the file stays then.
        SourceError when the volume is nearly full."""
        if shutil.disk_usage(self._partial).free < LEAST_FREE_BYTES:  # the ledger may lie on the same volume
            raise SourceError(f"less than {LEAST_FREE_BYTES >> 30} GiB is free for {self.folder}; free space, or "
                              "narrow modalities or since, then sync again: what came is kept.")
        target = self._path(study, _name(instance))
        partial = self._partial / target.name
        try:
            with _created(partial) as stream:
                _write_checked(stream, chunks)
                stream.flush()
                os.fsync(stream.fileno())
            target.parent.mkdir(exist_ok=True, mode=0o700)
            partial.replace(target)
            sync(target.parent)
        except BaseException:
            partial.unlink(missing_ok=True)
            raise
        self._database.execute("INSERT OR REPLACE INTO instances VALUES (?, ?, ?)", (study, target.stem, mark))

    def drop_corrected(self, study: str, mark: str) -> None:
        """Remove what the study holds under another mark: the archive says that it was somebody else's."""
        rows = self._database.execute("SELECT instance FROM instances WHERE study = ? AND mark != ?",
                                      (study, mark)).fetchall()
        for (name,) in rows:
            self._drop(study, name)

    def keep_only(self, study: str, instances: Iterable[str]) -> None:
        """Remove what the study holds beyond these; none of them removes the study."""
        names = {_name(uid) for uid in instances}
        rows = self._database.execute("SELECT instance FROM instances WHERE study = ?", (study,)).fetchall()
        for (name,) in rows:
            if name not in names:
                self._drop(study, name)
        folder = self._dicom / _name(study)
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()

    def _drop(self, study: str, name: str) -> None:
        self._path(study, name).unlink(missing_ok=True)
        self._database.execute("DELETE FROM instances WHERE study = ? AND instance = ?", (study, name))

    def _path(self, study: str, name: str) -> Path:
        return self._dicom / _name(study) / f"{name}.dcm"


@contextmanager
def locked_folder(folder: Path) -> Iterator[None]:
    """Alone in `folder`, among processes that ask too; SourceError when one is there. A killed one leaves nothing."""
    with _created(folder / "lock") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise SourceError(f"another process syncs into {folder}; wait for it.") from None
        yield


def open_database(path: Path, schema: str) -> sqlite3.Connection:
    """A SQLite file (0600), each statement of which is committed at once. SourceError when it is not readable."""
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600))
    database = sqlite3.connect(path, isolation_level=None, timeout=30)
    try:
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = NORMAL")  # a power cut may forget the last rows, which come again
        for statement in schema.split(";"):
            database.execute(statement)
    except sqlite3.DatabaseError:
        database.close()
        raise SourceError(f"{path} is not a readable database; remove {path.parent} and sync again.") from None
    return database


def _created(path: Path) -> BinaryIO:
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600), "wb")


def _name(uid: str) -> str:
    return hashlib.sha256(uid.encode()).hexdigest()


def _write_checked(stream: BinaryIO, chunks: Iterable[bytes]) -> None:
    """Write the pieces; nothing before they have shown to begin a DICOM file."""
    begin = b""
    for chunk in chunks:
        if len(begin) >= _PREAMBLE_BYTES:
            stream.write(chunk)
            continue
        begin += chunk
        if len(begin) >= _PREAMBLE_BYTES:
            if begin[128:_PREAMBLE_BYTES] != b"DICM":
                break
            stream.write(begin)
    if begin[128:_PREAMBLE_BYTES] != b"DICM":
        raise NotDicomError("not a DICOM file")
