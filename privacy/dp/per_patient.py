"""The weight gradient of a linear layer, split by patient inside an ordinary backward.

*Guarantees.*
    * For y = x W^T + b and an incoming gradient g, patient p's gradient is the sum over p's rows and their
      tokens of g^T x: the product that autograd computes for the batch, with the batch axis kept.
    * It is computed in float32, or in float64 when the model is float64, also under autocast.
    * A layer that sees another number of rows or tokens than the micro-batch declared raises, so nothing is
      attributed by accident; the batch gradient of a covered weight is never formed.

*Assumes.*
    * Axis 0 of a covered layer's input is the row (padded text row or image tile), which belongs to one patient;
      packed text is one row, whose axis 1 is the token, which belongs to one patient.
    * Autograd runs a Function's backward once per backward pass, also under gradient checkpointing of both
      kinds: a recomputed forward records nothing.

*Does not cover.*
    * Mixing of patients elsewhere in the network: g and x of a row (of a token, when packed) must depend on its
      patient alone; `privacy.dp.segments` looks after attention over packed rows.

Source: the per-example form of the weight gradient, Goodfellow, arXiv 1510.01799, section 3, summed inside
the patient instead of taking norms.
"""

from __future__ import annotations

from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor

from privacy.dp.coverage import CoveredLinear
from privacy.dp.ragged import group_products
from privacy.dp.segments import SegmentCheck

__all__ = ["MicroBatch", "RowMap", "TokenMap", "patient_linear"]


