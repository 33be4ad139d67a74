"""Answers token by token: the same text as all at once, whatever the bytes, and streams that take turns."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from model.backbone import BaseModel
from model.evaluate import answer
from model.generation import AnswerPiece, Prompt, prompt_of, stream_answer
from model.harmony import answer_header, render
from model.inputs import Example, tiles_of


def stream(base: BaseModel, example: Example, most: int) -> Iterator[AnswerPiece]:
    prompt = prompt_of(example, base.tokenizer, base.spec)
    return stream_answer(base.model, prompt, base.tokenizer, base.spec, max_new_tokens=most)


def decoded_at_once(base: BaseModel, example: Example, most: int) -> str:
    """The whole answer by its definition: no cache, every id decoded together at the end."""
    tiles = tiles_of(example, base.spec)
    ids = render(example.question, None, [len(t) for t in tiles], base.tokenizer, base.spec).ids
    ids = ids + answer_header(base.tokenizer)
    start = len(ids)
    for _ in range(most):
        with torch.no_grad():
            row = torch.tensor([ids])
            logits = base.model(input_ids=row, attention_mask=torch.ones_like(row), use_cache=False,
                                pixel_values=torch.cat(tiles) if tiles else None).logits  # fmt: skip
        token = int(logits[0, -1].argmax())
        if token == base.spec.eos_token_id:
            break
        ids.append(token)
    return str(base.tokenizer.decode(ids[start:], skip_special_tokens=True))


@pytest.mark.parametrize("number", range(6))
def test_pieces_are_the_whole_answer(base: BaseModel, examples: list[Example], number: int) -> None:
    pieces = list(stream(base, examples[number], 24))
    text = "".join(piece.text for piece in pieces)
    assert text == decoded_at_once(base, examples[number], 24) and text
    assert answer(base.model, examples[number], base.tokenizer, base.spec, max_new_tokens=24) == text.strip()
    ended = [piece.token_id == base.spec.eos_token_id for piece in pieces]
    assert ended.index(True) == len(pieces) - 1 if any(ended) else len(pieces) == 24


class Scripted:
    """A model that says the given ids, whatever it is asked."""

    def __init__(self, ids: list[int], vocabulary: int) -> None:
        self.ids, self.vocabulary = iter(ids), vocabulary

    def parameters(self) -> Iterator[torch.Tensor]:
        yield torch.zeros(1)

    def __call__(self, **_: Any) -> SimpleNamespace:
        logits = torch.zeros(1, 1, self.vocabulary)
        logits[0, 0, next(self.ids)] = 1
        return SimpleNamespace(logits=logits, past_key_values=None)


def say(base: BaseModel, ids: list[int], most: int = 100) -> list[str]:
    model = Scripted([*ids, base.spec.eos_token_id], base.spec.vocab_size)
    prompt = Prompt([1], None, False)
    return [p.text for p in stream_answer(model, prompt, base.tokenizer, base.spec, max_new_tokens=most)]


def test_a_character_of_several_tokens_comes_out_whole(base: BaseModel) -> None:
    ids = list(base.tokenizer.encode("é肺😀.").ids)
    assert len(ids) == 2 + 3 + 4 + 1  # one token a byte
    assert say(base, ids) == ["", "é", "", "", "肺", "", "", "", "😀", ".", ""]


def test_bytes_that_are_no_text_and_an_answer_cut_inside_a_character(base: BaseModel) -> None:
    ids = list(base.tokenizer.encode("a肺😀b").ids)
    broken = [*ids[:3], *ids[4:6], ids[-1], ids[2], base.spec.pad_token_id, ids[0]]
    for most in range(1, len(broken) + 2):
        expected = base.tokenizer.decode(broken[:most], skip_special_tokens=True)
        assert "".join(say(base, broken, most)) == expected
    assert "�" in expected


def test_two_streams_take_turns_without_touching_each_other(base: BaseModel, examples: list[Example]) -> None:
    alone = [list(stream(base, example, 12)) for example in examples[2:4]]
    first, second = (stream(base, example, 12) for example in examples[2:4])
    together: list[list[AnswerPiece]] = [[], []]
    for _ in range(12):
        for number, turn in enumerate((first, second)):
            together[number] += [piece for piece in [next(turn, None)] if piece is not None]
    assert together == alone


def test_inference_mode_is_off_between_tokens(base: BaseModel, examples: list[Example]) -> None:
    turns = stream(base, examples[0], 3)
    next(turns)
    assert not torch.is_inference_mode_enabled() and torch.is_grad_enabled()


def test_a_question_that_is_cut_says_so(base: BaseModel) -> None:
    assert not prompt_of(Example("short", ""), base.tokenizer, base.spec).truncated
    assert prompt_of(Example("long " * base.spec.max_tokens, ""), base.tokenizer, base.spec).truncated
