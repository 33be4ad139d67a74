"""People whom nobody has to know to see that they are named: "Dr. Smith", "dictated by Jane Smith", "Smith, MD".

A name is a capitalised word after a title or after words that announce a person; a row of X, the placeholder of
de-identified texts, is none. Where title and name are both in capital letters the title must be unmistakable or have
its full stop: MR HEAD is an examination.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from site_client.phi.folding import Folded
from site_client.phi.words import COMMON, FUNCTION, MEDICAL, NO_NAMES

__all__ = ["find_persons"]

_NAME = r"(?:[A-Z]\.[ ]?){0,2}(?:(?:van|von|vom|zu|der|den|de|del|la|le|du|di|da|ter|ten)[ ]){0,3}" \
        r"(?P<name>[A-Z][^\W\d_]*(?:['-][A-Z]?[^\W\d_]+){0,3})"
_MORE = re.compile(r"[ ](?:(?:van|von|de|del|der|den|la|le|du|di|da|y|e)[ ]){0,3}(?:[A-Z]\.?(?=[ ])|"
                   r"(?P<name>[A-Z][^\W\d_]*(?:['-][A-Z]?[^\W\d_]+){0,3}))|[ ]and[ ](?P<other>[A-Z][a-z]{2,24})")
_DEGREES = r"(?:(?:med|dent|rer|nat|phil|univ|habil|h\.?c|ing|Dr|Prof|Dipl|PD|Priv)\.?[- ]{1,2}){0,6}"
_TITLED = re.compile(
    r"(?<![^\W_])(?P<title>(?:[Pp]rof|PROF|[Dd]r[as]?|DRA?|Mrs?|MRS?|Ms|MS|Mme|Mlle|Sra?|Srta|SRA?|Hr|Fr|[Dd]hr|[Mm]evr|[Mm]w|Dott|"
    r"Univ|Priv)\.|(?:Prof(?:essor)?|Drs?|Dra|Mrs?|Ms|Miss|Mme|Mlle|Madame|Monsieur|Sra|Srta|Se[n]or|Se[n]ora|Herrn?|Frau|"
    r"[Dd]hr|[Mm]evr|[Mm]evrouw|[Mm]eneer|[Dd]e heer|Doctor|Doktor|Nurse|Schwester|Pfleger|Docteur|Doctora|"
    r"Enfermera|Infirmiere)"
    r"(?=[ ][A-Z])|(?:MRS|PROFESSOR|HERRN?|FRAU|MME|SRA|MEVROUW|DOCTOR)(?=[ ]))"
    rf"[- ]{{0,2}}\n?{_DEGREES}{_NAME}")
_ANNOUNCED = re.compile(
    r"(?<![^\W_])(?i:(?:dictated|transcribed|interpreted|read|reported|reviewed|verified|approved|performed|signed|"
    r"electronically signed|finalized|authenticated|reading radiologist|attending(?: physician| radiologist)?|"
    r"referring physician|ordering (?:physician|provider)|radiologist|resident|technologist|"
    r"provider)(?:[ ]and[ ]\w{3,15})?"
    r"(?:[ ]by)?|befundet von|diktiert von|unterzeichnet von|freigegeben von|befundender arzt|gez|dicte par|signe par|"
    r"valide par|relu par|dictado por|firmado por|informado por|gedicteerd door|ondertekend door|verslagen door)"
    rf"(?P<mark>[ ]?[:.]|(?<=by)|(?<=von)|(?<=par)|(?<=por)|(?<=door))[ ]{{0,3}}{_DEGREES}{_NAME}")
_LABELLED = re.compile(
    r"(?<![^\W_])(?i:(?:patient|pat|pt)?(?:'s)?[ ]?name|patientenname|nachname|vorname|apellidos|nombre|nom|prenom|"
    rf"naam|achternaam)[ ]?:[ ]{{0,4}}{_NAME}")
_DEGREED = re.compile(
    r"(?<![^\W_])(?P<name>[A-Z][^\W\d_]{1,24}(?:['-][A-Z][^\W\d_]{1,24})?)(?:,?[ ](?:[A-Z]\.[ ]?|"
    r"[A-Z][^\W\d_]{1,24})){0,2}"
    r",?[ ](?:M\.?D|D\.O|Ph\.?D|FRCR|FACR|RN|CRNP|PA-C|NP-C)\b(?!-)")
_DEGREE = re.compile(r"M\.?D|D\.O|Ph\.?D|FRCR|FACR|RN|CRNP|PA-C|NP-C")
_STARTS = re.compile(
    r"(?i)\b(?:prof|dra?s?|mrs?|ms|miss|mme|mlle|madame|monsieur|sra?|srta|senora?|herrn?|frau|hr|fr|dhr|mevr|mevrouw|mw|"
    r"meneer|heer|nurse|schwester|pfleger|do[ck]tor|professor|docteur|doctora|dott|infirmiere|enfermera|univ|priv)\b")
_BY = re.compile(r"(?i)\b(?:by|von|par|por|door|gez|radiologist|physician|resident|technologist|provider|"
                 r"attending|arzt)\b")


def find_persons(folded: Folded) -> Iterator[tuple[int, int]]:
    """Spans of the names, without title, in the folded text; not sorted, they may overlap."""
    text = folded.text
    if _STARTS.search(text):
        yield from _named(_TITLED, text)
    if _BY.search(text):
        yield from _named(_ANNOUNCED, text)
    if "ame" in folded.lower or "nom" in folded.lower or "naam" in folded.lower or "apellido" in folded.lower:
        yield from _named(_LABELLED, text)
    for match in _DEGREED.finditer(text) if _DEGREE.search(text) else ():
        words = re.findall(r"[^\W\d_]{2,}", match[0])[:-1]
        if all(_could_be_name(word) and word.lower() not in COMMON | MEDICAL for word in words):
            yield match.span()


def _named(pattern: re.Pattern[str], text: str) -> Iterator[tuple[int, int]]:
    for match in pattern.finditer(text):
        if not _could_be_name(match["name"]) or _is_examination(match):
            continue
        start, end = match.start("name"), match.end("name")
        shouted = match["name"].isupper()
        while (more := _MORE.match(text, end)) is not None and end - start < 120:
            word = more["name"] or more["other"]
            if word and (not _could_be_name(word) or word.isupper() != shouted or word.lower() in MEDICAL):
                break
            end = more.end()
        yield start, end


def _could_be_name(word: str) -> bool:
    lower = word.lower()
    if len(word) < 2 or set(lower) == {"x"} or lower in FUNCTION:
        return False
    return lower not in NO_NAMES and lower.rpartition("-")[2] not in NO_NAMES


def _is_examination(match: re.Match[str]) -> bool:
    """MR. Circle of Willis: the title in capital letters is an examination's where the name is not. Fr. is a fracture
    in Spanish and a catheter's size."""
    title, name = match.groupdict().get("title"), match["name"]
    return (title in ("MR.", "MS.") and not name.isupper()) or (title == "Fr." and name.lower() in COMMON | MEDICAL)