class RowMap:
    """Which patient each row of one axis belongs to: int64[n] with values in [0, num_patients).

    Raises ValueError for another shape or dtype, or a patient outside the range.
    """

    def __init__(self, patients: Tensor, num_patients: int, device: torch.device) -> None:
        rows = _checked(patients, num_patients)
        self.num_rows = rows.numel()
        self.present = set(rows.tolist())
        self.patients = rows.to(device)
        self._identity = self.num_rows == num_patients and torch.equal(rows, torch.arange(num_patients))
        self._text_tokens: int | None = None

    def check(self, name: str, axis: str, x: Tensor) -> None:
        """Raise ValueError when `x` (n, ..., d), input of layer `name`, has not the rows of this axis."""
        if x.dim() < 2 or x.shape[0] != self.num_rows:
            raise ValueError(
                f"{name} saw an input with {x.shape[0]} rows but the micro-batch declares "
                f"{self.num_rows} {axis} rows: pass one patient per row"
            )
        if axis == "text":
            # As many tiles as text rows would slip through the check above; their token counts differ.
            self._same_tokens(name, x[0].numel() // x.shape[-1] if x.shape[0] else 0)

    def of_tokens(self, name: str, num_tokens: int) -> Tensor:
        """The patient of each of `num_tokens` text tokens, int64[num_tokens], rows flattened in order."""
        if not self.num_rows or num_tokens % self.num_rows:
            raise ValueError(f"{name} saw {num_tokens} tokens, not a multiple of the {self.num_rows} text rows")
        self._same_tokens(name, num_tokens // self.num_rows)
        return self.patients.repeat_interleave(num_tokens // self.num_rows)

    def add(self, out: Tensor, g: Tensor, x: Tensor, first: bool) -> None:
        """Add each patient's g^T x to `out` (P, out, in), or write it there; g (n, ..., out), x (n, ..., in)."""
        left, right = _tokens(g, out.dtype), _tokens(x, out.dtype)
        if not self._identity:
            if first:
                out.zero_()
            out.index_add_(0, self.patients, _row_products(left, right))
        elif out.device.type != "cpu":
            out.baddbmm_(left.transpose(1, 2), right, beta=0 if first else 1)
        elif first:
            out.copy_(_row_products(left, right))
        else:
            out.add_(_row_products(left, right))

    def _same_tokens(self, name: str, tokens: int) -> None:
        if self._text_tokens not in (None, tokens):
            raise ValueError(f"{name} saw another number of tokens than the text rows have")
        self._text_tokens = tokens


class TokenMap:
    """Which patient each token of one packed row belongs to: int64[T], each sample's tokens side by side.

    Raises ValueError as `RowMap` does.
    """

    def __init__(self, patients: Tensor, num_patients: int, device: torch.device) -> None:
        tokens = _checked(patients, num_patients)
        owners, counts = torch.unique_consecutive(tokens, return_counts=True)
        self.present = set(owners.tolist())
        self.patients = tokens.to(device)
        self._ends = torch.cumsum(counts, 0).to(device, torch.int32)
        self._owners = owners.to(device)
        self._identity = torch.equal(owners, torch.arange(num_patients))

    def check(self, name: str, axis: str, x: Tensor) -> None:
        """Raise ValueError when `x` is not (1, T, d)."""
        if x.dim() != 3 or x.shape[:2] != (1, self.patients.numel()):
            raise ValueError(
                f"{name} saw an input of shape {tuple(x.shape[:-1])} but the micro-batch declares one packed "
                f"row of {self.patients.numel()} tokens: pass (1, T, features)"
            )

    def of_tokens(self, name: str, num_tokens: int) -> Tensor:
        """The patient of each token, int64[T]."""
        if num_tokens != self.patients.numel():
            raise ValueError(f"{name} saw {num_tokens} tokens, not the {self.patients.numel()} of the packed row")
        return self.patients

    def add(self, out: Tensor, g: Tensor, x: Tensor, first: bool) -> None:
        """Add each patient's g^T x to `out` (P, out, in), or write it there; g (1, T, out), x (1, T, in)."""
        sums = group_products(g[0].to(out.dtype), x[0].to(out.dtype), self._ends)
        if self._identity and first:
            out.copy_(sums)
        elif self._identity:
            out.add_(sums)
        else:
            if first:
                out.zero_()
            out.index_add_(0, self._owners, sums)


class MicroBatch:
    """The per-patient gradients (P, D) of one micro-batch while its backward runs.

    `gradients` may hold old numbers: a layer's columns are valid once the layer is in `touched`. `segments` sees
    the masks of a packed micro-batch, None for padded rows.
    """

    def __init__(
        self, gradients: Tensor, text: RowMap | TokenMap, image: RowMap, segments: SegmentCheck | None
    ) -> None:
        self.gradients = gradients
        self.text = text
        self.image = image
        self.segments = segments
        self.touched: set[int] = set()
        self.open = True

    def check_rows(self, layer: CoveredLinear, x: Tensor) -> None:
        """Raise ValueError when `x` does not have the rows that its axis declares."""
        self._axis(layer).check(layer.name, layer.axis, x)

    def add(self, layer: CoveredLinear, x: Tensor, g: Tensor) -> None:
        """Add the gradient of `layer`'s weight for input `x` (n, ..., in) and gradient `g` (n, ..., out)."""
        out, first = self.take(layer)
        self._axis(layer).add(out, g, x, first)

    def take(self, layer: CoveredLinear) -> tuple[Tensor, bool]:
        """`layer`'s columns (P, *weight), to be written by the caller now, and whether this is the first time."""
        if not self.open:
            raise RuntimeError(f"{layer.name} got a gradient outside its micro-batch: run backward inside it")
        first = layer.start not in self.touched
        self.touched.add(layer.start)
        return self._columns(layer), first

    def zero(self, layer: CoveredLinear) -> None:
        """Declare that `layer` legally received nothing in this micro-batch."""
        self._columns(layer).zero_()

    def _axis(self, layer: CoveredLinear) -> RowMap | TokenMap:
        return self.text if layer.axis == "text" else self.image

    def _columns(self, layer: CoveredLinear) -> Tensor:
        return self.gradients[:, layer.start : layer.stop].view(-1, *layer.weight.shape)


def _checked(patients: Tensor, num_patients: int) -> Tensor:
    """`patients` on the CPU, where batches are assembled: no wait for the accelerator."""
    if patients.dtype != torch.int64 or patients.dim() != 1:
        raise ValueError("a row map is a one-dimensional int64 tensor with the patient of each row or packed token")
    rows = patients.cpu()
    if rows.numel() and not (int(rows.min()) >= 0 and int(rows.max()) < num_patients):
        raise ValueError("a row map names a patient outside [0, num_patients)")
    return rows


def _tokens(values: Tensor, dtype: torch.dtype) -> Tensor:
    """(n, ..., d) as (n, tokens, d) in `dtype`."""
    return values.reshape(values.shape[0], -1, values.shape[-1]).to(dtype)


def _row_products(g: Tensor, x: Tensor) -> Tensor:
    """g^T x of each row, (n, out, in), from (n, tokens, out) and (n, tokens, in): the small side leads the product."""
    if g.shape[2] > x.shape[2]:
        return torch.bmm(x.transpose(1, 2), g).transpose(1, 2)
    return torch.bmm(g.transpose(1, 2), x)


class _PatientLinear(torch.autograd.Function):
    """`F.linear` whose backward hands the weight's gradient to a `MicroBatch`, split by patient."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, layer: CoveredLinear, batch: MicroBatch
    ) -> Tensor:
        batch.check_rows(layer, x)
        ctx.save_for_backward(x, weight)
        ctx.layer, ctx.batch = layer, batch
        return F.linear(x, weight, bias)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Any) -> tuple[Tensor | None, None, None, None, None]:
        (g,) = grad_outputs
        x, weight = ctx.saved_tensors
        # Backward runs under the caller's autocast, which would round the per-patient product to bf16.
        with torch.no_grad(), torch.autocast(g.device.type, enabled=False):
            ctx.batch.add(ctx.layer, x, g)
            gx = torch.matmul(g, weight.to(g.dtype)).to(x.dtype) if ctx.needs_input_grad[0] else None
        return gx, None, None, None, None


def patient_linear(x: Tensor, layer: CoveredLinear, batch: MicroBatch) -> Tensor:
    """`layer` applied to `x` (n, ..., in); its backward adds the weight's gradient to `batch`."""
    result = _PatientLinear.apply(x, layer.weight, layer.module.bias, layer, batch)  # type: ignore[no-untyped-call]
    return cast(Tensor, result)
