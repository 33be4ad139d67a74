"""Whether a PEFT adapter's files are exactly a LoraSpec, checked without torch and PEFT.

Every key of `adapter_config.json` that could change what is computed, or name code to import, must have the one value
that `model.export` writes; keys that a later PEFT adds must be empty.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from model.adapter_names import factor_of, module_of
from model.spec import EXPERT_PARAMETERS, LoraSpec, group_of, layers_in, target_regex

__all__ = ["require_adapter_config", "require_adapter_places", "require_adapter_shapes"]

_FREE = frozenset({"base_model_name_or_path", "peft_version", "revision"})
_FIXED: dict[str, Any] = {
    "peft_type": "LORA", "task_type": "CAUSAL_LM", "inference_mode": True, "bias": "none", "lora_dropout": 0.0,
    "init_lora_weights": True, "megatron_core": "megatron.core", "qalora_group_size": 16}
_LAYER = "model.language_model.layers"
_IN_LAYER = {"attention": tuple(f"self_attn.{one}_proj" for one in "qkvo"),
             "experts": ("mlp.experts", "mlp.experts.base_layer")}
_PROJECTOR = ("model.multi_modal_projector.linear_1", "model.multi_modal_projector.linear_2")


def require_adapter_config(config: Any, lora: LoraSpec) -> tuple[int, ...]:
    """The layers whose attention is adapted, () = all of them.

    Raises ValueError, one sentence, naming the first key of `adapter_config.json` that is not as `lora` says. Which
    layers a base lets be adapted, only its files can tell (`ModelSpec.adapted_layers`).
    """
    if not isinstance(config, Mapping):
        raise ValueError("adapter_config.json is no JSON object")
    experts = list(EXPERT_PARAMETERS) if "experts" in lora.groups else None
    layers = () if "experts" in lora.groups else layers_in(config.get("target_modules"))
    expected = {**_FIXED, "r": lora.rank, "lora_alpha": lora.alpha,
                "target_modules": target_regex(lora.groups, layers) or [], "target_parameters": experts}
    for name, value in expected.items():
        found = config.get(name)
        if type(found) is not type(value) or found != value:
            raise ValueError(f"adapter_config.json has {name}={found!r} where the run has {value!r}")
    for name in sorted(set(config) - set(expected) - _FREE):
        if config[name]:
            raise ValueError(f"adapter_config.json sets {name}, which no run of this release uses")
    return layers


def require_adapter_shapes(shapes: Mapping[str, tuple[int, ...]], lora: LoraSpec) -> None:
    """Raises ValueError when the file's matrices (name -> shape) are not A and B of `lora`'s rank in its groups."""
    pairs: dict[str, dict[str, tuple[int, ...]]] = {}
    for name, shape in shapes.items():
        pairs.setdefault(module_of(name), {})[factor_of(name)] = shape
    for module, pair in pairs.items():
        if set(pair) != {"A", "B"} or any(len(shape) != 2 for shape in pair.values()):
            raise ValueError(f"the adapter file lacks a factor of {module}")
        inner = pair["A"][0]
        right = inner % lora.rank == 0 if group_of(module) == "experts" else inner == lora.rank
        if pair["B"][1] != inner or not right:
            raise ValueError(f"the adapter's factors of {module} are not of the run's rank {lora.rank}")
    groups = {group_of(module) for module in pairs}
    if groups != set(lora.groups):
        raise ValueError(f"the adapter file has the groups {', '.join(sorted(map(str, groups)))} and the run trained "
                         f"{', '.join(sorted(lora.groups))}")


def require_adapter_places(
    shapes: Mapping[str, tuple[int, ...]], lora: LoraSpec, layers: Sequence[int] = ()
) -> None:
    """Raises ValueError unless the file's names (name -> shape) are those of layers 0, 1, ... of a language model, or
    of `layers` where its configuration names some: then they must follow one another.

    Every layer has each matrix of `lora`'s groups, of the shape that the first one has; names are PEFT's, to the
    letter. How many layers the base has, and of which size, its files alone can tell.
    """
    if list(layers) != list(range(layers[0], layers[0] + len(layers)) if layers else []):
        raise ValueError("the adapted layers of adapter_config.json do not follow one another")
    numbers = {found[1] for name in shapes if (found := re.search(rf"\.{re.escape(_LAYER)}\.(\d+)\.", name))}
    inside = [part for group in lora.groups for part in _IN_LAYER.get(group, ())]
    held = layers or range(len(numbers))
    first = {f"{_LAYER}.{number}.{part}": f"{_LAYER}.{held[0]}.{part}" for number in held for part in inside}
    first |= {module: module for module in _PROJECTOR if "projector" in lora.groups}
    wanted = {_matrix(module, factor): _matrix(zero, factor) for module, zero in first.items() for factor in "AB"}
    if set(shapes) != set(wanted) and layers:
        raise ValueError("the adapter file's layers are not those that adapter_config.json names, each with every "
                         f"matrix of {', '.join(lora.groups)} under its own name")
    if set(shapes) != set(wanted):
        raise ValueError("the adapter file's layers are not numbered from 0 without a gap, each with every matrix of "
                         f"{', '.join(lora.groups)} under its own name")
    if any(shapes[name] != shapes[zero] for name, zero in wanted.items()):
        raise ValueError("the adapter file's layers are not of one shape")


def _matrix(module: str, factor: str) -> str:
    return f"base_model.model.{module}.lora_{factor}.weight"
