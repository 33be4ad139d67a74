"""The site's veto: every rule refuses with its own code, before any training and without looking at a patient."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import Any

import pytest

from configs.schema import PolicyConfig
from privacy.dp.accounting import epsilon
from privacy.errors import POLICY_REFUSALS, BudgetExceededError, FaultyCoordinatorError, PolicyRefusalError
from privacy.identity import Roster, RosterSite
from privacy.ledger import LedgerEntry
from privacy.ledger_account import Account, Limits
from privacy.ledger_entries import Reservation
from privacy.manifest import Plan, RunManifest, SiteTerms, SourceShare, StageSpec, StopRule
from privacy.release import release_hash
from site_client.policy import (
    check_hours,
    check_manifest,
    check_rounds_left,
    check_schedule,
    check_upload,
    check_wasted,
    delta_cap,
    planned_events,
    refusals,
    terms_of,
)

BASE = bytes(range(32))
ROSTER = Roster(
    federation_id="consortium", version=1, coordinator_key=bytes([9] * 32),
    sites=tuple(RosterSite(f"site-{i}", bytes([i] * 32), 500 + i) for i in range(4)), min_cohort=3, min_fraction=0.5)
STAGE = StageSpec(
    name="alignment", sources=(SourceShare("patches", 4),), groups=("projector",), schedule="alternate",
    learning_rate=0.5, momentum=0.0, local_steps=5, sampling_rate=0.1, noise_multiplier=1.2, max_rounds=4,
    reply_after_s=60.0)
MANIFEST = RunManifest(
    federation_id="consortium", run_id="run-1", release=release_hash(), roster_hash=ROSTER.hash(), base_model_hash=BASE,
    adapter_hash=bytes(32), lora_rank=8, lora_alpha=16, privacy="patient-dp", clip_norm=1.0, target_epsilon=8.0,
    lane_share=0.1, bits=24, saturation=4.0, stages=(STAGE, replace(STAGE, name="instruction")),
    sites=tuple(SiteTerms(site.site_id, site.declared_patients, 0.25, 1e-5) for site in ROSTER.sites))
POLICY = PolicyConfig(max_epsilon=8.0)
PLANNED = epsilon(planned_events(MANIFEST), 1e-5)


def check(manifest: RunManifest = MANIFEST, *, policy: PolicyConfig = POLICY, **changed: Any) -> SiteTerms:
    arguments: dict[str, Any] = {
        "roster": ROSTER, "site_id": "site-1", "base_model_hash": BASE, **changed}
    account = Account(
        arguments.pop("reserved", ()), arguments.pop("booked", ()),
        limits=Limits(policy.max_epsilon, delta_cap(policy, 501), allow_unnoised=policy.allow_without_privacy))
    return check_manifest(manifest, policy=policy, account=account, **arguments)


def code(manifest: RunManifest = MANIFEST, *, policy: PolicyConfig = POLICY, **changed: Any) -> str:
    with pytest.raises((PolicyRefusalError, BudgetExceededError)) as caught:
        check(manifest, policy=policy, **changed)
    assert str(caught.value) == POLICY_REFUSALS[caught.value.code]  # a fixed sentence, no value in it
    return caught.value.code


def with_terms(**changed: Any) -> RunManifest:
    sites = tuple(replace(t, **changed) if t.site_id == "site-1" else t for t in MANIFEST.sites)
    return replace(MANIFEST, sites=sites)


def with_stage(**changed: Any) -> RunManifest:
    return replace(MANIFEST, stages=(MANIFEST.stages[0], replace(MANIFEST.stages[1], **changed)))


def without_privacy() -> RunManifest:
    return replace(MANIFEST, privacy="none", target_epsilon=0.0,
                   stages=tuple(replace(stage, noise_multiplier=0.0) for stage in MANIFEST.stages))


def booked(**changed: Any) -> LedgerEntry:
    values: dict[str, Any] = {
        "run_id": "earlier", "round": 1, "attempt": 1, "stage": 0, "mechanism": "poisson-gaussian",
        "sampling_rate": 0.1, "noise_multiplier": 1.2, "steps": 40, "clip_norm": 1.0, "delta": 1e-5,
        "entropy": "system", "created_utc": "2026-01-01T00:00:00Z", **changed}
    return LedgerEntry(**values)


def test_an_allowed_run_returns_this_sites_terms() -> None:
    assert check() == SiteTerms("site-1", 501, 0.25, 1e-5)
    assert check(policy=replace(POLICY, allowed_stages=["alignment", "instruction"], allowed_base_models=[BASE.hex()]))


def test_the_budget_counts_every_planned_round() -> None:
    assert sum(event.steps for event in planned_events(MANIFEST)) == 2 * 5 * 4


def test_a_site_that_the_run_leaves_out_is_refused() -> None:
    assert code(replace(MANIFEST, sites=MANIFEST.sites[2:])) == "P_TERMS"
    with pytest.raises(PolicyRefusalError):
        terms_of(MANIFEST, "site-9")


@pytest.mark.parametrize(
    ("manifest", "expected"),
    [
        (replace(MANIFEST, roster_hash=bytes(32)), "P_ROSTER"),
        (replace(MANIFEST, release="another"), "P_RELEASE"),
        (replace(MANIFEST, base_model_hash=bytes(32)), "P_BASE_MODEL"),
        (with_terms(declared_patients=502), "P_TERMS"),
        (with_terms(weight=0.5), "P_TERMS"),  # more than its patients
        (replace(MANIFEST, sites=tuple(replace(terms, weight=0.3, declared_patients=7) if terms.site_id == "site-3"
                                       else terms for terms in MANIFEST.sites)), "P_TERMS"),  # not the roster's
        (with_stage(noise_multiplier=0.29), "P_NOISE"),
        (with_stage(sources=(SourceShare("reports", 9), SourceShare("patches", 8))), "P_SAMPLING"),
        (with_stage(max_rounds=900), "P_BUDGET"),
        (with_stage(max_rounds=997), "P_ROUNDS"),
        (without_privacy(), "P_PRIVACY"),
        (with_stage(reply_after_s=0.0), "P_TIMING"), (with_stage(reply_after_s=0.001), "P_TIMING"),
        (with_stage(reply_after_s=59.99), "P_TIMING"),
    ])
def test_what_a_manifest_may_not_ask_for(manifest: RunManifest, expected: str) -> None:
    assert code(manifest) == expected


def test_a_shorter_schedule_is_a_sites_own_choice() -> None:
    for allowed in ({"min_reply_after_s": 8.0}, {"require_scheduled_replies": False}):
        check(with_stage(reply_after_s=8.0), policy=replace(POLICY, **allowed))
    check(with_stage(reply_after_s=0.0), policy=replace(POLICY, require_scheduled_replies=False))


@pytest.mark.parametrize("seconds", [5e-324, 1e-9, 0.00099, -1.0, 1.1e6, float("nan")])
def test_a_manifest_has_no_schedule_or_one_of_a_millisecond_or_more(seconds: float) -> None:
    with pytest.raises(ValueError, match="reply_after_s"):
        replace(STAGE, reply_after_s=seconds).to_bytes()
    for fine in (0.0, 0.001, 1e6):
        replace(STAGE, reply_after_s=fine).to_bytes()


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({"min_patients": 502}, "P_FLOOR"), ({"min_cohort": 4}, "P_COHORT"),
        ({"allowed_stages": ["alignment"]}, "P_STAGE"), ({"allowed_groups": ["attention"]}, "P_GROUP"),
        ({"allowed_sources": ["reports"]}, "P_SOURCE"), ({"max_rounds": 7}, "P_ROUNDS"),
        ({"allowed_base_models": ["00"]}, "P_BASE_MODEL"), ({"max_samples": 3}, "P_SAMPLING"),
        ({"max_delta": 9e-6}, "P_DELTA"), ({"min_noise_multiplier": 1.3}, "P_NOISE"),
        ({"max_epsilon": 0.99 * PLANNED}, "P_BUDGET"), ({"min_reply_after_s": 60.01}, "P_TIMING"),
    ])
def test_what_a_policy_may_forbid(changed: dict[str, Any], expected: str) -> None:
    assert code(policy=replace(POLICY, **changed)) == expected


def test_limits_are_inclusive() -> None:
    exact = PolicyConfig(max_epsilon=PLANNED, min_patients=501, max_samples=4, min_noise_multiplier=1.2, max_rounds=8,
                         allowed_groups=["projector"], allowed_sources=["patches"])
    assert check(policy=exact)


def reserved(run_id: str = "earlier", delta: float = 1e-5, steps: int = 40) -> Reservation:
    events = (replace(planned_events(MANIFEST)[0], steps=steps),)
    return Reservation(run_id, "ab", events, delta, "sum", 0, "2026-01-01T00:00:00+00:00")


def test_what_earlier_runs_reserved_counts_too_whether_or_not_they_ran() -> None:
    roomy = replace(POLICY, max_epsilon=1.1 * PLANNED)
    assert check(policy=roomy)
    assert code(policy=roomy, reserved=(reserved(),)) == "P_BUDGET"
    assert code(policy=roomy, reserved=(reserved(),), booked=(booked(),)) == "P_BUDGET"
    twice = replace(POLICY, max_epsilon=2 * PLANNED)
    assert check(policy=twice, reserved=(reserved(),))
    assert check(policy=replace(POLICY, max_epsilon=PLANNED), reserved=(reserved("run-1"),))  # its own, after a restart


def test_the_deltas_of_runs_add_up_to_a_cap_of_their_own() -> None:
    roomy = replace(POLICY, max_epsilon=100.0)
    tiny = tuple(reserved(f"run {i}", steps=1) for i in range(9))
    assert check(policy=roomy, reserved=tiny[1:])
    assert check(policy=roomy, reserved=tiny)
    assert code(policy=roomy, reserved=(*tiny, reserved("tenth", 1e-9, 1))) == "P_DELTA"
    assert code(policy=replace(roomy, max_total_delta=9e-6)) == "P_DELTA"
    assert delta_cap(roomy, 20_000) == 1 / 20_000 and delta_cap(roomy, 500) == 1e-4


def test_rounds_that_came_to_nothing_are_limited() -> None:
    trained = tuple(booked(run_id="run-1", round=number, steps=1) for number in range(1, 4))
    policy = replace(POLICY, max_wasted_rounds=2)
    check_wasted(Account(entries=trained[:2]), policy)
    with pytest.raises(PolicyRefusalError, match="never finished"):
        check_wasted(Account(entries=trained), policy)
    check_wasted(Account(entries=trained, finished=frozenset({("run-1", 2)})), policy)


def test_after_a_step_without_noise_no_private_run_is_accepted() -> None:
    assert code(booked=(booked(mechanism="none", noise_multiplier=0.0),)) == "P_BUDGET"


def test_a_run_without_privacy_needs_the_sites_consent_and_the_other_rules_still_hold() -> None:
    willing = replace(POLICY, allow_without_privacy=True)
    assert check(without_privacy(), policy=willing)
    assert code(without_privacy(), policy=replace(willing, min_patients=502)) == "P_FLOOR"
    assert code(without_privacy(), policy=replace(willing, min_cohort=4)) == "P_COHORT"


def test_a_base_model_other_than_the_one_on_disk_is_refused_even_if_allowed() -> None:
    assert code(policy=replace(POLICY, allowed_base_models=[BASE.hex()]), base_model_hash=bytes(32)) == "P_BASE_MODEL"


def test_a_manifest_may_not_plan_more_than_the_epsilon_it_names() -> None:
    assert check(replace(MANIFEST, target_epsilon=PLANNED))
    assert code(replace(MANIFEST, target_epsilon=0.999 * PLANNED)) == "P_BUDGET"


def plan(round_number: int, stage: int) -> Plan:
    return Plan(
        federation_id="consortium", run_id="run-1", roster_hash=ROSTER.hash(), manifest_hash=MANIFEST.hash(),
        round=round_number, attempt=1, stage=stage, factor="B", model_hash=bytes(32), dimension=5, num_lanes=3, bits=24,
        scale=2.0**18, saturation=4.0)


def allowed(manifest: RunManifest, stage: int, *spent: LedgerEntry) -> list[int]:
    """The round numbers that `stage` may have."""
    found = []
    for number in range(12):
        try:
            check_schedule(plan(number, stage), manifest, spent)
            found.append(number)
        except FaultyCoordinatorError as refusal:
            assert (refusal.code, refusal.blamed) == ("E_MANIFEST", "coordinator")
    return found


def test_stages_come_in_order_and_have_their_rounds_only() -> None:
    assert allowed(MANIFEST, 0) == [1, 2, 3, 4]
    assert allowed(MANIFEST, 1) == [5, 6, 7, 8]


def test_a_stage_with_a_stop_rule_may_end_early_but_not_before_the_rule_can_speak() -> None:
    stages = (replace(STAGE, stop=StopRule(1, 0.1)), MANIFEST.stages[1])
    assert allowed(replace(MANIFEST, stages=stages), 1) == [3, 4, 5, 6, 7, 8]


def test_a_stage_that_was_left_does_not_come_back() -> None:
    stages = (replace(STAGE, stop=StopRule(1, 0.1)), MANIFEST.stages[1])
    manifest, later = replace(MANIFEST, stages=stages), booked(run_id="run-1", round=3, stage=1)
    assert allowed(manifest, 0) == [1, 2, 3, 4] and allowed(manifest, 0, later) == []
    assert allowed(manifest, 1, later) == [3, 4, 5, 6, 7, 8]


def test_every_entry_of_a_stage_uses_up_one_of_its_rounds() -> None:
    spent = [booked(run_id="run-1", round=1, attempt=attempt, stage=0) for attempt in range(1, 4)]
    check_rounds_left(plan(2, 0), MANIFEST, spent)
    with pytest.raises(PolicyRefusalError, match="privacy budget"):
        check_rounds_left(plan(2, 0), MANIFEST, [*spent, booked(run_id="run-1", round=2, stage=0)])
    check_rounds_left(plan(5, 1), MANIFEST, spent)


def test_the_key_agreement_must_be_one_that_the_roster_allows() -> None:
    hybrid = replace(MANIFEST, suite="x25519-mlkem768")
    assert code(hybrid) == "P_SUITE"


def test_sixteen_bits_need_noise_that_hides_the_rounding() -> None:
    compact = replace(MANIFEST, bits=16)
    assert check(compact).site_id == "site-1"
    assert code(replace(compact, saturation=16.0)) == "P_RING"
    assert check(replace(MANIFEST, saturation=16.0)).site_id == "site-1"
    assert code(replace(compact, sites=with_terms(weight=0.01).sites)) == "P_RING"


# ------------------------------------------------------------------ everything that refuses, for the operator


def every_refusal(manifest: RunManifest = MANIFEST, *, policy: PolicyConfig = POLICY) -> tuple[str, ...]:
    account = Account(limits=Limits(policy.max_epsilon, delta_cap(policy, 501)))
    return refusals(manifest, policy=policy, roster=ROSTER, site_id="site-1", base_model_hash=BASE, account=account)


def test_the_operator_sees_every_rule_that_refuses_not_only_the_first() -> None:
    assert every_refusal() == ()
    strict = replace(POLICY, allowed_groups=["attention"], max_rounds=7, min_noise_multiplier=1.3)
    assert every_refusal(replace(MANIFEST, release="another"), policy=strict) == (
        "P_RELEASE", "P_ROUNDS", "P_GROUP", "P_NOISE")
    assert every_refusal(policy=replace(POLICY, max_epsilon=0.99 * PLANNED)) == ("P_BUDGET",)
    assert every_refusal(replace(MANIFEST, target_epsilon=0.9 * PLANNED)) == ("P_BUDGET",)
    assert every_refusal(policy=replace(POLICY, max_total_delta=9e-6)) == ("P_DELTA",)
    assert every_refusal(replace(MANIFEST, sites=MANIFEST.sites[2:])) == ("P_TERMS",)
    assert every_refusal(with_terms(declared_patients=502)) == ("P_TERMS",)


def test_what_it_lists_first_is_what_the_coordinator_is_told() -> None:
    for manifest, policy in ((replace(MANIFEST, release="another"), POLICY), (with_stage(noise_multiplier=0.2), POLICY),
                             (without_privacy(), POLICY), (MANIFEST, replace(POLICY, max_rounds=7))):
        assert every_refusal(manifest, policy=policy)[0] == code(manifest, policy=policy)


# ------------------------------------------------------------------ bytes and hours


def test_an_upload_may_be_as_large_as_the_policy_says_and_no_larger() -> None:
    policy = replace(POLICY, max_upload_mb=3.0)  # 3,000,000 bytes
    check_upload(1_000_000, 24, policy)
    check_upload(750_000, 32, policy)
    for dimension, bits in ((1_000_001, 24), (750_001, 32)):
        with pytest.raises(PolicyRefusalError, match="upload is larger"):
            check_upload(dimension, bits, policy)


def open_hours(*spans: str) -> list[str]:
    """The half hours of a day in which a training may begin."""
    allowed = []
    for minute in range(0, 24 * 60, 30):
        now = datetime(2026, 1, 1, minute // 60, minute % 60)
        try:
            check_hours(now, replace(POLICY, working_hours=list(spans)))
        except PolicyRefusalError as refusal:
            assert refusal.code == "P_HOURS"
        else:
            allowed.append(now.strftime("%H:%M"))
    return allowed


def test_working_hours_may_cross_midnight_and_be_several() -> None:
    assert len(open_hours()) == 48
    assert open_hours("08:00-09:30") == ["08:00", "08:30", "09:00"]
    assert open_hours("23:00-01:00") == ["00:00", "00:30", "23:00", "23:30"]
    assert open_hours("23:30-00:00") == ["23:30"]
    assert open_hours("00:00-00:30", "12:00-12:30") == ["00:00", "12:00"]


def test_the_last_minute_counts_and_the_end_does_not() -> None:
    night = replace(POLICY, working_hours=["22:00-06:00"])
    for allowed in (datetime(2026, 1, 1, 22, 0), datetime(2026, 1, 1, 5, 59, 59)):
        check_hours(allowed, night)
    for refused in (datetime(2026, 1, 1, 21, 59, 59), datetime(2026, 1, 1, 6, 0)):
        with pytest.raises(PolicyRefusalError, match="other hours"):
            check_hours(refused, night)
