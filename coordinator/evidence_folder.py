"""Evidence against sites that a run met: one file for each, on the disk before the site is left out of the round."""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from pathlib import Path

from privacy.durable import sync, write_whole
from privacy.errors import MessageFormatError
from privacy.evidence import Evidence

__all__ = ["EvidenceFolder"]

_log = logging.getLogger(__name__)


class EvidenceFolder:
    """`RUN/evidence/ID.bin`, each 0600 and written once; ID is 16 hex digits of the evidence's hash."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def keep(self, evidence: Evidence) -> None:
        """Write it durably; nothing happens when it is there already. Raises OSError."""
        path = self._folder / f"{evidence.hash().hex()[:16]}.bin"
        if path.is_file():
            return
        if not self._folder.is_dir():
            self._folder.mkdir(parents=True, mode=0o700)
            sync(self._folder.parent)
        write_whole(path, evidence.to_bytes())
        _log.error("evidence kind=%s code=%s blamed=%s", evidence.kind, evidence.code, evidence.blamed)

    def list(self) -> tuple[tuple[Evidence, str], ...]:
        """Each with the UTC time it was written, oldest first; a file that is no evidence is left out and logged."""
        found = []
        for path in self._folder.glob("*.bin"):
            try:
                noted = datetime.fromtimestamp(path.stat().st_mtime, UTC).isoformat(timespec="seconds")
                found.append((noted, path.name, Evidence.from_bytes(path.read_bytes())))
            except MessageFormatError:
                _log.error("%s is not evidence of this release", path.name)
        return tuple((evidence, noted) for noted, _, evidence in sorted(found, key=lambda entry: entry[:2]))
