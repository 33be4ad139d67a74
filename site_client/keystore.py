"""A site's long-lived secrets on disk: identity key and pseudonym key, each a 0600 file in the site's state folder.

Beside them a marker says that this folder's ledger was begun, so that a lost one is never replaced by an empty one.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path

from privacy.durable import sync
from privacy.identity import SigningKey

__all__ = ["KeyFileError", "has_ledger", "load_or_create_secret", "note_ledger", "signing_key"]

SECRET_BYTES = 32
_LEDGER_MARKER = "identity.has-ledger"


class KeyFileError(ValueError):
    """A key file that must not be used; the text names the file and the fix."""


def load_or_create_secret(path: Path) -> bytes:
    """The 32 secret bytes in `path`; made from the kernel's generator and fsynced when the file does not exist.

    Raises:
        KeyFileError: readable by others than its owner, or not 32 bytes long.
    """
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    if not path.exists():
        _create(path)
    return _load(path)


def _create(path: Path) -> None:
    """Appears whole or not at all, and never in place of another: of two processes, the first one's stays."""
    descriptor, partial = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".partial", dir=path.parent)  # 0600
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(os.urandom(SECRET_BYTES))
            file.flush()
            os.fsync(file.fileno())
        with contextlib.suppress(FileExistsError):
            os.link(partial, path)
    finally:
        Path(partial).unlink()
    sync(path.parent)


def _load(path: Path) -> bytes:
    mode = path.stat().st_mode & 0o777
    if mode & 0o077:
        raise KeyFileError(f"key file {path} is readable by others (mode {mode:o}); run: chmod 600 {path}")
    secret = path.read_bytes()
    if len(secret) != SECRET_BYTES:
        raise KeyFileError(f"key file {path} has {len(secret)} bytes instead of {SECRET_BYTES}; restore it from backup")
    return secret


def signing_key(state: Path) -> SigningKey:
    """The site's Ed25519 identity from `state/identity.key`, made on first use."""
    return SigningKey.from_private_bytes(load_or_create_secret(state / "identity.key"))


def has_ledger(state: Path) -> bool:
    """Whether the ledger of this state folder was begun: from then on it must be there."""
    return (state / _LEDGER_MARKER).exists()


def note_ledger(state: Path) -> None:
    """Remember, durably, that this state folder has a ledger; idempotent."""
    if not has_ledger(state):
        (state / _LEDGER_MARKER).touch(mode=0o600)
        sync(state)
