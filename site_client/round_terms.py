"""One round's constants, from the manifest and the plan alone: what training needs to know, what the ledger books."""

from __future__ import annotations

from typing import Literal

from privacy.aggregation import share_of
from privacy.entropy import Entropy
from privacy.gates import evaluation_events, expected_patients
from privacy.ledger import LedgerEntry
from privacy.messages import Plan, RunManifest, SiteTerms
from privacy.statistics import lane_scale
from site_client.policy import stage_event
from site_client.training import LocalTask

__all__ = ["round_entry", "round_task"]


def round_task(
    manifest: RunManifest, plan: Plan, terms: SiteTerms, engine: Literal["own", "opacus"], max_tokens: int
) -> LocalTask:
    """Everything that training needs to know, from the manifest alone; engine and micro-batches are the site's."""
    stage = manifest.stages[plan.stage]
    return LocalTask(
        stage=stage, clip_norm=manifest.clip_norm, private=manifest.privacy != "none",
        lanes=lane_scale(manifest, plan.stage), lane_bound=manifest.lane_share * manifest.clip_norm,
        expected_patients=expected_patients(manifest, stage, terms), engine=engine, max_tokens=max_tokens,
        share=share_of(manifest, plan.stage, plan.dimension))


def round_entry(manifest: RunManifest, plan: Plan, delta: float, source: Entropy, created_utc: str) -> LedgerEntry:
    """The row that a round books before it reads a patient: its local steps, or its one evaluation.

    Args:
        delta: the site's in this run. source: where the noise comes from. created_utc: when the plan arrived.
    """
    stage, training = manifest.stages[plan.stage], plan.purpose == "train"
    noise = manifest.distributed_noise if training else None  # an evaluation's noise is all the site's own
    steps, rate = (stage.local_steps, stage.sampling_rate) if training else (1, 1.0)
    event = None
    if manifest.privacy != "none":
        event = stage_event(stage, steps, noise) if training else evaluation_events(stage, steps)[0]
    return LedgerEntry(
        run_id=manifest.run_id, round=plan.round, attempt=plan.attempt, stage=plan.stage,
        mechanism="none" if event is None else "poisson-gaussian" if noise is None else "distributed-gaussian",
        sampling_rate=rate if event is None else event.sampling_rate,
        noise_multiplier=stage.noise_multiplier if event is None else event.noise_multiplier,
        steps=steps, truncated_batch=0 if event is None else event.truncated_batch,
        most_patients=0 if event is None else event.most_patients,
        clip_norm=manifest.clip_norm if training else 1.0,  # an evaluation's bound on a patient is 1
        delta=delta, entropy="simulated" if source.simulated else "system", created_utc=created_utc,
        purpose=plan.purpose, min_survivors=0 if noise is None else noise.min_survivors,
        colluders=0 if noise is None else noise.colluders, levels=0 if noise is None else noise.levels)
