"""A site's long-lived secrets on disk: identity key, pseudonym key and the key of its transport, each a 0600 file in
the site's state folder.

Beside them a marker says that this folder's ledger was begun, so that a lost one is never replaced by an empty one.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from privacy.durable import sync
from privacy.identity import SigningKey

__all__ = [
    "NODE_KEY_FILE", "KeyFileError", "has_ledger", "load_or_create_secret", "node_public_key", "note_ledger",
    "signing_key"]

SECRET_BYTES = 32
NODE_KEY_FILE = "node.key"
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
        _create(path, os.urandom(SECRET_BYTES))
    return _load(path)


def _create(path: Path, content: bytes) -> None:
    """Appears whole or not at all, and never in place of another: of two processes, the first one's stays."""
    descriptor, partial = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".partial", dir=path.parent)  # 0600
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        with contextlib.suppress(FileExistsError):
            os.link(partial, path)
    finally:
        Path(partial).unlink()
    sync(path.parent)


def _read(path: Path) -> bytes:
    mode = path.stat().st_mode & 0o777
    if mode & 0o077:
        raise KeyFileError(f"key file {path} is readable by others (mode {mode:o}); run: chmod 600 {path}")
    return path.read_bytes()


def _load(path: Path) -> bytes:
    secret = _read(path)
    if len(secret) != SECRET_BYTES:
        raise KeyFileError(f"key file {path} has {len(secret)} bytes instead of {SECRET_BYTES}; restore it from backup")
    return secret


def signing_key(state: Path) -> SigningKey:
    """The site's Ed25519 identity from `state/identity.key`, made on first use."""
    return SigningKey.from_private_bytes(load_or_create_secret(state / "identity.key"))


def node_public_key(state: Path) -> str:
    """The public half of `state/node.key`, one line of OpenSSH text; the file is made on first use.

    The file is an EC P-384 private key in OpenSSH form, as Flower's SuperNode reads it.

    Raises:
        KeyFileError: readable by others than its owner, or no such key.
    """
    path = state / NODE_KEY_FILE
    if not path.exists():
        state.mkdir(parents=True, exist_ok=True, mode=0o700)
        _create(path, ec.generate_private_key(ec.SECP384R1()).private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()))
    try:
        found = serialization.load_ssh_private_key(_read(path), password=None)
    except KeyFileError:
        raise
    except (ValueError, TypeError, UnsupportedAlgorithm):
        found = None
    if not isinstance(found, ec.EllipticCurvePrivateKey) or not isinstance(found.curve, ec.SECP384R1):
        raise KeyFileError(f"key file {path} is not an EC P-384 private key in OpenSSH form; restore it from backup")
    public = found.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    return public.decode("ascii")


def has_ledger(state: Path) -> bool:
    """Whether the ledger of this state folder was begun: from then on it must be there."""
    return (state / _LEDGER_MARKER).exists()


def note_ledger(state: Path) -> None:
    """Remember, durably, that this state folder has a ledger; idempotent."""
    if not has_ledger(state):
        (state / _LEDGER_MARKER).touch(mode=0o600)
        sync(state)
