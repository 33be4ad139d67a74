"""The Harmony conversation format with images, and which of its tokens carry loss.

One sample, as the GPT-oss branch of InternVL renders it (OpenGVLab/InternVL, internvl_chat_gpt_oss,
`preprocess_internvl3_5_gpt_oss`):

    <|start|>system<|message|>{system}<|end|><|start|>user<|message|><img><IMG_CONTEXT>*N</img>
    {question}<|end|><|start|>assistant<|channel|>final<|message|>{answer}<|return|>

Loss falls on the assistant's turn only: from `<|channel|>` to `<|return|>`, without the `<|start|>assistant` prefix
that inference supplies. An empty system text leaves its turn out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tokenizers import Tokenizer

from model.spec import ModelSpec
from model.tokenizer import special_id, text_ids

__all__ = ["HEADER_LENGTH", "IMAGE_PLACEHOLDER", "Rendered", "render", "answer_header"]

HEADER_LENGTH = 3
"""Supervised tokens before the answer proper: `<|channel|>`, `final`, `<|message|>`."""

IMAGE_PLACEHOLDER = "<image>"
"""Where an image goes in a question; without any, images come first, one a line."""


@dataclass(frozen=True)
class Rendered:
    """ids: token ids; mask: True where the token is a training target; truncated: question or answer was cut."""

    ids: list[int]
    mask: list[bool]
    truncated: bool


def render(
    question: str, answer: str | None, tiles_per_image: Sequence[int], tokenizer: Tokenizer, spec: ModelSpec
) -> Rendered:
    """One conversation as token ids and loss mask; `answer=None` ends with `<|start|>assistant`, ready to generate.

    A question too long for `spec.max_tokens` loses its beginning: in every format here the request stands at the end.
    An answer longer than half of them loses its end (and with it `<|return|>`).
    Raises ValueError when placeholders and images disagree or when images and answer alone exceed the limit.
    """
    head = _system_turn(tokenizer, spec) + _opening(tokenizer, "user")
    tail = [special_id(tokenizer, "<|end|>"), *_prefix(tokenizer)]
    whole = [] if answer is None else _target(tokenizer, answer)
    target = whole[: spec.max_tokens // 2]
    body = _user_body(question, tiles_per_image, tokenizer, spec)
    room = spec.max_tokens - len(head) - len(tail) - len(target)
    kept = _fit(body, room, spec.image_token_id)
    ids = head + kept + tail + target
    mask = [False] * (len(ids) - len(target)) + [True] * len(target)
    return Rendered(ids, mask, truncated=len(kept) < len(body) or len(target) < len(whole))


def answer_header(tokenizer: Tokenizer) -> list[int]:
    """`<|channel|>final<|message|>`: three ids. Raises ValueError when `final` is not a single token."""
    final = text_ids(tokenizer, "final")
    if len(final) != 1:
        raise ValueError("The tokenizer splits the word 'final'; use a Harmony tokenizer that keeps it whole.")
    return [special_id(tokenizer, "<|channel|>"), *final, special_id(tokenizer, "<|message|>")]


def _target(tokenizer: Tokenizer, answer: str) -> list[int]:
    return [*answer_header(tokenizer), *text_ids(tokenizer, answer), special_id(tokenizer, "<|return|>")]


def _prefix(tokenizer: Tokenizer) -> list[int]:
    return [special_id(tokenizer, "<|start|>"), *text_ids(tokenizer, "assistant")]


def _opening(tokenizer: Tokenizer, role: str) -> list[int]:
    start, message = special_id(tokenizer, "<|start|>"), special_id(tokenizer, "<|message|>")
    return [start, *text_ids(tokenizer, role), message]


def _system_turn(tokenizer: Tokenizer, spec: ModelSpec) -> list[int]:
    if not spec.system:
        return []
    return [*_opening(tokenizer, "system"), *text_ids(tokenizer, spec.system), special_id(tokenizer, "<|end|>")]


def _user_body(question: str, tiles_per_image: Sequence[int], tokenizer: Tokenizer, spec: ModelSpec) -> list[int]:
    """The user's text with every image in its place, as ids."""
    parts = question.split(IMAGE_PLACEHOLDER)
    if len(parts) == 1:
        parts = ["", *["\n"] * (len(tiles_per_image) - 1), "\n" + question] if tiles_per_image else parts
    if len(parts) != len(tiles_per_image) + 1:
        raise ValueError(f"render: the question must hold one {IMAGE_PLACEHOLDER} for each image, or none at all.")
    ids = text_ids(tokenizer, parts[0])
    opening, closing = special_id(tokenizer, "<img>"), special_id(tokenizer, "</img>")
    for tiles, text in zip(tiles_per_image, parts[1:], strict=True):
        ids += [opening, *[spec.image_token_id] * (tiles * spec.tokens_per_tile), closing]
        ids += text_ids(tokenizer, text)
    return ids


def _fit(body: list[int], room: int, image_token_id: int) -> list[int]:
    """The body without its first text tokens where it is too long; image tokens are never cut."""
    excess = len(body) - room
    if excess <= 0:
        return body
    last_image = max((i for i, token in enumerate(body) if token == image_token_id), default=-1)
    keep_until = last_image + 2 if last_image >= 0 else 0  # through the closing </img>
    if keep_until + excess > len(body):
        raise ValueError("render: the images and the answer alone exceed the model's max_tokens.")
    return body[:keep_until] + body[keep_until + excess :]
