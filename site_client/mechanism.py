"""What one private step does with the site's patients: draw, take samples, clip each patient once, sum, add noise.

Every private release of a site goes through a `PatientMechanism`, also in audits: an audited fault is a subclass that
lies in one method. An error that leaves a site would be an un-noised function of whoever caused it, so a patient
whose samples fail contributes zero.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch

from model.adapted import AdaptedModel
from model.adapter import Selection
from model.inputs import Encoded, collate
from model.loss import answer_losses
from privacy.dp.adaptive_clip import AdaptiveThreshold, bit_weight
from privacy.dp.clipping import ClipBounds, ClippedSum
from privacy.dp.engine import PatientGradients
from privacy.dp.noise import noisy_sum
from privacy.dp.noise_share import add_share
from privacy.dp.opacus_engine import OpacusGradients
from privacy.dp.sampling import choose_samples, poisson_draw, truncated_poisson_draw
from privacy.dp.shares import NoiseShare
from privacy.entropy import Entropy
from privacy.messages import StageSpec
from privacy.statistics import LANES, LaneScale

__all__ = [
    "DeviceLostError", "EncodedPatient", "LocalTask", "PatientMechanism", "PatientSums", "StepReading", "bounds_of",
    "require_devices",
]  # fmt: skip

_log = logging.getLogger(__name__)
Vector = npt.NDArray[np.float64]
EncodedPatient = Mapping[str, Sequence[Encoded]]  # source -> that patient's samples


@dataclass(frozen=True, slots=True)
class LocalTask:
    """One round's work at one site.

    Args:
        stage: the manifest's stage.
        clip_norm: C, bound on one patient's joint vector.
        private: False only in simulations without privacy: the same clip, no noise.
        lanes: scale of the statistics.
        lane_bound: L, bound on the norm of a patient's statistics.
        expected_patients: sampling rate times *declared* patients; the gradient's divisor.
        max_rows, max_tokens: samples, and tokens with padding, in one micro-batch (`site-client plan-memory`).
        engine: of the per-patient gradients, this site's own choice: "opacus" is for comparison only.
        share: of distributed noise; None where this site adds all of the stage's noise itself.
    """

    stage: StageSpec
    clip_norm: float
    private: bool
    lanes: LaneScale
    lane_bound: float
    expected_patients: float
    max_rows: int = 48
    max_tokens: int = 1 << 16
    engine: Literal["own", "opacus"] = "own"
    share: NoiseShare | None = None


@dataclass(frozen=True, slots=True)
class StepReading:
    """One released step: noised mean gradient float64[d], sums of the noised lanes float64[3], and the standard
    deviation of the noise on a coordinate of the gradient. A function of what was released and of constants."""

    gradient: Vector
    lanes: Vector
    noise_std: float


class DeviceLostError(Exception):
    """The accelerator does not compute any more, for nobody: nothing of the step is released."""


class PatientSums:
    """The half of a mechanism that needs no randomness: the clipped sum over patients who were drawn elsewhere.

    It draws nothing and adds no noise; what it returns never leaves the site as it is. `close` it before another is
    made on the same model.

    Args:
        adapted, selection: the model, and which of its coordinates train.
        task: the round's constants.
    """

    def __init__(self, adapted: AdaptedModel, selection: Selection, task: LocalTask) -> None:
        self._adapted = adapted
        self._task = task
        self._bounds = bounds = bounds_of(task)
        self._num_lanes, self._num_bits = len(LANES), bounds.num_bits
        kind = OpacusGradients if task.engine == "opacus" else PatientGradients
        self._engine = kind(
            adapted.model, adapted.set_trainable(selection), clip_norm=task.clip_norm, num_lanes=len(LANES),
            lane_bound=task.lane_bound, clipping=task.stage.clipping, bit_weight=bounds.bit_weight, share=task.share)

    def rehearse(self, public: Sequence[Encoded]) -> None:
        """One forward and backward over public samples, each taken for one patient's; nothing is summed."""
        self.accumulate([[sample] for sample in public])
        self._engine.discard()

    def set_threshold(self, threshold: float) -> None:
        """The adaptive clip's threshold for the next step."""
        self._engine.set_threshold(threshold)

    def clipped_sum(self, chosen: Sequence[list[Encoded]]) -> ClippedSum:
        """The step's sum over the drawn patients' samples; the zero sum for an empty draw."""
        # Batch-mates choose kernels, and so the order of additions; a model may blow up that rounding beyond any slack
        # of the clip. Alone, a patient's part of the sum is a function of that patient, whatever the model.
        rows = 1 if self._task.private else self._task.max_rows
        try:
            for batch in _microbatches(chosen, rows, self._task.max_tokens):
                self._add(batch)
            return self._engine.finish()
        except Exception as error:  # of one sample, or of so many at once
            kind = type(error).__name__
        # Out of the handler: its traceback would keep the failed batch's tensors alive.
        _log.warning("a batch failed kind=%s; its step is done one patient at a time", kind)
        self._engine.discard()
        require_devices(self._adapted)
        return self._one_by_one(chosen)

    def accumulate(self, batch: Sequence[list[Encoded]]) -> None:
        """One forward and backward over whole patients; a patient's loss is the mean over its samples."""
        counts = torch.tensor([len(samples) for samples in batch])
        owner = torch.repeat_interleave(torch.arange(len(batch)), counts)
        losses, correct = self._backward([sample for samples in batch for sample in samples], owner, counts)
        self._engine.collect(torch.from_numpy(self._task.lanes.patient(losses, correct)))

    def close(self) -> None:
        """Give the model back."""
        self._engine.detach()

    def _add(self, batch: Sequence[list[Encoded]]) -> None:
        """`accumulate`, in parts when it is one patient with more tokens than are computed at once."""
        parts = list(_parts(batch[0], self._task.max_tokens)) if len(batch) == 1 else []
        if len(parts) < 2:
            self.accumulate(batch)
            return
        whole, sums = torch.tensor([len(batch[0])]), np.zeros((2, 1))
        for number, part in enumerate(parts):
            sums += self._backward(part, torch.zeros(len(part), dtype=torch.int64), whole)
            last = number == len(parts) - 1
            values = self._task.lanes.patient(*sums) * last
            self._engine.collect(torch.from_numpy(values), complete=torch.tensor([last]))

    def _backward(
        self, samples: list[Encoded], owner: torch.Tensor, counts: torch.Tensor
    ) -> tuple[Vector, Vector]:
        """One micro-batch: loss and share of right answers float64[P] of its patients, each sample weighing one over
        its patient's `counts` int64[P]; `owner` int64[N] is the patient of each sample."""
        rows = collate(samples)
        with self._engine.microbatch(
            text_patients=owner, image_patients=owner[rows.tile_rows], num_patients=counts.numel()
        ):
            outcome = answer_losses(self._adapted.model, rows.to(self._adapted.device))
            device = outcome.loss.device  # of the last layer
            losses = _patient_means(outcome.loss, owner.to(device), counts.to(device))
            losses.sum().backward()  # type: ignore[no-untyped-call]
        correct = _patient_means(outcome.correct.double().cpu(), owner, counts)
        return losses.detach().double().cpu().numpy(), correct.numpy()

    def _alone(self, samples: list[Encoded]) -> ClippedSum | None:
        """One patient's clipped part, None when its samples fail."""
        try:
            if self._adapted.device.type == "cuda":
                torch.cuda.empty_cache()  # what one patient left behind must not decide another's step
            self._add([samples])
            return self._engine.finish()
        except Exception as error:  # it must not leave the site
            kind = type(error).__name__
        _log.warning("a patient contributes zero kind=%s", kind)
        return None

    def _one_by_one(self, chosen: Sequence[list[Encoded]]) -> ClippedSum:
        """The same sum with each patient alone, so that one whose samples fail contributes zero and no more."""
        total, zeros = np.zeros(self._engine.dimension + self._num_lanes + self._num_bits), 0
        for samples in chosen:
            alone = self._alone(samples)
            if alone is None:
                self._engine.discard()
                require_devices(self._adapted)
                zeros += 1
            else:
                total += alone.vector
                zeros += alone.num_nonfinite_local
        return self._engine.sum_of(total, len(chosen), zeros)


