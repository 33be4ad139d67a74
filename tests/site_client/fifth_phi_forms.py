"""How people write a patient's name, numbers and dates in the fifth set of texts: each field of a template becomes
pieces of text, those that are the patient's own marked as counted and those of others or of no header as residual."""

from __future__ import annotations

import datetime
import random
import re
from typing import NamedTuple

from tests.site_client.fifth_phi_people import (
    PARTICLES,
    Patient,
    family_names,
    given_names,
    particle_of,
    pick,
    strip_marks,
    write_out,
)


class Piece(NamedTuple):
    text: str
    kind: str = ""
    counted: bool = False


Pieces = list[Piece]

_MONTHS = {
    "en": "January,February,March,April,May,June,July,August,September,October,November,December",
    "de": "Januar,Februar,März,April,Mai,Juni,Juli,August,September,Oktober,November,Dezember",
    "nl": "januari,februari,maart,april,mei,juni,juli,augustus,september,oktober,november,december",
    "fr": "janvier,février,mars,avril,mai,juin,juillet,août,septembre,octobre,novembre,décembre",
    "es": "enero,febrero,marzo,abril,mayo,junio,julio,agosto,septiembre,octubre,noviembre,diciembre",
}
_SHORT = {
    "en": "Jan,Feb,Mar,Apr,May,Jun,Jul,Aug,Sep,Oct,Nov,Dec",
    "de": "Jan.,Feb.,Mrz.,Apr.,Mai,Jun.,Jul.,Aug.,Sept.,Okt.,Nov.,Dez.",
    "nl": "jan,feb,mrt,apr,mei,jun,jul,aug,sep,okt,nov,dec",
    "fr": "janv.,févr.,mars,avr.,mai,juin,juil.,août,sept.,oct.,nov.,déc.",
    "es": "ene,feb,mar,abr,may,jun,jul,ago,sep,oct,nov,dic",
}
# {d} day, {dd} two digits, {m} {mm} month, {y} four digits, {yy} two, {M} month written, {S} month short, {o} ordinal
_DATES: dict[str, dict[str, int]] = {
    "us": {
        "{mm}/{dd}/{y}": 34, "{m}/{d}/{y}": 18, "{m}/{d}/{yy}": 10, "{mm}/{dd}/{yy}": 4, "{M} {d}, {y}": 14,
        "{S} {d}, {y}": 5, "{dd}-{S}-{y}": 4, "{y}-{mm}-{dd}": 5, "{mm}-{dd}-{y}": 3, "{M} {o}, {y}": 1,
        "{d} {S} {y}": 1, "{y}{mm}{dd}": 1,
    },
    "uk": {
        "{dd}/{mm}/{y}": 40, "{d}/{m}/{yy}": 8, "{dd}/{mm}/{yy}": 8, "{dd}.{mm}.{y}": 3, "{d} {M} {y}": 10,
        "{o} {M} {y}": 5, "{dd}-{S}-{y}": 12, "{dd} {S} {y}": 6, "{d}.{m}.{yy}": 3, "{y}-{mm}-{dd}": 4,
        "{o} of {M} {y}": 1,
    },
    "de": {
        "{dd}.{mm}.{y}": 64, "{d}.{m}.{y}": 6, "{dd}.{mm}.{yy}": 14, "{d}.{m}.{yy}": 4, "{d}. {M} {y}": 6,
        "{dd}. {S} {y}": 1, "{y}-{mm}-{dd}": 3, "{dd}/{mm}/{y}": 1, "{y}{mm}{dd}": 1,
    },
    "nl": {
        "{dd}-{mm}-{y}": 55, "{d}-{m}-{y}": 9, "{dd}-{mm}-{yy}": 8, "{d} {M} {y}": 12, "{dd}/{mm}/{y}": 8,
        "{dd}.{mm}.{y}": 2, "{d} {S} {y}": 3, "{y}-{mm}-{dd}": 3,
    },
    "fr": {
        "{dd}/{mm}/{y}": 60, "{dd}/{mm}/{yy}": 9, "{e} {M} {y}": 16, "{dd}.{mm}.{y}": 4, "{dd}-{mm}-{y}": 4,
        "{d} {S} {y}": 3, "{y}-{mm}-{dd}": 3,
    },
    "es": {
        "{dd}/{mm}/{y}": 56, "{d}/{m}/{y}": 8, "{dd}/{mm}/{yy}": 7, "{dd}-{mm}-{y}": 9, "{d} de {M} de {y}": 13,
        "{d} de {M} del {y}": 1, "{dd}.{mm}.{y}": 2, "{dd}-{S}-{y}": 3, "{y}-{mm}-{dd}": 2,
    },
}  # fmt: skip
_YEARLESS = {
    "us": ("{M} {d}", "{m}/{d}", "{M} {o}"),
    "uk": ("{d} {M}", "{o} {M}", "{dd}/{mm}"),
    "de": ("{dd}.{mm}.", "{d}. {M}", "{d}.{m}."),
    "nl": ("{d} {M}", "{d}-{m}"),
    "fr": ("{e} {M}", "{dd}/{mm}"),
    "es": ("{d} de {M}", "{dd}/{mm}"),
}
_RANGES = {
    "us": "{M} {d}-{x}, {y}", "uk": "{d}-{x} {M} {y}", "de": "{dd}.-{x}.{mm}.{y}", "nl": "{d}-{x} {M} {y}",
    "fr": "{d} au {x} {M} {y}", "es": "{d} al {x} de {M} de {y}",
}  # fmt: skip


