"""The weight gradient of a linear layer, split by patient inside an ordinary backward.

*Guarantees.*
    * For y = x W^T + b and an incoming gradient g, patient p's gradient is the sum over p's rows and their
      tokens of g^T x: the product that autograd computes for the batch, with the batch axis kept.
    * It is computed in float32, or in float64 when the model is float64, also under autocast.
    * A layer that sees another number of rows than the micro-batch declared raises, so no row is attributed
      by accident; the batch gradient of a covered weight is never formed.

*Assumes.*
    * Axis 0 of a covered layer's input is the row (text row or image tile); a row belongs to one patient.
    * Autograd runs a Function's backward once per backward pass, also under gradient checkpointing of both
      kinds: a recomputed forward records nothing.

*Does not cover.*
    * Mixing of patients elsewhere in the network: g and x of a row must depend on that row's patient alone.

Source: the per-example form of the weight gradient, Goodfellow, arXiv 1510.01799, section 3, summed inside
the patient instead of taking norms.
"""

from __future__ import annotations

from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor

from privacy.dp.coverage import CoveredLinear

__all__ = ["RowMap", "MicroBatch", "patient_linear"]


class RowMap:
    """Which patient each row of one axis belongs to: int64[n] with values in [0, num_patients).

    Raises ValueError for another shape or dtype, or a patient outside the range.
    """

    def __init__(self, patients: Tensor, num_patients: int, device: torch.device) -> None:
        if patients.dtype != torch.int64 or patients.dim() != 1:
            raise ValueError("a row map is a one-dimensional int64 tensor with the patient of each row")
        # Looked at on the CPU, where batches are assembled: no wait for the accelerator.
        rows = patients.cpu()
        present = set(rows.tolist())
        if not present <= set(range(num_patients)):
            raise ValueError("a row map names a patient outside [0, num_patients)")
        self.num_rows = rows.numel()
        self.present = present
        self.identity = self.num_rows == num_patients and torch.equal(rows, torch.arange(num_patients))
        self.patients = rows.to(device)


class MicroBatch:
    """The per-patient gradients (P, D) of one micro-batch while its backward runs.

    `gradients` may hold old numbers: a layer's columns are valid once the layer is in `touched`.
    """

    def __init__(self, gradients: Tensor, text: RowMap, image: RowMap) -> None:
        self.gradients = gradients
        self.text = text
        self.image = image
        self.touched: set[int] = set()
        self.open = True
        self._text_tokens: int | None = None

    def check_rows(self, layer: CoveredLinear, x: Tensor) -> None:
        """Raise ValueError when `x` does not have the rows that its axis declares."""
        rows = self.text if layer.axis == "text" else self.image
        if x.dim() < 2 or x.shape[0] != rows.num_rows:
            raise ValueError(
                f"{layer.name} saw an input with {x.shape[0]} rows but the micro-batch declares "
                f"{rows.num_rows} {layer.axis} rows: pass one patient per row"
            )
        if layer.axis == "text":
            # As many tiles as text rows would slip through the check above; their token counts differ.
            tokens = x[0].numel() // x.shape[-1] if x.shape[0] else 0
            if self._text_tokens not in (None, tokens):
                raise ValueError(f"{layer.name} saw another number of tokens than the text rows have")
            self._text_tokens = tokens

    def add(self, layer: CoveredLinear, x: Tensor, g: Tensor) -> None:
        """Add the gradient of `layer`'s weight for input `x` (n, ..., in) and gradient `g` (n, ..., out)."""
        if not self.open:
            raise RuntimeError(f"{layer.name} got a gradient outside its micro-batch: run backward inside it")
        rows = self.text if layer.axis == "text" else self.image
        out = self._columns(layer)
        left = _tokens(g, out.dtype).transpose(1, 2)
        right = _tokens(x, out.dtype)
        first = layer.start not in self.touched
        if rows.identity:
            out.baddbmm_(left, right, beta=0 if first else 1)
        else:
            if first:
                out.zero_()
            out.index_add_(0, rows.patients, torch.bmm(left, right))
        self.touched.add(layer.start)

    def zero(self, layer: CoveredLinear) -> None:
        """Declare that `layer` legally received nothing in this micro-batch."""
        self._columns(layer).zero_()

    def _columns(self, layer: CoveredLinear) -> Tensor:
        return self.gradients[:, layer.start : layer.stop].view(-1, *layer.weight.shape)


def _tokens(values: Tensor, dtype: torch.dtype) -> Tensor:
    """(n, ..., d) as (n, tokens, d) in `dtype`."""
    return values.reshape(values.shape[0], -1, values.shape[-1]).to(dtype)


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
