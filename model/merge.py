"""Full weights W + (alpha/r) B A (arXiv 2106.09685, section 4.1), written tensor by tensor from a base model's folder.

Neither the base nor the result is ever in memory: beside the adapter, one tensor of the base (of the experts: one
expert's part more). Sums are computed in float64 and rounded once to the base tensor's own type; every other tensor is
copied as it is, packed MXFP4 experts (`model.mxfp4`) included. No adapter can be added to packed experts.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from torch import Tensor

from model.adapter import AdapterLayout, attach
from model.adapter_names import factor_of, module_of
from model.backbone import BASE_FILES, empty
from model.shard_writer import INDEX_FILE, TensorInfo, plan_shards, write_shard
from model.spec import EXPERT_PARAMETERS, LoraSpec, ModelSpec

__all__ = ["SHARD_BYTES", "Change", "adapter_changes", "base_tensors", "merge_base", "merged_tensors", "read_spec"]

SHARD_BYTES = 5 * 10**9
"""The most bytes of a shard, unless one tensor alone is longer; what transformers writes."""

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


def read_spec(base: Path) -> ModelSpec:
    """The spec of a base model's folder. Raises ValueError when there is none."""
    path = base / "spec.json"
    if not path.is_file():
        raise ValueError(f"No base model in {base}: the file spec.json is missing.")
    return ModelSpec.read(path)


def base_tensors(base: Path) -> dict[str, Path]:
    """Tensor name -> the file that holds it, over all safetensors files of the folder.

    Raises ValueError when there is none, one is damaged, or a tensor is in two of them.
    """
    found: dict[str, Path] = {}
    for path in sorted(base.glob("*.safetensors")):
        try:
            with safe_open(str(path), framework="pt") as file:
                names = list(file.keys())
        except (SafetensorError, OSError) as error:
            raise ValueError(f"{path.name} of the base model is damaged; get the folder again.") from error
        for name in names:
            if name in found:
                raise ValueError(f"The base model has {name} twice, in {found[name].name} and {path.name}; keep one.")
            found[name] = path
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
    for name, path in tensors.items():
        yield name, _merged(path, name, changes)


def merge_base(
    base: Path, out: Path, changes: Mapping[str, Change], *, shard_bytes: int = SHARD_BYTES
) -> list[str]:
    """Write the merged model into the existing folder `out`; the names of the files written.

    One shard is called `model.safetensors`; several are `model-0000k-of-0000n.safetensors` with an index, as
    transformers reads them. The base's other files (config, spec, tokenizer) are copied.

    Raises:
        ValueError: the base lacks an adapted weight or is no base model; OSError: `out` cannot be written.
    """
    tensors = base_tensors(base)
    _require_all(tensors, changes)
    shards = plan_shards([_info(path, name) for name, path in tensors.items()], shard_bytes)
    for file, infos in shards.items():
        write_shard(out / file, infos, lambda info: _merged(tensors[info.name], info.name, changes))
    written = list(shards)
    if len(shards) > 1:
        total = sum(info.size_bytes for infos in shards.values() for info in infos)
        index = {"metadata": {"total_size": total},
                 "weight_map": {info.name: file for file, infos in shards.items() for info in infos}}
        (out / INDEX_FILE).write_text(json.dumps(index, indent=1, sort_keys=True) + "\n", encoding="utf-8")
        written.append(INDEX_FILE)
    for name in BASE_FILES:
        if not name.endswith(".safetensors") and name != INDEX_FILE:
            shutil.copyfile(base / name, out / name)
            written.append(name)
    return written


def _merged(path: Path, name: str, changes: Mapping[str, Change]) -> Tensor:
    """The file is opened for this tensor alone: its pages are given back when the tensor goes."""
    with safe_open(str(path), framework="pt") as file:
        weight: Tensor = file.get_tensor(name)
    return changes[name].added_to(weight) if name in changes else weight


def _info(path: Path, name: str) -> TensorInfo:
    with safe_open(str(path), framework="pt") as file:
        part = file.get_slice(name)
        shape, kind = tuple(part.get_shape()), str(part.get_dtype())
    return TensorInfo.of(name, shape, kind)


def _require_all(tensors: Mapping[str, Path], changes: Mapping[str, Change]) -> None:
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
