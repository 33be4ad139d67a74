"""The shared base model with a run's LoRA adapters attached: what both sides train, evaluate and export."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from peft import PeftModel
from transformers.modeling_layers import GradientCheckpointingLayer

from model.adapter import AdapterLayout, Selection, attach
from model.backbone import BaseModel, load_base
from model.inputs import Encoded, Example, encode_all
from model.spec import GROUPS, LoraSpec

__all__ = ["ADAPTER_SEED", "AdaptedModel", "open_adapted", "recompute_layers"]

ADAPTER_SEED = 0
"""LoRA's A is a public constant: every site and the coordinator draw the same one, and the manifest names its hash."""


@dataclass(frozen=True, eq=False)
class AdaptedModel:
    """base: the frozen base; model: it with adapters; initial: float64 (layout.size,), the adapter as attached."""

    base: BaseModel
    model: PeftModel
    layout: AdapterLayout
    initial: NDArray[np.float64]

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        device: torch.device = next(self.model.parameters()).device
        return device

    @property
    def lora(self) -> LoraSpec:
        """Rank, scale and groups of its adapters."""
        config = self.model.peft_config["default"]
        held = {entry.group for entry in self.layout.entries}
        return LoraSpec(rank=config.r, alpha=config.lora_alpha, groups=tuple(name for name in GROUPS if name in held))

    def read(self, selection: Selection | None = None) -> NDArray[np.float64]:
        """The adapter (or the selected part of it) as float64."""
        return self.layout.read(self.model, selection)

    def write(self, vector: NDArray[np.float64], selection: Selection | None = None) -> None:
        """Set the adapter (or the selected part of it); ValueError for another size or a non-finite number."""
        self.layout.write(self.model, vector, selection)

    def set_trainable(self, selection: Selection) -> list[tuple[str, torch.nn.Parameter]]:
        """Only the selected factors require gradients afterwards; they are returned in layout order."""
        return self.layout.set_trainable(self.model, selection)

    def encode(self, examples: Sequence[Example]) -> list[Encoded]:
        """Examples as tensors for this model."""
        return encode_all(examples, self.base.tokenizer, self.base.spec)


def open_adapted(directory: str, lora: LoraSpec, device: str = "cpu", checkpointing: bool = False) -> AdaptedModel:
    """The base model in `directory` with fresh adapters, loaded once a process (sites of a simulation share it).

    device: where it is put, torch's name. checkpointing: layers keep their input only and compute again in backward
    (arXiv 1604.06174), which is how a long row fits a card. Raises ValueError, one sentence, when the folder is not a
    base model, or when its experts are packed and `lora` adapts them.
    """
    return _opened(directory, lora, device, checkpointing)


@lru_cache(maxsize=2)
def _opened(directory: str, lora: LoraSpec, device: str, checkpointing: bool) -> AdaptedModel:
    base = load_base(Path(directory))
    model = attach(base.model, lora, seed=ADAPTER_SEED).to(device)
    model.eval()
    if checkpointing:
        recompute_layers(model)
    layout = AdapterLayout(model)
    return AdaptedModel(base, model, layout, layout.read(model))


def recompute_layers(model: PeftModel) -> None:
    """Language and vision layers keep only their input for backward. There is no dropout: the numbers stay the same.

    transformers recomputes in training mode alone, so exactly these layers are put into it, nothing inside them.
    """
    plain = model.get_base_model()
    plain.gradient_checkpointing_enable(
        gradient_checkpointing_kwargs={"use_reentrant": False, "preserve_rng_state": False})
    for module in plain.modules():
        if isinstance(module, GradientCheckpointingLayer):
            module.training = True
