"""A fourth set of invented reports for the check of identifiers in free text, written without a look at the check or
at earlier sets: five languages, the writings of names, numbers and dates that hospitals really use with about their
real weight, and clean texts that hold none. `cases` marks the patient's own identifiers (counted), and other people's
names, dates that no header holds and names that the header lacks (residual: measured, never counted)."""

from __future__ import annotations

import functools
import random
import re

from site_client.phi.anchors import Anchors
from tests.site_client import (
    fourth_phi_dutch,
    fourth_phi_english,
    fourth_phi_french,
    fourth_phi_german,
    fourth_phi_spanish,
)
from tests.site_client.fourth_phi_dates import accession_number, language, patient_number
from tests.site_client.fourth_phi_names import Piece
from tests.site_client.fourth_phi_people import Person, draw_person, strip, write_out
from tests.site_client.fourth_phi_render import Renderer, Template, wrap
from tests.site_client.phi_cases import Case, Span

TEMPLATES: tuple[Template, ...] = (
    *fourth_phi_english.TEMPLATES, *fourth_phi_german.TEMPLATES, *fourth_phi_dutch.TEMPLATES,
    *fourth_phi_french.TEMPLATES, *fourth_phi_spanish.TEMPLATES,
)  # fmt: skip
CLEAN = {
    "en": ("FINDINGS: {find3} {more2}\nIMPRESSION: {imp}", "{exam}. {cc}. {tech} {find2} {more}", "{more3} {imp}"),
    "de": ("Befund: {find3} {more2}\nBeurteilung: {imp}", "{exam}. {cc}. {tech} {find2} {more}", "{more3} {imp}"),
    "nl": ("Verslag: {find3} {more2}\nConclusie: {imp}", "{exam}. {cc}. {tech} {find2} {more}", "{more3} {imp}"),
    "fr": ("Résultat : {find3} {more2}\nConclusion : {imp}", "{exam}. {cc}. {tech} {find2} {more}", "{more3} {imp}"),
    "es": ("Hallazgos: {find3} {more2}\nConclusión: {imp}", "{exam}. {cc}. {tech} {find2} {more}", "{more3} {imp}"),
}
CLEAN_COUNTS = {"us": 140, "uk": 140, "de": 75, "nl": 75, "fr": 75, "es": 75}


def words(text: str) -> set[str]:
    """The words of a text in small letters without accents, with umlauts dropped and written out."""
    return {word for fold in (strip, write_out) for word in re.findall(r"[a-z]{2,}", fold(text).lower())}


def _anchors(person: Person, patient_id: str, accession: str) -> Anchors:
    days = [person.birth, person.study, *([person.prior] if person.prior_known else [])]
    return Anchors(person.headers, (patient_id, accession), tuple(f"{day:%Y%m%d}" for day in days))


def _draw(rng: random.Random, region: str, child: bool = False) -> tuple[Renderer, Anchors]:
    person = draw_person(rng, region, child)
    patient_id = patient_number(rng, region)
    accession = accession_number(rng, region, person.study.year)
    return Renderer(rng, person, patient_id, accession), _anchors(person, patient_id, accession)


def _case(template: str, region: str, pieces: list[Piece], anchors: Anchors, rng: random.Random) -> Case:
    found: dict[str, list[Span]] = {"span": [], "residual": []}
    at = 0
    for piece in pieces:
        if piece.status and piece.text:
            found[piece.status].append(Span(at, at + len(piece.text), piece.kind))
        at += len(piece.text)
    text = "".join(piece.text for piece in pieces)
    if rng.random() < 0.07:
        text = wrap(text, rng.choice((60, 72, 80)))
    return Case(template, language(region), text, anchors, tuple(found["span"]), tuple(found["residual"]))


@functools.cache
def cases() -> tuple[Case, ...]:
    """The texts with identifiers, the same at every call."""
    made = []
    for index, template in enumerate(TEMPLATES):
        for turn in range(template.count):
            rng = random.Random(4_000_000 + 1_000 * index + turn)
            renderer, anchors = _draw(rng, template.region, template.child)
            made.append(_case(template.name, template.region, renderer.render(template.body), anchors, rng))
    return tuple(made)


@functools.cache
def clean_texts() -> tuple[Case, ...]:
    """Texts that hold nothing of their patient: no name, number or date."""
    made = []
    for place, (region, count) in enumerate(CLEAN_COUNTS.items()):
        for turn in range(count):
            rng = random.Random(4_900_000 + 1_000 * place + turn)
            pattern = rng.choice(CLEAN[language(region)])
            while True:
                renderer, anchors = _draw(rng, region)
                case = _case(f"clean {region}", region, renderer.render(pattern), anchors, rng)
                if not words(" ".join(anchors.names)) & words(case.text):
                    break
            made.append(case)
    return tuple(made)
