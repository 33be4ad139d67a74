"""Checkpoints of three layouts, understood before they are read: where each tensor lies, and how it becomes ours.

* a folder that this project wrote (`spec.json`);
* MedGPT-oss as published: InternVL's chat model around GPT-oss and CLIP;
* stock GPT-oss and stock CLIP, two folders, with a projector of one's own.

Folders are local and only files in safetensors and JSON are read. Every name, shape and type is compared with the
model's before memory is taken; then one tensor after the other is read into its place. Dense experts become MXFP4
(rounded), and MXFP4 dense (exact), one expert at a time.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from torch import Tensor

from model.checkpoint_config import composed_spec, is_upstream, upstream_spec
from model.checkpoint_names import CLIP, OURS, PROJECTOR, STOCK, TOWER, UPSTREAM, Naming
from model.mxfp4 import BLOCK, PROJECTIONS, dequantise, packed_shapes, quantise
from model.spec import ModelSpec
from model.tokenizer import load_tokenizer
from model.weights_file import (
    WEIGHTS,
    Expected,
    StoredTensor,
    file_inside,
    listed,
    read_header,
    read_json,
    read_tensor,
    stored_tensors,
    weight_files,
)

__all__ = ["BASE_FILES", "Source", "Step", "checkpoint_files", "open_composed", "open_folder", "open_upstream",
           "read_projector", "read_spec"]

_EXPERTS = ".mlp.experts."
_NAN_SCALE = 255
_ROUNDED = 1 << 17  # weights that are rounded to MXFP4 at once, in float64 and a dozen temporaries of that size
_FLOATS = (torch.float32, torch.float16, torch.bfloat16)

BASE_FILES = ("config.json", WEIGHTS, "spec.json", "tokenizer.json")
"""What a base model folder of this project holds; a large one has an index and shards in the place of its weights."""


@dataclass(frozen=True)
class Step:
    """One or two tensors of ours and the stored tensors they are made of; `given` is one that is in memory already."""

    names: tuple[str, ...]
    stored: tuple[StoredTensor, ...]
    dtype: torch.dtype
    given: Tensor | None = None

    def tensors(self) -> Iterator[tuple[str, Tensor]]:
        """Name and tensor, contiguous, in the model's type. Raises ValueError for a file that has changed, a number
        that is not finite where it is rounded, or an MXFP4 scale that is no number."""
        if self.given is not None:
            yield self.names[0], self.given.to(self.dtype).contiguous()
        elif len(self.names) == 2:
            yield from zip(self.names, _pack(self.stored[0]), strict=True)
        elif len(self.stored) == 2:
            yield self.names[0], _unpack(*self.stored, self.dtype)
        else:
            tensor = read_tensor(self.stored[0])
            if self.names[0].endswith("_proj_scales"):
                _require_numbers(tensor, self.stored[0])
            yield self.names[0], tensor.to(self.dtype)


@dataclass(frozen=True, eq=False)
class Source:
    """A checkpoint that was found and understood; no tensor has been read.

    directory: what messages name. spec: of the model it becomes. stored: our name -> stored tensor, experts as they are
    stored. given: our name -> tensor in memory. any_float: whether CLIP's tensors may have another float type.
    """

    directory: Path
    spec: ModelSpec
    tokenizer: Tokenizer
    stored: Mapping[str, StoredTensor]
    naming: Naming
    unknown: tuple[str, ...] = ()
    given: Mapping[str, Tensor] = field(default_factory=dict)
    any_float: bool = False

    def with_experts(self, experts: str) -> Source:
        """The same with its experts `dense` or `mxfp4`: packing dense ones rounds, unpacking is exact."""
        if experts == self.spec.experts:
            return self
        return replace(self, spec=replace(self.spec, experts=experts))

    def with_projector(self, tensors: Mapping[str, Tensor]) -> Source:
        """The same with this projector, by names such as `linear_1.weight`."""
        return replace(self, given={PROJECTOR + name: tensor for name, tensor in tensors.items()})

    def plan(self, expected: Expected) -> tuple[Step, ...]:
        """The steps to every tensor of a model, in its order.

        expected: name -> shape and type of the model's stored tensors. Raises ValueError, one sentence that lists what
        is missing, left over, misshapen or of the wrong type.
        """
        packed = any(name.endswith("_proj_blocks") for name in self.stored)
        self._check(_as_stored(expected, self.spec, packed=packed))
        steps = []
        for name, (_, dtype) in expected.items():
            if (step := self._step(name, dtype)) is not None:
                steps.append(step)
        return tuple(steps)

    def _step(self, name: str, dtype: torch.dtype) -> Step | None:
        """How `name` is made; None for a tensor that the step of another makes too."""
        if name in self.given:
            return Step((name,), (), dtype, self.given[name])
        if name in self.stored:
            return Step((name,), (self.stored[name],), dtype)
        if name.endswith("_scales"):
            return None
        if name.endswith("_blocks"):
            dense = name.removesuffix("_blocks")
            return Step((name, f"{dense}_scales"), (self.stored[dense],), dtype)
        return Step((name,), (self.stored[f"{name}_blocks"], self.stored[f"{name}_scales"]), dtype)

    def _check(self, expected: Expected) -> None:
        have: dict[str, tuple[tuple[int, ...], torch.dtype]] = {
            name: (one.shape, one.dtype) for name, one in self.stored.items()}
        have |= {name: (tuple(one.shape), one.dtype) for name, one in self.given.items()}
        problems = [f"{self.naming.theirs(name)} is missing" for name in expected if name not in have]
        problems += [f"{self.naming.theirs(name)} is left over" for name in have if name not in expected]
        problems += [f"{name} is left over" for name in self.unknown]
        for name, (shape, dtype) in expected.items():
            if name not in have:
                continue
            if have[name][0] != shape:
                problems.append(f"{self.naming.theirs(name)} is {have[name][0]} instead of {shape}")
            elif have[name][1] != dtype and not self._may_be(name, have[name][1]):
                problems.append(f"{self.naming.theirs(name)} is {_kind(have[name][1])} instead of {_kind(dtype)}")
        if problems:
            described = "spec.json" if self.naming is OURS else "config.json"
            raise ValueError(f"The checkpoint in {self.directory} does not fit its {described}: {listed(problems)}.")

    def _may_be(self, name: str, dtype: torch.dtype) -> bool:
        """Whether a tensor of this type may be rounded to the model's: a stock tower, and a projector from a file."""
        return dtype in _FLOATS and ((self.any_float and name.startswith(TOWER)) or name in self.given)


