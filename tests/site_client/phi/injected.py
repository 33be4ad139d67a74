"""Made-up patients, and ways to write what is known of them into a real report.

The templates were written before the checker's rules were tuned against them, but by the same author: figures from them
say what the forms listed here give, not what a hospital's own habits would.
"""

from __future__ import annotations

import random
import re
import tarfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from pathlib import Path
from xml.etree import ElementTree

from site_client.phi.anchors import Anchors
from site_client.phi.check import Hit

WJ, NBSP, SHY = "\u200d", "\u00a0", "\u00ad"
HERE = Path(__file__).parent
TITLES = ("Mr.", "Mrs.", "Ms.", "Herr", "Frau", "Mme", "Sra.", "Mevr.")
MONTHS = {
    "en": "January February March April May June July August September October November December",
    "de": "Januar Februar März April Mai Juni Juli August September Oktober November Dezember",
    "fr": "janvier février mars avril mai juin juillet août septembre octobre novembre décembre",
    "es": "enero febrero marzo abril mayo junio julio agosto septiembre octubre noviembre diciembre",
    "nl": "januari februari maart april mei juni juli augustus september oktober november december",
}


@cache
def names(kind: str) -> tuple[str, ...]:
    """``given`` or ``family`` names of the fixture, in the file's order."""
    return tuple(dict.fromkeys((HERE / f"{kind}_names.txt").read_text(encoding="utf-8").split()))


@cache
def real_reports() -> tuple[str, ...]:
    """FINDINGS and IMPRESSION of each of the 3,955 reports that torchxrayvision installs, "" where one is missing."""
    (archive,) = (file.locate() for file in metadata.files("torchxrayvision") or ()
                  if file.name == "NLMCXR_reports.tgz")
    texts = []
    with tarfile.open(str(archive)) as tar:
        for member in tar:
            if (stream := tar.extractfile(member)) is not None and member.name.endswith(".xml"):
                root = ElementTree.fromstring(stream.read())
                parts = {node.get("Label"): " ".join((node.text or "").split()) for node in root.iter("AbstractText")}
                texts.append(f"{parts.get('FINDINGS', '')}\n{parts.get('IMPRESSION', '')}")
    return tuple(texts)


@dataclass(frozen=True)
class Patient:
    given: str
    family: str
    number: str
    accession: str
    birth: tuple[int, int, int]
    study: tuple[int, int, int]

    @property
    def anchors(self) -> Anchors:
        return Anchors((f"{self.family}^{self.given}",), (self.number, self.accession),
                       tuple(f"{year}{month:02}{day:02}" for year, month, day in (self.birth, self.study)))


def patient(rng: random.Random) -> Patient:
    """Somebody made up, with an identifier of four to ten characters."""
    digits = rng.choice((4, 5, 6, 7, 8, 10))
    number = rng.choice(("", "", "P", "MRN-", "00")) + str(rng.randrange(10 ** (digits - 1), 10**digits))
    accession = rng.choice(("A", "", "RAD-", "2023-")) + str(rng.randrange(10**6, 10**7))
    birth = rng.randrange(1925, 2018), rng.randrange(1, 13), rng.randrange(1, 29)
    study = rng.randrange(2005, 2025), rng.randrange(1, 13), rng.randrange(1, 29)
    return Patient(rng.choice(names("given")), rng.choice(names("family")), number, accession, birth, study)


Form = Callable[[Patient, random.Random], str]

FULL_NAME: dict[str, Form] = {
    "Given Family": lambda p, r: f"<{p.given} {p.family}> was examined.",
    "Family, Given": lambda p, r: f"Patient: <{p.family}, {p.given}>",
    "FAMILY, GIVEN": lambda p, r: f"RE: <{p.family.upper()}, {p.given.upper()}>",
    "all lower case": lambda p, r: f"history of <{p.given.lower()} {p.family.lower()}> reviewed",
    "Given M. Family": lambda p, r: f"We saw <{p.given} {r.choice('ABCDEFGHIJ')}. {p.family}> in clinic.",
    "title + family": lambda p, r: f"{r.choice(TITLES)} <{p.family}> reports pain.",
    "G. Family": lambda p, r: f"Findings were explained to {p.given[0]}. <{p.family}> by telephone.",
    "Family, G.": lambda p, r: f"<{p.family}>, {p.given[0]}. Follow-up in six weeks.",
    "GIVEN FAMILY in capitals": lambda p, r: f"THIS IS A STUDY OF <{p.given.upper()} {p.family.upper()}> AT REST.",
    "FAMILY^GIVEN": lambda p, r: f"Series of <{p.family.upper()}^{p.given.upper()}> compared.",
    "over a line end": lambda p, r: f"The case of <{p.given}\n{p.family}> was discussed.",
    "zero-width joiners": lambda p, r: f"Discussed with <{WJ.join(p.given)}{NBSP}{SHY.join(p.family)}>.",
    "name: Family": lambda p, r: f"Name: <{p.family}>",
}
LONE_NAME: dict[str, Form] = {
    "family's": lambda p, r: f"In <{p.family}>'s case this is new.",
    "family in a sentence": lambda p, r: f"the previous study of <{p.family}> showed the same.",
    "family presented": lambda p, r: f"<{p.family}> presented with a cough.",
    "given in a sentence": lambda p, r: f"as <{p.given}> told us on the ward.",
}


