"""Safetensors checkpoints, read with suspicion: what a header claims is checked before one tensor byte is allocated.

The format (huggingface/safetensors, README, section Format): 8 bytes with the length of a JSON header, the header, then
the tensors side by side. Here the header may be no longer than `HEADER_LIMIT` and the file, every tensor's size must
be that of its shape and type, and the tensors must cover the rest of the file without holes or overlaps. A tensor is
read straight into its own memory: no mapping of the file, no second copy.

Pickled checkpoints (.bin, .pt, .pth, .ckpt) can run code when they are opened. They are never opened.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from model.limited_read import read_limited

__all__ = [
    "DTYPE_NAMES",
    "Expected",
    "HEADER_LIMIT",
    "INDEX",
    "WEIGHTS",
    "StoredTensor",
    "file_inside",
    "listed",
    "read_header",
    "read_json",
    "read_tensor",
    "stored_tensors",
    "weight_files",
]

WEIGHTS = "model.safetensors"
"""A checkpoint in one file."""

INDEX = "model.safetensors.index.json"
"""Which shard holds each tensor of a checkpoint in several files."""

HEADER_LIMIT = 2 << 20
"""Bytes of a JSON text that is parsed. The 20B model's header has 0.1 million; hostile JSON grows forty-fold in memory.
"""

_PICKLED = frozenset({".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle"})
_SHARD = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*\.safetensors")
_CHUNK = 1 << 26
_DIMENSIONS = 8
_DTYPES = {
    "BOOL": torch.bool, "U8": torch.uint8, "I8": torch.int8, "I16": torch.int16, "I32": torch.int32,
    "I64": torch.int64, "F16": torch.float16, "BF16": torch.bfloat16, "F32": torch.float32, "F64": torch.float64,
}  # fmt: skip


DTYPE_NAMES = {dtype: name for name, dtype in _DTYPES.items()}
"""torch's type -> its name in the format."""


Expected = Mapping[str, tuple[tuple[int, ...], torch.dtype]]
"""Name -> shape and type of every tensor of a model, in its order."""


@dataclass(frozen=True)
class StoredTensor:
    """Where a tensor lies: `size` bytes from `offset` of the file `path`, in row-major order."""

    path: Path
    name: str
    dtype: torch.dtype
    shape: tuple[int, ...]
    offset: int
    size: int


def stored_tensors(directory: Path) -> dict[str, StoredTensor]:
    """Every tensor of the checkpoint in `directory`, one file or shards with their index, by name.

    Raises ValueError, one sentence, for a missing, damaged, pickled or contradictory file and for a link that leaves
    the folder.
    """
    names = weight_files(directory)
    if names == (WEIGHTS,):
        return read_header(file_inside(directory, WEIGHTS))
    claimed: dict[str, set[str]] = {}
    for name, shard in _read_index(directory).items():
        claimed.setdefault(shard, set()).add(name)
    found: dict[str, StoredTensor] = {}
    for shard in names[1:]:
        header = read_header(file_inside(directory, shard))
        if wrong := sorted(claimed[shard] ^ header.keys()):
            raise ValueError(f"{directory / INDEX} and {shard} disagree about {listed(wrong)}; get both files again.")
        found |= header
    return found


def weight_files(directory: Path) -> tuple[str, ...]:
    """The names of the files with the weights: (WEIGHTS,), or (INDEX, shards in sorted order). ValueError if none."""
    if (directory / WEIGHTS).is_file():
        return (WEIGHTS,)
    if (directory / INDEX).is_file():
        return (INDEX, *sorted(set(_read_index(directory).values())))
    for path in sorted(directory.glob("*")) if directory.is_dir() else []:
        _refuse_pickle(path)
    raise ValueError(f"No base model in {directory}: the file {WEIGHTS} is missing.")


def file_inside(directory: Path, name: str) -> Path:
    """The resolved path of a file in `directory`. ValueError when it is missing, or a link that leaves the folder."""
    try:
        path = (directory / name).resolve()
        inside, there = path.is_relative_to(directory.resolve()), path.is_file()
    except (OSError, RuntimeError):  # a loop of links
        inside, there = True, False
    if not inside:
        raise ValueError(
            f"{directory / name} is a link that leaves its folder; make a folder of files: cp -rL {directory} NEW.")
    if not there:
        raise ValueError(f"No base model in {directory}: the file {name} is missing.")
    return path


def read_header(path: Path) -> dict[str, StoredTensor]:
    """The tensors of one safetensors file, from its header alone.

    Raises ValueError unless the header is well-formed and describes exactly the bytes that follow it.
    """
    _refuse_pickle(path)
    with path.open("rb") as stream:
        length = os.fstat(stream.fileno()).st_size
        size = int.from_bytes(stream.read(8), "little")
        if not 2 <= size <= length - 8:
            raise _damaged(path, "it is too short, or no safetensors file")
        if size > HEADER_LIMIT:
            raise _damaged(path, f"its header claims {size} bytes, and at most {HEADER_LIMIT} are read")
        entries = _parse(stream.read(size), path)
    entries.pop("__metadata__", None)
    found = {name: _tensor(path, name, entry, 8 + size) for name, entry in entries.items()}
    _require_cover(path, found.values(), 8 + size, length)
    return found


