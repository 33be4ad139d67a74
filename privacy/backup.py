"""A backup as one file: a plain tar whose last member lists every other with its SHA-256, and by which release.

*Guarantees.*
    * A backup appears whole (0600) or not at all, and replaces nothing.
    * Databases are copied by SQLite while every one of them is locked against writing, so all are of one moment; what
      cannot be locked in time is refused.
    * `unpack` takes plain files with listed names and matching hashes only, and refuses another kind of backup, one of
      a newer release, and anything outside the folder that it fills.

*Assumes.* Whoever holds the file may read the keys in it: it is not encrypted.

*Does not cover.* A list of hashes made anew by whoever can change the file. Chains and signatures inside are the
caller's to check.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import sqlite3
import tarfile
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from privacy.durable import sync
from privacy.release import release_hash
from privacy.state_version import STATE_VERSION

__all__ = ["FORMAT", "BackupError", "installed_version", "read_notes", "unpack", "write_backup"]

FORMAT = "backup/1"
_LIST = "backup.json"
_MOST_LIST = 16 << 20
_NAME = re.compile(r"[A-Za-z0-9_.-]+(/[A-Za-z0-9_.-]+)*")
_PIECE = 1 << 20
DISTRIBUTION = "federated-medgpt"


class BackupError(ValueError):
    """A backup that cannot be made or must not be used; the text is one sentence that says why and what to do."""


def installed_version() -> str:
    """The installed release's version, such as "0.1.0"; "0" where it is not installed."""
    try:
        return metadata.version(DISTRIBUTION)
    except metadata.PackageNotFoundError:
        return "0"


def write_backup(
    out: Path, kind: str, files: Mapping[str, Path], databases: Sequence[tuple[str, Path]] = (),
    texts: Mapping[str, bytes] | None = None, wait_s: float = 10.0,
) -> dict[str, Any]:
    """Make the backup `out`; its notes.

    Args:
        kind: what it is of, which `unpack` asks for.
        files: name inside -> file, copied while the databases are locked; one that is gone then is left out.
        databases: (name inside, SQLite file), locked in this order, all at once.
        texts: name inside -> content.
        wait_s: how long a database may be busy.

    Raises:
        BackupError: `out` exists, a database stays busy, or nothing can be written there.
    """
    if os.path.lexists(out):
        raise BackupError(f"{out} exists; a backup is never replaced, choose another name")
    try:
        descriptor, partial = tempfile.mkstemp(prefix=f".{out.name}.", suffix=".partial", dir=out.parent)  # 0600
    except OSError as error:
        raise BackupError(f"{out} cannot be written ({error.strerror}); choose a folder that this user owns") from None
    try:
        with os.fdopen(descriptor, "wb") as file:
            with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as archive:
                notes = _fill(archive, kind, files, databases, texts or {}, wait_s, out.parent)
            file.flush()
            os.fsync(file.fileno())
        os.link(partial, out)  # fails, rather than replaces
    except FileExistsError:
        raise BackupError(f"{out} exists; a backup is never replaced, choose another name") from None
    except OSError as error:
        raise BackupError(f"{out} cannot be written ({error.strerror}); make room or choose another place") from None
    finally:
        Path(partial).unlink(missing_ok=True)
    sync(out.parent)
    return notes


def _fill(
    archive: tarfile.TarFile, kind: str, files: Mapping[str, Path], databases: Sequence[tuple[str, Path]],
    texts: Mapping[str, bytes], wait_s: float, room: Path,
) -> dict[str, Any]:
    hashes: dict[str, str] = {}
    with _all_locked([path for _, path in databases], wait_s), tempfile.TemporaryDirectory(dir=room) as scratch:
        for name, path in files.items():
            try:
                hashes[name] = _add(archive, name, path.read_bytes())
            except FileNotFoundError:
                continue
        for name, path in databases:
            copy = Path(scratch) / "copy.sqlite"
            _copy_database(path, copy)
            hashes[name] = _add(archive, name, copy.read_bytes())
            copy.unlink()
    for name, content in texts.items():
        hashes[name] = _add(archive, name, content)
    notes = {"format": FORMAT, "kind": kind, "state_version": STATE_VERSION, "version": installed_version(),
             "release": release_hash(), "made_utc": datetime.now(UTC).isoformat(timespec="seconds"), "files": hashes}
    _add(archive, _LIST, json.dumps(notes, indent=1).encode())
    return notes


def _add(archive: tarfile.TarFile, name: str, content: bytes) -> str:
    member = tarfile.TarInfo(name)
    member.size, member.mode = len(content), 0o600
    archive.addfile(member, io.BytesIO(content))
    return hashlib.sha256(content).hexdigest()