def _ordinal(day: int) -> str:
    ending = "th" if 10 < day < 14 else {1: "st", 2: "nd", 3: "rd"}.get(day % 10, "th")
    return f"{day}{ending}"


def write_date(pattern: str, day: datetime.date, language: str) -> str:
    return pattern.format(
        d=day.day, dd=f"{day.day:02}", m=day.month, mm=f"{day.month:02}", y=day.year, yy=f"{day.year % 100:02}",
        M=_MONTHS[language].split(",")[day.month - 1], S=_SHORT[language].split(",")[day.month - 1],
        o=_ordinal(day.day), x=f"{min(day.day + 2, 28):02}", e="1er" if day.day == 1 else day.day,
    )  # fmt: skip


def date_text(rng: random.Random, patient: Patient, day: datetime.date) -> str:
    text = write_date(pick(rng, _DATES[patient.region]), day, patient.language)
    return text.upper() if "-" in text and rng.random() < 0.3 else text


def short_date(rng: random.Random, patient: Patient, day: datetime.date) -> str:
    return write_date(rng.choice(_YEARLESS[patient.region]), day, patient.language)


def range_text(patient: Patient) -> Pieces:
    """A stay whose first day is the study's (up to the 26th), or one that ends on it."""
    day = patient.study
    if day.day <= 26:
        return [Piece(write_date(_RANGES[patient.region], day, patient.language), "study date", True)]
    numeric = {"us": "{mm}/{dd}/{y}", "de": "{dd}.{mm}.{y}", "nl": "{dd}-{mm}-{y}"}.get(patient.region, "{dd}/{mm}/{y}")
    start = write_date(numeric, day - datetime.timedelta(days=3), patient.language)
    end = write_date(numeric, day, patient.language)
    return [Piece(start, "other date"), Piece(" - "), Piece(end, "study date", True)]


def other_date(rng: random.Random, patient: Patient) -> str:
    held = {patient.birth, patient.study, patient.prior}
    while True:
        day = patient.study - datetime.timedelta(days=rng.randint(5, 900))
        if day not in held:
            return date_text(rng, patient, day)


def number_text(rng: random.Random, number: str) -> str:
    """As header, or grouped, or without its separators, or without its leading zeros."""
    style = pick(rng, {"as is": 66, "spaces": 8, "hyphens": 4, "dots": 3, "bare": 8, "zeros": 7, "lower": 2, "pad": 2})
    head = re.match(r"[A-Z]*", number)
    letters = head.group() if head else ""
    body = number[len(letters) :]
    joined = body.replace("-", "")
    if style in ("spaces", "hyphens", "dots") and "-" not in body:
        sign = {"spaces": " ", "hyphens": "-", "dots": "."}[style]
        size = 2 if len(body) % 2 == 0 and rng.random() < 0.35 else 3
        groups = [body[i : i + size] for i in range(0, len(body), size)]
        if len(groups[-1]) == 1:
            groups[-2:] = [groups[-2] + groups[-1]]
        return letters + (sign if letters and rng.random() < 0.5 else "") + sign.join(groups)
    if style == "bare":
        return letters + joined if "-" in body else f"{letters} {body}".strip()
    if style == "zeros" and not letters:
        return number.lstrip("0")
    if style == "pad" and not letters and "-" not in body and len(body) < 9:
        return number.zfill(len(number) + 2)
    return number.lower() if style == "lower" and len(letters) == 1 else number


