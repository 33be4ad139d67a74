"""Patients who do not take part: a list of pseudonyms in the state folder, applied before anything of them is indexed.

The list names nobody: it holds HMACs under the site's pseudonym key, one a line, 0600, and one of the whole list: under
another key or issuer it would match nobody, and everybody on it would be let in again. Identifiers come in through
standard input, never as an argument that other users of the machine could see.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from privacy.durable import write_whole
from site_client.keystore import load_or_create_secret
from site_client.records import RefusedItemError, checked_patient_id, keyed_digest, pseudonym

__all__ = ["OPT_OUT_FILE", "change_opt_out", "opted_out", "read_opt_out"]

OPT_OUT_FILE = "opt-out.txt"
_HEAD = "# Pseudonyms of patients of whom nothing is used; `site-client opt-out` adds and removes them.\n"


def opted_out(state: Path, issuer: str) -> frozenset[str] | None:
    """`read_opt_out` under the site's own key."""
    if not (state / OPT_OUT_FILE).exists():
        return None
    return read_opt_out(state, load_or_create_secret(state / "pseudonym.key"), issuer)


def read_opt_out(state: Path, key: bytes | None = None, issuer: str = "") -> frozenset[str] | None:
    """The pseudonyms on the list; None when there is no list. Without `key` the list as a whole is not checked.

    Raises:
        ValueError: a line is no pseudonym, or the list is not whole or made under another key or issuer. Nothing is
            indexed then: a damaged list must not let a patient in.
    """
    path = state / OPT_OUT_FILE
    if not path.exists():
        return None
    lines = [line.strip() for line in path.read_text(encoding="ascii", errors="replace").splitlines()]
    found = [line for line in lines if line and not line.startswith("#")]
    for number, line in enumerate(found, start=1):
        if re.fullmatch(r"[0-9a-f]{64}", line) is None:
            raise ValueError(f"{path} is damaged (entry {number} is no pseudonym); restore it from the newest backup")
    if key is not None and _check_line(key, issuer, found) not in lines:
        raise ValueError(f"{path} is damaged, or was made under another pseudonym key or issuer; restore it together "
                         "with pseudonym.key from the newest backup, or remove it and add every patient again")
    return frozenset(found)


def _check_line(key: bytes, issuer: str, entries: Iterable[str]) -> str:
    return f"# {keyed_digest(key, 'opt-out', issuer.strip(), *sorted(set(entries)))}"


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
    before = read_opt_out(state, key, issuer) or frozenset()
    after = before - named if remove else before | named
    if after != before:
        lines = [_check_line(key, issuer, after), *sorted(after)]
        write_whole(state / OPT_OUT_FILE, (_HEAD + "".join(f"{line}\n" for line in lines)).encode())
    return len(before ^ after), len(after)
