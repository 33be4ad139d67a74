"""A trained, clipped, noised and quantised update that waits for its upload, kept over a restart of the site.

Training costs budget, so a round that stopped before the masked upload goes on with the same update: a new attempt
spends nothing again. The file is 0600 on the site's protected volume, is removed before the masked bytes leave, and
is used for one plan only: the same round of the same run, from the same model, in another attempt.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from privacy.durable import write_whole
from privacy.messages import Plan

__all__ = ["Spool"]


class Spool:
    """One file for the round in progress, under the site's state folder."""

    def __init__(self, state: Path) -> None:
        self._folder = state / "spool"

    def keep(self, plan: Plan, values: npt.NDArray[np.uint32]) -> None:
        """Write `values` (uint32[d], ring integers) durably; what waited before is dropped."""
        self.drop()
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_whole(self._path(plan), values.astype("<u4").tobytes())

    def find(self, plan: Plan) -> npt.NDArray[np.uint32] | None:
        """The update kept for exactly this plan, whatever its attempt, or None."""
        path = self._path(plan)
        if not path.is_file() or path.stat().st_size != 4 * plan.dimension:
            return None
        return np.frombuffer(path.read_bytes(), dtype="<u4").astype(np.uint32)

    def drop(self) -> None:
        """Remove whatever waits."""
        if self._folder.is_dir():
            for path in self._folder.iterdir():
                path.unlink()

    def _path(self, plan: Plan) -> Path:
        return self._folder / f"{replace(plan, attempt=0).hash().hex()}.bin"
