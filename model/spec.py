"""What a MedGPT-oss style model is, in numbers: one frozen spec for the tiny model and for the full 20B one.

The architecture is MedGPT-oss (arXiv 2603.00842, section 3.1): a GPT-oss language backbone (mixture of experts,
attention sinks, alternating sliding window, YaRN), a CLIP vision tower, a two-layer MLP projector and InternVL's
dynamic tiling. This module is torch-free, so configuration code may import it.

Weights of MedGPT-oss are CC BY-NC 4.0: research only, no clinical decision-making.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from model.limited_read import read_limited

__all__ = [
    "ModelSpec",
    "LoraSpec",
    "TINY",
    "MEDGPT_OSS_20B",
    "MEDGPT_OSS_20B_PACKED",
    "GROUPS",
    "DEFAULT_GROUPS",
    "EXPERT_PARAMETERS",
    "FACTORS",
    "group_of",
    "layers_in",
    "target_regex",
]

_ATTENTION = r".*language_model\..*self_attn\.[qkvo]_proj"
_PROJECTOR = r".*multi_modal_projector\.linear_[12]"

# PEFT wraps the experts once for each adapted parameter: the second wrapper holds the first as its `base_layer`.
_EXPERTS = r".*language_model\..*mlp\.experts(?:\.base_layer)?"

_SOME_LAYERS = r".*language_model\.layers\.(?:{numbers})\.self_attn\.[qkvo]_proj"
_NUMBERS = re.compile(re.escape(_SOME_LAYERS).replace(re.escape("{numbers}"), r"(\d{1,4}(?:\|\d{1,4})*)"))

GROUPS = MappingProxyType({"attention": _ATTENTION, "projector": _PROJECTOR, "experts": _EXPERTS})
"""Adapter group -> regex (full match on the path of the module that holds the factors), in the order of the layout.
The language model's attention and the projector: bare names would also hit CLIP's own q/k/v_proj, whose layers past
`vision_feature_layer` never get a gradient. The experts are opt-in: 88.5 M numbers for the 20B model at rank 8."""

DEFAULT_GROUPS = ("attention", "projector")
"""What is adapted unless a run says otherwise."""

EXPERT_PARAMETERS = ("mlp.experts.gate_up_proj", "mlp.experts.down_proj")
"""The experts' adapted parameters, as PEFT's `target_parameters` takes them."""

FACTORS = ("A", "B", "AB")
"""Which LoRA factor a selection covers: W + (alpha/r) B A, arXiv 2106.09685, section 4.1."""

_CHOICES = {
    "text": ("gpt-oss", "llama"),
    "dtype": ("float32", "bfloat16"),
    "experts": ("dense", "mxfp4"),
    "projector": ("llava", "internvl"),
    "normalisation": ("imagenet", "clip"),
}

_MOST = {"num_layers": 512, "vision_layers": 1000, "num_experts": 1024, "num_heads": 4096, "head_dim": 4096,
         "vocab_size": 1 << 30, "adapted_layers": 512}  # an outline takes memory by layers, not by the size of a matrix
_MOST_SIZE = 1 << 20  # of every other whole number
_MOST_SIDE = 256  # patches of a tile's side
_SPEC_BYTES = 1 << 20
_MAY_BE_ZERO = ("vision_feature_layer", "adapted_layers")  # these two have bounds of their own
_LATER = {"text": "gpt-oss", "adapted_layers": 0}


@dataclass(frozen=True, kw_only=True)
class ModelSpec:
    """Every dimension of text, vision, projector and tiling. Two models of equal spec have equal parameter shapes.

    text: the language backbone, `gpt-oss`, or `llama`: dense, untied, SiLU, one "expert" of width `expert_size`, plain
    rotary positions (rope_factor 1), conversations in ChatML (`model.chatml`). adapted_layers: how many of the last
    language layers carry attention adapters, 0 = all; what lies below them is frozen (`model.frozen_layers`).
    dtype: of the weights as stored and computed with. experts: `dense`, or `mxfp4` (`model.mxfp4`). projector: `llava`
    (two layers on each patch) or `internvl` (pixel shuffle by 2, layer norm, two layers). normalisation: of pixels.

    Raises ValueError, one sentence, when the numbers cannot describe a model, or describe one so far beyond any that
    exists that its mere outline, without weights, would take the machine's memory.
    """

    name: str
    # language backbone (GPT-oss)
    vocab_size: int
    hidden_size: int
    expert_size: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    num_experts: int
    experts_per_token: int
    sliding_window: int
    rope_theta: float = 150_000.0
    rope_factor: float
    original_context: int
    initializer_range: float = 0.02
    # vision tower (CLIP) and tiling
    vision_hidden_size: int
    vision_mlp_size: int
    vision_layers: int
    vision_heads: int
    vision_feature_layer: int
    image_size: int
    patch_size: int
    max_tiles: int
    # tokens
    bos_token_id: int
    eos_token_id: int
    pad_token_id: int
    image_token_id: int
    max_tokens: int
    system: str = ""
    # how it is stored and joined
    dtype: str = "float32"
    experts: str = "dense"
    projector: str = "llava"
    normalisation: str = "imagenet"
    text: str = "gpt-oss"
    adapted_layers: int = 0

    def __post_init__(self) -> None:
        for field in fields(self):
            _check_field(self, field.name, str(field.type))
        for name, allowed in _CHOICES.items():
            if getattr(self, name) not in allowed:
                raise ValueError(f"ModelSpec: {name} must be one of {', '.join(allowed)}.")
        if self.image_size % self.patch_size:
            raise ValueError("ModelSpec: image_size must be a multiple of patch_size.")
        if self.image_size // self.patch_size > _MOST_SIDE:
            raise ValueError(f"ModelSpec: image_size must be at most {_MOST_SIDE} patches.")
        if self.projector == "internvl" and (self.image_size // self.patch_size) % 2:
            raise ValueError("ModelSpec: pixel shuffle joins 2 x 2 patches; image_size / patch_size must be even.")
        if self.experts == "mxfp4" and (self.hidden_size % 32 or self.expert_size % 32):
            raise ValueError("ModelSpec: MXFP4 packs 32 weights; hidden_size and expert_size must be multiples of it.")
        if self.num_heads % self.num_kv_heads or self.vision_hidden_size % self.vision_heads:
            raise ValueError("ModelSpec: heads must divide evenly (num_heads by num_kv_heads, vision width by heads).")
        if self.experts_per_token > self.num_experts:
            raise ValueError("ModelSpec: experts_per_token must not exceed num_experts.")
        if self.text == "llama" and (self.num_experts, self.experts, self.rope_factor) != (1, "dense", 1.0):
            raise ValueError("ModelSpec: a llama has one dense expert and rope_factor 1.")
        if not 0 <= self.adapted_layers <= self.num_layers:
            raise ValueError("ModelSpec: adapted_layers must be 0 (all) to num_layers.")
        if self.max_tokens > self.context:
            raise ValueError("ModelSpec: max_tokens must fit the context (rope_factor * original_context).")
        if not -self.vision_layers <= self.vision_feature_layer <= -1:
            raise ValueError("ModelSpec: vision_feature_layer counts from the end and must name an existing layer.")

    @property
    def context(self) -> int:
        """Positions the model is built for: factor * original, which is what YaRN assumes (arXiv 2309.00071)."""
        return int(self.rope_factor * self.original_context)

    @property
    def first_adapted_layer(self) -> int:
        """Index of the lowest language layer that may carry an adapter; those below it are frozen."""
        return self.num_layers - self.adapted_layers if self.adapted_layers else 0

    @property
    def tokens_per_tile(self) -> int:
        """Image tokens one tile becomes: its patches (CLS dropped), a quarter of them after pixel shuffle."""
        side = self.image_size // self.patch_size
        return int((side // 2) ** 2 if self.projector == "internvl" else side**2)

    def to_json(self) -> str:
        """Canonical JSON (sorted keys); equal specs give equal text.

        Fields that later releases added are left out at their default: such a base keeps its bytes, and so its hash.
        """
        values = {name: value for name, value in asdict(self).items() if _LATER.get(name) != value}
        return json.dumps(values, sort_keys=True, indent=1)

    @classmethod
    def from_json(cls, text: str) -> ModelSpec:
        """Parse `to_json`'s text. Raises ValueError on malformed JSON, an unknown or a missing field."""
        try:
            values = json.loads(text)
            return cls(**values)
        except (json.JSONDecodeError, TypeError, RecursionError) as error:
            raise ValueError("The model spec is malformed: it must be a JSON object of ModelSpec's fields.") from error

    @classmethod
    def read(cls, path: Path) -> ModelSpec:
        """The spec in a file of at most 1 MiB. Raises ValueError as `from_json`, and for a longer file."""
        return cls.from_json(read_limited(path, _SPEC_BYTES).decode("utf-8", "replace"))


