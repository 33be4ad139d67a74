"""A second, independent generator of radiology texts with injected identifiers, written without seeing the checker.

`cases()` are texts in which every counted span is one of the patient's own identifiers that a careful reader would say
names or identifies the patient. `clean_texts()` identify nobody. `blind_phi_ambiguous.AMBIGUOUS` and `RESIDUAL` hold
what is measured and never counted. Everything follows from fixed seeds; all people are made up.
"""

from __future__ import annotations

import random
import re
import unicodedata
from dataclasses import dataclass
from datetime import date, timedelta
from functools import cache

from site_client.phi.anchors import Anchors
from tests.site_client import blind_phi_clean_european as european
from tests.site_client import blind_phi_english_letters, blind_phi_english_reports
from tests.site_client.blind_phi_clean_english import SENTENCES as ENGLISH_SENTENCES
from tests.site_client.blind_phi_french_spanish import FRENCH, SPANISH
from tests.site_client.blind_phi_german_dutch import DUTCH, GERMAN
from tests.site_client.blind_phi_numbers import (
    Identifier,
    accession,
    dicom_date,
    patient_id,
    some_day,
    written_date,
)
from tests.site_client.blind_phi_people import PEOPLE, HeaderName, Person, Piece, ascii_name, header_name, written

TEMPLATES = {**blind_phi_english_reports.TEMPLATES, **blind_phi_english_letters.TEMPLATES,
             **GERMAN, **DUTCH, **FRENCH, **SPANISH}
SENTENCES = {"en": ENGLISH_SENTENCES, "de": european.GERMAN, "nl": european.DUTCH, "fr": european.FRENCH,
             "es": european.SPANISH}
PATIENTS_PER_TEMPLATE = 40
CLEAN_TEXTS = {"en": 320, "de": 80, "nl": 70, "fr": 70, "es": 70}
WOMEN = {"en-mammography", "de-mammo", "nl-mdo"}
CHILDREN = {"en-paediatric", "en-neonatal-baby-of", "de-paediatrie"}
RELATIVES = {
    "en": ("Karen", "Denise", "Tyrone", "Shu-fen", "Kwame", "Bridget"),
    "de": ("Ingrid", "Torsten", "Aylin", "Swantje"), "nl": ("Femke", "Jeroen", "Sanne", "Ouafa"),
    "fr": ("Solène", "Thierry", "Fatou", "Maxime"), "es": ("Pilar", "Rodrigo", "Nuria", "Iker")}
STAFF = {
    "en": ("A. Lindqvist", "Tom Raghavan", "K Brightwell", "Mercy Owusu RN"),
    "de": ("K. Hinrichsen", "Assistenzarzt Pfaffenberg", "M. Scholz-Tewes"), "nl": ("M. Hoekstra", "Iris Wolters"),
    "fr": ("P. Carpentier", "Inès Morvan"), "es": ("R. Villalobos", "Marta Echegaray")}
DOCTORS = {
    "en": ("Dr. ", ("Ramanathan", "Fitzwilliam", "K. Osei", "Zelinski")),
    "de": ("Dr. med. ", ("Hagemeister", "U. Zschoche", "Tietjen")), "nl": ("dr. ", ("Wiersma", "B. Kuipers")),
    "fr": ("Dr ", ("Delacroix", "S. Vasseur")), "es": ("Dr. ", ("Zamorano", "E. Iturralde"))}
STYLES = (("plain", 52), ("caps", 12), ("wrapped", 13), ("nbsp", 9), ("crlf", 5), ("br", 4), ("nfd", 3), ("lower", 2))


@dataclass(frozen=True, slots=True)
class Span:
    start: int
    end: int
    kind: str


@dataclass(frozen=True, slots=True)
class Case:
    """`spans` are counted; `residual` are other people's names and dates that no header of the patient holds."""

    template: str
    language: str
    style: str
    text: str
    anchors: Anchors
    spans: tuple[Span, ...]
    residual: tuple[Span, ...]


@dataclass(frozen=True, slots=True)
class Patient:
    person: Person
    header: HeaderName
    language: str
    region: str
    birth: date
    study: date
    prior: date
    mrn: Identifier
    acc: Identifier

    @property
    def age(self) -> int:
        return (self.study - self.birth).days // 365

    def anchors(self, rng: random.Random) -> Anchors:
        dates = [dicom_date(day) for day in (self.birth, self.study, self.prior)]
        rng.shuffle(dates)
        return Anchors((self.header.pn,), (self.mrn.value, self.acc.value), tuple(dates))