def _worded(day: tuple[int, int, int], rng: random.Random) -> str:
    language = rng.choice(tuple(MONTHS))
    name = MONTHS[language].split()[day[1] - 1]
    return {"en": f"{name} {day[2]}, {day[0]}", "de": f"{day[2]}. {name} {day[0]}", "fr": f"{day[2]} {name} {day[0]}",
            "es": f"{day[2]} de {name} de {day[0]}", "nl": f"{day[2]} {name} {day[0]}"}[language]


def _ordinal(day: int) -> str:
    return f"{day}{'th' if 10 < day < 14 else {1: 'st', 2: 'nd', 3: 'rd'}.get(day % 10, 'th')}"


def _english(day: tuple[int, int, int]) -> str:
    return MONTHS["en"].split()[day[1] - 1]


DATE: dict[str, Form] = {
    "2023-03-05": lambda p, r: f"Compared with <{p.study[0]}-{p.study[1]:02}-{p.study[2]:02}>.",
    "03/05/2023": lambda p, r: f"DOB <{p.birth[1]:02}/{p.birth[2]:02}/{p.birth[0]}>",
    "5.3.2023": lambda p, r: f"geb. <{p.birth[2]}.{p.birth[1]}.{p.birth[0]}>",
    "05-Mar-2023": lambda p, r: f"Prior of <{p.study[2]:02}-{_english(p.study)[:3]}-{p.study[0]}> available.",
    "in words": lambda p, r: f"Study of <{_worded(p.study, r)}>.",
    "March 5th, 2023": lambda p, r: f"Seen <{_english(p.study)} {_ordinal(p.study[2])}, {p.study[0]}> again.",
    "5 March 23": lambda p, r: f"Last film <{p.study[2]} {_english(p.study)} {p.study[0] % 100:02}> unchanged.",
    "20230305": lambda p, r: f"File <{p.study[0]}{p.study[1]:02}{p.study[2]:02}> loaded.",
    "3/5/23": lambda p, r: f"since <{p.study[1]}/{p.study[2]}/{p.study[0] % 100:02}> stable",
    "March 2023": lambda p, r: f"Born <{_english(p.birth)} {p.birth[0]}>.",
    "day and month": lambda p, r: f"The film of <{_english(p.study)} {p.study[2]}> is compared.",
    "born in": lambda p, r: f"born in <{p.birth[0]}>, otherwise healthy",
}
IDENTIFIER: dict[str, Form] = {
    "as it is": lambda p, r: f"MRN <{p.number}>.",
    "without keyword": lambda p, r: f"See <{p.accession}> for details.",
    "lower case": lambda p, r: f"acc# <{p.accession.lower()}>",
    "leading zeros": lambda p, r: f"ID: <000{p.number}>" if p.number.isdigit() else f"ID: <{p.number}>",
    "hyphens put in": lambda p, r: f"accession <{p.accession[:-4]}-{p.accession[-4:]}> reviewed",
    "blanks put in": lambda p, r: f"Accession <{p.accession[:-3]} {p.accession[-3:]}>.",
    "glued to its keyword": lambda p, r: f"MRN<{p.number.removeprefix('MRN-')}> on file",
}
KINDS: dict[str, dict[str, Form]] = {
    "full name or in context": FULL_NAME, "lone name": LONE_NAME, "date": DATE, "identifier": IDENTIFIER}


@dataclass(frozen=True)
class Injected:
    """A real report with one sentence more; characters [start, end) of it are what must be found."""

    form: str
    patient: Patient
    text: str
    start: int
    end: int


def injected(rng: random.Random, count: int, forms: dict[str, Form]) -> Iterator[Injected]:
    """The forms in turn, each for somebody else and in a real report drawn at random."""
    reports = real_reports()
    for k in range(count):
        form = tuple(forms)[k % len(forms)]
        who = patient(rng)
        before, needle, after = re.split("[<>]", forms[form](who, rng))
        sentences = rng.choice(reports).split(". ")
        place = rng.randrange(len(sentences) + 1)
        head = ". ".join(sentences[:place]) + "\n" + before
        yield Injected(form, who, f"{head}{needle}{after}\n{'. '.join(sentences[place:])}", len(head),
                       len(head) + len(needle))


def uncovered(case: Injected, hits: Sequence[Hit]) -> str:
    """Letters and digits of the needle that no hit covers; "" when all are found."""
    return "".join(char for at, char in enumerate(case.text) if case.start <= at < case.end and char.isalnum()
                   and not any(hit.start <= at < hit.end for hit in hits))
