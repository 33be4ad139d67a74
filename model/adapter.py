"""LoRA adapters on the frozen base, and the one fixed order in which their numbers form a vector.

Everybody who sums, clips, masks or hashes an adapter does it on the vector that `AdapterLayout` defines: factor
matrices sorted by group, then by module path with numbers compared as numbers, then A before B; row-major inside.
Expert factors have PEFT's shapes, A (r E, in) with the expert as the slow axis, B (out, r E) with it as the fast one.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from peft import LoraConfig, PeftModel, get_peft_model
from torch import nn

from model.adapter_names import sort_key
from model.mxfp4 import PackedExperts
from model.spec import EXPERT_PARAMETERS, FACTORS, GROUPS, LoraSpec, target_regex

__all__ = ["AdapterEntry", "AdapterLayout", "Selection", "adapter_hash", "attach"]


@dataclass(frozen=True)
class AdapterEntry:
    """One factor matrix: its name in `named_parameters()`, shape, group, factor "A" or "B", offset in the vector."""

    name: str
    shape: tuple[int, int]
    group: str
    factor: str
    offset: int

    @property
    def size(self) -> int:
        """Numbers in it."""
        return self.shape[0] * self.shape[1]


@dataclass(frozen=True, eq=False)
class Selection:
    """Some of a layout's matrices: their names in layout order, their total size, and where each number stands.

    indices: int64 (size,), ascending positions in the full vector: `full[selection.indices]` is the selected part.
    """

    names: tuple[str, ...]
    size: int
    indices: NDArray[np.int64]


def attach(model: Any, lora: LoraSpec, seed: int) -> PeftModel:
    """Wrap the base model with LoRA (A random under `seed`, B zero: the identity), everything else frozen.

    torch's global random state is left as it was. Raises ValueError when the model has no module to adapt, and for
    adapters on packed experts.
    """
    if "experts" in lora.groups and any(isinstance(module, PackedExperts) for module in model.modules()):
        raise ValueError("attach: packed experts carry no adapter; adapt attention and projector, or use a dense base.")
    config = LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=target_regex(lora.groups, _adapted_layers(model, lora)) or [],
        target_parameters=list(EXPERT_PARAMETERS) if "experts" in lora.groups else None,
        bias="none",
        task_type="CAUSAL_LM",
    )
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # peft calls what transformers has renamed
        torch.manual_seed(seed)
        adapted = get_peft_model(model, config)
    adapted.eval()  # as the base; there is no dropout, so training in this mode is the same
    return adapted


def _adapted_layers(model: Any, lora: LoraSpec) -> tuple[int, ...]:
    """The language layers that the base lets be adapted; () = all. ValueError for adapters on some layers' experts."""
    last = int(getattr(model.config, "adapted_layers", 0))
    if not last:
        return ()
    if "experts" in lora.groups:
        raise ValueError("attach: a base with adapted_layers adapts attention and projector only, no experts.")
    count = len(model.model.language_model.layers)
    return tuple(range(count - last, count))


class AdapterLayout:
    """The order of an adapter's numbers; depends on parameter names and shapes alone, so meta devices will do.

    Attributes: entries (tuple of AdapterEntry, in order), size (numbers in all).
    Raises ValueError when the model has no LoRA parameters, or one outside the known groups.
    """

    def __init__(self, model: nn.Module) -> None:
        found = [(name, parameter) for name, parameter in model.named_parameters() if ".lora_" in name]
        if not found:
            raise ValueError("AdapterLayout: the model carries no LoRA adapter; attach one first.")
        keyed = sorted((sort_key(name), name, tuple(parameter.shape)) for name, parameter in found)
        entries, offset = [], 0
        for (group_index, _path, factor), name, shape in keyed:
            entries.append(AdapterEntry(name, (shape[0], shape[1]), tuple(GROUPS)[group_index], factor, offset))
            offset += shape[0] * shape[1]
        self.entries: tuple[AdapterEntry, ...] = tuple(entries)
        self.size = offset

    def select(self, groups: Sequence[str], factor: str = "AB") -> Selection:
        """The matrices of these groups and this factor ("A", "B" or "AB"), in layout order.

        Raises ValueError for an unknown name, and for a group that the adapter does not have.
        """
        for group in groups:
            if group not in GROUPS:
                raise ValueError(f"AdapterLayout: unknown group {group!r}; known are {', '.join(GROUPS)}.")
            if not any(entry.group == group for entry in self.entries):
                raise ValueError(f"AdapterLayout: the adapter has no group {group!r}; name it in LoraSpec.groups.")
        if factor not in FACTORS:
            raise ValueError(f"AdapterLayout: unknown factor {factor!r}; known are {', '.join(FACTORS)}.")
        chosen = [entry for entry in self.entries if entry.group in groups and entry.factor in factor]
        parts = [np.arange(entry.offset, entry.offset + entry.size, dtype=np.int64) for entry in chosen]
        indices = np.concatenate(parts) if parts else np.zeros(0, dtype=np.int64)
        return Selection(tuple(entry.name for entry in chosen), int(indices.size), indices)

    def read(self, model: nn.Module, selection: Selection | None = None) -> NDArray[np.float64]:
        """The adapter's numbers, float64 (size,); exact, the parameters are narrower."""
        parts = [p.detach().double().cpu().numpy().ravel() for _, p in self._parameters(model, selection)]
        return np.concatenate(parts) if parts else np.zeros(0, dtype=np.float64)

    def write(self, model: nn.Module, vector: NDArray[np.float64], selection: Selection | None = None) -> None:
        """Set the adapter's numbers from a float64 vector, rounded to the parameters' type.

        Raises ValueError when the vector has another size or holds a number that is not finite.
        """
        size = self.size if selection is None else selection.size
        if vector.shape != (size,):
            raise ValueError(f"AdapterLayout: the vector must have shape ({size},).")
        if not np.isfinite(vector).all():
            raise ValueError("AdapterLayout: the vector holds a number that is not finite.")
        offset = 0
        with torch.no_grad():
            for _, parameter in self._parameters(model, selection):
                part = np.array(vector[offset : offset + parameter.numel()], dtype=np.float64)
                parameter.copy_(torch.from_numpy(part).view(parameter.shape))
                offset += parameter.numel()

    def set_trainable(self, model: nn.Module, selection: Selection | None = None) -> list[tuple[str, nn.Parameter]]:
        """Let exactly the selected matrices require gradients; returns (name, parameter) in layout order."""
        for parameter in model.parameters():
            parameter.requires_grad_(False)
        chosen = list(self._parameters(model, selection))
        for _, parameter in chosen:
            parameter.requires_grad_(True)
        return chosen

    def _parameters(self, model: nn.Module, selection: Selection | None) -> Iterator[tuple[str, nn.Parameter]]:
        """(name, parameter) in layout order; ValueError when the model is not the one this layout describes."""
        wanted = None if selection is None else set(selection.names)
        held = dict(model.named_parameters())
        for entry in self.entries:
            if wanted is not None and entry.name not in wanted:
                continue
            if entry.name not in held or tuple(held[entry.name].shape) != entry.shape:
                raise ValueError("AdapterLayout: the model's adapter is not the one this layout describes.")
            yield entry.name, held[entry.name]


def adapter_hash(vector: NDArray[np.float64]) -> bytes:
    """SHA-256 (32 bytes) of a full adapter vector: its length, then its numbers as little-endian IEEE doubles."""
    data = np.ascontiguousarray(vector, dtype="<f8")
    return hashlib.sha256(b"adapter/1|" + data.size.to_bytes(8, "little") + data.tobytes()).digest()
