"""Greedy answers token by token, with a key-value cache: the text comes out as it is made."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from tokenizers import Tokenizer

from model.harmony import answer_header, render
from model.inputs import Example, tiles_of
from model.spec import ModelSpec

__all__ = ["AnswerPiece", "Prompt", "prompt_of", "stream_answer"]

_INCOMPLETE = "\N{REPLACEMENT CHARACTER}"


@dataclass(frozen=True, eq=False)
class Prompt:
    """A question ready for the model: ids up to and with `<|channel|>final<|message|>`.

    pixel_values: float32 (n_tiles, 3, S, S), or None. truncated: the question's beginning did not fit and was cut.
    """

    ids: list[int]
    pixel_values: torch.Tensor | None
    truncated: bool


@dataclass(frozen=True)
class AnswerPiece:
    """One token of an answer and the text that it completes: "" while a character still lacks bytes.

    `<|return|>` is a piece too, always the last; an answer without it was cut at the most tokens asked for.
    """

    token_id: int
    text: str


def prompt_of(example: Example, tokenizer: Tokenizer, spec: ModelSpec) -> Prompt:
    """Tile the images and render the question. Raises ValueError when placeholders and images disagree, and when the
    images alone exceed `spec.max_tokens`."""
    tiles = tiles_of(example, spec)
    rendered = render(example.question, None, [len(t) for t in tiles], tokenizer, spec)
    pixel_values = torch.cat(tiles) if tiles else None
    return Prompt(rendered.ids + answer_header(tokenizer, spec), pixel_values, rendered.truncated)


def stream_answer(
    model: Any, prompt: Prompt, tokenizer: Tokenizer, spec: ModelSpec, *, max_new_tokens: int
) -> Iterator[AnswerPiece]:
    """The likeliest token, again and again, until `<|return|>` or `max_new_tokens` of them; one forward each.

    The texts together are those of all ids decoded at once, whatever bytes the tokens hold. Nothing of the stream is
    kept in the model, so that two streams of one model may take turns.
    """
    device = next(iter(model.parameters())).device
    pixels = None if prompt.pixel_values is None else prompt.pixel_values.to(device)
    fresh, length, cache = prompt.ids, 0, None
    pending: list[int] = []
    for remaining in range(max_new_tokens - 1, -1, -1):
        length += len(fresh)
        token_id, cache = _step(model, fresh, length, pixels, cache)
        fresh, pixels = [token_id], None
        ended = token_id == spec.eos_token_id
        pending += [] if ended else fresh
        text = tokenizer.decode(pending, skip_special_tokens=True)
        if not text.endswith(_INCOMPLETE) or ended or not remaining:
            pending = []
        yield AnswerPiece(token_id, "" if pending else text)
        if ended:
            return


def _step(
    model: Any, fresh: list[int], length: int, pixels: torch.Tensor | None, cache: Any
) -> tuple[int, Any]:  # fmt: skip
    """The token after `fresh`, the last of `length` so far, and the cache with them in it."""
    with torch.inference_mode():  # not around the generator: it would stay on between its steps
        device = next(iter(model.parameters())).device
        outputs = model(
            input_ids=torch.tensor([fresh], device=device),
            attention_mask=torch.ones((1, length), dtype=torch.int64, device=device),
            pixel_values=pixels,
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        )
        return int(outputs.logits[0, -1].argmax()), outputs.past_key_values
