"""Weights into safetensors files, one shard after the other: as much memory as one shard."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from itertools import islice
from pathlib import Path

from safetensors.torch import save_file
from torch import Tensor

from model.weights_file import INDEX, WEIGHTS

__all__ = ["SHARD_BYTES", "Progress", "write_weights"]

SHARD_BYTES = 4 << 30
"""Tensor bytes of one file; a larger tensor has a file of its own."""

Progress = Callable[[int, int], None]
"""Called after each tensor and each file with (bytes done, bytes in all); reading and writing count once each."""


def write_weights(
    tensors: Iterable[tuple[str, Tensor]],
    sizes: Mapping[str, int],
    directory: Path,
    *,
    shard_bytes: int = SHARD_BYTES,
    progress: Progress | None = None,
) -> None:
    """Write `tensors` (contiguous, on the CPU, in the order of `sizes`) as one file, or as shards with an index.

    sizes: name -> bytes of every tensor. Raises ValueError when tensors and sizes disagree.
    """
    shards = _shards(sizes, shard_bytes)
    total, done, left = 2 * sum(sizes.values()), 0, iter(tensors)
    for number, names in enumerate(shards, 1):
        pending: dict[str, Tensor] = {}
        for name, tensor in islice(left, len(names)):
            pending[name] = tensor
            done += tensor.nbytes
            if progress is not None:
                progress(done, total)
        if list(pending) != names:
            raise ValueError("write_weights: the tensors are not those of the sizes, in their order.")
        save_file(pending, str(directory / _name(number, len(shards))), metadata={"format": "pt"})
        done += sum(sizes[name] for name in names)
        if progress is not None:
            progress(done, total)
    if len(shards) > 1:
        _write_index(shards, sum(sizes.values()), directory)


def _shards(sizes: Mapping[str, int], shard_bytes: int) -> list[list[str]]:
    """Names in order, cut where a shard would become too large."""
    shards: list[list[str]] = [[]]
    filled = 0
    for name, size in sizes.items():
        if shards[-1] and filled + size > shard_bytes:
            shards.append([])
            filled = 0
        shards[-1].append(name)
        filled += size
    return shards


def _name(number: int, count: int) -> str:
    return WEIGHTS if count == 1 else f"model-{number:05d}-of-{count:05d}.safetensors"


def _write_index(shards: list[list[str]], total: int, directory: Path) -> None:
    where = {name: _name(number, len(shards)) for number, names in enumerate(shards, 1) for name in names}
    index = {"metadata": {"total_size": total}, "weight_map": dict(sorted(where.items()))}
    (directory / INDEX).write_text(json.dumps(index, indent=1) + "\n", encoding="utf-8")
