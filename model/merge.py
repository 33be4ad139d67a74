"""Full weights W + (alpha/r) B A (arXiv 2106.09685, section 4.1), written tensor by tensor from a base model's folder.

Neither the base nor the result is ever in memory: beside the adapter, one tensor of the base (of the experts: one
expert's part more). Sums are computed in float64 and rounded once to the base tensor's own type; every other tensor is
copied as it is, packed MXFP4 experts (`model.mxfp4`) included. No adapter can be added to packed experts.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from model.adapter import AdapterLayout, attach
from model.adapter_names import factor_of, module_of
from model.backbone import BASE_FILES, empty
from model.spec import EXPERT_PARAMETERS, LoraSpec, ModelSpec
from model.weights_file import INDEX, WEIGHTS, StoredTensor, read_header, read_tensor
from model.weights_writing import SHARD_BYTES, write_weights

__all__ = ["Change", "adapter_changes", "base_tensors", "merge_base", "merged_tensors"]

_GATE_UP, _DOWN = (name.rsplit(".", 1)[-1] for name in EXPERT_PARAMETERS)


@dataclass(frozen=True, eq=False)
class Change:
    """What one adapted layer adds to its weight: (alpha/r) B A.

    a, b: float32 (r, in) and (out, r); of experts (r E, in) and (out, r E) in PEFT's layout (`model.adapter`).
    experts: E, or 0 for a linear layer, whose weight is (out, in); the experts' is (E, in, out).
    """

    a: Tensor
    b: Tensor
    scale: float
    experts: int = 0

    def added_to(self, weight: Tensor) -> Tensor:
        """The merged weight, in the type of `weight`. Raises ValueError when the shapes do not fit."""
        if not self.experts:
            if weight.shape != (self.b.shape[0], self.a.shape[1]):
                raise ValueError("The adapter's factors do not fit the base model's weight; it is of another base.")
            return (weight.double() + self.scale * (self.b.double() @ self.a.double())).to(weight.dtype)
        rank = self.a.shape[0] // self.experts
        if weight.shape != (self.experts, self.a.shape[1], self.b.shape[0]):
            raise ValueError("The adapter's factors do not fit the base model's experts; it is of another base.")
        a = self.a.view(self.experts, rank, -1)
        b = self.b.view(-1, rank, self.experts)
        merged = torch.empty_like(weight)
        for number in range(self.experts):
            delta = self.scale * (b[..., number].double() @ a[number].double())
            merged[number] = (weight[number].double() + delta.mT).to(weight.dtype)
        return merged


def base_tensors(base: Path) -> dict[str, StoredTensor]:
    """Every tensor by name, over all safetensors files of the folder.

    Raises ValueError when there is none, one is damaged, or a tensor is in two of them.
    """
    found: dict[str, StoredTensor] = {}
    for path in sorted(base.glob("*.safetensors")):
        try:
            header = read_header(path)
        except (ValueError, OSError) as error:
            raise ValueError(f"{path.name} of the base model is damaged; get the folder again.") from error
        if twice := sorted(found.keys() & header.keys()):
            raise ValueError(f"The base model has {twice[0]} twice, in {found[twice[0]].path.name} and {path.name}; "
                             "keep one.")
        found |= header
    if not found:
        raise ValueError(f"No base model in {base}: it holds no safetensors file.")
    return found


def adapter_changes(spec: ModelSpec, lora: LoraSpec, vector: NDArray[np.float64]) -> dict[str, Change]:
    """Name of each adapted base tensor -> what is added to it. No weight of the base is needed.

    Args:
        vector: float64 (size,), the adapter in the order of `AdapterLayout`; rounded to float32, as it is stored.

    Raises:
        ValueError: the experts are packed and adapted, or the vector has another size.
    """
    if spec.experts == "mxfp4" and "experts" in lora.groups:
        raise ValueError("An adapter on the experts cannot be merged into experts that the base packs as MXFP4; use "
                         "the base model with dense experts.")
    layout = AdapterLayout(attach(empty(spec), lora, seed=0))
    if vector.shape != (layout.size,):
        raise ValueError(f"The adapter has {vector.size} numbers and this base takes {layout.size}; it is of another "
                         "base, rank or set of groups.")
    pairs: dict[str, dict[str, Tensor]] = {}
    for entry in layout.entries:
        part = vector[entry.offset : entry.offset + entry.size].astype(np.float32).reshape(entry.shape)
        pairs.setdefault(_target(module_of(entry.name)), {})[factor_of(entry.name)] = torch.from_numpy(part)
    return {name: Change(pair["A"], pair["B"], lora.alpha / lora.rank,
                         spec.num_experts if ".mlp.experts." in name else 0) for name, pair in pairs.items()}


def merged_tensors(base: Path, changes: Mapping[str, Change]) -> Iterator[tuple[str, Tensor]]:
    """(name, merged weight), one at a time, in the order of the files. Drop one before the next is asked for.

    Raises ValueError when the base lacks an adapted weight.
    """
    tensors = base_tensors(base)
    _require_all(tensors, changes)
    for name, stored in tensors.items():
        weight = read_tensor(stored)
        yield name, changes[name].added_to(weight) if name in changes else weight


def merge_base(
    base: Path, out: Path, changes: Mapping[str, Change], *, shard_bytes: int = SHARD_BYTES
) -> list[str]:
    """Write the merged model into the existing folder `out`; the names of the files written.

    One shard is called `model.safetensors`; several are `model-0000k-of-0000n.safetensors` with an index, as
    transformers reads them. The base's other files (config, spec, tokenizer) are copied.

    Raises:
        ValueError: the base lacks an adapted weight, or is not in this project's form.
        OSError: `out` cannot be written.
    """
    if not (base / "spec.json").is_file():
        raise ValueError(f"{base} is not in this project's form, from which merged weights are written: only a run on "
                         "a base of `coordinator make-base` can be merged; export this one as peft.")
    expected = {name: (one.shape, one.dtype) for name, one in base_tensors(base).items()}
    written = write_weights(merged_tensors(base, changes), expected, out, shard_bytes=shard_bytes)
    for name in BASE_FILES:
        if name not in (WEIGHTS, INDEX):
            shutil.copyfile(base / name, out / name)
            written.append(name)
    return written


def _require_all(tensors: Mapping[str, StoredTensor], changes: Mapping[str, Change]) -> None:
    missing = sorted(set(changes) - set(tensors))
    if missing:
        raise ValueError(f"The base model has no weight {missing[0]} to add the adapter to; it is of another base.")


def _target(module: str) -> str:
    """The base tensor that an adapted module changes. PEFT wraps the experts twice, gate_up_proj first (inside)."""
    if module.endswith(".mlp.experts.base_layer"):
        return f"{module.removesuffix('.base_layer')}.{_GATE_UP}"
    if module.endswith(".mlp.experts"):
        return f"{module}.{_DOWN}"
    return f"{module}.weight"
