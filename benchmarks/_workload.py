"""The model and the batch of a measured step: GPT-oss with PEFT LoRA and random weights, token ids at random."""

from __future__ import annotations

import copy
import warnings
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks._grid import Point

__all__ = ["Batch", "DTYPES", "PackedBatch", "build", "make_batch", "packed", "packed_losses", "patient_losses",
            "precision", "replica", "trainable"]

DTYPES = ("float32", "bfloat16", "autocast", "float64")
"""Weights in that type; `autocast` is float32 weights under bfloat16 autocast."""

ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj")
EXPERTS = ("mlp.experts.gate_up_proj", "mlp.experts.down_proj")
IGNORE = -100


@dataclass(frozen=True)
class Batch:
    """ids, mask, labels: int64 (B, T), padded on the right; patients: int64 (B,), the patient of each row."""

    ids: Tensor
    mask: Tensor
    labels: Tensor
    patients: Tensor
    num_patients: int

    def alone(self, patient: int) -> Batch:
        """That patient's rows alone, cut to their longest, as a batch of one patient."""
        own = self.patients == patient
        length = int(self.mask[own].sum(dim=1).max())
        ids, mask, labels = (part[own, :length] for part in (self.ids, self.mask, self.labels))
        return Batch(ids, mask, labels, torch.zeros_like(self.patients[own]), 1)


@dataclass(frozen=True)
class PackedBatch:
    """The same patients without padding, side by side in one row of T tokens; masks keep them apart.

    ids, positions: int64 (1, T); patients: int64 (T,); labels: int64 (T,), IGNORE on each row's first token; lengths:
    each row's tokens.
    """

    ids: Tensor
    positions: Tensor
    labels: Tensor
    patients: Tensor
    masks: dict[str, Tensor]
    lengths: tuple[int, ...]
    num_patients: int


def packed(batch: Batch, sliding_window: int, dtype: torch.dtype) -> PackedBatch:
    """`batch` without its padding. One row a patient."""
    from model.packing import segment_masks

    lengths = batch.mask.sum(dim=1)
    patients = torch.repeat_interleave(batch.patients, lengths)
    kept = batch.mask.bool()
    positions = (batch.mask.cumsum(dim=1) - 1)[kept]
    labels = batch.labels[kept].masked_fill(positions == 0, IGNORE)
    masks = segment_masks(patients, sliding_window, dtype=dtype)
    return PackedBatch(batch.ids[kept][None], positions[None], labels, patients, masks, tuple(lengths.tolist()),
                       batch.num_patients)


def packed_losses(adapted: Any, batch: PackedBatch) -> Tensor:
    """(P,): as `patient_losses`, from one packed forward."""
    outputs = adapted(input_ids=batch.ids, attention_mask=batch.masks, position_ids=batch.positions, use_cache=False,
                      packed_lengths=batch.lengths)
    values = outputs.logits[0, :-1].to(torch.promote_types(outputs.logits.dtype, torch.float32))
    labels, owners = batch.labels[1:], batch.patients[1:]
    losses = F.cross_entropy(values, labels, ignore_index=IGNORE, reduction="none")
    counts = torch.bincount(owners[labels != IGNORE], minlength=batch.num_patients)
    return losses.new_zeros(batch.num_patients).index_add(0, owners, losses) / counts


def build(point: Point, device: str, dtype: str, attention: str) -> nn.Module:
    """The model with LoRA at random (both factors, so that both have a gradient), the same for the same point."""
    from peft import LoraConfig, get_peft_model
    from transformers import GptOssForCausalLM

    import model.sink_attention  # noqa: F401  registers the fused attention

    torch.manual_seed(0)
    weights = {"float64": torch.float64, "bfloat16": torch.bfloat16}.get(dtype, torch.float32)
    before = torch.get_default_dtype()
    torch.set_default_dtype(weights)
    try:
        with torch.device(device):
            base = GptOssForCausalLM(_config(point))
    finally:
        torch.set_default_dtype(before)
    base.set_attn_implementation(attention)
    base.set_experts_implementation("eager" if dtype == "float64" else "grouped_mm")  # the latter refuses double
    config = LoraConfig(r=point.rank, lora_alpha=2 * point.rank, target_modules=list(ATTENTION), bias="none",
                        target_parameters=list(EXPERTS) if point.experts else None)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        adapted = get_peft_model(base, config).to(device)
    for name, parameter in adapted.named_parameters():
        if "lora_" in name:
            parameter.data = parameter.data.to(weights)
        if "lora_B" in name:
            nn.init.normal_(parameter, std=0.02)
    if point.checkpointing != "none":
        _checkpoint(adapted, reentrant=point.checkpointing == "reentrant")
    # Checkpointing acts in training mode only; the model has no dropout, so the numbers are the same.
    return adapted.train()


