"""How many files of a data folder are in which transfer syntax: counts only, read from the file meta information.

Nothing behind the meta information is read, and a syntax that DICOM does not register is not named.
"""

from __future__ import annotations

import io
from collections import Counter
from pathlib import Path

from pydicom.filereader import read_dataset, read_preamble
from pydicom.uid import UID

from site_client.sources.dicom import NATIVE_SYNTAXES, quiet_library

__all__ = ["MOST_FILES", "count_syntaxes"]

MOST_FILES = 20_000
_META_BYTES = 1 << 16
_REGISTERED = "1.2.840.10008.1.2"


def count_syntaxes(folder: Path) -> tuple[Counter[str], int]:
    """(files by name of the syntax, files that cannot be read here) of the first `MOST_FILES` files below `folder`."""
    counts: Counter[str] = Counter()
    refused = 0
    with quiet_library():
        for number, path in enumerate(path for path in folder.rglob("*") if not path.is_symlink() and path.is_file()):
            if number == MOST_FILES:
                break
            syntax = _syntax(path)
            refused += syntax not in NATIVE_SYNTAXES
            counts[_name(syntax)] += 1
    return counts, refused


def _syntax(path: Path) -> str:
    try:
        with path.open("rb") as file:
            stream = io.BytesIO(file.read(_META_BYTES))
        read_preamble(stream, False)
        meta = read_dataset(stream, False, True, stop_when=lambda tag, vr, length: tag >> 16 != 2)
        return str(meta.TransferSyntaxUID)
    except Exception:  # the library raises nearly anything, with values of the file in the text
        return ""


def _name(syntax: str) -> str:
    if not syntax:
        return "no DICOM file"
    known = UID(syntax)
    return known.name if syntax.startswith(_REGISTERED) and known.name != syntax else "an unregistered syntax"
