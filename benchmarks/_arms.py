"""The ways to take one training step's gradient that are compared; each on its own module tree, same frozen weights.

A step ends with what an optimizer or the noise would be given: the mean gradient, or the clipped sum over patients.
"""

from __future__ import annotations

import logging
import warnings
from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks._grid import Point
from benchmarks._workload import Batch, PackedBatch, packed, packed_losses, patient_losses, replica, trainable
from privacy.dp.clipping import ClippedSum
from privacy.dp.engine import PatientGradients

__all__ = ["CLIP_NORM", "GOAL_ARMS", "NONPRIVATE", "OURS", "Arm", "Ours", "UnsuitedArmError", "arms_of", "our_arms"]

CLIP_NORM = 1.0
NONPRIVATE, OURS, PACKED = "non-private", "ours", "ours packed"


class UnsuitedArmError(Exception):
    """This arm cannot take this point's step; the text says why."""


class Arm(ABC):
    """One arm at one point. Building it allocates its static buffers; `step` is what is timed."""

    name: str

    def __init__(self, adapted: nn.Module, point: Point, batch: Batch) -> None:
        self.point = point
        self.batch = batch
        self.model: Any = replica(adapted)
        self.parameters = trainable(self.model)

    def attach(self) -> None:  # noqa: B027  arms without buffers have nothing to attach
        """Make what lives as long as a round: engine, optimizer, buffers."""

    @abstractmethod
    def step(self) -> object:
        """One gradient; raises UnsuitedArmError, or whatever the measured library raises."""

    def clear(self) -> None:
        """Drop what a step leaves behind."""
        for _, parameter in self.parameters:
            parameter.grad = None


class NonPrivate(Arm):
    """Stock PEFT: one ordinary backward of the mean loss."""

    name = NONPRIVATE

    def step(self) -> object:
        self.clear()
        patient_losses(self.model, self.batch).mean().backward()
        return [parameter.grad for _, parameter in self.parameters]


class Ours(Arm):
    """`PatientGradients`: micro-batch, clip and sum."""

    name = OURS
    clip_norm = CLIP_NORM

    def attach(self) -> None:
        self.engine = PatientGradients(self.model, self.parameters, clip_norm=self.clip_norm)
        self.no_tiles = torch.empty(0, dtype=torch.int64)
        self.rows = self.batch.patients.cpu()  # where batches are assembled

    def step(self) -> ClippedSum:
        return self.clipped_sum()

    def clipped_sum(self, weights: Tensor | None = None) -> ClippedSum:
        """The step; with `weights` (P,) on the patients' losses, to look at one patient among its batch-mates."""
        with self.engine.microbatch(
            text_patients=self.rows, image_patients=self.no_tiles, num_patients=self.batch.num_patients
        ):
            losses = patient_losses(self.model, self.batch)
            (losses if weights is None else losses * weights).sum().backward()
        self.engine.collect()
        return self.engine.finish()


class OursPacked(Ours):
    """The engine on the same patients without padding, in one row."""

    name = PACKED

    def attach(self) -> None:
        self.engine = PatientGradients(self.model, self.parameters, clip_norm=self.clip_norm)
        self.no_tiles = torch.empty(0, dtype=torch.int64)
        self.packed = _pack(self.model, self.batch)
        self.tokens = self.packed.patients.cpu()

    def clipped_sum(self, weights: Tensor | None = None) -> ClippedSum:
        with self.engine.microbatch(
            token_patients=self.tokens, image_patients=self.no_tiles, num_patients=self.batch.num_patients
        ):
            losses = packed_losses(self.model, self.packed)
            (losses if weights is None else losses * weights).sum().backward()
        self.engine.collect()
        return self.engine.finish()


class NonPrivatePacked(Arm):
    """Stock PEFT on the packed row with the same masks."""

    name = "non-private packed"

    def attach(self) -> None:
        self.packed = _pack(self.model, self.batch)

    def step(self) -> object:
        self.clear()
        packed_losses(self.model, self.packed).mean().backward()
        return [parameter.grad for _, parameter in self.parameters]


