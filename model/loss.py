"""The training loss: for every sample the mean over ITS OWN answer tokens, never a mean over the batch.

A batch-token mean (transformers' default `loss`) would let one patient's long answer rescale everybody else's gradient,
and then a per-patient clip bounds nobody's influence. Callers sum these per-sample values.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F

from model.harmony import HEADER_LENGTH
from model.inputs import IGNORE, Batch

__all__ = ["PerSample", "answer_logits", "per_sample"]


@dataclass(frozen=True, eq=False)
class PerSample:
    """loss: float (B,), differentiable; correct: bool (B,), every answer token is the argmax (channel header aside)."""

    loss: torch.Tensor
    correct: torch.Tensor


def answer_logits(model: Any, batch: Batch) -> torch.Tensor:
    """One forward; logits (B, num_logits, V) of the trailing positions that the answers need."""
    outputs = model(
        input_ids=batch.input_ids,
        attention_mask=batch.attention_mask,
        pixel_values=batch.pixel_values,
        logits_to_keep=batch.num_logits,
        use_cache=False,
    )
    logits: torch.Tensor = outputs.logits
    return logits


def per_sample(logits: torch.Tensor, labels: torch.Tensor) -> PerSample:
    """Loss and correctness of each row.

    logits (B, K, V): of the last K of T positions (K = T for all); labels int64 (B, T), IGNORE where no loss falls.
    Raises ValueError when a row has no label, or when K is too short for the labels.
    """
    keep = logits.shape[1]
    targets = labels[:, labels.shape[1] - keep + 1 :]
    supervised = targets != IGNORE
    counts = supervised.sum(dim=1)
    if bool((counts != (labels != IGNORE).sum(dim=1)).any()):
        raise ValueError("per_sample: the logits do not reach back to the first label; keep more positions.")
    if bool((counts == 0).any()):
        raise ValueError("per_sample: every sample needs at least one answer token.")
    shifted = logits[:, :-1].float()
    losses = F.cross_entropy(shifted.transpose(1, 2), targets, ignore_index=IGNORE, reduction="none")
    scored = supervised & (supervised.cumsum(dim=1) > HEADER_LENGTH)
    hit = shifted.detach().argmax(dim=-1) == targets
    return PerSample(loss=losses.sum(dim=1) / counts, correct=(hit | ~scored).all(dim=1))
