"""GPT-oss attention with sinks through torch's fused attention: same numbers as the eager code, much faster.

A sink (GPT-oss model card, arXiv 2508.10925, section 2.2) is one learned logit per head that takes part in the softmax
and contributes no value. It is said here in terms a fused kernel understands: one more key, whose value is zero, and
one more feature, in which that key is 1, all others are 0 and every query is the sink over the scale. The mask needs
no axis for the heads then. transformers offers GPT-oss no such path ("sdpa unsupported because of sinks").

A packed row is attended to block by block, so that its cost is that of its samples and not of the row's square. Blocks
are runs of neighbouring samples, and the mask of the row still decides who sees whom inside one: wrong lengths can
hide tokens from one another, they cannot show any that the mask hides.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from transformers import AttentionInterface
from transformers.masking_utils import AttentionMaskInterface, eager_mask

__all__ = ["SINK_ATTENTION", "sink_attention"]

SINK_ATTENTION = "fused_sinks"
"""Name under which the implementation is registered with transformers when this module is imported."""

# Features added for the sink: the fused kernels want a multiple of 8.
_EXTRA = 8
# Tokens up to which neighbouring samples share a block: below, a call costs more than the pairs it saves.
_SMALL_BLOCK = 64


def sink_attention(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float,
    dropout: float = 0.0,
    packed_lengths: Sequence[int] | None = None,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """transformers' attention function for GptOssAttention.

    query (B, heads, T, d); key and value (B, kv_heads, S, d); attention_mask additive (B or 1, 1, T, S), never None
    (without one the causal order would be lost: ValueError). `packed_lengths` are the samples' tokens when B is 1
    and the row is packed; ValueError when they are not positive numbers with the sum T. Returns
    (B, T, heads, d), no weights.
    """
    if attention_mask is None:
        raise ValueError("sink_attention: an additive attention mask is needed; use the registered mask function.")
    batch, heads, length, width = query.shape
    sinks = (module.sinks / scaling).to(query.dtype).view(1, heads, 1, 1).expand(batch, heads, length, 1)
    query = torch.cat([query, sinks, query.new_zeros(()).expand(batch, heads, length, _EXTRA - 1)], dim=-1)
    mask = attention_mask.to(query.dtype)
    if packed_lengths is None:
        output = _attend(module, query, key, value, mask, scaling, dropout)
    else:
        blocks = _blocks(packed_lengths)
        if batch != 1 or mask.shape != (1, 1, length, key.shape[2]) or key.shape[2] != length or sum(blocks) != length:
            raise ValueError("sink_attention: packed_lengths must add up to the tokens of one packed row")
        parts, start = [], 0
        for q, k, v in zip(*(torch.split(whole, blocks, dim=2) for whole in (query, key, value)), strict=True):
            own = slice(start, start := start + q.shape[2])
            parts.append(_attend(module, q, k, v, mask[:, :, own, own], scaling, dropout))
        output = torch.cat(parts, dim=2)
    return output[..., :width].transpose(1, 2).contiguous(), None


def _attend(
    module: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: torch.Tensor, scaling: float,
    dropout: float,
) -> torch.Tensor:  # fmt: skip
    """Attention of queries with the sink's features, (B, heads, T, d + _EXTRA) as they are."""
    width = key.shape[-1]
    key, value = (F.pad(part, (0, _EXTRA, 0, 1)) for part in (key, value))
    key[:, :, -1, width] = 1
    groups = module.num_key_value_groups
    return F.scaled_dot_product_attention(
        query, key.repeat_interleave(groups, dim=1), value.repeat_interleave(groups, dim=1),
        attn_mask=F.pad(mask, (0, 1)), dropout_p=dropout, scale=scaling,
    )  # fmt: skip


def _blocks(lengths: Sequence[int]) -> list[int]:
    """Tokens of each block: a long sample alone, short neighbours together."""
    if not lengths or min(lengths) < 1:
        raise ValueError("sink_attention: packed_lengths are the tokens of each sample, at least one each")
    blocks = [0]
    for length in lengths:
        if blocks[-1] + length <= _SMALL_BLOCK:
            blocks[-1] += length
        else:
            blocks.append(length)
    return [block for block in blocks if block]


AttentionInterface.register(SINK_ATTENTION, sink_attention)
AttentionMaskInterface.register(SINK_ATTENTION, eager_mask)
