"""GPT-oss attention with sinks through torch's fused attention: same numbers as the eager code, much faster.

A sink (GPT-oss model card, arXiv 2508.10925, section 2.2) is one learned logit per head that takes part in the softmax
and contributes no value. It is said here in terms a fused kernel understands: one more key, whose value is zero, and
one more feature, in which that key is 1, all others are 0 and every query is the sink over the scale. The mask needs
no axis for the heads then. transformers offers GPT-oss no such path ("sdpa unsupported because of sinks").

Where nobody asks for more than the causal order and padding, no T x T mask is made: the mask function then answers
with one bool a key, whether it is a token. A second feature, 1 in every query and very low in a key that is padding,
hides it for good. The sink stands *before* the keys and an idle query before the queries, so that the causal order of
the fused kernel says the rest. In a layer with a sliding window of W, W queries at a time see the 2 W keys that end
with them: cost and memory grow with T W, not with T squared.

A packed row is attended to block by block, so that its cost is that of its samples and not of the row's square. Blocks
are runs of neighbouring samples, and the mask of the row still decides who sees whom inside one: wrong lengths can
hide tokens from one another, they cannot show any that the mask hides.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import AttentionInterface
from transformers.masking_utils import AttentionMaskInterface, eager_mask

__all__ = ["SINK_ATTENTION", "sink_attention", "sink_mask"]

SINK_ATTENTION = "fused_sinks"
"""Name under which the implementation is registered with transformers when this module is imported."""

# Features added: one for the sink, one for padding, and the fused kernels want a multiple of 8.
_EXTRA = 8
# What a padded key's feature is, before scaling (1/8 in GPT-oss): fits into float16, and its exponential is 0.
_HIDDEN = -30_000.0
# Tokens up to which neighbouring samples share a block: below, a call costs more than the pairs it saves.
_SMALL_BLOCK = 64


def sink_mask(
    batch_size: int, q_length: int, kv_length: int, q_offset: Any = 0, kv_offset: Any = 0,
    attention_mask: Tensor | None = None, allow_is_causal_skip: bool = False, use_vmap: bool = False,
    device: torch.device | str = "cpu", **more: Any,
) -> Tensor:  # fmt: skip
    """transformers' mask function: bool (B or 1, 1, 1, T) of the keys that are tokens where the whole row is attended
    to in causal order (with the layer's window, if it has one), and an additive mask (B, 1, T, S) otherwise."""
    whole = q_length == kv_length and isinstance(q_offset, int) and q_offset == 0 and kv_offset == 0
    if allow_is_causal_skip and not use_vmap and whole:
        if attention_mask is None:
            return torch.ones((1, 1, 1, kv_length), dtype=torch.bool, device=device)
        return attention_mask[:, None, None, :].to(torch.bool)
    mask: Tensor = eager_mask(
        batch_size=batch_size, q_length=q_length, kv_length=kv_length, q_offset=q_offset, kv_offset=kv_offset,
        attention_mask=attention_mask, use_vmap=use_vmap, device=device, **more)
    return mask


def sink_attention(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float,
    dropout: float = 0.0,
    packed_lengths: Sequence[int] | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """transformers' attention function for GptOssAttention.

    query (B, heads, T, d); key and value (B, kv_heads, S, d); attention_mask as `sink_mask` makes it, or additive
    (B or 1, 1, T, S), never None (without one the causal order would be lost: ValueError). `packed_lengths` are the
    samples' tokens when B is 1 and the row is packed; ValueError when they are not positive numbers with the sum T.
    Returns (B, T, heads, d), no weights.
    """
    if attention_mask is None:
        raise ValueError("sink_attention: an attention mask is needed; use the registered mask function.")
    batch, heads, length, width = query.shape
    if attention_mask.dtype == torch.bool:
        return _by_order(module, query, key, value, attention_mask, scaling, dropout), None
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
    module: Any, query: Tensor, key: Tensor, value: Tensor, mask: Tensor, scaling: float,
    dropout: float,
) -> Tensor:  # fmt: skip
    """Attention of queries with the sink's features, (B, heads, T, d + _EXTRA) as they are."""
    width = key.shape[-1]
    key, value = (F.pad(part, (0, _EXTRA, 0, 1)) for part in (key, value))
    key[:, :, -1, width] = 1
    groups = module.num_key_value_groups
    return F.scaled_dot_product_attention(
        query, key.repeat_interleave(groups, dim=1), value.repeat_interleave(groups, dim=1),
        attn_mask=F.pad(mask, (0, 1)), dropout_p=dropout, scale=scaling,
    )  # fmt: skip


def _by_order(
    module: Any, query: Tensor, key: Tensor, value: Tensor, tokens: Tensor, scaling: float, dropout: float
) -> Tensor:
    """(B, T, heads, d): causal attention without a mask; tokens bool (B or 1, 1, 1, T), False for padding."""
    batch, heads, length, width = query.shape
    if tokens.shape[1:] != (1, 1, length) or key.shape[2] != length:
        raise ValueError("sink_attention: a bool mask says for each key of the row whether it is a token.")
    sinks = (module.sinks / scaling).to(query.dtype).view(1, heads, 1, 1).expand(batch, heads, length, 1)
    # What stands under padding is gone before it is hidden: no large number of it can outweigh the feature.
    hidden = ~tokens.view(-1, 1, length, 1)
    key, value = key.masked_fill(hidden, 0.0), value.masked_fill(hidden, 0.0)
    padding = torch.where(tokens, 0.0, _HIDDEN).to(key.dtype).view(-1, 1, length, 1)
    query = F.pad(torch.cat([query, sinks, torch.ones_like(sinks)], dim=-1), (0, _EXTRA - 2))
    padding = padding.expand(batch, key.shape[1], length, 1)
    key = F.pad(torch.cat([key, torch.zeros_like(padding), padding], dim=-1), (0, _EXTRA - 2))
    value = F.pad(value, (0, _EXTRA))
    window = getattr(module, "sliding_window", None)
    if window is not None and length > window:
        output = _windowed(query, key, value, width, window, scaling, dropout)
    else:
        query, key, value = (F.pad(part, (0, 0, 1, 0)) for part in (query, key, value))
        key[:, :, 0, width] = 1
        output = _causal(query, key, value, module.num_key_value_groups, scaling, dropout)[:, :, 1:]
    return output[..., :width].transpose(1, 2).contiguous()


def _causal(query: Tensor, key: Tensor, value: Tensor, groups: int, scaling: float, dropout: float) -> Tensor:
    if query.is_cuda:  # the flash kernel reads a key once for the heads that share it
        return F.scaled_dot_product_attention(
            query, key, value, dropout_p=dropout, is_causal=True, scale=scaling, enable_gqa=True)
    return F.scaled_dot_product_attention(
        query, key.repeat_interleave(groups, dim=1), value.repeat_interleave(groups, dim=1), dropout_p=dropout,
        is_causal=True, scale=scaling)


def _windowed(
    query: Tensor, key: Tensor, value: Tensor, width: int, window: int, scaling: float, dropout: float
) -> Tensor:
    """(B, heads, T, d + _EXTRA): each block of `window` queries sees its own keys, the block before, and the sink.

    Heads that share a key stand side by side as more queries: the sink is in their features, the mask repeats.
    """
    batch, heads, length, size = query.shape
    kv_heads, blocks = key.shape[1], -(-length // window)
    groups = heads // kv_heads
    query = F.pad(query, (0, 0, 0, blocks * window - length)).view(batch, kv_heads, groups, blocks, window, size)
    query = query.permute(0, 3, 1, 2, 4, 5).reshape(batch * blocks, kv_heads, groups * window, size)
    key = F.pad(key, (0, 0, window, 0))
    key[:, :, :window, width + 1] = _HIDDEN  # there is nothing before the first block
    key = _pairs_of_blocks(key, window, blocks)
    value = _pairs_of_blocks(F.pad(value, (0, 0, window, 0)), window, blocks)
    key[:, :, -_EXTRA, width] = 1  # the sink; the keys after it are there for the kernel's alignment
    step, at = torch.arange(window, device=query.device)[:, None], torch.arange(2 * window, device=query.device)
    seen = F.pad((at > step) & (at <= step + window), (0, _EXTRA))
    seen[:, -_EXTRA] = True
    mask = torch.zeros(seen.shape, dtype=query.dtype, device=query.device).masked_fill(
        ~seen, torch.finfo(query.dtype).min)
    mask = mask.repeat(groups, 1)[None].expand(batch * blocks, 1, -1, -1)
    output = F.scaled_dot_product_attention(query, key, value, attn_mask=mask, dropout_p=dropout, scale=scaling)
    output = output.view(batch, blocks, kv_heads, groups, window, size).permute(0, 2, 3, 1, 4, 5)
    return output.reshape(batch, heads, blocks * window, size)[:, :, :length]


def _pairs_of_blocks(part: Tensor, window: int, blocks: int) -> Tensor:
    """(B, kv_heads, window + T, size) as (B * blocks, kv_heads, 2 * window + _EXTRA, size): the block before, the block
    itself, and _EXTRA rows of zeros; zeros too where the last block is longer than the row."""
    batch, kv_heads, length, size = part.shape
    rows = F.pad(part, (0, 0, 0, (blocks + 1) * window - length)).view(batch, kv_heads, blocks + 1, window, size)
    joined = torch.cat([rows[:, :, :-1], rows[:, :, 1:]], dim=3).transpose(1, 2)
    return F.pad(joined.reshape(batch * blocks, kv_heads, 2 * window, size), (0, 0, 0, _EXTRA))


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
AttentionMaskInterface.register(SINK_ATTENTION, sink_mask)
