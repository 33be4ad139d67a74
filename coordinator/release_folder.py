"""A release as a folder: which files may be in it, their hashes, and the coordinator's signature over them.

`release.json` lists every other file with its SHA-256 and size; `release.sig` is the coordinator's Ed25519 signature of
it, bound to the federation, the run and the manifest, under a label of its own. Both are in hex and JSON, nothing in a
release is a pickle, a link or a program.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from model.limited_read import read_limited
from privacy.identity import SigningKey, verify
from privacy.signed import SIGNATURE_BYTES

__all__ = [
    "FORMAT", "KINDS", "MANIFEST_FILE", "ROSTER_FILE", "ROUNDS_FILE", "SIGNATURE_FILE", "STATEMENT_FILE", "STATE_FILE",
    "ReleaseError", "Statement", "file_facts", "json_value", "open_statement", "present_files", "read_part",
    "require_listed", "sign_release"]

FORMAT = "federated-medgpt-release/1"
KINDS = ("peft", "merged")
STATEMENT_FILE, SIGNATURE_FILE, ROUNDS_FILE = "release.json", "release.sig", "rounds.json"
MANIFEST_FILE, ROSTER_FILE = "provenance/manifest.signed", "provenance/roster.signed"
STATE_FILE = "provenance/state.safetensors"

_LABEL = "model-release"
_MOST_STATEMENT = 1 << 23  # before any signature was checked; hostile JSON grows forty-fold in memory
_MOST_SIGNATURE = 1 << 10
_NAME = re.compile(r"[A-Za-z0-9._/-]{1,255}")
_SHARED = frozenset({STATEMENT_FILE, SIGNATURE_FILE, ROUNDS_FILE, MANIFEST_FILE, ROSTER_FILE, STATE_FILE, "README.md"})
_OWN = {
    "peft": re.compile(r"adapter_config\.json|adapter_model\.safetensors"),
    "merged": re.compile(r"(config|spec|tokenizer|model\.safetensors\.index)\.json|"
                         r"model(-\d{5}-of-\d{5})?\.safetensors"),
}


class ReleaseError(ValueError):
    """A release that must not be relied on; the text is one sentence that says why."""


@dataclass(frozen=True)
class Statement:
    """`release.json` as it was signed: its values, its bytes, and the 64 bytes of `release.sig`."""

    facts: dict[str, Any]
    data: bytes
    signature: bytes

    def is_signed_by(self, public: bytes, manifest_hash: bytes) -> bool:
        """Whether `public` (32 bytes) signed exactly this statement for that manifest."""
        return verify(public, self.signature, _LABEL, *_items(self.facts, manifest_hash, self.data))


def file_facts(path: Path) -> dict[str, Any]:
    """SHA-256 (hex) and size of a file, read in pieces."""
    with path.open("rb") as stream:
        return {"sha256": hashlib.file_digest(stream, "sha256").hexdigest(), "size_bytes": path.stat().st_size}


def sign_release(folder: Path, facts: dict[str, Any], manifest_hash: bytes, key: SigningKey) -> None:
    """Write `release.json`, every file of `folder` listed in it, and `release.sig`."""
    files = {name: file_facts(path) for name, path in present_files(folder).items()}
    data = (json.dumps({**facts, "files": files}, indent=1, sort_keys=True) + "\n").encode()
    (folder / STATEMENT_FILE).write_bytes(data)
    (folder / SIGNATURE_FILE).write_text(
        key.sign(_LABEL, *_items(facts, manifest_hash, data)).hex() + "\n", encoding="ascii")


def present_files(folder: Path) -> dict[str, Path]:
    """Relative name -> path of every file under `folder`, hidden ones too. ReleaseError for a link or special file."""
    found: dict[str, Path] = {}
    for place, folders, names in os.walk(folder):
        for name in sorted([*folders, *names]):
            path = Path(place) / name
            mode = path.lstat().st_mode
            relative = path.relative_to(folder).as_posix()
            if not _NAME.fullmatch(relative):
                raise ReleaseError(f"{relative[:90]!a} is no name of a file in a release; somebody added it")
            if stat.S_ISLNK(mode):
                raise ReleaseError(f"{relative} is a link; a release holds its files itself (copy it with `cp -rL`)")
            if stat.S_ISREG(mode):
                found[relative] = path
            elif not stat.S_ISDIR(mode):
                raise ReleaseError(f"{relative} is neither a file nor a folder; it does not belong to the release")
    return found


def open_statement(folder: Path) -> Statement:
    """Read `release.json` and `release.sig`, the signature not yet checked. Raises ReleaseError."""
    files = present_files(folder)
    for name in (STATEMENT_FILE, SIGNATURE_FILE):
        if name not in files:
            raise ReleaseError(f"{folder} holds no {name}; it is no release, or a part of it is missing")
    data = read_part(files[STATEMENT_FILE], _MOST_STATEMENT)
    sealed = read_part(files[SIGNATURE_FILE], _MOST_SIGNATURE)
    try:
        facts, signature = json_value(data), bytes.fromhex(sealed.decode("ascii").strip())
    except (ValueError, RecursionError):
        raise ReleaseError(f"{STATEMENT_FILE} or {SIGNATURE_FILE} cannot be read; get the release again") from None
    if not isinstance(facts, dict) or facts.get("format") != FORMAT or facts.get("kind") not in KINDS:
        raise ReleaseError(f"{STATEMENT_FILE} is not of the form {FORMAT}; use the release of this software that wrote "
                           "it")
    if len(signature) != SIGNATURE_BYTES:
        raise ReleaseError(f"{SIGNATURE_FILE} holds no signature; get the release again")
    return Statement(facts, data, signature)


def require_listed(folder: Path, statement: Statement) -> dict[str, Path]:
    """The folder's files, if they are exactly the ones that were signed. Raises ReleaseError naming the first other."""
    files = present_files(folder)
    listed = statement.facts["files"]
    for name in sorted(files):
        if name in (STATEMENT_FILE, SIGNATURE_FILE):
            continue
        if name not in listed:
            raise ReleaseError(f"{name} is not a file of the release; somebody added it")
        if name not in _SHARED and not _OWN[statement.facts["kind"]].fullmatch(name):
            raise ReleaseError(f"{name} is of no kind that a release holds; only safetensors, JSON and text are loaded")
    for name in sorted(listed):
        if name not in files:
            raise ReleaseError(f"{name} is missing; get the release again")
        found = file_facts(files[name])
        if found != listed[name]:
            raise ReleaseError(f"{name} is not the file that was signed: its SHA-256 or size differs")
    for name in sorted(_SHARED - set(files)):
        raise ReleaseError(f"{name} is missing; get the release again")
    return files


def read_part(path: Path, limit: int) -> bytes:
    """A file of the release, of at most `limit` bytes. Raises ReleaseError for a longer one, OSError for none."""
    try:
        return read_limited(path, limit)
    except ValueError as error:
        raise ReleaseError(str(error)) from None


def json_value(data: bytes) -> Any:
    """What the JSON text says. ValueError or RecursionError when it is none, or says two things under one name."""
    return json.loads(data.decode("utf-8"), object_pairs_hook=_once)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a name stands twice")
    return found


def _items(facts: dict[str, Any], manifest_hash: bytes, data: bytes) -> tuple[str, str, bytes, bytes]:
    return str(facts["federation_id"]), str(facts["run_id"]), manifest_hash, hashlib.sha256(data).digest()