class PatientMechanism(PatientSums):
    """The mechanism of one round on one model; `close` it before another is made.

    Args:
        adapted, selection, task: as `PatientSums`.
        entropy: source of the draw and the noise.
    """

    def __init__(self, adapted: AdaptedModel, selection: Selection, task: LocalTask, entropy: Entropy) -> None:
        super().__init__(adapted, selection, task)
        self._entropy = entropy
        # Without noise nothing pays for a bit or bounds a truncated draw: simulations without privacy have neither.
        adaptive = task.stage.adaptive_clip if task.private else None
        self._threshold = (
            None if adaptive is None else AdaptiveThreshold(adaptive, self._bounds, task.expected_patients))

    def draw(self, num_patients: int) -> npt.NDArray[np.int64]:
        """Indices of the patients that take part in this step."""
        stage = self._task.stage
        if stage.truncation is not None and self._task.private:
            return truncated_poisson_draw(
                self._entropy, num_patients, stage.sampling_rate, stage.truncation.batch_size)
        return poisson_draw(self._entropy, num_patients, stage.sampling_rate)

    def samples_of(self, patient: EncodedPatient) -> list[Encoded]:
        """At most the stage's number of samples of each source; a patient may have none."""
        samples: list[Encoded] = []
        for share in self._task.stage.sources:
            available = patient.get(share.source, ())
            samples += [available[i] for i in choose_samples(self._entropy, len(available), share.max_samples)]
        return samples

    def release(self, clipped: ClippedSum) -> Vector:
        """What may be used and sent: the sum with noise (in a simulation without privacy, the sum).

        With a share of distributed noise it is in levels, and may leave under a mask only: the noise of this site alone
        is less than the stage's.
        """
        if self._task.share is not None:
            return self.noised_levels(clipped).astype(np.float64)
        if clipped.num_nonfinite_local:
            _log.warning("patients that contributed zero=%d", clipped.num_nonfinite_local)
        if not self._task.private:
            return clipped.vector
        return noisy_sum(clipped, self._task.stage.noise_multiplier, self._entropy)

    def noised_levels(self, clipped: ClippedSum) -> npt.NDArray[np.int64]:
        """int64[d], in levels: the sum of rounded patients with this site's share of the noise."""
        if self._task.share is None:
            raise ValueError("this round's noise is not shared out: use release()")
        if clipped.num_nonfinite_local:
            _log.warning("patients that contributed zero=%d", clipped.num_nonfinite_local)
        return add_share(clipped, self._task.share, self._entropy)

    def read(self, released: Vector) -> StepReading:
        """What one released vector says; call it once a step, for an adaptive threshold moves on with it."""
        task, size = self._task, self._engine.dimension
        scale = 1.0
        if self._threshold is not None:
            scale = self._threshold.scale
            self._threshold.follow(float(released[-1]))
            self.set_threshold(self._threshold.value)
        noise = task.stage.noise_multiplier * task.clip_norm if task.private else 0.0
        return StepReading(
            scale * released[:size] / task.expected_patients, released[size : size + self._num_lanes],
            scale * noise / task.expected_patients)


