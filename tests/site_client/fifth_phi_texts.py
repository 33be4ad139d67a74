"""The fifth set of texts for the check of reports: whole reports, letters, notes and list lines in English, German,
Dutch, French and Spanish about invented patients, with the patient's own identifiers marked as a careful reader who
holds the DICOM header would mark them, what is measured only (other people, dates of no header) marked apart, and
ordinary radiology texts without any identifier. A template's {field} is filled by the forms of a patient, <a|b> is a
choice and [a|b] a man's or a woman's word."""

from __future__ import annotations

import functools
import random
import re
from collections.abc import Callable

from site_client.phi.anchors import Anchors
from tests.site_client import (
    fifth_phi_clean,
    fifth_phi_de,
    fifth_phi_en,
    fifth_phi_es,
    fifth_phi_fr,
    fifth_phi_nl,
)
from tests.site_client import (
    fifth_phi_forms as forms,
)
from tests.site_client.fifth_phi_forms import Piece, Pieces
from tests.site_client.fifth_phi_people import PARTICLES, TITLES, Patient, make_patient, strip_marks
from tests.site_client.phi_cases import Case, Span

LANGUAGES = {"en": fifth_phi_en, "de": fifth_phi_de, "nl": fifth_phi_nl, "fr": fifth_phi_fr, "es": fifth_phi_es}
CLEAN_COUNTS = {"en": 280, "de": 90, "nl": 80, "fr": 80, "es": 80}
_CHOICE = re.compile(r"<([^<>]*)>")
_SEXED = re.compile(r"\[([^\[\]|]*)\|([^\[\]|]*)\]")
_FIELD = re.compile(r"\{([a-z0-9_]+)\}")
_PER_WEIGHT = 9


def _study(rng: random.Random, patient: Patient) -> Pieces:
    return [Piece(forms.date_text(rng, patient, patient.study), "study date", True)]


def _prior(rng: random.Random, patient: Patient) -> Pieces:
    if patient.prior is None:
        return [Piece(forms.other_date(rng, patient), "other date")]
    return [Piece(forms.date_text(rng, patient, patient.prior), "study date", True)]


