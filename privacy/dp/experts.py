"""LoRA on GPT-oss' experts: computed factored, its weight gradients split by patient.

*Guarantees.*
    * The forward is that of transformers' GptOssExperts with PEFT's W + s B A, computed as x W + s (x A^T) B^T: the
      sum W + s B A, as large as all experts of a layer, is never formed.
    * For each trained factor, patient p's gradient sums over p's tokens in every expert, whoever else's tokens the
      expert sees; computed in float32, or in float64 when the model is float64, also under autocast.

*Assumes.*
    * The experts get the text tokens of the micro-batch, rows flattened in order, as GptOssMLP hands them over, and
      routing depends on the token alone (GPT-oss drops no token for capacity).

*Does not cover.*
    * The router's balancing loss (`privacy.dp.refusals`), the forms refused by `privacy.dp.expert_adapters`.

One stable sort by (expert, patient) makes each expert's tokens neighbours, and inside an expert each patient's: then
the frozen product has one group an expert, the gradient one group a pair. LoRA: Hu et al., arXiv 2106.09685,
section 4.1; per-patient sums as in `privacy.dp.per_patient`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor

from privacy.dp.coverage import CoveredLinear
from privacy.dp.expert_adapters import ExpertLayer
from privacy.dp.per_patient import MicroBatch
from privacy.dp.ragged import group_products, grouped_rows

__all__ = ["patient_experts"]

Covered = dict[tuple[str, str], CoveredLinear]
"""(projection, factor) -> the trained weight, frozen factors left out."""


@dataclass(frozen=True, eq=False)
class _Routing:
    """(token, choice) pairs sorted by (expert, patient).

    `order` int64[S] are positions in the flattened choices, `experts` int64[S] their experts; `expert_ends` int32[E]
    and `group_ends` int32[E P] are cumulative counts.
    """

    order: Tensor
    experts: Tensor
    expert_ends: Tensor
    group_ends: Tensor


@dataclass(frozen=True, eq=False)
class _Adapter:
    """How a projection is adapted and trained: scale s, and the trained factors or None."""

    scale: float
    trained_a: CoveredLinear | None
    trained_b: CoveredLinear | None


def patient_experts(
    layer: ExpertLayer, covered: Covered, batch: MicroBatch, hidden: Tensor, chosen: Tensor, weights: Tensor
) -> Tensor:
    """The experts of `layer` applied to `hidden` (N, d); backward adds the trained factors' gradients to `batch`.

    `chosen` int64[N, k] are each token's experts and `weights` (N, k) their shares. Raises ValueError for other
    shapes, UncoveredParameterError when an adapter was merged or exchanged.
    """
    layer.require_active()
    if hidden.dim() != 2 or chosen.shape != weights.shape or chosen.shape[0] != hidden.shape[0]:
        raise ValueError(f"{layer.name} must get (N, d) tokens with (N, k) experts and as many weights")
    experts, choices = layer.experts, chosen.shape[1]
    patients = batch.text.of_tokens(layer.name, hidden.shape[0])
    routing = _sort(chosen, patients, experts.num_experts, batch.gradients.shape[0])
    states = hidden[routing.order // choices]
    gated = experts._apply_gate(_project("gate_up_proj", layer, covered, batch, routing, states))
    result = _project("down_proj", layer, covered, batch, routing, gated)
    result = result * weights.reshape(-1)[routing.order].unsqueeze(-1)
    place = torch.empty_like(routing.order)
    place[routing.order] = torch.arange(place.numel(), device=place.device)
    return result[place].view(hidden.shape[0], choices, -1).sum(dim=1).to(hidden.dtype)


def _sort(chosen: Tensor, patients: Tensor, num_experts: int, num_patients: int) -> _Routing:
    flat = chosen.reshape(-1)
    groups = flat * num_patients + patients.repeat_interleave(chosen.shape[1])
    order = torch.argsort(groups, stable=True)
    counts = torch.zeros(num_experts * num_patients, dtype=torch.int64, device=flat.device)
    counts.scatter_add_(0, groups, torch.ones_like(groups))
    ends = torch.cumsum(counts, 0).to(torch.int32)
    return _Routing(order, flat[order], ends[num_patients - 1 :: num_patients].contiguous(), ends)


def _project(
    name: str, layer: ExpertLayer, covered: Covered, batch: MicroBatch, routing: _Routing, x: Tensor
) -> Tensor:
    """One projection with its adapter and bias, (S, in) to (S, out)."""
    weight, bias = getattr(layer.experts, name), getattr(layer.experts, f"{name}_bias")
    wrapper = layer.wrappers.get(name)
    a = b = adapter = None
    if wrapper is not None:
        (key,) = wrapper.lora_A
        a, b = wrapper.lora_A[key].weight, wrapper.lora_B[key].weight
        adapter = _Adapter(wrapper.scaling[key], covered.get((name, "A")), covered.get((name, "B")))
    result = _ExpertLinear.apply(x.to(weight.dtype), weight, a, b, adapter, routing, batch)  # type: ignore[no-untyped-call]
    return cast(Tensor, result).add_(bias[routing.experts])


class _ExpertLinear(torch.autograd.Function):
    """x W_e + s (x A_e^T) B_e^T for each row's expert e; A and B are None where there is no adapter."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, a: Tensor | None, b: Tensor | None, adapter: _Adapter | None,
        routing: _Routing, batch: MicroBatch,
    ) -> Tensor:  # fmt: skip
        ctx.adapter, ctx.routing, ctx.batch = adapter, routing, batch
        # torch's grouped product is not under autocast, as in transformers: the weight's own type everywhere.
        with torch.autocast(x.device.type, enabled=False):
            result = grouped_rows(x, weight, routing.expert_ends)
            if a is None or b is None or adapter is None:
                ctx.save_for_backward(x, weight)
                return result
            down, up = _by_expert(a, b, weight)
            inner = grouped_rows(x, down.mT, routing.expert_ends)
            result.add_(grouped_rows(inner, up, routing.expert_ends), alpha=adapter.scale)
        ctx.save_for_backward(x, weight, a, b, inner)
        return result

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Any) -> tuple[Tensor | None, None, None, None, None, None, None]:
        x, weight, *factors = ctx.saved_tensors
        adapter, routing, wanted = ctx.adapter, ctx.routing, ctx.needs_input_grad[0]
        with torch.no_grad(), torch.autocast(x.device.type, enabled=False):
            g = grad_outputs[0].to(weight.dtype)
            gx = grouped_rows(g, weight.mT, routing.expert_ends) if wanted else None
            if factors:
                a, b, inner = factors
                down, up = _by_expert(a, b, weight)
                if adapter.trained_b is not None:
                    _add_b(ctx.batch, adapter.trained_b, routing, g, inner * adapter.scale)
                if gx is not None or adapter.trained_a is not None:
                    g_inner = grouped_rows(g, up.mT, routing.expert_ends).mul_(adapter.scale)
                    if adapter.trained_a is not None:
                        _add_a(ctx.batch, adapter.trained_a, routing, g_inner, x)
                    if gx is not None:
                        gx.add_(grouped_rows(g_inner, down, routing.expert_ends))
        return gx, None, None, None, None, None, None


