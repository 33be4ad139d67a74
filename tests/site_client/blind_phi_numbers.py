"""Dates, patient IDs and accession numbers: as headers hold them and as the writers of five languages write them."""

from __future__ import annotations

import random
from dataclasses import dataclass
from datetime import date, timedelta

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
    "nl": "jan febr mrt apr mei jun jul aug sept okt nov dec",
    "fr": "janv. févr. mars avr. mai juin juil. août sept. oct. nov. déc.",
    "es": "ene feb mar abr may jun jul ago sep oct nov dic",
}
WEEKDAYS = {
    "en": "Monday Tuesday Wednesday Thursday Friday Saturday Sunday",
    "de": "Montag Dienstag Mittwoch Donnerstag Freitag Samstag Sonntag",
    "nl": "maandag dinsdag woensdag donderdag vrijdag zaterdag zondag",
    "fr": "lundi mardi mercredi jeudi vendredi samedi dimanche",
    "es": "lunes martes miércoles jueves viernes sábado domingo",
}
ROMAN = ("I", "II", "III", "IV", "V", "VI", "VII", "VIII", "IX", "X", "XI", "XII")
ANY = ["{y}-{m:02}-{d:02}", "{y}{m:02}{d:02}", "{y}/{m:02}/{d:02}", "{y}.{m:02}.{d:02}"]
NUMERIC = {
    "us": ["{m}/{d}/{y}", "{m:02}/{d:02}/{y}", "{m}/{d}/{y2:02}", "{m:02}-{d:02}-{y}", "{m:02}/{d:02}/{y2:02}",
           "{m}-{d}-{y2:02}"],
    "uk": ["{d:02}/{m:02}/{y}", "{d}/{m}/{y2:02}", "{d:02}.{m:02}.{y}", "{d}.{m}.{y}", "{d:02}-{m:02}-{y}",
           "{d:02}/{m:02}/{y2:02}"],
    "de": ["{d:02}.{m:02}.{y}", "{d}.{m}.{y}", "{d:02}.{m:02}.{y2:02}", "{d}.{m}.{y2:02}", "{d}. {m}. {y}",
           "{d:02}. {m:02}. {y}", "{d:02}.{m:02}.{y}"],
    "nl": ["{d:02}-{m:02}-{y}", "{d}-{m}-{y}", "{d:02}-{m:02}-{y2:02}", "{d}/{m}/{y}", "{d}-{m}-'{y2:02}",
           "{d:02}.{m:02}.{y}"],
    "fr": ["{d:02}/{m:02}/{y}", "{d:02}/{m:02}/{y2:02}", "{d}/{m}/{y}", "{d:02}.{m:02}.{y}", "{d:02}-{m:02}-{y}",
           "{d:02} / {m:02} / {y}"],
    "es": ["{d:02}/{m:02}/{y}", "{d}/{m}/{y}", "{d}-{m}-{y}", "{d:02}/{m:02}/{y2:02}", "{d}-{roman}-{y}",
           "{d:02}.{m:02}.{y}"],
}
LONG = {
    "us": ["{month} {d}, {y}", "{s} {d}, {y}", "{month} {d}{th}, {y}", "{weekday}, |{month} {d}, {y}", "{s}. {d} {y}",
           "{d:02}-{S}-{y}", "{month} {d} {y}"],
    "uk": ["{d} {month} {y}", "{d} {s} {y}", "{d}{th} {month} {y}", "{d}{th} of {month} {y}", "{d}-{s}-{y}",
           "{d:02}{S}{y}", "{weekday} |{d} {month} {y}", "{d:02}-{s}-{y2:02}", "{d:02} {s} '{y2:02}"],
    "de": ["{d}. {month} {y}", "{d:02}. {month} {y}", "{d}. {s} {y}", "{weekday}, |{d}. {month} {y}",
           "{weekday}, den |{d}. {month} {y}", "{d}.{month} {y}"],
    "nl": ["{d} {month} {y}", "{d} {s} {y}", "{d} {s}. {y}", "{weekday} |{d} {month} {y}", "{d}-{s}-{y}"],
    "fr": ["{d} {month} {y}", "{d}{er} {month} {y}", "{d} {s} {y}", "{weekday} |{d} {month} {y}", "{d:02} {month} {y}"],
    "es": ["{d} de {month} de {y}", "{d} de {month} del {y}", "{d} {month} {y}", "{d}-{s}-{y}", "{d}/{s}/{y}",
           "{weekday}, |{d} de {month} de {y}"],
}


def written_date(day: date, language: str, style: str, rng: random.Random) -> tuple[str, str]:
    """The weekday before it (often '') and the date. style: `num`, `long` or `any`. English: `us` or `uk`."""
    region, language = language, "en" if language in ("us", "uk") else language
    if style == "any":
        style = rng.choices(["num", "long", "iso"], [55, 30, 15])[0]
    form = rng.choice({"num": NUMERIC[region], "long": LONG[region], "iso": ANY}[style])
    short = SHORT[language].split()[day.month - 1]
    text = form.format(
        y=day.year, y2=day.year % 100, m=day.month, d=day.day, roman=ROMAN[day.month - 1],
        month=MONTHS[language].split()[day.month - 1], s=short, S=short.upper(),
        weekday=WEEKDAYS[language].split()[day.weekday()], er="er" if day.day == 1 else "",
        th="th" if 10 < day.day < 14 else {1: "st", 2: "nd", 3: "rd"}.get(day.day % 10, "th"))
    weekday, mark, rest = text.rpartition("|")
    return weekday + mark.replace("|", ""), rest


def dicom_date(day: date) -> str:
    return day.strftime("%Y%m%d")


