"""Encoding and collating: labels, tile rows, padding, and examples that cannot be."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from model.backbone import BaseModel
from model.inputs import IGNORE, Example, collate, encode, encode_all, length_buckets
from model.loss import hidden_states


def test_labels_are_the_answer_and_the_prompt_ends_before_it(base: BaseModel, examples: list[Example]) -> None:
    sample = encode(examples[0], base.tokenizer, base.spec)
    answer = base.tokenizer.encode("normal").ids
    assert sample.input_ids[sample.prompt_length :].tolist() == [*answer, base.spec.eos_token_id]
    assert torch.equal(sample.labels[sample.labels != IGNORE], sample.input_ids[-5:])
    assert sample.choices == tuple((base.tokenizer.encode(c).ids[0],) for c in ("normal", "abnormal"))
    assert sample.answer == 0 and sample.pixel_values is None


def test_two_images_of_a_sample_belong_to_its_row(base: BaseModel, examples: list[Example]) -> None:
    samples = encode_all([examples[0], examples[2], examples[5], examples[3]], base.tokenizer, base.spec)
    batch = collate(samples)
    assert batch.tile_rows.tolist() == [1, 1, 2, 2, 2, 2, 3, 3]  # two patches; a 3 x 1 grid and its thumbnail; two
    images = (batch.input_ids == base.spec.image_token_id).sum(dim=1)
    assert torch.equal(images, torch.bincount(batch.tile_rows, minlength=4) * base.spec.tokens_per_tile)
    assert batch.pixel_values is not None and samples[3].pixel_values is not None
    assert torch.equal(batch.pixel_values[batch.tile_rows == 3], samples[3].pixel_values)


def test_padding_is_on_the_left_and_masked(base: BaseModel, examples: list[Example]) -> None:
    samples = encode_all(examples, base.tokenizer, base.spec)
    batch = collate(samples)
    for row, sample in enumerate(samples):
        assert torch.equal(batch.input_ids[row, batch.attention_mask[row].bool()], sample.input_ids)
        assert bool(batch.attention_mask[row, -1])
    longest = max(int((sample.labels != IGNORE).sum()) for sample in samples)
    assert batch.num_logits == longest + 1


def test_a_batch_without_images_has_no_pixels(base: BaseModel, examples: list[Example]) -> None:
    batch = collate(encode_all(examples[:2], base.tokenizer, base.spec))
    assert batch.pixel_values is None and batch.tile_rows.tolist() == []
    with pytest.raises(ValueError, match="at least one sample"):
        collate([])


def test_buckets_cover_every_sample_once_and_separate_images(base: BaseModel, examples: list[Example]) -> None:
    samples = encode_all(examples, base.tokenizer, base.spec)
    buckets = length_buckets(samples, 3)
    assert sorted(i for bucket in buckets for i in bucket) == list(range(len(samples)))
    assert [samples[i].num_tiles > 0 for bucket in buckets for i in bucket] == [False] * 3 + [True] * 3


def test_impossible_examples_are_refused_without_quoting_them(base: BaseModel, examples: list[Example]) -> None:
    for bad in (replace(examples[0], answer="secret"), replace(examples[4], answer="")):
        with pytest.raises(ValueError, match="encode: ") as error:
            encode(bad, base.tokenizer, base.spec)
        assert "secret" not in str(error.value)
    with pytest.raises(ValueError, match="shorter than half"):
        encode(Example("Q?", "clear " * 120, ("clear " * 120, "no")), base.tokenizer, base.spec)


def test_a_rows_positions_begin_where_its_padding_ends(base: BaseModel, examples: list[Example]) -> None:
    batch = collate(encode_all(examples, base.tokenizer, base.spec))
    for row, kept in zip(batch.position_ids, batch.attention_mask.bool(), strict=True):
        assert row[kept].tolist() == list(range(int(kept.sum()))) and not row[~kept].any()


def test_a_long_neighbour_does_not_move_a_row(base: BaseModel, examples: list[Example]) -> None:
    """Rotary angles are float32: with padding counted as positions a row would drift with its neighbour's length."""
    sample = encode_all(examples[:1], base.tokenizer, base.spec)[0]
    long = replace(sample, input_ids=torch.randint(20, 400, (3000,)), labels=torch.randint(20, 400, (3000,)))
    states = []
    for batch in (collate([sample]), collate([sample, long])):
        with torch.no_grad():
            found = hidden_states(base.model, input_ids=batch.input_ids, attention_mask=batch.attention_mask,
                                  position_ids=batch.position_ids)
        states.append(found[0, -len(sample) :])
    assert float((states[0] - states[1]).abs().max()) < 5e-6  # 4e-5 without
