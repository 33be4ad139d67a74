"""One question of a benchmark as the model is asked it, and how questions are put into words.

Prompts ask for a structured answer, so that it can be compared without another model as a judge. Images come before
the text: one alone as `<image>`, several as `<image_1>: <image>` lines, as MedGPT-oss takes them; references such as
`<image 1>` in a question or an option become `<image_1>`.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass

from model.answer_text import LETTERS
from model.benchmarks.pictures import Picture

__all__ = ["KINDS", "Item", "choice_prompt", "fingerprint", "label_prompt", "open_prompt", "selected", "with_pictures"]

KINDS = ("choice", "label", "closed", "open", "impression")
"""choice: a letter names an option. label: one of a few words. closed and open: VQA. impression: a report's summary."""

_REFERENCE = re.compile(r"<image[ _](\d+)>")
_PLACEHOLDER = "<image>"


@dataclass(frozen=True, eq=False)
class Item:
    """One question.

    key: unique in its benchmark. group: what is resampled as a whole (a patient, an image, a video). prompt: the user's
    whole text, with one `<image>` for each picture. answer: the reference: the letter of a choice, else a text.
    """

    key: str
    group: str
    kind: str
    prompt: str
    answer: str
    choices: tuple[str, ...] = ()
    pictures: tuple[Picture, ...] = ()


def choice_prompt(question: str, choices: Sequence[str]) -> str:
    """The question with lettered options."""
    options = "\n".join(f"{letter}. {choice}" for letter, choice in zip(LETTERS, choices, strict=False))
    return f"{question}\n{options}\nAnswer with the letter of the correct option only."


def label_prompt(question: str, labels: Sequence[str]) -> str:
    """The question to be answered with one of a few words."""
    return f"{question}\nAnswer with one word only: {', '.join(labels[:-1])} or {labels[-1]}."


def open_prompt(question: str, chinese: bool = False) -> str:
    """The question to be answered with a word or a phrase."""
    return f"{question}\n{'请用一个词或短语回答。' if chinese else 'Answer with a single word or phrase.'}"


def with_pictures(prompt: str, count: int) -> str:
    """The prompt after its `count` images; what looks like a place for an image inside the text is none."""
    text = _REFERENCE.sub(r"<image_\1>", prompt.replace(_PLACEHOLDER, "[image]"))
    if count < 2:
        return f"{_PLACEHOLDER}\n{text}" if count else text
    places = "\n".join(f"<image_{number}>: {_PLACEHOLDER}" for number in range(1, count + 1))
    return f"{places}\n{text}"


def selected(items: Sequence[Item], limit: int, seed: int) -> list[Item]:
    """At most `limit` items (0: all), the same ones for the same seed, in their order.

    They are those whose SHA-256 of seed and key is smallest: a larger limit keeps those of a smaller one.
    """
    if not limit or limit >= len(items):
        return list(items)
    order = sorted(items, key=lambda item: hashlib.sha256(f"{seed}|{item.key}".encode()).digest())
    kept = {item.key for item in order[:limit]}
    return [item for item in items if item.key in kept]


def fingerprint(items: Sequence[Item]) -> str:
    """SHA-256 (hex) over every question, its reference and the names and sizes of its pictures."""
    digest = hashlib.sha256(b"benchmark/1|")
    for item in items:
        facts = [item.key, item.group, item.kind, item.prompt, item.answer, *item.choices,
                 *(f"{picture.name}|{picture.size_bytes}" for picture in item.pictures)]
        for fact in facts:
            digest.update(f"{len(fact)}|{fact}|".encode())
    return digest.hexdigest()
