"""The 20B model with random weights, made where it runs, and rows of random tokens with image tiles."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from model.adapted import recompute_layers
from model.adapter import attach
from model.backbone import empty
from model.inputs import IGNORE, Batch, Encoded, collate
from model.mxfp4 import PackedExperts
from model.spec import LoraSpec, ModelSpec

__all__ = ["answer_tokens", "loaded", "row_of", "with_adapter"]

_STD = 0.02
_ANSWERS = 8  # one token in so many carries loss


def loaded(spec: ModelSpec, device: str, *, attention: str = "fused_sinks") -> Any:
    """The base model of `spec` on `device`: what a checkpoint would bring, drawn at random; frozen."""
    model = empty(spec, attention=attention)
    for module in model.modules():
        _materialise(module, device)
    return model.requires_grad_(False)


@torch.no_grad()
def _materialise(module: nn.Module, device: str) -> None:
    """This module's own tensors, not its children's."""
    for name, parameter in module.named_parameters(recurse=False):
        real = torch.empty(parameter.shape, dtype=parameter.dtype, device=device)
        if parameter.dim() == 1:
            real.fill_(float(name == "weight"))  # norms are one, biases and sinks zero
        else:
            for part in real.split(max(1, (1 << 26) // real[0].numel())):  # float32 in between takes memory
                part.normal_(std=_STD)
        module._parameters[name] = nn.Parameter(real, requires_grad=False)
    for name, buffer in module.named_buffers(recurse=False):
        real = torch.empty(buffer.shape, dtype=buffer.dtype, device=device) if buffer.is_meta else buffer.to(device)
        module._buffers[name] = real
    if isinstance(module, PackedExperts):
        module.fill(std=_STD)


def with_adapter(model: Any, lora: LoraSpec) -> tuple[Any, list[tuple[str, nn.Parameter]]]:
    """The model with adapters at random (both factors have a gradient) and its layers recomputed; what is trained."""
    adapted = attach(model, lora, seed=0)
    recompute_layers(adapted)
    trained = [(name, parameter) for name, parameter in adapted.named_parameters() if ".lora_" in name]
    for name, parameter in trained:
        parameter.requires_grad_(True)
        if "lora_B" in name:
            nn.init.normal_(parameter, std=_STD)
    return adapted, trained


def answer_tokens(length: int) -> int:
    """Tokens that carry loss in a row of `length`."""
    return max(4, length // _ANSWERS)


def row_of(spec: ModelSpec, length: int, tiles: int, device: str, seed: int, rows: int = 1) -> Batch:
    """`rows` rows of `length` tokens: tiles, a question and an answer, at random.

    Raises ValueError when the tiles alone are longer.
    """
    image = tiles * spec.tokens_per_tile
    text = length - image
    if text < answer_tokens(length) + 2:
        raise ValueError(f"{tiles} tiles of {spec.tokens_per_tile} tokens leave no room in a row of {length}")
    draw = torch.Generator().manual_seed(seed)
    batch = collate([_sample(spec, length, tiles, draw) for _ in range(rows)]).to(device)
    if batch.pixel_values is None:
        return batch
    return replace(batch, pixel_values=batch.pixel_values.to(getattr(torch, spec.dtype)))


def _sample(spec: ModelSpec, length: int, tiles: int, draw: torch.Generator) -> Encoded:
    image = tiles * spec.tokens_per_tile
    ids = torch.randint(0, spec.vocab_size, (length,), generator=draw)
    ids[ids == spec.image_token_id] = spec.bos_token_id
    ids[1 : 1 + image] = spec.image_token_id
    labels = ids.clone()
    labels[: length - answer_tokens(length)] = IGNORE
    pixels: Tensor | None = None
    if tiles:
        pixels = torch.randn(tiles, 3, spec.image_size, spec.image_size, generator=draw)
    return Encoded(ids, labels, pixels, length - answer_tokens(length))
