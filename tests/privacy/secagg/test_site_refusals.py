"""A coordinator that lies: every check a site makes, one test each; removing a check must fail its test."""

from __future__ import annotations

from dataclasses import replace

import pytest

from privacy.errors import CohortTooSmallError, FaultyCoordinatorError, FaultySiteError
from privacy.identity import SigningKey
from privacy.messages import (
    Advertise,
    AdvertiseList,
    Confirm,
    ConfirmList,
    EnvelopeList,
    MaskedHeader,
    MaskedList,
    SignedPlan,
)
from privacy.secagg.client import SiteRound
from privacy.secagg.keys import is_weak

ME, PEER = "site-001", "site-002"
LISTS = {1: AdvertiseList, 2: EnvelopeList, 3: MaskedList, 4: ConfirmList}


def entries(session, step, site=ME):
    return list(LISTS[step].from_bytes(session.inbox[site]).entries)


def give(session, step, changed, site=ME):
    """Hand `site` a list of the given entries instead of the honest one."""
    session.inbox[site] = LISTS[step](tuple(changed)).to_bytes()
    return session.reply(step, site)


def assert_refused(session, step, changed, code, site=ME):
    with pytest.raises(FaultyCoordinatorError) as refusal:
        give(session, step, changed, site)
    assert (refusal.value.code, refusal.value.blamed) == (code, "coordinator")
    assert_wiped(session.sites[site])


def assert_wiped(machine):
    assert machine.state == "aborted"
    secrets = (machine._seed, machine._mask_pair, machine._channel_pair, machine._vector, machine._answered)
    assert secrets == (None,) * 5 and machine._dealt == {}


def plan_refusal(federation, *, last=None, roster=None, manifest=None, signer=None, **changes):
    """The code with which a site refuses the plan that has these changes."""
    key = signer or federation.coordinator_key
    signed = SignedPlan.signed(key, (), plan=federation.plan(**changes)).to_bytes()
    with pytest.raises(FaultyCoordinatorError) as refusal:
        SiteRound.check_plan(
            signed, roster=roster or federation.roster, manifest=manifest or federation.manifest, last=last
        )
    return refusal.value.code


# R0


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
    assert plan_refusal(federation, signer=federation.keys[PEER]) == "E_PLAN_SIG"


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


# R1


def test_key_substitution(session):
    session.run_to(1)
    adverts = entries(session, 1)
    adverts[1] = replace(adverts[1], mask_key=bytes([9] * 32))
    assert_refused(session, 1, adverts, "E_SIG")


def test_key_substitution_signed_by_the_coordinator(session, federation):
    session.run_to(1)
    adverts = entries(session, 1)
    adverts[1] = Advertise.signed(
        federation.coordinator_key, (session.plan.context(),), site_id=PEER, channel_key=bytes([8] * 32),
        mask_key=bytes([9] * 32),
    )  # fmt: skip
    assert_refused(session, 1, adverts, "E_SIG")


def sybil(ctx):
    key = SigningKey.from_private_bytes(bytes([7] * 32))
    return Advertise.signed(key, (ctx,), site_id="sybil", channel_key=bytes([8] * 32), mask_key=bytes([9] * 32))


def test_sybil(session):
    session.run_to(1)
    invented = sybil(session.plan.context())
    assert_refused(session, 1, [*entries(session, 1), invented], "E_UNKNOWN_SITE")


def test_site_of_the_roster_that_has_no_terms_in_the_manifest(make_federation):
    federation = make_federation(6)
    manifest = replace(federation.manifest, sites=federation.manifest.sites[:5])
    session = federation.session()
    session.sites[ME]._manifest = manifest
    session.run_step(0)
    assert_refused(session, 1, entries(session, 1), "E_UNKNOWN_SITE")


def test_duplicate_announcement(session):
    session.run_to(1)
    adverts = entries(session, 1)
    assert_refused(session, 1, [*adverts, adverts[1]], "E_DUP_SITE")


def test_two_sites_with_one_key(session, federation):
    session.run_to(1)
    adverts = entries(session, 1)
    adverts[1] = Advertise.signed(
        federation.keys[PEER], (session.plan.context(),), site_id=PEER, channel_key=adverts[2].channel_key,
        mask_key=adverts[1].mask_key,
    )  # fmt: skip
    assert_refused(session, 1, adverts, "E_DUP_KEY")


