"""Conversations in LLaVA's layout (Liu et al., "Visual Instruction Tuning", NeurIPS 2023): each answer is one sample.

The model learns one answer at a time, so every human turn with its answer becomes a question of its own, with the
turns before it in front of its text. ``<image>`` marks where a picture stood; here all pictures come first, so the
marks go.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from site_client.records import Refusal, RefusedItemError
from site_client.sources.interface import Question
from site_client.sources.table_rows import required, tidy

__all__ = ["MAX_PAIRS", "conversation_questions"]

MAX_PAIRS = 64
_ASKING, _ANSWERING = ("human", "user"), ("gpt", "assistant")


def conversation_questions(
    item: str, row: Mapping[str, Any], patient_id: str, paths: Sequence[str]
) -> Iterator[Question | Refusal]:
    """One question for each pair of turns of ``conversations``; what comes after a refused one is refused with it.

    Raises RefusedItemError when the conversation as a whole is not usable.
    """
    name = row.get("id")
    if isinstance(name, bool) or not isinstance(name, int | str) or not str(name).strip():
        raise RefusedItemError("identifier-missing")
    turns = row.get("conversations")
    if not isinstance(turns, list) or not 1 <= len(turns) <= 2 * MAX_PAIRS:
        raise RefusedItemError("conversation-malformed")
    texts = [_said(turn, _ANSWERING if index % 2 else _ASKING) for index, turn in enumerate(turns)]
    said: list[str] = []
    for first in range(0, len(texts), 2):
        place = f"{item} turn {first + 1}"
        try:
            question = required(texts[first], "text-missing")
            answer = required("".join(texts[first + 1 : first + 2]), "answer-missing")
            text = tidy(" ".join([*said, question]))
        except RefusedItemError as refusal:
            yield Refusal(place, refusal.code)
            return
        yield Question(place, patient_id, f"{str(name).strip()}.{first // 2 + 1}", "question", text, (), answer,
                       paths=tuple(paths))
        said += [f"Question: {question}", f"Answer: {answer}"]


def _said(turn: object, roles: Sequence[str]) -> str:
    if not isinstance(turn, dict) or turn.get("from") not in roles or not isinstance(turn.get("value"), str):
        raise RefusedItemError("conversation-malformed")
    return tidy(turn["value"].replace("<image>", " "))