def bounds_of(task: LocalTask) -> ClipBounds:
    """How the round's C is shared between gradient, lanes and the bit of an adaptive clip."""
    stage = task.stage
    adaptive = stage.adaptive_clip if task.private else None
    weight = 0.0 if adaptive is None else bit_weight(stage.noise_multiplier, task.clip_norm, adaptive.bit_noise)
    return ClipBounds(task.clip_norm, task.lane_bound, stage.clipping, weight)


def require_devices(adapted: AdaptedModel) -> None:
    """Raise DeviceLostError when an accelerator answers no more: then every patient would count as one who failed,
    and one patient's fault would take the others out of the sum."""
    for device in {parameter.device for parameter in adapted.model.parameters()}:
        if device.type == "cpu":
            continue
        try:
            torch.zeros(1, device=device).add_(1).item()
        except torch.OutOfMemoryError:
            continue  # it answers: it is full, not lost
        except Exception as error:
            raise DeviceLostError("an accelerator does not compute any more") from error


def _patient_means(values: torch.Tensor, owner: torch.Tensor, counts: torch.Tensor) -> torch.Tensor:
    """(P,) from one value a sample (N,) and the patient of each."""
    return values.new_zeros(counts.numel()).index_add(0, owner, values) / counts


def _parts(samples: list[Encoded], max_tokens: int) -> Iterator[list[Encoded]]:
    """One patient's samples in pieces of at most so many tokens with padding, or of one sample."""
    part: list[Encoded] = []
    for sample in sorted(samples, key=len):
        if part and (len(part) + 1) * len(sample) > max_tokens:
            yield part
            part = []
        part.append(sample)
    yield part


def _microbatches(
    chosen: Sequence[list[Encoded]], max_rows: int, max_tokens: int
) -> Iterator[list[list[Encoded]]]:
    """Whole patients together, similar lengths together: at most so many rows, and so many tokens with padding, unless
    one patient alone has more."""
    batch: list[list[Encoded]] = []
    for samples in sorted(chosen, key=lambda samples: max(len(sample) for sample in samples)):
        rows, longest = sum(map(len, batch)) + len(samples), max(len(sample) for sample in samples)
        if batch and (rows > max_rows or rows * longest > max_tokens):
            yield batch
            batch = []
        batch.append(samples)
    if batch:
        yield batch
