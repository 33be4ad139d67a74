"""Atomic checkpoints: after each round one new folder appears by rename, so a kill leaves the last whole one.

`round-00012/` holds `state.safetensors` (adapter float32[D], velocity and average float64[D], the round's packed sum
uint8[d bits / 8]) and `state.json` (round, history, manifest hash, the signed result, its attestations and plan).
Nothing in it is secret: the coordinator knows sums only.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors.numpy import load_file, save_file

from privacy.durable import sync, write_whole

__all__ = ["Checkpoint", "CheckpointError", "latest", "save"]

_TENSORS = ("adapter", "velocity", "average", "packed_sum")
_NAME = re.compile(r"round-(\d{5,})$")
_PARTIAL = re.compile(r"\.partial-\d+-(\d+)$")


class CheckpointError(ValueError):
    """A checkpoint that cannot be used; the text names the folder and what to do."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """State after `round` finished rounds; `result` ("" = none), `attests` and `plan` are messages in hex."""

    round: int
    adapter: npt.NDArray[np.float32]
    velocity: npt.NDArray[np.float64]
    average: npt.NDArray[np.float64]
    manifest_hash: str
    history: list[dict[str, Any]] = field(default_factory=list)  # one record a round, as reported
    packed_sum: npt.NDArray[np.uint8] = field(default_factory=lambda: np.zeros(0, dtype=np.uint8))
    result: str = ""
    attests: list[str] = field(default_factory=list)
    plan: str = ""


def save(folder: Path, state: Checkpoint, keep: int = 3) -> Path:
    """Write `state` under `folder`, fsynced and renamed into place; older ones beyond `keep` are removed.

    Saving a round again with the same tensors replaces its `state.json` alone, in one step: at no moment is a round
    that was saved once missing, so a result that sites have seen is never forgotten.
    """
    folder.mkdir(parents=True, exist_ok=True)
    final = folder / f"round-{state.round:05d}"
    partial = folder / f".partial-{state.round:05d}-{os.getpid()}"
    _remove_abandoned(folder)
    tensors = {name: getattr(state, name) for name in _TENSORS}
    facts = json.dumps({f.name: getattr(state, f.name) for f in fields(state) if f.name not in _TENSORS}, indent=1)
    if _holds(final, tensors):
        write_whole(final / "state.json", facts.encode())
        return final
    partial.mkdir()
    save_file(tensors, partial / "state.safetensors")
    (partial / "state.json").write_text(facts, encoding="utf-8")
    for path in (*partial.iterdir(), partial):
        sync(path)
    shutil.rmtree(final, ignore_errors=True)
    partial.rename(final)
    sync(folder)
    for old in _complete(folder)[:-keep]:
        shutil.rmtree(old, ignore_errors=True)
    return final


def _holds(final: Path, tensors: Mapping[str, npt.NDArray[Any]]) -> bool:
    try:
        found = load_file(final / "state.safetensors")
    except Exception:  # none there, or a damaged one: it is written anew
        return False
    return found.keys() == tensors.keys() and all(
        found[name].dtype == tensor.dtype and found[name].tobytes() == tensor.tobytes()
        for name, tensor in tensors.items())


def latest(folder: Path, manifest_hash: str) -> Checkpoint | None:
    """The newest whole checkpoint under `folder`, or None.

    Raises:
        CheckpointError: it belongs to another manifest, or its files do not agree.
    """
    found = _complete(folder)
    if not found:
        return None
    path = found[-1]
    try:
        facts = json.loads((path / "state.json").read_text(encoding="utf-8"))
        tensors = load_file(path / "state.safetensors")
        state = Checkpoint(**{name: tensors[name] for name in _TENSORS}, **facts)
    except Exception as error:
        raise CheckpointError(f"checkpoint {path} cannot be read ({error.__class__.__name__}); remove that folder "
                              "to go on from the one before") from None
    if state.manifest_hash != manifest_hash:
        raise CheckpointError(f"checkpoint {path} belongs to another run manifest; use a new --out folder")
    return state


def _complete(folder: Path) -> list[Path]:
    """Whole checkpoints, oldest first."""
    named = ((_NAME.fullmatch(path.name), path) for path in folder.glob("round-*"))
    return [path for _, path in sorted((int(name[1]), path) for name, path in named if name)]


def _remove_abandoned(folder: Path) -> None:
    """What processes that ended while writing left behind; one that still runs keeps its own."""
    for path in folder.glob(".partial-*"):
        name = _PARTIAL.fullmatch(path.name)
        if name and (int(name[1]) == os.getpid() or not _is_running(int(name[1]))):
            shutil.rmtree(path, ignore_errors=True)


def _is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