def test_low_order_key(session, federation):
    session.run_to(1)
    adverts = entries(session, 1)
    assert is_weak(bytes(32)) and not is_weak(adverts[0].mask_key)
    adverts[1] = Advertise.signed(
        federation.keys[PEER], (session.plan.context(),), site_id=PEER, channel_key=adverts[1].channel_key,
        mask_key=bytes(32),
    )  # fmt: skip
    with pytest.raises(FaultySiteError) as refusal:
        give(session, 1, adverts)
    assert (refusal.value.code, refusal.value.blamed) == ("E_WEAK_KEY", PEER)
    assert_wiped(session.sites[ME])


def test_stale_announcement_of_an_earlier_attempt(session, federation):
    session.run_to(1)
    later = federation.session(plan=federation.plan(attempt=2), salt="later").run_to(1)
    stale = entries(session, 1)[1]
    adverts = entries(later, 1)
    adverts[1] = stale
    assert_refused(later, 1, adverts, "E_SIG")


def test_own_announcement_missing_or_swapped(session, federation):
    session.run_to(1)
    assert_refused(session, 1, entries(session, 1)[1:], "E_SELF_MISSING")
    other = federation.session(salt="other").run_to(1)
    adverts = entries(other, 1)
    adverts[0] = federation.site(ME, salt="third")._announce(other.plan, None, b"").header
    adverts[0] = Advertise.from_bytes(adverts[0])  # validly signed by us, but not what this machine announced
    assert_refused(other, 1, adverts, "E_SELF_MISSING")


def test_small_cohort_at_each_list(make_federation):
    federation = make_federation(5, min_fraction=0.9)  # all five
    for step in (1, 2, 3):
        session = federation.session().run_to(step)
        with pytest.raises(CohortTooSmallError) as refusal:
            give(session, step, entries(session, step)[:-1])
        assert (refusal.value.code, refusal.value.blamed) == ("E_COHORT_SMALL", "nobody")
        assert_wiped(session.sites[ME])


def test_threshold_is_computed_from_the_announcements(make_federation):
    federation = make_federation(8)  # t(8) = 6, though the roster's own minimum is 3
    session = federation.session().run_to(2)
    with pytest.raises(CohortTooSmallError):
        give(session, 2, entries(session, 2)[:5])


# R2


def test_different_views_of_u1(federation):
    """Two halves of the federation are shown different sets of keys: their envelopes do not fit together."""
    session = federation.session().run_to(1)
    adverts = entries(session, 1)
    give(session, 1, adverts[:4])  # this site believes in four
    honest = {site: session.reply(1, site) for site in session.ids[1:]}
    mine = [
        envelope
        for reply in honest.values()
        for envelope in EnvelopeList.from_bytes(reply).entries
        if envelope.recipient == ME
    ]
    own = [e for e in EnvelopeList.from_bytes(session.sites[ME]._answered[1].header).entries if e.recipient == ME]
    assert_refused(session, 2, own + mine[:3], "E_SIG")


def test_envelope_from_a_site_that_announced_nothing(session):
    session.run_to(2)
    invented = sybil(session.plan.context())
    envelope = replace(entries(session, 2)[1], sender=invented.site_id)
    assert_refused(session, 2, [*entries(session, 2), envelope], "E_U2_SUBSET")


def test_duplicate_envelope(session):
    session.run_to(2)
    envelopes = entries(session, 2)
    assert_refused(session, 2, [*envelopes, envelopes[1]], "E_DUP_SITE")


def test_dealer_list_without_this_site(session):
    session.run_to(2)
    assert_refused(session, 2, entries(session, 2)[1:], "E_SELF_DROPPED")


def test_envelope_for_somebody_else(session):
    session.run_to(2)
    envelopes = entries(session, 2)
    envelopes[1] = entries(session, 2, PEER)[1]
    assert envelopes[1].sender == PEER and envelopes[1].recipient == PEER
    assert_refused(session, 2, envelopes, "E_SIG")


def test_tampered_envelope_is_the_coordinators_fault_not_the_dealers(session):
    session.run_to(2)
    envelopes = entries(session, 2)
    envelopes[1] = replace(envelopes[1], ciphertext=bytes(82))
    assert_refused(session, 2, envelopes, "E_SIG")


