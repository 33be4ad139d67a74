"""The small language of the fourth set's templates: "[a|b]" is a choice, "{N}" and its like a
field, "¦" an upright bar. Rendering draws
the choices, writes the fields and keeps where each identifier lies; at times it breaks the lines or prints capitals."""

from __future__ import annotations

import random
import re
from datetime import date, timedelta
from typing import NamedTuple

from tests.site_client import fourth_phi_dates as dates
from tests.site_client.fourth_phi_findings import BANKS
from tests.site_client.fourth_phi_names import Piece, Writer
from tests.site_client.fourth_phi_people import Person

CHOICE = re.compile(r"\[([^\[\]]*)\]")
FIELD = re.compile(r"\{([A-Za-z]+\d?|s:[^{}]*)\}")

RANGES = {  # the form, the first number's range; a second number is a digit
    "mm": ("{}", 3, 29), "cm": ("{}.{}", 1, 9), "ser": ("{}", 2, 9), "img": ("{}", 12, 260), "hr": ("{}", 7, 22),
    "min": ("{:02d}", 0, 60), "dlp": ("{}", 95, 890), "num": ("{}", 2, 10),
}  # fmt: skip
PICKS = {
    "lvl": "C5/C6|L4/L5|C6/C7|L5/S1|L3/L4", "pow": "4/5|5/5|3/5|4+/5|2/5", "dose": "5|10|20|40|75",
    "seg": "II|III|IVa|IVb|V|VI|VII|VIII", "ml": "80|90|100|120",
    "tnm": "pT2 pN0|pT1c pN0 M0|cT3 cN1 M0|pT3 pN1a|cT2b N0 M0",
}  # fmt: skip
AMERICAN = {"haemorrhage": "hemorrhage", "ischaemic": "ischemic", "oedema": "edema", "Visualised": "Visualized"}


class Template(NamedTuple):
    """A text's pattern: its name, the region it comes from, how many texts are made of it."""

    name: str
    region: str
    count: int
    body: str
    child: bool = False


def choices(rng: random.Random, body: str) -> str:
    """The body with every choice drawn, the innermost first."""
    while found := CHOICE.search(body):
        body = body[: found.start()] + rng.choice(found[1].split("|")) + body[found.end() :]
    return body


