"""Patients who do not take part: a list of pseudonyms in the state folder, applied before anything of them is indexed.

The list names nobody: it holds HMACs under the site's pseudonym key, one a line, 0600. Identifiers come in through
standard input, never as an argument that other users of the machine could see.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from privacy.durable import write_whole
from site_client.records import RefusedItemError, checked_patient_id, pseudonym

__all__ = ["OPT_OUT_FILE", "change_opt_out", "read_opt_out"]

OPT_OUT_FILE = "opt-out.txt"
_HEAD = "# Pseudonyms of patients of whom nothing is used; `site-client opt-out` adds and removes them.\n"


def read_opt_out(state: Path) -> frozenset[str] | None:
    """The pseudonyms on the list; None when there is no list.

    Raises:
        ValueError: a line is no pseudonym. Nothing is indexed then: a damaged list must not let a patient in.
    """
    path = state / OPT_OUT_FILE
    if not path.exists():
        return None
    lines = [line.strip() for line in path.read_text(encoding="ascii", errors="replace").splitlines()]
    found = [line for line in lines if line and not line.startswith("#")]
    for number, line in enumerate(found, start=1):
        if re.fullmatch(r"[0-9a-f]{64}", line) is None:
            raise ValueError(f"{path} is damaged (entry {number} is no pseudonym); restore it from the newest backup")
    return frozenset(found)


def change_opt_out(
    state: Path, patient_ids: Iterable[str], *, key: bytes, issuer: str, remove: bool = False
) -> tuple[int, int]:
    """Add patients, or remove them; (entries changed, entries now). All of them or none.

    Raises:
        ValueError: an identifier cannot tell patients apart; it is named by its line, not by its value.
    """
    named: set[str] = set()
    for number, text in enumerate(patient_ids, start=1):
        if not text.strip():
            continue
        try:
            named.add(pseudonym(key, issuer, checked_patient_id(text)))
        except RefusedItemError as refusal:
            raise ValueError(f"line {number} is no patient ID ({refusal}); nothing was changed") from None
    before = read_opt_out(state) or frozenset()
    after = before - named if remove else before | named
    if after != before:
        write_whole(state / OPT_OUT_FILE, (_HEAD + "".join(f"{one}\n" for one in sorted(after))).encode())
    return len(before ^ after), len(after)
