"""Dates and numbers as the fourth set of texts writes them: each region's usual forms with the weight they have in
reports, and patient and accession numbers as headers hold them and as people copy them."""

from __future__ import annotations

import functools
import random
from datetime import date

MONTHS = {
    "en": "January February March April May June July August September October November December",
    "de": "Januar Februar März April Mai Juni Juli August September Oktober November Dezember",
    "nl": "januari februari maart april mei juni juli augustus september oktober november december",
    "fr": "janvier février mars avril mai juin juillet août septembre octobre novembre décembre",
    "es": "enero febrero marzo abril mayo junio julio agosto septiembre octubre noviembre diciembre",
}
SHORT = {
    "en": "Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec",
    "de": "Jan. Feb. März Apr. Mai Juni Juli Aug. Sept. Okt. Nov. Dez.",
    "nl": "jan feb mrt apr mei jun jul aug sep okt nov dec",
    "fr": "janv. févr. mars avr. mai juin juil. août sept. oct. nov. déc.",
    "es": "ene feb mar abr may jun jul ago sep oct nov dic",
}
ROMAN = "I II III IV V VI VII VIII IX X XI XII"
DAY_WORDS = (
    "first second third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth thirteenth fourteenth fifteenth "
    "sixteenth seventeenth eighteenth nineteenth twentieth twenty-first twenty-second twenty-third twenty-fourth "
    "twenty-fifth twenty-sixth twenty-seventh twenty-eighth twenty-ninth thirtieth thirty-first"
)

