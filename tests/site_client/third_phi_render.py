"""Turns a template of the third set and a made-up patient into pieces of text, each with the kind of identifier that it
is. Slots are read from left to right; names are spelled with accents, without, or with umlauts written out, one way per
text, as one system would; some texts come out wholly in capitals."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date, timedelta
from random import Random

from tests.site_client.third_phi_filler import FILLER
from tests.site_client.third_phi_forms import KINDS, NAME_FORMS, identifier, numeric_date
from tests.site_client.third_phi_people import FEMALE, KIN_FEMALE, KIN_MALE, MALE, STAFF, Person, plain, written_out

SLOT = re.compile(r"\{([^{}]*)\}")


@dataclass(frozen=True, slots=True)
class Piece:
    """A run of text; `kind` is empty for text that identifies nobody, `own` tells the patient's from other people's."""

    text: str
    kind: str = ""
    own: bool = False


def forms_of(template: str) -> set[str]:
    """Every identifier form that the template may ask for."""
    return {form for slot in SLOT.findall(template) for form in slot.split("|") if form in KINDS}


def _some(rng: Random, lines: tuple[str, ...], count: int) -> str:
    return " ".join(rng.sample(lines, count))


def _other_date(p: Person, rng: Random) -> date:
    day = p.study + rng.choice((-1, 1)) * timedelta(days=rng.randint(4, 700))
    return day if day not in (p.prior, p.born) else day + timedelta(days=1)


def _filler(slot: str, p: Person, rng: Random) -> str | None:
    filler = FILLER[p.language]
    if slot[:2] in ("g:", "c:"):
        options = slot[2:].split("~")
        return (options[0] if p.male else options[1]) if slot[0] == "g" else rng.choice(options)
    if slot in ("f", "f2", "f3"):
        return _some(rng, filler.findings, int(slot[1:] or 1) + (rng.randrange(3) if slot == "f3" else 0))
    simple = {"imp": filler.impressions, "ind": filler.indications, "exam": filler.exams}
    if slot in simple:
        return rng.choice(simple[slot])
    if slot == "age":
        return str(max(1, (p.study - p.born).days // 365))
    if slot == "time":
        return f"{rng.randint(7, 22):02}{'h' if p.language == 'fr' else ':'}{rng.randrange(60):02}"
    if slot == "gen":
        return "'" if p.family[-1] in "sßzx" else "s"
    if slot == "suf":
        return f" {p.suffix}" if p.suffix else ""
    return None


def _other(slot: str, p: Person, rng: Random) -> Piece:
    """Other people and dates that no header holds."""
    staff = STAFF[p.language].split()
    if slot == "odate":
        return Piece(numeric_date(_other_date(p, rng), p, rng), "other date")
    if slot in ("kin", "kinf"):
        kin = KIN_FEMALE if slot == "kinf" or p.male else KIN_MALE
        return Piece(rng.choice(kin[p.language].split()), "other person")
    name = rng.choice(staff)
    if slot == "doc":
        taken = set(re.findall(r"\w+", f"{p.given} {p.middle} {p.family} {p.maiden}"))
        givens = (*FEMALE[p.language].split(), *MALE[p.language].split())
        pool = [g for g in givens if not taken & set(re.findall(r"\w+", g))]
        name = f"{rng.choice(pool)} {name}"
    return Piece(name, "other person")


def _spelled(text: str, way: str) -> str:
    return {"plain": plain, "written": written_out}[way](text) if way else text


def render(template: str, p: Person, rng: Random) -> list[Piece]:
    """The pieces of one text."""
    draw = rng.random()
    way = "" if draw < 0.62 else "written" if p.language == "de" and draw < 0.85 else "plain"
    apostrophe = rng.choice(("'", "'", "'", "\u2019"))
    pieces: list[Piece] = []
    at = 0
    for match in SLOT.finditer(template):
        pieces.append(Piece(template[at : match.start()]))
        at = match.end()
        slot = match.group(1)
        text = _filler(slot, p, rng)
        if text is not None:
            pieces.append(Piece(text))
            continue
        form = rng.choice(slot.split("|"))
        if form in KINDS:
            found = identifier(form, p, rng)
            if form in NAME_FORMS:
                found = _spelled(found, way).replace("'", apostrophe)
            pieces.append(Piece(found, KINDS[form], own=True))
        else:
            pieces.append(_other(form, p, rng))
    pieces.append(Piece(template[at:]))
    if "lower" in forms_of(template):
        pieces = [Piece(x.text.lower(), x.kind, x.own) for x in pieces]
    elif rng.random() < 0.06:
        pieces = [Piece(x.text.upper(), x.kind, x.own) for x in pieces]
    if rng.random() < 0.06:
        pieces = [Piece(x.text.replace("\n", "\r\n"), x.kind, x.own) for x in pieces]
    return [x for x in pieces if x.text]