def read_tensor(stored: StoredTensor, row: int | None = None) -> torch.Tensor:
    """The tensor, in the type it is stored in; with `row`, that entry of its first dimension alone.

    Raises ValueError when the file has become shorter since its header was read.
    """
    shape, offset = stored.shape, stored.offset
    if row is not None:
        offset += row * (stored.size // shape[0])
        shape = shape[1:]
    tensor = torch.empty(shape, dtype=stored.dtype, device="cpu")
    if not tensor.numel():
        return tensor
    left = tensor.view(-1).view(torch.uint8).numpy().data
    with stored.path.open("rb", buffering=0) as stream:
        stream.seek(offset)
        while left:
            count = stream.readinto(left[:_CHUNK])
            if not count:
                raise _damaged(stored.path, "it was cut short while it was read")
            left = left[count:]
    return tensor


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in a file of at most HEADER_LIMIT bytes. ValueError for anything else; a key twice is refused."""
    return _parse(read_limited(path, HEADER_LIMIT), path)


def listed(problems: Iterable[str], limit: int = 8) -> str:
    """At most `limit` of them, each cut to 160 characters, "and N more"; what does not print is escaped: the names
    come from files of others."""
    every = list(problems)
    shown = [_printable(one[:161]) for one in every[:limit]]
    text = ", ".join(one if len(one) <= 160 else f"{one[:157]}..." for one in shown)
    return text + (f" and {len(every) - limit} more" if len(every) > limit else "")


def _printable(text: str) -> str:
    return text if text.isprintable() else text.encode("unicode_escape").decode("ascii")


def _read_index(directory: Path) -> Mapping[str, str]:
    """Tensor name -> shard."""
    path = file_inside(directory, INDEX)
    shards = read_json(path).get("weight_map")
    if not isinstance(shards, dict) or not shards:
        raise _damaged(path, "it has no weight_map")
    for shard in shards.values():
        if isinstance(shard, str):
            _refuse_pickle(directory / Path(shard).name)
        if not isinstance(shard, str) or not _SHARD.fullmatch(shard):
            raise _damaged(path, f"it names {listed([repr(shard)])}, which is no plain .safetensors file name")
    return shards


def _refuse_pickle(path: Path) -> None:
    if path.suffix.lower() in _PICKLED:
        raise ValueError(
            f"{_printable(str(path))} is a pickled checkpoint, which can run code when it is opened; convert it to "
            "safetensors first.")


def _parse(text: bytes, path: Path) -> dict[str, Any]:
    try:
        value = json.loads(text.decode("utf-8"), object_pairs_hook=_unique)
    except _TwiceError as error:
        raise _damaged(path, f"it has {listed([repr(error.args[0])])} twice") from None
    except (ValueError, RecursionError):
        raise _damaged(path, "its JSON is malformed") from None
    if not isinstance(value, dict):
        raise _damaged(path, "its JSON is no object")
    return value


class _TwiceError(Exception):
    """A key stands twice in one object."""


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise _TwiceError(name)
        found[name] = value
    return found


def _tensor(path: Path, name: str, entry: Any, start: int) -> StoredTensor:
    """One entry of a header whose tensors begin at byte `start`."""
    what = listed([repr(name)])
    if not isinstance(entry, dict) or entry.keys() != {"dtype", "shape", "data_offsets"}:
        raise _damaged(path, f"its entry {what} needs dtype, shape and data_offsets")
    kind, shape, span = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(kind, str) or kind not in _DTYPES:
        raise _damaged(path, f"{what} is of the unknown type {listed([repr(kind)])}")
    if not _are_sizes(shape) or len(shape) > _DIMENSIONS or not _are_sizes(span) or len(span) != 2:
        raise _damaged(path, f"shape or data_offsets of {what} are no sizes")
    size = math.prod(shape) * _DTYPES[kind].itemsize
    if span[1] - span[0] != size:
        raise _damaged(path, f"{what} does not take the bytes that its shape and type need")
    return StoredTensor(path, name, _DTYPES[kind], tuple(shape), start + span[0], size)


def _are_sizes(values: Any) -> bool:
    return isinstance(values, list) and all(type(value) is int and 0 <= value < 1 << 63 for value in values)


def _require_cover(path: Path, tensors: Iterable[StoredTensor], start: int, length: int) -> None:
    """The tensors fill the bytes from `start` to `length`, each byte once."""
    end = start
    for tensor in sorted(tensors, key=lambda one: (one.offset, one.size)):
        if tensor.offset != end:
            raise _damaged(path, f"{listed([repr(tensor.name)])} overlaps another tensor or leaves a hole")
        end += tensor.size
    if end > length:
        raise _damaged(path, f"its header describes {end} bytes and it has {length}")
    if end < length:
        raise _damaged(path, f"{length - end} bytes at its end belong to no tensor")


def _damaged(path: Path, why: str) -> ValueError:
    return ValueError(f"{path} is damaged: {why}; get the file again.")
