"""Every refusal of R5, by itself: the result, its attestations, and the first message of the next round."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from privacy.errors import FaultyCoordinatorError
from privacy.identity import Roster, RosterSite, SigningKey
from privacy.messages import Attest, GateOutcome, Plan, Result, RoundStart, SignedPlan, SignedResult
from privacy.results import (
    RoundView,
    check_attests,
    check_result,
    check_round_start,
    open_result,
    open_round_start,
    quorum,
)

IDS = tuple(f"site-{number}" for number in range(1, 8))
CTX, H3, MODEL = (hashlib.sha256(name).digest() for name in (b"ctx", b"h3", b"model"))


def key_of(name: str) -> SigningKey:
    return SigningKey.from_private_bytes(hashlib.sha256(name.encode()).digest())


COORDINATOR = key_of("coordinator")
ROSTER = Roster(
    "fed", 1, COORDINATOR.public_bytes(),
    tuple(RosterSite(site, key_of(site).public_bytes(), 100) for site in IDS), 3, 0.5)
RESULT = Result("run", 4, CTX, H3, 6, IDS[:6], "B", MODEL, MODEL, MODEL, 3)  # |U1| = 6, so t = 5
PLAN = Plan("fed", "run", ROSTER.hash(), bytes(32), 5, 1, 0, "A", MODEL, 10, 3, 24, 4096.0, 4.0)


def signed_by(*sites: str, result: Result = RESULT) -> tuple[Attest, ...]:
    return tuple(Attest.make(site, result, key_of(site)) for site in sites)


def start(
    result: Result | None = RESULT, attests: tuple[Attest, ...] | None = None, key: SigningKey = COORDINATOR,
    **plan: Any
) -> RoundStart:
    made = SignedPlan.signed(COORDINATOR, (), plan=replace(PLAN, **plan))
    if result is None:
        return RoundStart(made)
    given = signed_by(*IDS[:5], result=result) if attests is None else attests
    return RoundStart(made, SignedResult.make(result, key), given)


def refusal(work: Callable[..., object], *values: Any) -> str:
    with pytest.raises(FaultyCoordinatorError) as failure:
        work(*values)
    return failure.value.code


def check(message: RoundStart, newest: Result | None = None) -> None:
    check_round_start(open_round_start(message.to_bytes()), ROSTER, newest)


# ------------------------------------------------------------------ what is accepted


def test_a_quorum_of_survivors_carries_a_result_and_a_newcomer_accepts_it() -> None:
    assert quorum(RESULT, ROSTER) == 5
    check(start())
    check(start(), RESULT)
    check(start(), replace(RESULT, round=3))
    check(start(None))


def test_a_small_cohort_needs_more_attestations_than_sites_may_collude() -> None:
    roster = replace(ROSTER, sites=ROSTER.sites[:6], min_fraction=0.5)
    assert roster.floor(4) == 4 and roster.threshold(4) == 3 and 2 * roster.threshold(6) - 6 - 1 == 3
    assert quorum(replace(RESULT, announced=4, survivors=IDS[:4]), roster) == 4


def test_a_site_that_confirmed_another_list_of_that_attempt_does_not_go_on() -> None:
    message = open_round_start(start().to_bytes())
    check_round_start(message, ROSTER, None, RoundView(RESULT.ctx, h3=RESULT.h3))
    check_round_start(message, ROSTER, None, RoundView(RESULT.ctx))  # masked, and heard no more
    check_round_start(message, ROSTER, None, RoundView(b"\x07" * 32, h3=b"\x08" * 32))  # another attempt
    view = RoundView(RESULT.ctx, h3=b"\x08" * 32)
    assert refusal(check_round_start, message, ROSTER, None, view) == "E_RESULT_MISMATCH"


# ------------------------------------------------------------------ attestations


@pytest.mark.parametrize("attests", [
    pytest.param(signed_by(*IDS[:4]), id="one short"),
    pytest.param((), id="none"),
    pytest.param((*signed_by(*IDS[:4]), *signed_by(*IDS[:1])), id="one twice"),
    pytest.param(signed_by(*IDS[:4], "site-7"), id="one from outside U3"),
    pytest.param((*signed_by(*IDS[:4]), Attest.make("site-5", RESULT, key_of("site-6"))), id="another's key"),
    pytest.param((*signed_by(*IDS[:4]), *signed_by("site-5", result=replace(RESULT, round=3))), id="another round"),
    pytest.param((*signed_by(*IDS[:4]), *signed_by("site-5", result=replace(RESULT, ctx=H3))), id="another context"),
    pytest.param((*signed_by(*IDS[:4]), *signed_by("site-5", result=replace(RESULT, h3=CTX))), id="another U3"),
    pytest.param((*signed_by(*IDS[:4]), *signed_by("site-5", result=replace(RESULT, state_hash=CTX))), id="a state"),
    pytest.param((*signed_by(*IDS[:4]), *signed_by("site-5", result=replace(RESULT, sum_hash=CTX))), id="a sum"),
    pytest.param((*signed_by(*IDS[:4]), *signed_by("site-5", result=replace(RESULT, finished=9))), id="a count"),
])
def test_what_is_no_attestation_of_a_survivor_for_this_result_does_not_count(attests: tuple[Attest, ...]) -> None:
    assert refusal(check_attests, RESULT, attests, ROSTER) == "E_ATTEST"
    assert refusal(check, start(attests=attests)) == "E_ATTEST"
    check_attests(RESULT, (*attests, *signed_by(*IDS[:5])), ROSTER)  # nor does it stand in the way


@pytest.mark.parametrize("changed", [
    {"announced": 8, "survivors": IDS},            # more than the roster has
    {"announced": 3, "survivors": IDS[:3]},        # below the roster's fraction, where three could speak for all
    {"announced": 6, "survivors": IDS[:4]},        # below the threshold of those that announced
])
def test_a_cohort_that_cannot_be_is_refused_whoever_signs(changed: dict[str, Any]) -> None:
    result = replace(RESULT, **changed)
    assert refusal(check_attests, result, signed_by(*result.survivors, result=result), ROSTER) == "E_ATTEST"


def test_a_survivor_that_is_not_on_the_roster_is_no_witness() -> None:
    result = replace(RESULT, survivors=(*IDS[:4], "sybil", "sybil-2"))
    attests = signed_by(*result.survivors, result=result)
    assert refusal(check_attests, result, attests, ROSTER) == "E_ATTEST"


@pytest.mark.parametrize("survivors", [("site-2", "site-1"), ("site-1", "site-1")])
def test_survivors_are_listed_once_and_in_order(survivors: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match="ascending"):
        replace(RESULT, survivors=survivors)


@pytest.mark.parametrize(("changed", "words"), [
    ({"run_id": "a run"}, "run_id"), ({"run_id": ""}, "run_id"), ({"round": -1}, "round"), ({"round": 2**32}, "round"),
    *(({name: size}, name) for name in ("ctx", "h3", "sum_hash", "model_hash", "state_hash")
      for size in (b"", bytes(31), bytes(33))),
    ({"finished": 0}, "finished"), ({"finished": 2**32}, "finished"), ({"survivors": ("../site",)}, "a survivor"),
    ({"announced": 5}, "announced"), ({"announced": 2**17}, "announced"), ({"tags": (bytes(8),) * 5}, "number of tags"),
    ({"tags": (bytes(7),)}, "a tag"), ({"tags": (bytes(8), bytes(9))}, "a tag"),
    ({"gates": (GateOutcome(0, 2, 0), GateOutcome(0, 2, 1))}, "gate outcomes"),
    ({"gates": (GateOutcome(0, 3, 0), GateOutcome(0, 2, 1))}, "gate outcomes"),
], ids=str)
def test_a_result_that_makes_no_sense_is_refused(changed: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        replace(RESULT, **changed)


@pytest.mark.parametrize("changed", [{"site_id": "a site"}, {"site_id": ""}, {"signature": bytes(63)}], ids=str)
def test_an_attestation_that_makes_no_sense_is_refused(changed: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(changed))):
        replace(signed_by("site-1")[0], **changed)


# ------------------------------------------------------------------ the next round's start


def test_a_result_that_the_coordinator_did_not_sign_is_refused() -> None:
    forged = start(key=key_of("site-1"))
    assert refusal(check, forged) == "E_SIG"
    assert forged.result is not None
    assert refusal(open_result, forged.result.to_bytes(), ROSTER) == "E_SIG"


@pytest.mark.parametrize("newest", [
    pytest.param(replace(RESULT, round=5), id="older than the newest known here: rollback of the model"),
    pytest.param(replace(RESULT, state_hash=CTX), id="another of the same round"),
])
def test_a_result_that_contradicts_the_newest_known_here_is_refused(newest: Result) -> None:
    assert refusal(check, start(round=9), newest) == "E_RESULT_MISMATCH"


def test_a_run_does_not_begin_anew() -> None:
    assert refusal(check, start(None), RESULT) == "E_RESULT_MISMATCH"


@pytest.mark.parametrize("changed", [{"round": 5}, {"round": 6}, {"run_id": "other"}])
def test_a_result_belongs_to_an_earlier_round_of_the_same_run(changed: dict[str, Any]) -> None:
    assert refusal(check, start(replace(RESULT, **changed))) == "E_RESULT_MISMATCH"


def test_the_plan_goes_on_from_the_model_of_the_result() -> None:
    assert refusal(check, start(model_hash=CTX)) == "E_MODEL_HASH"


@pytest.mark.parametrize("opener", [open_round_start, lambda data: open_result(data, ROSTER)])
def test_bytes_that_are_no_message_are_the_coordinators_fault(opener: Callable[[bytes], object]) -> None:
    for data in (b"", b"\xff" * 40, SignedPlan.signed(COORDINATOR, (), plan=PLAN).to_bytes()):
        assert refusal(opener, data) == "E_FORMAT"


# ------------------------------------------------------------------ the result at a survivor

VIEW = RoundView(CTX, bytes(32), bytes(32), H3, 6, IDS[:6])


def test_a_result_of_the_round_that_was_confirmed_is_accepted() -> None:
    check_result(RESULT, VIEW, "B")


@pytest.mark.parametrize("changed", [
    {"ctx": H3}, {"h3": CTX}, {"announced": 7}, {"survivors": IDS[:5]}, {"factor": "A"}])
def test_a_result_of_another_cohort_or_context_is_refused(changed: dict[str, Any]) -> None:
    assert refusal(check_result, replace(RESULT, **changed), VIEW, "B") == "E_RESULT_MISMATCH"


def test_without_a_confirmed_survivor_list_there_is_nothing_to_attest() -> None:
    assert refusal(check_result, RESULT, replace(VIEW, h3=b""), "B") == "E_STAGE"
