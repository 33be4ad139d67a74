"""Read an adapter that came from elsewhere: PEFT's layout, as `model.export` writes it, trusting nothing in the folder.

Everything is checked from the text of two headers before a tensor is read: adapter_config.json (strict JSON, at most 64
KiB, a plain LoRA and nothing else), and the header of adapter_model.safetensors (8 bytes of length, JSON, then the
numbers without gaps: the safetensors format, https://github.com/huggingface/safetensors). Pickles are refused by name,
links that lead out of the folder are refused, and one tensor is in memory at a time beside the result.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import re
import stat
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from model.spec import EXPERT_PARAMETERS, GROUPS, LoraSpec, layers_in, target_regex

if TYPE_CHECKING:  # it imports torch and peft, which take seconds; a bad folder is told at once
    from model.adapter import AdapterEntry, AdapterLayout

__all__ = ["AdapterFiles", "StoredTensor", "read_adapter"]

MAX_CONFIG_BYTES = 1 << 16
MAX_HEADER_BYTES = 1 << 20
MAX_RANK = 4096
_CONFIG, _TENSORS, _CARD = "adapter_config.json", "adapter_model.safetensors", "README.md"
_PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".npy", ".npz")
_DTYPE = "F32"  # PEFT keeps adapters in float32, whatever the base's type
_HASH = re.compile(r"[0-9a-f]{64}")

#: What a plain LoRA's configuration must say, by key.
_REQUIRED = {"peft_type": ("LORA",), "bias": ("none",), "task_type": ("CAUSAL_LM", None),
             "init_lora_weights": (True, False, "gaussian")}  # fmt: skip
#: Read here, or without effect on the numbers. Any other key must be empty: it would ask for other arithmetic.
_FREE = {"r", "lora_alpha", "target_modules", "target_parameters", "base_model_name_or_path", "peft_version",
         "inference_mode", "auto_mapping", "revision", "megatron_core", "qalora_group_size"}  # fmt: skip


@dataclass(frozen=True)
class StoredTensor:
    """One float32 matrix: its shape, and the byte in the file at which its numbers (row-major) begin."""

    shape: tuple[int, int]
    start: int

    @property
    def size_bytes(self) -> int:
        """Bytes of its numbers."""
        return 4 * math.prod(self.shape)


@dataclass(frozen=True, eq=False)
class AdapterFiles:
    """A checked adapter folder, no tensor read yet.

    lora: rank, alpha and groups. base_hash: content hash (32 bytes) of the base that it names, None when it names
    none. description: the card's own words, one printable line, "" without a card. tensors: by PEFT's names.
    """

    directory: Path
    lora: LoraSpec
    base_hash: bytes | None
    description: str
    tensors: Mapping[str, StoredTensor]

    def require_fit(self, layout: AdapterLayout) -> None:
        """ValueError, one sentence, unless names and shapes are exactly those of this layout (base, rank, groups)."""
        wanted = {_stored_name(entry): entry for entry in layout.entries}
        for name, entry in wanted.items():
            if name not in self.tensors:
                raise ValueError(f"adapter {self.directory} is of another base: it lacks {_short(name)}, which this "
                                 "base model needs; use the base that it was trained on.")  # fmt: skip
            if self.tensors[name].shape != entry.shape:
                raise ValueError(self._misfit(name, self.tensors[name].shape, entry.shape))
        if extra := sorted(self.tensors.keys() - wanted.keys()):
            raise ValueError(f"adapter {self.directory} is of another base: this base model has no place for "
                             f"{_short(extra[0])}; use the base that it was trained on.")  # fmt: skip

    def read_vector(self, layout: AdapterLayout) -> NDArray[np.float64]:
        """The adapter's numbers in the layout's order, float64 (size,).

        Raises ValueError as `require_fit`, when the file has been cut meanwhile, and for a number that is not finite.
        """
        self.require_fit(layout)
        vector = np.empty(layout.size, dtype=np.float64)
        with _opened(self.directory, _TENSORS) as stream:
            for entry in sorted(layout.entries, key=lambda entry: self.tensors[_stored_name(entry)].start):
                stored = self.tensors[_stored_name(entry)]
                stream.seek(stored.start)
                data = stream.read(stored.size_bytes)
                if len(data) != stored.size_bytes:
                    raise ValueError(f"{_TENSORS} of adapter {self.directory} is cut off; copy it again.")
                numbers = np.frombuffer(data, dtype="<f4")
                if not np.isfinite(numbers).all():
                    raise ValueError(f"adapter {self.directory} holds a number that is not finite, in "
                                     f"{_short(_stored_name(entry))}; it is broken, get another one.")  # fmt: skip
                vector[entry.offset : entry.offset + numbers.size] = numbers
        return vector

    def _misfit(self, name: str, stored: tuple[int, int], wanted: tuple[int, int]) -> str:
        factor = int(".lora_B." in name)  # A is (rank, in), B is (out, rank); experts have rank * experts
        if stored[factor] != wanted[factor]:
            return (f"adapter {self.directory} is of another rank (or number of experts): adapter_config.json says "
                    f"rank {self.lora.rank}, for which {_short(name)} has shape {wanted}, and the file has {stored}.")
        return (f"adapter {self.directory} is of another base: {_short(name)} has shape {stored}, this base model "
                f"needs {wanted}; use the base that it was trained on.")


def read_adapter(directory: Path) -> AdapterFiles:
    """Check the folder of an adapter; reads the two headers and the card, no tensor. Needs neither torch nor peft.

    Raises ValueError, one sentence that names the folder and what is wrong with it.
    """
    if not directory.is_dir():
        raise ValueError(f"adapter folder {directory} does not exist; name the folder that holds {_CONFIG}.")
    for path in sorted(directory.iterdir()):
        if path.suffix.lower() in _PICKLES:
            raise ValueError(f"adapter {directory} holds {_short(path.name)}, a format that can run code when read: "
                             f"remove that file, or export the adapter as {_TENSORS}.")  # fmt: skip
    config = _read_config(directory)
    named = config.get("base_model_name_or_path")
    hashes = {text for text in (named, _card_line(directory, "- Base model: "))
              if isinstance(text, str) and _HASH.fullmatch(text)}
    if len(hashes) > 1:
        raise ValueError(f"adapter {directory} names one base model in {_CONFIG} and another in {_CARD}; "
                         "ask its maker.")  # fmt: skip
    return AdapterFiles(
        directory, _lora_of(config, directory), bytes.fromhex(hashes.pop()) if hashes else None,
        _description(directory), _read_header(directory))  # fmt: skip


@contextlib.contextmanager
def _opened(directory: Path, name: str) -> Iterator[IO[bytes]]:
    """A regular file of the folder, opened for reading; ValueError for a link out of it, a pipe or a device."""
    try:
        path = (directory / name).resolve(strict=True)
        if not path.is_relative_to(directory.resolve()):
            raise ValueError(f"{name} of adapter {directory} is a link out of that folder; copy the file itself there.")
        # Neither a link put there since, nor a pipe that nobody writes to.
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except (OSError, RuntimeError):
        raise ValueError(f"adapter {directory} has no readable {name}; name the folder of a LoRA adapter.") from None
    with os.fdopen(descriptor, "rb") as stream:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise ValueError(f"{name} of adapter {directory} is not a regular file.")
        yield stream


def _read_config(directory: Path) -> dict[str, Any]:
    with _opened(directory, _CONFIG) as stream:
        data = stream.read(MAX_CONFIG_BYTES + 1)
    if len(data) > MAX_CONFIG_BYTES:
        raise ValueError(f"{_CONFIG} of adapter {directory} is larger than {MAX_CONFIG_BYTES} bytes.")
    config = _strict_json(data, f"{_CONFIG} of adapter {directory}")
    for key, allowed in _REQUIRED.items():
        value = config.get(key)
        if not any(value is choice or (isinstance(value, str) and value == choice) for choice in allowed):
            raise ValueError(f"adapter {directory} is no plain LoRA: {key} is {_shown(value)} in its {_CONFIG}, and "
                             f"must be {_shown(allowed[0])}.")  # fmt: skip
    for key in sorted(config.keys() - _REQUIRED.keys() - _FREE):
        if config[key]:
            raise ValueError(f"adapter {directory} is no plain LoRA: {_shown(key)} is set in its {_CONFIG}, which is "
                             "not supported here.")  # fmt: skip
    return config


def _lora_of(config: Mapping[str, Any], directory: Path) -> LoraSpec:
    """Rank, alpha and groups; the targets must be this project's own for some groups."""
    for key in ("r", "lora_alpha"):
        if type(config.get(key)) is not int or not 1 <= config[key] <= MAX_RANK:
            raise ValueError(f"{key} in {_CONFIG} of adapter {directory} must be a whole number from 1 to {MAX_RANK}.")
    targets = (config.get("target_modules") or "", config.get("target_parameters") or [])
    for count in range(1, len(GROUPS) + 1):
        for groups in combinations(GROUPS, count):
            wanted = target_regex(groups, layers_in(targets[0]))
            if targets == (wanted, list(EXPERT_PARAMETERS) if "experts" in groups else []):
                return LoraSpec(rank=config["r"], alpha=config["lora_alpha"], groups=groups)
    raise ValueError(f"adapter {directory} adapts other layers than this project's ({', '.join(GROUPS)}): its "
                     "target_modules or target_parameters differ.")  # fmt: skip


