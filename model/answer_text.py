"""What a model's answer says: normalised text, token F1, and the option that a structured answer names.

Normalisation and token F1 follow SQuAD (Rajpurkar et al., arXiv 1606.05250, section 6.1): lower case, no punctuation,
no articles, single spaces; F1 over the bags of tokens. One thing differs: punctuation separates words here (`x-ray` is
`x ray`), SQuAD's script removes it without a trace. Medical VQA work reports the same two (exact match as accuracy in
VQA-RAD, Lau et al. 2018, and SLAKE, Liu et al., arXiv 2102.09542; token F1 in Med-PaLM M, Tu et al., arXiv 2307.14334).
Chinese characters are tokens of their own.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections import Counter
from collections.abc import Sequence

__all__ = ["LETTERS", "exact_match", "named_choice", "named_label", "normalised", "token_f1"]

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
"""Letters of options, in order."""

_ARTICLES = {"a", "an", "the"}
_KEPT = "%°+<>=±≤≥"  # signs that carry meaning beside a number
_MARKUP = "*_`#$ \t\n\r"
_LEAD = re.compile(
    r"(?:the\s+)?(?:final\s+|correct\s+)?(?:answer|option|choice)\b(?:\s+is\b)?\s*[:=]?\s*", re.IGNORECASE)
_BOXED = re.compile(r"\\boxed\{(.*)\}", re.DOTALL)
_LETTER = re.compile(r"[(\[]?\s*([A-Z])\s*[)\].:,]*\s*", re.IGNORECASE)
_LETTER_AND_TEXT = re.compile(
    r"(?:[(\[]\s*([A-Z])\s*[)\]][.:]?|([A-Z])\s*[).:,-]+)\s*(\S.*)", re.IGNORECASE | re.DOTALL)


def normalised(text: str) -> str:
    """Lower case, without punctuation and English articles, single spaces; characters of one width (NFKC)."""
    plain = unicodedata.normalize("NFKC", text).casefold()
    kept = "".join(" " if unicodedata.category(c)[0] in "PS" and c not in _KEPT else c for c in plain)
    return " ".join(word for word in kept.split() if word not in _ARTICLES)


def exact_match(reference: str, candidate: str) -> bool:
    """Whether both are the same text once normalised; never for an empty answer."""
    found = normalised(candidate)
    return bool(found) and found == normalised(reference)


def token_f1(reference: str, candidate: str) -> float:
    """2 P R / (P + R) over the bags of normalised tokens, 0..1; 0 when nothing is common."""
    wanted, found = Counter(_tokens(reference)), Counter(_tokens(candidate))
    common = sum((wanted & found).values())
    return 2 * common / (wanted.total() + found.total()) if common else 0.0


def named_choice(answer: str, choices: Sequence[str]) -> int | None:
    """The index of the option that a structured answer names, None when it is malformed.

    Understood: a letter alone (`B`, `(B)`, `B.`), a letter with exactly that option's text, an option's whole text,
    each also after `Answer:` or `The answer is`, in Markdown emphasis, in `\\boxed{}`, or as JSON {"answer": ...}.
    A letter wins over an equal text. Anything more, two letters, or a letter with another option's text is malformed.
    """
    text = _core(answer)
    if (letter := _LETTER.fullmatch(text)) is not None:
        index = LETTERS.index(letter[1].upper())
        return index if index < len(choices) else None
    if (pair := _LETTER_AND_TEXT.fullmatch(text)) is not None:
        index = LETTERS.index((pair[1] or pair[2]).upper())
        if index < len(choices) and exact_match(choices[index], pair[3]):
            return index
    return named_label(answer, choices)


def named_label(answer: str, labels: Sequence[str]) -> int | None:
    """The index of the label that the answer consists of, None when it is none of them or could be two."""
    for text in (answer, _core(answer)):
        found = [index for index, label in enumerate(labels) if exact_match(label, text)]
        if found:
            return found[0] if len(found) == 1 else None
    return None


def _core(answer: str) -> str:
    """The answer without wrapping: JSON, box, emphasis, and words that announce it."""
    text = answer.strip()
    if text.startswith("{") and text.endswith("}"):
        text = _from_json(text)
    text = text.strip(_MARKUP)
    if (boxed := _BOXED.fullmatch(text)) is not None:
        text = boxed[1]
    text = _LEAD.sub("", text, count=1) if _LEAD.match(text) and not _LETTER.fullmatch(text) else text
    return text.strip(_MARKUP)


def _from_json(text: str) -> str:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return text
    wanted = value.get("answer") if isinstance(value, dict) else None
    return wanted if isinstance(wanted, str) else text


def _tokens(text: str) -> list[str]:
    spaced = re.sub(r"([\u3400-\u9fff])", r" \1 ", normalised(text))
    return spaced.split()
