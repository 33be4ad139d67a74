"""A packed row computes for every sample what the sample computes alone."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from model.adapter import attach
from model.backbone import BaseModel
from model.inputs import Example, collate, encode_all
from model.loss import answer_logits, per_sample
from model.packing import pack, packed_logits, per_packed_sample, segment_masks
from model.spec import LoraSpec


@pytest.mark.parametrize("attention", ["fused_sinks", "eager"])
def test_packed_equals_separate_logits(base: BaseModel, examples: list[Example], attention: str) -> None:
    """Text and images mixed, windows shorter than the samples; float64, so that equal means equal."""
    base.model.set_attn_implementation({"text_config": attention})
    base.model.set_experts_implementation({"text_config": "eager"})
    model = base.model.double()
    samples = encode_all(examples, base.tokenizer, base.spec)
    assert max(map(len, samples)) > base.spec.sliding_window
    packed = pack(samples, base.spec.sliding_window)
    with torch.no_grad():
        together = packed_logits(model, packed)[0]
        alone = torch.cat([packed_logits(model, pack([sample], base.spec.sliding_window))[0] for sample in samples])
        assert together.shape == alone.shape and float((together - alone).abs().max()) < 1e-12
        drop = {name: torch.zeros_like(mask).masked_fill_(torch.ones_like(mask).triu(1) > 0, -1e30)
                for name, mask in packed.masks.items()}  # fmt: skip
        mixed = packed_logits(model, replace(packed, masks=drop))[0]
        assert float((mixed - alone).abs().max()) > 1e-3  # without segments the samples do see one another


def test_loss_and_correctness_equal_the_padded_ones(base: BaseModel, examples: list[Example]) -> None:
    model = attach(base.model, LoraSpec(rank=2), seed=0)
    samples = encode_all(examples, base.tokenizer, base.spec)
    rows, packed = collate(samples), pack(samples, base.spec.sliding_window)
    with torch.no_grad():
        padded = per_sample(answer_logits(model, rows), rows.labels)
        result = per_packed_sample(packed_logits(model, packed), packed)
    assert torch.allclose(result.loss, padded.loss, atol=2e-5)
    assert result.correct.tolist() == padded.correct.tolist()


def test_correct_ignores_the_channel_header_of_each_sample(base: BaseModel, examples: list[Example]) -> None:
    packed = pack(encode_all(examples, base.tokenizer, base.spec), base.spec.sliding_window)
    right = torch.nn.functional.one_hot(packed.labels[packed.labels >= 0], base.spec.vocab_size)[None]
    owners = packed.token_samples[packed.labels[0] >= 0]
    assert per_packed_sample(right, packed).correct.all()
    right[0, (owners == 1).nonzero()[:3]] = 0  # the header of sample 1
    assert per_packed_sample(right, packed).correct.all()
    right[0, (owners == 2).nonzero()[3]] = 0  # the answer of sample 2
    assert per_packed_sample(right, packed).correct.tolist() == [True, True, False, True, True, True]


def test_masks_by_hand() -> None:
    masks = segment_masks(torch.tensor([0, 0, 0, 1, 1]), sliding_window=2)
    full = torch.tensor([[1, 0, 0, 0, 0], [1, 1, 0, 0, 0], [1, 1, 1, 0, 0], [0, 0, 0, 1, 0], [0, 0, 0, 1, 1]])
    window = full.clone()
    window[2, 0] = 0
    for name, expected in (("full_attention", full), ("sliding_attention", window)):
        mask = masks[name]
        assert mask.shape == (1, 1, 5, 5)
        assert torch.equal(mask[0, 0] == 0, expected.bool())
        assert bool((mask[0, 0][expected == 0] == torch.finfo(torch.float32).min).all())


def test_a_row_keeps_order_of_tokens_tiles_and_samples(base: BaseModel, examples: list[Example]) -> None:
    samples = encode_all(examples[1:4], base.tokenizer, base.spec)
    packed = pack(samples, 16).to("cpu")
    assert packed.input_ids.shape == (1, sum(map(len, samples)))
    assert packed.num_samples == 3
    assert packed.tile_samples.tolist() == [1] * samples[1].num_tiles + [2] * samples[2].num_tiles
    start = 0
    for index, sample in enumerate(samples):
        part = slice(start, start := start + len(sample))
        assert torch.equal(packed.input_ids[0, part], sample.input_ids)
        assert torch.equal(packed.labels[0, part], sample.labels)
        assert torch.equal(packed.position_ids[0, part], torch.arange(len(sample)))
        assert bool((packed.token_samples[part] == index).all())


def test_what_cannot_be_packed_is_refused(base: BaseModel, examples: list[Example]) -> None:
    sample = encode_all(examples[:1], base.tokenizer, base.spec)[0]
    with pytest.raises(ValueError, match="at least one sample"):
        pack([], 16)
    with pytest.raises(ValueError, match="first token"):
        pack([replace(sample, labels=sample.input_ids)], 16)
    packed = pack([sample], 16)
    with pytest.raises(ValueError, match="exactly the positions"):
        per_packed_sample(torch.zeros(1, 3, 5), packed)
    silent = replace(packed, labels=torch.full_like(packed.labels, -100))
    with pytest.raises(ValueError, match="at least one answer token"):
        per_packed_sample(torch.zeros(1, 0, 5), silent)
