"""GPT-oss attention with sinks through torch's fused attention: same numbers as the eager code, much faster.

A sink (GPT-oss model card, arXiv 2508.10925, section 2.2) is one learned logit per head that takes part in the softmax
and contributes no value. Appending one zero key whose mask entry is the sink, and one zero value, says exactly that
in terms a fused kernel understands. transformers offers GPT-oss no such path ("sdpa unsupported because of sinks").
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from transformers import AttentionInterface
from transformers.masking_utils import AttentionMaskInterface, eager_mask

__all__ = ["SINK_ATTENTION", "sink_attention"]

SINK_ATTENTION = "fused_sinks"
"""Name under which the implementation is registered with transformers when this module is imported."""


def sink_attention(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float,
    dropout: float = 0.0,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """transformers' attention function for GptOssAttention.

    query (B, heads, T, d); key and value (B, kv_heads, S, d); attention_mask additive (B or 1, 1, T, S), never None
    (without one the causal order would be lost: ValueError). Returns (B, T, heads, d) and no weights.
    """
    if attention_mask is None:
        raise ValueError("sink_attention: an additive attention mask is needed; use the registered mask function.")
    batch, heads, length, _d = query.shape
    key = F.pad(key.repeat_interleave(module.num_key_value_groups, dim=1), (0, 0, 0, 1))
    value = F.pad(value.repeat_interleave(module.num_key_value_groups, dim=1), (0, 0, 0, 1))
    sinks = module.sinks.to(query.dtype).view(1, heads, 1, 1).expand(batch, heads, length, 1)
    mask = attention_mask.to(query.dtype).expand(batch, heads, length, -1)
    mask = torch.cat([mask, sinks], dim=-1)
    output = F.scaled_dot_product_attention(query, key, value, attn_mask=mask, dropout_p=dropout, scale=scaling)
    return output.transpose(1, 2).contiguous(), None


AttentionInterface.register(SINK_ATTENTION, sink_attention)
AttentionMaskInterface.register(SINK_ATTENTION, eager_mask)