# Per region: the form and its weight; the forms' letters are filled by `write`. Forms without a year come second.
FORMS: dict[str, tuple[tuple[str, int], ...]] = {
    "us": (
        ("{mm}/{dd}/{yyyy}", 40), ("{m}/{d}/{yyyy}", 22), ("{m}/{d}/{yy}", 9), ("{mm}/{dd}/{yy}", 5),
        ("{Month} {d}, {yyyy}", 14), ("{Mon} {d}, {yyyy}", 4), ("{dd}-{MON}-{yyyy}", 2), ("{yyyy}-{mm}-{dd}", 3),
        ("{Month} {dth}, {yyyy}", 2), ("{dd}{MON}{yyyy}", 1), ("{mm}-{dd}-{yyyy}", 3), ("{d} {Month} {yyyy}", 1),
        ("{Month} {word}, {yyyy}", 1), ("{yyyy}{mm}{dd}", 1), ("{m}.{d}.{yy}", 1),
    ),
    "uk": (
        ("{dd}/{mm}/{yyyy}", 38), ("{d}/{m}/{yyyy}", 5), ("{dd}/{mm}/{yy}", 9), ("{d}/{m}/{yy}", 5),
        ("{d} {Month} {yyyy}", 10), ("{dth} {Month} {yyyy}", 10), ("{dd}-{Mon}-{yyyy}", 8), ("{d} {Mon} {yyyy}", 5),
        ("{dd}.{mm}.{yy}", 4), ("{dd}.{mm}.{yyyy}", 3), ("{dd} {Mon} {yy}", 2), ("{dth} of {Month} {yyyy}", 1),
        ("{yyyy}-{mm}-{dd}", 2), ("{yyyy}{mm}{dd}", 1),
    ),
    "de": (
        ("{dd}.{mm}.{yyyy}", 60), ("{d}.{m}.{yyyy}", 9), ("{dd}.{mm}.{yy}", 11), ("{d}.{m}.{yy}", 3),
        ("{d}. {Month} {yyyy}", 9), ("{dd}. {mm}. {yyyy}", 2), ("{d}. {Mon} {yyyy}", 2), ("{yyyy}-{mm}-{dd}", 2),
        ("{dd}/{mm}/{yyyy}", 1), ("{yyyy}{mm}{dd}", 1), ("{dd}.{Month} {yyyy}", 1),
    ),
    "nl": (
        ("{dd}-{mm}-{yyyy}", 50), ("{d}-{m}-{yyyy}", 14), ("{dd}-{mm}-{yy}", 5), ("{d}-{m}-{yy}", 3),
        ("{d} {Month} {yyyy}", 14), ("{d} {Mon} {yyyy}", 3), ("{dd}-{Mon}-{yyyy}", 3), ("{dd}/{mm}/{yyyy}", 5),
        ("{yyyy}-{mm}-{dd}", 1), ("{dd}.{mm}.{yyyy}", 1), ("{yyyy}{mm}{dd}", 1),
    ),
    "fr": (
        ("{dd}/{mm}/{yyyy}", 55), ("{dd}/{mm}/{yy}", 7), ("{d} {Month} {yyyy}", 22), ("{dd}.{mm}.{yyyy}", 5),
        ("{dd} {Month} {yyyy}", 3), ("{d}/{m}/{yyyy}", 3), ("{dd}-{mm}-{yyyy}", 3), ("{d} {Mon} {yyyy}", 1),
        ("{yyyy}-{mm}-{dd}", 2), ("{yyyy}{mm}{dd}", 1),
    ),
    "es": (
        ("{dd}/{mm}/{yyyy}", 48), ("{d}/{m}/{yyyy}", 8), ("{dd}/{mm}/{yy}", 8), ("{dd}-{mm}-{yyyy}", 8),
        ("{d} de {Month} de {yyyy}", 16), ("{d}-{m}-{yy}", 2), ("{dd}.{mm}.{yyyy}", 2), ("{d} {Month} {yyyy}", 3),
        ("{dd}-{Mon}-{yyyy}", 3), ("{d}/{ROM}/{yyyy}", 1), ("{yyyy}-{mm}-{dd}", 1), ("{d} de {Month} del {yyyy}", 2),
        ("{yyyy}{mm}{dd}", 1),
    ),
}  # fmt: skip
YEARLESS: dict[str, tuple[tuple[str, int], ...]] = {
    "us": (("{m}/{d}", 55), ("{mm}/{dd}", 20), ("{Month} {d}", 20), ("{Month} {dth}", 5)),
    "uk": (("{dd}/{mm}", 35), ("{d}/{m}", 20), ("{dth} {Month}", 25), ("{d} {Month}", 20)),
    "de": (("{dd}.{mm}.", 70), ("{d}.{m}.", 20), ("{d}. {Month}", 10)),
    "nl": (("{dd}-{mm}", 35), ("{d}-{m}", 20), ("{d} {Month}", 45)),
    "fr": (("{dd}/{mm}", 60), ("{d} {Month}", 40)),
    "es": (("{dd}/{mm}", 45), ("{d}/{m}", 15), ("{d} de {Month}", 40)),
}


SPAN_OF_DAYS = {  # two days of one month
    "us": "{Month} {first}-{d}, {yyyy}", "uk": "{first}-{d} {Month} {yyyy}", "de": "{first}.–{dd}.{mm}.{yyyy}",
    "nl": "{first} t/m {d} {Month} {yyyy}", "fr": "{first} au {d} {Month} {yyyy}",
    "es": "{first} al {d} de {Month} de {yyyy}",
}  # fmt: skip


def language(region: str) -> str:
    """The language of a region."""
    return "en" if region in ("us", "uk") else region


def ordinal(day: int) -> str:
    ending = "th" if 10 < day < 14 else {1: "st", 2: "nd", 3: "rd"}.get(day % 10, "th")
    return f"{day}{ending}"


