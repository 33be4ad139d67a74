"""One round's constants, from the manifest and the plan alone: what training needs to know, what the ledger books."""

from __future__ import annotations

from typing import Literal

from privacy.aggregation import share_of
from privacy.entropy import Entropy
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
        expected_patients=stage.sampling_rate * terms.declared_patients, engine=engine,
        max_tokens=max_tokens, share=share_of(manifest, plan.stage, plan.dimension))


def round_entry(manifest: RunManifest, plan: Plan, delta: float, source: Entropy, created_utc: str) -> LedgerEntry:
    """The row that a round's training books before it begins."""
    stage = manifest.stages[plan.stage]
    noise = manifest.distributed_noise
    event = stage_event(stage, stage.local_steps, noise) if manifest.privacy != "none" else None
    return LedgerEntry(
        run_id=manifest.run_id, round=plan.round, attempt=plan.attempt, stage=plan.stage,
        mechanism="none" if event is None else "poisson-gaussian" if noise is None else "distributed-gaussian",
        sampling_rate=stage.sampling_rate if event is None else event.sampling_rate,
        noise_multiplier=stage.noise_multiplier if event is None else event.noise_multiplier,
        steps=stage.local_steps, truncated_batch=0 if event is None else event.truncated_batch,
        most_patients=0 if event is None else event.most_patients, clip_norm=manifest.clip_norm,
        delta=delta, entropy="simulated" if source.simulated else "system",
        created_utc=created_utc, min_survivors=0 if noise is None else noise.min_survivors,
        colluders=0 if noise is None else noise.colluders, levels=0 if noise is None else noise.levels)
