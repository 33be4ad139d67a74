"""Padding-free batches: many samples in one row, kept apart by block-diagonal masks.

GPT-oss builds its masks from padding alone and drops `position_ids` there (transformers 5.23), so samples that are
only concatenated attend to one another. The masks made here say which sample a token may see; positions restart with
each sample. A sample's logits are then what they are alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F

from model.inputs import IGNORE, Encoded
from model.loss import PerSample, means_of_samples

__all__ = ["Packed", "pack", "packed_logits", "per_packed_sample", "segment_masks"]


@dataclass(frozen=True, eq=False)
class Packed:
    """N samples in one row of T tokens, in the order given.

    input_ids, position_ids, labels: int64 (1, T). token_samples: int64 (T,), the sample of each token. pixel_values:
    float32 (n_tiles, 3, S, S) in token order, or None. tile_samples: int64 (n_tiles,). masks: additive (1, 1, T, T)
    of 0 and the lowest number, by the names of GPT-oss' layer types; T^2 numbers each. lengths: each sample's tokens,
    for attention that goes sample by sample (`model.sink_attention`); the masks decide, with or without.
    num_samples: N.
    """

    input_ids: torch.Tensor
    position_ids: torch.Tensor
    labels: torch.Tensor
    token_samples: torch.Tensor
    pixel_values: torch.Tensor | None
    tile_samples: torch.Tensor
    masks: dict[str, torch.Tensor]
    lengths: tuple[int, ...]
    num_samples: int

    def to(self, device: torch.device | str) -> Packed:
        """The same row on another device."""
        moved: dict[str, Any] = {
            name: value.to(device) for name, value in vars(self).items() if isinstance(value, torch.Tensor)
        }
        return replace(self, masks={name: mask.to(device) for name, mask in self.masks.items()}, **moved)


def pack(samples: Sequence[Encoded], sliding_window: int, *, dtype: torch.dtype = torch.float32) -> Packed:
    """Lay the samples side by side. `sliding_window` is the model's (ModelSpec), `dtype` that of the masks.

    Raises ValueError for an empty list, and for a sample whose first token carries loss: nothing predicts it.
    """
    if not samples:
        raise ValueError("pack: a row needs at least one sample.")
    if any(int(sample.labels[0]) != IGNORE for sample in samples):
        raise ValueError("pack: a sample's first token must carry no loss, no token of its own stands before it.")
    lengths = tuple(len(sample) for sample in samples)
    order = torch.arange(len(samples))
    token_samples = torch.repeat_interleave(order, torch.tensor(lengths))
    position_ids = torch.cat([torch.arange(length) for length in lengths])
    pixels = [tiles for sample in samples if (tiles := sample.read_pixels()) is not None]
    return Packed(
        input_ids=torch.cat([sample.input_ids for sample in samples])[None],
        position_ids=position_ids[None],
        labels=torch.cat([sample.labels for sample in samples])[None],
        token_samples=token_samples,
        pixel_values=torch.cat(pixels) if pixels else None,
        tile_samples=torch.repeat_interleave(order, torch.tensor([sample.num_tiles for sample in samples])),
        masks=segment_masks(token_samples, sliding_window, dtype=dtype),
        lengths=lengths,
        num_samples=len(samples),
    )


def segment_masks(
    token_samples: torch.Tensor, sliding_window: int, *, dtype: torch.dtype = torch.float32
) -> dict[str, torch.Tensor]:
    """Additive causal masks (1, 1, T, T) that are block-diagonal over samples; int64 (T,) names each token's.

    A token sees itself and earlier ones of its sample; in `sliding_attention` the last `sliding_window` of them,
    itself included, which is transformers' rule (key > query - window).
    """
    index = torch.arange(token_samples.numel(), device=token_samples.device)
    distance = index[:, None] - index[None, :]
    seen = (token_samples[:, None] == token_samples[None, :]) & (distance >= 0)
    lowest = torch.finfo(dtype).min

    def additive(allowed: torch.Tensor) -> torch.Tensor:
        return torch.zeros(allowed.shape, dtype=dtype, device=allowed.device).masked_fill_(~allowed, lowest)[None, None]

    return {"full_attention": additive(seen), "sliding_attention": additive(seen & (distance < sliding_window))}


def packed_logits(model: Any, packed: Packed) -> torch.Tensor:
    """One forward; logits (1, K, V) of the K positions that predict a labelled token, in row order."""
    outputs = model(
        input_ids=packed.input_ids,
        attention_mask=packed.masks,
        position_ids=packed.position_ids,
        pixel_values=packed.pixel_values,
        logits_to_keep=_labelled(packed) - 1,
        use_cache=False,
        packed_lengths=packed.lengths,
    )
    logits: torch.Tensor = outputs.logits
    return logits


def per_packed_sample(logits: torch.Tensor, packed: Packed) -> PerSample:
    """Loss and correctness of each sample (N,), as `model.loss.per_sample` has them for padded rows.

    logits (1, K, V) of `packed_logits`. Raises ValueError for another K, or when a sample has no label.
    """
    labelled = _labelled(packed)
    if logits.shape[:2] != (1, labelled.numel()):
        raise ValueError("per_packed_sample: pass the logits of exactly the positions that predict a label.")
    scores, targets = logits[0].float(), packed.labels[0, labelled]
    losses = F.cross_entropy(scores, targets, reduction="none")
    hit = scores.detach().argmax(dim=-1) == targets
    return means_of_samples(losses, hit, packed.token_samples[labelled], packed.num_samples)


def _labelled(packed: Packed) -> torch.Tensor:
    """Positions of the tokens that carry loss, int64 (K,)."""
    return (packed.labels[0] != IGNORE).nonzero()[:, 0]
