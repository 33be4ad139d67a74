"""The local review file: for the hospital's own staff each hit with what stands around it.

It names patients. It lies in the site's index folder with mode 0600, is overwritten by each check, whole or not at all,
and nothing sends it or reads it again. Everything else shows `counts` only.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from privacy.durable import write_whole
from site_client.phi.check import KINDS, Hit

__all__ = ["REVIEW_FILE", "WARNING", "ReviewedText", "counts", "write_review"]

REVIEW_FILE = "phi-review.txt"
WARNING = ("THIS FILE NAMES PATIENTS. It is for this hospital's own staff; never send, copy or print it. "
           "Each check overwrites it.")
_AROUND = 40


@dataclass(frozen=True, slots=True)
class ReviewedText:
    """A text with hits. ``item``: file and row, for staff to find it again; may contain identifiers."""

    item: str = field(repr=False)
    text: str = field(repr=False)
    hits: Sequence[Hit] = field(repr=False)


def counts(reviewed: Iterable[ReviewedText]) -> dict[str, int]:
    """Hits by kind, in the order of `KINDS`; kinds without hits are left out. Data-dependent: for the site's own
    screens."""
    found = Counter(hit.kind for text in reviewed for hit in text.hits)
    return {kind: found[kind] for kind in KINDS if found[kind]}


def write_review(state: Path, reviewed: Sequence[ReviewedText]) -> Path:
    """Overwrite the review file in this folder; returns its path. One line a hit: kind, item, text around it.

    ValueError when the folder is missing or cannot be written.
    """
    lines = [WARNING, "", f"{'kind':<12}item, and the hit between >> and << with the text around it", ""]
    lines += [f"{hit.kind:<12}{_line(text.item)}\n{'':12}{_context(text.text, hit)}"
              for text in reviewed for hit in text.hits]
    if not any(text.hits for text in reviewed):
        lines.append("Nothing was found.")
    path = state / REVIEW_FILE
    try:
        write_whole(path, ("\n".join(lines) + "\n").encode("utf-8", errors="backslashreplace"))
    except OSError as error:
        raise ValueError(f"The review file {path} cannot be written: {error.strerror}") from None
    return path


def _context(text: str, hit: Hit) -> str:
    before, after = text[max(0, hit.start - _AROUND) : hit.start], text[hit.end : hit.end + _AROUND]
    return _line(f"...{before}>>{text[hit.start : hit.end]}<<{after}...")


def _line(text: str) -> str:
    """On one line, and without control characters that a terminal would obey."""
    return "".join(char if char.isprintable() else " " for char in text)
