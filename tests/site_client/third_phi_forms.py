"""How reports write a patient's names, numbers and dates: every form that the templates of the third set may ask for,
by name, for one made-up patient. A form gives the exact text to be written; which kind of identifier it is stands in
`KINDS`. Dates follow the language and the country (month first in the United States, dots in Germany)."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, timedelta
from random import Random

from tests.site_client.third_phi_people import Person, split_particle

MONTHS = {
    "en": "January February March April May June July August September October November December",
    "de": "Januar Februar März April Mai Juni Juli August September Oktober November Dezember",
    "nl": "januari februari maart april mei juni juli augustus september oktober november december",
    "fr": "janvier février mars avril mai juin juillet août septembre octobre novembre décembre",
    "es": "enero febrero marzo abril mayo junio julio agosto septiembre octubre noviembre diciembre",
}
SHORT = {
    "en": "Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec",
    "de": "Jan. Feb. Mrz. Apr. Mai Jun. Jul. Aug. Sept. Okt. Nov. Dez.",
    "nl": "jan feb mrt apr mei jun jul aug sep okt nov dec",
    "fr": "janv. févr. mars avr. mai juin juil. août sept. oct. nov. déc.",
    "es": "ene feb mar abr may jun jul ago sep oct nov dic",
}


def ordinal(day: int) -> str:
    """1st, 2nd, 11th."""
    return f"{day}{'th' if 10 <= day % 100 <= 20 else {1: 'st', 2: 'nd', 3: 'rd'}.get(day % 10, 'th')}"


def _initial(word: str) -> str:
    return "-".join(part[0] + "." for part in word.split("-"))


def _family_short(p: Person) -> str:
    """The part of the family name that people call someone by: the first of two Spanish surnames."""
    if p.language != "es":
        return p.family
    particle, rest = split_particle(p.family)
    words = rest.split()
    take = 2 if words[0] == "San" else 1
    return f"{particle} {' '.join(words[:take])}".strip()


def _letters(p: Person, joint: str, end: str) -> str:
    words = [p.given.split()[0]] + ([p.middle] if p.middle else []) + [split_particle(p.family)[1]]
    return joint.join(w[0].upper() for w in words) + end


def _core_last(p: Person) -> str:
    """Berg, Anna van den: the Dutch order in lists; plain order for the rest."""
    particle, core = split_particle(p.family)
    return f"{core}, {p.given} {particle}".strip()


def _misheard(p: Person) -> str:
    """A family name as a speech recogniser spells it: close, and plainly this patient."""
    name = p.family
    for old, new in (
        ("ck", "k"),
        ("sm", "smy"),
        ("ll", "l"),
        ("nn", "n"),
        ("ez", "es"),
        ("ie", "ei"),
        ("th", "t"),
        ("y", "ey"),
    ):
        at = name.rfind(old)
        if at > 0:
            return name[:at] + new + name[at + len(old) :]
    return name + "s"


NAME_FORMS: dict[str, Callable[[Person], str]] = {
    "full": lambda p: f"{p.given} {p.family}",
    "fullmid": lambda p: " ".join(w for w in (p.given, p.middle, p.family) if w),
    "fullmi": lambda p: " ".join(w for w in (p.given, p.middle and p.middle[0] + ".", p.family) if w),
    "short": lambda p: f"{p.given} {_family_short(p)}",
    "comma": lambda p: f"{p.family}, {p.given}",
    "commamid": lambda p: f"{p.family}, {p.given} {p.middle}".strip(),
    "commami": lambda p: f"{p.family}, {p.given} {p.middle[:1]}".strip(),
    "tight": lambda p: f"{p.family},{p.given}",
    "rev": lambda p: f"{p.family} {p.given}",
    "FAMgiven": lambda p: f"{p.family.upper()} {p.given}",
    "FAMcomma": lambda p: f"{p.family.upper()}, {p.given}",
    "givenFAM": lambda p: f"{p.given} {p.family.upper()}",
    "FULL": lambda p: f"{p.given} {p.family}".upper(),
    "FULLMID": lambda p: " ".join(w for w in (p.given, p.middle, p.family) if w).upper(),
    "COMMA": lambda p: f"{p.family}, {p.given}".upper(),
    "COMMAMI": lambda p: f"{p.family}, {p.given} {p.middle[:1]}".strip().upper(),
    "REV": lambda p: f"{p.family} {p.given}".upper(),
    "lower": lambda p: f"{p.given} {p.family}".lower(),
    "caret": lambda p: f"{p.family}^{p.given}^{p.middle}".rstrip("^").upper(),
    "initfam": lambda p: f"{_initial(p.given.split()[0])} {p.family}",
    "initsfam": lambda p: f"{_initial(p.given.split()[0])}{p.middle and p.middle[0] + '.'} {p.family}",
    "faminit": lambda p: f"{p.family}, {p.given[0]}.",
    "FAMINIT": lambda p: f"{p.family} {p.given[0]}".upper(),
    "laminit": lambda p: f"{p.family} {p.given[0]}.",
    "corelast": _core_last,
    "fam": _family_short,
    "famfull": lambda p: p.family[0].upper() + p.family[1:] if p.language == "nl" else p.family,
    "FAM": lambda p: p.family.upper(),
    "given": lambda p: p.given,
    "GIVEN": lambda p: p.given.upper(),
    "maiden": lambda p: p.maiden,
    "misheard": _misheard,
    "inits": lambda p: _letters(p, ".", "."),
    "initsgap": lambda p: _letters(p, ". ", "."),
    "initsbare": lambda p: _letters(p, "", ""),
}
_FORMS_BY_KIND = {
    "name part": "fam famfull FAM given GIVEN maiden misheard",
    "initials": "inits initsgap initsbare",
    "birth date": "dob dobnum dobcompact",
    "study date": "study studynum studyday studyrun studystamp studycompact prior priornum priorday",
    "patient id": "pid pidexact",
    "accession": "acc accexact",
}
KINDS = dict.fromkeys(NAME_FORMS, "name") | {f: kind for kind, forms in _FORMS_BY_KIND.items() for f in forms.split()}


def numeric_date(day: date, p: Person, rng: Random) -> str:
    """A date in figures, as the country writes it."""
    d, m, y, yy = f"{day.day:02}", f"{day.month:02}", f"{day.year}", f"{day.year % 100:02}"
    bare_d, bare_m = str(day.day), str(day.month)
    forms = {
        "US": (
            f"{m}/{d}/{y}",
            f"{m}/{d}/{y}",
            f"{bare_m}/{bare_d}/{y}",
            f"{bare_m}/{bare_d}/{yy}",
            f"{m}-{d}-{y}",
            f"{m}/{d}/{yy}",
        ),
        "GB": (
            f"{d}/{m}/{y}",
            f"{d}/{m}/{y}",
            f"{bare_d}/{bare_m}/{yy}",
            f"{d}.{m}.{y}",
            f"{d}-{m}-{y}",
            f"{d}.{m}.{yy}",
        ),
        "DE": (
            f"{d}.{m}.{y}",
            f"{d}.{m}.{y}",
            f"{bare_d}.{bare_m}.{y}",
            f"{d}.{m}.{yy}",
            f"{bare_d}.{bare_m}.{yy}",
            f"{d}. {m}. {y}",
        ),
        "NL": (
            f"{d}-{m}-{y}",
            f"{d}-{m}-{y}",
            f"{bare_d}-{bare_m}-{y}",
            f"{d}-{m}-'{yy}",
            f"{d}-{m}-{yy}",
            f"{d}.{m}.{y}",
        ),
        "FR": (
            f"{d}/{m}/{y}",
            f"{d}/{m}/{y}",
            f"{d}/{m}/{yy}",
            f"{d}.{m}.{y}",
            f"{d}-{m}-{y}",
            f"{bare_d}/{bare_m}/{y}",
        ),
        "ES": (
            f"{d}/{m}/{y}",
            f"{d}/{m}/{y}",
            f"{d}-{m}-{y}",
            f"{bare_d}/{bare_m}/{yy}",
            f"{d}.{m}.{y}",
            f"{d}/{m}/{yy}",
        ),
    }
    table = {"AT": "DE", "BE": "FR", "CA": "FR", "CH": "DE", "MX": "ES"}
    if rng.random() < 0.1:
        return f"{y}-{m}-{d}"
    return rng.choice(forms[table.get(p.country, p.country)])


def written_date(day: date, p: Person, rng: Random) -> str:
    """A date with the month in letters."""
    lang, d, y = p.language, day.day, day.year
    month, short = MONTHS[lang].split()[day.month - 1], SHORT[lang].split()[day.month - 1]
    if p.country == "AT" and day.month == 1:
        month = "Jänner"
    if p.country == "US":
        forms = (f"{month} {d}, {y}", f"{month} {d}, {y}", f"{short} {d}, {y}", f"{month} {ordinal(d)}, {y}",
                 f"{d:02}-{short.upper()}-{y}", f"{d} {short} {y}", f"{short} {d} {y}")  # fmt: skip
    elif lang == "en":
        forms = (f"{d} {month} {y}", f"{ordinal(d)} {month} {y}", f"{d} {short} {y}", f"{d:02}-{short}-{y % 100:02}",
                 f"{ordinal(d)} of {month} {y}", f"{d:02} {short.upper()} {y}")  # fmt: skip
    elif lang == "de":
        forms = (f"{d}. {month} {y}", f"{d}. {month} {y}", f"{d:02}. {month} {y}", f"{d}. {short} {y}")
    elif lang == "nl":
        forms = (f"{d} {month} {y}", f"{d} {month} {y}", f"{d} {short} {y}", f"{d:02}-{short}-{y}", f"{d} {short}. {y}")
    elif lang == "fr":
        forms = (
            f"{'1er' if d == 1 else d} {month} {y}",
            f"{d:02} {month} {y}",
            f"{d} {short} {y}",
            f"{d:02} {month.upper()} {y}",
        )
    else:
        forms = (f"{d} de {month} de {y}", f"{d} de {month} de {y}", f"{d} de {month} del {y}", f"{d} {month} {y}",
                 f"{d:02}-{short}-{y}", f"{d:02}/{short}/{y}")  # fmt: skip
    return rng.choice(forms)


def _day_only(day: date, p: Person, rng: Random) -> str:
    """Day and month without the year, as in "compared with 12 March"."""
    month = MONTHS[p.language].split()[day.month - 1]
    forms = {
        "en": (f"{month} {day.day}", f"{day.month}/{day.day}") if p.country == "US" else
        (f"{day.day} {month}", f"{ordinal(day.day)} {month}", f"{day.day}/{day.month}"),
        "de": (f"{day.day:02}.{day.month:02}.", f"{day.day}.{day.month}.", f"{day.day}. {month}"),
        "nl": (f"{day.day} {month}", f"{day.day}-{day.month}"),
        "fr": (f"{'1er' if day.day == 1 else day.day} {month}", f"{day.day:02}/{day.month:02}"),
        "es": (f"{day.day} de {month}", f"{day.day:02}/{day.month:02}"),
    }  # fmt: skip
    return rng.choice(forms[p.language])


def _run_of_days(day: date, p: Person) -> str:
    """The study's day as the start of a stay: "12-14 March 2024"."""
    end = day + timedelta(days=2)
    if end.month != day.month:
        day, end = day - timedelta(days=2), day
    month = MONTHS[p.language].split()[day.month - 1]
    return {
        "en": f"{month} {day.day}-{end.day}, {day.year}"
        if p.country == "US"
        else f"{day.day}-{end.day} {month} {day.year}",
        "de": f"{day.day:02}.-{end.day:02}.{day.month:02}.{day.year}",
        "nl": f"{day.day} t/m {end.day} {month} {day.year}",
        "fr": f"{day.day} au {end.day} {month} {day.year}",
        "es": f"{day.day} al {end.day} de {month} de {day.year}",
    }[p.language]


