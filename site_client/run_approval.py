"""Runs that wait for the operator's word, and those that have it: `policy.approve_runs: by-hand`.

A manifest that the policy allows is kept in `state/pending/HASH.manifest` (0600) and its run is refused until its hash
is in `state/approved-runs`. The coordinator signs what is kept, so it can only crowd out its own older requests.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from privacy.durable import sync, write_whole
from privacy.errors import MessageFormatError, PolicyRefusalError
from privacy.manifest import RunManifest
from privacy.messages import SignedManifest

__all__ = ["MOST_PENDING", "PendingRun", "RunApprovals"]

MOST_PENDING = 16  # manifests that wait; the oldest go


@dataclass(frozen=True)
class PendingRun:
    """A manifest that waits: when it came (seconds since 1970) and its bytes, signature included."""

    arrived: float
    signed: bytes
    manifest: RunManifest

    @property
    def digest(self) -> str:
        """The manifest's hash, hex."""
        return self.manifest.hash().hex()


class RunApprovals:
    """Two things under the site's state folder; nothing is made before it is needed. Safe between processes."""

    def __init__(self, state: Path) -> None:
        self._state = state
        self._pending = state / "pending"
        self._approved = state / "approved-runs"

    def require(self, signed: bytes, manifest: RunManifest) -> None:
        """Return when the run was approved; else keep its manifest for the operator and refuse.

        Args:
            signed: the `SignedManifest` that `manifest` was opened from.

        Raises:
            PolicyRefusalError: P_APPROVAL.
        """
        digest = manifest.hash().hex()
        if self.is_approved(digest):
            return
        self._keep(digest, signed)
        raise PolicyRefusalError("P_APPROVAL")

    def is_approved(self, digest: str) -> bool:
        """Whether the operator approved the manifest with this hash (hex). Raises ValueError: see `approved`."""
        return digest in self.approved()

    def approved(self) -> dict[str, str]:
        """hash (hex) -> run_id of every approved run.

        Raises:
            ValueError: the file is damaged.
        """
        try:
            found = json.loads(self._approved.read_text(encoding="utf-8"))
            return {str(digest): str(run_id) for digest, run_id in found.items()}
        except FileNotFoundError:
            return {}
        except (ValueError, AttributeError):
            raise ValueError(f"{self._approved} is damaged; restore it from backup, or remove it and approve the runs "
                             "again") from None

    def approve(self, manifest: RunManifest) -> bool:
        """Write, durably, that this run may begin; False when it was approved already.

        Raises:
            ValueError: see `approved`.
        """
        digest = manifest.hash().hex()
        with self._locked():
            known = self.approved()
            if digest not in known:
                write_whole(self._approved, json.dumps({**known, digest: manifest.run_id}, indent=1).encode())
        self._path(digest).unlink(missing_ok=True)
        return digest not in known

    def pending(self) -> list[PendingRun]:
        """What waits, oldest first; a file that is no manifest, or not the one that its name says, is left out."""
        found = []
        for path in self._pending.glob("*.manifest"):
            with contextlib.suppress(MessageFormatError, FileNotFoundError):
                signed = path.read_bytes()
                run = PendingRun(path.stat().st_mtime, signed, SignedManifest.from_bytes(signed).manifest)
                if path == self._path(run.digest):
                    found.append(run)
        return sorted(found, key=lambda run: (run.arrived, run.digest))

    def _keep(self, digest: str, signed: bytes) -> None:
        """Once: a coordinator that asks again every minute neither writes again nor becomes younger."""
        self._pending.mkdir(parents=True, exist_ok=True, mode=0o700)
        with self._locked():
            if self._path(digest).is_file():
                return
            held = sorted(self._pending.glob("*.manifest"), key=lambda path: path.stat().st_mtime)
            for path in held[: max(0, len(held) - MOST_PENDING + 1)]:
                path.unlink(missing_ok=True)
            write_whole(self._path(digest), signed)
            sync(self._pending)

    def _path(self, digest: str) -> Path:
        return self._pending / f"{digest}.manifest"

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Alone among this site's processes."""
        descriptor = os.open(self._state / "approved-runs.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)
