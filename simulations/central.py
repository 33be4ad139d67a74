"""Training without a federation, for the comparison rows: one site alone, or all data pooled. Simulation only.

The same curriculum, factor schedule, number of steps, sampling rate, clip and optimiser as the federated runs; only
the aggregation is missing. Nobody outside a simulation can hold pooled data, so no product command leads here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from coordinator.curriculum import RoundSummary, position_after
from model.adapted import AdaptedModel
from model.server_optimizer import ServerOptimizer, initial_velocity, moving_average
from privacy.entropy import Entropy
from privacy.messages import RunManifest
from privacy.statistics import LANES, LaneScale
from site_client.mechanism import PatientMechanism
from site_client.training import EncodedPatient, LocalTask, Mechanism, run_local_steps

__all__ = ["train_centrally"]


def train_centrally(
    adapted: AdaptedModel, patients: Sequence[EncodedPatient], manifest: RunManifest, optimizer: ServerOptimizer,
    average_decay: float, entropy: Callable[[str], Entropy], *,
    on_round: Callable[[int, int], None], mechanism: Mechanism = PatientMechanism,
) -> npt.NDArray[np.float64]:
    """The averaged adapter float64[D] after the manifest's whole curriculum on `patients`.

    `manifest.privacy` says whether noise is added (the manifest's multiplier, full sampling of `patients`). `mechanism`
    is that of the steps; studies pass one that batches patients.
    """
    private = manifest.privacy == "patient-dp"
    state, velocity = adapted.initial.astype(np.float32), initial_velocity(adapted.layout.size)
    average = adapted.initial
    history: list[RoundSummary] = []
    total = sum(stage.max_rounds for stage in manifest.stages)
    while (position := position_after(history, manifest.stages)) is not None:
        stage = manifest.stages[position.stage]
        selection = adapted.layout.select(stage.groups, position.factor)
        expected = stage.sampling_rate * len(patients)
        unit = manifest.lane_share * manifest.clip_norm / math.sqrt(len(LANES))
        task = LocalTask(
            stage=stage, clip_norm=manifest.clip_norm, private=private, lanes=LaneScale(unit, 1.0),
            lane_bound=manifest.lane_share * manifest.clip_norm, expected_patients=expected)
        adapted.write(state.astype(np.float64))
        source = entropy(f"{len(history) + 1}/training")
        update = run_local_steps(adapted, selection, patients, task, source, mechanism)
        state, velocity = optimizer.step(state, velocity, selection.indices, update.delta, 1.0)
        average = moving_average(average, state, len(history), average_decay)
        history.append(RoundSummary(position.stage, task.lanes.decode(update.lanes).mean_loss))
        on_round(len(history), total)
    return average
