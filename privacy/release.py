"""Which code runs here: one hash over the installed source files, named in every run manifest.

*Guarantees*: a site compares this hash with the manifest's before it trains; a run made for another release
is refused, so the coordinator cannot rely on code that the hospital has not installed.

*Assumes*: the interpreter and the libraries are those the hospital installed; only our own packages are
hashed.

*Does not cover*: an attacker who can already change files on the hospital's machine.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache
from pathlib import Path

__all__ = ["PACKAGES", "release_hash"]

PACKAGES = ("configs", "coordinator", "model", "privacy", "site_client")


@lru_cache(maxsize=1)
def release_hash() -> str:
    """SHA-256 (hex) over name and content of every Python file of :data:`PACKAGES`, in sorted order."""
    root = Path(__file__).resolve().parent.parent
    total = hashlib.sha256()
    for package in PACKAGES:
        for path in sorted((root / package).rglob("*.py")):
            name = path.relative_to(root).as_posix().encode()
            content = hashlib.sha256(path.read_bytes()).digest()
            total.update(len(name).to_bytes(4, "big") + name + content)
    return total.hexdigest()
