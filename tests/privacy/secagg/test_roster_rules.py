"""What the roster's newer rules do to a round: suspended sites, federations of two, and a bound on the vector."""

from __future__ import annotations

from dataclasses import replace

import pytest

from privacy.errors import CohortTooSmallError, FaultyCoordinatorError, FaultySiteError
from privacy.messages import Advertise, LedgerMark, SignedPlan
from privacy.secagg.client import SiteRound
from privacy.secagg.params import ring_params

ME, GONE = "site-001", "site-006"


def with_roster(federation, roster, ids):
    """The federation under another roster; `ids` take part."""
    federation.roster, federation.ids = roster, ids
    federation.manifest = replace(federation.manifest, roster_hash=roster.hash())
    return federation


@pytest.fixture
def one_suspended(make_federation):
    """Six sites on the roster and in the manifest, the last one suspended."""
    federation = make_federation(6, min_fraction=0.8)
    sites = tuple(replace(s, status="suspended") if s.site_id == GONE else s for s in federation.roster.sites)
    return with_roster(federation, replace(federation.roster, version=2, sites=sites), federation.ids[:5])


def advert_of_the_suspended(federation, ctx):
    key = federation.keys[GONE]
    return Advertise.signed(key, (ctx,), site_id=GONE, channel_key=bytes([8] * 32), mask_key=bytes([9] * 32),
                            mark=LedgerMark.empty(GONE, "fed", key))


def test_a_suspended_site_in_the_cohort_is_refused(one_suspended):
    session = one_suspended.session().run_to(1)
    listed = [*session.entries(1, ME), advert_of_the_suspended(one_suspended, session.plan.context())]
    assert session.refusal(1, listed, ME) == ("E_UNKNOWN_SITE", "coordinator")


def test_the_coordinator_neither_waits_for_nor_takes_a_suspended_site(one_suspended):
    session = one_suspended.session()
    assert GONE not in session.coordinator.waiting and len(session.coordinator.waiting) == 5
    advert = advert_of_the_suspended(one_suspended, session.plan.context())
    with pytest.raises(FaultySiteError) as refusal:
        session.deliver(0, GONE, advert.to_bytes())
    assert refusal.value.code == "E_STAGE"


def test_a_suspended_site_opens_no_round_and_the_others_reach_their_sum(one_suspended):
    with pytest.raises(ValueError, match="not active"):
        one_suspended.site(GONE)
    session = one_suspended.session().run_to(5)
    assert (session.finish() == session.plain_sum(one_suspended.ids)).all()


def test_the_floor_is_a_fraction_of_the_active_sites(one_suspended):
    roster = one_suspended.roster
    assert roster.floor(3) == 4  # ceil(0.8 * 5), not ceil(0.8 * 6)
    assert len(roster.site_ids) == 6 and roster.active_ids == one_suspended.ids


def test_the_ring_has_room_for_the_whole_roster(one_suspended):
    """Sized for six, so that the scale does not change when a site is suspended or comes back."""
    roomy = ring_params(24, 2.0, 5)
    assert one_suspended.ring.scale <= roomy.scale
    plan = one_suspended.plan(scale=2.0 * one_suspended.ring.scale)
    signed = SignedPlan.signed(one_suspended.coordinator_key, (), plan=plan).to_bytes()
    with pytest.raises(FaultyCoordinatorError) as refusal:
        SiteRound.check_plan(signed, roster=one_suspended.roster, manifest=one_suspended.manifest, last=None)
    assert refusal.value.code == "E_PARAMS"


@pytest.fixture
def two(make_federation):
    federation = make_federation(3)
    roster = replace(federation.roster, sites=federation.roster.sites[:2], min_cohort=2, two_sites=True)
    federation.ring = ring_params(24, 2.0, 2)
    federation.manifest = replace(federation.manifest, sites=federation.manifest.sites[:2])
    return with_roster(federation, roster, federation.ids[:2])


def test_two_sites_reach_their_sum_and_tolerate_no_loss(two):
    assert (two.roster.threshold(2), two.roster.floor(2)) == (2, 2)
    session = two.session().run_to(5)
    assert (session.finish() == session.plain_sum(two.ids)).all()
    for step in range(4):
        broken = two.session().run_to(step)
        with pytest.raises(CohortTooSmallError):
            broken.run_step(step, silent=["site-002"])
    last = two.session().run_to(4)
    last.run_step(4, silent=["site-002"])
    with pytest.raises(CohortTooSmallError):
        last.finish()


def test_a_site_of_two_never_goes_on_alone(two):
    session = two.session().run_to(1)
    own = [advert for advert in session.entries(1, ME) if advert.site_id == ME]
    assert session.refusal(1, own, ME) == ("E_COHORT_SMALL", "nobody")


@pytest.mark.parametrize(("most", "fits"), [(6, True), (5, False)])
def test_a_plan_longer_than_the_roster_allows_is_refused(federation, most, fits):
    roster = replace(federation.roster, max_dimension=most)
    manifest = replace(federation.manifest, roster_hash=roster.hash())
    plan = federation.plan(roster_hash=roster.hash(), manifest_hash=manifest.hash())
    signed = SignedPlan.signed(federation.coordinator_key, (), plan=plan).to_bytes()
    if fits:
        assert SiteRound.check_plan(signed, roster=roster, manifest=manifest, last=None) == plan
        return
    with pytest.raises(FaultyCoordinatorError) as refusal:
        SiteRound.check_plan(signed, roster=roster, manifest=manifest, last=None)
    assert refusal.value.code == "E_PARAMS"
