"""Where a text holds a part of the patient's name (`names`), and whether there it is the name or a word.

A strong part always is. So is any part beside another part of the same name, with nothing, an initial or one
capitalised word between them ("Long, May", "May B. Long"), in any case of letters, and any part

- after a title (Mr, Dr., Frau, Mme, Sra., Mevr.), a label (Pat., Patientin, Pt.) or a word such as "name:", "surname",
  "named", with particles and initials between or not,
- beside an initial of another part ("M. Long", "M Long", "Long, M.", "Long M,"), or a caret ("LONG^M"),
- capitalised, with 's ("Young's"), unless it opens a sentence and is a word of reports,
- capitalised and followed by an age or by what people do ("May, 45 years", "Young presented"), or
  by a date in a header's line ("LONG / 5.3.1950").

A common word is the name also where it has a capital letter that the sentence does not explain: a lower-case word
before it, no capitalised word after it, no month's surroundings ("in May", "May 5"), no "White male", and the text not
German, where every noun has one. Capital letters say nothing where all letters are. In a disease's or device's term
(Hodgkin lymphoma, Kerley B lines, tetralogy of Fallot) a part that names such terms is not the patient's, unless
titled.
"""

from __future__ import annotations

import re
from itertools import pairwise

from site_client.phi.folding import Folded, Token
from site_client.phi.name_initials import PATIENTS, own_initials
from site_client.phi.name_reach import Found, Page, beside_given, leads, reach
from site_client.phi.names import NameForms
from site_client.phi.words import (
    EPONYM_LINKS,
    EPONYM_NOUNS,
    EPONYMS,
    HONORIFICS,
    MONTH_NAMES,
    NAME_KEYWORDS,
    PARTICLES,
    PERSON_AUXILIARIES,
    PERSON_VERBS,
    PLAIN_HONORIFICS,
    words,
)

__all__ = ["find_names"]

_MOST_WORDS = 6
_JOINTS = frozenset("'`-_")
_JOINT = re.compile(r"['`-]|-[ \t]{0,8}\r?\n[ \t]{0,8}|_")
_BLANK = re.compile(r"[ \t]{1,3}['`]?|[ \t]{0,3}\r?\n[ \t]{0,8}['`]?|['`][ \t]{0,3}|\.")
_SAINT_BLANK = re.compile(r"\.[ \t]{0,3}(?:\r?\n)?[ \t]{0,3}")
_BESIDE = re.compile(r"[ \t]{0,4}[,^_./:-]?[ \t]{0,4}(?:\r?\n)?[ \t]{0,8}")
_TITLE_GAP = re.compile(r"[.:]?[ \t]{0,3}(?:\r?\n)?")
_LABEL_GAP = re.compile(r"\.?[ \t]{1,2}|\.?\r?\n|[ \t]?:[ \t]{0,8}(?:\r?\n)?")
_CARETS = re.compile(r"[ \t]?\^{1,4}[ \t]?")
_CLOSED = re.compile(r"[,.^(/|;]|[ \t]?[(/|]|[ \t]?\r?\n[ \t]{0,2}\Z")
_DATE_AFTER = re.compile(r"[ \t]?[/|*(;,][ \t]?\*?\d{1,4}[-./][ \t]?\d{1,2}[-./][ \t]?'?\d{2}")
_KEYWORD_GAP = re.compile(r"[ \t]{0,3}[:=#-]?[ \t]{0,12}(?:\r?\n)?[ \t]{0,3}")
_AGE_AFTER = re.compile(r"\s?[,(]{0,2}\s?(?:is |an? |age |aged ){0,3}\d{1,3}\s?-?\s?(?:y|yo|yrs?|years?|"
                        r"year-old|jahr|ans|anos|jaar)",
                        re.ASCII)  # fmt: skip
_GERMAN = words("der die das und mit kein keine nicht im bei des ist ohne auf zur den dem links rechts")
_FRENCH = words("le la les des du est une dans avec pas sans au aux et par pour")
_SAINTS = words("st ste sta saint sainte")
_BEFORE_MONTHS = words("in since of last from until this early late mid during through next im seit en de desde sinds")
_AFTER_COLOURS = words("male female man woman boy girl gentleman lady adult race patient matter blood cell fat")
_EPONYM_BEFORE = words("morbus maladie syndrome enfermedad ziekte non pseudo ligamentum foro tetralogie")