def open_folder(directory: Path) -> Source:
    """A base model of this project, or MedGPT-oss as published.

    Raises ValueError, one sentence, for what is missing, damaged or unsupported.
    """
    if not (directory / "spec.json").exists():
        return open_upstream(directory)
    words = load_tokenizer(file_inside(directory, "tokenizer.json"))
    spec = ModelSpec.read(file_inside(directory, "spec.json"))
    return _plausible(Source(directory, spec, words, stored_tensors(directory), OURS))


def read_spec(directory: Path) -> ModelSpec:
    """The spec of a base model's folder, of this project or MedGPT-oss as published. ValueError when it is none."""
    if _is_upstream_folder(directory) and not (directory / "spec.json").exists():
        return open_upstream(directory).spec
    return ModelSpec.read(file_inside(directory, "spec.json"))


def open_upstream(directory: Path, tokenizer: Path | None = None) -> Source:
    """MedGPT-oss as published; tokenizer: a file to use instead of the folder's tokenizer.json.

    Raises ValueError, one sentence, for what is missing, damaged or unsupported.
    """
    config = read_json(file_inside(directory, "config.json"))
    if not is_upstream(config):
        raise ValueError(_no_layout(directory))
    words = load_tokenizer(tokenizer or file_inside(directory, "tokenizer.json"))
    stored, unknown = _renamed(stored_tensors(directory), UPSTREAM)
    spec = upstream_spec(config, words, _float_type(stored, directory))
    return _plausible(Source(directory, spec, words, stored, UPSTREAM, unknown))


