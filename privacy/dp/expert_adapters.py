"""Finds LoRA on the experts of GPT-oss as PEFT nests it, and refuses what the engine could not compute.

*Guarantees.*
    * An `ExpertLayer` describes exactly the computation of `privacy.dp.experts`: transformers' GptOssExperts, its
      two projections each with one adapter or none, unmerged, with PEFT's scale; or UncoveredParameterError.

*Assumes.*
    * PEFT 0.21's layout of `target_parameters`: a ParamWrapper for each adapted parameter around the one before,
      lora_A (r E, in) with the expert as the slow axis, lora_B (out, r E) with the expert as the FAST axis.

*Does not cover.*
    * Other mixture-of-experts classes, expert parallelism, quantised experts.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from torch import nn

from privacy.dp.refusals import UncoveredParameterError

__all__ = ["PROJECTIONS", "ExpertFactor", "ExpertLayer", "expert_factors", "require_computable"]

PROJECTIONS = ("gate_up_proj", "down_proj")
"""The expert parameters that an adapter may sit on, each (experts, in, out)."""


@dataclass(frozen=True, eq=False)
class ExpertLayer:
    """The experts of one layer: `outer` is what the model calls, `wrappers` PEFT's adapters by projection."""

    name: str
    outer: nn.Module
    experts: Any
    wrappers: dict[str, Any]

    def require_active(self) -> None:
        """Raise UncoveredParameterError when an adapter was merged, switched off or exchanged."""
        for wrapper in self.wrappers.values():
            active = list(wrapper.active_adapters)
            if wrapper.merged or wrapper.disable_adapters or active != list(wrapper.lora_A):
                raise UncoveredParameterError(f"the adapter of {self.name} is merged or not active: activate it")


@dataclass(frozen=True, eq=False)
class ExpertFactor:
    """Which factor of which projection of a layer's experts a weight is."""

    layer: ExpertLayer
    projection: str
    factor: Literal["A", "B"]


def expert_factors(model: nn.Module) -> dict[int, ExpertFactor]:
    """id of each nn.Linear that holds an expert factor -> what it is; empty without adapters on experts."""
    # A model can only hold PEFT's class once PEFT is loaded, so it need not be imported here.
    peft = sys.modules.get("peft.tuners.lora.layer")
    kind = getattr(peft, "ParamWrapper", None)
    found: dict[int, ExpertFactor] = {}
    inner: set[int] = set()
    for name, module in model.named_modules() if kind is not None else ():
        if type(module) is not kind or id(module) in inner:
            continue
        chain = list(_chain(module, kind))
        inner |= {id(wrapper) for wrapper in chain}
        layer = ExpertLayer(name, module, chain[-1].base_layer, {w.parameter_name: w for w in chain})
        for wrapper in chain:
            for factor, linears in (("A", wrapper.lora_A), ("B", wrapper.lora_B)):
                for linear in linears.values():
                    found[id(linear)] = ExpertFactor(layer, wrapper.parameter_name, factor)  # type: ignore[arg-type]
    return found


def require_computable(layer: ExpertLayer) -> None:
    """Raise UncoveredParameterError unless `privacy.dp.experts` computes what `layer` computes."""
    experts = layer.experts
    if type(experts).__name__ != "GptOssExperts" or getattr(experts, "_is_expert_parallel", False):
        raise UncoveredParameterError(f"{layer.name} is not GPT-oss' experts on one device: freeze its adapter")
    if "forward" in layer.outer.__dict__:
        raise UncoveredParameterError(f"{layer.name} is already patched: detach the patch first")
    for projection, wrapper in layer.wrappers.items():
        linears = [*wrapper.lora_A.values(), *wrapper.lora_B.values()]
        plain = len(linears) == 2 and all(type(x) is nn.Linear and x.bias is None for x in linears)
        straight = not wrapper._did_swap_in_out_features and wrapper.num_experts == experts.num_experts
        if projection not in PROJECTIONS or not plain or not straight:
            raise UncoveredParameterError(
                f"{layer.name}.{projection} has an adapter of another form than one plain LoRA: freeze it"
            )
    layer.require_active()


def _chain(outer: Any, kind: Any) -> Iterator[Any]:
    """The nested wrappers, outermost first."""
    while type(outer) is kind:
        yield outer
        outer = outer.base_layer
