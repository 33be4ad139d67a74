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

from model.adapter import AdapterLayout, Selection, attach
from model.backbone import BaseModel, load_base
from model.inputs import Encoded, Example, encode_all
from model.spec import LoraSpec

__all__ = ["ADAPTER_SEED", "AdaptedModel", "adapted_from", "open_adapted"]

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
        """Where its inputs go; layers may lie on others (`model.placement`)."""
        device: torch.device = next(iter(self.model.parameters())).device
        return device

    @property
    def lora(self) -> LoraSpec:
        """Rank, alpha and groups of its adapters, as they were attached."""
        config = self.model.peft_config["default"]
        groups = {entry.group: None for entry in self.layout.entries}
        return LoraSpec(rank=config.r, alpha=config.lora_alpha, groups=tuple(groups))

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


@lru_cache(maxsize=2)
def open_adapted(directory: str, lora: LoraSpec) -> AdaptedModel:
    """The base model in `directory` with fresh adapters, loaded once a process (sites of a simulation share it).

    Raises ValueError, one sentence, when the folder is not a base model.
    """
    return adapted_from(load_base(Path(directory)), lora)


def adapted_from(base: BaseModel, lora: LoraSpec) -> AdaptedModel:
    """`base` with fresh adapters, on the devices that its layers lie on; the adapter's numbers are the same on all."""
    model = attach(base.model, lora, seed=ADAPTER_SEED)
    model.eval()
    layout = AdapterLayout(model)
    return AdaptedModel(base, model, layout, layout.read(model))
