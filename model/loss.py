"""The training loss: for every sample the mean over ITS OWN answer tokens, never a mean over the batch.

A batch-token mean (transformers' default `loss`) would let one patient's long answer rescale everybody else's gradient,
and then a per-patient clip bounds nobody's influence. Callers sum these per-sample values.

Training takes `answer_losses`: the language head sees only the tokens that carry loss, a chunk of them at a time, and
what backward needs is computed beside the loss, so that no T x V tensor exists (V = 201,088: 0.8 MB a token, float32).
Where the logits themselves are wanted, `answer_logits` with `per_sample` gives the same values.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F

from model.frozen_layers import continued
from model.harmony import HEADER_LENGTH
from model.inputs import IGNORE, Batch

__all__ = ["PerSample", "answer_logits", "answer_losses", "hidden_states", "means_of_samples", "per_sample",
           "token_losses"]

# Numbers of one chunk's logits in float32: 256 MiB.
_CHUNK = 1 << 26


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
        position_ids=batch.position_ids,
        pixel_values=batch.pixel_values,
        logits_to_keep=batch.num_logits,
        use_cache=False,
    )
    logits: torch.Tensor = outputs.logits
    return logits


def answer_losses(model: Any, batch: Batch) -> PerSample:
    """Loss and correctness of each row (B,), from one forward of the model without its language head; of the layers
    above the frozen ones only, where the batch has their outputs (`model.frozen_prefix`).

    The head must be frozen, as it is under adapters: ValueError. Raises ValueError when a row has no label.
    """
    if batch.states is not None:
        states = continued(_plain(model), batch.states, batch.attention_mask, batch.position_ids)
    else:
        states = hidden_states(
            model, input_ids=batch.input_ids, attention_mask=batch.attention_mask, position_ids=batch.position_ids,
            pixel_values=batch.pixel_values)
    targets = batch.labels[:, 1:].to(states.device)  # the last layer may lie on another than the first
    supervised = targets != IGNORE
    losses, hit = token_losses(states[:, :-1][supervised], _plain(model).lm_head.weight, targets[supervised])
    rows = torch.arange(len(targets), device=targets.device)[:, None].expand_as(targets)[supervised]
    return means_of_samples(losses, hit, rows, len(targets), batch.header)


def hidden_states(model: Any, **inputs: Any) -> torch.Tensor:
    """(B, T, d): what the language head would be given."""
    found: torch.Tensor = _plain(model).model(use_cache=False, **inputs).last_hidden_state
    return found


def token_losses(states: torch.Tensor, head: torch.Tensor, targets: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Cross-entropy of each token in float32 at least (K,), differentiable in `states`, and whether the argmax hits.

    states (K, d), head (V, d), targets int64 (K,). Memory: one chunk of logits, and (K, d) for backward.
    Raises ValueError when the head is trained: its gradient is not computed here.
    """
    if head.requires_grad:
        raise ValueError("token_losses: the language head is frozen under adapters; use answer_logits to train it.")
    return _TokenLosses.apply(states, head, targets)  # type: ignore[no-any-return, no-untyped-call]


def means_of_samples(
    losses: torch.Tensor, hit: torch.Tensor, owners: torch.Tensor, num_samples: int, header: int = HEADER_LENGTH
) -> PerSample:
    """Per sample from per token: losses and hit (K,), owners int64 (K,) in order; `header` tokens of each are not
    scored. ValueError for a sample without tokens."""
    counts = torch.bincount(owners, minlength=num_samples)
    if bool((counts == 0).any()):
        raise ValueError("every sample needs at least one answer token.")
    mean = losses.new_zeros(num_samples).index_add(0, owners, losses) / counts
    # A sample's labelled tokens stand side by side: the first ones are the channel header.
    starts = torch.cumsum(counts, 0) - counts
    scored = torch.arange(owners.numel(), device=owners.device) - starts[owners] >= header
    return PerSample(loss=mean, correct=torch.bincount(owners[~hit & scored], minlength=num_samples) == 0)


def per_sample(logits: torch.Tensor, labels: torch.Tensor, header: int = HEADER_LENGTH) -> PerSample:
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
    scored = supervised & (supervised.cumsum(dim=1) > header)
    hit = shifted.detach().argmax(dim=-1) == targets
    return PerSample(loss=losses.sum(dim=1) / counts, correct=(hit | ~scored).all(dim=1))


class _TokenLosses(torch.autograd.Function):
    """-log softmax(W h)[target] by chunks; backward is g (softmax - onehot) W, made while the logits are there."""

    @staticmethod
    def forward(
        ctx: Any, states: torch.Tensor, head: torch.Tensor, targets: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        wanted = ctx.needs_input_grad[0]
        slope = torch.empty_like(states) if wanted else None
        wide = torch.promote_types(states.dtype, torch.float32)
        losses = torch.empty(targets.shape, dtype=wide, device=states.device)
        hit = torch.empty(targets.shape, dtype=torch.bool, device=states.device)
        step = max(1, _CHUNK // head.shape[0])
        for start in range(0, targets.numel(), step):
            part = slice(start, start + step)
            logits = F.linear(states[part], head).to(wide)
            picked = logits.gather(1, targets[part, None])
            total = logits.logsumexp(dim=1, keepdim=True)
            losses[part] = (total - picked).squeeze(1)
            hit[part] = logits.argmax(dim=1) == targets[part]
            if slope is not None:
                chances = logits.sub_(total).exp_()
                chances.scatter_add_(1, targets[part, None], -torch.ones_like(picked))
                slope[part] = chances.to(head.dtype) @ head
        ctx.save_for_backward(slope)
        ctx.mark_non_differentiable(hit)
        return losses, hit

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Any) -> tuple[torch.Tensor, None, None]:
        (slope,) = ctx.saved_tensors
        return (grad_outputs[0][:, None] * slope).to(slope.dtype), None, None


def _plain(model: Any) -> Any:
    """The model that PEFT wrapped, whose layers carry the adapters."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model
