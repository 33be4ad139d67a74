"""ChatML conversations: the template's own tokens, loss on the answer alone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from model.backbone import BaseModel
from model.generation import prompt_of
from model.harmony import Message, render
from model.inputs import IGNORE, Example, collate, encode
from tests.model.made_gguf import small_llama, write_gguf
from tests.model.test_gguf_file import base_from


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> BaseModel:
    folder = tmp_path_factory.mktemp("chatml")
    return base_from(write_gguf(folder / "a.gguf", small_llama()), folder / "base")


def text_of(base: BaseModel, ids: list[int]) -> str:
    return str(base.tokenizer.decode(ids, skip_special_tokens=False))


def test_a_conversation_is_the_template_s(base: BaseModel) -> None:
    rendered = render("Which?", "That one.", [], base.tokenizer, base.spec, [Message("user", "Hm"), Message(
        "assistant", "Well", "final")])
    assert text_of(base, rendered.ids) == (
        f"<|im_start|>system\n{base.spec.system}<|im_end|>\n<|im_start|>user\nHm<|im_end|>\n<|im_start|>assistant\nWell"
        "<|im_end|>\n<|im_start|>user\nWhich?<|im_end|>\n<|im_start|>assistant\nThat one.<|im_end|>")
    assert text_of(base, [t for t, m in zip(rendered.ids, rendered.mask, strict=True) if m]) == "That one.<|im_end|>"
    asked = prompt_of(Example("Which?", ""), base.tokenizer, base.spec)
    assert text_of(base, asked.ids).endswith("Which?<|im_end|>\n<|im_start|>assistant\n")


def test_an_answer_has_no_header_and_a_batch_says_so(base: BaseModel) -> None:
    sample = encode(Example("Which?", "That"), base.tokenizer, base.spec)
    assert sample.header == 0 and sample.prompt_length == int((sample.labels == IGNORE).sum())
    assert collate([sample, sample]).header == 0
    with pytest.raises(ValueError, match="one conversation format"):
        collate([sample, replace(sample, header=3)])


def test_a_question_too_long_loses_its_beginning_and_an_image_none(base: BaseModel) -> None:
    picture = np.zeros((16, 16, 3), dtype=np.uint8)
    question = "<image> " + "x " * 900 + "Write."
    sample = encode(Example(question, "So", images=(picture,)), base.tokenizer, base.spec)
    assert len(sample) == base.spec.max_tokens and sample.truncated
    assert int((sample.input_ids == base.spec.image_token_id).sum()) == base.spec.tokens_per_tile
    assert "Write.<|im_end|>" in text_of(base, sample.input_ids.tolist())
