"""The ledger's row for one round, made from the manifest and the plan alone."""

from __future__ import annotations

from privacy.entropy import Entropy
from privacy.gates import evaluation_events
from privacy.ledger import LedgerEntry
from privacy.messages import Plan, RunManifest
from site_client.policy import stage_event

__all__ = ["entry_of"]


def entry_of(manifest: RunManifest, plan: Plan, delta: float, source: Entropy, created_utc: str) -> LedgerEntry:
    """What `plan`'s round releases, for `privacy.ledger.Ledger.reserve`: its local steps, or its one evaluation.

    Args:
        delta: the site's in this run. source: where the noise comes from. created_utc: when the plan arrived.
    """
    stage, training = manifest.stages[plan.stage], plan.purpose == "train"
    steps = stage.local_steps if training else 1
    event = None
    if manifest.privacy != "none":
        event = stage_event(stage, steps) if training else evaluation_events(stage, steps)[0]
    rate = stage.sampling_rate if training else 1.0
    return LedgerEntry(
        run_id=manifest.run_id, round=plan.round, attempt=plan.attempt, stage=plan.stage,
        mechanism="none" if event is None else "poisson-gaussian",
        sampling_rate=rate if event is None else event.sampling_rate,
        noise_multiplier=stage.noise_multiplier if event is None else event.noise_multiplier,
        steps=steps, truncated_batch=0 if event is None else event.truncated_batch,
        most_patients=0 if event is None else event.most_patients,
        clip_norm=manifest.clip_norm if training else 1.0,  # an evaluation's bound on a patient is 1
        delta=delta, entropy="simulated" if source.simulated else "system", created_utc=created_utc,
        purpose=plan.purpose)