@contextmanager
def _all_locked(databases: Iterable[Path], wait_s: float) -> Iterator[None]:
    """Nobody writes to any of them inside the block. Raises BackupError when one stays busy."""
    with ExitStack() as stack:
        for path in databases:
            connection = stack.enter_context(closing(sqlite3.connect(path, isolation_level=None, timeout=wait_s)))
            try:
                connection.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError as error:
                raise BackupError(f"{path.name} is being written or cannot be locked ({error}); try again between two "
                                  "rounds, and see that the disk is not full or read-only") from None
            except sqlite3.DatabaseError:
                raise BackupError(f"{path.name} is not a readable database; restore it, a backup of it helps "
                                  "nobody") from None
            stack.callback(connection.execute, "ROLLBACK")
        yield


def _copy_database(source: Path, target: Path) -> None:
    """A whole copy by SQLite's own backup, in one file without a log beside it."""
    with (closing(sqlite3.connect(f"file:{source}?mode=ro", uri=True)) as reader,
          closing(sqlite3.connect(target)) as writer):
        reader.backup(writer)
        writer.execute("PRAGMA journal_mode = DELETE")


# ------------------------------------------------------------------ reading


def read_notes(backup: Path, kind: str) -> dict[str, Any]:
    """The notes of a backup of that kind. Raises BackupError: no backup, of another kind, or of a newer release."""
    with _opened(backup) as archive:
        return _notes(archive, backup, kind)


def unpack(backup: Path, kind: str, folder: Path) -> dict[str, Any]:
    """Write a backup's files (0600, folders 0700) into the empty `folder`, each checked; its notes.

    Raises:
        BackupError: see `read_notes`; or a member that is not listed, repeated, damaged or missing.
    """
    with _opened(backup) as archive:
        notes = _notes(archive, backup, kind)
        left: dict[str, str] = dict(notes["files"])
        for member in archive:
            if member.name == _LIST:
                continue
            expected = left.pop(member.name, None)
            if expected is None or not member.isfile() or not _is_plain(member.name):
                raise BackupError(f"{backup} holds {member.name[:80]!r}, which its list does not; it is no whole "
                                  "backup of this project")
            if _extract(archive, member, folder) != expected:
                raise BackupError(f"{member.name} in {backup} is damaged; take another copy of the backup")
        if left:
            raise BackupError(f"{backup} lacks {', '.join(sorted(left)[:3])}; take another copy of the backup")
    return notes


@contextmanager
def _opened(backup: Path) -> Iterator[tarfile.TarFile]:
    if not backup.is_file():
        raise BackupError(f"backup {backup} does not exist")
    try:
        with tarfile.open(backup, mode="r:") as archive:
            yield archive
    except (tarfile.TarError, EOFError, UnicodeError):
        raise BackupError(f"{backup} is damaged or no backup; take another copy") from None


def _notes(archive: tarfile.TarFile, backup: Path, kind: str) -> dict[str, Any]:
    try:
        member = archive.getmember(_LIST)
        stream = archive.extractfile(member) if member.size <= _MOST_LIST else None
        notes: Any = json.loads(stream.read()) if stream is not None else None
        _check_notes(notes, kind, str(backup))
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        if isinstance(error, BackupError):
            raise
        raise BackupError(f"{backup} is no backup of this project, or its end is missing; take another copy") from None
    return notes  # type: ignore[no-any-return]


def _check_notes(notes: Any, kind: str, name: str) -> None:
    """Raises BackupError for another kind or a newer release, KeyError or TypeError for what are no notes."""
    if notes["format"] != FORMAT or notes["kind"] != kind:
        raise BackupError(f"{name} is a {str(notes['kind'])[:40]!r} of format {str(notes['format'])[:40]!r}, and a "
                          f"{kind!r} of format {FORMAT!r} is needed")
    if not all(_is_plain(file) and isinstance(digest, str) for file, digest in notes["files"].items()):
        raise TypeError("files")
    here = installed_version()
    newer = here != "0" and _parts(str(notes["version"])) > _parts(here)
    if int(notes["state_version"]) > STATE_VERSION or newer:
        raise BackupError(f"{name} was made by the newer release {str(notes['version'])[:40]} and {here} is "
                          "installed; install that release first")


def _parts(version: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", version)][:4]


def _is_plain(name: str) -> bool:
    return _NAME.fullmatch(name) is not None and not {".", ".."} & set(name.split("/"))


def _extract(archive: tarfile.TarFile, member: tarfile.TarInfo, folder: Path) -> str:
    """Write the member; the SHA-256 of what was written."""
    place = folder / member.name
    place.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    stream, total = archive.extractfile(member), hashlib.sha256()
    descriptor = os.open(place, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        while stream is not None and (piece := stream.read(_PIECE)):
            total.update(piece)
            file.write(piece)
        file.flush()
        os.fsync(file.fileno())
    return total.hexdigest()
