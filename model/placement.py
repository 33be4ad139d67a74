"""Where a frozen base lies: on the processor, on one GPU, or layer by layer over several GPUs of one process.

Spreading is accelerate's: each block of the model lies on one device, and hooks move the hidden states from one to the
next (https://huggingface.co/docs/accelerate, "Big model inference"). Blocks run one after the other, so several GPUs
hold a larger model and do not make it faster. Gradients flow back through the same copies. No layer is split, so a
patient's rows are whole on every device. Adapters are attached afterwards: they lie with the layer that they adapt, and
their first numbers are the same as on the processor.
"""

from __future__ import annotations

import gc
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from model.adapted import AdaptedModel, adapted_from, open_adapted
from model.backbone import load_base
from model.spec import LoraSpec

__all__ = ["device_map", "open_placed", "place"]

_FIRST = ("model.vision_tower", "model.multi_modal_projector", "model.language_model.embed_tokens",
          "model.language_model.rotary_emb")
# The model on the GPUs, by what it was opened with: one at a time, for two would not fit.
_held: dict[tuple[str, LoraSpec, tuple[str, ...], bool], AdaptedModel] = {}


def open_placed(directory: str, lora: LoraSpec, devices: Sequence[str], checkpointing: bool = False) -> AdaptedModel:
    """`model.adapted.open_adapted` on `devices`, such as ("cuda:0", "cuda:1"); layers recomputed with `checkpointing`.

    Of models beyond the processor one is kept; opening another gives its memory back first. ValueError as there.
    """
    if tuple(devices) == ("cpu",):
        return open_adapted(directory, lora)
    key = (directory, lora, tuple(devices), checkpointing)
    if key not in _held:
        _held.clear()
        gc.collect()
        base = load_base(Path(directory))
        place(base.model, devices)
        _held[key] = adapted_from(base, lora, checkpointing)
    return _held[key]


def place(model: Any, devices: Sequence[str], *, force_hooks: bool = False) -> None:
    """Move a base model's layers to `devices`, in place; it is called with inputs on the first of them.

    `force_hooks` lets accelerate attach its hooks on a single device as well. Raises ValueError as `device_map`.
    """
    if len(devices) == 1 and not force_hooks:
        model.to(devices[0])
        return
    from accelerate import dispatch_model

    requires = {name: parameter.requires_grad for name, parameter in model.named_parameters()}
    dispatch_model(model, device_map(model, devices), main_device=torch.device(devices[0]), force_hooks=force_hooks)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(requires[name])


def device_map(model: Any, devices: Sequence[str]) -> dict[str, torch.device]:
    """Which device each block of a LLaVA-like base lies on: name of a module -> device.

    Image encoder, projector and embedding lie on the first, the language head on the last. The decoder's layers stay in
    order, so that hidden states move on at most once a device; each is put where the middle of its bytes falls when all
    bytes are shared equally. Raises ValueError without a device, for one named twice, and for more devices than layers.
    """
    places = [torch.device(name) for name in devices]
    language = model.model.language_model
    layers = list(language.layers)
    if not places or (len(set(devices)) != len(devices) and len(devices) > 1):
        raise ValueError("a model is placed on at least one device, each named once")
    if len(places) > len(layers):
        raise ValueError(f"a model of {len(layers)} layers is spread over at most as many devices, not {len(places)}")
    first = dict.fromkeys(_FIRST, places[0])
    before = sum(map(_size_bytes, (model.model.vision_tower, model.model.multi_modal_projector, language.embed_tokens)))
    after = _size_bytes(language.norm) + _size_bytes(model.lm_head)
    owners = _owners([_size_bytes(layer) for layer in layers], before, after, len(places))
    rest = {f"model.language_model.layers.{i}": places[owner] for i, owner in enumerate(owners)}
    return first | rest | {"model.language_model.norm": places[-1], "lm_head": places[-1]}


def _owners(sizes: Sequence[int], before: int, after: int, count: int) -> list[int]:
    """The device of each layer: ascending, every device has one, byte shares about equal."""
    share = (before + sum(sizes) + after) / count
    owners: list[int] = []
    begin = float(before)
    for index, size in enumerate(sizes):
        wanted = int((begin + size / 2) / share)
        low = max(owners[-1] if owners else 0, count - (len(sizes) - index))
        high = min(owners[-1] + 1 if owners else 0, count - 1)
        owners.append(min(max(wanted, low), high))
        begin += size
    return owners


def _size_bytes(module: nn.Module) -> int:
    tensors = [*module.parameters(), *module.buffers()]
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)
