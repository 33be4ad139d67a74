"""R0: the plans that a site refuses, one test a check; removing a check must fail its test."""

from __future__ import annotations

from dataclasses import replace

import pytest

from privacy.errors import FaultyCoordinatorError
from privacy.messages import EvaluationTerms, SignedPlan
from privacy.secagg.client import SiteRound


def plan_refusal(federation, *, last=None, roster=None, manifest=None, signer=None, **changes):
    """The code with which a site refuses the plan that has these changes."""
    key = signer or federation.coordinator_key
    signed = SignedPlan.signed(key, (), plan=federation.plan(**changes)).to_bytes()
    with pytest.raises(FaultyCoordinatorError) as refusal:
        SiteRound.check_plan(
            signed, roster=roster or federation.roster, manifest=manifest or federation.manifest, last=last
        )
    return refusal.value.code


def test_an_honest_plan_is_accepted(federation):
    signed = SignedPlan.signed(federation.coordinator_key, (), plan=federation.plan()).to_bytes()
    plan = SiteRound.check_plan(signed, roster=federation.roster, manifest=federation.manifest, last=(0, 7))
    assert plan == federation.plan()
    assert SiteRound.run_of(signed) == "run-1"


def test_tampered_plan(federation):
    signed = SignedPlan.signed(federation.coordinator_key, (), plan=federation.plan())
    tampered = replace(signed, plan=federation.plan(round=2)).to_bytes()
    with pytest.raises(FaultyCoordinatorError) as refusal:
        SiteRound.check_plan(tampered, roster=federation.roster, manifest=federation.manifest, last=None)
    assert refusal.value.code == "E_PLAN_SIG"


def test_plan_of_an_impostor(federation):
    assert plan_refusal(federation, signer=federation.keys["site-002"]) == "E_PLAN_SIG"


def test_plan_that_is_not_a_plan(federation):
    with pytest.raises(FaultyCoordinatorError) as refusal:
        SiteRound.check_plan(b"\x01junk", roster=federation.roster, manifest=federation.manifest, last=None)
    assert refusal.value.code == "E_FORMAT"


def test_plan_for_another_roster(federation):
    assert plan_refusal(federation, roster_hash=bytes(32)) == "E_ROSTER"
    assert plan_refusal(federation, federation_id="other") == "E_ROSTER"
    assert plan_refusal(federation, roster=replace(federation.roster, version=2)) == "E_ROSTER"


def test_plan_of_another_manifest(federation):
    assert plan_refusal(federation, manifest_hash=bytes(32)) == "E_MANIFEST"
    assert plan_refusal(federation, run_id="run-2") == "E_MANIFEST"
    assert plan_refusal(federation, manifest=replace(federation.manifest, clip_norm=2.0)) == "E_MANIFEST"


def test_plan_of_an_evaluation_that_the_manifest_does_not_have_or_of_another_size(federation):
    assert plan_refusal(federation, purpose="evaluate", dimension=3, num_lanes=3) == "E_PARAMS"
    stages = tuple(replace(stage, evaluation=EvaluationTerms(0, 4.0, 2.0)) for stage in federation.manifest.stages)
    manifest = replace(federation.manifest, stages=stages, validation_share=0.2)
    evaluated = {"manifest": manifest, "manifest_hash": manifest.hash(), "purpose": "evaluate"}
    assert plan_refusal(federation, **evaluated, dimension=4, num_lanes=3) == "E_PARAMS"
    plan = federation.plan(manifest_hash=manifest.hash(), purpose="evaluate", dimension=3, num_lanes=3)
    signed = SignedPlan.signed(federation.coordinator_key, (), plan=plan).to_bytes()
    assert SiteRound.check_plan(signed, roster=federation.roster, manifest=manifest, last=None) == plan


@pytest.mark.parametrize("last", [(1, 1), (1, 2), (2, 0)])
def test_replayed_plan(federation, last):
    assert plan_refusal(federation, last=last) == "E_REPLAY"


@pytest.mark.parametrize(
    "changes",
    [
        {"stage": 1},
        {"factor": "AB"},
        {"bits": 32},
        {"saturation": 1.0},
        {"scale": 2.0**21},  # the sum could wrap
        {"scale": 3.0},
    ],
)
def test_plan_outside_the_manifest_or_the_ring(federation, changes):
    assert plan_refusal(federation, **changes) == "E_PARAMS"