def draw_patient(name: str, turn: int, rng: random.Random) -> Patient:
    language = name[:2]
    pool = [person for person in PEOPLE[language] if name not in WOMEN or person.sex == "f"]
    person = pool[turn % len(pool)]
    study = some_day(rng, 2015, 2025)
    birth = study - timedelta(days=rng.randrange(3, 300)) if name in CHILDREN else some_day(rng, 1931, 2004)
    mrn = patient_id(language, rng)
    while "{mrnbare}" in TEMPLATES[name] and not mrn.distinct:
        mrn = patient_id(language, rng)
    region = rng.choice(["us", "uk"]) if language == "en" else language
    prior = study - timedelta(days=rng.randrange(60, 900))
    return Patient(person, header_name(person, rng), language, region, birth, study, prior, mrn,
                   accession(study.year, rng))


def body(language: str, rng: random.Random, most: int = 3) -> str:
    sentences = rng.sample(SENTENCES[language], rng.randrange(1, most + 1))
    return " ".join(re.sub(r"\{(\w+)\}", lambda place: _number(place[1], rng), text) for text in sentences)


def _number(place: str, rng: random.Random) -> str:
    return {"mm": str(rng.randrange(2, 39)), "cm": f"{rng.randrange(1, 14)}.{rng.randrange(10)}",
            "ml": str(rng.randrange(15, 131)), "n3": str(rng.randrange(100, 480))}[place]


def _identifier(identifier: Identifier, rng: random.Random) -> list[Piece]:
    """One spelling; a modality before the number is no part of what identifies."""
    form = rng.choice(identifier.forms)
    prefix = re.match(r"(?:CT|MR|US|XR|RX|RAD|IPP)[- ]?(?=\d)", form)
    return [(prefix[0], ""), (form[prefix.end():], "")] if prefix else [(form, "")]


def _stamp(day: date, rng: random.Random) -> list[Piece]:
    time = f"{rng.randrange(24):02}:{rng.randrange(60):02}:{rng.randrange(60):02}"
    return rng.choice([
        [(dicom_date(day), "study_date"), (" " + time.replace(":", ""), "")],
        [(dicom_date(day), "study_date"), (time.replace(":", ""), "")],
        [(day.isoformat(), "study_date"), ("T" + time, "")],
        [(day.isoformat(), "study_date"), (" " + time, "")]])


def _day(place: str, patient: Patient, rng: random.Random) -> list[Piece]:
    stem, day, kind = next(
        (stem, day, kind) for stem, day, kind in (
            ("dob", patient.birth, "birth_date"), ("study", patient.study, "study_date"),
            ("prior", patient.prior, "study_date"),
            ("olddate", patient.prior - timedelta(days=400), "~date of another study")) if place.startswith(stem))
    style = place[len(stem):] or "any"
    if style == "raw":
        return [(dicom_date(day), kind)]
    weekday, text = written_date(day, patient.region, style, rng)
    return [(weekday, ""), (text, kind)]


def _other_people(place: str, patient: Patient, rng: random.Random) -> list[Piece]:
    if place == "doctor":
        title, names = DOCTORS[patient.language]
        return [(title, ""), (rng.choice(names), "~doctor with title")]
    names = (RELATIVES if place == "relative" else STAFF)[patient.language]
    return [(rng.choice(names), "~relative" if place == "relative" else "~staff without title")]


def filled(place: str, patient: Patient, rng: random.Random) -> list[Piece]:
    """What stands at {place} of a template, as pieces of text with their kinds."""
    male = patient.person.sex == "m"
    words = {"age": str(patient.age), "sex": "Male" if male else "Female", "sexletter": "M" if male else "F",
             "he": "He" if male else "She", "his": "his" if male else "her"}
    if place in words:
        return [(words[place], "")]
    if place == "body":
        return [(body(patient.language, rng), "")]
    if place == "stamp":
        return _stamp(patient.study, rng)
    if place.startswith(("dob", "study", "prior", "olddate")):
        return _day(place, patient, rng)
    if place in ("doctor", "relative", "staff"):
        return _other_people(place, patient, rng)
    if place.startswith(("mrn", "acc")):
        kind = "patient_id" if place.startswith("mrn") else "accession"
        pieces = _identifier(patient.mrn if kind == "patient_id" else patient.acc, rng)
        return [*pieces[:-1], (pieces[-1][0], kind)]
    return written(place, patient.person, patient.header, patient.language, rng)


