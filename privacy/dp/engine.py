"""Per-patient gradients from one ordinary backward, clipped once a patient and summed.

*Guarantees.*
    * What `finish` returns is the sum over patients of [gradient, statistic lanes], each of norm at most C:
      one clip a patient, whatever the number of its rows, tiles and micro-batches.
    * A patient with a non-finite gradient or lane contributes exactly zero and does not touch the others.
    * Fails closed: a trainable parameter that is not covered is refused when attaching and before every
      micro-batch; a covered weight without a per-patient gradient after a backward is an error, as is an
      ordinary `.grad` on one; after an error nothing is released until `discard`.
    * Memory does not grow with the number of patients in a step: one (P, D) buffer, one sum, one carry.

*Assumes.*
    * `patient_losses` is one number a patient that depends on that patient's rows alone (a mean inside the
      patient, never a mean over the batch), and its sum is what backward is called on.
    * One patient's rows lie in one micro-batch, or in consecutive ones with that patient last, then first.
    * No two micro-batches are open at once; kernels compute a row independently of its batch-mates.

*Does not cover.*
    * Noise (`privacy.dp.noise`) and accounting; packed rows, experts, sharded models.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor, nn

from privacy.dp.clipping import ClipBounds, ClippedSum
from privacy.dp.coverage import CoveredLinear, UncoveredParameterError, cover, refuse_uncovered
from privacy.dp.per_patient import MicroBatch, RowMap, patient_linear

__all__ = ["EngineStateError", "MissingGradientError", "PatientGradients", "UncoveredParameterError"]

# Entries of the (P, D) buffer that are widened to float64 at a time: 32 MiB.
_CHUNK = 1 << 22


class MissingGradientError(Exception):
    """A covered weight received no per-patient gradient, or one around the engine; nothing was added."""


class EngineStateError(Exception):
    """The engine was called out of order, or after an error without `discard`; nothing is released."""


class _Carry(NamedTuple):
    """What an open patient brings into the next micro-batch: its gradient (D,) and lanes (num_lanes,)."""

    gradient: Tensor
    lanes: Tensor


class PatientGradients:
    """Attaches to a model and turns its backward passes into one clipped sum over patients.

    Args:
        model: the model to train; every parameter of it that requires a gradient must be in `parameters`.
        parameters: (name, weight) of each trained LoRA factor in layout order, each an nn.Linear's weight.
        clip_norm: C, the L2 bound on one patient's joint vector [gradient, lanes].
        num_lanes: number of statistic lanes after the gradient's coordinates.
        lane_bound: L, the lanes' share: their joint norm keeps within L, the gradient within sqrt(C^2 - L^2).
        image_modules: regular expression for the names of layers whose rows are image tiles.

    Raises UncoveredParameterError or ValueError as `privacy.dp.coverage.cover`, and ValueError for bounds
    out of range or parameters on several devices.

    A step is any number of `with microbatch(...)` and `collect(...)` pairs, then `finish()`; an empty draw is
    `finish()` alone. The engine trains one round's factor: `detach()` it before another is made.
    """

    def __init__(
        self,
        model: nn.Module,
        parameters: Sequence[tuple[str, nn.Parameter]],
        *,
        clip_norm: float,
        num_lanes: int = 0,
        lane_bound: float = 0.0,
        image_modules: str = "multi_modal_projector|vision_tower",
    ) -> None:
        self._bounds = ClipBounds(clip_norm, lane_bound)
        if num_lanes < 0 or (num_lanes > 0) != (lane_bound > 0):
            raise ValueError("statistic lanes need a lane_bound above 0, and a lane_bound needs lanes")
        self._layers = cover(model, parameters, image_modules)
        if len({layer.weight.device for layer in self._layers}) != 1:
            raise ValueError("the trained parameters lie on several devices: put them on one")
        self._model = model
        self._num_lanes = num_lanes
        self._device = self._layers[0].weight.device
        double = any(layer.weight.dtype == torch.float64 for layer in self._layers)
        self._dtype = torch.float64 if double else torch.float32
        self._dimension = self._layers[-1].stop
        self._buffer = torch.empty(0, self._dimension, dtype=self._dtype, device=self._device)
        self._batch: MicroBatch | None = None
        self._carry: _Carry | None = None
        self.discard()
        for layer in self._layers:
            self._patch(layer)

    @property
    def dimension(self) -> int:
        """Number of gradient coordinates; the summed vector has `num_lanes` more."""
        return self._dimension

    @contextmanager
    def microbatch(
        self, *, text_patients: Tensor, image_patients: Tensor, num_patients: int
    ) -> Iterator[None]:
        """Run one forward and `patient_losses.sum().backward()` inside this context, then call `collect`.

        `text_patients` int64[B] is the patient of each text row, `image_patients` int64[n_tiles] that of each
        tile (empty without images); both count patients of this micro-batch from 0, and each has a text row.
        Raises ValueError for maps that break this, EngineStateError when the last one was not collected.
        """
        self._require_sound()
        if self._batch is not None:
            raise EngineStateError("the last micro-batch was not collected: call collect() after backward")
        refuse_uncovered(self._model, self._layers)
        self._batch = batch = self._open(text_patients, image_patients, num_patients)
        try:
            yield
        except BaseException:
            self._failed = True
            raise
        finally:
            batch.open = False

    def collect(self, lanes: Tensor | None = None, *, complete: Tensor | None = None) -> None:
        """Clip this micro-batch's patients and add them to the step's sum.

        `lanes` (P, num_lanes) are each patient's statistics, functions of that patient alone; those of an
        open patient add up over its micro-batches. `complete` bool[P] is False for the last patient when its
        rows go on in the next micro-batch, as patient 0 there. Raises MissingGradientError, ValueError,
        EngineStateError; after one of them the step is lost and `discard` starts another.
        """
        self._require_sound()
        if self._batch is None:
            raise EngineStateError("there is no micro-batch to collect: run one first")
        batch, self._batch = self._batch, None
        batch.open = False
        self._failed = True
        self._require_gradients(batch)
        rows, joined = batch.gradients, self._lane_rows(lanes, batch.gradients.shape[0])
        if self._carry is not None:
            rows[0] += self._carry.gradient
            joined[0] += self._carry.lanes
        closed = rows.shape[0] - int(_is_open(complete, rows.shape[0]))
        is_open = closed < rows.shape[0]
        self._carry = _Carry(rows[-1].clone(), joined[-1].clone()) if is_open else None
        self._add(rows[:closed], joined[:closed])
        self._failed = False

    def finish(self) -> ClippedSum:
        """The step's sum float64[dimension + num_lanes]; zero when nothing was collected. Starts a new step.

        Raises EngineStateError when a patient or a micro-batch is still open, or after an error.
        """
        self._require_sound()
        if self._batch is not None or self._carry is not None:
            raise EngineStateError("a micro-batch or a patient is still open: collect it before finish()")
        vector = self._sum.cpu().numpy()
        total = ClippedSum(vector, self._bounds.clip_norm, self._num_patients, self._num_nonfinite)
        self.discard()
        return total

    def discard(self) -> None:
        """Drop everything that was collected since the last `finish`, and any error."""
        size = self._dimension + self._num_lanes
        self._sum = torch.zeros(size, dtype=torch.float64, device=self._device)
        self._carry = None
        self._batch = None
        self._num_patients = 0
        self._num_nonfinite = 0
        self._failed = False

    def detach(self) -> None:
        """Give the model its own forwards back and drop all buffers."""
        for layer in self._layers:
            layer.module.__dict__.pop("forward", None)
        self._layers = []
        self._buffer = self._buffer[:0].clone()
        self.discard()
        self._failed = True

    def _patch(self, layer: CoveredLinear) -> None:
        plain: Callable[[Tensor], Tensor] = layer.module.forward

        def forward(x: Tensor) -> Tensor:
            batch = self._batch
            # Without grad (evaluation, the first pass of reentrant checkpointing) there is nothing to record.
            if batch is None or not batch.open or not torch.is_grad_enabled():
                return plain(x)
            return patient_linear(x, layer, batch)

        layer.module.__dict__["forward"] = forward

    def _open(self, text_patients: Tensor, image_patients: Tensor, num_patients: int) -> MicroBatch:
        if num_patients < 1:
            raise ValueError("a micro-batch has at least one patient; an empty draw is finish() alone")
        text = RowMap(text_patients, num_patients, self._device)
        image = RowMap(image_patients, num_patients, self._device)
        if len(text.present) != num_patients:
            raise ValueError("every patient of a micro-batch needs a text row: number them without gaps")
        if self._buffer.shape[0] < num_patients:
            self._buffer = self._buffer.new_empty(num_patients, self._dimension)
        return MicroBatch(self._buffer[:num_patients], text, image)

    def _require_sound(self) -> None:
        if self._failed:
            raise EngineStateError("the engine stopped after an error or was detached: call discard() first")

    def _require_gradients(self, batch: MicroBatch) -> None:
        """Every covered weight got its gradient, and only through the engine."""
        for layer in self._layers:
            if layer.weight.grad is not None:
                raise MissingGradientError(f"{layer.name} has an ordinary .grad: clear it before each step")
            if layer.start in batch.touched:
                continue
            if layer.axis == "image" and batch.image.num_rows == 0:
                batch.zero(layer)
                continue
            raise MissingGradientError(f"{layer.name} received no per-patient gradient: freeze it or use it")

    def _lane_rows(self, lanes: Tensor | None, num_patients: int) -> Tensor:
        """A float64 copy (P, num_lanes) of the lanes, on the engine's device."""
        if lanes is None:
            lanes = torch.empty(num_patients, 0)
        if lanes.shape != (num_patients, self._num_lanes):
            raise ValueError(f"lanes must have shape ({num_patients}, {self._num_lanes}), a row a patient")
        return lanes.detach().to(self._device, torch.float64, copy=True)

    def _add(self, rows: Tensor, lanes: Tensor) -> None:
        gradient_norms, lane_norms = _row_norms(rows), torch.linalg.vector_norm(lanes, dim=1)
        gradient_factors, lane_factors = self._bounds.factors(gradient_norms, lane_norms)
        broken = ~(torch.isfinite(gradient_norms) & torch.isfinite(lane_norms))
        if bool(broken.any()):
            # A factor of zero is not enough: 0 * NaN is NaN.
            rows[broken] = 0
            lanes[broken] = 0
        for columns in _chunks(rows):
            self._sum[columns] += rows[:, columns].double().mT @ gradient_factors
        self._sum[self._dimension :] += lanes.mT @ lane_factors
        self._num_patients += rows.shape[0]
        self._num_nonfinite += int(broken.sum())


def _is_open(complete: Tensor | None, num_patients: int) -> bool:
    """Whether the last patient goes on in the next micro-batch."""
    if complete is None:
        return False
    if complete.dtype != torch.bool or complete.shape != (num_patients,):
        raise ValueError(f"complete must be a bool tensor with {num_patients} entries, one a patient")
    if not bool(complete[:-1].all()):
        raise ValueError("only the last patient of a micro-batch may be open: keep samples in patient order")
    return not bool(complete[-1])


def _chunks(rows: Tensor) -> Iterator[slice]:
    step = max(1, _CHUNK // max(1, rows.shape[0]))
    for start in range(0, rows.shape[1], step):
        yield slice(start, min(start + step, rows.shape[1]))


def _row_norms(rows: Tensor) -> Tensor:
    """L2 norm of each row in float64, float64[P]; not finite when any entry is not."""
    squares = torch.zeros(rows.shape[0], dtype=torch.float64, device=rows.device)
    for columns in _chunks(rows):
        squares += rows[:, columns].double().square().sum(dim=1)
    return squares.sqrt()
