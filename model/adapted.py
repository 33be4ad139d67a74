"""The shared base model with a run's LoRA adapters attached: what both sides train, evaluate and export."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from peft import PeftModel
from transformers.modeling_layers import GradientCheckpointingLayer

from model import backbone
from model.adapter import AdapterLayout, Selection, attach
from model.adapter_files import AdapterFiles
from model.backbone import BaseModel, empty, hash_model, load_base
from model.checkpoint import read_spec
from model.inputs import Encoded, Example, encode_all
from model.spec import GROUPS, LoraSpec

__all__ = [
    "ADAPTER_SEED", "AdaptedModel", "adapted_from", "open_adapted", "open_to_ask", "open_with_adapter",
    "recompute_layers",
]  # fmt: skip

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


@lru_cache(maxsize=2)
def open_adapted(directory: str, lora: LoraSpec) -> AdaptedModel:
    """The base model in `directory` on the processor with fresh adapters, loaded once a process (sites of a simulation
    share it). `model.placement.open_placed` is for other devices.

    Raises ValueError, one sentence, when the folder is not a base model, or when its experts are packed and `lora`
    adapts them.
    """
    return adapted_from(load_base(Path(directory)), lora)


def adapted_from(base: BaseModel, lora: LoraSpec, checkpointing: bool = False) -> AdaptedModel:
    """`base` with fresh adapters, on the devices that its layers lie on.

    checkpointing: layers keep their input only and compute again in backward (arXiv 1604.06174), which is how a long
    row fits a card.
    """
    model = attach(base.model, lora, seed=ADAPTER_SEED)
    model.eval()
    if checkpointing:
        recompute_layers(model)
    layout = AdapterLayout(model)
    return AdaptedModel(base, model, layout, layout.read(model))


def limited(adapted: AdaptedModel, max_tokens: int) -> AdaptedModel:
    """The same model, whose samples are encoded to at most `max_tokens` each; 0 leaves it as it is.

    Raises ValueError for more tokens than the model's context.
    """
    if not max_tokens:
        return adapted
    return replace(adapted, base=replace(adapted.base, spec=replace(adapted.base.spec, max_tokens=max_tokens)))


def recompute_layers(model: PeftModel) -> None:
    """Language and vision layers keep only their input for backward. There is no dropout: the numbers stay the same.

    transformers recomputes in training mode alone, so exactly these layers are put into it, nothing inside them.
    """
    plain = model.get_base_model()
    # Transformers renamed it; the older name warns.
    enable = getattr(plain, "activation_checkpointing_enable", None) or plain.gradient_checkpointing_enable
    enable({"use_reentrant": False, "preserve_rng_state": False})
    for module in plain.modules():
        if isinstance(module, GradientCheckpointingLayer):
            module.training = True


def open_with_adapter(directory: Path, files: AdapterFiles) -> AdaptedModel:
    """The base model in `directory` with the adapter of `files` (`model.adapter_files.read_adapter`) on it.

    Raises ValueError, one sentence, when the folder is not a base model, when the adapter names another base or does
    not fit this one, and when it holds a number that is not finite; all of that before a weight of the base is read.
    """
    hollow = empty(read_spec(directory))
    with torch.device("meta"):
        layout = AdapterLayout(attach(hollow, files.lora, seed=ADAPTER_SEED))
    vector = files.read_vector(layout)
    try:
        base = load_base(directory, expected_hash=files.base_hash)
    except ValueError:
        _require_named_base(directory, files)  # reads the folder again, only to say which
        raise
    adapted = adapted_from(base, files.lora)
    adapted.write(vector)
    return adapted


def open_to_ask(directory: Path, files: AdapterFiles | None, device: str) -> tuple[BaseModel, Any, str]:
    """(base, the model to ask, device): the base in `directory` itself, or with the adapter of `files` on it; one model
    in memory. device: auto, cpu or cuda.

    Raises ValueError, one sentence, as `open_with_adapter`, and when there is no such device.
    """
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    elif device == "cuda" and not torch.cuda.is_available():
        raise ValueError("torch finds no CUDA device here; use --device cpu")
    if files is None:
        base = backbone.load_base(directory)
        return base, base.model.to(device), device
    adapted = open_with_adapter(directory, files)
    return adapted.base, adapted.model.to(device), device


def _require_named_base(directory: Path, files: AdapterFiles) -> None:
    """ValueError when the adapter names a base by its content hash and it is not the one in `directory`."""
    if files.base_hash is not None and (found := hash_model(directory)) != files.base_hash:
        raise ValueError(
            f"adapter {files.directory} is of another base: it was trained on {files.base_hash.hex()[:16]}..., and the "
            f"base model in {directory} is {found.hex()[:16]}...; use the base that it was trained on.")
