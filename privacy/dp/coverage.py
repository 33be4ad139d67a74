"""Which trainable parameters the engine can attribute to patients, and the refusal of all others.

*Guarantees.*
    * Every parameter that requires a gradient is either the weight of exactly one plain `nn.Linear`, or a LoRA
      factor of GPT-oss' experts (`privacy.dp.expert_adapters`), and listed by the caller, or
      `UncoveredParameterError` is raised before anything is trained.
    * Modules that mix patients by construction, and adapters with dropout, are refused (`privacy.dp.refusals`).

*Assumes.*
    * A listed weight is used through its module's `forward`. A second use of the weight elsewhere leaves an
      ordinary `.grad`, which the engine looks for after every backward.

*Does not cover.*
    * Mixing of patients by the loss; by attention over packed rows (`privacy.dp.segments`); by a router's
      balancing loss (`privacy.dp.refusals`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from torch import nn

from privacy.dp.expert_adapters import ExpertFactor, expert_factors, require_computable
from privacy.dp.refusals import UncoveredParameterError, refuse_couplings

__all__ = ["Axis", "CoveredLinear", "UncoveredParameterError", "cover", "refuse_uncovered"]

Axis = Literal["text", "image"]


@dataclass(frozen=True)
class CoveredLinear:
    """One trained weight (out, in), its module, its row axis and its columns [start, stop) of the layout.

    `expert` says which factor of an expert adapter it is: then the module only holds the weight.
    """

    name: str
    module: nn.Linear
    weight: nn.Parameter
    axis: Axis
    start: int
    expert: ExpertFactor | None = None

    @property
    def stop(self) -> int:
        return self.start + self.weight.numel()


def cover(
    model: nn.Module, parameters: Sequence[tuple[str, nn.Parameter]], image_modules: str
) -> list[CoveredLinear]:
    """The covered layers in the order of `parameters`, which is the layout of the summed vector.

    `image_modules` is a regular expression searched in each parameter's name: a match has image tiles as
    rows, every other layer has text rows. Raises UncoveredParameterError as `refuse_uncovered` does, and
    ValueError for an empty list, a parameter listed twice, a frozen one, and what `privacy.dp.refusals` refuses.
    """
    if not parameters:
        raise ValueError("there is no parameter to train: select an adapter group and a factor")
    if len({id(parameter) for _, parameter in parameters}) != len(parameters):
        raise ValueError("a parameter is listed twice: pass each trained weight once, in layout order")
    refuse_couplings(model)
    owners, experts = _owners(model), expert_factors(model)
    layers: list[CoveredLinear] = []
    start = 0
    for name, parameter in parameters:
        if not parameter.requires_grad:
            raise ValueError(f"{name} is frozen: list only what this round trains")
        axis: Axis = "image" if re.search(image_modules, name) else "text"
        module = _linear_of(name, parameter, owners)
        expert = experts.get(id(module))
        if expert is not None:
            require_computable(expert.layer)
        layer = CoveredLinear(name, module, parameter, axis, start, expert)
        layers.append(layer)
        start = layer.stop
    refuse_uncovered(model, layers)
    return layers


def refuse_uncovered(model: nn.Module, layers: Sequence[CoveredLinear]) -> None:
    """Raise UncoveredParameterError when `model` has a trainable parameter that is not in `layers`."""
    covered = {id(layer.weight) for layer in layers}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad and id(parameter) not in covered:
            raise UncoveredParameterError(
                f"{name} is trainable but no per-patient gradient covers it: freeze it or list it"
            )


def _owners(model: nn.Module) -> dict[int, list[tuple[nn.Module, str]]]:
    owners: dict[int, list[tuple[nn.Module, str]]] = {}
    for module, attribute, parameter in _direct_parameters(model):
        owners.setdefault(id(parameter), []).append((module, attribute))
    return owners


def _direct_parameters(model: nn.Module) -> Iterator[tuple[nn.Module, str, nn.Parameter]]:
    for module in model.modules():
        for attribute, parameter in module.named_parameters(recurse=False, remove_duplicate=False):
            yield module, attribute, parameter


def _linear_of(
    name: str, parameter: nn.Parameter, owners: dict[int, list[tuple[nn.Module, str]]]
) -> nn.Linear:
    """The one plain nn.Linear whose weight `parameter` is."""
    uses = owners.get(id(parameter), [])
    if len(uses) != 1:
        raise UncoveredParameterError(f"{name} belongs to {len(uses)} modules, not one: untie or freeze it")
    module, attribute = uses[0]
    # A subclass may use its weight in other ways than one matrix product: only the class itself is covered.
    if type(module) is not nn.Linear or attribute != "weight":
        raise UncoveredParameterError(f"{name} is not the weight of a plain nn.Linear: freeze it")
    if "forward" in module.__dict__:
        raise UncoveredParameterError(f"the module of {name} is already patched: detach the patch first")
    return module
