"""The third set of report texts for the check of patients' identifiers, written without knowledge of the check or of
earlier sets: made-up patients in English, German, Dutch, French and Spanish, each text with the header's anchors, the
exact places of the patient's own identifiers (`spans`, counted) and of other people and dates (`residual`, measured
only). `clean_texts` hold no identifier of their anchors. Every build gives the same texts."""

from __future__ import annotations

import functools
import re
from dataclasses import replace
from random import Random

from site_client.phi.anchors import Anchors
from tests.site_client.phi_cases import Case, Span
from tests.site_client.third_phi_clean import CLEAN
from tests.site_client.third_phi_de_nl import DUTCH, GERMAN
from tests.site_client.third_phi_en import TEMPLATES
from tests.site_client.third_phi_filler import FILLER
from tests.site_client.third_phi_forms import MONTHS
from tests.site_client.third_phi_fr_es import FRENCH, SPANISH
from tests.site_client.third_phi_people import Person, header_name, make_person, other_header_name, plain, written_out
from tests.site_client.third_phi_render import Piece, forms_of, render

LANGUAGES = {"en": TEMPLATES, "de": GERMAN, "nl": DUTCH, "fr": FRENCH, "es": SPANISH}
PER_TEMPLATE = {"en": 34, "de": 23, "nl": 23, "fr": 23, "es": 23}
CLEAN_PER_LANGUAGE = 112
INITIALS = {"inits", "initsgap", "initsbare"}
_SMALL = {"van", "den", "der", "von", "vom", "zu", "de", "la", "del", "los", "du", "le", "ten", "in", "op", "el", "ben"}


def _anchors(person: Person, forms: set[str], rng: Random) -> Anchors:
    """The header's names, numbers and dates; what the template may write is always among them."""
    hidden = not forms & (INITIALS | {"given", "GIVEN"})
    names = [header_name(person, rng, initials=hidden)]
    if "maiden" in forms or rng.random() < 0.05:
        names.append(other_header_name(person, rng))
    dates = [f"{person.born:%Y%m%d}", f"{person.study:%Y%m%d}"]
    if forms & {"prior", "priornum", "priorday"} or rng.random() < 0.25:
        dates.append(f"{person.prior:%Y%m%d}")
    return Anchors(names=tuple(names), identifiers=(person.pid, person.accession), dates=tuple(dates))


def _fits(template: str, person: Person) -> bool:
    """Whether the examination suits the patient's sex and age."""
    age = (person.study - person.born).days / 365
    if template == "en-peds":
        return age < 16
    if template == "en-obstetric":
        return not person.male and 18 < age < 45
    return template != "en-mammo-letter" or (not person.male and age > 40)


def _known_middle(person: Person, anchors: Anchors) -> bool:
    """Whether the header holds the middle name or its initial."""
    spelled = [way(name).lower() for name in anchors.names for way in (plain, written_out)]
    tokens = {token for name in spelled for token in re.findall(r"\w+", name)}
    middle = re.findall(r"\w+", person.middle.lower())
    return bool(middle) and bool({plain(middle[0]), written_out(middle[0]), plain(middle[0])[0]} & tokens)


def _wrapped(text: str, width: int) -> str:
    """The text with spaces turned into line ends at a terminal's width, every character in its place."""
    out, column, blank = list(text), 0, -1
    for at, char in enumerate(text):
        column = 0 if char == "\n" else column + 1
        blank = at if char == " " else -1 if char == "\n" else blank
        if column > width and blank >= 0:
            out[blank], column, blank = "\n", at - blank, -1
    return "".join(out)


def _case(template: str, language: str, pieces: list[Piece], anchors: Anchors) -> Case:
    spans: list[Span] = []
    residual: list[Span] = []
    at = 0
    for piece in pieces:
        if piece.kind:
            (spans if piece.own else residual).append(Span(at, at + len(piece.text), piece.kind))
        at += len(piece.text)
    text = "".join(piece.text for piece in pieces)
    return Case(template, language, text, anchors, tuple(spans), tuple(residual))


@functools.cache
def cases() -> tuple[Case, ...]:
    """Every text that holds identifiers of its patient."""
    found: list[Case] = []
    for language, templates in LANGUAGES.items():
        for name, template in templates.items():
            forms = forms_of(template)
            for number in range(PER_TEMPLATE[language]):
                rng = Random(f"third {name} {number}")
                person = make_person(language, rng)
                while not _fits(name, person):
                    person = make_person(language, rng)
                anchors = _anchors(person, forms, rng)
                if forms & INITIALS and not _known_middle(person, anchors):
                    person = replace(person, middle="")
                case = _case(name, language, render(template, person, rng), anchors)
                found.append(replace(case, text=_wrapped(case.text, 76)) if rng.random() < 0.07 else case)
    return tuple(found)


def _folded(text: str) -> str:
    """Written-out umlauts back to one letter, so that Huebsch, Hübsch and Hubsch meet."""
    return re.sub("([aou])e", r"\1", plain(text.lower()))


def anchor_words(anchors: Anchors) -> set[str]:
    """The words of the header's names without particles and initials, lower-case, accents dropped or written out."""
    words = {
        w
        for name in anchors.names
        for way in (plain, written_out, _folded)
        for w in re.findall(r"\w+", way(name).lower())
    }
    return {w for w in words if len(w) > 1} - _SMALL


def text_words(text: str) -> set[str]:
    """The words of a text, lower-case, accents dropped or written out."""
    return {w for way in (plain, written_out, _folded) for w in re.findall(r"[^\W\d]+", way(text).lower())}


def _clean_text(language: str, rng: Random) -> tuple[str, str]:
    filler = FILLER[language]
    extra = tuple(line.strip() for line in CLEAN[language].splitlines())
    lines = rng.sample(extra, rng.randint(2, 5)) + rng.sample(filler.findings, rng.randint(1, 4))
    rng.shuffle(lines)
    shape = rng.randrange(4)
    body = " ".join(lines)
    exam, end = rng.choice(filler.exams), rng.choice(filler.impressions)
    headings = {"en": "FINDINGS: IMPRESSION:", "de": "Befund: Beurteilung:", "nl": "Bevindingen: Conclusie:",
                "fr": "Résultats: Conclusion:", "es": "Hallazgos: Conclusión:"}[language].split()  # fmt: skip
    text = (
        body,
        f"{exam}\n\n{headings[0]} {body}\n{headings[1]} {end}",
        "\n".join(f"- {line}" for line in lines) + f"\n{headings[1]} {end}",
        f"{exam.upper()}. {body} {end}",
    )[shape]
    return f"{language}-clean-{('body', 'sections', 'list', 'paragraph')[shape]}", text


@functools.cache
def clean_texts() -> tuple[Case, ...]:
    """Ordinary texts that hold nothing of their anchors."""
    found: list[Case] = []
    for language in MONTHS:
        for number in range(CLEAN_PER_LANGUAGE):
            rng = Random(f"third clean {language} {number}")
            name, text = _clean_text(language, rng)
            while True:
                anchors = _anchors(make_person(language, rng), set(), rng)
                if not anchor_words(anchors) & text_words(text):
                    break
            found.append(Case(name, language, text, anchors, (), ()))
    return tuple(found)