def test_stale_envelope_of_another_attempt(session, federation):
    session.run_to(2)
    later = federation.session(plan=federation.plan(attempt=2), salt="later").run_to(2)
    envelopes = entries(later, 2)
    envelopes[1] = entries(session, 2)[1]
    assert_refused(later, 2, envelopes, "E_SIG")


# R3


def test_different_views_of_u2(session):
    """This site is shown four dealers, the others five: their uploads do not verify here."""
    session.run_to(2)
    give(session, 2, entries(session, 2)[:4])
    headers = []
    for site in session.ids[1:]:
        headers.append(MaskedHeader.from_bytes(session.reply(2, site)[0]))
    own = MaskedHeader.from_bytes(session.sites[ME]._answered[1].header)
    assert_refused(session, 3, [own, *headers[:3]], "E_SIG")


def test_masks_do_not_cancel_between_different_views_of_u2(session):
    session.run_to(2)
    give(session, 2, entries(session, 2)[:4])
    mine = session.sites[ME]._answered[1].vector
    others = [session.reply(2, site)[1] for site in session.ids[1:4]]
    assert len({upload.tobytes() for upload in [mine, *others]}) == 4


def test_forged_survivor(session, federation):
    session.run_to(3)
    headers = entries(session, 3)
    forged = replace(headers[1], upload_hash=bytes(32))
    assert_refused(session, 3, [headers[0], forged, *headers[2:]], "E_SIG")


def test_survivor_that_dealt_no_shares(make_federation):
    federation = make_federation(5)
    session = federation.session()
    session.run_step(0)
    session.run_step(1, silent={"site-005"})
    session.run_step(2)
    headers = entries(session, 3)
    invented = replace(headers[1], site_id="site-005")
    assert_refused(session, 3, [*headers, invented], "E_U3_SUBSET")


def test_duplicate_survivor(session):
    session.run_to(3)
    headers = entries(session, 3)
    assert_refused(session, 3, [*headers[:3], headers[1]], "E_DUP_SITE")


def test_survivor_list_without_this_site(session):
    session.run_to(3)
    assert_refused(session, 3, entries(session, 3)[1:], "E_SELF_DROPPED")


# R4


def test_quorum_short(session):
    session.run_to(4)
    assert_refused(session, 4, entries(session, 4)[:3], "E_QUORUM")  # t(5) = 4


def test_quorum_inflated_by_duplicates(session):
    session.run_to(4)
    confirms = entries(session, 4)[:3]
    assert_refused(session, 4, [*confirms, *confirms], "E_QUORUM")


def test_quorum_inflated_by_outsiders_and_bad_signatures(session, federation):
    session.run_to(4)
    confirms = entries(session, 4)
    outsider = replace(confirms[3], site_id="sybil")
    broken = replace(confirms[4], signature=bytes(64))
    assert_refused(session, 4, [*confirms[:3], outsider, broken], "E_QUORUM")


def test_confirmation_by_a_site_outside_u3_does_not_count(make_federation):
    federation = make_federation(5)
    session = federation.session()
    session.run_to(2)
    session.run_step(2, silent={"site-005"})
    session.run_step(3)
    me = session.sites[ME]
    outside = Confirm.signed(
        federation.keys["site-005"], (session.plan.context(), me._h3), site_id="site-005"
    )
    assert_refused(session, 4, [*entries(session, 4)[:3], outside], "E_QUORUM")


def test_different_views_of_u3(federation):
    """Two overlapping survivor lists, each above the floor: no site can be given a quorum for both."""
    session = federation.session().run_to(3)
    headers = entries(session, 3)
    left, right = headers[:4], headers[1:]
    confirms = {"left": [], "right": []}
    for site in session.ids[:3]:
        confirms["left"].append(Confirm.from_bytes(give(session, 3, left, site)))
    for site in session.ids[3:]:
        confirms["right"].append(Confirm.from_bytes(give(session, 3, right, site)))
    everything = confirms["left"] + confirms["right"]
    for site in session.ids:
        assert_refused(session, 4, everything, "E_QUORUM", site)


def test_a_site_never_reveals_both_shares_of_one_dealer(federation):
    session = federation.session()
    session.run_to(2)
    session.run_step(2, silent={"site-004"})
    session.run_step(3)
    machine = session.sites[ME]
    own, keys = machine._reveal()
    assert {share.dealer for share in own} == set(session.ids) - {"site-004"}
    assert {share.dealer for share in keys} == {"site-004"}


