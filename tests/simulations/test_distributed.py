"""Distributed noise from end to end: the audit of a smallest sum, and the real apps over a tiny federation."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from configs.load import load_config
from configs.schema import ConfigError, CurriculumConfig, FaultConfig, SharedNoiseConfig, SimulationConfig
from coordinator import checkpoint
from coordinator.rounds import RoundFailedError
from model.adapted import open_adapted
from model.adapter import adapter_hash
from model.spec import LoraSpec
from privacy.dp.guarantees import guarantees
from privacy.ledger import Ledger
from simulations.audit import AuditedRun, open_audited_run, run_audit, wanted_audits
from simulations.audit_stage import AuditSettings
from simulations.distributed_arm import audited_config, curriculum_of, shared_out
from simulations.engines import SimulatedRun, run_engine
from simulations.federation import FederationFiles, lay_out
from simulations.shared_noise import SHARED_FAULTS

SMALL = AuditSettings(num_canaries=48, num_patients=12, rounds=2, steps=2)


def quiet(what: str, done: int, total: int) -> None:
    """No progress."""


@pytest.fixture(scope="module")
def sharing(prepared: Any) -> SimulationConfig:
    """Three of the four sites must be in a sum; one may be curious; two stages' worth of rounds are left out."""
    privacy = replace(prepared.config.privacy, distributed=SharedNoiseConfig(min_survivors=3, optimizer="adam-bc",
                                                                             learning_rate=0.01))
    return shared_out(replace(prepared.config, privacy=privacy, faults=[]))


# ------------------------------------------------------------------ configuration


def test_each_local_step_becomes_one_sum(sharing: SimulationConfig, prepared: Any) -> None:
    local = load_config(CurriculumConfig, prepared.config.curriculum).stages
    shared = curriculum_of(sharing).stages
    assert [stage.rounds for stage in shared] == [stage.rounds * stage.local_steps for stage in local]
    assert {stage.local_steps for stage in shared} == {1} and curriculum_of(prepared.config).stages == local
    kept = prepared.config.federation.average_decay
    assert kept > 0 and math.isclose(sharing.federation.average_decay ** local[-1].local_steps, kept)
    assert shared_out(sharing).federation == sharing.federation  # one sum is one step already
    with pytest.raises(ConfigError, match="min_survivors"):
        shared_out(prepared.config)
    only = replace(sharing, privacy=replace(sharing.privacy, noise="local"),
                   arms=replace(sharing.arms, names=["base", "federated-distributed"]))
    assert audited_config(only).privacy.noise == "distributed" and audited_config(prepared.config) == prepared.config


# ------------------------------------------------------------------ the audit


@pytest.fixture(scope="module")
def last_stage(sharing: SimulationConfig) -> AuditedRun:
    run = open_audited_run(sharing, SMALL, quiet)
    return replace(run, manifest=replace(run.manifest, stages=run.manifest.stages[-1:]))


def rejected(audit: dict[str, Any]) -> set[str]:
    return {test["name"] for test in audit["tests"] if test["rejects"]}


def test_the_audit_passes_at_the_floor_and_finds_a_site_without_noise(last_stage: AuditedRun) -> None:
    assert last_stage.manifest.distributed_noise is not None and last_stage.manifest.distributed_noise.honest == 2
    correct = run_audit(last_stage, "correct", SMALL, quiet, seed=1)
    assert correct["passed"] and correct["stages"][0]["noise_over_claimed"] == pytest.approx(1.0, abs=0.02)
    silent = run_audit(last_stage, "silent-site", SMALL, quiet, seed=1)
    assert {"noise variance", "noise variance of statistics"} >= rejected(silent) > set()
    assert silent["stages"][0]["noise_over_claimed"] == pytest.approx(0.5, abs=0.02)  # one share of two is missing


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["half-share", "saturated-share"])
def test_less_noise_of_the_site_itself_is_found(last_stage: AuditedRun, fault: str) -> None:
    assert "noise variance" in rejected(run_audit(last_stage, fault, SMALL, quiet, seed=1))


def test_faults_of_this_mode_are_named() -> None:
    assert wanted_audits("all", shared=True) == ["correct", *SHARED_FAULTS]
    with pytest.raises(ValueError, match="did you mean silent-site"):
        wanted_audits("silent-sit", shared=True)
    with pytest.raises(ValueError, match="there is no fault"):
        wanted_audits("silent-site")


# ------------------------------------------------------------------ real apps


def laid_out(folder: Path, config: SimulationConfig, prepared: Any) -> FederationFiles:
    """Only the last stage, two sums."""
    materials = prepared.materials
    lora = LoraSpec(rank=config.lora.rank, alpha=config.lora.alpha, groups=tuple(config.lora.groups))
    adapted = open_adapted(str(materials.base_model), lora)
    stages = [replace(stage, rounds=2) for stage in curriculum_of(config).stages[-1:]]
    return lay_out(
        folder, config, CurriculumConfig(stages=stages), hospitals=materials.hospitals, declared=materials.declared,
        base_model=materials.base_model, base_hash=materials.base_hash, adapter_hash=adapter_hash(adapted.initial),
        public_examples=materials.public_examples, mode="patient-dp")


def run(files: FederationFiles, *faults: FaultConfig) -> None:
    run_engine("in-process", SimulatedRun(files.coordinator_file, files.site_files, 1, faults))


@pytest.mark.slow
def test_sums_at_the_floor_go_on_and_one_dropout_more_ends_the_run(
    sharing: SimulationConfig, prepared: Any, tmp_path: Path
) -> None:
    def lost(site: str, number: int) -> FaultConfig:
        return FaultConfig(site=site, round=number, at="sa_mask")

    files = laid_out(tmp_path, sharing, prepared)
    with pytest.raises(RoundFailedError, match=r"round 2 stopped at sa_mask"):
        run(files, lost("site-4", 1), lost("site-3", 2), lost("site-4", 2))
    state = checkpoint.latest(files.output / "checkpoints", files.manifest.hash().hex())
    assert state is not None and state.history[0]["summed"] == ["site-1", "site-2", "site-3"]
    assert len(state.history) == 1 and state.velocity.size == 3 * state.adapter.size  # Adam's memory
    ledger = Ledger.open(tmp_path / "site-1" / "state" / "ledger.sqlite", must_exist=True)
    account = ledger.account()
    ledger.close()
    assert [entry.mechanism for entry in account.entries] == ["distributed-gaussian"] * 2
    planned = [event for reserved in account.reservations for event in reserved.events]
    assert account.guarantees() == guarantees(planned, account.delta())
