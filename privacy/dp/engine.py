"""Per-patient gradients from one ordinary backward, clipped once a patient and summed.

*Guarantees.*
    * What `finish` returns is the sum over patients of [gradient, statistic lanes], each of norm at most C:
      one clip a patient, whatever the number of its rows, tiles and micro-batches.
    * A patient with a non-finite gradient or lane contributes exactly zero and does not touch the others. In a
      packed row it could: `PackedNonFiniteError` then asks for its patients alone, and nothing is added.
    * Fails closed: a trainable parameter that is not covered is refused when attaching and before every
      micro-batch; a covered weight without a per-patient gradient after a backward is an error, as is an
      ordinary `.grad` on one; after an error nothing is released until `discard`.
    * Memory does not grow with the number of patients in a step: one (P, D) buffer, one sum, one carry.
    * The layers may lie on several devices of this process: each holds the gradients of its own layers, and a patient's
      norm and clip are those of all of them together.

*Assumes.*
    * `patient_losses` is one number a patient that depends on that patient's rows alone (a mean inside the
      patient, never a mean over the batch), and its sum is what backward is called on.
    * One patient's rows lie in one micro-batch, or in consecutive ones with that patient last, then first.
    * Padded rows are apart; packed ones are kept apart by masks, which are checked (`privacy.dp.segments`).
    * No two micro-batches are open at once; kernels compute a row independently of its batch-mates.

*Does not cover.*
    * Noise (`privacy.dp.noise`) and accounting; several processes (`privacy.dp.ranks`); a layer in parts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from privacy.dp.accumulator import ClippedAccumulator
from privacy.dp.blocks import LayerBlock, OpenBatch, layer_blocks
from privacy.dp.clipping import ClipBounds, ClippedSum
from privacy.dp.coverage import CoveredLinear, UncoveredParameterError, cover, refuse_uncovered
from privacy.dp.expert_adapters import ExpertLayer
from privacy.dp.experts import Covered, patient_experts
from privacy.dp.per_patient import MicroBatch, RowMap, TokenMap, patient_linear
from privacy.dp.refusals import MissingGradientError, RouterGuard
from privacy.dp.segments import (
    AttentionWatch,
    PackedNonFiniteError,
    SegmentCheck,
    UnsegmentedPackingError,
    refuse_nonfinite,
)
from privacy.dp.shares import NoiseShare
from privacy.manifest import Clipping

__all__ = [
    "EngineStateError",
    "MissingGradientError",
    "PackedNonFiniteError",
    "PatientGradients",
    "UncoveredParameterError",
    "UnsegmentedPackingError",
]


class EngineStateError(Exception):
    """The engine was called out of order, or after an error without `discard`; nothing is released."""


class PatientGradients:
    """Attaches to a model and turns its backward passes into one clipped sum over patients.

    Args:
        model: the model to train; every parameter of it that requires a gradient must be in `parameters`.
        parameters: (name, weight) of each trained LoRA factor in layout order: the weight of an nn.Linear, or of
            PEFT's adapter on GPT-oss' experts, which are then computed factored while a micro-batch is open.
        clip_norm: C, the L2 bound on one patient's joint vector [gradient, lanes].
        num_lanes: number of statistic lanes after the gradient's coordinates.
        lane_bound: L, the lanes' share: their joint norm keeps within L, the gradient within sqrt(C^2 - L^2).
        image_modules: regular expression for the names of layers whose rows are image tiles.
        clipping, bit_weight: the clip rule and the weight of an adaptive clip's bit (`privacy.dp.clipping`).
        share: of distributed noise: patients are rounded to its levels (`privacy.dp.noise_share`).

    Raises UncoveredParameterError or ValueError as `privacy.dp.coverage.cover`, RouterLossError when the router's
    balancing loss is on, and ValueError for bounds out of range.

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
        clipping: Clipping = "flat",
        bit_weight: float = 0.0,
        share: NoiseShare | None = None,
    ) -> None:
        bounds = ClipBounds(clip_norm, lane_bound, clipping, bit_weight)
        self._layers = cover(model, parameters, image_modules)
        self._model = model
        double = any(layer.weight.dtype == torch.float64 for layer in self._layers)
        self._dtype = torch.float64 if double else torch.float32
        self._dimension = self._layers[-1].stop
        self._blocks = layer_blocks(self._layers, self._block_of)
        self._device = self._blocks[0].device  # where norms, factors and lanes are
        self._buffers = [torch.empty(0, b.size, dtype=self._dtype, device=b.device) for b in self._blocks]
        self._sum = ClippedAccumulator(
            self._dimension, num_lanes, bounds, self._device, [block.columns for block in self._blocks], share)
        self._batch: OpenBatch | None = None
        self._failed = False
        self._router = RouterGuard(model)
        self._watch = AttentionWatch(model, image_modules, self._segments)
        self._patched: list[nn.Module] = []
        for index, block in enumerate(self._blocks):
            self._attach(index, block)

    @property
    def dimension(self) -> int:
        """Number of gradient coordinates; the summed vector has `num_lanes` more."""
        return self._dimension

    @contextmanager
    def microbatch(
        self,
        *,
        num_patients: int,
        image_patients: Tensor,
        text_patients: Tensor | None = None,
        token_patients: Tensor | None = None,
    ) -> Iterator[None]:
        """Run one forward and `patient_losses.sum().backward()` inside this context, then call `collect`.

        `text_patients` int64[B] is the patient of each padded text row; or `token_patients` int64[T] that of each
        token of one packed row, whose samples may stand in any order. `image_patients` int64[n_tiles] is that of
        each tile (empty without images). All count patients of this micro-batch from 0, and each has text.
        Raises ValueError for maps that break this, EngineStateError when the last one was not collected, and
        UnsegmentedPackingError (also out of the forward) when packed patients are not kept apart.
        """
        self._require_sound()
        if self._batch is not None:
            raise EngineStateError("the last micro-batch was not collected: call collect() after backward")
        refuse_uncovered(self._model, self._layers)
        self._router.require_off()
        self._batch = batch = self._open(text_patients, token_patients, image_patients, num_patients)
        try:
            yield
        except BaseException:
            self._failed = True
            raise
        finally:
            batch.close()

    def collect(self, lanes: Tensor | None = None, *, complete: Tensor | None = None) -> None:
        """Clip this micro-batch's patients and add them to the step's sum.

        `lanes` (P, num_lanes) are each patient's statistics, functions of that patient alone; those of an
        open patient add up over its micro-batches. `complete` bool[P] is False for the last patient when its
        rows go on in the next micro-batch, as patient 0 there. Raises MissingGradientError, ValueError,
        EngineStateError, UnsegmentedPackingError, and PackedNonFiniteError when a packed row of several patients is
        not finite; after one the step is lost and `discard` starts another.
        """
        self._require_sound()
        if self._batch is None:
            raise EngineStateError("there is no micro-batch to collect: run one first")
        batch, self._batch = self._batch, None
        batch.close()
        self._failed = True
        if batch.segments is not None:
            batch.segments.require_all()
        self._require_gradients(batch)
        if batch.segments is not None:
            for gradients in batch.gradients:
                refuse_nonfinite(gradients, lanes)
        rows = batch.gradients
        self._sum.add(rows if len(rows) > 1 else rows[0], lanes, complete)
        self._failed = False

    def finish(self) -> ClippedSum:
        """The step's sum float64[dimension + num_lanes]; zero when nothing was collected. Starts a new step.

        Raises EngineStateError when a patient or a micro-batch is still open, or after an error.
        """
        self._require_sound()
        if self._batch is not None or self._sum.is_open:
            raise EngineStateError("a micro-batch or a patient is still open: collect it before finish()")
        return self._sum.finish()

    def sum_of(self, vector: npt.NDArray[np.float64], num_patients: int, num_nonfinite: int) -> ClippedSum:
        """Sums of this engine that were added up elsewhere, as one of its sums."""
        return self._sum.sum_of(vector, num_patients, num_nonfinite)

    def set_threshold(self, threshold: float) -> None:
        """The adaptive clip's threshold for the next step; ValueError inside a step."""
        self._sum.set_threshold(threshold)

    def discard(self) -> None:
        """Drop everything that was collected since the last `finish`, any error, and the memory of large batches."""
        self._sum.discard()
        self._batch = None
        self._buffers = [buffer.new_empty(0, buffer.shape[1]) for buffer in self._buffers]
        self._failed = False

    def detach(self) -> None:
        """Give the model its own forwards back and drop all buffers."""
        for module in self._patched:
            module.__dict__.pop("forward", None)
        self._watch.remove()
        self._router.remove()
        self._layers, self._patched = [], []
        self.discard()
        self._failed = True

    def _block_of(self, layer: CoveredLinear) -> object:
        """Layers with equal answers share a block; their weights must lie on one device."""
        return layer.weight.device

    def _attach(self, index: int, block: LayerBlock) -> None:
        for layer in block.layers:
            if layer.expert is None:
                self._patch(index, layer)
        for experts, covered in _by_experts(block.layers):
            self._patch_experts(index, experts, covered)

    def _patch(self, index: int, layer: CoveredLinear) -> None:
        plain: Callable[[Tensor], Tensor] = layer.module.forward

        def forward(x: Tensor) -> Tensor:
            batch = self._batch
            # Without grad (evaluation, the first pass of reentrant checkpointing) there is nothing to record.
            if batch is None or not batch.open or not torch.is_grad_enabled():
                return plain(x)
            return patient_linear(x, layer, batch.parts[index])

        layer.module.__dict__["forward"] = forward
        self._patched.append(layer.module)

    def _patch_experts(self, index: int, layer: ExpertLayer, covered: Covered) -> None:
        if "forward" in layer.outer.__dict__:
            raise ValueError(f"the factors of {layer.name} lie on several devices: put them on one")
        plain: Callable[..., Tensor] = layer.outer.forward

        def forward(hidden_states: Tensor, router_indices: Tensor, routing_weights: Tensor) -> Tensor:
            batch = self._batch
            # Also without grad: the first pass of reentrant checkpointing must compute what the second does.
            if batch is None or not batch.open:
                return plain(hidden_states, router_indices, routing_weights)
            return patient_experts(layer, covered, batch.parts[index], hidden_states, router_indices, routing_weights)

        layer.outer.__dict__["forward"] = forward
        self._patched.append(layer.outer)

    def _segments(self) -> SegmentCheck | None:
        """What the attention modules are to be checked against now."""
        batch = self._batch
        return batch.segments if batch is not None and batch.open else None

    def _open(
        self, rows: Tensor | None, tokens: Tensor | None, tiles: Tensor, num_patients: int
    ) -> OpenBatch:
        if num_patients < 1:
            raise ValueError("a micro-batch has at least one patient; an empty draw is finish() alone")
        parts: list[MicroBatch] = []
        segments: SegmentCheck | None = None
        for index, block in enumerate(self._blocks):
            text = _text_axis(rows, tokens, num_patients, block.device)
            if len(text.present) != num_patients:
                raise ValueError("every patient of a micro-batch needs a text row: number them without gaps")
            if isinstance(text, TokenMap) and segments is None:
                segments = self._watch.check(text.patients)
            if self._buffers[index].shape[0] < num_patients:
                self._buffers[index] = self._buffers[index].new_empty(num_patients, block.size)
            image = RowMap(tiles, num_patients, block.device)
            parts.append(MicroBatch(self._buffers[index][:num_patients], text, image, segments))
        return OpenBatch(parts, segments)

    def _require_sound(self) -> None:
        if self._failed:
            raise EngineStateError("the engine stopped after an error or was detached: call discard() first")

    def _require_gradients(self, batch: OpenBatch) -> None:
        """Every covered weight got its gradient, and only through the engine."""
        for block, part in zip(self._blocks, batch.parts, strict=True):
            for layer in block.layers:
                if layer.weight.grad is not None:
                    raise MissingGradientError(f"{layer.name} has an ordinary .grad: clear it before each step")
                if layer.start in part.touched:
                    continue
                if layer.axis == "image" and part.image.num_rows == 0:
                    part.zero(layer)
                    continue
                raise MissingGradientError(f"{layer.name} received no per-patient gradient: freeze it or use it")


def _text_axis(
    rows: Tensor | None, tokens: Tensor | None, num_patients: int, device: torch.device
) -> RowMap | TokenMap:
    if rows is not None and tokens is None:
        return RowMap(rows, num_patients, device)
    if tokens is not None and rows is None:
        return TokenMap(tokens, num_patients, device)
    raise ValueError("pass text_patients for padded rows or token_patients for one packed row, not both")


def _by_experts(layers: Sequence[CoveredLinear]) -> list[tuple[ExpertLayer, Covered]]:
    """Each layer's experts that have a trained factor, with those factors."""
    found: dict[int, tuple[ExpertLayer, Covered]] = {}
    for layer in layers:
        if layer.expert is not None:
            owner = layer.expert.layer
            _, covered = found.setdefault(id(owner.outer), (owner, {}))
            covered[layer.expert.projection, layer.expert.factor] = layer
    return list(found.values())
