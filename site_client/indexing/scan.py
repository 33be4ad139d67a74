"""The walk over a site's folders: new and changed files are parsed in the sandbox, the others are known.

Kept every few hundred files, so that a kill costs less than a second of reading.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Protocol

from site_client.imaging.header import Header
from site_client.indexing.index_store import IndexStore, Scanned, modified_ns
from site_client.records import RefusedItemError, checked_patient_id, pseudonym

__all__ = ["Scanner", "scan_folders"]

Progress = Callable[[int, int], None]
_BATCH = 256


class Scanner(Protocol):
    """What parses headers: `site_client.imaging.sandbox.Sandbox`."""

    def scan(self, paths: Iterable[Path]) -> Iterator[tuple[Path, Header | str]]:
        """Each path with its header, or with the reason why it is refused; in any order."""


def scan_folders(
    store: IndexStore, scanner: Callable[[], Scanner], folders: Sequence[tuple[str, Path]], *, key: bytes, issuer: str,
    opted_out: Collection[str] = (), progress: Progress | None = None,
) -> int:
    """Bring the index up to date with the files below `folders` ((source, folder) pairs); how many were parsed.

    A link is listed and refused, never followed. `issuer` assigns the patient IDs; a file that names another one is
    refused. `scanner` is asked for only when there is a file to parse. `progress` gets (files met, files).
    """
    total = sum(1 for _, folder in folders for _ in _walk(folder)) if progress is not None else 0
    parsed = met = 0
    for source, folder in folders:
        batch: list[Scanned] = []
        for path, status in _walk(folder):
            met += 1
            if progress is not None:
                progress(met, max(met, total))
            relative, reason = _named(path.relative_to(folder).as_posix())
            if status is not None and store.is_known(source, relative, modified_ns(status), status.st_size):
                continue
            batch.append(_met(source, relative, status, reason))
            if len(batch) == _BATCH:
                parsed += _parse(store, scanner(), folder, batch, key, issuer, opted_out)
                batch = []
        if batch:
            parsed += _parse(store, scanner(), folder, batch, key, issuer, opted_out)
    store.forget_unseen()
    return parsed


def _walk(folder: Path) -> Iterator[tuple[Path, os.stat_result | None]]:
    """Every file below `folder`, links among them, in the order of names; None for one that cannot be looked at."""
    open_folders = [_entries(folder)]  # no call inside a call: folders nest deeper than calls may
    while open_folders:
        entry = next(open_folders[-1], None)
        if entry is None:
            open_folders.pop()
            continue
        try:
            if entry.is_dir(follow_symlinks=False):
                open_folders.append(_entries(entry.path))
            else:
                yield Path(entry.path), entry.stat(follow_symlinks=False)
        except OSError:
            yield Path(entry.path), None


def _entries(folder: Path | str) -> Iterator[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return iter(sorted(entries, key=lambda entry: entry.name))
    except OSError:
        return iter(())


def _named(relative: str) -> tuple[str, str]:
    """(path as the index keeps it, why it is refused): a name that is no UTF-8 cannot be kept as it is."""
    try:
        relative.encode()
        return relative, ""
    except UnicodeEncodeError:  # its end is one that no path here has, so it never stands in for another file
        return relative.encode(errors="backslashreplace").decode() + "//", "file-name"


def _met(source: str, path: str, status: os.stat_result | None, reason: str) -> Scanned:
    """Refused at once when it is no regular file: a link could lead out of the folder, a pipe would never end."""
    if status is None:
        return Scanned(source, path, 0, 0, reason="file-not-readable")
    reason = reason if stat.S_ISREG(status.st_mode) else "file-not-readable"
    return Scanned(source, path, modified_ns(status), status.st_size, reason=reason)


def _parse(
    store: IndexStore, scanner: Scanner, folder: Path, batch: Sequence[Scanned], key: bytes, issuer: str,
    opted_out: Collection[str],
) -> int:
    by_path = {folder / one.path: one for one in batch if not one.reason}
    done = [one for one in batch if one.reason]
    for path, found in scanner.scan(list(by_path)):
        done.append(_identified(by_path.pop(path), found, key, issuer, opted_out))
    store.put([*done, *(_refused(one, "dicom-unreadable") for one in by_path.values())])
    return len(batch)


def _identified(
    one: Scanned, found: Header | str, key: bytes, issuer: str, opted_out: Collection[str]
) -> Scanned:
    if isinstance(found, str):
        return _refused(one, found)
    try:
        patient_id = checked_patient_id(found.patient_id)
        if found.issuer not in ("", issuer):
            raise RefusedItemError("issuer-differs")
    except RefusedItemError as refusal:
        return _refused(one, refusal.code)
    patient = pseudonym(key, issuer, patient_id)
    if patient in opted_out:
        return _refused(one, "opted-out")
    return Scanned(one.source, one.path, one.mtime_ns, one.size, patient, found)


def _refused(one: Scanned, reason: str) -> Scanned:
    return Scanned(one.source, one.path, one.mtime_ns, one.size, reason=reason)
