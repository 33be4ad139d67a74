"""Local DP-SGD of one round: Poisson-drawn patients, one clip per patient, one noise draw per step.

The update that leaves is a function of noisy sums only. The divisor, the sampling rate and the number of steps are
constants of the manifest; nothing here is computed from the size of the site's index (Abadi et al., arXiv
1607.00133, algorithm 1, with the patient as the unit and a fixed denominator).

What is wrong with model or installation is found on public examples (`rehearse`) before a private file is opened.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from model.adapted import AdaptedModel
from model.adapter import Selection
from model.frozen_prefix import FrozenPrefix
from model.inputs import Encoded
from privacy.entropy import Entropy, SystemEntropy
from privacy.statistics import LANES
from site_client.mechanism import EncodedPatient, LocalTask, PatientMechanism
from site_client.optimizer import local_optimizer

__all__ = ["EncodedPatient", "LocalTask", "LocalUpdate", "Mechanism", "Observer", "rehearse", "run_local_steps"]

Vector = npt.NDArray[np.float64]
Mechanism = Callable[[AdaptedModel, Selection, LocalTask, Entropy], PatientMechanism]
Observer = Callable[[npt.NDArray[np.int64], Vector], None]  # one step's draw and what it released; audits only


@dataclass(frozen=True, slots=True)
class LocalUpdate:
    """float64[d] change of the selected coordinates and float64[3] sums of the (noised) statistic lanes."""

    delta: Vector
    lanes: Vector


def rehearse(
    adapted: AdaptedModel, selection: Selection, public: Sequence[Encoded], task: LocalTask,
    mechanism: Mechanism = PatientMechanism,
) -> None:
    """One forward and backward over public samples: fails closed before a private file is opened.

    Where the base freezes layers, samples without images are computed a second time from what these layers put out, as
    with a site's cache.

    Args:
        public: samples that use every part of the model, each taken for one patient's.

    Raises:
        privacy.dp.engine.UncoveredParameterError: a trainable parameter has no per-patient gradient.
        privacy.dp.engine.MissingGradientError: a covered one got none.
    """
    step = mechanism(adapted, selection, task, SystemEntropy())
    try:
        step.rehearse(public)
        texts = [sample for sample in public if not sample.num_tiles]
        if texts and adapted.base.spec.first_adapted_layer:
            step.rehearse(FrozenPrefix(adapted.model, adapted.base.content_hash).attach(texts))
    finally:
        step.close()


def run_local_steps(
    adapted: AdaptedModel, selection: Selection, patients: Sequence[EncodedPatient], task: LocalTask,
    entropy: Entropy, mechanism: Mechanism = PatientMechanism, *, observe: Observer | None = None,
) -> LocalUpdate:
    """Run `task.stage.local_steps` steps from the model's current adapter; the model is left at the last step.

    `mechanism` makes what runs the steps: one process, or several (`site_client.ranked_mechanism`); audits pass one
    with a planted fault, and `observe` for a look at each step's draw and released vector (before the step is applied).
    Raises nothing that depends on the patients: see `rehearse`.
    """
    step = mechanism(adapted, selection, task, entropy)
    start = adapted.read(selection)
    position, optimizer = start.copy(), local_optimizer(task.stage, start.size)
    lanes = np.zeros(len(LANES))
    try:
        for _ in range(task.stage.local_steps):
            drawn = step.draw(len(patients))
            chosen = [step.samples_of(patients[index]) for index in drawn]
            released = step.release(step.clipped_sum([samples for samples in chosen if samples]))
            if observe is not None:
                observe(drawn, released)
            reading = step.read(released)
            position = optimizer.step(position, reading.gradient, reading.noise_std)
            adapted.write(position, selection)
            lanes += reading.lanes
    finally:
        step.close()
    return LocalUpdate(position - start, lanes)
