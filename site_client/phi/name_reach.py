"""A text as the rules for names look at it, and how far a name found in it reaches.

A found part of the name takes along what stands beside it and belongs to it: at most three of the patient's initials
on either side ("A.R. Smith", "Smith, A.", "SMITH^A^B"), and the particles that the header has, in whatever component
("van den Berg" with Berg^Jan^^van den; "Heide, von der").
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from site_client.phi.folding import Token
from site_client.phi.names import NameForms, Part

__all__ = ["Found", "Page", "leads", "reach"]

_MOST_INITIALS = 3
_MOST_PARTICLES = 4
_LEFT_PARTICLE = re.compile(r"['`-]|\.?[ \t]{1,4}['`]?|\.|[ \t]{0,3}\r?\n[ \t]{0,8}['`]?|['`][ \t]{1,3}|[ \t]?\^{1,4}")
_RIGHT_PARTICLE = re.compile(r",[ \t]{0,4}(?:\r?\n[ \t]{0,8})?['`]?|\^{1,4}['`]?")
_BLANKS = re.compile(r"[ \t]{1,4}['`]?|['`][ \t]{0,3}")
_DOTTED = re.compile(r"\.[ \t]?-?(?:\r?\n)?|\^")
_UNDOTTED = re.compile(r"[ \t]?-?|[ \t]?\r?\n[ \t]{0,4}")
_FIRST_RIGHT = re.compile(r",?[ \t]{1,2}|,(?:\r?\n)?|,?[ \t]?\r?\n[ \t]{0,4}|[ \t]?\^[ \t]?")
_MORE_RIGHT = re.compile(r"\.[ \t]?-?|[ \t]?-?|\^")


@dataclass(frozen=True, slots=True)
class Found:
    """Tokens [start, end) spell this part."""

    start: int
    end: int
    part: Part


@dataclass(frozen=True, slots=True)
class Page:
    """A text, its tokens, what is looked for, and whether the text is German or French."""

    text: str
    tokens: list[Token]
    forms: NameForms
    german: bool
    french: bool

    def gap(self, index: int) -> str:
        """What stands between token ``index`` and the next one; a line end where there is none."""
        if index < 0 or index + 1 >= len(self.tokens):
            return "\n\n"
        return self.text[self.tokens[index].end : self.tokens[index + 1].start]

    def word(self, index: int) -> str:
        """The token as written, "" beyond the ends."""
        return self.tokens[index].text if 0 <= index < len(self.tokens) else ""


def leads(page: Page, start: int) -> list[int]:
    """``start``, and the places before which a title may stand: before the particles and initials in front of it."""
    places = [start]
    for _ in range(_MOST_INITIALS + _MOST_PARTICLES):
        at, word = places[-1], page.word(places[-1] - 1)
        gap = page.gap(at - 1)
        initial = len(word) == 1 and word.isalpha() and _DOTTED.fullmatch(gap)
        if not initial and not (word.lower() in page.forms.particles and _LEFT_PARTICLE.fullmatch(gap)):
            break
        places.append(at - 1)
    return places


def reach(page: Page, start: int, end: int) -> tuple[int, int]:
    """The span in the text of a name in tokens [start, end), with the initials and particles beside it."""
    first, last = _leftwards(page, start), _rightwards(page, end)
    stop = page.tokens[last - 1].end
    if last > end and len(page.word(last - 1)) == 1 and page.text[stop : stop + 1] == ".":
        stop += 1
    return page.tokens[first].start, stop


def _leftwards(page: Page, start: int) -> int:
    initials = particles = 0
    at = start
    while True:
        word, gap = page.word(at - 1), page.gap(at - 1)
        if _is_initial(page, word, gap, left=True) and initials < _MOST_INITIALS:
            initials += 1
        elif (word.lower() in page.forms.particles and particles < _MOST_PARTICLES
              and _LEFT_PARTICLE.fullmatch(gap)):
            particles += 1
        else:
            return at
        at -= 1


def _rightwards(page: Page, end: int) -> int:
    at = _trailing_particles(page, end)
    for count in range(_MOST_INITIALS):
        word, gap = page.word(at), page.gap(at - 1)
        if not _is_initial(page, word, gap, left=False) or page.gap(at)[:1] in ("'", "`"):
            break
        dotted = page.gap(at).startswith(".")
        if not dotted and ("\n" in gap or (word.islower() and "^" not in gap)):
            break
        if word.islower() and not count and not page.word(end - 1).islower() and "^" not in gap:
            break
        if not (_MORE_RIGHT if count else _FIRST_RIGHT).fullmatch(gap):
            break
        at += 1
    return at if at > _trailing_particles(page, end) else _trailing_particles(page, at)


def _is_initial(page: Page, word: str, gap: str, *, left: bool) -> bool:
    """One letter that a part of the name begins with; a small one to the left only with its full stop."""
    if len(word) != 1 or not word.isalpha():
        return False
    if "^" in gap and not left:
        return True
    if word.lower() not in page.forms.initials:
        return False
    if left:
        return bool(_DOTTED.fullmatch(gap)) or (word.isupper() and bool(_UNDOTTED.fullmatch(gap)))
    return True


def _trailing_particles(page: Page, end: int) -> int:
    """DIJK, VAN; HEIDE^VON DER -- behind a comma or caret, or all in capital letters."""
    at = end
    while at < end + _MOST_PARTICLES and page.word(at).lower() in page.forms.particles and len(page.word(at)) > 0:
        gap = page.gap(at - 1)
        shouted = page.word(at).isupper() and page.word(end - 1).isupper() and len(page.word(at)) > 1
        if not (_RIGHT_PARTICLE.fullmatch(gap) or ((at > end or shouted) and _BLANKS.fullmatch(gap))):
            break
        at += 1
    return at