class OpacusHooks(Arm):
    """Opacus 1.6 GradSampleModule and its optimizer's clip."""

    name = "Opacus hooks"

    def attach(self) -> None:
        _require_plain_rows(self.point)
        self.wrapped, self.optimizer = _opacus(self.model, self.parameters, ghost=False)

    def step(self) -> object:
        self.optimizer.zero_grad(set_to_none=True)
        patient_losses(self.wrapped, self.batch).sum().backward()
        self.optimizer.clip_and_accumulate()
        return [parameter.summed_grad for _, parameter in self.parameters]

    def clear(self) -> None:
        self.optimizer.zero_grad(set_to_none=True)


class OpacusGhost(OpacusHooks):
    """Opacus 1.6 ghost clipping: norms without gradients, then a second backward."""

    name = "Opacus ghost"

    def attach(self) -> None:
        _require_plain_rows(self.point)
        self.wrapped, self.optimizer = _opacus(self.model, self.parameters, ghost=True)

    def step(self) -> object:
        from opacus.utils.fast_gradient_clipping_utils import DPTensorFastGradientClipping

        self.optimizer.zero_grad(set_to_none=True)
        losses = patient_losses(self.wrapped, self.batch)
        DPTensorFastGradientClipping(self.wrapped, self.optimizer, losses, "sum").backward()
        self.optimizer.accumulate()
        return [parameter.summed_grad for _, parameter in self.parameters]


class MicroBatchOfOne(Arm):
    """A loop over patients with ordinary autograd: exact, and what needs no engine. No padding is computed."""

    name = "micro-batch 1"

    def attach(self) -> None:
        self.singles = [self.batch.alone(patient) for patient in range(self.batch.num_patients)]

    def step(self) -> list[Tensor]:
        total = [torch.zeros_like(parameter) for _, parameter in self.parameters]
        for single in self.singles:
            self.clear()
            patient_losses(self.model, single).sum().backward()
            gradient = [parameter.grad for _, parameter in self.parameters]
            norm = torch.linalg.vector_norm(torch.stack([torch.linalg.vector_norm(g) for g in gradient]))
            factor = torch.clamp(CLIP_NORM / norm, max=1.0)
            torch._foreach_add_(total, torch._foreach_mul(gradient, factor))
        return total


GOAL_ARMS = frozenset({NONPRIVATE, OURS, PACKED})
"""Arms that run in every round."""


def arms_of(point: Point) -> list[type[Arm]]:
    """Every arm of the point, the one the others are compared with first."""
    packed_arms = [NonPrivatePacked] if point.ragged else []
    return [NonPrivate, *our_arms(point), *packed_arms, OpacusHooks, OpacusGhost, MicroBatchOfOne]


def our_arms(point: Point) -> list[type[Ours]]:
    """The engine's ways to take the point's step."""
    return [Ours, OursPacked] if point.ragged else [Ours]


def _pack(adapted: Any, batch: Batch) -> PackedBatch:
    base = adapted.get_base_model()
    return packed(batch, base.config.sliding_window, next(base.parameters()).dtype)


def _require_plain_rows(point: Point) -> None:
    """Opacus takes each row for a patient; where that is not so it would compute something else."""
    if point.rows_per_patient > 1:
        raise UnsuitedArmError("clips rows, not patients")


def _opacus(adapted: nn.Module, parameters: list[tuple[str, nn.Parameter]], *, ghost: bool) -> tuple[Any, Any]:
    try:
        from opacus.grad_sample import GradSampleModule, GradSampleModuleFastGradientClipping
        from opacus.optimizers import DPOptimizer, DPOptimizerFastGradientClipping
    except ImportError as error:
        raise UnsuitedArmError("opacus is not installed") from error
    warnings.filterwarnings("ignore", module="opacus")
    warnings.filterwarnings("ignore", message="Full backward hook")
    logging.getLogger("opacus").setLevel(logging.ERROR)
    plain = torch.optim.SGD([parameter for _, parameter in parameters], lr=0.0)
    settings = {"noise_multiplier": 0.0, "max_grad_norm": CLIP_NORM, "expected_batch_size": 1, "loss_reduction": "sum"}
    if not ghost:
        wrapped = GradSampleModule(adapted, strict=False, loss_reduction="sum")
        return wrapped, DPOptimizer(plain, **settings)
    wrapped = GradSampleModuleFastGradientClipping(
        adapted, strict=False, loss_reduction="sum", max_grad_norm=CLIP_NORM, use_ghost_clipping=True)
    return wrapped, DPOptimizerFastGradientClipping(plain, **settings)
