"""Which form a state folder has: one whole number in the file `version`, so that an older release leaves it alone.

*Guarantees.* A folder that a newer release has written to is refused in one sentence, before anything in it is changed.

*Assumes.* A release that changes the form of a file in the folder raises `STATE_VERSION`.

*Does not cover.* Releases before this file existed: a folder without it counts as version 1.
"""

from __future__ import annotations

from pathlib import Path

from privacy.durable import write_whole

__all__ = ["STATE_VERSION", "claim_version", "read_version", "require_known"]

STATE_VERSION = 1
_FILE = "version"


def read_version(folder: Path) -> int | None:
    """The number in the folder; None without one. Raises ValueError for a file that is no number."""
    try:
        text = (folder / _FILE).read_text(encoding="ascii").strip()
    except FileNotFoundError:
        return None
    except UnicodeDecodeError:
        text = ""
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise ValueError(f"{folder / _FILE} is damaged; it holds one whole number, restore it from backup")
    return int(text)


def require_known(folder: Path) -> None:
    """Raises ValueError when a newer release wrote the folder, or the file is damaged."""
    found = read_version(folder)
    if found is not None and found > STATE_VERSION:
        raise ValueError(f"{folder} was written by a newer release (version {found}; this one knows {STATE_VERSION}); "
                         "install that release again")


def claim_version(folder: Path) -> None:
    """`require_known`; then the folder has this release's number, durably."""
    require_known(folder)
    if read_version(folder) != STATE_VERSION:
        write_whole(folder / _FILE, f"{STATE_VERSION}\n".encode())
