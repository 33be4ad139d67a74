"""A tiny Llava(GptOss + CLIP) with LoRA, ragged multi-image patients, and the single-patient loop as truth."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from privacy.dp.clipping import SLACK
from privacy.dp.engine import PatientGradients

IMAGE_TOKEN, TOKENS_PER_TILE, VOCABULARY = 99, 4, 100
TARGETS = r".*(language_model.*\.(q_proj|k_proj|v_proj|o_proj)|multi_modal_projector\.linear_[12])"


@dataclass
class Sample:
    """One row: token ids, and the tiles its image tokens stand for."""

    patient: int
    ids: Tensor
    tiles: Tensor


@dataclass
class Cohort:
    """Samples in patient order."""

    samples: list[Sample] = field(default_factory=list)

    def of(self, patients: list[int]) -> list[Sample]:
        return [sample for sample in self.samples if sample.patient in patients]


def make_cohort(tiles_of: list[list[int]], lengths: list[int], seed: int = 0) -> Cohort:
    """`tiles_of[p]` has the number of tiles of each sample of patient p; lengths are used cyclically."""
    draw = torch.Generator().manual_seed(seed)
    cohort = Cohort()
    for patient, counts in enumerate(tiles_of):
        for count in counts:
            length = lengths[len(cohort.samples) % len(lengths)]
            text = torch.randint(3, IMAGE_TOKEN - 1, (length,), generator=draw)
            ids = torch.cat([torch.full((count * TOKENS_PER_TILE,), IMAGE_TOKEN), text])
            tiles = torch.randn(count, 3, 28, 28, generator=draw, dtype=torch.float64)
            cohort.samples.append(Sample(patient, ids, tiles))
    return cohort


EXPERTS = ("mlp.experts.gate_up_proj", "mlp.experts.down_proj")


def build_llava(
    dtype: torch.dtype = torch.float64, targets: str | list[str] = TARGETS, factor: str = "AB",
    experts: tuple[str, ...] = (),
) -> nn.Module:
    """The model of model.md section 2, smaller; LoRA B is filled so that A has a gradient."""
    from peft import LoraConfig, get_peft_model
    from transformers import (
        CLIPVisionConfig,
        GptOssConfig,
        LlavaConfig,
        LlavaForConditionalGeneration,
    )

    torch.manual_seed(0)
    rope = {
        "rope_type": "yarn", "rope_theta": 150000.0, "factor": 32.0, "original_max_position_embeddings": 16,
        "beta_fast": 32.0, "beta_slow": 1.0, "truncate": False,
    }  # fmt: skip
    text = GptOssConfig(
        vocab_size=VOCABULARY, hidden_size=32, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, head_dim=16, num_local_experts=4, num_experts_per_tok=2, sliding_window=8,
        max_position_embeddings=512, rope_parameters=rope, bos_token_id=1, eos_token_id=2, pad_token_id=0,
        tie_word_embeddings=False,
    )  # fmt: skip
    vision = CLIPVisionConfig(
        hidden_size=16, intermediate_size=16, num_hidden_layers=2, num_attention_heads=2, image_size=28, patch_size=14
    )
    config = LlavaConfig(
        vision_config=vision, text_config=text, image_token_index=IMAGE_TOKEN, image_seq_length=TOKENS_PER_TILE,
        vision_feature_layer=-2, vision_feature_select_strategy="default", tie_word_embeddings=False,
    )  # fmt: skip
    base = LlavaForConditionalGeneration(config)
    for part in (base.config, base.config.text_config):
        part._experts_implementation = "eager"  # the default grouped product refuses float64
    lora = LoraConfig(r=3, lora_alpha=6, target_modules=targets, target_parameters=list(experts) or None)
    model = get_peft_model(base, lora)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            nn.init.normal_(parameter, std=0.2)
        if "lora_" in name:
            parameter.requires_grad_(re.search(r"lora_(.)", name).group(1) in factor)
    return model.to(dtype)


def trainable(model: nn.Module) -> list[tuple[str, nn.Parameter]]:
    return [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]


def forward(model: nn.Module, samples: list[Sample]) -> Tensor:
    """Mean token loss of each row (B,), rows padded on the right to the longest."""
    longest = max(len(sample.ids) for sample in samples)
    ids = torch.zeros(len(samples), longest, dtype=torch.int64)
    mask = torch.zeros_like(ids)
    for row, sample in enumerate(samples):
        ids[row, : len(sample.ids)] = sample.ids
        mask[row, : len(sample.ids)] = 1
    tiles = torch.cat([sample.tiles for sample in samples])
    dtype = next(model.parameters()).dtype
    inputs = {"pixel_values": tiles.to(dtype)} if len(tiles) else {}
    logits = model(input_ids=ids, attention_mask=mask, use_cache=False, **inputs).logits
    labels = ids[:, 1:].masked_fill((mask[:, 1:] == 0) | (ids[:, 1:] == IMAGE_TOKEN), -100)
    losses = nn.functional.cross_entropy(logits[:, :-1].transpose(1, 2), labels, reduction="none")
    return losses.sum(1) / (labels != -100).sum(1)


def rows_and_tiles(samples: list[Sample]) -> tuple[Tensor, Tensor, list[int]]:
    """Row map, tile map and the patients in order, numbered from 0 inside the micro-batch."""
    order = sorted({sample.patient for sample in samples})
    rows = torch.tensor([order.index(sample.patient) for sample in samples])
    tiles = torch.tensor([order.index(s.patient) for s in samples for _ in s.tiles], dtype=torch.int64)
    return rows, tiles, order


def run_microbatch(
    model: nn.Module, engine: PatientGradients, samples: list[Sample], weights: Tensor | None = None
) -> list[int]:
    """One forward and backward of the sum of (weighted) row losses; returns the patients."""
    rows, tiles, order = rows_and_tiles(samples)
    with engine.microbatch(text_patients=rows, image_patients=tiles, num_patients=len(order)):
        losses = forward(model, samples)
        (losses if weights is None else losses * weights).sum().backward()
    return order


def packed_forward(model: nn.Module, samples: list[Sample], masks: str | None = "segments") -> Tensor:
    """Mean token loss of each sample, all in one row; masks "segments", or None for positions alone."""
    from model.packing import segment_masks

    lengths = torch.tensor([len(sample.ids) for sample in samples])
    owners = torch.repeat_interleave(torch.arange(len(samples)), lengths)
    positions = torch.cat([torch.arange(int(length)) for length in lengths])[None]
    ids = torch.cat([sample.ids for sample in samples])[None]
    tiles = torch.cat([sample.tiles for sample in samples])
    inputs = {"pixel_values": tiles.to(next(model.parameters()).dtype)} if len(tiles) else {}
    mask = segment_masks(owners, 8) if masks == "segments" else masks
    inputs["packed_lengths"] = tuple(lengths.tolist())  # read by fused_sinks, ignored by eager attention
    logits = model(input_ids=ids, attention_mask=mask, position_ids=positions, use_cache=False, **inputs).logits[0]
    # The token after a sample's last one is another sample's: no target.
    targets = ids[0, 1:].masked_fill((owners[1:] != owners[:-1]) | (ids[0, 1:] == IMAGE_TOKEN), -100)
    losses = nn.functional.cross_entropy(logits[:-1], targets, reduction="none")
    total = losses.new_zeros(len(samples)).index_add(0, owners[:-1], losses)
    counts = torch.zeros(len(samples), dtype=torch.int64).index_add(0, owners[:-1], (targets != -100).long())
    return total / counts


def run_packed(
    model: nn.Module, engine: PatientGradients, samples: list[Sample], weights: Tensor | None = None,
    masks: str | None = "segments",
) -> list[int]:
    """As `run_microbatch`, the samples in one packed row."""
    rows, tiles, order = rows_and_tiles(samples)
    tokens = torch.repeat_interleave(rows, torch.tensor([len(sample.ids) for sample in samples]))
    with engine.microbatch(token_patients=tokens, image_patients=tiles, num_patients=len(order)):
        losses = packed_forward(model, samples, masks)
        (losses if weights is None else losses * weights).sum().backward()
    return order


def loop_gradients(model: nn.Module, cohort: Cohort) -> Tensor:
    """The truth: each patient alone through plain autograd; (patients, D). Call before an engine attaches."""
    gradients = []
    for patient in sorted({sample.patient for sample in cohort.samples}):
        model.zero_grad(set_to_none=True)
        forward(model, cohort.of([patient])).sum().backward()
        flat = [
            (torch.zeros_like(p) if p.grad is None else p.grad).flatten() for _, p in trainable(model)
        ]
        gradients.append(torch.cat(flat))
    model.zero_grad(set_to_none=True)
    return torch.stack(gradients)


def exact_sum(model: nn.Module, cohort: Cohort, bound: float) -> np.ndarray:
    """The clipped sum that every engine must give, from the single-patient loop; float64[D]."""
    return clip(loop_gradients(model, cohort), bound * (1 - SLACK)).sum(0).numpy()


def clip(gradients: Tensor, bound: float) -> Tensor:
    """Rows scaled to a norm of at most `bound`."""
    norms = gradients.double().norm(dim=1, keepdim=True)
    return gradients.double() * torch.clamp(bound / norms, max=1)


@pytest.fixture(scope="session")
def tiny():
    """This module, for tests: pytest imports test files apart, so they cannot import one another."""
    import sys

    return sys.modules[__name__]