def find_names(folded: Folded, tokens: list[Token], forms: NameForms) -> list[tuple[int, int]]:
    """Spans of the folded text in which the patient is named; not sorted, they may overlap."""
    spans = [span for needle, alone in forms.needles for span in _needle_spans(folded.lower, needle, alone)]
    if not forms.parts:
        return spans
    lowers = {token.lower for token in tokens}
    page = Page(folded.text, tokens, forms, len(lowers & _GERMAN) >= 2, len(lowers & _FRENCH) >= 3)
    found = _occurrences(page)
    for earlier, later in pairwise(found):
        if _beside(page, earlier, later):
            spans.append(reach(page, earlier.start, later.end, whole=True))
    for one in found:
        if _is_name(page, one):
            spans.append(reach(page, one.start, one.end))
    return spans + _spelled_out(page) + own_initials(page)


def _needle_spans(lower: str, needle: str, alone: bool) -> list[tuple[int, int]]:
    spans, at = [], lower.find(needle)
    while at >= 0:
        end = at + len(needle)
        # One attached letter is a prefix in Arabic and Hebrew.
        before, after = lower[max(0, at - 2) : at], lower[end : end + 1]
        if not alone or not (after.isalpha() or (len(before) == 2 and before.isalpha())):
            spans.append((at, end))
        at = lower.find(needle, end)
    return spans


def _occurrences(page: Page) -> list[Found]:
    found, index = [], 0
    parts, spaced, text = page.forms.parts, page.forms.spaced, page.text
    while index < len(page.tokens):
        token = page.tokens[index]
        lower = token.lower
        begins = (lower in parts or lower[-1] == "s" or lower in spaced or lower in PARTICLES
                  or text[token.end : token.end + 1] in _JOINTS)
        one = _longest_at(page, index) if begins else None
        if one is not None:
            found.append(one)
        index = one.end if one is not None else index + 1
    return found


def _longest_at(page: Page, start: int) -> Found | None:
    best, spelling, forms = None, "", page.forms
    blanks = particles = False
    for end in range(start + 1, min(start + _MOST_WORDS, len(page.tokens)) + 1):
        last = page.tokens[end - 1].lower
        spelling += last
        if len(spelling) > forms.longest + 1:
            break
        part = forms.parts.get(spelling)
        joined = end == start + 1 or spelling in forms.spaced or (particles and len(last) > 2)
        if part is not None and (joined or (not blanks and len(spelling) >= 5)):
            best = Found(start, end, part)
        elif part is None and end == start + 1 and last.endswith("s") and len(last) > 4:
            part = forms.parts.get(last[:-1])
            best = Found(start, end, part) if part is not None and part.weight == "strong" else best
        gap = page.gap(end - 1)
        particles = last in PARTICLES and (particles or end == start + 1)
        blank = _BLANK.fullmatch(gap) or (last in _SAINTS and _SAINT_BLANK.fullmatch(gap))
        if blank and (spelling in forms.spaced or particles):
            blanks = True
        elif not _JOINT.fullmatch(gap):
            break
    return best


def _beside(page: Page, earlier: Found, later: Found) -> bool:
    """Whether two parts of the name stand beside each other."""
    if earlier.part.key == later.part.key:
        return False
    between = range(earlier.end, later.start)
    own = all(page.word(k).lower() in page.forms.particles for k in between)
    if len(between) > (4 if own else 2):
        return False
    if not all(_BESIDE.fullmatch(page.gap(k)) for k in range(earlier.end - 1, later.start)):
        return False
    strong = "strong" in (earlier.part.weight, later.part.weight)
    words = [page.word(k) for k in between]
    if not all(word.lower() in PARTICLES or (word[0].isupper() and (
            strong or len(word) == 1 or word[0].lower() in page.forms.bare)) for word in words):
        return False
    if "." in page.gap(earlier.end - 1) and not words and not strong:
        return False  # a sentence's end between two everyday words
    written = [page.word(earlier.start), page.word(later.start)]
    function = "function" in (earlier.part.weight, later.part.weight)
    return strong or not function or any(word[0].isupper() for word in written)


def _is_name(page: Page, one: Found) -> bool:
    weight = one.part.weight
    if _in_carets(page, one) or _titled(page, one) or _beside_initial(page, one):
        return True
    if one.part.eponym and _in_eponym(page, one):
        return False
    if weight == "strong":
        return True
    if weight in ("common", "rare", "short") and beside_given(page, one):
        return True
    word = page.word(one.start)
    capital = word[0].isupper() and not word.isupper()
    if word[0].isupper() and _acts(page, one):
        return True
    if weight == "rare":
        return word[0].isupper()
    if weight == "short":
        return capital and (len(word) > 2 or _unexplained_capital(page, one))
    return weight == "common" and _unexplained_capital(page, one)