def _check_field(spec: ModelSpec, name: str, kind: str) -> None:
    """One field has its declared type, and sizes are positive."""
    value: Any = getattr(spec, name)
    expected = {"int": (int,), "float": (int, float), "str": (str,)}[kind]
    if type(value) not in expected:
        raise ValueError(f"ModelSpec: {name} must be of type {kind}.")
    if name.endswith("_token_id"):
        if not 0 <= value < spec.vocab_size:
            raise ValueError(f"ModelSpec: {name} must lie inside the vocabulary.")
    elif kind != "str" and name not in _MAY_BE_ZERO and not 0 < value < 1e12:
        raise ValueError(f"ModelSpec: {name} must be positive.")
    elif kind == "int" and value > _MOST.get(name, _MOST_SIZE):
        raise ValueError(f"ModelSpec: {name} must be at most {_MOST.get(name, _MOST_SIZE)}.")


@dataclass(frozen=True, kw_only=True)
class LoraSpec:
    """Rank and scale of the LoRA adapters, arXiv 2106.09685, and the groups that get one.

    Dropout is zero: it would make gradients a draw. Raises ValueError for numbers out of range or unknown groups.
    """

    rank: int = 8
    alpha: int = 16
    dropout: float = 0.0
    groups: tuple[str, ...] = DEFAULT_GROUPS

    def __post_init__(self) -> None:
        if self.rank < 1 or self.alpha < 1:
            raise ValueError("LoraSpec: rank and alpha must be at least 1.")
        if self.dropout != 0.0:
            raise ValueError("LoraSpec: dropout must be 0, a patient's gradient must be a function of data alone.")
        if not self.groups or len(set(self.groups)) != len(self.groups) or not set(self.groups) <= set(GROUPS):
            raise ValueError(f"LoraSpec: groups must be one or more of {', '.join(GROUPS)}, each once.")