_FIELDS: dict[str, Callable[[random.Random, Patient], Pieces]] = {
    "full": forms.full_name,
    "head": forms.header_name,
    "fam": forms.family_alone,
    "giv": forms.given_alone,
    "last": forms.family_field,
    "first": forms.given_alone,
    "file": forms.file_name,
    "maiden": forms.maiden_name,
    "ini": forms.initials,
    "dr": forms.staff,
    "man": lambda rng, patient: forms.relative(rng, patient, True),
    "woman": lambda rng, patient: forms.relative(rng, patient, False),
    "id": lambda rng, patient: [Piece(forms.number_text(rng, patient.patient_id), "patient id", True)],
    "acc": lambda rng, patient: [Piece(forms.number_text(rng, patient.accession), "accession", True)],
    "dob": lambda rng, patient: [Piece(forms.date_text(rng, patient, patient.birth), "birth date", True)],
    "study": _study,
    "iso": lambda rng, patient: [Piece(f"{patient.study:%Y-%m-%d}", "study date", True)],
    "short": lambda rng, patient: [Piece(forms.short_date(rng, patient, patient.study), "study date", True)],
    "range": lambda rng, patient: forms.range_text(patient),
    "prior": _prior,
    "other": lambda rng, patient: [Piece(forms.other_date(rng, patient), "other date")],
    "age": lambda rng, patient: [Piece(str((patient.study - patient.birth).days // 365))],
    "year": lambda rng, patient: [Piece(str(patient.study.year - rng.randint(1, 9)))],
    "time": lambda rng, patient: [Piece(f"{rng.randint(7, 22):02}:{rng.randint(0, 59):02}")],
    "mm": lambda rng, patient: [Piece(str(rng.randint(3, 38)))],
    "n": lambda rng, patient: [Piece(str(rng.randint(2, 9)))],
}


def _choose(rng: random.Random, text: str, male: bool) -> str:
    text = _SEXED.sub(lambda match: match.group(1 if male else 2), text)
    while match := _CHOICE.search(text):
        text = text[: match.start()] + rng.choice(match.group(1).split("|")) + text[match.end() :]
    return text


def _fill(rng: random.Random, template: str, patient: Patient) -> Pieces:
    """The template's pieces; findings and the like are themselves templates."""
    fillers = LANGUAGES[patient.language].FILLERS
    text = _choose(rng, template, patient.male)
    pieces: Pieces = []
    end = 0
    for match in _FIELD.finditer(text):
        pieces.append(Piece(text[end : match.start()]))
        name, end = match.group(1), match.end()
        if name in fillers:
            pieces += _fill(rng, rng.choice(fillers[name]), patient)
        else:
            pieces += _FIELDS[name](rng, patient)
    return [*pieces, Piece(text[end:])]


def _assemble(template: str, patient: Patient, pieces: Pieces) -> Case:
    text = ""
    counted: list[Span] = []
    residual: list[Span] = []
    for piece in pieces:
        if piece.kind:
            target = counted if piece.counted else residual
            target.append(Span(len(text), len(text) + len(piece.text), piece.kind))
        text += piece.text
    return Case(template, patient.language, text, patient.anchors, tuple(counted), tuple(residual))


def _whole_text(rng: random.Random, pieces: Pieces, language: str) -> Pieces:
    """Some systems keep capitals only, some lose every mark, some people type no capitals."""
    draw = rng.random()
    if draw < (0.09 if language == "en" else 0.03):
        return [piece._replace(text=piece.text.upper()) for piece in pieces]
    if draw > 0.98:
        return [piece._replace(text=piece.text.lower()) for piece in pieces]
    if draw < 0.08 and language != "en":
        return [piece._replace(text=strip_marks(piece.text)) for piece in pieces]
    return pieces


@functools.cache
def cases() -> tuple[Case, ...]:
    """Every template as often as its weight says."""
    made: list[Case] = []
    for index, (language, module) in enumerate(LANGUAGES.items()):
        rng = random.Random(7_050_119 + index)
        for name, (weight, template) in module.TEMPLATES.items():
            for _ in range(weight * _PER_WEIGHT):
                region = name[-2:] if name in ("letter-us", "letter-uk") else ""
                patient = make_patient(rng, language, name.endswith("child"), region)
                pieces = _whole_text(rng, _fill(rng, template, patient), language)
                made.append(_assemble(f"{language}-{name}", patient, pieces))
    return tuple(made)


def words(text: str) -> set[str]:
    """Folded words of two or more characters."""
    return {word for word in re.split(r"[\W_^]+", strip_marks(text).lower()) if len(word) > 1}


def name_words(anchors: Anchors) -> set[str]:
    """The anchors' name words that mean the patient: no particles, no titles."""
    return words(" ".join(anchors.names)) - PARTICLES - TITLES


def _holds(text: str, anchors: Anchors) -> bool:
    """Whether a clean text would by chance hold a name, a number or a date's day and month."""
    if name_words(anchors) & words(text) or any(number in text for number in anchors.identifiers):
        return True
    for date in anchors.dates:
        month, day = int(date[4:6]), int(date[6:])
        pairs = rf"0?{day}[/.-]0?{month}|0?{month}[/.-]0?{day}"
        if date in text or re.search(rf"(?<!\d)(?:{pairs})(?!\d)", text):
            return True
    return False


@functools.cache
def clean_texts() -> tuple[Case, ...]:
    """Two to five ordinary sentences each, about a patient whom nothing in the text names."""
    made: list[Case] = []
    for index, (language, count) in enumerate(CLEAN_COUNTS.items()):
        rng = random.Random(7_050_191 + index)
        for _ in range(count):
            text = fifth_phi_clean.clean_text(rng, language)
            patient = make_patient(rng, language)
            while _holds(text, patient.anchors):
                patient = make_patient(rng, language)
            made.append(Case(f"{language}-clean", language, text, patient.anchors, (), ()))
    return tuple(made)
