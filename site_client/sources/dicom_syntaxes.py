"""How many files of a data folder are in which transfer syntax, and what to do about those without a decoder here.

Counts only. The files are opened by the sandbox's child process, and a syntax that is not one of still images is not
named.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

from configs.site_data import ImagesConfig
from site_client.imaging.decoders import advice, name_of
from site_client.imaging.sandbox import Sandbox

__all__ = ["MOST_FILES", "count_syntaxes"]

MOST_FILES = 20_000
_UNREAD = {"dicom-unreadable": "no DICOM file"}


def count_syntaxes(folders: Sequence[Path], images: ImagesConfig) -> tuple[Counter[str], Counter[str]]:
    """(files by name of the syntax, files without a decoder by what to do about them) of the first `MOST_FILES` files
    below `folders`. Raises SandboxError (a ValueError) where the child process does not start."""
    counts: Counter[str] = Counter()
    to_do: Counter[str] = Counter()
    files = (path for folder in folders for path in folder.rglob("*") if not path.is_symlink() and path.is_file())
    with Sandbox(images) as sandbox:
        for _, found in sandbox.syntaxes(islice(files, MOST_FILES)):
            if isinstance(found, str):
                counts[_UNREAD.get(found, "not readable")] += 1
                continue
            counts[name_of(found[0])] += 1
            if fix := advice(*found):
                to_do[f"{name_of(found[0])}: {fix}"] += 1
    return counts, to_do