def date_form(form: str, p: Person, rng: Random) -> str:
    """The text of a date form such as `dob`, `studynum` or `priorday`."""
    day = p.born if form.startswith("dob") else p.prior if form.startswith("prior") else p.study
    if form.endswith("num"):
        return numeric_date(day, p, rng)
    if form.endswith("day"):
        return _day_only(day, p, rng)
    if form.endswith("run"):
        return _run_of_days(day, p)
    if form.endswith("stamp"):
        return f"{day:%Y-%m-%d}"
    if form.endswith("compact"):
        return f"{day:%Y%m%d}"
    return written_date(day, p, rng) if rng.random() < 0.4 else numeric_date(day, p, rng)


def id_form(value: str, language: str, rng: Random) -> str:
    """A number as people copy it: exact, grouped, without leading zeros or prefix."""
    digits = value.lstrip("ABCDEFGHIJKLMNOPQRSTUVWXYZ-")
    prefix = value[: len(value) - len(digits)].strip("-")
    way = rng.random()
    if way < 0.45:
        return value
    if digits.isdigit() and len(digits.lstrip("0")) >= 6 and way < 0.6:
        return digits.lstrip("0")
    if prefix and way < 0.75:
        return f"{prefix} {digits}" if rng.random() < 0.6 else f"{prefix}-{digits}"
    if digits.isdigit() and len(digits) >= 6:
        size = 4 if len(digits) == 8 and rng.random() < 0.4 else 3
        first = len(digits) % size
        tail: list[str] = []
        if len(digits) == 10:
            digits, size, first, tail = digits[:6], 3, 0, [digits[6:]]
        parts = ([digits[:first]] if first else []) + [digits[i : i + size] for i in range(first, len(digits), size)]
        return (prefix + " " if prefix else "") + rng.choice((" ", " ", "-", "-" if language == "en" else ".")).join(
            parts + tail
        )
    return value.replace("-", rng.choice((" ", "", "/"))) if "-" in value else value


def identifier(form: str, p: Person, rng: Random) -> str:
    """The text of any of the patient's identifiers."""
    if form in NAME_FORMS:
        return NAME_FORMS[form](p)
    if form in ("pid", "acc"):
        return id_form(p.pid if form == "pid" else p.accession, p.language, rng)
    if form in ("pidexact", "accexact"):
        return p.pid if form == "pidexact" else p.accession
    return date_form(form, p, rng)