# states


def test_unmask_twice(session):
    session.run_to(4)
    confirms = entries(session, 4)
    first = give(session, 4, confirms)
    assert give(session, 4, confirms) == first  # an identical redelivery
    with pytest.raises(FaultyCoordinatorError) as refusal:
        give(session, 4, confirms[:4])  # also a quorum, but another request
    assert refusal.value.code == "E_STAGE"
    assert session.sites[ME]._dealt == {}


@pytest.mark.parametrize("step", [1, 2, 3, 4])
def test_identical_redelivery_repeats_the_identical_reply(session, step):
    session.run_to(step)
    first, again = session.reply(step, ME), session.reply(step, ME)
    if step == 2:
        assert first[0] == again[0] and first[1] is again[1]
    else:
        assert first == again


@pytest.mark.parametrize("step", [1, 2, 3, 4])
def test_other_bytes_for_an_answered_step_are_refused_without_a_new_reply(session, step):
    session.run_to(step)
    session.reply(step, ME)
    changed = list(reversed(entries(session, step)))
    with pytest.raises(FaultyCoordinatorError) as refusal:
        give(session, step, changed)
    assert refusal.value.code == "E_STAGE"
    assert session.sites[ME].state == ("shared", "masked", "confirmed", "done")[step - 1]


def test_messages_out_of_order(session):
    machine = session.sites[ME]
    for early in (machine.share, machine.mask, machine.confirm, machine.unmask):
        with pytest.raises(FaultyCoordinatorError) as refusal:
            early(b"")
        assert refusal.value.code == "E_STAGE"


@pytest.mark.parametrize("step", [1, 2, 3, 4])
def test_undecodable_message(session, step):
    session.run_to(step)
    session.inbox[ME] = session.inbox[ME][:-1]
    with pytest.raises(FaultyCoordinatorError) as refusal:
        session.reply(step, ME)
    assert refusal.value.code == "E_FORMAT"
    assert_wiped(session.sites[ME])


def test_a_vector_of_another_shape_or_ring_is_refused_locally(federation, make_federation):
    session = federation.session()
    wide = make_federation(5, dimension=7).session()
    coarse = make_federation(5, bits=16).session()
    few = make_federation(4).session()
    for other in (wide, coarse, few):
        with pytest.raises(ValueError, match="vector"):
            session.sites[ME].advertise(session.plan, other.vectors[ME])


@pytest.mark.parametrize(("site", "key", "reason"), [("site-999", ME, "roster"), (ME, PEER, "signing key")])
def test_a_site_must_be_on_the_roster_with_its_own_key(federation, site, key, reason):
    with pytest.raises(ValueError, match=reason):
        SiteRound(
            site_id=site, signing_key=federation.keys[key], roster=federation.roster,
            manifest=federation.manifest, entropy=None,
        )  # fmt: skip


# hooks


def test_nothing_is_masked_when_the_spent_round_cannot_be_recorded(session, federation):
    session.run_to(2)
    machine = session.sites[ME]
    values = session.vectors[ME].values.copy()

    def disk_full():
        raise OSError

    machine.on_masking = disk_full
    with pytest.raises(OSError):
        session.reply(2, ME)
    assert_wiped(machine)
    assert (session.vectors[ME].values == values).all()


def test_hooks_run_once_and_before_the_bytes_exist(session):
    calls = []
    machine = session.sites[ME]
    values = session.vectors[ME].values
    plain = values.copy()
    machine.on_masking = lambda: calls.append(("masking", (values == plain).all()))
    machine.on_unmasking = lambda: calls.append(("unmasking", len(machine._dealt)))
    session.run_to(4)
    session.reply(4, ME)
    session.reply(4, ME)
    assert calls == [("masking", True), ("unmasking", 5)]


def test_own_secrets_are_gone_after_masking_and_shares_after_unmasking(session):
    session.run_to(3)
    machine = session.sites[ME]
    assert (machine._seed, machine._mask_pair, machine._channel_pair, machine._vector) == (None,) * 4
    assert machine._dealt
    session.run_step(3)
    session.reply(4, ME)
    assert machine._dealt == {}