def _wrapped(text: str, width: int) -> str:
    """Spaces become line ends so that no line is longer than `width`; the length stays."""
    letters, start, space = list(text), 0, -1
    for at, letter in enumerate(text):
        if letter == "\n":
            start, space = at + 1, -1
        elif letter == " ":
            space = at
        if at - start >= width and space > start:
            letters[space], start, space = "\n", space + 1, -1
    return "".join(letters)


def styled(pieces: list[Piece], style: str, rng: random.Random) -> list[Piece]:
    changes = {"caps": str.upper, "lower": str.lower, "crlf": lambda text: text.replace("\n", "\r\n"),
               "br": lambda text: text.replace("\n", "\\.br\\"),
               "nfd": lambda text: unicodedata.normalize("NFD", text)}
    if style in changes:
        return [(changes[style](text), kind) for text, kind in pieces]
    if style == "nbsp":
        pieces = [(text.replace(" ", "\u00a0") if kind else text, kind) for text, kind in pieces]
        following = [kind for _, kind in pieces[1:]] + [""]
        return [(re.sub(" $", "\u00a0", text) if after else text, kind)
                for (text, kind), after in zip(pieces, following, strict=True)]
    if style == "wrapped":
        whole, at, cut = _wrapped("".join(text for text, _ in pieces), rng.randrange(28, 72)), 0, []
        for text, kind in pieces:
            cut.append((whole[at:at + len(text)], kind))
            at += len(text)
        return cut
    return pieces


def joined(pieces: list[Piece]) -> tuple[str, tuple[Span, ...], tuple[Span, ...]]:
    text, spans, residual = "", [], []
    for piece, kind in pieces:
        span = Span(len(text), len(text) + len(piece), kind.lstrip("~"))
        if kind and piece:
            (residual if kind[0] == "~" else spans).append(span)
        text += piece
    return text, tuple(spans), tuple(residual)


def make_case(name: str, turn: int) -> Case:
    rng = random.Random(f"{name}/{turn}")
    patient = draw_patient(name, turn, rng)
    pieces: list[Piece] = []
    for at, part in enumerate(re.split(r"\{(\w+)\}", TEMPLATES[name])):
        pieces += filled(part, patient, rng) if at % 2 else [(part, "")]
    style = rng.choices([style for style, _ in STYLES], [weight for _, weight in STYLES])[0]
    if style == "lower" and (patient.person.word_family or patient.person.word_given):
        style = "plain"
    text, spans, residual = joined(styled(pieces, style, rng))
    return Case(name, patient.language, style, text, patient.anchors(rng), spans, residual)


@cache
def cases() -> tuple[Case, ...]:
    return tuple(make_case(name, turn) for name in TEMPLATES for turn in range(PATIENTS_PER_TEMPLATE))


@dataclass(frozen=True, slots=True)
class CleanText:
    language: str
    text: str
    anchors: Anchors


def words_of(text: str) -> set[str]:
    return set(re.findall(r"\w+", ascii_name(text).casefold()))


PARTICLES = {"van", "den", "der", "de", "la", "del", "dos", "da", "von", "zur", "in", "t", "op", "ter", "i", "y", "le",
             "l", "d", "n", "el", "al", "ben", "bin", "a", "te", "fuente", "st"}


def make_clean(language: str, turn: int) -> CleanText:
    """A text with the anchors of somebody of whose name no word (but a particle) stands in it."""
    rng = random.Random(f"clean/{language}/{turn}")
    text = rng.choice([" ", "\n"]).join(body(language, rng) for _ in range(rng.randrange(2, 5)))
    text = text.upper() if rng.random() < 0.15 else text
    name = next(key for key in TEMPLATES if key[:2] == language)
    while True:
        patient = draw_patient(name, rng.randrange(100), rng)
        person = patient.person
        own = words_of(f"{person.given} {person.middle} {person.family} {patient.header.pn}")
        if not {word for word in own if len(word) > 1} - PARTICLES & words_of(text):
            return CleanText(language, text, patient.anchors(rng))


@cache
def clean_texts() -> tuple[CleanText, ...]:
    return tuple(make_clean(language, turn) for language, count in CLEAN_TEXTS.items() for turn in range(count))