def _read_header(directory: Path) -> dict[str, StoredTensor]:
    """Every tensor of the file by name, after the header and the file's length have been found consistent."""
    where = f"{_TENSORS} of adapter {directory}"
    with _opened(directory, _TENSORS) as stream:
        prefix = stream.read(8)
        length = int.from_bytes(prefix, "little")
        if len(prefix) < 8 or not 2 <= length <= MAX_HEADER_BYTES:
            raise ValueError(f"{where} is no safetensors file, or its header is larger than {MAX_HEADER_BYTES} bytes.")
        data = stream.read(length)
        size = os.fstat(stream.fileno()).st_size
    if len(data) < length:
        raise ValueError(f"{where} is cut off; copy it again.")
    header = _strict_json(data, f"the header of {where}")
    header.pop("__metadata__", None)
    return _placed(header, 8 + length, size, where)


def _placed(header: Mapping[str, Any], first: int, size: int, where: str) -> dict[str, StoredTensor]:
    """Tensors that fill the bytes from `first` to `size` one after the other, without gap or overlap."""
    tensors, spans = {}, []
    for name, value in header.items():
        shape, (begin, end) = _shape_and_span(name, value, where)
        tensor = StoredTensor(shape, first + begin)
        if end - begin != tensor.size_bytes:
            raise ValueError(f"the header of {where} is inconsistent: {_short(name)} has not the bytes of its shape.")
        tensors[name] = tensor
        spans.append((begin, end))
    ends = [0, *(end for _, end in sorted(spans))]
    if not tensors or [begin for begin, _ in sorted(spans)] != ends[:-1]:
        raise ValueError(f"the header of {where} is inconsistent: its tensors overlap, or leave a gap.")
    if first + ends[-1] != size:
        kind = "is cut off" if size < first + ends[-1] else "has bytes behind its last tensor"
        raise ValueError(f"{where} {kind}; copy it again.")
    return tensors


