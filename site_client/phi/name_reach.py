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
from site_client.phi.words import COMMON, FUNCTION, HONORIFICS, MEDICAL, NAME_KEYWORDS, words

__all__ = ["Found", "Page", "beside_given", "leads", "reach"]

_MOST_INITIALS = 3
_MOST_PARTICLES = 4
_MOST_GIVEN = 2
_MOST_COMPONENTS = 6
_NO_GIVEN_NAME = HONORIFICS | FUNCTION | MEDICAL | COMMON | NAME_KEYWORDS | words("patient patientin patiente paciente")
_LEFT_PARTICLE = re.compile(r"['`-]|\.?[ \t]{1,4}['`]?|\.|[ \t]{0,3}\r?\n[ \t]{0,8}['`]?|['`][ \t]{1,3}|[ \t]?\^{1,4}")
_RIGHT_PARTICLE = re.compile(r",[ \t]{0,4}(?:\r?\n[ \t]{0,8})?['`]?|\^{1,4}['`]?")
_BLANKS = re.compile(r"[ \t]{1,4}['`]?|['`][ \t]{0,3}")
_DOTTED = re.compile(r"\.[ \t]?-?(?:\r?\n)?|\^")
_UNDOTTED = re.compile(r"[ \t]?-?|[ \t]?\r?\n[ \t]{0,4}")
_FIRST_RIGHT = re.compile(r",?[ \t]{1,2}|,(?:\r?\n)?|,?[ \t]?\r?\n[ \t]{0,4}|[ \t]?\^[ \t]?")
_FIELD_END = re.compile(r"[ \t]?[,;|(\"/)]|[ \t]?\r?\n|[ \t]{2}")
_SUFFIXES = words("jr sr ii iii iv")
_BEFORE_SUFFIX = re.compile(r",?[ \t]|\^{1,4}")
_CARET = re.compile(r"[ \t]?\^{1,4}[ \t]?")
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


def reach(page: Page, start: int, end: int, *, whole: bool = False) -> tuple[int, int]:
    """The span in the text of a name in tokens [start, end), with the initials and particles beside it.

    `whole`: it has two parts, and a further capital at the end of a field is its too ("MACLEOD, SANDRA L").
    """
    first, last = _leftwards(page, start), _rightwards(page, end)
    if last == end and "," in "".join(map(page.gap, range(start, end - 1))):
        last = _particles_of_a_field(page, end)
    if whole and last == end and _closing_initial(page, end):
        last += 1
    first, last = _given(page, first, _suffix(page, last))
    first, last = _caretted(page, first, -1), _caretted(page, last - 1, 1) + 1
    stop = page.tokens[last - 1].end
    if last > end and len(page.word(last - 1)) == 1 and page.text[stop : stop + 1] == ".":
        stop += 1
    return page.tokens[first].start, stop


def _suffix(page: Page, at: int) -> int:
    """Walker Sr, Fitzgerald III."""
    return at + (page.word(at).lower() in _SUFFIXES and bool(_BEFORE_SUFFIX.fullmatch(page.gap(at - 1))))


def _closing_initial(page: Page, at: int) -> bool:
    word = page.word(at)
    return (len(word) == 1 and word.isalpha() and word.isupper() and bool(_BLANKS.fullmatch(page.gap(at - 1)))
            and bool(_FIELD_END.match(page.gap(at))))


def _particles_of_a_field(page: Page, end: int) -> int:
    """Bossche, Sanne Van den -- at the end of its field."""
    at = end
    while at < end + _MOST_PARTICLES and page.word(at).lower() in page.forms.particles and _BLANKS.fullmatch(
            page.gap(at - 1)):
        at += 1
    return at if at > end and _FIELD_END.match(page.gap(at - 1)) else end


def _given(page: Page, first: int, last: int) -> tuple[int, int]:
    """Given names of which the header has the first letter only: Wouter Smit; SMIT, WOUTER -- with SMIT^W."""
    if not page.forms.bare:
        return first, last
    for _ in range(_MOST_GIVEN):
        if not (_is_given(page, first - 1) and page.gap(first - 1) == " "):
            break
        first -= 1
    for _ in range(_MOST_GIVEN):
        if not (_is_given(page, last) and page.gap(last - 1) in (" ", ", ", ",")):
            break
        last += 1
    return first, last


def beside_given(page: Page, one: Found) -> bool:
    """Johannes Smit, "Smit, Johannes" -- with Smit^J., for a family name that is a word as well."""
    return bool(page.forms.bare) and page.word(one.start)[0].isupper() and _given(page, one.start, one.end) != (
        one.start, one.end)


def _is_given(page: Page, index: int) -> bool:
    word = page.word(index)
    return (len(word) > 2 and word[0].isupper() and word[0].lower() in page.forms.bare
            and word.lower() not in _NO_GIVEN_NAME)


def _caretted(page: Page, at: int, step: int) -> int:
    """The last token of a name copied out of a header, whatever its components hold: ABDULLAH^HELEN^MEI-LING."""
    inside = False
    for _ in range(_MOST_COMPONENTS):
        gap, word = page.gap(at if step > 0 else at - 1), page.word(at + step)
        if not word.isalpha() or not (_CARET.fullmatch(gap) or (inside and gap == "-")):
            break
        at, inside = at + step, True
    return at


def _leftwards(page: Page, start: int) -> int:
    initials = particles = 0
    at = start
    known = any(word.lower() in page.forms.initials for word in _dotted_before(page, start))
    while True:
        word, gap = page.word(at - 1), page.gap(at - 1)
        dotted = known and len(word) == 1 and word.isupper() and _DOTTED.fullmatch(gap)
        if (dotted or _is_initial(page, word, gap, left=True)) and initials < _MOST_INITIALS:
            initials += 1
        elif (word.lower() in page.forms.particles and particles < _MOST_PARTICLES
              and _LEFT_PARTICLE.fullmatch(gap)):
            particles += 1
        elif page.forms.particles and (short := _short_particles(page, at)):
            at -= short - 1
        else:
            return at
        at -= 1


def _short_particles(page: Page, at: int) -> int:
    """Of how many tokens "vd", "v/d" and "v.d." in front of the name are; 0 for none."""
    word, gap = page.word(at - 1).lower(), page.gap(at - 1)
    if not re.fullmatch(r"\.?[ \t]{0,2}", gap):
        return 0
    if word in ("vd", "vdr"):
        return 1
    return 2 if word == "d" and page.word(at - 2).lower() == "v" and page.gap(at - 2) in ("/", ".", "./") else 0


def _dotted_before(page: Page, start: int) -> list[str]:
    """B.G. Van Buren: single letters, each with a full stop, in front of the name."""
    found: list[str] = []
    while len(found) < _MOST_INITIALS and len(page.word(start - 1)) == 1 and _DOTTED.fullmatch(page.gap(start - 1)):
        start -= 1
        found.append(page.word(start))
    return found


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
