"""Configuration and roster -> the signed run manifest: every constant of a run, fixed before it begins."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal, cast

from configs.schema import (
    CurriculumConfig,
    FederationConfig,
    LoraConfig,
    PrivacyConfig,
    SharedNoiseConfig,
    StageConfig,
)
from privacy.aggregation import DISTRIBUTED_BITS, DistributedNoise, ServerRule
from privacy.dp.accounting import ReleaseEvent, calibrate
from privacy.identity import Roster
from privacy.manifest import Clipping, Optimizer, Schedule, Suite, standard_delta
from privacy.messages import (
    AdaptiveClip,
    RunManifest,
    ServerUpdate,
    SiteTerms,
    SourceShare,
    StageSpec,
    StopRule,
    Truncation,
)
from privacy.release import release_hash
from privacy.secagg.compact import too_narrow

__all__ = ["build_manifest", "planned_event", "planned_events", "solve_noise", "stage_spec"]


def planned_event(stage: StageConfig, noise_multiplier: float) -> ReleaseEvent:
    """Every release of `stage` at its maximum of rounds; a truncated draw is charged for its public bound."""
    cut = stage.truncation
    return ReleaseEvent(
        stage.sampling_rate, noise_multiplier, stage.local_steps * stage.rounds,
        truncated_batch=0 if cut is None else cut.batch_size, most_patients=0 if cut is None else cut.most_patients)


def planned_events(manifest: RunManifest) -> list[ReleaseEvent]:
    """Every release that a signed manifest allows, as each site's ledger reserves it before the run."""
    noise = manifest.distributed_noise
    shared = (0, 0, 0) if noise is None else (noise.min_survivors, noise.colluders, noise.levels)
    cuts = [(0, 0) if stage.truncation is None else (stage.truncation.batch_size, stage.truncation.most_patients)
            for stage in manifest.stages]
    return [ReleaseEvent(
        stage.sampling_rate, stage.noise_multiplier, stage.local_steps * stage.max_rounds, *cut, *shared)
        for stage, cut in zip(manifest.stages, cuts, strict=True)]


def solve_noise(curriculum: CurriculumConfig, target_epsilon: float, delta: float) -> list[float]:
    """The stages' noise multipliers: one common scale over all planned steps, times each `relative_noise`.

    Epsilons of stages do not add, so the composition over the manifest's maximum of steps is solved at once.
    """
    planned = [planned_event(stage, stage.relative_noise) for stage in curriculum.stages]
    scale = calibrate(planned, target_epsilon, delta)
    return [scale * stage.relative_noise for stage in curriculum.stages]


def build_manifest(
    *, run_id: str, curriculum: CurriculumConfig, privacy: PrivacyConfig, lora: LoraConfig,
    federation: FederationConfig, roster: Roster, base_model_hash: bytes, adapter_hash: bytes,
    mode: Literal["patient-dp", "none"],
) -> RunManifest:
    """A run's manifest. Weights are the active sites' shares of their declared patients, and 1 with distributed noise,
    where every patient counts the same; mode `none` has zero noise.

    Raises:
        ValueError: the ring is too narrow for a site's noise; every site would refuse the run (P_RING). Or distributed
            noise with what it cannot have; the text names it.
    """
    active = [site for site in roster.sites if site.status == "active"]
    total = sum(site.declared_patients for site in active)
    private = mode == "patient-dp"
    shared = privacy.distributed if private and privacy.noise == "distributed" else None
    sites = tuple(
        SiteTerms(site_id=site.site_id, declared_patients=site.declared_patients,
                  weight=site.declared_patients / total if shared is None else 1.0,
                  delta=standard_delta(site.declared_patients))
        for site in active
    )
    noise = (solve_noise(curriculum, privacy.target_epsilon, min(terms.delta for terms in sites)) if private
             else [0.0] * len(curriculum.stages))
    stages = tuple(
        stage_spec(stage, multiplier, private) for stage, multiplier in zip(curriculum.stages, noise, strict=True))
    manifest = RunManifest(
        federation_id=roster.federation_id, run_id=run_id, release=release_hash(), roster_hash=roster.hash(),
        base_model_hash=base_model_hash, adapter_hash=adapter_hash, lora_rank=lora.rank, lora_alpha=lora.alpha,
        privacy=mode, clip_norm=privacy.clip_norm, target_epsilon=privacy.target_epsilon if private else 0.0,
        lane_share=privacy.lane_share, bits=federation.bits if shared is None else DISTRIBUTED_BITS,
        saturation=federation.saturation, stages=stages,
        sites=sites, lora_groups=tuple(lora.groups),
        server=_server_update(federation, shared),
        suite=cast(Suite, federation.suite), integrity_tags=federation.integrity_tags,
        distributed_noise=None if shared is None else DistributedNoise(
            shared.min_survivors, shared.colluders, shared.levels),
    )
    for terms in sites:
        if too_narrow(manifest, len(roster.sites), terms.site_id):
            raise ValueError(
                f"federation.bits={federation.bits} rounds site {terms.site_id}'s coordinates by more than its noise "
                "hides; set federation.bits to 24, or lower federation.saturation")
    return manifest


def _server_update(federation: FederationConfig, shared: SharedNoiseConfig | None) -> ServerUpdate:
    if shared is None:
        return ServerUpdate(federation.server_learning_rate, federation.server_momentum, federation.average_decay)
    return ServerUpdate(shared.learning_rate, shared.momentum, federation.average_decay,
                        cast(ServerRule, shared.optimizer), shared.second_decay)


def stage_spec(stage: StageConfig, noise_multiplier: float, private: bool) -> StageSpec:
    """`stage` as a manifest has it. Without privacy no noise pays for a private quantile or a truncated draw: both go.
    """
    adaptive, truncation = stage.adaptive_clip, stage.truncation
    spec = StageSpec(
        name=stage.name, sources=tuple(SourceShare(name, most) for name, most in stage.sources.items()),
        groups=tuple(stage.groups), schedule=cast(Schedule, stage.schedule), learning_rate=stage.learning_rate,
        momentum=stage.momentum, local_steps=stage.local_steps, sampling_rate=stage.sampling_rate,
        noise_multiplier=noise_multiplier, max_rounds=stage.rounds,
        stop=None if stage.stop is None else StopRule(stage.stop.patience, stage.stop.min_improvement),
        optimizer=cast(Optimizer, stage.optimizer), clipping=cast(Clipping, stage.clipping),
        adaptive_clip=AdaptiveClip(adaptive.quantile, adaptive.learning_rate, adaptive.bit_noise)
        if private and adaptive is not None else None,
        truncation=Truncation(truncation.batch_size, truncation.most_patients)
        if private and truncation is not None else None,
        reply_after_s=stage.reply_after_s, max_tokens=stage.max_tokens,
    )
    return spec if private else replace(spec, learning_rate=stage.learning_rate_without_privacy)
