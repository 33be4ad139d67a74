"""Evidence against sites that a run met: one file for each, on the disk before the site is left out of the round."""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from pathlib import Path

from privacy.durable import sync, write_whole
from privacy.evidence import Evidence
from privacy.evidence_report import read_evidence, read_roster
from privacy.identity import Roster

__all__ = ["EvidenceFolder", "kept_in"]

_log = logging.getLogger(__name__)


class EvidenceFolder:
    """`RUN/evidence/ID.bin`, each 0600 and written once; ID is 16 hex digits of the evidence's hash. The run's roster
    is kept beside them, as `roster.bin`.
    """

    def __init__(self, folder: Path, roster: Roster) -> None:
        self._folder, self._roster = folder, roster

    def keep(self, evidence: Evidence) -> None:
        """Write it durably; nothing happens when it is there already. Raises OSError."""
        path = self._folder / f"{evidence.hash().hex()[:16]}.bin"
        if path.is_file():
            return
        if not self._folder.is_dir():
            self._folder.mkdir(parents=True, mode=0o700)
            sync(self._folder.parent)
        write_whole(self._folder / "roster.bin", self._roster.to_bytes())
        write_whole(path, evidence.to_bytes())
        _log.error("evidence kind=%s code=%s blamed=%s", evidence.kind, evidence.code, evidence.blamed)


def kept_in(folder: Path) -> list[tuple[Evidence, Roster, str]]:
    """The evidence of a run's output folder, each with the roster and the UTC time of writing, oldest first.

    Raises:
        ValueError: a file there cannot be read.
    """
    folder /= "evidence"
    paths = sorted((path for path in folder.glob("*.bin") if path.name != "roster.bin"),
                   key=lambda path: (path.stat().st_mtime, path.name))
    if not paths:
        return []
    roster = read_roster(folder / "roster.bin")
    return [(read_evidence(path), roster,
             datetime.fromtimestamp(path.stat().st_mtime, UTC).isoformat(timespec="seconds")) for path in paths]
