"""A cache of what the frozen layers put out, so that a training step runs only the layers that carry adapters.

A sample's entry is a function of the base model and of that sample alone: it is computed for one sample at a time,
without padding, and named by SHA-256 over the base's content hash, the layer and the sample's token ids. Adapters do
not change it, so it holds for a whole run, and for the next run on the same base.

Entries are made from patients' texts and are as private as those. They lie in memory, or in one folder (0700, files
0600) that belongs on the site's protected volume; `keep_only` removes those of samples that are used no more, as after
an opt-out. A damaged or missing file is computed again. Stored as float16, they round to 11 bits: the loss of a real
model moves in its fourth digit (docs/results.md); float32 is exact.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from model.frozen_layers import first_adapted_layer, frozen_outputs
from model.inputs import Encoded

__all__ = ["CachedStates", "FrozenPrefix"]

_TYPES = {"float16": torch.float16, "float32": torch.float32}


class FrozenPrefix:
    """The frozen layers of one base, and their outputs for each sample.

    Args:
        model: the base, with or without PEFT's adapters on it.
        content_hash: the base's (`model.backbone.hash_model`).
        folder: where entries are kept; None keeps them in memory, for as long as this object lives.
        dtype: `float16` or `float32`, of the entries.

    Raises ValueError when the base freezes no layer, and for another dtype.
    """

    def __init__(self, model: Any, content_hash: bytes, folder: Path | None = None, dtype: str = "float16") -> None:
        if dtype not in _TYPES:
            raise ValueError(f"FrozenPrefix: dtype must be one of {', '.join(_TYPES)}.")
        plain = model.get_base_model() if hasattr(model, "get_base_model") else model
        self._layer = first_adapted_layer(plain)
        if not self._layer:
            raise ValueError("no layer of this base is frozen, so nothing can be kept of it; use a base whose spec has "
                             "adapted_layers, or switch the cache of activations off.")
        self._plain, self._hash, self._folder = plain, content_hash, folder
        self._dtype = dtype
        self._width = int(plain.model.language_model.config.hidden_size)
        self._held: dict[str, torch.Tensor] = {}

    def attach(self, samples: Sequence[Encoded]) -> list[Encoded]:
        """The samples, which from now on are computed from their entries; one with images keeps to all layers."""
        return [sample if sample.num_tiles else replace(sample, frozen=CachedStates(self, sample.input_ids))
                for sample in samples]

    def name(self, input_ids: torch.Tensor) -> str:
        """The entry's name, 64 hexadecimal digits; input_ids: int64 (T,)."""
        digest = hashlib.sha256(b"frozen-prefix/1|" + self._hash + f"|{self._layer}|{self._dtype}|".encode())
        digest.update(np.ascontiguousarray(input_ids.cpu().numpy(), dtype="<i8").tobytes())
        return digest.hexdigest()

    def states(self, input_ids: torch.Tensor) -> torch.Tensor:
        """The entry float32 (T, d) for one sample, int64 (T,): kept, or computed now and kept."""
        name = self.name(input_ids)
        found = self._found(name, len(input_ids))
        return (self._made(name, input_ids) if found is None else found).float()

    def make(self, input_ids: torch.Tensor) -> bool:
        """Compute the entry of one sample if it is not there; whether it was computed. A failing sample is left out,
        whatever its fault, which must not end the round: it will fail again when it is drawn, alone."""
        name = self.name(input_ids)
        if self._found(name, len(input_ids)) is not None:
            return False
        with contextlib.suppress(Exception):
            self._made(name, input_ids)
        return True

    def _found(self, name: str, length: int) -> torch.Tensor | None:
        return self._held.get(name) if self._folder is None else self._stored(name, length)

    def _made(self, name: str, input_ids: torch.Tensor) -> torch.Tensor:
        states = frozen_outputs(self._plain, input_ids).to("cpu", _TYPES[self._dtype])
        with contextlib.suppress(OSError):  # of a full volume: what others filled it with decides no sample's numbers
            self._keep(name, states)
        return states

    def keep_only(self, names: Collection[str]) -> int:
        """Forget every other entry; how many. Names of other bases and layers go as well."""
        gone = [name for name in self._held if name not in names]
        for name in gone:
            del self._held[name]
        paths = [] if self._folder is None else [
            path for path in self._folder.glob("??/*") if path.name.removesuffix(".npy") not in names]
        for path in paths:
            path.unlink(missing_ok=True)
        return len(gone) + len(paths)

    def _path(self, name: str) -> Path:
        assert self._folder is not None  # asked by the two methods below only
        return self._folder / name[:2] / f"{name}.npy"

    def _stored(self, name: str, length: int) -> torch.Tensor | None:
        """The file's numbers; None when it is missing, damaged or not of this shape and type."""
        try:
            with os.fdopen(os.open(self._path(name), os.O_RDONLY | os.O_NOFOLLOW), "rb") as stream:
                states = np.load(io.BytesIO(stream.read()), allow_pickle=False)
        except (OSError, ValueError, EOFError):
            return None
        if states.dtype != np.dtype(self._dtype) or states.shape != (length, self._width):
            return None
        return torch.from_numpy(states)

    def _keep(self, name: str, states: torch.Tensor) -> None:
        if self._folder is None:
            self._held[name] = states
            return
        path = self._path(name)
        for folder in (self._folder, path.parent):
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        buffer = io.BytesIO()
        np.save(buffer, states.numpy(), allow_pickle=False)
        partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW
        with os.fdopen(os.open(partial, flags, 0o600), "wb") as file:
            file.write(buffer.getbuffer())
        partial.replace(path)


@dataclass(frozen=True, eq=False)
class CachedStates:
    """One sample's entry, read or made when a batch needs it; see `model.inputs.FrozenStates`."""

    prefix: FrozenPrefix = field(repr=False)
    input_ids: torch.Tensor = field(repr=False)

    @property
    def name(self) -> str:
        """The entry's name in the cache."""
        return self.prefix.name(self.input_ids)

    def read(self) -> torch.Tensor:
        """float32 (T, d)."""
        return self.prefix.states(self.input_ids)
