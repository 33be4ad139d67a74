"""GPT-oss' frozen experts as their checkpoint packs them: MXFP4, 4.25 bits a weight, unpacked only while in use.

A block of 32 weights has one scale, a power of two (E8M0, bias 127, 255 is NaN), and 32 numbers of 4 bits (E2M1): OCP
Microscaling Formats (MX) Specification 1.0, sections 5.3.3 and 5.4.1, tables 5 and 7. Two neighbours share a byte, the
first in the low half. Shapes are those of `openai/gpt-oss-20b`: blocks uint8 (experts, out, in/32, 16), scales uint8
(experts, out, in/32).

Forward unpacks a few experts at a time, multiplies and drops them; backward unpacks them again. What is kept for it is
as long as the tokens, never as large as a weight. Gradients reach the hidden states and the routing weights; the
experts themselves are frozen. Dequantised weights are exact in bfloat16, float32 and float64.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.mxfp4_gpu import unpack

__all__ = ["BLOCK", "FP4_VALUES", "PROJECTIONS", "PackedExperts", "dequantise", "packed_shapes", "quantise"]

BLOCK = 32
"""Weights that share a scale."""

FP4_VALUES = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, -0.0, -0.5, -1.0, -1.5, -2.0, -3.0, -4.0, -6.0)
"""The number that each 4-bit code stands for (MX 1.0, table 5)."""

PROJECTIONS = ("gate_up_proj", "down_proj")

# Weights unpacked at a time on a GPU, 0.5 GiB in bfloat16: a grouped product takes several experts at once. On the
# CPU it is one expert: the smaller it is, the less memory a step needs.
_GPU_WEIGHTS = 1 << 28
_LARGEST_SCALE = 254
_SCALE_BIAS = 127
_LARGEST_EXPONENT = 2  # of E2M1: 6 = 1.5 * 2^2


def packed_shapes(experts: int, hidden: int, intermediate: int) -> dict[str, tuple[int, ...]]:
    """Name -> shape of every tensor of one layer's experts, biases included.

    Raises ValueError when a row is no whole number of blocks.
    """
    if hidden % BLOCK or intermediate % BLOCK:
        raise ValueError(f"MXFP4: hidden and expert size must be multiples of {BLOCK}.")
    shapes: dict[str, tuple[int, ...]] = {}
    for name, out, inner in (("gate_up_proj", 2 * intermediate, hidden), ("down_proj", hidden, intermediate)):
        shapes[f"{name}_blocks"] = (experts, out, inner // BLOCK, BLOCK // 2)
        shapes[f"{name}_scales"] = (experts, out, inner // BLOCK)
        shapes[f"{name}_bias"] = (experts, out)
    return shapes


def dequantise(blocks: Tensor, scales: Tensor, dtype: torch.dtype) -> Tensor:
    """Weights (..., G * 32) in `dtype` from blocks uint8 (..., G, 16) and scales uint8 (..., G).

    `dtype` is bfloat16, float32 or float64. Raises ValueError for other types or shapes.
    """
    if blocks.dtype != torch.uint8 or scales.dtype != torch.uint8 or blocks.shape != (*scales.shape, BLOCK // 2):
        raise ValueError("MXFP4: blocks and scales are uint8, (..., G, 16) and (..., G).")
    if blocks.is_cuda and dtype == torch.bfloat16 and (unpacked := unpack(blocks, scales)) is not None:
        return unpacked
    pairs = _pairs(dtype, blocks.device)
    values = pairs.index_select(0, blocks.reshape(-1).to(torch.int32)).view(dtype)
    values = values.view(*scales.shape, BLOCK)
    # 2^(scale - 127), exact; the smallest is subnormal in float32 and bfloat16, and as exact there.
    factors = _scales(blocks.device).index_select(0, scales.reshape(-1).to(torch.int32)).to(dtype)
    return values.mul_(factors.view(*scales.shape, 1)).view(*scales.shape[:-1], -1)


def quantise(weights: Tensor) -> tuple[Tensor, Tensor]:
    """Blocks and scales of weights (..., G * 32), by the rule of MX 1.0, section 6.3.

    The scale is the power of two of the block's largest magnitude less 2; each number is rounded to the nearest
    representable one, ties to the even code, and cut off at 6. Raises ValueError for a size that is no multiple of 32
    and for a number that is not finite.
    """
    if weights.shape[-1] % BLOCK or not bool(torch.isfinite(weights).all()):
        raise ValueError(f"MXFP4: weights are finite, and a row is a multiple of {BLOCK} long.")
    parts = weights.to(torch.float64).reshape(*weights.shape[:-1], -1, BLOCK)
    largest = parts.abs().amax(dim=-1)
    exponent = torch.where(largest > 0, torch.frexp(largest).exponent - 1, -_SCALE_BIAS)
    scales = (exponent - _LARGEST_EXPONENT + _SCALE_BIAS).clamp(0, _LARGEST_SCALE)
    scaled = torch.ldexp(parts, _SCALE_BIAS - scales.unsqueeze(-1))
    magnitudes = torch.tensor(FP4_VALUES[:8], dtype=torch.float64, device=weights.device)
    above = torch.searchsorted(magnitudes, scaled.abs().contiguous()).clamp(1, 7)
    low, high = magnitudes[above - 1], magnitudes[above]
    middle = (low + high) / 2
    upper = (scaled.abs() > middle) | ((scaled.abs() == middle) & (above % 2 == 0))
    codes = torch.where(upper, above, above - 1) + 8 * (scaled < 0)
    blocks = (codes[..., ::2] | (codes[..., 1::2] << 4)).to(torch.uint8)
    return blocks, scales.to(torch.uint8)


class PackedExperts(nn.Module):
    """In the place of transformers' GptOssExperts (same call, same numbers), with frozen MXFP4 weights.

    Buffers: gate_up_proj_blocks, gate_up_proj_scales, gate_up_proj_bias and the same of down_proj, shapes as
    `packed_shapes`; gate and up are interleaved rows. Weights are unpacked in the type of the hidden states.

    Args: experts, hidden, intermediate: sizes. alpha, limit: of the clamped SwiGLU (GPT-oss model card, section 2.3).
    """

    def __init__(
        self, experts: int, hidden: int, intermediate: int, *, alpha: float = 1.702, limit: float = 7.0
    ) -> None:
        super().__init__()
        self.num_experts = experts
        self.intermediate_size = intermediate
        self.alpha = alpha
        self.limit = limit
        for name, shape in packed_shapes(experts, hidden, intermediate).items():
            kind = torch.get_default_dtype() if name.endswith("_bias") else torch.uint8
            self.register_buffer(name, torch.empty(shape, dtype=kind))

    @torch.no_grad()
    def fill(self, generator: torch.Generator | None = None, *, std: float = 0.02) -> None:
        """Random weights of about this standard deviation, for measurements; biases zero."""
        for name in PROJECTIONS:
            blocks, scales = self._part(name, "blocks"), self._part(name, "scales")
            blocks.random_(0, 256, generator=generator)
            # The sixteen codes have a root mean square of 2.94.
            scales.fill_(round(_SCALE_BIAS + torch.log2(torch.tensor(std / 2.94)).item()))
            self._part(name, "bias").zero_()

    @torch.no_grad()
    def pack(self, experts: Any) -> None:
        """Take the weights of a GptOssExperts, rounded to the format, expert by expert. ValueError as `quantise`."""
        for name in PROJECTIONS:
            for number in range(self.num_experts):
                blocks, scales = quantise(getattr(experts, name)[number].mT)
                self._part(name, "blocks")[number], self._part(name, "scales")[number] = blocks, scales
            self._part(name, "bias").copy_(getattr(experts, f"{name}_bias"))

    def dense(self, name: str, dtype: torch.dtype, experts: slice = slice(None)) -> Tensor:
        """The weights of `gate_up_proj` or `down_proj` of these experts, (experts, in, out) as in GptOssExperts."""
        return dequantise(self._part(name, "blocks")[experts], self._part(name, "scales")[experts], dtype).mT

    def bias(self, name: str, experts: slice, dtype: torch.dtype) -> Tensor:
        """(experts, out)."""
        return self._part(name, "bias")[experts].to(dtype)

    def gate(self, gate_up: Tensor) -> Tensor:
        """Clamped SwiGLU of interleaved gate and up, (S, 2 I) to (S, I): GptOssExperts._apply_gate."""
        gate = gate_up[..., ::2].clamp(max=self.limit)
        up = gate_up[..., 1::2].clamp(min=-self.limit, max=self.limit)
        return (up + 1) * (gate * torch.sigmoid(gate * self.alpha))

    def forward(self, hidden_states: Tensor, router_indices: Tensor, routing_weights: Tensor) -> Tensor:
        """(N, d) tokens with their experts int64 (N, k) and shares (N, k) to (N, d)."""
        return _ExpertMlp.apply(hidden_states, routing_weights, router_indices, self)  # type: ignore[no-any-return, no-untyped-call]

    def extra_repr(self) -> str:
        return f"experts={self.num_experts}, mxfp4"

    def chunks(self, routing: _Routing) -> Iterator[_Chunk]:
        """Neighbouring experts that are unpacked together, those without tokens left out."""
        weights = self._part("gate_up_proj", "blocks")[0].numel() * 2
        step = max(1, _GPU_WEIGHTS // weights) if routing.order.is_cuda else 1
        start = 0
        for first in range(0, self.num_experts, step):
            counts = routing.counts[first : first + step]
            if total := sum(counts):
                yield _Chunk(slice(first, first + len(counts)), slice(start, start + total), counts)
            start += total

    def _part(self, name: str, part: str) -> Tensor:
        found: Tensor = getattr(self, f"{name}_{part}")
        return found


@dataclass(frozen=True, eq=False)
class _Routing:
    """(token, choice) pairs sorted by expert: order int64 (S,), tokens int64 (S,), rows an expert."""

    order: Tensor
    tokens: Tensor
    counts: list[int]

    @staticmethod
    def of(chosen: Tensor, num_experts: int) -> _Routing:
        flat = chosen.reshape(-1)
        order = torch.argsort(flat, stable=True)
        return _Routing(order, order // chosen.shape[1], torch.bincount(flat, minlength=num_experts).tolist())

    def unsort(self, rows: Tensor, choices: int) -> Tensor:
        """(S, d) rows back in token order, (N, k, d)."""
        back = torch.empty_like(rows)
        back[self.order] = rows
        return back.view(-1, choices, rows.shape[-1])


@dataclass(frozen=True)
class _Chunk:
    """Experts unpacked together, their rows, and how many rows each has."""

    experts: slice
    rows: slice
    counts: list[int]

    def multiply(self, rows: Tensor, matrices: Tensor) -> Tensor:
        """Each row times its expert's matrix: (S', m) and (E', m, n) to (S', n)."""
        if rows.is_cuda and rows.dtype == torch.bfloat16 and hasattr(F, "grouped_mm"):
            ends = torch.tensor(self.counts, device="cpu").cumsum(0).to(rows.device, torch.int32, non_blocking=True)
            product: Tensor = F.grouped_mm(rows, matrices, offs=ends)
            return product
        product = rows.new_empty(rows.shape[0], matrices.shape[2])
        parts = zip(torch.split(rows, self.counts), matrices, torch.split(product, self.counts), strict=True)
        for part, matrix, out in parts:
            torch.mm(part, matrix, out=out)
        return product

    def spread(self, of_experts: Tensor) -> Tensor:
        """(E', n) as a row for each token of the chunk, (S', n)."""
        counts = torch.tensor(self.counts).to(of_experts.device, non_blocking=True)
        return of_experts.repeat_interleave(counts, dim=0, output_size=sum(self.counts))


class _ExpertMlp(torch.autograd.Function):
    """sum_e w_e (gate(x W1_e + b1_e) W2_e + b2_e) over each token's experts; weights are unpacked, used and dropped."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weights: Tensor, chosen: Tensor, layer: PackedExperts) -> Tensor:
        routing = _Routing.of(chosen, layer.num_experts)
        wanted = any(ctx.needs_input_grad)
        gate_up = hidden.new_empty(routing.tokens.numel(), 2 * layer.intermediate_size) if wanted else None
        rows = hidden.new_empty(routing.tokens.numel(), hidden.shape[1])
        with torch.autocast(hidden.device.type, enabled=False):
            for chunk in layer.chunks(routing):
                states = hidden[routing.tokens[chunk.rows]]
                inner = chunk.multiply(states, layer.dense("gate_up_proj", hidden.dtype, chunk.experts))
                inner += chunk.spread(layer.bias("gate_up_proj", chunk.experts, hidden.dtype))
                if gate_up is not None:
                    gate_up[chunk.rows] = inner
                gated = layer.gate(inner)
                del inner
                rows[chunk.rows] = chunk.multiply(gated, layer.dense("down_proj", hidden.dtype, chunk.experts))
                rows[chunk.rows] += chunk.spread(layer.bias("down_proj", chunk.experts, hidden.dtype))
            shares = weights.reshape(-1)[routing.order].unsqueeze(-1)
            result = routing.unsort(rows.mul_(shares), chosen.shape[1]).sum(dim=1)
        ctx.layer, ctx.routing = layer, routing
        ctx.save_for_backward(weights, gate_up)
        return result

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Any) -> tuple[Tensor | None, Tensor | None, None, None]:
        (weights, gate_up), layer, routing = ctx.saved_tensors, ctx.layer, ctx.routing
        grad = grad_outputs[0]
        dtype, choices = gate_up.dtype, weights.shape[1]
        shares = weights.reshape(-1)[routing.order].unsqueeze(-1)
        grad_rows = grad.new_empty(routing.tokens.numel(), grad.shape[1])
        grad_shares = weights.new_empty(routing.tokens.numel())
        with torch.no_grad(), torch.autocast(grad.device.type, enabled=False):
            for chunk in layer.chunks(routing):
                # (g W2^T) serves both: g . (h W2 + b2) = (g W2^T) . h + g . b2
                incoming = grad[routing.tokens[chunk.rows]].to(dtype)
                back = chunk.multiply(incoming, layer.dense("down_proj", dtype, chunk.experts).mT)
                with torch.enable_grad():
                    inner = gate_up[chunk.rows].detach().requires_grad_()
                    gated = layer.gate(inner)
                    (grad_inner,) = torch.autograd.grad(gated, inner, back * shares[chunk.rows])
                bias = chunk.spread(layer.bias("down_proj", chunk.experts, dtype))
                grad_shares[chunk.rows] = _dots(back, gated.detach()) + _dots(incoming, bias)
                del back, gated, incoming, inner
                grad_rows[chunk.rows] = chunk.multiply(
                    grad_inner, layer.dense("gate_up_proj", dtype, chunk.experts).mT)
            grad_hidden = routing.unsort(grad_rows, choices).sum(dim=1) if ctx.needs_input_grad[0] else None
            grad_weights = None
            if ctx.needs_input_grad[1]:
                grad_weights = routing.unsort(grad_shares.unsqueeze(-1), choices).squeeze(-1)
        return grad_hidden, grad_weights, None, None


