"""Weights into safetensors files, one tensor in memory at a time: the library's own writer wants a whole file's.

The format (huggingface/safetensors, README, section Format): 8 bytes with the length of a JSON header, the header, then
the tensors side by side. Here they stand as the library puts them, in descending size of their elements, so that each
is aligned, then by name; the same tensors give the library's bytes.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from itertools import islice
from math import prod
from pathlib import Path
from typing import BinaryIO

import torch
from torch import Tensor

from model.weights_file import DTYPE_NAMES, INDEX, WEIGHTS, Expected

__all__ = ["SHARD_BYTES", "Progress", "write_weights"]

SHARD_BYTES = 4 << 30
"""Tensor bytes of one file; a larger tensor has a file of its own."""

Progress = Callable[[int, int], None]
"""Called after each tensor with (bytes done, bytes in all)."""

_ALIGNMENT = 8


def write_weights(
    tensors: Iterable[tuple[str, Tensor]],
    expected: Expected,
    directory: Path,
    *,
    shard_bytes: int = SHARD_BYTES,
    progress: Progress | None = None,
) -> list[str]:
    """Write `tensors` (on the CPU, in the order of `expected`) as one file, or as shards with an index.

    Returns the names of the files. Raises ValueError when a tensor is not the expected one; files are then not whole.
    """
    shards = _shards(expected, shard_bytes)
    total, done, left = sum(_size(*one) for one in expected.values()), 0, iter(tensors)
    for file, names in shards.items():
        with (directory / file).open("wb") as stream:
            places = _write_header(stream, {name: expected[name] for name in names})
            for name, (got, tensor) in zip(names, islice(left, len(names)), strict=False):
                if got != name or (tuple(tensor.shape), tensor.dtype) != expected[name]:
                    break
                stream.seek(places.pop(name))
                stream.write(tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy().data)
                done += tensor.nbytes
                del tensor  # before the next is made
                if progress is not None:
                    progress(done, total)
        if places:
            raise ValueError("write_weights: the tensors are not the expected ones, in their order.")
    if len(shards) == 1:
        return list(shards)
    where = {name: file for file, names in shards.items() for name in names}
    index = {"metadata": {"total_size": total}, "weight_map": dict(sorted(where.items()))}
    (directory / INDEX).write_text(json.dumps(index, indent=1) + "\n", encoding="utf-8")
    return [*shards, INDEX]


def _size(shape: tuple[int, ...], dtype: torch.dtype) -> int:
    return prod(shape) * dtype.itemsize


def _shards(expected: Expected, shard_bytes: int) -> dict[str, list[str]]:
    """File -> its tensors, in order, cut where a file would become too large."""
    groups: list[list[str]] = [[]]
    filled = 0
    for name, one in expected.items():
        if groups[-1] and filled + _size(*one) > shard_bytes:
            groups.append([])
            filled = 0
        groups[-1].append(name)
        filled += _size(*one)
    if len(groups) == 1:
        return {WEIGHTS: groups[0]}
    return {f"model-{number:05d}-of-{len(groups):05d}.safetensors": group for number, group in enumerate(groups, 1)}


def _write_header(stream: BinaryIO, expected: Expected) -> dict[str, int]:
    """Write the header; name -> the byte of the file at which that tensor begins."""
    entries: dict[str, object] = {"__metadata__": {"format": "pt"}}
    begins, offset = {}, 0
    for name, (shape, dtype) in sorted(expected.items(), key=lambda item: (-item[1][1].itemsize, item[0])):
        begins[name], offset = offset, offset + _size(shape, dtype)
        entries[name] = {
            "dtype": DTYPE_NAMES[dtype], "shape": list(shape), "data_offsets": [begins[name], offset]}
    text = json.dumps(entries, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % _ALIGNMENT)
    stream.write(len(text).to_bytes(8, "little") + text)
    return {name: 8 + len(text) + begin for name, begin in begins.items()}
