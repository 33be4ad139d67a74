"""Files that are on the disk, whole, before anything that rests on them happens.

*Guarantees.*
    * `write_whole` leaves the old content or the new one, never a part, also after a power cut; the file is 0600
      from its first byte, and durable when the call returns.
    * `new_folder` leaves a whole folder (0700) or none, and never replaces one.
    * `sync` makes a file's content, or the names in a folder, durable.

*Assumes.* The file system keeps what fsync promised, and renames within a folder in one step.

*Does not cover.* Two writers of one file: the last one wins. A caller that must not lose the first takes a lock.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["new_folder", "sync", "write_whole"]


def sync(path: Path) -> None:
    """fsync of a file or a folder."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_whole(path: Path, content: bytes) -> None:
    """Replace `path` by `content`; a partial file beside it is removed when this fails."""
    descriptor, partial = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".partial", dir=path.parent)  # 0600
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        Path(partial).replace(path)
    except BaseException:
        Path(partial).unlink(missing_ok=True)
        raise
    sync(path.parent)


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """A partial folder beside `path`, which becomes `path` at the end of the block, or goes when that fails.

    Raises:
        ValueError: `path` exists, or its parent does not.
    """
    if os.path.lexists(path):
        raise ValueError(f"{path} exists and is never replaced; choose another name")
    if not path.parent.is_dir():
        raise ValueError(f"{path.parent} does not exist; make it first")
    partial = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".partial", dir=path.parent))  # 0700
    try:
        yield partial
        for folder in (partial, *(inner for inner in partial.rglob("*") if inner.is_dir())):
            sync(folder)
        partial.rename(path)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    sync(path.parent)