def write(form: str, region: str, day: date) -> str:
    """The date in a form; French has its "1er", Spanish months of a stamp are in capitals."""
    tongue = language(region)
    month, short = MONTHS[tongue].split()[day.month - 1], SHORT[tongue].split()[day.month - 1]
    first = "1er" if region == "fr" and day.day == 1 and "Mon" in form else str(day.day)
    return form.format(
        d=first, dd=f"{day.day:02d}", m=day.month, mm=f"{day.month:02d}", yy=f"{day.year % 100:02d}",
        yyyy=f"{day.year:04d}", Month=month, Mon=short, MON=short.upper(), dth=ordinal(day.day),
        ROM=ROMAN.split()[day.month - 1], word=DAY_WORDS.split()[day.day - 1],
    )  # fmt: skip


def choose(rng: random.Random, forms: tuple[tuple[str, int], ...]) -> str:
    return rng.choices([form for form, _ in forms], [weight for _, weight in forms])[0]


def _digits(rng: random.Random, length: int) -> str:
    return str(rng.randrange(1, 10)) + "".join(str(rng.randrange(10)) for _ in range(length - 1))


def patient_number(rng: random.Random, region: str) -> str:
    """A patient ID as the header holds it."""
    of = functools.partial(_digits, rng)
    kinds = {
        "us": (of(7), "00" + of(6), "E" + of(7), "MRN" + of(8), of(9)),
        "uk": (of(7), "RXH" + of(7), of(10), "D" + of(6), "0" + of(6)),
        "de": (of(8), "000" + of(7), of(10), "PAT" + of(6), of(7)),
        "nl": (of(7), of(7), "00" + of(7), of(9), "P" + of(8)),
        "fr": (of(10), "80" + of(8), "00" + of(7), of(9), "IPP" + of(7)),
        "es": (of(7), of(6), "00" + of(6), "HC-" + of(6), "AN" + of(10)),
    }
    return rng.choice(kinds[region])


def accession_number(rng: random.Random, region: str, year: int) -> str:
    """An accession number as the header holds it."""
    of = functools.partial(_digits, rng)
    two = f"{year % 100:02d}"
    kinds = {
        "us": (of(8), f"A{two}-{of(6)}", f"CT{two}{of(6)}", f"{two}-{of(7)}"),
        "uk": (f"RJE{of(10)}", of(9), f"RQX{of(8)}", f"E{of(8)}"),
        "de": (f"RAD-{year}-{of(6)}", of(8), f"R{two}{of(6)}", "0" + of(9)),
        "nl": ("8000" + of(6), of(8), f"MR{two}{of(6)}", of(10)),
        "fr": (f"C{two}{of(7)}", of(9), f"A{of(11)}", f"{two}-{of(6)}"),
        "es": (of(10), f"RX{of(7)}", f"{two}/{of(6)}", "00" + of(7)),
    }
    return rng.choice(kinds[region])


def _grouped(number: str, mark: str) -> str:
    """Digits in groups of three from the right, as people read them out."""
    head = len(number) % 3
    groups = [number[:head]] if head else []
    return mark.join(groups + [number[index : index + 3] for index in range(head, len(number), 3)])


def write_number(rng: random.Random, number: str) -> str:
    """The number as somebody copies it: mostly as it is."""
    letters = number.rstrip("0123456789")
    digits = number[len(letters) :]
    draw = rng.random()
    if draw < 0.72 or not digits:
        return number
    if not letters:
        if draw < 0.8 and digits.startswith("0"):
            return digits.lstrip("0")
        if draw < 0.9:
            return _grouped(digits, " ")
        if draw < 0.95:
            return _grouped(digits, "-")
        return _grouped(digits, ".") if draw < 0.97 else f"{digits[:4]} {digits[4:]}"
    if letters[-1] in "-/":
        plain = letters[:-1]
        return plain + rng.choice((" ", " " + letters[-1] + " ", "")) + digits if draw < 0.85 else number
    if draw < 0.82:
        return f"{letters} {digits}"
    if draw < 0.88:
        return f"{letters}-{digits}"
    if draw < 0.93:
        return number.lower()
    return digits if len(letters) == 3 and letters in ("MRN", "PAT", "IPP") else number
