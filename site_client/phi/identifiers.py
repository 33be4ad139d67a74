"""The patient's own identifiers in a text: patient ID, accession number and the like.

An identifier is found whatever its case, with or without leading zeros, and with hyphens, blanks, dots or slashes put
in or left out; never inside a longer number or word, except that letters may be glued to the front (MRN123456).
The letters that it begins with may be missing (RAD-2021-0039). Its digits alone are enough where there are five or
more. One of fewer than four characters, one that could be a year or a vertebra, and one that is an everyday word count
only after a keyword (MRN, ID, Acc. and the like). Four or five digits must stand together, and not before a unit or
with decimals.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from site_client.phi.folding import Folded, Token, fold_name
from site_client.phi.words import COMMON, FUNCTION, MEDICAL, PLACEHOLDERS

__all__ = ["IDENTIFIER_KEYWORDS", "IdentifierForms", "find_identifiers", "identifier_forms"]

IDENTIFIER_KEYWORDS = frozenset(
    ["mrn", "id", "pid", "patid", "patientid", "acc", "accession", "case", "record", "chart", "urn", "nhs", "nhc",
        "fallnummer", "fallnr", "patientennummer", "patnr", "pat", "patient", "patientnumber", "hn", "hospital",
        "encounter", "visit", "account", "acct", "dossier", "ipp", "nip", "historia", "patientnummer", "bsn", "fall",
        "aufnahmenummer", "auftragsnummer", "order", "request", "identifier", "accn", "mpi", "ssn", "insz", "rut",
        "dni", "hc", "hosp", "wristband", "armband", "bracelet", "armbandje", "pulsera"])  # fmt: skip
_NUMBER_WORDS = frozenset(["no", "nr", "num", "number", "nummer", "numero", "id", "is", "n", "was", "reads", "lautet",
                           "est"])
_RUN = re.compile(r"[^\W\d_]+|\d+")
_SEPARATOR = re.compile(r"|[ \t]?[-_./][ \t]?|[ \t\n]|\r\n|:")
_KEYWORD_GAP = re.compile(r"[ \t]{0,3}[-.:#=/_]{0,3}[ \t]{0,3}#?\n?[ \t]{0,3}")
_UNIT = re.compile(r"[ \t]?(?:mm|cm|ml|cc|mg|mgy|gy|hu|ms|hz|kv|kvp|ma|mas|sec|s|h|hrs?|hours|uhr|units?|%|x|"
                   r"ug|mcg|mci|"
                   r"mbq)(?![^\W_])")
_VERTEBRAE = re.compile(r"(?:[ctls]\d{1,2}){1,2}|(?:ap|pa|cxr|ct|mr)\d{0,2}")
_MOST_RUNS = 24


@dataclass(slots=True)
class IdentifierForms:
    """``whole``: spellings without separators and leading zeros; the value says whether a keyword must stand before.
    ``beginnings``: of those that may be spread over several runs of letters and digits."""

    whole: dict[str, bool] = field(default_factory=dict)
    beginnings: set[str] = field(default_factory=set)
    longest: int = 0

    def add(self, spelling: str) -> None:
        """Look for this spelling, unless it is a placeholder."""
        if spelling and spelling not in PLACEHOLDERS and (len(set(spelling)) > 1 or len(spelling) <= 2):
            self.whole.setdefault(spelling, _needs_keyword(spelling))
            self.beginnings.update(spelling[:k] for k in range(1, min(len(spelling), 128)))
            self.longest = max(self.longest, len(spelling))


def identifier_forms(identifiers: tuple[str, ...]) -> IdentifierForms:
    """What to look for, of all the identifiers together."""
    forms = IdentifierForms()
    for text in identifiers:
        runs = _RUN.findall(fold_name(text)[:256])
        forms.add("".join(runs).lstrip("0"))
        forms.add("".join(run.lstrip("0") if run.isdigit() else run for run in runs))
        if len(runs) > 2 and runs[0].isalpha() and sum(map(len, runs[1:])) >= 6 and runs[1].isdigit():
            forms.add("".join(runs[1:]).lstrip("0"))  # RAD-2021-0039223 without its letters
            forms.add("".join(run.lstrip("0") for run in runs[1:]))
        digits = [run.lstrip("0") for run in runs if run.isdigit() and len(run.lstrip("0")) >= 5]
        for run in digits if len(digits) == 1 else ():
            forms.add(run)
    return forms


def find_identifiers(folded: Folded, tokens: list[Token], forms: IdentifierForms) -> list[tuple[int, int]]:
    """Spans of the identifiers in the folded text; not sorted."""
    spans: list[tuple[int, int]] = []
    index = 0
    while index < len(tokens) and forms.whole:
        run = tokens[index].lower.lstrip("0")
        begins = not run or run in forms.whole or run in forms.beginnings
        end = _longest_at(folded, tokens, index, forms) if begins else 0
        if end:
            spans.append((tokens[index].start, tokens[end - 1].end))
        index = max(end, index + 1)
    return spans


def _longest_at(folded: Folded, tokens: list[Token], start: int, forms: IdentifierForms) -> int:
    """One past the last token of the longest identifier that begins with token ``start``, or 0."""
    best, spelling, bare = 0, "", ""
    for end in range(start + 1, min(start + _MOST_RUNS, len(tokens)) + 1):
        run = tokens[end - 1].lower
        short = run.lstrip("0") if run.isdigit() else run
        spelling, bare = (spelling + run).lstrip("0"), bare + short
        for form in (spelling, bare):
            if form in forms.whole and _stands(folded.lower, tokens, start, end, form, forms.whole[form]):
                best = end
        begun = spelling in forms.beginnings or bare in forms.beginnings or (not spelling and end < start + 3)
        if not begun or end >= len(tokens):
            break
        if not _SEPARATOR.fullmatch(folded.text, tokens[end - 1].end, tokens[end].start):
            break
    return best


def _stands(lower: str, tokens: list[Token], start: int, end: int, form: str, keyword: bool) -> bool:
    """Whether tokens [start, end) may be the identifier: it stands alone, and together or after a keyword."""
    first, last = tokens[start].start, tokens[end - 1].end
    before, after = lower[first - 1 : first], lower[last : last + 1]
    if after.isalpha() and len(form) < 6:
        return False
    if before.isalpha() and not (form.isdigit() and (len(form) >= 6 or tokens[start - 1].lower in IDENTIFIER_KEYWORDS)):
        return False
    if keyword:
        return _after_keyword(lower, tokens, start)
    if len(form) >= 6:
        return not (form.isdigit() and before == "." and lower[first - 2 : first - 1].isdigit())
    number = lower[first:last]
    if form.isdigit() and (_UNIT.match(lower, last) or _decimals(lower, first, last)):
        return _after_keyword(lower, tokens, start)
    return not re.search(r"[\s./:]", number)


def _decimals(lower: str, first: int, last: int) -> bool:
    return bool(re.match(r"[.,]\d", lower[last : last + 2]) or re.match(r"\d[.,/]", lower[max(0, first - 2) : first]))


def _after_keyword(lower: str, tokens: list[Token], start: int) -> bool:
    """MRN 12; ID: 12; patient no. 12; Acc.# 12."""
    for back in range(start - 1, max(-1, start - 4), -1):
        if not _KEYWORD_GAP.fullmatch(lower, tokens[back].end, tokens[back + 1].start):
            return False
        if tokens[back].lower in IDENTIFIER_KEYWORDS:
            gap = lower[tokens[back].end : tokens[start].start]
            return tokens[back].lower not in ("case", "hospital", "visit", "order", "request", "fall", "pat",
                                              "patient", "record", "chart", "account") or len(gap) > 1
        if tokens[back].lower not in _NUMBER_WORDS:
            return False
    return False


def _needs_keyword(form: str) -> bool:
    if len(form) < 4 or _VERTEBRAE.fullmatch(form):
        return True
    if form.isdigit():
        return len(form) == 4 and form[:2] in ("19", "20")
    return form.isalpha() and form in COMMON | MEDICAL | FUNCTION