def letters_of(rng: random.Random, patient: Patient, text: str) -> str:
    """The name's letters as typed: mostly right, sometimes without marks or with umlauts written out."""
    style = pick(rng, {"kept": 78, "bare": 17, "out": 20 if patient.language == "de" else 2})
    if style == "kept":
        return text
    return strip_marks(text) if style == "bare" and patient.language != "de" else write_out(text)


def _upper(rng: random.Random, text: str, chance: float) -> str:
    return text.upper() if rng.random() < chance else text


def _initial_of(name: str) -> str:
    return "-".join(f"{part[0]}." for part in re.split(r"[-]", name)) if "-" in name else f"{name[0]}."


def _given_text(rng: random.Random, patient: Patient) -> str:
    given = letters_of(rng, patient, patient.given)
    if patient.language == "es" and given.startswith("María ") and rng.random() < 0.2:
        given = "Mª " + given[6:]
    return given


def _middle_text(rng: random.Random, patient: Patient) -> str:
    if not patient.middle or rng.random() < 0.35:
        return ""
    if len(patient.middle) == 1:
        return patient.middle + rng.choice((".", ".", ""))
    return letters_of(rng, patient, patient.middle) if rng.random() < 0.6 else _initial_of(patient.middle)


def _family_text(rng: random.Random, patient: Patient) -> str:
    family = letters_of(rng, patient, patient.family)
    if patient.language == "nl":
        particle, core = particle_of(family)
        if particle in ("van den", "van der", "van de") and rng.random() < 0.15:
            family = f"{'v.d.' if rng.random() < 0.7 else 'v d'} {core}"
    if "'" in family:
        family = family.replace("'", rng.choice(("'", "'", "’", "")))
    if "-" in family and rng.random() < 0.1:
        family = family.replace("-", " " if rng.random() < 0.6 else " - ")
    return family


def _join(*parts: str) -> str:
    return " ".join(part for part in parts if part)


def _two_surnames(patient: Patient) -> bool:
    words = patient.family.split()
    return len(words) == 2 and words[0].lower() not in PARTICLES


def full_name(rng: random.Random, patient: Patient) -> Pieces:
    """In the order of speech, for letters and sentences."""
    given, middle, family = _given_text(rng, patient), _middle_text(rng, patient), _family_text(rng, patient)
    initials = "." in patient.given
    if not patient.middle and not initials and patient.language == "en" and rng.random() < 0.07:
        other = rng.choice([n for n in given_names("en", patient.male) if n not in (patient.given, patient.family)])
        pieces = [Piece(given, "name part", True), Piece(" "), Piece(other, "not in the header"), Piece(" ")]
        return [*pieces, Piece(family, "name part", True)]
    if patient.language in ("fr",) and rng.random() < 0.6:
        family = family.upper()
        text = _join(family, given) if rng.random() < 0.35 else _join(given, family)
        return [Piece(text, "name", True)]
    if not initials and rng.random() < 0.06:
        given, middle = _initial_of(patient.given), middle and _initial_of(patient.middle)
    if patient.language == "es" and rng.random() < 0.08 and _two_surnames(patient):
        family = family.split()[0]
    return [Piece(_upper(rng, _join(given, middle, family), 0.05), "name", True)]


def header_name(rng: random.Random, patient: Patient) -> Pieces:
    """As a RIS, a list or a letter's reference line prints it."""
    given, middle, family = _given_text(rng, patient), _middle_text(rng, patient), _family_text(rng, patient)
    particle, core = particle_of(family)
    style = pick(rng, {"comma": 58, "spaces": 12, "speech": 20, "dicom": 3, "tight": 4, "header": 3})
    if style == "dicom":
        text = strip_marks(f"{family}^{given}").upper()
    elif style == "spaces":
        text = _join(family, given, middle)
    elif style == "speech":
        text = _join(given, middle, family)
    elif style == "tight":
        text = f"{family},{given}"
    elif style == "header":
        text = patient.anchors.names[0].rstrip("^")
    elif patient.language == "nl" and particle and rng.random() < 0.6:
        text = f"{core}, {_join(given, particle)}"
    else:
        text = f"{family}, {_join(given, middle)}"
    if style != "header":
        chance = {"en": 0.55, "de": 0.15, "nl": 0.12, "fr": 0.35, "es": 0.5}[patient.language]
        if style in ("comma", "spaces") and rng.random() < 0.15:
            text = text.replace(family, family.upper())
        text = _upper(rng, text, chance)
        text = strip_marks(text) if text.isupper() and rng.random() < 0.6 else text
    return [Piece(text, "name", True)]