def open_composed(directory: Path, clip: Path, tokenizer: Path | None = None) -> Source:
    """Stock GPT-oss in `directory` and stock CLIP in `clip`; the projector is still missing (`with_projector`).

    CLIP's numbers are rounded to the language model's type. Raises ValueError, one sentence, for what is missing,
    damaged or unsupported.
    """
    words = load_tokenizer(tokenizer or file_inside(directory, "tokenizer.json"))
    config, tower = (read_json(file_inside(folder, "config.json")) for folder in (directory, clip))
    stored, unknown = _renamed(stored_tensors(directory), STOCK)
    seen, unseen = _renamed(stored_tensors(clip), CLIP)
    packed = any(name.endswith("_proj_blocks") for name in stored)
    spec = composed_spec(config, tower, words, _float_type(stored, directory), packed=packed)
    naming = Naming((*CLIP.prefixes, *STOCK.prefixes))
    return _plausible(
        Source(directory, spec, words, {**stored, **seen}, naming, unknown + unseen, any_float=True))


def read_projector(path: Path) -> dict[str, Tensor]:
    """A projector from a safetensors file, names such as `linear_1.weight` with or without Llava's prefix.

    Raises ValueError for a damaged or pickled file.
    """
    if not path.is_file():
        raise ValueError(f"There is no projector at {path}.")
    found = {}
    for name, stored in read_header(path).items():
        found[name.removeprefix("model.").removeprefix("multi_modal_projector.")] = read_tensor(stored)
    return found


def checkpoint_files(directory: Path) -> tuple[str, ...]:
    """The files that a base model in `directory` consists of, in sorted order: what its content hash covers.

    Raises ValueError naming the first that is missing, and for a folder that is no base model by itself.
    """
    upstream = not (directory / "spec.json").exists() and _is_upstream_folder(directory)
    required = [name for name in BASE_FILES if not (upstream and name == "spec.json")]
    names: set[str] = set()
    for name in required:
        if name == WEIGHTS and not (directory / WEIGHTS).is_file():
            names |= {*weight_files(directory)}
        else:
            names.add(name)
        if name == "config.json" and not (directory / name).is_file():
            raise ValueError(f"No base model in {directory}: the file {name} is missing.")
    for name in sorted(names):
        file_inside(directory, name)
    return tuple(sorted(names))


def _is_upstream_folder(directory: Path) -> bool:
    """Whether the config.json is MedGPT-oss'. Raises ValueError for stock GPT-oss, which alone is no base model."""
    try:
        config = read_json(directory / "config.json")
    except (ValueError, OSError):
        return False  # another file is missing, too, and will be named
    if config.get("model_type") == "gpt_oss":
        raise ValueError(_no_layout(directory))
    return is_upstream(config)


def _no_layout(directory: Path) -> str:
    return (f"{directory} is no base model by itself: it is neither this project's nor MedGPT-oss' layout; "
            "make one with `coordinator make-base`.")


def _renamed(
    stored: Mapping[str, StoredTensor], naming: Naming
) -> tuple[dict[str, StoredTensor], tuple[str, ...]]:
    """Stored tensors by our names, and the names outside the layout."""
    found: dict[str, StoredTensor] = {}
    unknown = []
    for name, one in stored.items():
        if naming.is_left_out(name):
            continue
        ours = naming.ours(name)
        if ours is None or ours in found:
            unknown.append(name)
        else:
            found[ours] = one
    return found, tuple(unknown)


