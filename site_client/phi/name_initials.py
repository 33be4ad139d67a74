"""The patient's initials in the place of the name: "Patient J.D.", "Pat. J. D.,", "Patientin JRD, 43".

Only behind a word for the patient, or where they open a line and an age follows ("HM, 63 F"): two to four letters, each
of which a part of the name begins with. Letters without full stops must be followed by a comma or the like, for
"Patient CT" is none.
"""

from __future__ import annotations

import re

from site_client.phi.name_reach import Page
from site_client.phi.words import words

__all__ = ["PATIENTS", "own_initials"]

PATIENTS = words("patient pt pat patientin patiente paciente")
_LABELS = PATIENTS | words("pte pcte initials initialen initiales iniciales initiale")
_AFTER_LABEL = re.compile(r"[ \t]{1,2}(?:\r?\n)?|\.[ \t]{0,2}(?:\r?\n)?|[ \t]?[:(][ \t]{0,3}|\r?\n")
_BETWEEN = re.compile(r"\.[ \t]?-?(?:\r?\n)?")
_CLOSED = re.compile(r"[ \t]?[,;:)(/|]|\.?\r?\n|\.[ \t]")
_AGED = re.compile(r",?[ \t]\d{1,3}[ \t]?-?(?:[fmwvhj]\b|y|jahr|jaar|jr|ans\b|anos\b)", re.IGNORECASE)
_FEWEST, _MOST = 2, 4


def own_initials(page: Page) -> list[tuple[int, int]]:
    """Spans in the folded text, with their last full stop."""
    if not page.forms.initials:
        return []
    spans = []
    for index, token in enumerate(page.tokens):
        if token.lower in _LABELS and _AFTER_LABEL.fullmatch(page.gap(index)):
            span = _dotted(page, index + 1) or _dense(page, index + 1)
            spans += [span] if span is not None else []
        elif len(token.text) <= _MOST and _opens_line(page, index):
            span = _dotted(page, index) or _dense(page, index)
            spans += [span] if span is not None and _AGED.match(page.text, span[1]) else []
    return spans


def _opens_line(page: Page, index: int) -> bool:
    return index == 0 or "\n" in page.gap(index - 1)


def _dotted(page: Page, first: int) -> tuple[int, int] | None:
    last = first
    while last - first < _MOST and _is_own(page, page.word(last)) and len(page.word(last)) == 1:
        last += 1
        if not _BETWEEN.fullmatch(page.gap(last - 1)) or len(page.word(last)) != 1:
            break
    end = page.tokens[last - 1].end
    if last - first < _FEWEST or (page.text[end : end + 1] != "." and not _CLOSED.match(page.gap(last - 1))):
        return None
    return page.tokens[first].start, end + (page.text[end : end + 1] == ".")


def _dense(page: Page, at: int) -> tuple[int, int] | None:
    word = page.word(at)
    if not (_FEWEST <= len(word) <= _MOST and _is_own(page, word) and _CLOSED.match(page.gap(at))):
        return None
    return page.tokens[at].start, page.tokens[at].end


def _is_own(page: Page, letters: str) -> bool:
    return letters.isalpha() and letters.isupper() and all(
        letter in page.forms.initials or letter in page.forms.bare for letter in letters.lower())
