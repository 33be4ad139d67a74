"""How people write a patient's name in the fourth set of texts: orders, capitals, initials, particles, halves of a
double surname, titles before it, accents dropped; each writing is a row of pieces that say what of it counts."""

from __future__ import annotations

import random
import re
from typing import NamedTuple

from tests.site_client.fourth_phi_people import Person, pick_family, pick_given, strip, write_out


class Piece(NamedTuple):
    """A stretch of text; `status` is "" (plain), "span" (counted) or "residual" (measured)."""

    text: str
    kind: str = ""
    status: str = ""


TITLE_COMPONENT = re.compile(r"\^+(DR|MR|MRS)\.?(\^.*)?$", re.IGNORECASE)
NAME, PART, UNKNOWN = "name", "name part", "not in the header"

# Orders and cases, by weight. G given, F family, i initial of the given name; capitals: "U" all, "S" surname, "l" none.
BODY = {
    "us": "G F|64;F, G|12;G F/U|5;G F/l|4;i F|6;F, i|2;F G|2;F, G/U|5",
    "uk": "G F|58;G F/S|8;F, G|6;i F|8;F, G/S|8;G F/U|6;F G|2;G F/l|2;F, i|2",
    "de": "G F|48;F, G|30;F G|6;i F|6;F, i|5;G F/U|2;F, G/U|3",
    "nl": "G F|42;i F|30;F, G|8;F, i|8;G F/U|3;F G|3;F, i/U|3;G F/l|1",
    "fr": "G F|20;G F/S|34;F G/S|25;F G/U|9;i F/S|5;F G|3;G F/U|4",
    "es": "G F|58;F, G|12;G F/U|13;F, G/U|9;F G|2;i F|4;G F/l|2",
}
HEAD = {
    "us": "F, G|34;F, G/U|36;G F|12;G F/U|7;F G/U|4;^|6;F,G/U|1",
    "uk": "F, G/S|26;F, G/U|22;G F|14;G F/U|12;F, G|18;F G/U|4;^|4",
    "de": "F, G|58;F, G/U|12;G F|16;F G|5;^|5;F,G|2;F, G/S|2",
    "nl": "F, i|22;i F|20;F, G|20;G F|14;F, G/U|8;F, i/U|6;^|6;G F/U|4",
    "fr": "F G/S|46;F G/U|22;G F/S|14;F, G/S|3;F G|5;^|5;G F|5",
    "es": "F, G/U|36;G F/U|22;G F|18;F, G|16;F G/U|4;^|4",
}
TITLES = {  # for men|for women
    "us": "Mr. Mr. Mr. Mr|Ms. Mrs. Mrs. Ms Miss", "uk": "Mr Mr Mr Mr.|Mrs Mrs Ms Miss Mrs.",
    "de": "Herr Herr Herr Hr.|Frau Frau Frau Fr.", "nl": "Dhr. dhr. De_heer Meneer|Mw. mw. Mevrouw Mevr. mevrouw",
    "fr": "M. Monsieur Mr M.|Mme Madame Mme Mme", "es": "Sr. Sr. Sr. Don D.|Sra. Sra. Sra. Dña. Doña",
}  # fmt: skip
BORN = {"us": "(née {})|nee {}", "uk": "(née {})|née {}", "de": "geb. {}|, geb. {}|geborene {}",
        "nl": "geb. {}|e.v. {}", "fr": "née {}|(née {})|ép. {}", "es": "{}"}  # fmt: skip


def _weighted(rng: random.Random, table: str) -> str:
    styles, weights = zip(*(entry.rsplit("|", 1) for entry in table.split(";")), strict=True)
    return str(rng.choices(styles, [int(weight) for weight in weights])[0])


def _tokens(name: str) -> set[str]:
    return set(strip(name).lower().replace("-", " ").split())