def replica(adapted: nn.Module) -> nn.Module:
    """A second module tree with its own adapter and the same frozen weights: an arm may patch it."""
    frozen = [p for p in adapted.parameters() if not p.requires_grad]
    shared = {id(tensor): tensor for tensor in (*frozen, *adapted.buffers())}
    return copy.deepcopy(adapted, shared)


def trainable(adapted: nn.Module) -> list[tuple[str, nn.Parameter]]:
    """(name, parameter) of the adapter."""
    return [(name, parameter) for name, parameter in adapted.named_parameters() if parameter.requires_grad]


def make_batch(point: Point, device: str) -> Batch:
    """Random token ids of the point's lengths; every token but the first is predicted."""
    draw = torch.Generator().manual_seed(1)
    ids = torch.zeros(point.batch, point.length, dtype=torch.int64)
    mask = torch.zeros_like(ids)
    for row, length in enumerate(point.lengths):
        ids[row, :length] = torch.randint(3, _vocabulary(point), (length,), generator=draw)
        mask[row, :length] = 1
    patients = torch.arange(point.batch) // point.rows_per_patient
    labels = ids.masked_fill(mask == 0, IGNORE)
    return Batch(ids.to(device), mask.to(device), labels.to(device), patients.to(device), point.num_patients)


def patient_losses(adapted: Any, batch: Batch) -> Tensor:
    """(P,): each patient's mean over its rows of each row's mean token loss; one forward."""
    logits = adapted(input_ids=batch.ids, attention_mask=batch.mask, use_cache=False).logits
    losses = row_means(logits, batch.labels)
    if batch.num_patients == losses.shape[0]:
        return losses
    sums = losses.new_zeros(batch.num_patients).index_add(0, batch.patients, losses)
    return sums / torch.bincount(batch.patients, minlength=batch.num_patients)


def row_means(logits: Tensor, labels: Tensor) -> Tensor:
    """(B,): each row's mean loss over its own tokens, in float32 or better."""
    targets = labels[:, 1:]
    values = logits[:, :-1].to(torch.promote_types(logits.dtype, torch.float32))
    losses = F.cross_entropy(values.flatten(0, 1), targets.flatten(), ignore_index=IGNORE, reduction="none")
    return losses.view(targets.shape).sum(dim=1) / (targets != IGNORE).sum(dim=1)


def precision(dtype: str, device: str) -> AbstractContextManager[Any]:
    """The autocast of a step, if any."""
    return torch.autocast(device, torch.bfloat16) if dtype == "autocast" else nullcontext()


def _vocabulary(point: Point) -> int:
    return 16_384 if point.gpt_oss_heads else 1_024


def _config(point: Point) -> Any:
    from transformers import GptOssConfig

    heads, kv_heads, head_dim = (64, 8, 64) if point.gpt_oss_heads else (point.width // 32, point.width // 128, 32)
    rope = {"rope_type": "yarn", "rope_theta": 150_000.0, "factor": 32.0, "original_max_position_embeddings": 4096,
            "beta_fast": 32.0, "beta_slow": 1.0, "truncate": False}
    return GptOssConfig(
        vocab_size=_vocabulary(point), hidden_size=point.width, intermediate_size=point.width,
        num_hidden_layers=point.layers, num_attention_heads=heads, num_key_value_heads=kv_heads, head_dim=head_dim,
        num_local_experts=point.num_experts, num_experts_per_tok=point.per_token, sliding_window=128,
        max_position_embeddings=131_072, rope_parameters=rope, bos_token_id=1, eos_token_id=2, pad_token_id=0,
        output_router_logits=False, tie_word_embeddings=False)


def _checkpoint(adapted: Any, *, reentrant: bool) -> None:
    adapted.get_base_model().gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": reentrant})
    adapted.get_base_model().enable_input_require_grads()  # the reentrant kind needs a differentiable input