def _float_type(stored: Mapping[str, StoredTensor], directory: Path) -> str:
    """The type of the language model, that of its embedding; ValueError unless float32 or bfloat16."""
    embedding = stored.get("model.language_model.embed_tokens.weight")
    if embedding is None:
        raise ValueError(f"The weights in {directory} have no embed_tokens.weight where their config.json says so.")
    if embedding.dtype not in (torch.float32, torch.bfloat16):
        raise ValueError(f"{embedding.name} is {_kind(embedding.dtype)}; get the bfloat16 or float32 checkpoint.")
    return _kind(embedding.dtype)


def _plausible(source: Source) -> Source:
    """The source, unless its numbers describe a model that the files cannot hold: then not even an outline is built."""
    spec = source.spec
    held = sum(one.size for one in source.stored.values())
    patches = (spec.image_size // spec.patch_size) ** 2
    largest = max(
        spec.vocab_size * spec.hidden_size, spec.head_dim * spec.num_heads * spec.hidden_size,
        spec.num_experts * spec.hidden_size, patches * spec.vision_hidden_size,
        spec.vision_mlp_size * spec.vision_hidden_size)
    if largest > held or spec.num_layers + spec.vision_layers > len(source.stored):
        described = "spec.json" if source.naming is OURS else "config.json"
        raise ValueError(
            f"The checkpoint in {source.directory} does not fit its {described}: it describes a larger model than the "
            "files hold.")
    return source


def _as_stored(expected: Expected, spec: ModelSpec, *, packed: bool) -> Expected:
    """What the files must hold for this model when the experts in them are packed, or dense."""
    if packed == (spec.experts == "mxfp4"):
        return expected
    shapes = packed_shapes(spec.num_experts, spec.hidden_size, spec.expert_size)
    dtype = getattr(torch, spec.dtype)
    found: dict[str, Any] = {}
    for name, kind in expected.items():
        layer, inside, part = name.rpartition(_EXPERTS)
        projection = next((one for one in PROJECTIONS if part in (one, f"{one}_blocks", f"{one}_scales")), None)
        if not inside or projection is None:
            found[name] = kind
        elif packed:
            for end in ("blocks", "scales"):
                found[f"{name}_{end}"] = (shapes[f"{projection}_{end}"], torch.uint8)
        else:
            experts, out, groups = shapes[f"{projection}_scales"]
            found[f"{layer}{_EXPERTS}{projection}"] = ((experts, groups * BLOCK, out), dtype)
    return found


def _pack(dense: StoredTensor) -> tuple[Tensor, Tensor]:
    """Blocks and scales of experts stored as (E, in, out): one expert is read at a time, a few rows are rounded."""
    experts, inner, out = dense.shape
    blocks = torch.empty((experts, out, inner // BLOCK, BLOCK // 2), dtype=torch.uint8)
    scales = torch.empty((experts, out, inner // BLOCK), dtype=torch.uint8)
    step = max(1, _ROUNDED // inner)
    for number in range(experts):
        rows = read_tensor(dense, number).mT
        for first in range(0, out, step):
            part = slice(first, first + step)
            try:
                blocks[number, part], scales[number, part] = quantise(rows[part])
            except ValueError:
                raise ValueError(f"{dense.name} in {dense.path} cannot be packed: a number is not finite.") from None
    return blocks, scales


def _unpack(blocks: StoredTensor, scales: StoredTensor, dtype: torch.dtype) -> Tensor:
    """Experts (E, in, out) of packed ones, one expert at a time."""
    experts, out, groups = scales.shape
    dense = torch.empty((experts, groups * BLOCK, out), dtype=dtype)
    for number in range(experts):
        factors = read_tensor(scales, number)
        _require_numbers(factors, scales)
        dense[number] = dequantise(read_tensor(blocks, number), factors, dtype).mT
    return dense


def _require_numbers(scales: Tensor, stored: StoredTensor) -> None:
    if bool((scales == _NAN_SCALE).any()):
        raise ValueError(f"{stored.name} in {stored.path} has a scale that is no number; get the file again.")


def _kind(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
