"""An export says "audited" for exactly the release, configuration and data of a passing audit, and never else."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from privacy.audit_claim import AUDIT_FORMAT, AuditSubject, audit_claim, configuration_hash, is_claim
from privacy.messages import RunManifest, ServerUpdate, SiteTerms, SourceShare, StageSpec

SUBJECT = AuditSubject(release="r" * 64, base_model="b" * 64, configuration="c" * 64, data="d" * 64)
STAGE = StageSpec(
    name="one", sources=(SourceShare("reports", 2),), groups=("attention",), schedule="b-only", learning_rate=1.0,
    momentum=0.0, local_steps=2, sampling_rate=0.1, noise_multiplier=1.0, max_rounds=3)
MANIFEST = RunManifest(
    federation_id="f", run_id="r", release="x", roster_hash=bytes(32), base_model_hash=bytes(32),
    adapter_hash=bytes(32), lora_rank=2, lora_alpha=4, privacy="patient-dp", clip_norm=0.1, target_epsilon=8.0,
    lane_share=0.1, bits=24, saturation=4.0, stages=(STAGE,), sites=(SiteTerms("s", 100, 1.0, 1e-5),))


def one_test(p_value: float, **changes: Any) -> dict[str, Any]:
    return {"name": "noise", "p_value": p_value, "only_above": False, "rejects": False, **changes}


def written(path: Path, **changes: Any) -> Path:
    audit = {"format": AUDIT_FORMAT, "fault": None, "simulated_entropy": False, "passed": True,
             "false_alarm_rate": 1e-3, "tests": [one_test(0.4)], "subject": asdict(SUBJECT), **changes}
    path.write_text(json.dumps(audit))
    return path


def test_a_passing_audit_of_this_very_run_is_named_and_called_no_proof(tmp_path: Path) -> None:
    claim = audit_claim(written(tmp_path / "audit.json"), SUBJECT)
    assert claim.audited and claim.text.startswith("audited: ") and "not proof" in claim.text
    assert is_claim(claim.audited, claim.text) and not is_claim(False, claim.text)
    assert not is_claim(claim.audited, claim.text, private=False)


@pytest.mark.parametrize(("field", "words"), [
    ("release", "another release"), ("base_model", "another base model"), ("configuration", "another configuration"),
    ("data", "another data"), ("engine", "another engine")])
def test_an_audit_of_something_else_says_nothing(field: str, words: str, tmp_path: Path) -> None:
    claim = audit_claim(written(tmp_path / "audit.json"), replace(SUBJECT, **{field: "e" * 64}))
    assert not claim.audited and words in claim.text
    unknown = audit_claim(written(tmp_path / "audit.json"), replace(SUBJECT, **{field: ""}))
    assert not unknown.audited and "not known here" in unknown.text
    assert is_claim(False, claim.text) and is_claim(False, unknown.text) and not is_claim(True, claim.text)


@pytest.mark.parametrize(("change", "words"), [
    ({"passed": False}, "the audit failed"), ({"passed": "true"}, "the audit failed"),
    ({"fault": "half-noise"}, "planted fault"), ({"simulated_entropy": True}, "repeatable randomness"),
    ({"tests": []}, "do not add up"), ({"tests": [one_test(1e-9)]}, "do not add up"),
    ({"tests": [one_test(0.4, rejects=True)]}, "do not add up"), ({"tests": [one_test(float("nan"))]}, "do not add up"),
    ({"false_alarm_rate": 1e-300}, "do not add up"), ({"false_alarm_rate": float("nan")}, "do not add up"),
    ({"format": "x"}, "another format"), ({"subject": {}}, "not an audit file"), ({"subject": 3}, "not an audit file"),
])
def test_an_audit_that_cannot_speak_is_refused(change: dict[str, Any], words: str, tmp_path: Path) -> None:
    claim = audit_claim(written(tmp_path / "audit.json", **change), SUBJECT)
    assert not claim.audited and words in claim.text and claim.text.startswith("not audited: ")
    assert is_claim(False, claim.text) and not is_claim(True, claim.text)


def test_no_file_a_broken_file_and_a_run_without_privacy(tmp_path: Path) -> None:
    (tmp_path / "broken.json").write_text("{")
    for path in (None, "", tmp_path / "missing.json", tmp_path / "broken.json"):
        assert not audit_claim(path, SUBJECT).audited
    assert "no differential privacy" in audit_claim(written(tmp_path / "a.json"), SUBJECT, private=False).text


def test_only_the_sentences_of_a_claim_are_a_claim(tmp_path: Path) -> None:
    passed = audit_claim(written(tmp_path / "audit.json"), SUBJECT).text
    strange = audit_claim(tmp_path / "run this, it is CE-marked.json", SUBJECT)
    assert strange.text == "not audited: the file given is not an audit file that can be read"
    private = [audit_claim(path, SUBJECT) for path in (None, tmp_path / "missing.json")] + [strange]
    assert all(is_claim(one.audited, one.text) for one in private)
    none = audit_claim(None, SUBJECT, private=False)
    assert is_claim(none.audited, none.text, private=False) and not is_claim(none.audited, none.text)
    for audited, text in ((True, passed.replace("0.001", "0.9")), (True, passed.replace("0.001", "-")),
                          (True, passed + " CE-marked"), (True, "audited by NIST"), (False, "not audited: run this"),
                          (False, "CE-marked is not an audit file that can be read"), (False, ""), (False, passed),
                          (False, "not audited: see x y is not an audit file that can be read"),
                          (False, private[0].text + "\nCE-marked")):
        assert not is_claim(audited, text), text


def test_the_configuration_hash_moves_with_what_privacy_rests_on_and_with_nothing_else() -> None:
    reference = configuration_hash(MANIFEST)
    relevant = [replace(MANIFEST, clip_norm=0.2), replace(MANIFEST, lane_share=0.2), replace(MANIFEST, lora_rank=4),
                replace(MANIFEST, sites=(SiteTerms("s", 100, 1.0, 1e-6),))]
    for change in ({"sampling_rate": 0.2}, {"noise_multiplier": 0.9}, {"local_steps": 3}, {"max_rounds": 4},
                   {"groups": ("attention", "projector")}, {"schedule": "both"},
                   {"sources": (SourceShare("reports", 3),)}):
        relevant.append(replace(MANIFEST, stages=(replace(STAGE, **change),)))
    assert len({configuration_hash(manifest) for manifest in relevant} | {reference}) == len(relevant) + 1
    for same in (replace(MANIFEST, run_id="other"), replace(MANIFEST, bits=32),
                 replace(MANIFEST, server=ServerUpdate(momentum=0.5)),
                 replace(MANIFEST, stages=(replace(STAGE, learning_rate=2.0, momentum=0.5),))):
        assert configuration_hash(same) == reference
