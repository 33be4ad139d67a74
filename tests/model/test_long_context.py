"""Positions far beyond the original context: stock GPT-oss' YaRN, against transformers' eager code and the formula."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from configs.load import load_config
from configs.schema import CurriculumConfig
from model.backbone import build, empty
from model.spec import MEDGPT_OSS_20B, TINY

STOCK = {"rope_factor": 32.0, "original_context": 4096, "sliding_window": 128, "max_tokens": 32_768}
NARROW = replace(
    TINY, name="narrow", vocab_size=256, hidden_size=32, expert_size=16, num_heads=2, num_kv_heads=1, head_dim=16,
    num_experts=3, initializer_range=0.2, **STOCK)
"""The stock's positions and window at a small width."""


def test_the_frequencies_are_those_of_the_paper() -> None:
    """YaRN, arXiv 2309.00071, section 3.2 with `truncate: false`: interpolated below beta_slow turns, kept above
    beta_fast, a ramp in between; and the attention's temperature, equation 22."""
    rotary = empty(MEDGPT_OSS_20B).model.language_model.rotary_emb
    width, theta, original, factor = 64, 150_000.0, 4096, 32.0

    def turns(beta: float) -> float:
        return width * math.log(original / (beta * 2 * math.pi)) / (2 * math.log(theta))

    low, high = turns(32.0), turns(1.0)
    for pair, found in enumerate(rotary.inv_freq.tolist()):
        plain = theta ** (-2 * pair / width)
        ramp = min(1.0, max(0.0, (pair - low) / (high - low)))
        assert found == pytest.approx(plain * (1 - ramp) + plain / factor * ramp, rel=1e-5)
    assert rotary.attention_scaling == pytest.approx(0.1 * math.log(factor) + 1)


@pytest.mark.parametrize("length", [129, 4500])
def test_logits_far_out_are_those_of_the_reference(length: int) -> None:
    """Rows longer than the window, and than the original context, with the positions of its end in play."""
    ours, theirs = build(NARROW, 0), build(NARROW, 0, attention="eager", experts="eager")
    ids = torch.randint(20, 256, (1, length), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        found = ours(input_ids=ids, logits_to_keep=64).logits
        expected = theirs(input_ids=ids, logits_to_keep=64).logits
    assert float((found - expected).abs().max()) < 1e-5
    assert float(expected.abs().max()) > 0.1


@pytest.mark.parametrize("start", [4_000, 32_600, 130_900])
def test_a_short_row_far_out_is_that_of_the_reference(start: int) -> None:
    """Absolute positions up to the end of the context: cosines of large angles are the reference's."""
    ours, theirs = build(NARROW, 0), build(NARROW, 0, attention="eager", experts="eager")
    ids = torch.randint(20, 256, (1, 150), generator=torch.Generator().manual_seed(1))
    positions = torch.arange(start, start + 150)[None]
    with torch.no_grad():
        found = ours(input_ids=ids, position_ids=positions, attention_mask=torch.ones_like(ids)).logits
        expected = theirs(input_ids=ids, position_ids=positions, attention_mask=torch.ones_like(ids)).logits
        near = ours(input_ids=ids).logits
    assert float((found - expected).abs().max()) < 1e-5
    assert float((found - near).abs().max()) < 0.02 * float(near.abs().max())


def test_a_row_of_32768_tokens_runs_without_a_square() -> None:
    """4.3 GB of scores a head would not fit; the windowed layers and the causal kernel need none."""
    model = build(replace(NARROW, num_layers=2, num_heads=1), 0)
    ids = torch.randint(20, 256, (1, 32_768), generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        logits = model(input_ids=ids, logits_to_keep=8).logits
        tail = model(input_ids=ids[:, -200:], logits_to_keep=8).logits
    assert bool(torch.isfinite(logits).all()) and not torch.allclose(logits, tail, atol=1e-4)


def test_the_second_stage_of_the_full_curriculum_has_it() -> None:
    file = Path(__file__).resolve().parents[2] / "configs" / "curriculum" / "medgpt-oss.yaml"
    stages = load_config(CurriculumConfig, file).stages
    assert [stage.max_tokens for stage in stages] == [2048, 32_768, 8192]
    assert max(stage.max_tokens for stage in stages) <= MEDGPT_OSS_20B.context
