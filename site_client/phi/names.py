"""What to look for, from the names of one patient: DICOM person names (PS3.5 section 6.2, VR PN) or free text.

Of a person name every component group counts (alphabetic, ideographic, phonetic: ``=``), of each the family, given and
middle name; prefixes and suffixes (Dr, Jr, III) are nobody's. Free text is "Family, Given" or "Given Family". Each
name gives *parts*: every word of it, hyphenated ones whole and in pieces, particles (van der, de la, O', Mc) only
together with what follows them. A part knows how much it says by itself (`Part.weight`):

strong      any other word of four letters or more: a name wherever it stands
rare        an everyday word that reports hardly ever hold (Castle, Hunter): a name when it has a capital letter
short       two or three letters, no known word (Kim, Li): a name when capitalised like one
common      an everyday word or month (May, Young, White, Brown, Long): a name only in context
medical     a word of reports (Hand, Rib, Bone): a name only in context, a capital letter is none
function    grammar (Do, An, Le): a name only in context

`name_search` says what a context is.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass, field
from itertools import pairwise

from site_client.phi.folding import fold_name
from site_client.phi.words import (
    COMMON,
    EPONYMS,
    FUNCTION,
    MEDICAL,
    OWN_PARTICLES,
    PARTICLES,
    PLACEHOLDERS,
    RARE,
    SUFFIXES,
)

__all__ = ["NameForms", "Part", "name_forms"]

_WORD = re.compile(r"[^\W\d_]+")
_UMLAUTS = str.maketrans({"ä": "ae", "ö": "oe", "ü": "ue", "ø": "oe", "å": "aa", "Ä": "Ae", "Ö": "Oe", "Ü": "Ue",
                          "Ø": "Oe", "Å": "Aa"})
_DIGRAPH = re.compile(r"(?<=[aou])e")


@dataclass(frozen=True, slots=True)
class Part:
    """One word of a name. ``key``: equal for spellings of the same word. ``weight``: see above. ``eponym``: a disease
    or a device carries the name as well."""

    key: int
    weight: str
    eponym: bool


@dataclass(slots=True)
class NameForms:
    """``parts``: by folded spelling without anything between its letters. ``spaced``: spellings that may have blanks
    inside, with each of their beginnings. ``initials``: keys of the parts that begin with a letter, -1 for one that is
    no part. ``bare``: letters that stand for a given name which the header does not have. ``particles``: those that the
    name has, wherever in it. ``needles``: (folded text, stands alone) of names
    in scripts that have no upper case."""

    parts: dict[str, Part] = field(default_factory=dict)
    spaced: set[str] = field(default_factory=set)
    initials: dict[str, set[int]] = field(default_factory=dict)
    bare: set[str] = field(default_factory=set)
    particles: set[str] = field(default_factory=set)
    needles: set[tuple[str, bool]] = field(default_factory=set)
    longest: int = 0

    def add(self, spelling: str, key: int, weight: str = "") -> None:
        """Look for this spelling too, unless it is a placeholder or a lone letter."""
        if len(spelling) < 2 or spelling in PLACEHOLDERS or len(set(spelling)) == 1:
            return
        self.parts.setdefault(spelling, Part(key, weight or _weight(spelling), spelling in EPONYMS))
        self.longest = max(self.longest, len(spelling))


def name_forms(names: tuple[str, ...]) -> NameForms:
    """Everything to look for, of all the names together."""
    forms = NameForms()
    for name in names:
        for group in name.split("="):
            family, given = _components(group)
            for letter in (word for word in _words(given) if len(word) == 1):
                forms.bare.add(letter)
                forms.initials.setdefault(letter, set()).add(-1)  # also D., which is a particle elsewhere
            _add_person(forms, family, given)
            _add_maria(forms)
            _add_particles(forms, group)
    return forms


def _components(group: str) -> tuple[str, str]:
    """(family, given and middle) of one component group or of free text."""
    if "^" in group:
        family, given, middle, *_ = [*group.split("^"), "", "", ""]
        return family, f"{given} {middle}"
    if "," in group:
        family, _, given = group.partition(",")
        return family, given
    words = [word for word in group.split() if fold_name(word).strip(".") not in SUFFIXES]
    first = next((k for k, word in enumerate(words[1:], 1) if fold_name(word) in PARTICLES and len(word) > 1),
                 len(words) - 1)
    return " ".join(words[first:]), " ".join(words[:first])


def _add_person(forms: NameForms, family: str, given: str) -> None:
    families, givens = _add_component(forms, family), _add_component(forms, given)
    if not _alphabetic(family + given):
        _add_needles(forms, family, given)
    for last in families[:1]:
        for first in givens[:1]:
            long = [first + last, last + first] if len(first + last) >= 6 else []
            short = [first[0] + last, last + first[0]] if len(last) >= 5 and _weight(last) == "strong" else []
            for joined in (*long, *short):
                if _weight(joined) == "strong":
                    forms.add(joined, len(forms.parts), "strong")


def _add_maria(forms: NameForms) -> None:
    """M.a, Ma. and M. (with a raised a) are María's short forms in Spanish, beside another part of the name."""
    if "maria" in forms.parts and "ma" not in forms.parts:
        forms.parts["ma"] = Part(forms.parts["maria"].key, "function", False)
        forms.spaced.update(("m", "ma"))
        forms.longest = max(forms.longest, 2)


