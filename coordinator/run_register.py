"""Which runs the coordinator's key has begun, so that it never signs what sites would keep as evidence against it.

A run's name stands for one manifest, and a run goes on in one folder, where its journal counts the attempts. A second
manifest under the name, a second folder, or a second process would sign other plans for the same attempts.

The register is `KEY_FILE.runs.json`. A key that is copied to another machine takes no register along.
"""

from __future__ import annotations

import fcntl
import json
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from privacy.durable import sync, write_whole
from privacy.manifest import RunManifest

__all__ = ["RunTakenError", "claimed"]


class RunTakenError(ValueError):
    """The run's name belongs to another manifest, folder or process; the text says what to do."""


@contextmanager
def claimed(key_file: Path, output: Path, manifest: RunManifest) -> Iterator[None]:
    """Hold the run for this folder and process.

    Args:
        key_file: the coordinator's signing key; the register lies beside it.
        output: the run's folder; it is made when missing.

    Raises:
        RunTakenError: nothing was signed or sent.
        OSError: the folder or the register cannot be written.
    """
    output.mkdir(parents=True, exist_ok=True)
    with _locked(output / "run.token") as token_file:
        if token_file is None:
            raise RunTakenError(f"another process runs the run in {output}; wait for it or end it")
        _register(key_file, output, manifest, _token(token_file, output))
        yield


def _register(key_file: Path, output: Path, manifest: RunManifest, token: str) -> None:
    register = key_file.with_name(f"{key_file.name}.runs.json")
    with _locked(register.with_name(f"{register.name}.lock"), wait=True):
        runs = json.loads(register.read_text(encoding="utf-8")) if register.is_file() else {}
        ours = {"manifest_hash": manifest.hash().hex(), "token": token}
        known = runs.setdefault(manifest.run_id, ours)
        if known["manifest_hash"] != ours["manifest_hash"]:
            raise RunTakenError(
                f"run {manifest.run_id} was begun with another manifest; give the changed one a new run_id")
        if known["token"] != token:
            raise RunTakenError(
                f"run {manifest.run_id} was begun in another folder than {output}; go on there, or begin a run with a "
                "new run_id")
        write_whole(register, json.dumps(runs, indent=1).encode())


@contextmanager
def _locked(path: Path, *, wait: bool = False) -> Iterator[int | None]:
    """An exclusive lock on `path` (its descriptor), which ends with the process; None when another holds it."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            yield None
            return
        yield descriptor
    finally:
        os.close(descriptor)


def _token(descriptor: int, output: Path) -> str:
    """The folder's name for itself, which it keeps when it is moved; made on first use."""
    held = os.read(descriptor, 64).decode("ascii", "replace")
    if held:
        return held
    made = secrets.token_hex(16)
    os.write(descriptor, made.encode())
    os.fsync(descriptor)
    sync(output)
    return made
