"""A small, transparent labeller of chest reports: which of CheXpert's 14 observations a text affirms, denies or doubts.

Method (after Irvin et al., CheXpert, arXiv 1901.07031, section 3): mentions are found by phrases, each is classified
by cues in its own clause (uncertain, then negated, else present), and an observation takes the strongest of its
mentions: present, then uncertain, then absent. No Finding is present when no other observation but Support Devices is
present or uncertain, and, unlike there, only in a text that mentions an observation or says normality in some word
(`normal`, `clear`, `no ...`): an answer of meaningless tokens is no normal report.

Limits, plainly: the phrases are few and English; clauses are cut at punctuation and a few words instead of being
parsed; a mention without a cue counts as present, also where it is history or advice; words of other organs can match
(a `calcified granuloma` is a lesion whatever it lies in). It measures whether two texts say the same of 14 things; it
is no diagnosis, and its numbers are not those of CheXpert's or CheXbert's labellers.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import cache

from model.chest_terms import (
    BREAKS,
    MENTIONS,
    NEGATED_AFTER,
    NEGATED_BEFORE,
    NO_FINDING,
    NORMAL,
    OBSERVATIONS,
    SAYS_NORMAL,
    SUPPORT_DEVICES,
    UNCERTAIN_AFTER,
    UNCERTAIN_BEFORE,
)

__all__ = ["ABSENT", "PRESENT", "UNCERTAIN", "affirmed", "labels_of"]

PRESENT, UNCERTAIN, ABSENT = "present", "uncertain", "absent"
_STRENGTH = (PRESENT, UNCERTAIN, ABSENT)
_DENIED_INSIDE = re.compile(r"\b(?:not|no|no longer|without)\b")
_BREAK = re.compile("|".join(BREAKS))


def labels_of(text: str) -> dict[str, str]:
    """Observation -> `present`, `uncertain` or `absent`; those that the text does not mention are left out."""
    found: dict[str, str] = {}
    for clause in _clauses(text):
        for name, label in _mentions(clause):
            if name not in found or _STRENGTH.index(label) < _STRENGTH.index(found[name]):
                found[name] = label
    pathology = any(label != ABSENT for name, label in found.items() if name != SUPPORT_DEVICES)
    if pathology:
        found[NO_FINDING] = ABSENT
    elif found or _pattern(SAYS_NORMAL).search(text.lower()):
        found[NO_FINDING] = PRESENT
    return found


def affirmed(labels: Mapping[str, str]) -> set[str]:
    """The observations that are present or uncertain: what F1 counts."""
    return {name for name in OBSERVATIONS if labels.get(name) in (PRESENT, UNCERTAIN)}


def _clauses(text: str) -> Iterator[str]:
    plain = " ".join(text.lower().replace("\n", " . ").split())
    yield from (clause.strip() for clause in _BREAK.split(plain) if clause and clause.strip())


def _mentions(clause: str) -> Iterator[tuple[str, str]]:
    for name, phrases in MENTIONS.items():
        for match in _pattern(phrases).finditer(clause):
            denied = _DENIED_INSIDE.search(match[0]) is not None  # `the heart is not enlarged`
            yield name, ABSENT if denied else _label(clause[: match.start()], clause[match.end() :])
    for name, phrases in NORMAL.items():
        if _pattern(phrases).search(clause):
            yield name, ABSENT


def _label(before: str, after: str) -> str:
    """The label of a mention from the clause's words before and after it: the cue nearest before it decides first."""
    if _pattern(UNCERTAIN_AFTER).search(after):
        return UNCERTAIN
    if _pattern(NEGATED_AFTER).search(after):
        return ABSENT
    doubts = [match.end() for match in _pattern(UNCERTAIN_BEFORE).finditer(before)]
    denials = [match.end() for match in _pattern(NEGATED_BEFORE).finditer(_without_doubts(before))]
    if denials and (not doubts or _only_or(before)):
        return ABSENT
    if denials and doubts:
        return ABSENT if max(denials) > max(doubts) else UNCERTAIN
    return UNCERTAIN if doubts else PRESENT


def _without_doubts(before: str) -> str:
    """The text with phrases of doubt blanked, so that the `not` of `cannot exclude` denies nothing."""
    return _pattern(UNCERTAIN_BEFORE).sub(lambda match: " " * len(match[0]), before)


def _only_or(before: str) -> bool:
    """Whether all doubt is the `or` of a list: `no effusion or pneumothorax` denies both."""
    return {match[0] for match in _pattern(UNCERTAIN_BEFORE).finditer(before)} <= {"or"}


@cache
def _pattern(phrases: tuple[str, ...]) -> re.Pattern[str]:
    return re.compile(rf"\b(?:{'|'.join(phrases)})\b")
