"""Federated training without secure aggregation: sites' updates are added as they are. Simulation only.

The same sites, weights, draws and noise as the federation of the same seed (the sites' streams of randomness have the
same names), so that what differs is what masking costs: rounding to the ring, and the limit on a coordinate's size.
Nobody outside a simulation can add updates in the clear: no product command leads here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from coordinator.curriculum import RoundSummary, position_after
from model.adapted import AdaptedModel
from model.server_optimizer import ServerOptimizer, ServerState, total_weight
from privacy.entropy import Entropy
from privacy.messages import RunManifest
from privacy.statistics import lane_scale
from site_client.mechanism import PatientMechanism
from site_client.training import EncodedPatient, LocalTask, Mechanism, run_local_steps

__all__ = ["train_by_plain_sums"]


def train_by_plain_sums(
    adapted: AdaptedModel, sites: Mapping[str, Sequence[EncodedPatient]], manifest: RunManifest,
    entropy: Callable[[str, str], Entropy], *, on_round: Callable[[int, int], None],
    mechanism: Mechanism = PatientMechanism,
) -> npt.NDArray[np.float64]:
    """The averaged adapter float64[D] after the manifest's whole curriculum, every site in every sum.

    sites: each site's patients, encoded. entropy: of (site, purpose). on_round: called with (done, total) rounds.
    mechanism: of the sites' steps; studies pass one that batches patients.
    """
    server = manifest.server
    optimizer = ServerOptimizer(server.learning_rate, server.momentum)
    state, history = ServerState.initial(adapted.initial), list[RoundSummary]()
    total = sum(stage.max_rounds for stage in manifest.stages)
    weight = total_weight(terms.weight for terms in manifest.sites)
    while (position := position_after(history, manifest.stages)) is not None:
        stage, lanes = manifest.stages[position.stage], lane_scale(manifest, position.stage)
        selection = adapted.layout.select(stage.groups, position.factor)
        update, statistics = np.zeros(selection.size), np.zeros(3)
        for terms in manifest.sites:
            task = LocalTask(
                stage=stage, clip_norm=manifest.clip_norm, private=manifest.privacy != "none", lanes=lanes,
                lane_bound=manifest.lane_share * manifest.clip_norm,
                expected_patients=stage.sampling_rate * terms.declared_patients)
            adapted.write(state.adapter.astype(np.float64))
            source = entropy(terms.site_id, f"{manifest.run_id}/{len(history) + 1}/training")
            local = run_local_steps(adapted, selection, sites[terms.site_id], task, source, mechanism)
            update += terms.weight * local.delta
            statistics += lanes.gain * local.lanes
        state = state.after(selection.indices, update, weight, optimizer=optimizer, average_decay=server.average_decay)
        history.append(RoundSummary(position.stage, lanes.decode(statistics).mean_loss))
        on_round(len(history), total)
    return state.average
