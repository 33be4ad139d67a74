"""What names somebody whoever the patient is: numbers, addresses, contacts. People with a title are in `persons`.

Conservative: on the 3,955 reports of the Indiana University collection nothing is found (a test). Every pattern is
bounded and starts where a letter, digit or "@" is, so the time is linear in the text; a pattern that needs digits is
not tried on a text that has fewer.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from site_client.phi.folding import Folded

__all__ = ["find_patterns"]

Hit = tuple[str, int, int]

_UNIT = r"(?![ \t]?(?:mm|cm|ml|cc|mg|mcg|gy|mgy|hu|ms|hz|kv|kg|lbs?|x|units?|weeks?|days?|months?|years?|%)(?![^\W_]))"
_STATES = ("A[KLRZ]|C[AOT]|D[CE]|FL|GA|HI|I[ADLN]|K[SY]|LA|M[ADEINOST]|N[CDEHJMVY]|O[HKR]|PA|RI|S[CD]|T[NX]|UT|V[AT]|"
           "W[AIVY]")

# On the lower-case text. kind, pattern; the group "value", where there is one, is the hit.
_LOWER: tuple[tuple[str, re.Pattern[str]], ...] = tuple((kind, re.compile(pattern)) for kind, pattern in (
    ("number", r"(?<![\w.-])\d{3}-\d{2}-\d{4}(?![\w-])"),
    ("number", r"(?:ssn|social security(?: number| no)?|sozialversicherungsnummer|numero de securite sociale)"
               r"[ \t]{0,2}[.:#]{0,2}[ \t]{0,2}(?:is )?(?P<value>\d[\d -]{5,20}\d)"),
    ("number", r"(?<![\d.,])\d{7,}(?!\d|[.,]\d)"),
    ("number", r"(?<![\w.])[0-2](?:\.(?:0|[1-9]\d{0,63})){5,63}(?![\w])"),
    ("number", r"(?<![\w.])[12] ?\d\d ?(?:0[1-9]|1[0-2]) ?(?:\d\d|2[ab]) ?\d{3} ?\d{3}(?: ?\d\d)?(?!\w)"),
    ("number", r"(?<![\w.])\d{2}[ -]?\d{6}[ -]?[a-z][ -]?\d{3}(?!\w)"),
    ("number", r"(?<![\w.])(?:\d{8}-?[a-z]|[xyz]-?\d{7}-?[a-z])(?!\w)"),
    ("number", r"(?<![\w.])[a-z]{2}\d{2}(?: ?[a-z0-9]{4}){3,7}(?: ?[a-z0-9]{1,4})?(?!\w)"),
    ("number", r"(?<![\w.])[1-9][a-z][a-z0-9]\d-[a-z][a-z0-9]\d-[a-z]{2}\d{2}(?!\w)"),
    ("number", r"(?<![\w.])\d{4}([ -])\d{4}\1\d{4}(?:\1\d{1,4})?(?!\w)"),
    ("number", r"(?<![\w.])\d{6}-\d{4}(?!\w)"),
    ("identifier",
     r"(?<![^\W_])(?:(?:mrn|m\.r\.n\.?|medical[ -]record|accession|acc(?:n|ession)?|patient(?:en)?[ -]?(?:id|"
     r"nr|no|number|"
     r"identifier|nummer)|pat\.?[ -]?(?:id|nr|no)|hospital[ -](?:no|number|id)|account|acct|encounter|"
     r"visit[ -](?:no|id)|"
     r"study[ -]id|chart|case[ -](?:no|number|id)|nhs|nhc|fall(?:nummer|-?nr)|aufnahme(?:nummer|-?nr)|auftragsnummer|"
     r"dossier|ipp|numero de historia|historia(?: clinica)?|patientnummer|bsn|policy|versicherten-?(?:nr|nummer)|"
     r"member[ -]id|order[ -](?:no|number|id))(?:[ \t]{1,2}(?:number|no|nr|num|id|nummer|n))?"
     r"[ \t]{0,2}[.:#=°]{0,3}[ \t]{0,2}(?:is |of )?|(?:id|pid)[ \t]{0,2}(?:no\.?|nr\.?)?[ \t]{0,2}[:#=][ \t]{0,2}#?)"
     r"(?P<value>(?=[a-z/._-]{0,8}\d)[a-z0-9](?:[a-z0-9]|[-/._](?=[a-z0-9])){2,39})(?![^\W_])"),
    ("phone", r"(?<![\w.+-])(?:\+?1[ .-]{0,2})?(?:\(\d{3}\)[ ]{0,2}|\d{3}[ .-])\d{3}[ .-]\d{4}(?![\w-]|\.\d)"),
    ("phone", r"(?<![\w.-])\d{3}-\d{4}(?![\w-]|[./]\d)" + _UNIT),
    ("phone", r"(?<![\w+])(?:\+|00)[1-9]\d{0,2}(?:[ ./-]{0,2}\(?\d{1,5}\)?){2,6}(?!\w)"),
    ("phone", r"(?<![\w.,/-])\(?0[1-9]\d{0,4}\)?(?:[ ]?[/-][ ]?|[ ])\d{5,9}(?:[ -]\d{1,5})?(?![\w-]|[.,]\d)"),
    ("phone", r"(?<![\w.,/-])0[1-9](?:([ .-])\d{2}(?:\1\d{2}){3})(?![\w-]|[.,]\d)"),
    ("phone", r"(?<![\w.,/-])[689]\d{2}[ ]\d{3}[ ]\d{3}(?![\w-]|[.,]\d)"),
    ("phone", r"(?<![\w.,/-])0\d[ -]\d{3,4}[ -]\d{3,4}(?![\w-]|[.,]\d)"),
    ("phone", r"(?<![^\W_])(?:phone|tel(?:ephone|efon|efono|efoon)?|cell|mobile|mobil|fax|pager|beeper|durchwahl|ext|"
              r"extension|rufnummer)(?:[ \t]{1,2}(?:number|no|nr))?[ \t]{0,2}[.:#]{0,2}[ \t]{0,2}(?:is |at )?"
              r"(?P<value>[+(]?\d[\d ()./-]{2,20}\d)(?!\w)"),
    ("web", r"(?<![^\W_])(?:https?|ftp)://[^\s<>\"\x1a]{1,2000}|(?<![\w.])www\.[^\s<>\"\x1a]{1,500}"),
    ("web", r"(?<![\w.@-])(?:[a-z0-9-]{1,63}\.){1,5}(?:com|org|net|edu|gov)(?![\w-]|\.\w)(?:/[^\s<>\"\x1a]{0,500})?"),
    ("web", r"(?<![\w.])(?=[\d.]{8})(?:(?:25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)\.){3}(?:25[0-5]|2[0-4]\d|1\d\d|"
            r"[1-9]?\d)(?![\w]|\.\d)"),
    ("web", r"(?<![\w:.])(?:[0-9a-f]{1,4}:){7}[0-9a-f]{1,4}(?![\w:])"),
    ("web", r"(?<![\w:.])(?:[0-9a-f]{1,4}:){1,6}(?::[0-9a-f]{1,4}){1,6}(?![\w:])"),
    ("web", r"(?<![\w:-])(?:[0-9a-f]{2}([:-]))(?:[0-9a-f]{2}\1){4}[0-9a-f]{2}(?![\w:-])"),
))  # fmt: skip

_WORD = r"[A-Z][^\W\d_]{1,24}"
# On the text as written: capital letters tell a street from a word.
_WRITTEN: tuple[tuple[str, re.Pattern[str]], ...] = tuple((kind, re.compile(pattern)) for kind, pattern in (
    ("address",
     rf"(?<![\w.,/-])\d{{1,5}}[A-Za-z]?,?[ \t](?:[NSEW]\.?[ \t]|North |South |East |West )?(?:{_WORD}[ \t]|"
     rf"\d{{1,3}}(?:st|nd|"
     r"rd|th)[ \t]){1,3}(?:Street|St|Avenue|Ave|Road|Rd|Boulevard|Blvd|Lane|Ln|Drive|Court|Place|Terrace|Highway|Hwy|"
     r"Parkway|Pkwy|Crescent|Square)(?![^\W_])\.?(?:,?[ \t](?:Apt|Suite|Unit|Flat)\.?[ \t]\w{1,5})?"),
    ("address", r"(?<![^\W_])(?<!tem)(?<!uft)(?<!arn)(?<!len)(?:[A-Z][^\W\d_]{1,24}[ -]?){0,2}(?:[A-Z][^\W\d_]{1,20}(?:"
                r"strasse|str\.|gasse|allee|platz|straat|laan|plein|gracht|kade)|"
                r"[A-Z][^\W\d_]{2,20}[ -](?:Strasse|Str\.|"
                r"Weg|Gasse|Allee|Platz))[ \t]{0,2}\d{1,4}[ \t]?[a-z]?(?![^\W_])"),
    ("address", r"(?<![\w.,/-])\d{1,4}(?:[ ]?(?:bis|ter))?,?[ ](?i:rue|avenue|boulevard|place|chemin|impasse|"
                r"allee|quai|"
                r"route|cours)[ ](?:(?:de|du|des|la|le|les|l'|d'|de la|aux?)[ ']?){0,3}[A-Z][^\W\d_]{1,24}(?:[ -][A-Z]"
                r"[^\W\d_]{1,24}){0,3}"),
    ("address", r"(?<![^\W_])(?:Calle|C/|Avenida|Avda\.?|Plaza|Paseo|Carrer|Camino|Via|Viale|"
                r"Piazza)[ ]{0,2}(?:(?:de|del|la|"
                r"los|las|el|di)[ ]){0,3}[A-Z][^\W\d_]{1,24}(?:[ ](?:(?:de|del|la|los|"
                r"las)[ ]){0,2}[A-Z][^\W\d_]{1,24}){0,3}"
                r",?[ ](?:n\.?[ ]?o?\.?[ ]?)?\d{1,4}(?!\w)"),
    ("address", rf"(?<![^\W_])(?:{_STATES})[ ,]{{1,2}}\d{{5}}(?:-\d{{4}})?(?![\w-]|[.,]\d)"),
    ("address", r"(?<![\w.-])\d{5}-\d{4}(?![\w-]|\.\d)"),
    ("address", r"(?<![^\W_])(?:D|A|CH|F|B|L|E)-\d{4,5}[ ][A-Z][^\W\d_]{2,24}"),
    ("address", r"(?:(?<=, )|(?<=,)|(?<=\n)|(?<=in ))\d{5}[ ][A-Z][a-z][^\W\d_]{1,24}(?![^\W_])"),
    ("address", r"(?<![^\W_])(?![CTLS]\d)[A-Z]{1,2}\d[A-Z\d]?[ ]\d[ABD-HJLNP-UW-Z]{2}(?![^\W_])(?!-)"),
    ("address", r"(?:(?<=, )|(?<=\n))[1-9]\d{3}[ ](?!CT|MR|AP|PA|XR|US|NM|"
                r"CR)[A-Z]{2}(?=[ ,\n])[ ,]{0,2}[A-Z][a-z]{2,24}"),
    ("address", r"(?<![^\W_])P\.?[ ]?O\.?[ ]Box[ ]\d{1,6}|(?<![^\W_])Postfach[ ]\d{1,6}"),
    ("address", r"(?<![^\W_])(?i:zip|zip code|plz|postcode|postal code)[ ]{0,2}[:#]?[ ]{0,2}\d{4,5}(?:-\d{4})?(?!\w)"),
))  # fmt: skip
_AT = re.compile(r"@|[ \t]{0,2}[(\[]at[)\]][ \t]{0,2}")
_LOCAL = re.compile(r"[\w.+%'-]{1,64}\Z")
_DOMAIN = re.compile(r"[\w-]{1,63}(?:(?:\.|[ \t]?[(\[]dot[)\]][ \t]?)[\w-]{1,63}){1,6}")
_DIGIT = re.compile(r"\d")
_DOTTED = re.compile(r"[\w/:-][.:][\w/:]")
_LEAST_DIGITS = {"number": 5, "phone": 3, "identifier": 1}  # none of a kind's patterns matches with fewer


def find_patterns(folded: Folded) -> Iterator[Hit]:
    """(kind, start, end) in the folded text; not sorted, they may overlap."""
    yield from _emails(folded.lower)
    digits = len(_DIGIT.findall(folded.lower))
    dotted = _DOTTED.search(folded.lower) is not None
    for kind, pattern in _LOWER:
        if digits >= _LEAST_DIGITS.get(kind, 0) and (dotted or kind != "web"):
            group = "value" if "value" in pattern.groupindex else 0
            yield from ((kind, *match.span(group)) for match in pattern.finditer(folded.lower))
    for kind, pattern in _WRITTEN if digits else ():
        yield from ((kind, *match.span()) for match in pattern.finditer(folded.text))


def _emails(lower: str) -> Iterator[Hit]:
    if "@" not in lower and "at)" not in lower and "at]" not in lower:
        return
    for match in _AT.finditer(lower):
        window = max(0, match.start() - 64)
        local = _LOCAL.search(lower[window : match.start()])
        domain = _DOMAIN.match(lower, match.end())
        if local and domain:
            yield "email", window + local.start(), domain.end()
