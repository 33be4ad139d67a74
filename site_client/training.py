"""Local DP-SGD of one round: Poisson-drawn patients, one clip per patient, one noise draw per step.

The update that leaves is a function of noisy sums only. The divisor, the sampling rate and the number of steps are
constants of the manifest; nothing here is computed from the size of the site's index (Abadi et al., arXiv
1607.00133, algorithm 1, with the patient as the unit and a fixed denominator).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from model.adapted import AdaptedModel
from model.adapter import Selection
from model.inputs import Encoded, collate
from model.loss import answer_logits, per_sample
from privacy.dp.engine import PatientGradients
from privacy.dp.noise import noisy_sum
from privacy.dp.sampling import choose_samples, poisson_draw
from privacy.entropy import Entropy
from privacy.messages import StageSpec
from privacy.statistics import LANES, LaneScale

__all__ = ["EncodedPatient", "LocalTask", "LocalUpdate", "run_local_steps"]

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
        max_rows: samples in one micro-batch.
    """

    stage: StageSpec
    clip_norm: float
    private: bool
    lanes: LaneScale
    lane_bound: float
    expected_patients: float
    max_rows: int = 48


@dataclass(frozen=True, slots=True)
class LocalUpdate:
    """float64[d] change of the selected coordinates and float64[3] sums of the (noised) statistic lanes."""

    delta: Vector
    lanes: Vector


def run_local_steps(
    adapted: AdaptedModel, selection: Selection, patients: Sequence[EncodedPatient], task: LocalTask,
    entropy: Entropy,
) -> LocalUpdate:
    """Run `task.stage.local_steps` steps from the model's current adapter; the model is left at the last step.

    Raises:
        privacy.dp.engine.UncoveredParameterError: a trainable parameter has no per-patient gradient.
        privacy.dp.engine.MissingGradientError: a covered one got none from a batch (the round ends, nothing leaves).
    """
    parameters = adapted.set_trainable(selection)
    engine = PatientGradients(
        adapted.model, parameters, clip_norm=task.clip_norm, num_lanes=len(LANES), lane_bound=task.lane_bound)
    start = adapted.read(selection)
    position, velocity = start.copy(), np.zeros_like(start)
    lanes = np.zeros(len(LANES))
    try:
        for _ in range(task.stage.local_steps):
            drawn = poisson_draw(entropy, len(patients), task.stage.sampling_rate)
            for batch in _microbatches([patients[index] for index in drawn], task, entropy):
                _accumulate(adapted, engine, batch, task.lanes)
            clipped = engine.finish()
            noise = task.stage.noise_multiplier if task.private else None
            released = clipped.vector if noise is None else noisy_sum(clipped, noise, entropy)
            velocity = task.stage.momentum * velocity + released[: selection.size] / task.expected_patients
            position = position - task.stage.learning_rate * velocity
            adapted.write(position, selection)
            lanes += released[selection.size :]
    finally:
        engine.detach()
    return LocalUpdate(position - start, lanes)


def _microbatches(
    drawn: Sequence[EncodedPatient], task: LocalTask, entropy: Entropy
) -> Iterator[list[list[Encoded]]]:
    """At most K samples of each drawn patient, whole patients together, similar lengths together."""
    chosen = [samples for patient in drawn if (samples := _samples_of(patient, task.stage, entropy))]
    chosen.sort(key=lambda samples: max(len(sample) for sample in samples))
    batch: list[list[Encoded]] = []
    for samples in chosen:
        if batch and sum(map(len, batch)) + len(samples) > task.max_rows:
            yield batch
            batch = []
        batch.append(samples)
    if batch:
        yield batch


def _samples_of(patient: EncodedPatient, stage: StageSpec, entropy: Entropy) -> list[Encoded]:
    samples: list[Encoded] = []
    for share in stage.sources:
        available = patient.get(share.source, ())
        samples += [available[i] for i in choose_samples(entropy, len(available), share.max_samples)]
    return samples


def _accumulate(
    adapted: AdaptedModel, engine: PatientGradients, batch: list[list[Encoded]], scale: LaneScale
) -> None:
    """One forward and backward over whole patients; a patient's loss is the mean over its samples."""
    rows = collate([sample for samples in batch for sample in samples])
    counts = torch.tensor([len(samples) for samples in batch])
    owner = torch.repeat_interleave(torch.arange(len(batch)), counts)
    with engine.microbatch(
        text_patients=owner, image_patients=owner[rows.tile_rows], num_patients=len(batch)
    ):
        outcome = per_sample(answer_logits(adapted.model, rows), rows.labels)
        losses = torch.zeros(len(batch), dtype=outcome.loss.dtype).index_add(0, owner, outcome.loss) / counts
        losses.sum().backward()  # type: ignore[no-untyped-call]
    correct = torch.zeros(len(batch)).index_add(0, owner, outcome.correct.float()) / counts
    values = scale.patient(losses.detach().double().numpy(), correct.double().numpy())
    engine.collect(torch.from_numpy(values))
