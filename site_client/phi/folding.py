# ruff: noqa: RUF001  (letters that look alike are this module's business)
"""Texts folded for comparison, each folded character knowing where it stood in the original.

What a reader does not see must not hide a name: zero-width characters, soft hyphens, combining marks, bidirectional
controls and variation selectors vanish; kinds of blanks, hyphens, apostrophes, digits and widths become one each;
Cyrillic and Greek letters that look Latin become Latin (on both sides of a comparison, so Cyrillic names still
match). Case stays, since `names` looks at it; `Folded.lower` is the same string in lower case, position by position.

A token that `redact` wrote (``[NAME]``) is masked by `OPAQUE`, which is neither letter, digit nor blank: nothing is
found in it or across it.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

__all__ = ["KINDS", "OPAQUE", "PLACEHOLDER", "Folded", "Token", "fold", "fold_name", "masked", "token_of", "tokens"]

KINDS = ("name", "person", "date", "age", "identifier", "phone", "number", "email", "web", "address")
OPAQUE = "\x1a"

PLACEHOLDER = re.compile(r"\[(?:" + "|".join(kind.upper() for kind in KINDS) + r")\]")
_TOKEN = re.compile(r"[^\W\d_]+|\d+")
_CONTROL = re.compile(r"[\x00-\x08\x0e-\x1f\x7f]")
_LETTERS = {"ς": "σ", "ß": "ss", "ẞ": "SS", "æ": "ae", "Æ": "Ae", "œ": "oe", "Œ": "Oe", "ø": "o", "Ø": "O",
            "ł": "l", "Ł": "L",
            "đ": "d", "Đ": "D", "ð": "d", "Ð": "D", "þ": "th", "Þ": "Th", "ı": "i", "ŀ": "l", "ħ": "h", "Ħ": "H"}
_SIGNS = {**dict.fromkeys("‘’‚‛ʼʹ`´′＇ʻʾʿ", "'"), **dict.fromkeys("‐‑‒–—―−﹣－⁃", "-"), "⁄": "/", "∕": "/",
          "․": ".", "·": ".", "・": " ", "。": ".", "，": ",", "、": ",", "：": ":", "\u200e": "", "\u034f": ""}
# Both cases of a letter go the same way, or names in Cyrillic or Greek would no longer match across case.
_LOOKALIKES = dict(zip("АВЕКМНОРСТУХІЈЅавекмнорстухіјѕԁһԛԝΑΒΕΖΗΙΚΜΝΟΡΤΥΧαβεζηικμνορτυχ",
                       "ABEKMHOPCTYXIJSabekmhopctyxijsdhqwABEZHIKMNOPTYXabezhikmnoptyx", strict=True))


@dataclass(frozen=True, slots=True)
class Folded:
    """``text`` and ``lower``: the folded string, n characters. ``origin``: n + 1 positions in the original of
    ``length`` characters, or None where both are the same string."""

    text: str
    lower: str
    origin: tuple[int, ...] | None
    length: int

    def span(self, start: int, end: int) -> tuple[int, int]:
        """Positions [start, end) of the folded text as positions of the original; what was dropped after the last
        character belongs to it."""
        if self.origin is None:
            return start, end
        return self.origin[start], max(self.origin[end], self.origin[end - 1] + 1)


class Token(NamedTuple):
    """A run of letters or of digits: its place in the folded text, as written and in lower case."""

    start: int
    end: int
    text: str
    lower: str


def fold(text: str) -> Folded:
    """The text for comparison; linear in its length."""
    if text.isascii() and not _CONTROL.search(text):
        plain = masked(text, _placeholders(text))
        return Folded(plain, plain.lower(), None, len(text))
    folded: list[str] = []
    origin: list[int] = []
    for start, end in _clusters(text):
        written = _folded_cluster(text[start:end])
        folded.append(written)
        origin.extend([start] * len(written))
    whole = "".join(folded)
    whole = masked(whole, _placeholders(whole))
    return Folded(whole, "".join(map(_lower, whole)), (*origin, len(text)), len(text))


def fold_name(text: str) -> str:
    """A name or an identifier folded like the texts that it is compared with, in lower case."""
    return fold(text).lower


def masked(text: str, spans: list[tuple[int, int]]) -> str:
    """The text with each of the sorted, disjoint spans replaced by as many `OPAQUE` characters."""
    parts, done = [], 0
    for start, end in spans:
        parts += [text[done:start], OPAQUE * (end - start)]
        done = end
    return "".join([*parts, text[done:]]) if parts else text


def tokens(folded: Folded) -> list[Token]:
    """Every run of letters and every run of digits, in order."""
    lower = folded.lower
    return [Token(match.start(), match.end(), match[0], lower[match.start() : match.end()])
            for match in _TOKEN.finditer(folded.text)]


def token_of(kind: str) -> str:
    """What stands in a redacted text instead of a hit of this kind, such as ``[NAME]``."""
    return f"[{kind.upper()}]"


def _placeholders(text: str) -> list[tuple[int, int]]:
    return [match.span() for match in PLACEHOLDER.finditer(text)] if "[" in text else []


def _clusters(text: str) -> list[tuple[int, int]]:
    """Each character with the marks and Hangul vowels and finals that follow it."""
    starts = [i for i, char in enumerate(text) if i == 0 or not _joins(char)]
    return list(zip(starts, [*starts[1:], len(text)], strict=True))


@lru_cache(maxsize=8192)
def _joins(char: str) -> bool:
    return char > "\u02ff" and (unicodedata.category(char) in ("Mn", "Me") or "\u1160" <= char <= "\u11ff")


@lru_cache(maxsize=8192)
def _folded_cluster(cluster: str) -> str:
    # An endless run of marks would be one cluster: it is cut, for it spells nothing.
    base = cluster[:16]
    if len(base) == 1 and (base in _SIGNS or base in _LETTERS or base in _LOOKALIKES):
        return _SIGNS.get(base) or _LETTERS.get(base) or _LOOKALIKES.get(base) or ""
    composed = unicodedata.normalize("NFC", base)
    if "\uac00" <= composed[0] <= "\ud7a3":
        return composed[0]
    return "".join(map(_folded_character, unicodedata.normalize("NFKD", base)))


def _folded_character(char: str) -> str:
    category = unicodedata.category(char)
    if category in ("Mn", "Me", "Cf", "Cs") or _CONTROL.match(char):
        return ""
    if category in ("Zs", "Zl", "Zp"):
        return "\n" if category != "Zs" else " "
    if category == "Nd":
        return str(unicodedata.digit(char))
    if char in _SIGNS:
        return _SIGNS[char]
    return _LETTERS.get(char) or _LOOKALIKES.get(char) or char


def _lower(char: str) -> str:
    lower = char.lower()
    return lower if len(lower) == 1 else char
