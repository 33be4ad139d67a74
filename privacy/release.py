"""Which code runs here: one hash over our own installed files, and one over the libraries that they stand on.

*Guarantees*: a site compares :func:`release_hash` with the manifest's before it trains; a run made for another release
is refused, so the coordinator cannot rely on code that the hospital has not installed. The hash is the same from a
source tree, an editable installation and an installed wheel of the same source. :func:`environment_hash` tells two
installations apart whose libraries come from different wheels; an operator compares it, no manifest names it.

*Assumes*: the interpreter is the one the hospital installed. Libraries are as their installer recorded them.

*Does not cover*: an attacker who can already change files on the hospital's machine; files of a library that were
changed after they were installed; libraries that only the libraries of :data:`LIBRARIES` need (`constraints.txt` and
the hashes of an offline installation pin those).
"""

from __future__ import annotations

import csv
import hashlib
import json
from dataclasses import asdict, dataclass
from functools import lru_cache
from importlib import metadata
from pathlib import Path

__all__ = [
    "HASHED_SUFFIXES", "LIBRARIES", "PACKAGES", "Library", "describe_release", "environment_hash", "files_hash",
    "installed_libraries", "release_hash",
]  # fmt: skip

PACKAGES = ("configs", "coordinator", "model", "privacy", "site_client")
HASHED_SUFFIXES = frozenset({".css", ".html", ".js", ".py", ".svg", ".typed", ".yaml"})
# The dependencies of pyproject.toml; a test compares the two lists.
LIBRARIES = (
    "accelerate", "alembic", "cryptography", "dicomweb-client", "dp-accounting", "flwr", "grpcio",
    "grpcio-health-checking", "jinja2", "matplotlib", "numpy", "omegaconf", "peft", "pillow", "prometheus-client",
    "pydicom", "pyjpegls", "pylibjpeg", "pylibjpeg-openjpeg", "pylibjpeg-rle", "pynacl", "requests", "rich",
    "safetensors", "scipy", "sqlalchemy", "starlette", "tokenizers", "torch", "transformers", "uvicorn", "uvloop",
)  # fmt: skip
# What an installer adds to a wheel's own files; it differs between machines.
_INSTALLER_FILES = frozenset({"INSTALLER", "REQUESTED", "RECORD", "direct_url.json", "uv_cache.json"})


@lru_cache(maxsize=1)
def release_hash() -> str:
    """SHA-256 (hex) over name and content of every code and data file of :data:`PACKAGES`, in sorted order."""
    return files_hash(Path(__file__).resolve().parent.parent)


def files_hash(root: Path) -> str:
    """The release hash that the packages under `root` have: a source tree, an unpacked wheel, or site-packages."""
    total = hashlib.sha256()
    for package in PACKAGES:
        files = [path for path in (root / package).rglob("*") if path.suffix in HASHED_SUFFIXES and path.is_file()]
        for name, path in sorted((path.relative_to(root).as_posix().encode(), path) for path in files):
            content = hashlib.sha256(path.read_bytes()).digest()
            total.update(len(name).to_bytes(4, "big") + name + content)
    return total.hexdigest()


@dataclass(frozen=True)
class Library:
    """One installed library. `files_hash` is the SHA-256 (hex) of the file hashes that its wheel recorded, or what is
    wrong: `not installed`, or `no record` where a system's package manager brought it."""

    name: str
    version: str
    files_hash: str


@lru_cache(maxsize=1)
def installed_libraries() -> tuple[Library, ...]:
    """The installed version and content of each of :data:`LIBRARIES`, by name."""
    return tuple(_library(name) for name in LIBRARIES)


@lru_cache(maxsize=1)
def environment_hash() -> str:
    """SHA-256 (hex) over name, version and recorded content of :data:`LIBRARIES`, in sorted order."""
    total = hashlib.sha256()
    for library in sorted(installed_libraries(), key=lambda library: library.name):
        for text in (library.name, library.version, library.files_hash):
            total.update(len(text.encode()).to_bytes(4, "big") + text.encode())
    return total.hexdigest()


def describe_release(*, as_json: bool = False) -> str:
    """Both hashes and the libraries, as text for an operator or as JSON."""
    libraries = installed_libraries()
    if as_json:
        return json.dumps({"release_hash": release_hash(), "environment_hash": environment_hash(),
                           "libraries": [asdict(library) for library in libraries]})
    lines = [f"release      {release_hash()}", f"environment  {environment_hash()}"]
    lines += [f"  {library.name:<15}{library.version:<14}{library.files_hash[:16]}" for library in libraries]
    return "\n".join(lines)


def _library(name: str) -> Library:
    try:
        distribution = metadata.distribution(name)
    except metadata.PackageNotFoundError:
        return Library(name, "", "not installed")
    record = distribution.read_text("RECORD")
    return Library(name, distribution.version, "no record" if record is None else _record_hash(record))


def _record_hash(record: str) -> str:
    """Hash of what the wheel itself recorded: no byte code, no scripts with a machine's paths, no installer's notes."""
    kept = sorted(
        f"{path},{content}" for path, content, *_ in csv.reader(record.splitlines())
        if content and not path.startswith(("../", "/")) and not path.endswith(".pyc")
        and not (".dist-info/" in path and path.rsplit("/", 1)[1] in _INSTALLER_FILES))
    return hashlib.sha256("\n".join(kept).encode()).hexdigest()