def _add_particles(forms: NameForms, group: str) -> None:
    """The particles of the name, and each with the word that it belongs to: of one component ("Brouwer-van der Meer"),
    of the prefix (Berg^Jan^^van den), and from behind the family name ("Heide, von der^Jan")."""
    family, given, _, prefix, *_ = [*group.split("^"), "", "", "", ""]
    front, _, behind = (family if "^" in group else "").partition(",")
    for component in (family, given, f"{prefix} {family}", f"{behind} {front}"):
        words = _words(component) if _alphabetic(component) else []
        held: list[str] = []
        for word in words:
            if word in OWN_PARTICLES and word != words[-1]:
                held.append(word)
                continue
            if held and word not in PLACEHOLDERS:
                forms.particles.update(held)
                _add_spaced(forms, [*held, word], " ".join([*held, word]))
            held = []
        while len(words) > 1 and words[-1] in PARTICLES:  # Erich von^Ian, Ven van de^S
            forms.particles.add(words.pop())
    for one, other in _neighbours(group):
        if not {one, other} & (FUNCTION | PLACEHOLDERS | SUFFIXES):
            _add_spaced(forms, [one, other], f"{one} {other}")


def _neighbours(group: str) -> list[tuple[str, str]]:
    """Neighbouring words of free text, whose order is unknown: Abdul Rahman may be written AbdulRahman."""
    words = _words(group) if "^" not in group and "," not in group and _alphabetic(group) else []
    return list(pairwise(words)) if len(words) > 2 else []


def _add_component(forms: NameForms, component: str) -> list[str]:
    """Add the words of one component; returns its first word, or the whole where that is a particle; [] for none."""
    if not _alphabetic(component):
        return []
    chunks = [chunk for chunk in component.split() if fold_name(chunk).strip(".,") not in PLACEHOLDERS]
    if len(chunks) > 1:
        chunks = [chunk for chunk in chunks if fold_name(chunk).strip(".,") not in SUFFIXES]
    lone = all(fold_name(chunk) in PARTICLES for chunk in chunks)
    for chunk in chunks:
        words = _words(chunk)
        if words and (lone or fold_name(chunk).strip(".") not in PARTICLES):
            _add_chunk(forms, chunk, words)
    words = _words(" ".join(chunks))
    for word in words if len(words) > 1 else ():
        forms.initials.setdefault(word[0], set()).add(-1 if word in PARTICLES else forms.parts[word].key
                                                      if word in forms.parts else -1)
    if len(chunks) > 1:
        _add_spaced(forms, words, " ".join(chunks))
    if not words:
        return []
    return ["".join(words) if words[0] in PARTICLES else "".join(_words(chunks[0]))]


