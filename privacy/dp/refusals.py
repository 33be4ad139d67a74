"""What makes one patient's gradient depend on another's, or on a draw, refused by name.

*Guarantees.*
    * A model with layers that compute or keep batch statistics, with a router's load-balancing loss switched on (in
      any of its configurations, or later in a call), with dropout on a LoRA adapter, or with rotary positions whose
      frequencies follow the longest row of a batch is refused with the fix.

*Assumes.*
    * Batch statistics come from torch's own normalisation layers or subclasses of them; the load-balancing loss
      follows `output_router_logits`, as in transformers.

*Does not cover.*
    * A loss that is averaged over the batch, or coupling written by hand into a module: the caller's.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.instancenorm import _InstanceNorm

__all__ = [
    "AdapterDropoutError",
    "BatchCoupledLayerError",
    "LengthCoupledRopeError",
    "MissingGradientError",
    "RouterGuard",
    "RouterLossError",
    "UncoveredParameterError",
    "refuse_adapter_dropout",
    "refuse_batch_coupling",
    "refuse_couplings",
    "refuse_length_rope",
]

_ROUTER_FIX = "its load-balancing loss is a batch statistic: set output_router_logits to False"
# Kinds whose frequencies are constants of the configuration (transformers 5.23, modeling_rope_utils). "dynamic" and
# "longrope" take them from the longest row of a batch, so one patient's length changes everybody's.
_FIXED_ROPE = ("default", "linear", "llama3", "proportional", "yarn")


class UncoveredParameterError(Exception):
    """A trainable parameter whose gradient cannot be split by patient; nothing was attached or released."""


class BatchCoupledLayerError(ValueError):
    """A layer that mixes the patients of a batch."""


class LengthCoupledRopeError(ValueError):
    """Rotary positions whose frequencies depend on the longest row of the batch."""


class MissingGradientError(Exception):
    """A covered weight received no per-patient gradient, or one around the engine; nothing was added."""


class RouterLossError(ValueError):
    """The mixture of experts returns its router logits, from which a loss over the whole batch is made."""


class AdapterDropoutError(ValueError):
    """Dropout on a LoRA adapter: a patient's gradient would be a draw, and recomputed forwards would differ."""


def refuse_batch_coupling(model: nn.Module) -> None:
    """Raise BatchCoupledLayerError for batch normalisation of any kind, and instance normalisation with a memory."""
    for name, module in model.named_modules():
        if isinstance(module, _BatchNorm):  # synchronised and lazy ones too
            raise BatchCoupledLayerError(
                f"{name}: batch normalisation mixes patients: replace it by layer or group normalisation"
            )
        if isinstance(module, _InstanceNorm) and module.track_running_stats:
            raise BatchCoupledLayerError(f"{name} keeps running statistics: set track_running_stats to False")


def refuse_adapter_dropout(model: nn.Module) -> None:
    """Raise AdapterDropoutError when an adapter of `model` has dropout above 0."""
    for name, module in model.named_modules():
        if "lora_dropout" in name and getattr(module, "p", 0) > 0:
            raise AdapterDropoutError(f"{name} is above 0: set the adapter's lora_dropout to 0")


def refuse_length_rope(model: nn.Module) -> None:
    """Raise LengthCoupledRopeError for a kind of rotary positions that is not known to ignore the batch's lengths.

    Looked for in every configuration (`rope_parameters`, also one a layer type, and the older `rope_scaling`) and in
    the modules themselves.
    """
    for config in _configs(model):
        for key, value in vars(config).items():
            if "rope" in key:
                _refuse_kinds(f"{type(config).__name__}.{key}", _rope_kinds(value))
    for name, module in model.named_modules():
        kind = getattr(module, "rope_type", None)
        _refuse_kinds(f"{name}.rope_type", kind.values() if isinstance(kind, Mapping) else [kind])


def refuse_couplings(model: nn.Module) -> None:
    """All refusals of a model's construction; raises as each of them."""
    refuse_batch_coupling(model)
    refuse_adapter_dropout(model)
    refuse_length_rope(model)


class RouterGuard:
    """Looks at a model's configurations, and at what its forwards are asked for.

    Raises RouterLossError when a configuration asks for router logits already.
    """

    def __init__(self, model: nn.Module) -> None:
        self._configs = _configs(model)
        self.require_off()
        routed = [module for module in model.modules() if hasattr(module, "router_aux_loss_coef")]
        self._handles = [m.register_forward_pre_hook(_refuse_request, with_kwargs=True) for m in routed]

    def require_off(self) -> None:
        """Raise RouterLossError when a configuration asks for router logits by now."""
        for config in self._configs:
            if getattr(config, "output_router_logits", False):
                raise RouterLossError(f"{type(config).__name__} asks for router logits: {_ROUTER_FIX}")

    def remove(self) -> None:
        """Take the hooks off."""
        for handle in self._handles:
            handle.remove()
        self._handles = []


def _rope_kinds(value: object) -> Iterator[object]:
    """The kinds named in rope parameters, at any depth; `type` is the older name of `rope_type`."""
    if not isinstance(value, Mapping):
        return
    for key, inner in value.items():
        if key in ("rope_type", "type"):
            yield inner
        else:
            yield from _rope_kinds(inner)


def _refuse_kinds(where: str, kinds: Iterable[object]) -> None:
    for kind in kinds:
        if kind is not None and kind not in _FIXED_ROPE:
            raise LengthCoupledRopeError(
                f"{where} is {kind!r}, whose frequencies follow the longest row of a batch: use one of "
                + ", ".join(_FIXED_ROPE)
            )


def _refuse_request(_: nn.Module, __: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    if kwargs.get("output_router_logits"):
        raise RouterLossError(f"a forward was asked for router logits: {_ROUTER_FIX}")


def _configs(model: nn.Module) -> list[Any]:
    """Every configuration object of `model`'s modules, nested ones included, each once."""
    open_ = [module.config for module in model.modules() if hasattr(module, "config")]
    found: dict[int, Any] = {}
    while open_:
        config = open_.pop()
        if id(config) in found or not hasattr(config, "__dict__"):
            continue
        found[id(config)] = config
        open_ += [value for key, value in vars(config).items() if key.endswith("config")]
    return list(found.values())
