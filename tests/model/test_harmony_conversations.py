"""Conversations rendered as OpenAI's openai-harmony renders them, token by token (tests/vectors/make_harmony.py)."""

from __future__ import annotations

import json
import runpy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer

from model.harmony import HEADER_LENGTH, Message, answer_header, developer_text, render, system_text
from model.inputs import Example, encode
from model.spec import MEDGPT_OSS_20B, ModelSpec
from model.tokenizer import special_id

MAKER = runpy.run_path(str(Path(__file__).parents[1] / "vectors" / "make_harmony.py"))
ROWS = json.loads(MAKER["FILE"].read_text(encoding="ascii"))
STRUCTURE = ("<|start|>", "<|end|>", "<|message|>", "<|channel|>", "<|return|>")


def spec_of(row: dict[str, Any]) -> ModelSpec:
    """The full model's spec with the conversation's system text."""
    system = row["system"]
    text = system_text(**{"identity": ""} | system) if isinstance(system, dict) else system or ""
    return replace(MEDGPT_OSS_20B, system=text)


def history_of(row: dict[str, Any]) -> list[Message]:
    return [
        Message(turn["role"], developer_text(turn["instructions"]) if "instructions" in turn else turn["text"],
                turn.get("channel", ""))
        for turn in row["history"]]  # fmt: skip


@pytest.mark.parametrize("row", ROWS, ids=[row["name"] for row in ROWS])
def test_ids_are_those_of_openai_harmony(row: dict[str, Any], harmony_tokenizer: Tokenizer) -> None:
    arguments = ([], harmony_tokenizer, spec_of(row), history_of(row))
    trained = render(row["question"], row["answer"], *arguments)
    assert trained.ids == row["training"] and not trained.truncated
    assert render(row["question"], None, *arguments).ids == row["completion"]


@pytest.mark.parametrize("row", ROWS, ids=[row["name"] for row in ROWS])
def test_the_last_answer_alone_carries_loss(row: dict[str, Any], harmony_tokenizer: Tokenizer) -> None:
    trained = render(row["question"], row["answer"], [], harmony_tokenizer, spec_of(row), history_of(row))
    first = trained.mask.index(True)
    assert trained.ids[:first] == row["completion"] and all(trained.mask[first:])
    assert trained.ids[first : first + HEADER_LENGTH] == answer_header(harmony_tokenizer)
    assert harmony_tokenizer.decode(trained.ids[first + HEADER_LENGTH : -1]) == row["answer"]


def test_the_file_is_what_openai_harmony_gives_today() -> None:
    assert MAKER["text"](MAKER["make"]()) == MAKER["FILE"].read_text(encoding="ascii"), "run make_harmony.py"


def test_text_that_looks_like_specials_adds_none(harmony_tokenizer: Tokenizer) -> None:
    """Each turn opens, speaks and closes once, whatever the texts hold."""
    (row,) = [row for row in ROWS if row["name"] == "specials in system and history"]
    turns = 1 + len(row["history"]) + 2
    rendered = render(row["question"], row["answer"], [], harmony_tokenizer, spec_of(row), history_of(row))
    counts = [rendered.ids.count(special_id(harmony_tokenizer, token)) for token in STRUCTURE]
    assert counts == [turns, turns - 1, turns, 2, 1]


def test_images_stand_as_internvl_has_them(harmony_tokenizer: Tokenizer) -> None:
    spec = MEDGPT_OSS_20B
    tile = "<IMG_CONTEXT>" * spec.tokens_per_tile
    rendered = render("Compare.", "Stable.", [2, 1], harmony_tokenizer, spec)
    assert harmony_tokenizer.decode(rendered.ids, skip_special_tokens=False) == (
        f"<|start|>system<|message|>{spec.system}<|end|>"
        f"<|start|>user<|message|><img>{tile * 2}</img>\n<img>{tile}</img>\nCompare.<|end|>"
        "<|start|>assistant<|channel|>final<|message|>Stable.<|return|>")  # fmt: skip


def test_an_example_is_encoded_with_the_full_vocabulary(harmony_tokenizer: Tokenizer) -> None:
    sample = encode(Example("Is it normal?", "abnormal", ("normal", "abnormal")), harmony_tokenizer, MEDGPT_OSS_20B)
    ids = sample.input_ids.tolist()
    assert harmony_tokenizer.decode(ids[sample.prompt_length : -1]) == "abnormal"
    assert ids[-1] == MEDGPT_OSS_20B.eos_token_id
    assert ids[sample.prompt_length : -1] == list(sample.choices[sample.answer])


def test_the_full_models_system_text_has_harmonys_form() -> None:
    assert MEDGPT_OSS_20B.system == system_text(
        "You are a helpful medical assistant.", reasoning="low", channels=["final"])  # fmt: skip


def test_earlier_turns_are_never_cut(harmony_tokenizer: Tokenizer) -> None:
    spec = replace(MEDGPT_OSS_20B, system="", max_tokens=40)
    history = [Message("user", "Nodule?"), Message("assistant", "Stable.", "final")]
    rendered = render("word " * 80 + "And now?", "Stable.", [], harmony_tokenizer, spec, history)
    text = harmony_tokenizer.decode(rendered.ids, skip_special_tokens=False)
    assert rendered.truncated and len(rendered.ids) == 40
    assert text.startswith("<|start|>user<|message|>Nodule?<|end|><|start|>assistant<|channel|>final<|message|>Stable.")
    assert "And now?<|end|>" in text
    with pytest.raises(ValueError, match="earlier turns"):
        render("And now?", "Stable.", [], harmony_tokenizer, spec, history * 5)


@pytest.mark.parametrize("arguments", [("system", "x"), ("tool", "x"), ("user", "x", "final"), ("assistant", "x"),
                                       ("assistant", "x", "aside"), ("developer", "x", "analysis")])  # fmt: skip
def test_turns_that_are_none(arguments: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match="Message: "):
        Message(*arguments)