def _add_chunk(forms: NameForms, chunk: str, words: list[str]) -> None:
    whole = "".join(words)
    _add_spellings(forms, whole, chunk)
    _add_initial(forms, words[0][0], whole)
    if len(words) > 1:
        _add_spaced(forms, words, chunk)
        for word in words if "'" not in fold_name(chunk) else ():
            if word not in PARTICLES:
                _add_spellings(forms, word, word)
                _add_initial(forms, word[0], word)
    if re.match(r"mac[^aeiou]", whole) and len(whole) > 5:
        forms.add("mc" + whole[3:], forms.parts[whole].key)
    if whole.startswith("mc") and len(whole) > 4:
        forms.add("mac" + whole[2:], forms.parts[whole].key)


def _add_initial(forms: NameForms, letter: str, spelling: str) -> None:
    key = forms.parts[spelling].key if spelling in forms.parts else -1  # a name of one letter is its own initial
    forms.initials.setdefault(letter, set()).add(key)


def _add_spaced(forms: NameForms, words: list[str], written: str) -> None:
    if len("".join(words)) >= 4 and not all(word in PARTICLES for word in words):
        _add_spellings(forms, "".join(words), written, "strong" if len(words[0]) > 1 or len(words[-1]) > 3 else "")
        forms.spaced.update("".join(words[:k]) for k in range(1, len(words) + 1))


def _add_spellings(forms: NameForms, spelling: str, written: str, weight: str = "") -> None:
    """The spelling, with umlauts written out (Mueller for Müller), and without (Muller for Mueller)."""
    key = forms.parts[spelling].key if spelling in forms.parts else len(forms.parts)
    forms.add(spelling, key, weight)
    forms.add("".join(_words(unicodedata.normalize("NFC", written).translate(_UMLAUTS))), key, weight)
    plain = _DIGRAPH.sub("", spelling)
    if len(plain) >= 4:
        forms.add(plain, key, weight)
    for written_out in _written_out(plain if len(plain) >= 4 else spelling):
        forms.add(written_out, key, weight)


def _written_out(plain: str) -> list[str]:
    """A header without umlauts (SCHAFER, MULLER) with one or two of them written out: Schaefer, Mueller."""
    at = [k + 1 for k, char in enumerate(plain) if char in "aou" and plain[k + 1 : k + 2] != "e"][:8]
    if len(plain) < 4 or not plain.isascii():
        return []
    single = [plain[:k] + "e" + plain[k:] for k in at]
    return single + [plain[:k] + "e" + plain[k:m] + "e" + plain[m:] for k in at for m in at if k < m]


def _words(text: str) -> list[str]:
    return _WORD.findall(fold_name(text))


def _weight(word: str) -> str:
    for weight, words in (("function", FUNCTION), ("medical", MEDICAL), ("common", COMMON), ("rare", RARE)):
        if word in words:
            return weight
    return "short" if len(word) <= 3 else "strong"


def _alphabetic(text: str) -> bool:
    """Latin, Greek or Cyrillic: letters with upper and lower case and blanks between words; "" counts."""
    return all(ord(char) < 0x0530 or 0x1E00 <= ord(char) <= 0x206F for char in text)


def _add_needles(forms: NameForms, family: str, given: str) -> None:
    """Han, Kana, Hangul and Thai stand in running text without blanks; other scripts attach at most short prefixes."""
    parts = [fold_name(part).strip() for part in (family, given)]
    whole = [part for part in (parts[0] + parts[1], f"{parts[0]} {parts[1]}", f"{parts[1]} {parts[0]}") if all(parts)]
    for needle in [*whole, *parts, *(word for part in parts for word in part.split())]:
        unspaced = any("\u0e00" <= char <= "\u0eff" or char >= "\u2e80" for char in needle)
        if len(needle) >= (2 if unspaced else 3) and not needle.isascii():
            forms.needles.add((needle, not unspaced and len(needle) < 5))
