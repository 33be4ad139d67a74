"""A trained, clipped, noised and quantised update that waits for its upload, kept over a restart of the site.

Training costs budget, so a round that stopped before the masked upload goes on with the same update: a new attempt
spends nothing again. The file is 0600 on the site's protected volume, is removed before the masked bytes leave, and
is used for one (run, round, model) only.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import numpy.typing as npt

from privacy.encoding import digest

__all__ = ["Spool"]


class Spool:
    """One file for the round in progress, under the site's state folder."""

    def __init__(self, state: Path) -> None:
        self._folder = state / "spool"

    def keep(self, run_id: str, round_number: int, model_hash: bytes, values: npt.NDArray[np.uint32]) -> None:
        """Write `values` (uint32[d], ring integers) durably; what waited before is dropped."""
        self.drop()
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        path = self._path(run_id, round_number, model_hash)
        partial = path.with_suffix(".partial")
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(values.astype("<u4").tobytes())
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)

    def find(self, run_id: str, round_number: int, model_hash: bytes, size: int) -> npt.NDArray[np.uint32] | None:
        """The update kept for exactly this round and model, or None."""
        path = self._path(run_id, round_number, model_hash)
        if not path.is_file() or path.stat().st_size != 4 * size:
            return None
        return np.frombuffer(path.read_bytes(), dtype="<u4").astype(np.uint32)

    def drop(self) -> None:
        """Remove whatever waits."""
        if self._folder.is_dir():
            for path in self._folder.iterdir():
                path.unlink()

    def _path(self, run_id: str, round_number: int, model_hash: bytes) -> Path:
        return self._folder / f"{digest('spool', run_id, round_number, model_hash).hex()}.bin"