def group_of(module: str) -> str | None:
    """The adapter group of a module path, or None when it is never adapted."""
    return next((name for name, pattern in GROUPS.items() if re.fullmatch(pattern, module)), None)


def target_regex(groups: tuple[str, ...] = DEFAULT_GROUPS, layers: Sequence[int] = ()) -> str:
    """One regex for every adapted linear layer of `groups`, as PEFT's `target_modules` takes it; "" when none is.

    layers: the language layers whose attention is adapted; () = all.
    """
    some = {"attention": _SOME_LAYERS.format(numbers="|".join(map(str, layers)))} if layers else {}
    return "|".join(
        f"(?:{some.get(name, GROUPS[name])})" for name in GROUPS if name in groups and name != "experts")


def layers_in(regex: object) -> tuple[int, ...]:
    """The layers that a `target_regex` names; () for one without, and for anything else."""
    found = _NUMBERS.search(regex) if isinstance(regex, str) else None
    return tuple(map(int, found[1].split("|"))) if found else ()


TINY = ModelSpec(
    name="tiny",
    vocab_size=1024,
    hidden_size=96,
    expert_size=64,
    num_layers=2,
    num_heads=6,
    num_kv_heads=2,
    head_dim=16,
    num_experts=4,
    experts_per_token=2,
    sliding_window=64,
    rope_factor=4.0,
    original_context=256,
    initializer_range=0.05,
    vision_hidden_size=64,
    vision_mlp_size=128,
    vision_layers=2,
    vision_heads=4,
    vision_feature_layer=-1,
    image_size=32,
    patch_size=8,
    max_tiles=4,
    bos_token_id=1,
    eos_token_id=2,
    pad_token_id=0,
    image_token_id=9,
    max_tokens=192,
)
"""About half a million parameters; same classes and code paths as the full model, for one CPU core."""

MEDGPT_OSS_20B = ModelSpec(
    name="medgpt-oss-20b",
    vocab_size=201_088,
    hidden_size=2880,
    expert_size=2880,
    num_layers=24,
    num_heads=64,
    num_kv_heads=8,
    head_dim=64,
    num_experts=32,
    experts_per_token=4,
    sliding_window=128,
    rope_factor=32.0,
    original_context=4096,
    vision_hidden_size=1024,
    vision_mlp_size=4096,
    vision_layers=24,
    vision_heads=16,
    vision_feature_layer=-2,
    image_size=336,
    patch_size=14,
    max_tiles=12,
    bos_token_id=199_998,
    eos_token_id=200_002,
    pad_token_id=199_999,
    image_token_id=200_021,
    max_tokens=32_768,
    system="You are a helpful medical assistant.\n\nReasoning: low\n\n"
    "# Valid channels: final. Channel must be included for every message.",
    dtype="bfloat16",
)
"""GPT-oss-20B (20,914,757,184 language parameters), CLIP ViT-L/14@336, LLaVA-style two-layer projector.

system: Harmony's form (`model.harmony.system_text`) and InternVL's two settings, low reasoning and the final channel
only; its first sentence is ours. Put a checkpoint's own text into its spec.json.
"""

MEDGPT_OSS_20B_PACKED = replace(MEDGPT_OSS_20B, name="medgpt-oss-20b-mxfp4", experts="mxfp4")
"""The same with its experts as the stock checkpoint packs them: 10.2 GB instead of 38.2."""
