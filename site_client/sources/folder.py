"""A small folder read whole into memory, pictures too: public splits, audits, tests. Hospitals keep an index instead
(`site_client.site_index`); both are made by the same code.
"""

from __future__ import annotations

import atexit
import tempfile
from collections.abc import Callable
from pathlib import Path

from configs.site_data import ImagesConfig
from site_client.imaging.sandbox import Sandbox
from site_client.indexing.build import IndexSettings, build_index
from site_client.records import SiteIndex
from site_client.sources.tables import FolderSource

__all__ = ["read_folder"]

Progress = Callable[[int, int], None]


def read_folder(path: Path, *, pseudonym_key: bytes, issuer: str = "", progress: Progress | None = None) -> SiteIndex:
    """Read everything under ``path``; what cannot be used is in the index's ``refused``, with a reason.

    ``pseudonym_key`` is the site's secret (16 bytes or more), ``issuer`` the authority that assigns the
    patient IDs of this folder; a file that names another issuer is refused. ``progress`` is called with
    (files read, files). The result depends on the content only, not on the order of files and rows, except
    which of two repeats by the same patient is kept. Raises ValueError for a missing folder or table, a
    missing column and a short key.
    """
    def show(what: str, done: int, total: int) -> None:
        if progress is not None and what == "headers":
            progress(done, total)

    with tempfile.TemporaryDirectory() as folder:
        settings = IndexSettings(folder=Path(folder) / "index", key=pseudonym_key, issuer=issuer.strip())
        return build_index([FolderSource(Path(path))], settings, progress=show, parser=_SHARED)


class _Shared:
    """One sandbox for all small folders that this process reads; it ends with the process."""

    def __init__(self) -> None:
        self._sandbox: Sandbox | None = None

    def get(self) -> Sandbox:
        if self._sandbox is None:
            self._sandbox = Sandbox(ImagesConfig()).__enter__()
            atexit.register(self._sandbox.__exit__, None, None, None)
        return self._sandbox


_SHARED = _Shared()