def family_alone(rng: random.Random, patient: Patient) -> Pieces:
    """After a title or in a sentence."""
    family = letters_of(rng, patient, patient.family)
    if patient.language == "es" and _two_surnames(patient) and rng.random() < 0.6:
        family = family.split()[0]
    elif patient.language == "nl":
        family = _family_text(rng, patient)
        if "-" in family and rng.random() < 0.25 and family.count("-") == 1:
            family = family.split("-")[0].strip()
        family = family[0].upper() + family[1:]
    if rng.random() < 0.012 and patient.language != "es" and len(family) > 5 and family.isalpha():
        swapped = family[:3] + family[4] + family[3] + family[5:]
        if swapped != family:
            return [Piece(swapped, "not in the header")]
    chance = 0.3 if patient.language == "fr" else 0.06
    return [Piece(_upper(rng, family, chance), "name part", True)]


def family_field(rng: random.Random, patient: Patient) -> Pieces:
    """In a form's field of its own."""
    return [Piece(_upper(rng, letters_of(rng, patient, patient.family), 0.4), "name part", True)]


def file_name(rng: random.Random, patient: Patient) -> Pieces:
    """GARCIA_MARIA_20240314, as exporting software names a folder."""
    name = strip_marks(f"{patient.family}_{patient.given}").replace(" ", "_").strip(".")
    return [
        Piece(_upper(rng, name, 0.7), "name", True),
        Piece("_"),
        Piece(f"{patient.study:%Y%m%d}", "study date", True),
    ]


def given_alone(rng: random.Random, patient: Patient) -> Pieces:
    return [Piece(_given_text(rng, patient), "name part", True)]


def maiden_name(rng: random.Random, patient: Patient) -> Pieces:
    """With its marker, or nothing."""
    if not patient.maiden:
        return []
    marker = {"en": "née ", "de": "geb. ", "fr": "née "}[patient.language]
    name = _upper(rng, letters_of(rng, patient, patient.maiden), 0.6 if patient.language == "fr" else 0.1)
    return [Piece(rng.choice((" ", ", ")) + marker), Piece(name, "name part", True)]


def initials(rng: random.Random, patient: Patient) -> Pieces:
    first = [w[0] for w in re.split(r"[ .-]+", patient.given) if w and w.lower() not in PARTICLES]
    last = [w[0].upper() for w in re.split(r"[ -]+", patient.family) if w.lower() not in PARTICLES and w[0].isalpha()]
    letters = [*first[:1], *([patient.middle[0]] if patient.middle and rng.random() < 0.4 else []), *last[:2]]
    text = "".join(letters) if rng.random() < 0.3 else rng.choice((".", ". ")).join(letters) + "."
    return [Piece(text, "initials", True)]


def _tokens(text: str) -> set[str]:
    return set(re.split(r"[\W_]+", strip_marks(text).lower()))


def other_name(rng: random.Random, patient: Patient, male: bool) -> tuple[str, str]:
    """Given and family name of someone who shares none with the patient."""
    own = _tokens(" ".join(patient.anchors.names)) | _tokens(f"{patient.given} {patient.family} {patient.maiden}")
    own -= PARTICLES
    while True:
        given = rng.choice(given_names(patient.language, male))
        family = rng.choice(family_names(patient.language))
        if not own & (_tokens(given) | _tokens(family)):
            return given, family


def staff(rng: random.Random, patient: Patient) -> Pieces:
    given, family = other_name(rng, patient, rng.random() < 0.5)
    style = pick(rng, {"family": 55, "both": 25, "initial": 20})
    text = {"family": family, "both": f"{given} {family}", "initial": f"{given[0]}. {family}"}[style]
    return [Piece(text, "staff")]


def relative(rng: random.Random, patient: Patient, male: bool) -> Pieces:
    given, family = other_name(rng, patient, male)
    return [Piece(given if rng.random() < 0.6 else f"{given} {family}", "relative")]
