"""Evidence as an operator, or anybody with the roster, reads it: who signed what, whether it holds, what to do.

*Guarantees.* What is printed as proved was verified with the roster given, here and now, whatever a store noted.

*Assumes.* The roster is the one of that run, known to be right by its hash.

*Does not cover.* When it happened: no signature holds a time. "noted" is the clock of the machine that kept it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from privacy.durable import write_whole
from privacy.errors import FAULTS, POLICY_ACTIONS, POLICY_REFUSALS, MessageFormatError
from privacy.evidence import RULES, Evidence, describe, proves
from privacy.identity import Roster
from privacy.roster import SignedRoster

__all__ = ["act", "facts_of", "read_evidence", "read_roster", "text_of"]

Noted = tuple[Evidence, Roster, str]  # evidence, the roster of its run, the UTC time that it was noted at ("" unknown)


def facts_of(evidence: Evidence, roster: Roster, noted_utc: str = "") -> dict[str, Any]:
    """One piece of evidence as plain values for JSON. `proved` is computed here."""
    code = evidence.code
    sentence, action = (
        (FAULTS[code].sentence, FAULTS[code].action) if code in FAULTS
        else (POLICY_REFUSALS[code], POLICY_ACTIONS[code]))
    return {
        "id": _id(evidence), "proved": proves(evidence, roster), "kind": evidence.kind, "code": code,
        "blamed": evidence.blamed, "what": describe(evidence, roster), "noted_utc": noted_utc or None,
        "code_means": sentence, "action": action,
        "why_no_honest_party": RULES[evidence.kind].reason if evidence.kind in RULES else None,
        "messages": [statement.message.hex() for statement in evidence.statements],
    }


def text_of(facts: dict[str, Any]) -> str:
    """The facts for a screen; the messages' bytes are left to `export`."""
    lines = [
        f"{facts['id']}  {'PROVED' if facts['proved'] else 'NOT PROVED'}  {facts['what']}",
        f"  who      {facts['blamed']}",
        f"  code     {facts['code']}: {facts['code_means']}",
        f"  noted    {facts['noted_utc'] or 'unknown'}",
    ]
    if facts["proved"]:
        lines += [f"  rule     an honest party never does this: {facts['why_no_honest_party']}",
                  f"  do now   {facts['action']}"]
    return "\n".join(lines)


def act(words: list[str], kept: Sequence[Noted], where: str) -> tuple[list[dict[str, Any]], str]:
    """`list` (default), `show ID` or `export ID FILE`, over what is kept at `where`: facts for JSON, and the text.

    Raises:
        ValueError: other words, an unknown ID, or a file that exists.
        OSError: the file cannot be written.
    """
    action, *rest = words or ["list"]
    if action == "list" and not rest:
        facts = [facts_of(*noted) for noted in kept]
        nothing = f"no evidence is kept in {where}; nobody was seen to contradict itself"
        return facts, "\n\n".join(map(text_of, facts)) or nothing
    if (action, len(rest)) not in (("show", 1), ("export", 2)):
        raise ValueError("evidence takes `list`, `show ID` or `export ID FILE` after what it is to look at")
    found = _find(rest[0], kept)
    facts = [facts_of(*found)]
    if action == "show":
        messages = "\n".join(f"  message {n} {hexed}" for n, hexed in enumerate(facts[0]["messages"], 1))
        return facts, f"{text_of(facts[0])}\n{messages}"
    path = Path(rest[1])
    if path.exists():
        raise ValueError(f"{path} exists already; name a new file")
    write_whole(path, found[0].to_bytes())
    return facts, (f"wrote {path}: anybody can check it with `site-client evidence --verify {path.name} --roster "
                   "ROSTER`, or `coordinator evidence` with the same words")


def read_evidence(path: Path) -> Evidence:
    """An exported file. Raises ValueError when it is none."""
    if path.stat().st_size > Evidence.LIMIT_BYTES:
        raise ValueError(f"{path} is too large to be evidence; name a file that `evidence export` wrote")
    try:
        return Evidence.from_bytes(path.read_bytes())
    except MessageFormatError:
        raise ValueError(f"{path} is not evidence of this release; name a file that `evidence export` wrote, and use "
                         "the release that wrote it") from None


def read_roster(path: Path) -> Roster:
    """A roster file, signed by its officers or bare (which its reader must know by its hash). Raises ValueError."""
    data = path.read_bytes()
    with contextlib.suppress(MessageFormatError):
        return SignedRoster.from_bytes(data).require_signed()
    try:
        return Roster.from_bytes(data)
    except MessageFormatError:
        raise ValueError(f"{path} is not a roster of this release; get the file from the consortium") from None


def _find(wanted: str, kept: Sequence[Noted]) -> Noted:
    found = [noted for noted in kept if len(wanted) >= 4 and _id(noted[0]).startswith(wanted.lower())]
    if len(found) != 1:
        raise ValueError(f"{len(found)} pieces of evidence have an ID like {wanted!r}; `list` shows the IDs")
    return found[0]


def _id(evidence: Evidence) -> str:
    return evidence.hash().hex()[:16]