def _shape_and_span(name: str, value: Any, where: str) -> tuple[tuple[int, int], tuple[int, int]]:
    if not isinstance(value, dict) or value.keys() != {"dtype", "shape", "data_offsets"}:
        raise ValueError(f"the header of {where} is malformed at {_short(name)}.")
    if value["dtype"] != _DTYPE:
        raise ValueError(f"{where} stores {_short(name)} as {_shown(value['dtype'])}; adapters are {_DTYPE}.")
    shape, span = _two_sizes(value["shape"]), _two_sizes(value["data_offsets"])
    if shape is None or span is None or not all(shape):
        raise ValueError(f"the header of {where} is malformed at {_short(name)}: it must be a matrix at two offsets.")
    return shape, span


def _two_sizes(value: Any) -> tuple[int, int] | None:
    if isinstance(value, list) and len(value) == 2 and all(type(part) is int and 0 <= part < 1 << 40 for part in value):
        return value[0], value[1]
    return None


def _strict_json(data: bytes, what: str) -> dict[str, Any]:
    """A JSON object (RFC 8259) without repeated keys and without NaN or Infinity; ValueError naming `what`."""

    def once(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
        if len({key for key, _ in pairs}) != len(pairs):
            raise ValueError("repeated key")
        return dict(pairs)

    def refuse(constant: str) -> None:
        raise ValueError(constant)

    try:
        value = json.loads(data.decode("utf-8"), object_pairs_hook=once, parse_constant=refuse)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise ValueError(f"{what} is malformed: it must be a JSON object, every key once.")
    return value


def _card(directory: Path) -> list[str]:
    """The card's lines, [] without a card. It is only shown, so a long or strange one is cut, not refused."""
    if not (directory / _CARD).exists():
        return []
    with _opened(directory, _CARD) as stream:
        return stream.read(MAX_CONFIG_BYTES).decode("utf-8", errors="replace").splitlines()


def _card_line(directory: Path, start: str) -> str:
    return next((line.removeprefix(start).strip() for line in _card(directory) if line.startswith(start)), "")


def _description(directory: Path) -> str:
    """The paragraph below the card's heading as one printable line of at most 300 characters."""
    lines = _card(directory)
    heading = next((number for number, line in enumerate(lines) if line.startswith("# ")), len(lines))
    paragraph: list[str] = []
    for line in lines[heading + 1 :]:
        if line.strip() and not line.startswith("- "):
            paragraph.append(line.strip())
        elif paragraph or line.startswith("- "):
            break
    text = " ".join(paragraph)
    return "".join(character if character.isprintable() else " " for character in text)[:300]


def _stored_name(entry: AdapterEntry) -> str:
    """PEFT's name in the file of a parameter in the model: without the adapter's own name."""
    return entry.name.replace(".default.weight", ".weight")


def _short(name: str) -> str:
    """A tensor's name for a sentence: printable, without PEFT's prefix, and of bounded length."""
    return _shown(name.removeprefix("base_model.model.")).strip('"')


def _shown(value: Any) -> str:
    return json.dumps(value)[:100]