def _by_expert(a: Tensor, b: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """PEFT's A (r E, in) as (E, r, in) and B (out, r E), expert fastest, as (E, r, out), in the weight's type."""
    experts = weight.shape[0]
    down = a.to(weight.dtype).view(experts, -1, a.shape[1])
    up = b.to(weight.dtype).view(b.shape[0], -1, experts).permute(2, 1, 0).contiguous()
    return down, up


def _add_a(batch: MicroBatch, layer: CoveredLinear, routing: _Routing, g_inner: Tensor, x: Tensor) -> None:
    out, first = batch.take(layer)  # (P, r E, in)
    pairs = _pair_products(g_inner, x, routing, out)  # (E, P, r, in)
    _write(out.view(out.shape[0], pairs.shape[0], -1, out.shape[2]).transpose(0, 1), pairs, first)


def _add_b(batch: MicroBatch, layer: CoveredLinear, routing: _Routing, g: Tensor, inner: Tensor) -> None:
    out, first = batch.take(layer)  # (P, out, r E)
    pairs = _pair_products(g, inner, routing, out)  # (E, P, out, r)
    _write(out.view(out.shape[0], out.shape[1], -1, pairs.shape[0]).permute(3, 0, 1, 2), pairs, first)


def _pair_products(left: Tensor, right: Tensor, routing: _Routing, out: Tensor) -> Tensor:
    """left^T right for each (expert, patient), (E, P, m, n) in `out`'s type."""
    pairs = group_products(left.to(out.dtype), right.to(out.dtype), routing.group_ends)
    return pairs.view(-1, out.shape[0], *pairs.shape[1:])


def _write(out: Tensor, values: Tensor, first: bool) -> None:
    if first:
        out.copy_(values)
    else:
        out.add_(values)
