"""Sites, roster, manifest and one plan of a run with distributed noise, in memory."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from privacy.aggregation import DistributedNoise, ServerUpdate
from privacy.identity import Roster, RosterSite, SigningKey
from privacy.messages import Plan, RunManifest, SiteTerms, SourceShare, StageSpec
from privacy.secagg.rings import ring_of, wire_lanes

PATIENTS = 200


@dataclass(frozen=True)
class SharedNoise:
    """A federation whose noise is shared out."""

    manifest: RunManifest
    roster: Roster
    keys: dict[str, SigningKey]
    coordinator_key: SigningKey
    plan: Plan


def key_of(name: str) -> SigningKey:
    return SigningKey.from_private_bytes(hashlib.sha256(name.encode()).digest())


def federation_of(sites: int, parameters: int, noise: DistributedNoise) -> SharedNoise:
    """One stage at 5 % of 200 patients a site; z = 1."""
    names = [f"site-{number:02d}" for number in range(1, sites + 1)]
    keys, coordinator = {name: key_of(name) for name in names}, key_of("coordinator")
    roster = Roster("fed", 1, coordinator.public_bytes(),
                    tuple(RosterSite(name, keys[name].public_bytes(), PATIENTS) for name in names), 3, 0.5)
    stage = StageSpec("one", (SourceShare("reports", 2),), ("attention",), "b-only", 0.1, 0.0, 1, 0.05, 1.0, 100)
    manifest = RunManifest(
        federation_id="fed", run_id="run", release="0", roster_hash=roster.hash(), base_model_hash=bytes(32),
        adapter_hash=bytes(32), lora_rank=8, lora_alpha=16, privacy="patient-dp", clip_norm=0.1, target_epsilon=8.0,
        lane_share=0.1, bits=32, saturation=4.0, stages=(stage,),
        sites=tuple(SiteTerms(name, PATIENTS, 1.0, 1e-5) for name in names),
        server=ServerUpdate(0.01, 0.9, 0.7, "adam", 0.999), distributed_noise=noise)
    lanes = wire_lanes(manifest)
    ring = ring_of(manifest, 0, parameters + lanes, sites)
    plan = Plan(
        federation_id="fed", run_id="run", roster_hash=roster.hash(), manifest_hash=manifest.hash(), round=1, attempt=1,
        stage=0, factor="B", model_hash=bytes(32), dimension=parameters + lanes, num_lanes=lanes, bits=32,
        scale=ring.scale, saturation=4.0)
    return SharedNoise(manifest, roster, keys, coordinator, plan)