class Writer:
    """Writes one patient's name through one text: the same accents and apostrophes all through it."""

    def __init__(self, rng: random.Random, person: Person) -> None:
        self.rng = rng
        self.person = person
        draw = rng.random()
        out = 0.07 if person.region == "de" else 0.0
        drop = 0.12 if person.region in ("fr", "es", "nl") else 0.06 if person.region == "de" else 0.45
        self.fold = write_out if draw < out else strip if draw < out + drop else str
        self.apostrophe = rng.choices(("'", "’", ""), (62, 35, 3))[0]

    def spelled(self, text: str, case: str = "") -> str:
        text = self.fold(text).replace("'", self.apostrophe)
        return text.upper() if case == "U" else text.lower() if case == "l" else text

    def _hyphen(self, text: str) -> str:
        if "-" not in text or self.rng.random() < 0.84:
            return text
        return text.replace("-", self.rng.choice((" ", " ", " - ", "- ")))

    def _particle(self) -> str:
        particle = self.person.particle
        if particle in ("van den", "van der", "van de") and self.rng.random() < 0.12:
            return self.rng.choice(("v.d.", "v.d.", "v/d", "vd"))
        return particle

    def family(self, case: str = "", whole: float = 0.9, after_title: bool = False) -> str:
        """The family name: with its particle, whole or the first surname alone."""
        person, core = self.person, self.person.core
        if len(person.surnames) > 1 and self.rng.random() >= whole:
            core = person.surnames[0]
        core = self._hyphen(core)
        particle = self._particle()
        if after_title and person.region == "nl" and particle[:1].islower() and self.rng.random() < 0.7:
            particle = particle[0].upper() + particle[1:]
        glue = " " if particle and not particle.endswith("'") else ""
        return self.spelled(f"{particle}{glue}{core}", case)

    def initials(self) -> str:
        """Of the given names: "J.M.", "H.-J."."""
        parts = self.person.given.split()
        text = "".join("-".join(half[0] + "." for half in part.split("-")) for part in parts)
        return text + (self.person.middle[0] + "." if self.person.middle_known and self.rng.random() < 0.5 else "")

    def given(self, case: str = "") -> str:
        given = self.person.given
        if self.person.region == "es" and given.startswith("María ") and self.rng.random() < 0.2:
            given = self.rng.choice(("Mª ", "M.ª ", "Ma. ")) + given[6:]
        elif " " in given and self.person.region in ("es", "de", "us") and self.rng.random() < 0.1:
            given = given.split()[0]
        elif "-" in given and self.rng.random() < 0.1:
            given = given.replace("-", self.rng.choice((" ", "- ")))
        return self.spelled(given, case)

    def _middle(self, case: str, head: bool) -> Piece | None:
        person, draw = self.person, self.rng.random()
        if person.middle_known == "full" and draw < (0.75 if head else 0.4):
            return Piece(self.spelled(person.middle, case), NAME, "span")
        if person.middle_known and draw < (0.85 if head else 0.5):
            return Piece(self.spelled(person.middle[0], case) + self.rng.choice((".", ".", "")), NAME, "span")
        if not person.middle_known and person.middle and draw < 0.03 and not head:
            return Piece(self.spelled(person.middle, case), UNKNOWN, "residual")
        return None

    def _known_given(self, case: str, initial: bool, head: bool) -> list[Piece]:
        """The given names' pieces: one counted name, or what the header lacks apart from it."""
        person = self.person
        if initial or (person.initials_only and self.rng.random() < 0.9):
            return [Piece(self.spelled(self.initials(), case if case != "l" else ""), NAME, "span")]
        if person.initials_only:
            return [Piece(self.spelled(person.given, case), UNKNOWN, "residual")]
        given, middle = Piece(self.given(case), NAME, "span"), self._middle(case, head)
        if middle is None:
            return [given]
        if middle.status == "span":
            return [Piece(f"{given.text} {middle.text}", NAME, "span")]
        return [given._replace(kind=PART), Piece(" "), middle]

    def full(self, head: bool = False) -> list[Piece]:
        """A full name, as a letter's sentence or (head) as a header writes it."""
        person = self.person
        style = _weighted(self.rng, (HEAD if head else BODY)[person.region])
        if style == "^":
            name = TITLE_COMPONENT.sub("", person.headers[0].rstrip("^"))
            return [Piece(name, NAME, "span"), Piece(person.headers[0][len(name) :])]
        order, _, case = style.partition("/")
        small = "" if case == "S" else case
        family = self.family("U" if case == "S" else case, whole=0.97 if head else 0.85)
        if person.suffix and self.rng.random() < 0.6:
            family += " " + self.spelled(person.suffix.rstrip(".").title().replace("Iii", "III"), small)
        given = self._known_given(small, "i" in order, head)
        mark = order.strip("GFi")
        if order[0] == "F":
            row = [Piece(family, NAME, "span"), Piece(mark), *given]
        else:
            row = [*given, Piece(mark), Piece(family, NAME, "span")]
        row = self._joined(row)
        born = self.rng.random() < (0.5 if head else 0.12)
        return row + self._maiden("U" if case in ("U", "S") else "") if person.maiden and born else row

    def _joined(self, row: list[Piece]) -> list[Piece]:
        """One name where the whole of it is known, else the parts by themselves."""
        if any(piece.status == "residual" for piece in row):
            return [piece._replace(kind=PART) if piece.status == "span" else piece for piece in row]
        return [Piece("".join(piece.text for piece in row), NAME, "span")]

    def _maiden(self, case: str) -> list[Piece]:
        form = self.rng.choice(BORN[self.person.region].split("|"))
        before, _, after = form.partition("{}")
        before = before if before.startswith(",") else " " + before
        return [Piece(before), Piece(self.spelled(self.person.maiden, case), PART, "span"), Piece(after)]

    def title(self) -> str:
        choices = TITLES[self.person.region].split("|")[0 if self.person.male else 1].split()
        return self.rng.choice(choices).replace("_", " ")

    def titled(self) -> list[Piece]:
        """A title and the family name; in Spanish the courtesy "don" goes with the given name."""
        title, region = self.title(), self.person.region
        if title in ("Don", "Doña", "D.", "Dña."):
            if self.rng.random() < 0.3:
                return [Piece(title + " "), Piece(self.given(), PART, "span")]
            return [Piece(title + " "), Piece(f"{self.given()} {self.family(whole=0.7)}", NAME, "span")]
        upper = {"fr": 0.5, "uk": 0.05, "es": 0.06}.get(region, 0.03)
        case = "U" if self.rng.random() < upper else ""
        whole = 0.5 if region == "es" else 0.85
        return [Piece(title + " "), Piece(self.family(case, whole, after_title=True), PART, "span")]

    def surname(self) -> list[Piece]:
        upper = 0.5 if self.person.region == "fr" else 0.08
        return [Piece(self.family("U" if self.rng.random() < upper else "", 0.75), PART, "span")]

    def first_name(self) -> list[Piece]:
        if self.person.initials_only:
            return [Piece(self.spelled(self.person.given), UNKNOWN, "residual")]
        return [Piece(self.given(), PART, "span")]

    def letters(self) -> list[Piece]:
        """The patient's initials as people abbreviate a name: "J.S.", "J. S.", "JS"."""
        mark = self.rng.choice((".", ".", ". ", ""))
        first, last = self.spelled(self.person.given[0]), self.spelled(self.person.surnames[0][0])
        return [Piece(f"{first}{mark}{last}{mark.strip()}", "initials", "span")]

    def _other_names(self, given: bool, male: bool) -> str:
        person = self.person
        own = _tokens(f"{person.given} {person.middle} {person.core} {person.maiden}")
        while True:
            particle, core = pick_family(self.rng, person.region)
            first = pick_given(self.rng, person.region, male)
            if own.isdisjoint(_tokens(f"{first} {core}")):
                break
        glue = " " if particle and not particle.endswith("'") else ""
        family = f"{particle}{glue}{core}"
        return f"{first} {family}" if given else family

    def doctor(self) -> list[Piece]:
        prefix = self.rng.choice({
            "us": ("Dr. ", "Dr. ", "Dr "), "uk": ("Dr ", "Dr ", "Mr ", "Prof "),
            "de": ("Dr. ", "Dr. med. ", "Dr. ", "Prof. Dr. "), "nl": ("dr. ", "drs. ", "dr. "),
            "fr": ("Dr ", "Docteur ", "Pr ", "Dr "), "es": ("Dr. ", "Dra. ", "Dr. "),
        }[self.person.region])  # fmt: skip
        name = self._other_names(self.rng.random() < 0.45, prefix == "Mr " or self.rng.random() < 0.5)
        if self.person.region == "fr" and self.rng.random() < 0.5:
            name = name.upper()
        return [Piece(prefix), Piece(name, "doctor", "residual")]

    def colleague(self) -> list[Piece]:
        return [Piece(self._other_names(True, self.rng.random() < 0.5), "staff", "residual")]

    def relative(self, male: bool) -> list[Piece]:
        """A relative's name: half of the time with the patient's own family name."""
        name = self._other_names(True, male)
        if self.rng.random() < 0.5:
            first = pick_given(self.rng, self.person.region, male)
            name = f"{first} {self.person.family}" if _tokens(first).isdisjoint(_tokens(self.person.given)) else name
        return [Piece(name, "relative", "residual")]
