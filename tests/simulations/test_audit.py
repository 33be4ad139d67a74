"""The audit on the site's real path, and what becomes of its result."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from configs.schema import SimulationConfig
from privacy.dp.audit import one_run_p_value
from privacy.messages import AdaptiveClip, StageSpec, Truncation
from simulations.audit import AuditedRun, open_audited_run, refuse_unknown, run_audit, wanted_audits
from simulations.audit_report import as_expected, fault_table, text_of, write_audits
from simulations.audit_stage import AuditSettings, planned_guesses
from simulations.engines import SimulatedRun, run_engine
from simulations.faulty_mechanisms import FAULTS
from simulations.report import write_report

SMALL = AuditSettings(num_canaries=48, num_patients=12, rounds=2, steps=2)


def quiet(what: str, done: int, total: int) -> None:
    """No progress."""


@pytest.fixture(scope="module")
def last_stage(prepared: Any) -> AuditedRun:
    """Only the last stage, so that the test is quick."""
    run = open_audited_run(prepared.config, SMALL, quiet)
    return replace(run, manifest=replace(run.manifest, stages=run.manifest.stages[-1:]))


def rejected(audit: dict[str, Any]) -> set[str]:
    return {test["name"] for test in audit["tests"] if test["rejects"]}


def test_the_real_mechanism_passes_and_two_faults_are_found(last_stage: AuditedRun) -> None:
    correct = run_audit(last_stage, "correct", SMALL, quiet, seed=1)
    assert correct["passed"] and correct["simulated_entropy"] and "failure to refute" in correct["meaning"]
    assert "canary contribution" in rejected(run_audit(last_stage, "no-clipping", SMALL, quiet))
    assert "noise variance" in rejected(run_audit(last_stage, "half-noise", SMALL, quiet))


@pytest.mark.slow
@pytest.mark.parametrize(("fault", "test"), [
    ("per-sample-clipping", "canary contribution"), ("ninety-noise", "noise variance"),
    ("reused-noise", "noise repeated"), ("reseeded-generator", "noise repeated"),
    ("reseeded-generator", "patients in consecutive steps"), ("shuffled-batches", "patients in consecutive steps")])
def test_each_fault_is_found_by_the_test_made_for_it(prepared: Any, fault: str, test: str) -> None:
    # With 160 canaries per-sample clipping was 4.0 to 7.3 standard errors away and 3.9 are needed; 480 leave no luck.
    settings = replace(SMALL, num_canaries=480, rounds=3, steps=3)
    run = open_audited_run(prepared.config, settings, quiet)
    run = replace(run, manifest=replace(run.manifest, stages=run.manifest.stages[-1:]))
    assert test in rejected(run_audit(run, fault, settings, quiet))


def test_files_text_and_table(last_stage: AuditedRun, tmp_path: Path) -> None:
    tiny = replace(SMALL, num_canaries=24, rounds=1)
    audits = [run_audit(last_stage, name, tiny, quiet, seed=2) for name in ("correct", "half-noise")]
    write_audits(tmp_path, audits)
    assert {path.name for path in tmp_path.iterdir()} == {
        "audit.json", "audit.png", "fault-half-noise.json", "fault-half-noise.png", "faults.md"}
    assert json.loads((tmp_path / "audit.json").read_text())["subject"]["data"] == last_stage.data
    assert "| half-noise | REFUTED |" in fault_table(audits) and as_expected(audits)
    assert "repeatable randomness" in text_of(audits[:1], tmp_path) and not as_expected(audits[1:])


def test_bad_input_is_one_sentence(prepared: Any) -> None:
    with pytest.raises(ValueError, match="did you mean half-noise"):
        wanted_audits("half-noize")
    assert wanted_audits("all") == ["correct", *FAULTS]
    config: SimulationConfig = prepared.config
    with pytest.raises(ValueError, match="no row with privacy"):
        open_audited_run(replace(config, arms=replace(config.arms, names=["base", "federated"])), SMALL, quiet)


def test_auto_s_is_audited_like_the_flat_clip_and_other_mechanisms_are_refused(last_stage: AuditedRun) -> None:
    stage = replace(last_stage.manifest.stages[0], clipping="auto-s", optimizer="adamw")
    run = replace(last_stage, manifest=replace(last_stage.manifest, stages=(stage,)))
    assert run_audit(run, "correct", SMALL, quiet, seed=1)["passed"]
    assert "canary contribution" in rejected(run_audit(run, "no-clipping", SMALL, quiet))
    for feature in ("adaptive_clip", "truncation"):
        unknown = replace(run.manifest, stages=(_with(stage, feature),))
        with pytest.raises(ValueError, match=f"uses {feature}, which the audit does not know"):
            refuse_unknown(unknown)


def _with(stage: StageSpec, feature: str) -> StageSpec:
    if feature == "truncation":
        return replace(stage, truncation=Truncation(batch_size=20, most_patients=100))
    clip = AdaptiveClip(quantile=0.5, learning_rate=0.2, bit_noise=10 * stage.noise_multiplier)
    return replace(stage, clipping="flat", adaptive_clip=clip)


def test_a_plan_with_more_canaries_could_refute_gross_faults_and_keeps_small_claims(last_stage: AuditedRun) -> None:
    stage = replace(last_stage.manifest.stages[0], sampling_rate=0.25, noise_multiplier=2.129)
    plan = planned_guesses(stage, AuditSettings())
    assert 1.0 < plan.claimed < 2.0 and plan.guesses < 640 * 0.5 * (1 - 0.75**plan.steps)
    assert one_run_p_value(640, plan.guesses, round(0.97 * plan.guesses), plan.claimed, 1e-8) < 1e-3 / 30


@pytest.fixture(scope="module")
def whole_audit(prepared: Any) -> dict[str, Any]:
    """A passing audit of the whole run, said to be of system randomness."""
    run = open_audited_run(prepared.config, SMALL, quiet)
    tiny = replace(SMALL, num_canaries=16, rounds=1, steps=1, num_patients=4)
    audit = {**run_audit(run, "correct", tiny, quiet, seed=3), "simulated_entropy": False}
    assert audit["passed"]
    return audit


def test_a_report_names_an_audit_only_of_its_own_run(
    prepared: Any, federation: Any, whole_audit: dict[str, Any], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    files = federation(folder="out/arms/federated-dp")
    adapter = files.output / "adapter"
    adapter.mkdir(parents=True)
    (adapter / "README.md").write_text("# Adapter\n- Privacy audit: not audited\n- LoRA: rank 2\n")
    assert open_audited_run(prepared.config, SMALL, quiet).manifest.hash() == files.manifest.hash(), \
        "an audit and a run make the same manifest"
    other = {**whole_audit, "subject": {**whole_audit["subject"], "data": "0" * 64}}
    privacy = {site: {"epsilon": 7.9, "delta": 1e-5} for site in prepared.materials.declared}
    rows = [{"name": "federated-dp", "test": {}, "seconds": 1.0, "samples": [], "privacy": privacy,
             "manifest": {"stages": []}}]
    path = tmp_path / "audit.json"
    for content, expected in (
        (whole_audit, "audited: no test refuted"), (other, "not audited: the audit is of another data"),
        ({**whole_audit, "passed": False}, "not audited: the audit failed"),
    ):
        path.write_text(json.dumps(content))
        facts = write_report(out, prepared.config, prepared.materials, rows, "in-process", 1.0, path)
        assert facts["audit"].startswith(expected) and facts["audited"] == (content is whole_audit)
        assert json.loads((out / "report.json").read_text())["audit"] == facts["audit"]
        lines = (out / "adapter" / "README.md").read_text().splitlines()
        assert lines == ["# Adapter", f"- Privacy audit: {facts['audit']}", "- LoRA: rank 2"]
        assert expected in (out / "report.html").read_text()


@pytest.mark.parametrize(("mode", "expected"), [
    ("patient-dp", "audited: no test refuted"), ("none", "not audited: this run has no differential privacy")])
def test_the_coordinators_own_export_says_the_same(
    federation: Any, whole_audit: dict[str, Any], tmp_path: Path, mode: str, expected: str
) -> None:
    path = tmp_path / "audit.json"
    path.write_text(json.dumps(whole_audit))
    files = federation(mode=mode, audit=path)
    run_engine("in-process", SimulatedRun(files.coordinator_file, files.site_files, 1, ()))
    facts = json.loads((files.output / "rounds.json").read_text())
    assert facts["audit"].startswith(expected) and facts["audited"] == (mode == "patient-dp")
    assert f"- Privacy audit: {facts['audit']}" in (files.output / "adapter" / "README.md").read_text().splitlines()
