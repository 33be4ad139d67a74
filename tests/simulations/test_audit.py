"""The audit on the site's real path, and what becomes of its result."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from configs.schema import SimulationConfig
from simulations.audit import AuditedRun, open_audited_run, run_audit, wanted_audits
from simulations.audit_report import as_expected, fault_table, text_of, write_audits
from simulations.audit_stage import AuditSettings
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
    settings = replace(SMALL, num_canaries=160, rounds=3, steps=3)
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


def test_a_report_names_an_audit_only_of_its_own_run(
    prepared: Any, federation: Any, last_stage: AuditedRun, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    files = federation(folder="out/arms/federated-dp")
    adapter = files.output / "adapter"
    adapter.mkdir(parents=True)
    (adapter / "README.md").write_text("- Privacy audit: not audited\n")
    whole = open_audited_run(prepared.config, SMALL, quiet)
    assert whole.manifest.hash() == files.manifest.hash(), "an audit and a run make the same manifest"
    tiny = replace(SMALL, num_canaries=16, rounds=1, steps=1, num_patients=4)
    audit = {**run_audit(whole, "correct", tiny, quiet, seed=3), "simulated_entropy": False}
    other = {**audit, "subject": {**audit["subject"], "data": "0" * 64}}
    rows = [{"name": "federated-dp", "test": {}, "seconds": 1.0, "samples": []}]
    for content, expected in ((audit, "audited: "), (other, "not audited: the audit is of another data")):
        path = tmp_path / "audit.json"
        path.write_text(json.dumps(content))
        facts = write_report(out, prepared.config, prepared.materials, rows, "in-process", 1.0, path)
        assert facts["audit"].startswith(expected) and facts["audited"] == (content is audit)
        assert expected in (out / "adapter" / "README.md").read_text() and expected in (out / "report.html").read_text()