def _titled(page: Page, one: Found) -> bool:
    """After Mr, Frau, "name:" and the like, with initials and particles between or not."""
    return any(_title_before(page, index, one) or _labelled(page, index, one) for index in leads(page, one.start))


def _title_before(page: Page, index: int, one: Found) -> bool:
    before, gap, word = page.word(index - 1), page.gap(index - 1), page.word(one.start)
    lower = before.lower()
    if lower in HONORIFICS and _TITLE_GAP.fullmatch(gap):
        if word.islower():
            return lower in PLAIN_HONORIFICS or (lower in ("mr", "dr") and one.part.weight != "medical")
        # MR HEAD is an examination, MS LESION a finding.
        unlikely = before.isupper() and len(before) > 1 and one.part.weight in ("medical", "function")
        return (lower in PLAIN_HONORIFICS or gap.startswith(".") or (before[0].isupper() and not unlikely)
                or _aged(page, one))
    if before == "M" and gap != "." and _TITLE_GAP.fullmatch(gap) and word[0].isupper():  # Monsieur
        return page.french or (gap.startswith(".") and not word.isupper()
                               and one.part.weight not in ("medical", "function"))
    if lower in NAME_KEYWORDS and _KEYWORD_GAP.fullmatch(gap):
        return ":" in gap or "=" in gap or not word.islower()
    return False


def _labelled(page: Page, index: int, one: Found) -> bool:
    """Pat. Long; Patientin Kopf wird; Patient: Long -- but not "Patient May have pain" or "the patient. Head CT"."""
    before, gap, word = page.word(index - 1), page.gap(index - 1), page.word(one.start)
    if before.lower() not in PATIENTS or not _LABEL_GAP.fullmatch(gap):
        return False
    vague = one.part.weight in ("medical", "function")
    if index < one.start and one.part.weight != "function":
        return word[0].isupper()
    if ":" in gap:
        return word[0].isupper() and (not vague or page.gap(one.end - 1)[:1] in (",", "^"))
    if gap.startswith("."):
        if before.lower() == "pat" and word[0].isupper() and one.part.weight != "function":
            return True
        return before.lower() in ("pat", "pt") and (not vague or (one.part.weight == "medical"
                                                                  and _addressed(page, one)))
    if before.lower() in ("patientin", "patiente", "paciente") and not vague and not word.isupper():
        return word[0].isupper()
    return one.part.weight != "function" and _addressed(page, one)


def _addressed(page: Page, one: Found) -> bool:
    """Patient Long has pain -- but not "Patient May have pain", nor a heading in capitals."""
    word, after = page.word(one.start), page.word(one.end)
    return word[0].isupper() and not word.isupper() and after.islower() and word.lower() not in ("may", "will", "can")


def _aged(page: Page, one: Found) -> bool:
    end = page.tokens[one.end - 1].end
    return bool(_AGE_AFTER.match(page.text[end : end + 40].lower()))


def _dated(page: Page, one: Found) -> bool:
    """LANG / 12.3.1942; KLEIN *23.3.43 -- a header's line, not "March, 5/6/2023"."""
    end = page.tokens[one.end - 1].end
    return page.word(one.start).lower() not in MONTH_NAMES and bool(_DATE_AFTER.match(page.text, end))


def _in_carets(page: Page, one: Found) -> bool:
    """HAND^P, HEAD^^^DR: a person name copied out of a header."""
    before, after = page.gap(one.start - 1), page.gap(one.end - 1)
    return bool((_CARETS.fullmatch(before) and page.word(one.start - 1).isalpha())
                or (_CARETS.fullmatch(after) and page.word(one.end).isalpha()))


