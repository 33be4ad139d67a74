"""Local DP-SGD of one round: Poisson-drawn patients, one clip per patient, one noise draw per step.

The update that leaves is a function of noisy sums only. The divisor, the sampling rate and the number of steps are
constants of the manifest; nothing here is computed from the size of the site's index (Abadi et al., arXiv
1607.00133, algorithm 1, with the patient as the unit and a fixed denominator).

An error that leaves a site would be an un-noised function of whoever caused it. So what is wrong with model or
installation is found on public examples (`rehearse`), and a patient whose samples then fail contributes zero.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from model.adapted import AdaptedModel
from model.adapter import Selection
from model.inputs import Encoded, collate
from model.loss import answer_logits, per_sample
from privacy.dp.clipping import ClippedSum
from privacy.dp.engine import PatientGradients
from privacy.dp.noise import noisy_sum
from privacy.dp.sampling import choose_samples, poisson_draw
from privacy.entropy import Entropy
from privacy.messages import StageSpec
from privacy.statistics import LANES, LaneScale

__all__ = ["EncodedPatient", "LocalTask", "LocalUpdate", "rehearse", "run_local_steps"]

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


def rehearse(adapted: AdaptedModel, selection: Selection, public: Sequence[Encoded], task: LocalTask) -> None:
    """One forward and backward over public samples: fails closed before a private file is opened.

    Args:
        public: samples that use every part of the model, each taken for one patient's.

    Raises:
        privacy.dp.engine.UncoveredParameterError: a trainable parameter has no per-patient gradient.
        privacy.dp.engine.MissingGradientError: a covered one got none.
    """
    engine = _attach(adapted, selection, task)
    try:
        _accumulate(adapted, engine, [[sample] for sample in public], task.lanes)
    finally:
        engine.detach()


def run_local_steps(
    adapted: AdaptedModel, selection: Selection, patients: Sequence[EncodedPatient], task: LocalTask,
    entropy: Entropy,
) -> LocalUpdate:
    """Run `task.stage.local_steps` steps from the model's current adapter; the model is left at the last step.

    Raises nothing that depends on the patients: see `rehearse` for what is wrong with the model.
    """
    engine = _attach(adapted, selection, task)
    start = adapted.read(selection)
    position, velocity = start.copy(), np.zeros_like(start)
    lanes = np.zeros(len(LANES))
    try:
        for _ in range(task.stage.local_steps):
            drawn = poisson_draw(entropy, len(patients), task.stage.sampling_rate)
            chosen = [_samples_of(patients[index], task.stage, entropy) for index in drawn]
            clipped = _clipped_sum(adapted, engine, [samples for samples in chosen if samples], task)
            if clipped.num_nonfinite_local:
                _log.warning("patients that contributed zero=%d", clipped.num_nonfinite_local)
            noise = task.stage.noise_multiplier if task.private else None
            released = clipped.vector if noise is None else noisy_sum(clipped, noise, entropy)
            velocity = task.stage.momentum * velocity + released[: selection.size] / task.expected_patients
            position = position - task.stage.learning_rate * velocity
            adapted.write(position, selection)
            lanes += released[selection.size :]
    finally:
        engine.detach()
    return LocalUpdate(position - start, lanes)


def _attach(adapted: AdaptedModel, selection: Selection, task: LocalTask) -> PatientGradients:
    parameters = adapted.set_trainable(selection)
    return PatientGradients(
        adapted.model, parameters, clip_norm=task.clip_norm, num_lanes=len(LANES), lane_bound=task.lane_bound)


def _clipped_sum(
    adapted: AdaptedModel, engine: PatientGradients, chosen: Sequence[list[Encoded]], task: LocalTask
) -> ClippedSum:
    """The step's sum over the drawn patients' samples; the zero sum for an empty draw."""
    try:
        for batch in _microbatches(chosen, task.max_rows):
            _accumulate(adapted, engine, batch, task.lanes)
        return engine.finish()
    except Exception as error:  # of one patient, or of so many at once: it must not leave the site
        _log.warning("a batch failed kind=%s; its step is done one patient at a time", type(error).__name__)
        engine.discard()
        return _one_by_one(adapted, engine, chosen, task)


def _one_by_one(
    adapted: AdaptedModel, engine: PatientGradients, chosen: Sequence[list[Encoded]], task: LocalTask
) -> ClippedSum:
    """The same sum with each patient alone, so that one whose samples fail contributes zero and no more."""
    total, zeros = np.zeros(engine.dimension + len(LANES)), 0
    for samples in chosen:
        try:
            _accumulate(adapted, engine, [samples], task.lanes)
            alone = engine.finish()
        except Exception:
            engine.discard()
            zeros += 1
        else:
            total += alone.vector
            zeros += alone.num_nonfinite_local
    return ClippedSum(total, task.clip_norm, len(chosen), zeros)


def _microbatches(chosen: Sequence[list[Encoded]], max_rows: int) -> Iterator[list[list[Encoded]]]:
    """Whole patients together, similar lengths together."""
    batch: list[list[Encoded]] = []
    for samples in sorted(chosen, key=lambda samples: max(len(sample) for sample in samples)):
        if batch and sum(map(len, batch)) + len(samples) > max_rows:
            yield batch
            batch = []
        batch.append(samples)
    if batch:
        yield batch


def _samples_of(patient: EncodedPatient, stage: StageSpec, entropy: Entropy) -> list[Encoded]:
    """At most the stage's number of samples of each source; a patient may have none."""
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
