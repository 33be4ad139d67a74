"""Distributed noise at the coordinator: the manifest, the door's floor, and what a release says."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from configs.schema import (
    CurriculumConfig,
    FederationConfig,
    LoraConfig,
    PrivacyConfig,
    SharedNoiseConfig,
    StageConfig,
)
from coordinator.admission import Door
from coordinator.manifest import build_manifest, planned_events
from coordinator.release_facts import privacy_facts
from privacy.dp.accounting import epsilon
from privacy.identity import Roster, RosterSite
from privacy.manifest import RunManifest
from privacy.messages import DistributedNoise, ServerUpdate

ROSTER = Roster(
    federation_id="consortium", version=1, coordinator_key=bytes([9] * 32),
    sites=tuple(RosterSite(f"site-{n}", bytes([n] * 32), 100 * n) for n in range(1, 7)), min_cohort=3, min_fraction=0.5)
STAGE = StageConfig(
    name="one", sources={"reports": 2}, groups=["attention"], learning_rate=0.4, learning_rate_without_privacy=0.1,
    local_steps=1, sampling_rate=0.1, rounds=20)
SHARED = SharedNoiseConfig(min_survivors=5, colluders=2, optimizer="adam", momentum=0.8, learning_rate=0.02)


def made(mode: Any = "patient-dp", stage: StageConfig = STAGE, **shared: Any) -> RunManifest:
    privacy = PrivacyConfig(target_epsilon=4.0, noise="distributed", distributed=replace(SHARED, **shared))
    return build_manifest(
        run_id="run-1", curriculum=CurriculumConfig(stages=[stage]), privacy=privacy, lora=LoraConfig(),
        federation=FederationConfig(bits=24, server_momentum=0.1), roster=ROSTER, base_model_hash=bytes([1] * 32),
        adapter_hash=bytes([2] * 32), mode=mode)


def test_the_manifest_has_the_shares_the_ring_and_equal_weights() -> None:
    manifest = made()
    assert manifest.distributed_noise == DistributedNoise(5, 2, 1 << 18)
    assert manifest.bits == 32 and {terms.weight for terms in manifest.sites} == {1.0}
    assert manifest.server == ServerUpdate(0.02, 0.8, 0.7, "adam", 0.999)
    delta = min(terms.delta for terms in manifest.sites)
    assert 3.9 < epsilon(planned_events(manifest), delta) <= 4.0
    assert {(event.min_survivors, event.colluders, event.levels) for event in planned_events(manifest)} == {
        (5, 2, 1 << 18)}


def test_without_privacy_there_is_nothing_to_share() -> None:
    manifest = made("none")
    assert manifest.distributed_noise is None and manifest.bits == 24 and manifest.server.momentum == 0.1


@pytest.mark.parametrize(("stage", "shared", "words"), [
    (replace(STAGE, local_steps=2), {}, "set local_steps to 1"),
    (STAGE, {"min_survivors": 7}, "more than the run's 6 sites"),
    (STAGE, {"colluders": 4}, r"colluders=4 is more than the secure aggregation of 6 sites withstands \(2\)")])
def test_what_every_site_would_refuse_is_not_built(stage: StageConfig, shared: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        made(stage=stage, **shared)


def test_the_door_waits_for_as_many_sites_as_the_noise_needs() -> None:
    def door(manifest: RunManifest) -> Door:
        return Door(manifest, b"signed", ROSTER, None, 1.0, lambda event, facts: None)  # type: ignore[arg-type]

    assert door(made("none")).floor == ROSTER.floor(6) == 5
    assert door(made(min_survivors=6, colluders=2)).floor == 6


def test_a_release_says_whom_its_guarantee_trusts() -> None:
    shared, local = privacy_facts(made()), privacy_facts(replace(
        made(), distributed_noise=None, server=ServerUpdate()))
    assert "Local model" in local["trust_model"] and "no part of this claim" in local["secure_aggregation"]
    assert "sum over 5 sites or more" in shared["trust_model"] and "2 colluding sites" in shared["trust_model"]
    assert "not found out" in shared["trust_model"] and "part of this claim" in shared["secure_aggregation"]
    assert "discrete Gaussian" in shared["mechanism"] and set(shared) == set(local)
    assert json.loads(json.dumps(shared)) == shared
