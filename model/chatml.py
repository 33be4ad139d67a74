"""ChatML conversations, which LLaMA-type bases such as SmolLM2-Instruct were trained on, and which tokens carry loss.

    <|im_start|>system\\n{system}<|im_end|>\\n<|im_start|>user\\n{question}<|im_end|>\\n
    <|im_start|>assistant\\n{answer}<|im_end|>

as the checkpoint's own chat template writes it. Loss falls on the answer and the `<|im_end|>` that closes it. An image
is a run of the spec's image token and a line break; no ChatML base of this project was trained on images.
"""

from __future__ import annotations

from collections.abc import Sequence

from tokenizers import Tokenizer

from model.spec import ModelSpec
from model.tokenizer import CHATML_TOKENS, special_id, text_ids

__all__ = ["chatml_body", "chatml_head", "chatml_tail", "chatml_target", "chatml_turn"]

_START, _END = CHATML_TOKENS[1], CHATML_TOKENS[2]


def chatml_turn(tokenizer: Tokenizer, role: str, text: str) -> list[int]:
    """One whole turn and the line break after it."""
    start, end = special_id(tokenizer, _START), special_id(tokenizer, _END)
    return [start, *text_ids(tokenizer, f"{role}\n{text}"), end, *text_ids(tokenizer, "\n")]


def chatml_head(tokenizer: Tokenizer, system: str, history: Sequence[tuple[str, str]] = ()) -> list[int]:
    """Everything before the question: the system turn (left out when empty), earlier turns, the user's opening."""
    turns = ([("system", system)] if system else []) + list(history)
    ids = [token for role, text in turns for token in chatml_turn(tokenizer, role, text)]
    return [*ids, special_id(tokenizer, _START), *text_ids(tokenizer, "user\n")]


def chatml_body(tiles: Sequence[int], parts: Sequence[str], tokenizer: Tokenizer, spec: ModelSpec) -> list[int]:
    """The user's text; `parts` are its pieces around the images, of which `tiles` holds the number of tiles."""
    ids = text_ids(tokenizer, parts[0])
    for count, text in zip(tiles, parts[1:], strict=True):
        ids += [spec.image_token_id] * (count * spec.tokens_per_tile) + text_ids(tokenizer, "\n" + text)
    return ids


def chatml_tail(tokenizer: Tokenizer) -> list[int]:
    """The end of the user's turn and the assistant's opening."""
    return [special_id(tokenizer, _END), *text_ids(tokenizer, "\n"), special_id(tokenizer, _START),
            *text_ids(tokenizer, "assistant\n")]


def chatml_target(tokenizer: Tokenizer, answer: str) -> list[int]:
    """The tokens that carry loss."""
    return [*text_ids(tokenizer, answer), special_id(tokenizer, _END)]