class Renderer:
    """Fills one template for one patient."""

    def __init__(self, rng: random.Random, person: Person, patient_id: str, accession: str) -> None:
        self.rng, self.person, self.names = rng, person, Writer(rng, person)
        self.patient_id, self.accession = patient_id, accession
        self.form = dates.choose(rng, dates.FORMS[person.region])
        self.bank = BANKS[dates.language(person.region)]
        self.told: set[str] = set()
        self.fields = {
            "N": self.names.full, "NH": lambda: self.names.full(head=True), "TF": self.names.titled,
            "F": self.names.surname, "G": self.names.first_name, "I": self.names.letters, "DR": self.names.doctor,
            "ST": self.names.colleague,
            "REL": lambda: self.names.relative(not person.male), "MUM": lambda: self.names.relative(False),
            "RANGE": self._range,
            "ID": lambda: self._number(self.patient_id, "patient id"),
            "ACC": lambda: self._number(self.accession, "accession"),
            "DOB": lambda: [Piece(self._date(person.birth), "birth date", "span")],
            "SD": lambda: [Piece(self._date(person.study), "study date", "span")],
            "SDs": lambda: [Piece(self._date(person.study, short=True), "study date", "span")],
            "PD": self._prior, "PDs": lambda: self._prior(short=True),
            "STAMP": lambda: [Piece(f"{person.study:%Y%m%d}", "study date", "span")],
            "NICK": lambda: [Piece(rng.choice(("Skip", "Buddy", "Dot", "Bunny")), "not in the header", "residual")],
            "OD": self._other_day, "MY": self._month, "AGE": lambda: [Piece(str(self._age()))],
        }  # fmt: skip

    def _number(self, number: str, kind: str) -> list[Piece]:
        return [Piece(dates.write_number(self.rng, number), kind, "span")]

    def _age(self) -> int:
        study, birth = self.person.study, self.person.birth
        return study.year - birth.year - ((study.month, study.day) < (birth.month, birth.day))

    def _date(self, day: date, short: bool = False) -> str:
        region = self.person.region
        if short and self.rng.random() < 0.4:
            return dates.write(dates.choose(self.rng, dates.YEARLESS[region]), region, day)
        form = self.form if self.rng.random() < 0.6 else dates.choose(self.rng, dates.FORMS[region])
        return dates.write(form, region, day)

    def _prior(self, short: bool = False) -> list[Piece]:
        text = self._date(self.person.prior, short)
        return [Piece(text, "study date", "span") if self.person.prior_known else Piece(text, "other date", "residual")]

    def _range(self) -> list[Piece]:
        """Both dates in one where they lie in one month, else side by side."""
        prior, study, region = self.person.prior, self.person.study, self.person.region
        if (prior.year, prior.month) != (study.year, study.month):
            return [*self._prior(), Piece(" - "), Piece(self._date(study), "study date", "span")]
        whole = dates.write(dates.SPAN_OF_DAYS[region].replace("{first}", str(prior.day)), region, study)
        if self.person.prior_known:
            return [Piece(whole, "study date", "span")]
        return [Piece(dates.write(dates.choose(self.rng, dates.FORMS[region]), region, study), "study date", "span")]

    def _other_day(self) -> list[Piece]:
        day = self.person.study + timedelta(days=self.rng.choice((-1, 1)) * self.rng.randrange(3, 90))
        day = day + timedelta(days=1) if day in (self.person.prior, self.person.birth) else day
        return [Piece(self._date(day), "other date", "residual")]

    def _month(self) -> list[Piece]:
        region, day = self.person.region, self.person.prior
        link = " de " if region == "es" else " "
        month = dates.MONTHS[dates.language(region)].split()[day.month - 1]
        return [Piece(f"{month}{link}{day.year}", "month and year", "residual")]

    def _plain(self, key: str) -> str:
        """A field without an identifier: sentences of a bank, measures, times."""
        rng = self.rng
        if key.startswith("s:"):
            return key[2:].split("/")[0 if self.person.male else 1]
        if key in RANGES:
            form, low, high = RANGES[key]
            return form.format(rng.randrange(low, high), rng.randrange(10))
        if key in PICKS:
            return rng.choice(PICKS[key].split("|"))
        bank, count = (key[:-1], int(key[-1])) if key[-1].isdigit() else (key, 1)
        return " ".join(self._sentence(bank) for _ in range(count))

    def _sentence(self, bank: str) -> str:
        open_ones = [line for line in self.bank[bank] if line not in self.told] or list(self.bank[bank])
        line = self.rng.choice(open_ones)
        self.told.add(line)
        return choices(self.rng, line)

    def pieces(self, body: str) -> list[Piece]:
        """The body's pieces, fields inside sentences filled as well."""
        row, at = [], 0
        for found in FIELD.finditer(body):
            row.append(Piece(body[at : found.start()]))
            key, at = found[1], found.end()
            row.extend(self.fields[key]() if key in self.fields else self.pieces(self._plain(key)))
        row.append(Piece(body[at:]))
        return row

    def render(self, body: str) -> list[Piece]:
        row = [piece._replace(text=piece.text.replace("¦", "|")) for piece in self.pieces(choices(self.rng, body))]
        if self.person.region == "us":
            row = [piece if piece.status else piece._replace(text=_american(piece.text)) for piece in row]
        if self.person.region == "us" and self.rng.random() < 0.06:
            row = [piece._replace(text=piece.text.upper()) for piece in row]
        while row and not row[-1].text.rstrip():
            row.pop()
        return _capital([*row[:-1], row[-1]._replace(text=row[-1].text.rstrip())])


def _american(text: str) -> str:
    for british, american in AMERICAN.items():
        text = text.replace(british, american)
    return text


def _capital(row: list[Piece]) -> list[Piece]:
    """A capital where a line or a sentence begins with a plain piece, such as a title."""
    text, done = "", []
    for piece in row:
        if not piece.status and piece.text[:1].islower() and (not text or text.endswith((". ", "\n\n"))):
            head = text.rstrip().rsplit(None, 1)[-1:] or [""]
            if not text or text.endswith("\n\n") or len(head[0]) > 5:
                piece = piece._replace(text=piece.text[0].upper() + piece.text[1:])
        text += piece.text
        done.append(piece)
    return done


def wrap(text: str, width: int) -> str:
    """Hard line breaks in the place of spaces, so that nothing moves."""
    lines = []
    for line in text.split("\n"):
        while len(line) > width and " " in line[1:width]:
            cut = line.rindex(" ", 1, width)
            lines.append(line[:cut])
            line = line[cut + 1 :]
        lines.append(line)
    return "\n".join(lines)
