"""Dates in a text: any full date, and the patient's own dates (birth, study) also where only a part is written.

Any full date with a year of 1900 to 2099, or two digits: 2023-03-05, 03/05/2023, 5.3.2023, 05-Mar-2023, March 5th,
2023, 5 March 23, 5 de marzo de 2023, 5-III-2023, 5-3-'23, and a stay (3-5 March 2023, 24 au 26 novembre 2021) whole;
in English, German, French, Spanish and Dutch. A number may be the day or the month. Of the patient's own dates also:
20230305, 05032023, 050323, "March 2023", "5 March", 03/2023, "on 3/5", "compared with 3/5" and the year after "born"
and the like. Ages over 89 are identifiers as well (45 CFR 164.514(b)(2)(i)(C)).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import chain

from site_client.phi.folding import Folded, Token

__all__ = ["DateForms", "date_forms", "find_ages", "find_dates"]

_NAMES = (
    "january jan januar janner janvier janv enero ene januari",
    "february feb februar fevrier fevr fev febrero februari febr",
    "march mar marz mrz maerz mars marzo maart mrt",
    "april apr avril avr abril abr",
    "may mai mayo mei",
    "june jun juni juin junio",
    "july jul juli juillet juil julio",
    "august aug aout agosto ago augustus",
    "september sep sept septembre septiembre setiembre set",
    "october oct oktober okt octobre octubre",
    "november nov novembre noviembre",
    "december dec dezember dez decembre diciembre dic",
)
_MONTHS = {word: number for number, words in enumerate(_NAMES, 1) for word in words.split()}
_MONTH = "(?P<name>" + "|".join(sorted(_MONTHS, key=len, reverse=True)) + r")\.?"
_LINK = r"(?:[ \t\n]{0,3}[-/.,][ \t\n]{0,3}|[ \t\n]{1,3}(?:(?:of|the|de|del|du|den|van)[ \t\n]{1,3})?)"
_DAY = r"(?P<day>\d{1,2})(?:st|nd|rd|th|er|e|ste|de|[.oa])?"
_YEAR = r"(?P<year>(?:19|20)\d\d|'?\d\d)(?![\d/]|[.,-]\d)"
_BARE = r"(?<![^\W\d_])"  # not inside a longer word

# 5 March 2023; March 5, 2023; 2023 March 5 -- each tried where a month's name and a digit are near each other.
_WORDED = (
    re.compile(rf"(?<![\d.,/-]){_DAY}{_LINK}?{_BARE}{_MONTH}{_LINK}?{_YEAR}"),
    re.compile(rf"{_BARE}{_MONTH}{_LINK}?{_DAY}(?!\d){_LINK}(?:in )?{_YEAR}"),
    re.compile(rf"(?<!\d)(?P<year>(?:19|20)\d\d){_LINK}?{_BARE}{_MONTH}{_LINK}?(?P<day>\d{{1,2}})(?!\d)"),
)
_WORDED_MONTH = re.compile(rf"{_BARE}{_MONTH}{_LINK}?'?(?P<year>(?:19|20)\d\d|(?<=')\d\d)(?!\d)")
_WORDED_DAY = (
    re.compile(rf"(?<![\d.,/-]){_DAY}{_LINK}?{_BARE}{_MONTH}(?![^\W_])"),
    re.compile(rf"{_BARE}{_MONTH}{_LINK}?{_DAY}(?![^\W_]|[.,]\d)"),
)
_GAP = r"[ \t]?(?:\r?\n[ \t]{0,4})?"
_NUMERIC = re.compile(
    rf"(?<![\w/])(?<!\d[.,-])(?P<a>\d{{1,4}})(?:{_GAP}(?P<mark>[-/._]){_GAP}(?P<b>\d{{1,2}}){_GAP}(?P=mark){_GAP}|"
    r"[ \t](?P<blank_b>\d{1,2})[ \t])(?P<c>'?\d{1,4})"
    r"(?![\w/]|[.,-]\d)|(?<!\d)(?P<y>(?:19|20)\d\d)-(?P<m>[01]\d)-(?P<d>[0-3]\d)(?=t\d)")
# 6-8 April 2014, 24 au 26 novembre 2021; September 12-14, 2023; 01.-03.11.2024: a stay is a date, whole.
_UNTIL = (r"(?:[ \t]?[-/][ \t]?|[ \t\n]{1,2}(?:to|bis|t/m|tot(?: en met)?|au|al|until|till|through|thru|and|und|et|y|"
          r"en)[ \t\n]{1,2}(?:the |el |zum )?)")
_WORDED_RANGES = (
    re.compile(rf"(?<![\d.,/-])(?P<first>\d{{1,2}})(?:st|nd|rd|th|er|[.o])?{_UNTIL}{_DAY}{_LINK}?{_BARE}{_MONTH}"
               rf"{_LINK}?{_YEAR}"),
    re.compile(rf"{_BARE}{_MONTH}{_LINK}?(?P<first>\d{{1,2}})(?:st|nd|rd|th)?{_UNTIL}{_DAY}(?!\d){_LINK}{_YEAR}"),
)
_NUMERIC_RANGE = re.compile(
    rf"(?<![\w/])(?<!\d[.,-])(?P<first>\d{{1,2}})(?:[./]|(?P<inner>[./])\d{{1,2}}\.?)?{_UNTIL}"
    r"(?P<day>\d{1,2})(?P<mark>[./])\d{1,2}(?P=mark)(?:(?:19|20)\d\d|'?\d\d)(?![\w/]|[.,-]\d)")
_ONES = "first second third fourth fifth sixth seventh eighth ninth"
_ORDINALS = {word: day for day, word in enumerate((_ONES + " tenth eleventh twelfth thirteenth fourteenth fifteenth "
                                                   "sixteenth seventeenth eighteenth nineteenth").split(), 1)} | {
    "twentieth": 20, "thirtieth": 30, **{f"twenty-{word}": 20 + day for day, word in enumerate(_ONES.split(), 1)},
    "thirty-first": 31}
_ORDINAL = "(?P<ordinal>" + "|".join(word.replace("-", "[- ]?") for word in sorted(
    _ORDINALS, key=len, reverse=True)) + ")"
_SPELLED = (re.compile(rf"{_BARE}{_MONTH}[ \t\n]{{1,2}}(?:the )?{_ORDINAL}(?:,?[ \t\n]{{1,2}}{_YEAR})"),
            re.compile(rf"{_BARE}{_ORDINAL}[ \t\n]{{1,2}}(?:of )?{_MONTH}(?:,?[ \t\n]{{1,2}}{_YEAR})"))
_ROMAN = re.compile(
    r"(?<![\w/])(?<!\d[.,-])(?P<day>\d{1,2})[ \t]?(?P<mark>[-/.])[ \t]?(?P<month>xi{0,2}|i[vx]|vi{0,3}|i{1,3})"
    r"[ \t]?(?P=mark)[ \t]?(?P<year>(?:19|20)\d\d|'\d\d)(?![\w/]|[.,-]\d)")
_NUMERIC_MONTH = re.compile(r"(?<![\w./-])(?P<month>\d{1,2})[/.-](?P<year>(?:19|20)\d\d)(?![\w/]|[.-]\d)"
                            r"|(?<![\w./-])(?P<first>(?:19|20)\d\d)[/.-](?P<last>\d{1,2})(?![\w/]|[.-]\d)")
_NUMERIC_DAY = re.compile(
    r"\b(?:on|dated|date|since|from|vom|zum|am|seit|sinds|le|du|el|del|born|dob|birthday|op|exam|study|stu?die|visite|"
    r"verlauf|vu|evolucion|visita|performed|discussed|(?:ct|mri?|cxr|xr|us|radio|echo|rx|x-?thorax|thorax)(?: van)?)"
    r"[ \t:\n(]{1,3}"
    r"(?P<whole>(?P<a>\d{1,2})[/.-](?P<b>\d{1,2}))(?![\w/%]|[.,-]\d|[ \t]?(?:cm|mm))", re.ASCII)
# 17/05, 28.04., 04-08 anywhere; fractions up to one (4/5, 2/3), decimals and levels (L4-5) are none.
_ALONE = re.compile(
    r"(?<![\w./,:-])(?P<whole>(?P<a>\d{1,2})(?:/(?P<b>\d{1,2})|\.(?P<dotted>\d{1,2})\.|-(?P<dashed>\d\d)))"
    r"(?![\w/%]|[.,-]\d|[ \t]?(?:cm|mm|ml|mg|x\b))", re.ASCII)
_COUNTED = re.compile(r"(?:series|image|im|img|se|slice|bild|serie|beeld|grade|strength|power|kraft\w*|score|gleason|"
                      r"mrc|kracht|force|fuerza|aldrete|vas|eva|nrs|phase|level|levels)[ \t:#]{1,3}\Z")
_COMPARED = re.compile(
    r"(?:\b(?:film|study|scan|exam|examination|ct|mri?|cxr|radiograph|x-?ray|images?|report|onderzoek|foto|echo|"
    r"mammogra[a-z]{1,5}|untersuchung|aufnahme|examen|estudio|cliche|scanner)[ ](?:of|van|de|du|del|vom)|"
    r"\b(?:gegenuber(?: dem)?|vgl\.?|im vergleich (?:mit|zum?|zur)|versus|vs\.?|par rapport au|"
    r"comparati[a-z]{1,7} (?:au|du)|respecto al?|compared? (?:with|to)(?: that of)?|ten opzichte van|t\.o\.v\.|"
    r"vergelijking met|comparado con|d\.?d\.))[ \t\n]{1,2}"
    r"(?P<whole>(?P<a>\d{1,2})[/.-](?P<b>\d{1,2}))(?![\w/%]|[.,-]\d|[ \t]?(?:cm|mm|images?|views?))", re.ASCII)
_COMPACT = re.compile(r"(?<![\w.])(?:\d{8}|\d{6})(?!\d|\.\d)")
_BIRTH_YEAR = re.compile(
    r"\b(?:born|birth|dob|geb|geboren|geburtsjahr|jahrgang|ne|nee|naissance|nacid[oa]|nacimiento|geboortejaar|yob)"
    r"(?:[ \t]{0,2}[.:(]?[ \t]{0,2}(?:in|on|am|en|el|le|year|of|date)?){0,3}[ \t]{0,2}(?P<year>(?:19|20)\d\d)(?!\d)",
    re.ASCII)  # fmt: skip
_DIGIT = re.compile(r"\d")
_UNITS = re.compile(r"[ \t]?(?:x\b|cm|mm|ml|cc|mg|%|weeks?|wks?|days?|months?|hours?|hrs?|min)")

_HIGH_AGE = re.compile(
    r"(?<![\w.,/-])(?P<age>9\d|1[0-2]\d)[ \t-]{0,3}(?:(?:years?|yrs?|yr|y|jahre?|jaar|jahrige[rn]?|jarige|ans|anos)"
    r"[ \t./-]{0,3}(?:old|of age|o\b|alt|oud|d'age|de edad)|yo\b|y\.?o\b|y/o\b|jahrige[rns]?\b|jarige\b|"
    r"(?:ans|anos)\b|[ymfwj]\b(?![\w/.-]))"
    r"|\b(?:aged?|alter|edad|leeftijd)[ \t]{0,2}[:=]?[ \t]{0,2}(?:of |is |was |de |von )?(?P<after>9\d|"
    r"1[0-2]\d)(?![\d/.,%-])"
    r"|\bninety(?:-| )(?:\w{3,5}(?:-| ))?years?(?:-| )old\b|\bcentenarian\b|\bin (?:his|her|their) (?:mid-|"
    r"late |early )?90'?s\b",
    re.ASCII)  # fmt: skip


@dataclass(slots=True)
class DateForms:
    """The patient's dates as (year, month, day), and the digits that they are written with when nothing separates
    them."""

    days: set[tuple[int, int, int]] = field(default_factory=set)
    compact: set[str] = field(default_factory=set)


def date_forms(dates: tuple[str, ...]) -> DateForms:
    """What to look for, of dates YYYYMMDD (a time after them and separators within are ignored); no date, no form."""
    forms = DateForms()
    for text in dates:
        digits = "".join(char for char in text if char.isascii() and char.isdigit())[:8]
        if len(digits) == 8 and _valid(int(digits[:4]), int(digits[4:6]), int(digits[6:])):
            year, month, day = digits[:4], digits[4:6], digits[6:]
            forms.days.add((int(year), int(month), int(day)))
            forms.compact |= {written for y in (year, year[2:])
                              for written in (y + month + day, day + month + y, month + day + y)}
    return forms


def find_dates(folded: Folded, tokens: list[Token], forms: DateForms) -> list[tuple[int, int]]:
    """Spans of dates in the folded text; not sorted, they may overlap."""
    lower = folded.lower
    if not _DIGIT.search(lower):
        return []
    spans = [match.span() for match in _NUMERIC.finditer(lower) if _is_date(match, lower, forms)]
    spans += [match.span() for match in _ROMAN.finditer(lower) if 1 <= int(match["day"]) <= 31]
    spans += [match.span() for match in _NUMERIC_RANGE.finditer(lower) if _is_range(match)]
    spans += _own_numbers(lower, forms) if forms.days else []
    if any(token.lower in _MONTHS for token in tokens):
        for pattern in _WORDED:
            spans += [match.span() for match in pattern.finditer(lower) if 1 <= int(match["day"]) <= 31]
        spans += [match.span() for pattern in _SPELLED for match in pattern.finditer(lower)]
        for pattern in _WORDED_RANGES:
            spans += [match.span() for match in pattern.finditer(lower) if _is_range(match)]
        spans += _own_months(lower, forms) if forms.days else []
    return spans


def find_ages(folded: Folded) -> list[tuple[int, int]]:
    """Spans of ages of 90 and more."""
    if not ("9" in folded.lower or "1" in folded.lower or "ninet" in folded.lower or "centenarian" in folded.lower):
        return []
    return [match.span() for match in _HIGH_AGE.finditer(folded.lower)]


def _own_numbers(lower: str, forms: DateForms) -> Iterator[tuple[int, int]]:
    months = {(year, month) for year, month, _ in forms.days}
    days = {(month, day) for _, month, day in forms.days}
    for match in _COMPACT.finditer(lower):
        if match[0] in forms.compact:
            yield match.span()
    for match in _ALONE.finditer(lower):
        if _is_own_day(match, lower, days):
            yield match.span("whole")
    for match in _NUMERIC_MONTH.finditer(lower):
        if (int(match["year"] or match["first"]), int(match["month"] or match["last"])) in months:
            yield match.span()
    for match in chain(_NUMERIC_DAY.finditer(lower), _COMPARED.finditer(lower)):
        if {(int(match["a"]), int(match["b"])), (int(match["b"]), int(match["a"]))} & days:
            yield match.span("whole")
    for match in _BIRTH_YEAR.finditer(lower):
        if any(int(match["year"]) == year for year, _, _ in forms.days):
            yield match.span("year")


def _own_months(lower: str, forms: DateForms) -> Iterator[tuple[int, int]]:
    for match in _WORDED_MONTH.finditer(lower):
        if any(_MONTHS[match["name"]] == month and _same_year(match["year"], year) for year, month, _ in forms.days):
            yield match.span()
    days = {(month, day) for _, month, day in forms.days}
    for pattern in _WORDED_DAY:
        for match in pattern.finditer(lower):
            if (_MONTHS[match["name"]], int(match["day"])) in days and not _UNITS.match(lower, match.end()):
                yield match.span()


def _is_own_day(match: re.Match[str], lower: str, days: set[tuple[int, int]]) -> bool:
    first, second = int(match["a"]), int(match["b"] or match["dotted"] or match["dashed"])
    if not {(first, second), (second, first)} & days:
        return False
    if match["b"] and first <= second <= 12 and not (match["a"] + match["b"]).startswith("0") and match["b"][0] != "0":
        return False  # as likely a fraction
    if (match["dashed"] and len(match["a"]) < 2) or (match["dotted"] and len(match["a"] + match["dotted"]) < 3):
        return False  # levels 4-05, headings 1.1.
    return not _COUNTED.search(lower, max(0, match.start() - 16), match.start())


def _is_range(match: re.Match[str]) -> bool:
    return 1 <= int(match["first"]) <= 31 and 1 <= int(match["day"]) <= 31


def _same_year(written: str, year: int) -> bool:
    digits = written.lstrip("'")
    return int(digits) == (year if len(digits) == 4 else year % 100)


def _valid(year: int, month: int, day: int) -> bool:
    return 1850 <= year <= 2099 and 1 <= month <= 12 and 1 <= day <= 31


def _is_date(match: re.Match[str], lower: str, forms: DateForms) -> bool:
    if match["y"]:
        return True
    a, b, c = match["a"], match["b"] or match["blank_b"], match["c"]
    mark = match["mark"] or ""
    if c.startswith("'"):
        return len(c) == 3 and len(a) < 3 and (_valid(2000, int(a), int(b)) or _valid(2000, int(b), int(a)))
    if "\n" in match[0] and (len(c) != 4 or match[0].count("\n") > 1):
        return False
    if len(a) == 4:
        return bool(mark) and 1900 <= int(a) <= 2099 and len(c) <= 2 and _valid(2000, int(b), int(c))
    if len(a) > 2 or len(c) == 3 or not (_valid(2000, int(a), int(b)) or _valid(2000, int(b), int(a))):
        return False
    if len(c) == 4:
        return 1900 <= int(c) <= 2099 and (bool(mark) or len(a) == len(b) == 2)
    return len(c) == 2 and _short_year(a, b, c, mark, forms) and not _UNITS.match(lower, match.end())


def _short_year(a: str, b: str, c: str, mark: str, forms: DateForms) -> bool:
    """Day, month and two digits: 3/5/23 and 5.3.23 are dates, 6-8-10 only when it is the patient's."""
    pairs = {(int(a), int(b)), (int(b), int(a))}
    if any((month, day) in pairs and year % 100 == int(c) for year, month, day in forms.days):
        return True
    return mark in ("/", ".") or (mark == "-" and len(a) == len(b) == 2)