def _dots(left: Tensor, right: Tensor) -> Tensor:
    """Row-wise inner products, summed in float32 at least."""
    return torch.einsum("sd,sd->s", left, right) if left.dtype == torch.float64 else (left.float() * right).sum(dim=1)


@lru_cache(maxsize=16)
def _pairs(dtype: torch.dtype, device: torch.device) -> Tensor:
    """Byte -> its two numbers, as one integer of twice their width: (256,)."""
    if dtype not in (torch.bfloat16, torch.float32, torch.float64):
        raise ValueError("MXFP4: weights are unpacked in bfloat16, float32 or float64.")
    byte = torch.arange(256)
    values = torch.tensor(FP4_VALUES, dtype=dtype)
    table = torch.stack([values[byte % 16], values[byte // 16]], dim=1)
    if dtype == torch.float64:
        return table.to(device)
    return table.view(torch.int32 if dtype == torch.bfloat16 else torch.int64).view(256).to(device)


@lru_cache(maxsize=16)
def _scales(device: torch.device) -> Tensor:
    """Code -> 2^(code - 127), float64 (256,), the last NaN."""
    table = torch.ldexp(torch.ones(256, dtype=torch.float64), torch.arange(256) - _SCALE_BIAS)
    table[255] = float("nan")
    return table.to(device)
