"""Writes safetensors files one tensor at a time: the library's own writer takes a whole file's tensors at once.

Format (github.com/huggingface/safetensors, "Format"): 8 bytes little-endian length of the header, the header in JSON
(name -> dtype, shape, data_offsets from the end of the header), then the tensors' bytes without a gap. Tensors stand in
descending size of their elements, so that each is aligned, then by name. Files are read with the library only.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

__all__ = ["INDEX_FILE", "TensorInfo", "plan_shards", "write_shard"]

INDEX_FILE = "model.safetensors.index.json"

_SIZES = {"F64": 8, "I64": 8, "U64": 8, "F32": 4, "I32": 4, "U32": 4, "F16": 2, "BF16": 2, "I16": 2, "U16": 2,
          "F8_E4M3": 1, "F8_E5M2": 1, "I8": 1, "U8": 1, "BOOL": 1}
_ALIGNMENT = 8


@dataclass(frozen=True)
class TensorInfo:
    """What the header says of a tensor: name, shape and the format's name of its type."""

    name: str
    shape: tuple[int, ...]
    kind: str

    @classmethod
    def of(cls, name: str, shape: tuple[int, ...], kind: str) -> TensorInfo:
        """Raises ValueError for a type that is not known here."""
        if kind not in _SIZES:
            raise ValueError(f"The base model's {name} is of type {kind}, which is not known here.")
        return cls(name, shape, kind)

    @property
    def size_bytes(self) -> int:
        """Of its data."""
        return math.prod(self.shape) * _SIZES[self.kind]


def plan_shards(infos: Sequence[TensorInfo], shard_bytes: int) -> dict[str, list[TensorInfo]]:
    """File name -> its tensors, in the order given; a file is at most `shard_bytes` long unless one tensor is."""
    groups: list[list[TensorInfo]] = [[]]
    size = 0
    for info in infos:
        if groups[-1] and size + info.size_bytes > shard_bytes:
            groups.append([])
            size = 0
        groups[-1].append(info)
        size += info.size_bytes
    if len(groups) == 1:
        return {"model.safetensors": groups[0]}
    return {f"model-{number:05d}-of-{len(groups):05d}.safetensors": group for number, group in enumerate(groups, 1)}


def write_shard(path: Path, infos: Sequence[TensorInfo], tensor_of: Callable[[TensorInfo], Tensor]) -> None:
    """Write one file, asking for each tensor when it is its turn.

    Raises ValueError when a tensor is not what its info says; the file is then not whole.
    """
    ordered = sorted(infos, key=lambda info: (-_SIZES[info.kind], info.name))
    with path.open("wb") as file:
        file.write(_header(ordered))
        for info in ordered:
            file.write(_bytes(info, tensor_of(info)))


def _header(infos: Sequence[TensorInfo]) -> bytes:
    entries: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    offset = 0
    for info in infos:
        entries[info.name] = {
            "dtype": info.kind, "shape": list(info.shape), "data_offsets": [offset, offset + info.size_bytes]}
        offset += info.size_bytes
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-len(text) % _ALIGNMENT)
    return len(text).to_bytes(8, "little") + text


def _bytes(info: TensorInfo, tensor: Tensor) -> memoryview:
    flat = tensor.detach().contiguous().reshape(-1).view(torch.uint8)
    if tuple(tensor.shape) != info.shape or flat.numel() != info.size_bytes:
        raise ValueError(f"{info.name} has another shape or type than was announced.")
    return flat.numpy().data
