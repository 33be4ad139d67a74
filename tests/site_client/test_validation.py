"""Who is held out, and that a held-out patient is evaluated alone, on public terms, and never trained on."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from configs.schema import PolicyConfig
from model.adapted import AdaptedModel
from model.adapter import Selection
from model.inputs import Example
from privacy.dp.accounting import ReleaseEvent, epsilon
from privacy.errors import FaultyCoordinatorError, PolicyRefusalError
from privacy.evaluation import EvaluationTerms, Gate
from privacy.gates import UNIT, evaluation_scale
from privacy.ledger_account import Account, Limits
from privacy.manifest import RunManifest
from site_client.evaluation import evaluate_patients, patient_losses
from site_client.policy import check_gates, check_rounds_left, planned_events, refusals
from site_client.records import PatientRecord, SiteIndex
from site_client.round_terms import round_entry
from site_client.run_preview import run_facts, run_text
from site_client.training import EncodedPatient
from site_client.validation import is_held_out
from tests.privacy.test_gates import GATE, MANIFEST, PLAN, STAGE
from tests.site_client import test_policy as policies
from tests.site_client.small_site import MANIFEST as SMALL
from tests.site_client.test_installation import Encoder, installation
from tests.site_client.test_training import Seeded, adapted, patients, selection  # noqa: F401

KEY = bytes(range(32))
NAMES = [hashlib.sha256(str(i).encode()).hexdigest() for i in range(2000)]


def held_out(share: float, key: bytes = KEY) -> set[str]:
    return {name for name in NAMES if is_held_out(key, name, share)}


def test_the_share_is_held_out_by_key_nested_and_for_each_patient_alone() -> None:
    fifth = held_out(0.2)
    assert 330 < len(fifth) < 470
    assert held_out(0.1) < fifth < held_out(0.5) and held_out(0.0) == set()
    other = held_out(0.2, bytes(32))
    assert 330 < len(other) < 470 and other != fifth  # nobody can tell without the key
    for share in (-0.1, 0.51, float("nan")):
        with pytest.raises(ValueError, match="validation_share"):
            is_held_out(KEY, NAMES[0], share)


def test_a_sites_patients_are_split_once_for_every_run_and_nobody_is_on_both_sides(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    records = tuple(PatientRecord(name, {"reports": (Example(f"q {name}", "a"),)}) for name in NAMES[:100])
    monkeypatch.setattr(
        "site_client.installation.read_site", lambda config, progress=None: SiteIndex(patients=records))
    site, model = installation(tmp_path), Encoder()
    trained, validated = site.split_patients(model, 0.3)  # type: ignore[arg-type]
    assert len(trained) + len(validated) == 100 and 15 < len(validated) < 45
    assert not [one for one in validated if one in trained]
    again = installation(tmp_path).split_patients(model, 0.3)  # type: ignore[arg-type]
    assert again == (trained, validated)
    fewer = tuple(record for record in records[1:])  # without one patient, nobody else changes sides
    monkeypatch.setattr(
        "site_client.installation.read_site", lambda config, progress=None: SiteIndex(patients=fewer))
    left = installation(tmp_path).split_patients(model, 0.3)  # type: ignore[arg-type]
    assert [one for side in left for one in side] == [
        one for side in (trained, validated) for one in side if f"q {NAMES[0]}" not in str(one)]


# ------------------------------------------------------------------ what is computed


def test_a_patients_loss_is_that_patients_alone_and_one_who_fails_counts_with_the_largest(
    adapted: AdaptedModel, selection: Selection, patients: list[EncodedPatient]  # noqa: F811
) -> None:
    together = patient_losses(adapted, patients, STAGE_OF_ALL)
    assert len(together) == 3 and np.isfinite(together).all() and (together > 0).all()
    for number, patient in enumerate(patients):
        assert patient_losses(adapted, [patient], STAGE_OF_ALL)[0] == together[number]
    broken: EncodedPatient = {"reports": [None]}  # type: ignore[list-item]
    found = patient_losses(adapted, [patients[0], broken, {"studies": []}], STAGE_OF_ALL)
    assert found[0] == together[0] and np.isnan(found[1]) and len(found) == 2  # without a sample: nobody


def test_the_lanes_are_the_noised_sums_and_the_bit_that_follows_from_them(
    adapted: AdaptedModel, selection: Selection, patients: list[EncodedPatient]  # noqa: F811
) -> None:
    scale = evaluation_scale(replace(MANIFEST, stages=(replace(STAGE, evaluation=LOOSE),)), 0)
    lanes = evaluate_patients(adapted, patients, STAGE_OF_ALL, scale, Seeded(), private=True)
    same = evaluate_patients(adapted, patients, STAGE_OF_ALL, scale, Seeded(), private=True)
    bare = evaluate_patients(adapted, patients, STAGE_OF_ALL, scale, Seeded(), private=False)
    assert (lanes == same).all() and (lanes[:2] != bare[:2]).all()
    assert bare[1] / scale.gain / UNIT == pytest.approx(3) and bare[2] == 0  # three patients are enough here
    strict = replace(scale, terms=replace(LOOSE, gate=replace(LOOSE_GATE, min_patients=4)))
    assert evaluate_patients(adapted, patients, STAGE_OF_ALL, strict, Seeded(), private=False)[2] == scale.bit


LOOSE_GATE = Gate(threshold=49.0, min_patients=1, max_repeats=0, spare=0)
LOOSE = EvaluationTerms(every_rounds=0, loss_cap=50.0, noise_multiplier=1.0, gate=LOOSE_GATE)
STAGE_OF_ALL = replace(STAGE, sources=(*STAGE.sources, replace(STAGE.sources[0], source="patches")))


# ------------------------------------------------------------------ what the site's policy says


def asked(**terms: Any) -> RunManifest:
    evaluation = replace(EvaluationTerms(0, 4.0, 3.0, GATE), **terms)
    stages = tuple(replace(stage, evaluation=evaluation) for stage in policies.MANIFEST.stages)
    return replace(policies.MANIFEST, stages=stages, validation_share=0.2, integrity_tags=1)


def refused(manifest: RunManifest, **policy: Any) -> str:
    return policies.code(manifest, policy=PolicyConfig(max_epsilon=8.0, **policy))


def test_a_site_may_allow_no_evaluation_or_fewer_and_asks_for_its_least_noise() -> None:
    policies.check(asked(), policy=PolicyConfig(max_epsilon=8.0, max_evaluations=6))
    assert refused(asked(), max_evaluations=5) == refused(asked(), max_evaluations=0) == "P_EVALUATION"
    policies.check(policy=PolicyConfig(max_epsilon=8.0, max_evaluations=0))  # a run without any
    assert refused(asked(noise_multiplier=0.2)) == "P_NOISE"
    assert refused(asked(), max_rounds=21) == "P_ROUNDS"  # 2 stages of 2 blocks of 4 rounds, and 6 evaluations


def test_the_budget_is_refused_for_what_evaluations_would_take_past_it() -> None:
    spent = epsilon(planned_events(asked()), 1e-5)
    assert spent > epsilon(planned_events(policies.MANIFEST), 1e-5)
    assert ReleaseEvent(1.0, 3.0, 3) in planned_events(asked())
    assert refused(replace(asked(), target_epsilon=0.99 * spent)) == "P_BUDGET"


def test_a_plan_off_the_announced_rounds_is_the_coordinators_fault() -> None:
    check_gates(PLAN, MANIFEST, ())
    for wrong in (replace(PLAN, round=1), replace(PLAN, purpose="train"), replace(PLAN, round=7)):
        with pytest.raises(FaultyCoordinatorError) as caught:
            check_gates(wrong, MANIFEST, ())
        assert caught.value.code == "E_GATE"
    with pytest.raises(FaultyCoordinatorError):
        check_gates(PLAN, policies.MANIFEST, ())  # a run without evaluations has none


def test_evaluations_and_training_rounds_are_counted_apart() -> None:

    manifest = replace(SMALL, stages=MANIFEST.stages, validation_share=0.2, integrity_tags=1)
    booked = [round_entry(manifest, replace(PLAN, round=number), 1e-5, Seeded(), "2026-01-01") for number in (4, 5)]
    check_rounds_left(PLAN, manifest, booked)
    check_rounds_left(replace(PLAN, purpose="train"), manifest, booked * 9)
    with pytest.raises(PolicyRefusalError, match="budget"):
        check_rounds_left(PLAN, manifest, [*booked, *booked])


def test_the_operator_reads_what_a_gate_costs_before_the_run_is_approved(tmp_path: Path) -> None:
    config = installation(tmp_path).config
    manifest = asked()
    facts = run_facts(manifest, policies.ROSTER, config, policies_account())
    stage = facts["stages"][0]
    alone = epsilon([ReleaseEvent(1.0, 3.0, 3)], 1e-5)
    assert stage["evaluation"]["most"] == 3 and stage["evaluation"]["epsilon"] == pytest.approx(alone)
    assert facts["budget"]["planned_epsilon"] == pytest.approx(epsilon(planned_events(manifest), 1e-5))
    text = run_text(facts)
    assert "at most 3 times, on 20 % of the patients, who are never trained on; " \
           f"noise multiplier 3, epsilon {alone:.4g}" in text
    assert "passes with a noised mean loss of at most 2 over at least 5 patients; at most 1 repeats" in text
    assert refusals(manifest, policy=replace(config.policy, max_evaluations=0), roster=policies.ROSTER,
                    site_id="site-1", base_model_hash=policies.BASE, account=policies_account()) == ("P_EVALUATION",)


def policies_account() -> Any:
    return Account(limits=Limits(8.0, 1e-4))