def _beside_initial(page: Page, one: Found) -> bool:
    """M. Long; K.W. Ng; M Long has; Long, M.; Long M., -- an initial of the name, and the part capitalised."""
    word, weight = page.word(one.start), one.part.weight
    before, after = page.word(one.start - 1), page.word(one.end)
    vague = weight in ("medical", "function")
    if _initial(page, before.upper(), one) and re.fullmatch(r"\.[ \t]?(?:\r?\n)?", page.gap(one.start - 1)):
        return word[0].isupper() or (not vague and weight != "common" and before.islower())
    if not word[0].isupper():
        return False
    if _initial(page, before, one) and page.gap(one.start - 1) == " ":
        return not word.isupper() and weight != "medical" and not (vague and page.french)
    if _initial(page, after, one) and re.fullmatch(r",?[ \t]?(?:\r?\n)?", page.gap(one.end - 1)):
        gap = page.gap(one.end)
        if "," in page.gap(one.end - 1):
            return gap.startswith((".", "\n")) or (not vague and _CLOSED.match(gap) is not None)
        side = vague and after in "LR"  # hand R, lung L
        return bool(page.gap(one.end - 1)) and (gap.startswith(".") or (not side and _CLOSED.match(gap) is not None))
    return False


def _initial(page: Page, word: str, one: Found) -> bool:
    """Whether the word is the capital initial of another part of the name."""
    return len(word) == 1 and word.isupper() and bool(page.forms.initials.get(word.lower(), set()) - {one.part.key})


def _acts(page: Page, one: Found) -> bool:
    """A capitalised part with 's, an age, or a verb that people are the subject of."""
    weight, gap, after = one.part.weight, page.gap(one.end - 1), page.word(one.end).lower()
    opens = _opens_sentence(page, one.start)
    if gap == "'" and after == "s":
        return not (opens and weight in ("medical", "function"))
    if gap == " " and after in PERSON_VERBS:
        return True
    if weight in ("medical", "function"):
        return False
    return (gap == " " and after in PERSON_AUXILIARIES) or _aged(page, one) or _dated(page, one)


def _unexplained_capital(page: Page, one: Found) -> bool:
    before, word, after = page.word(one.start - 1), page.word(one.start), page.word(one.end)
    if not word[0].isupper() or page.german or not before.islower() or _opens_sentence(page, one.start):
        return False
    if word.isupper() and len(word) > 1 and one.part.weight == "short":
        return False
    if after[:1].isupper() and page.gap(one.end - 1) == " ":
        return False
    if word.lower() in MONTH_NAMES and (after.isdigit() or before.lower() in _BEFORE_MONTHS):
        return False
    return after.lower() not in _AFTER_COLOURS


def _opens_sentence(page: Page, index: int) -> bool:
    return not re.fullmatch(r"[ \t]{0,3},?[ \t]{0,3}", page.gap(index - 1)) or page.word(index - 1).isdigit()


def _in_eponym(page: Page, one: Found) -> bool:
    """Hodgkin('s) lymphoma, Kerley B lines, Hill-Sachs lesion, tetralogy of Fallot, non-Hodgkin."""
    index = one.end
    while index < one.end + 4 and re.fullmatch(r"[ '-]|s? ", page.gap(index - 1)):
        word = page.word(index).lower()
        if word in EPONYM_NOUNS or (word in EPONYMS and page.gap(index - 1) == "-"):
            return True
        if not (word in EPONYMS or len(word) <= 2 or word.isdigit() or word in ("and", "type", "disc", "disk")):
            break
        index += 1
    before, earlier = page.word(one.start - 1).lower(), page.word(one.start - 2).lower()
    if before in ("of", "de", "von", "des") and earlier in EPONYM_LINKS:
        return True
    if before in EPONYM_NOUNS and page.gap(one.start - 1) == " (":
        return True
    return before in _EPONYM_BEFORE or (before in EPONYMS and page.gap(one.start - 1) == "-")


def _spelled_out(page: Page) -> list[tuple[int, int]]:
    """S M I T H, S.M.I.T.H: runs of four and more single letters that spell a strong part."""
    spans: list[tuple[int, int]] = []
    index, singles = 0, sum(1 for token in page.tokens if len(token.lower) == 1)
    while index < len(page.tokens) and singles >= 4:
        end = index
        while end < len(page.tokens) and len(page.word(end)) == 1 and page.word(end).isalpha() and (
                end == index or len(page.gap(end - 1)) <= 2):
            end += 1
        if end - index >= 4:
            run = "".join(token.lower for token in page.tokens[index:end])
            spans += [(page.tokens[index + at].start, page.tokens[index + at + len(spelling) - 1].end)
                      for spelling, part in page.forms.parts.items()
                      if part.weight == "strong" and (at := run.find(spelling)) >= 0]
        index = max(end, index + 1)
    return spans