def some_day(rng: random.Random, first: int, last: int) -> date:
    """A day in the years first..last; months with a day of at most 12 as often as elsewhere."""
    return date(first, 1, 1) + timedelta(days=rng.randrange((last - first + 1) * 365))


@dataclass(frozen=True, slots=True)
class Identifier:
    """`value` as the header has it; `forms`: how texts write it; `distinct`: a reader knows it without a keyword."""

    value: str
    forms: tuple[str, ...]
    distinct: bool = True


def _digits(rng: random.Random, count: int) -> str:
    return str(rng.randrange(1, 10)) + "".join(str(rng.randrange(10)) for _ in range(count - 1))


def _english_id(rng: random.Random) -> Identifier:
    d = _digits(rng, 6)
    e, t = _digits(rng, 7), _digits(rng, 10)
    return rng.choice([
        Identifier("00" + d, ("00" + d, "00" + d, d)),
        Identifier(d, (d, f"{d[:2]}-{d[2:4]}-{d[4:]}", f"{d[:2]} {d[2:4]} {d[4:]}"), distinct=False),
        Identifier("MRN00" + d, ("MRN00" + d, "00" + d, "mrn00" + d)),
        Identifier("E" + e, ("E" + e, "E" + e, "e" + e, "E " + e)),
        Identifier(t, (t, f"{t[:3]} {t[3:6]} {t[6:]}", f"{t[:3]}-{t[3:6]}-{t[6:]}")),
        Identifier(e, (e, f"{e[:3]}-{e[3:]}", e)),
        Identifier(d[:4], (d[:4],), distinct=False),
        Identifier(f"{e}-{d[:2]}", (f"{e}-{d[:2]}", f"{e}/{d[:2]}", e + d[:2]))])


def _german_id(rng: random.Random) -> Identifier:
    d, e = _digits(rng, 8), _digits(rng, 5)
    return rng.choice([
        Identifier("00" + d, ("00" + d, d, f"{d[:2]} {d[2:5]} {d[5:]}")),
        Identifier(f"P-2020-{e}", (f"P-2020-{e}", f"P2020-{e}", f"P 2020/{e}")),
        Identifier(f"{d[:4]}-{d[4:]}", (f"{d[:4]}-{d[4:]}", f"{d[:4]}/{d[4:]}", d)),
        Identifier("B" + d + "1", ("B" + d + "1", "B " + d + "1")),
        Identifier(e, (e,), distinct=False)])


def _french_id(rng: random.Random) -> Identifier:
    d, n = _digits(rng, 10), "1" + _digits(rng, 14)
    return rng.choice([
        Identifier(d, (d, f"{d[0]} {d[1:4]} {d[4:7]} {d[7:]}", d)),
        Identifier(n, (n, f"{n[0]} {n[1:3]} {n[3:5]} {n[5:7]} {n[7:10]} {n[10:13]} {n[13:]}")),
        Identifier("IPP" + d[:8], ("IPP" + d[:8], d[:8], "IPP " + d[:8])),
        Identifier(d[:6], (d[:6],), distinct=False)])


def _spanish_id(rng: random.Random) -> Identifier:
    d, letter = _digits(rng, 8), rng.choice("TRWAGMYFPDX")
    return rng.choice([
        Identifier(d[:6], (d[:6], f"{d[:3]}.{d[3:6]}"), distinct=False),
        Identifier(d + letter, (d + letter, f"{d[:2]}.{d[2:5]}.{d[5:]}-{letter}", f"{d}-{letter}", f"{d} {letter}")),
        Identifier("ABCD" + d + "12", ("ABCD" + d + "12", "abcd" + d + "12", f"ABCD {d}12")),
        Identifier(d, (d, f"{d[:2]} {d[2:5]} {d[5:]}"))])


def _dutch_id(rng: random.Random) -> Identifier:
    d = _digits(rng, 9)
    return rng.choice([
        Identifier(d, (d, f"{d[:4]}.{d[4:6]}.{d[6:]}", f"{d[:3]} {d[3:6]} {d[6:]}")),
        Identifier(d[:7], (d[:7], f"{d[:3]}.{d[3:5]}.{d[5:7]}", f"{d[0]}.{d[1:4]}.{d[4:7]}")),
        Identifier("000" + d[:7], ("000" + d[:7], d[:7])),
        Identifier("Z" + d[:6], ("Z" + d[:6], "z" + d[:6], "Z-" + d[:6]))])


_PATIENT_ID = {"en": _english_id, "de": _german_id, "fr": _french_id, "es": _spanish_id, "nl": _dutch_id}


def patient_id(language: str, rng: random.Random) -> Identifier:
    return _PATIENT_ID[language](rng)


def accession(year: int, rng: random.Random) -> Identifier:
    d, modality = _digits(rng, 7), rng.choice(["CT", "MR", "US", "XR", "RX"])
    return rng.choice([
        Identifier(modality + d, (modality + d, d, f"{modality}-{d}", f"{modality} {d}")),
        Identifier(d, (d, d, modality + d, f"{modality}-{d}")),
        Identifier(f"RAD-{year}-00{d[:5]}", (f"RAD-{year}-00{d[:5]}", f"RAD{year}-00{d[:5]}", f"{year}-00{d[:5]}")),
        Identifier(f"{d}.001", (f"{d}.001", f"{d}-001")),
        Identifier("000000" + d, ("000000" + d, d)),
        Identifier(f"S{year % 100}-{d[:5]}", (f"S{year % 100}-{d[:5]}", f"S{year % 100} {d[:5]}")),
        Identifier("400012345" + d, ("400012345" + d, f"4000 1234 5{d[:3]} {d[3:]}")),
        Identifier(f"{modality}{year % 100}0{d[:5]}", (f"{modality}{year % 100}0{d[:5]}",
                                                      f"{modality.lower()}{year % 100}0{d[:5]}"))])
