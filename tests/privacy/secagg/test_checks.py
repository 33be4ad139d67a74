"""R1 to R4: a coordinator that lies in its lists. One test a check; removing a check must fail its test."""

from __future__ import annotations

from dataclasses import replace

import pytest

from privacy.identity import SigningKey
from privacy.messages import Advertise, Confirm, EnvelopeList, LedgerMark, MaskedHeader
from privacy.secagg.keys import is_weak

ME, PEER = "site-001", "site-002"

# R1


def test_key_substitution(session):
    session.run_to(1)
    adverts = session.entries(1, ME)
    adverts[1] = replace(adverts[1], mask_key=bytes([9] * 32))
    assert session.refusal(1, adverts, ME) == ("E_SIG", "coordinator")


def test_key_substitution_signed_by_the_coordinator(session, federation):
    session.run_to(1)
    adverts = session.entries(1, ME)
    adverts[1] = Advertise.signed(
        federation.coordinator_key, (session.plan.context(),), site_id=PEER, channel_key=bytes([8] * 32),
        mask_key=bytes([9] * 32), mark=adverts[1].mark,
    )  # fmt: skip
    assert session.refusal(1, adverts, ME) == ("E_SIG", "coordinator")


def sybil(ctx):
    key = SigningKey.from_private_bytes(bytes([7] * 32))
    return Advertise.signed(key, (ctx,), site_id="sybil", channel_key=bytes([8] * 32), mask_key=bytes([9] * 32),
                            mark=LedgerMark.empty("sybil", "fed", key))


def test_sybil(session):
    session.run_to(1)
    invented = sybil(session.plan.context())
    assert session.refusal(1, [*session.entries(1, ME), invented], ME) == ("E_UNKNOWN_SITE", "coordinator")


def test_site_of_the_roster_that_has_no_terms_in_the_manifest(make_federation):
    federation = make_federation(6)
    manifest = replace(federation.manifest, sites=federation.manifest.sites[:5])
    session = federation.session()
    session.sites[ME]._manifest = manifest
    session.run_step(0)
    assert session.refusal(1, session.entries(1, ME), ME) == ("E_UNKNOWN_SITE", "coordinator")


def test_site_of_the_manifest_that_is_not_on_the_roster(session, federation):
    session.run_to(1)
    terms = replace(federation.manifest.sites[0], site_id="sybil")
    session.sites[ME]._manifest = replace(federation.manifest, sites=(*federation.manifest.sites, terms))
    invented = sybil(session.plan.context())
    assert session.refusal(1, [*session.entries(1, ME), invented], ME) == ("E_UNKNOWN_SITE", "coordinator")


def test_duplicate_announcement(session):
    session.run_to(1)
    adverts = session.entries(1, ME)
    assert session.refusal(1, [*adverts, adverts[1]], ME) == ("E_DUP_SITE", "coordinator")


def test_two_sites_with_one_key(session, federation):
    session.run_to(1)
    adverts = session.entries(1, ME)
    adverts[1] = Advertise.signed(
        federation.keys[PEER], (session.plan.context(),), site_id=PEER, channel_key=adverts[2].channel_key,
        mask_key=adverts[1].mask_key, mark=adverts[1].mark,
    )  # fmt: skip
    assert session.refusal(1, adverts, ME) == ("E_DUP_KEY", "coordinator")


@pytest.mark.parametrize("weak", ["channel_key", "mask_key"])
def test_low_order_key(session, federation, weak):
    session.run_to(1)
    adverts = session.entries(1, ME)
    assert is_weak(bytes(32)) and not is_weak(adverts[0].mask_key)
    keys = {"channel_key": adverts[1].channel_key, "mask_key": adverts[1].mask_key} | {weak: bytes(32)}
    adverts[1] = Advertise.signed(
        federation.keys[PEER], (session.plan.context(),), site_id=PEER, mark=adverts[1].mark, **keys
    )
    assert session.refusal(1, adverts, ME) == ("E_WEAK_KEY", PEER)


def test_the_mark_of_a_peers_ledger_signed_by_another(session, federation):
    session.run_to(1)
    adverts = session.entries(1, ME)
    forged = LedgerMark.make(PEER, 99, bytes([7] * 32), federation.roster.federation_id, federation.coordinator_key)
    adverts[1] = Advertise.signed(
        federation.keys[PEER], (session.plan.context(),), site_id=PEER, channel_key=adverts[1].channel_key,
        mask_key=adverts[1].mask_key, mark=forged,
    )  # fmt: skip
    assert session.refusal(1, adverts, ME) == ("E_SITE_SIG", PEER)


def test_no_share_is_dealt_before_the_peers_marks_are_kept(session):
    session.run_to(1)
    kept = []
    session.sites[ME].on_marks = kept.extend
    adverts = session.entries(1, ME)
    session.give(1, adverts, ME)
    assert kept == [advert.mark for advert in adverts]

    def fails(_):
        raise OSError("disk full")

    session.sites[PEER].on_marks = fails
    with pytest.raises(OSError, match="disk"):
        session.give(1, adverts, PEER)
    assert session.sites[PEER].state == "aborted"


def test_stale_announcement_of_an_earlier_attempt(session, federation):
    session.run_to(1)
    later = federation.session(plan=federation.plan(attempt=2), salt="later").run_to(1)
    stale = session.entries(1, ME)[1]
    adverts = later.entries(1, ME)
    adverts[1] = stale
    assert later.refusal(1, adverts, ME) == ("E_SIG", "coordinator")


def test_own_announcement_missing_or_swapped(session, federation):
    session.run_to(1)
    assert session.refusal(1, session.entries(1, ME)[1:], ME) == ("E_SELF_MISSING", "coordinator")
    other = federation.session(salt="other").run_to(1)
    adverts = other.entries(1, ME)
    adverts[0] = federation.site(ME, salt="third")._announce(other.plan, None, adverts[0].mark, b"").header
    adverts[0] = Advertise.from_bytes(adverts[0])  # validly signed by us, but not what this machine announced
    assert other.refusal(1, adverts, ME) == ("E_SELF_MISSING", "coordinator")


def test_small_cohort_at_each_list(make_federation):
    federation = make_federation(5, min_fraction=0.9)  # all five
    for step in (1, 2, 3):
        session = federation.session().run_to(step)
        short = session.entries(step, ME)[:-1]
        assert session.refusal(step, short, ME) == ("E_COHORT_SMALL", "nobody")


def test_threshold_is_computed_from_the_announcements(make_federation):
    federation = make_federation(8)  # t(8) = 6, though the roster's own minimum is 3
    session = federation.session().run_to(2)
    assert session.refusal(2, session.entries(2, ME)[:5], ME) == ("E_COHORT_SMALL", "nobody")


# R2


def test_different_views_of_u1(federation):
    """Two halves of the federation are shown different sets of keys: their envelopes do not fit together."""
    session = federation.session().run_to(1)
    adverts = session.entries(1, ME)
    session.give(1, adverts[:4], ME)  # this site believes in four
    honest = {site: session.reply(1, site) for site in session.ids[1:]}
    mine = [
        envelope
        for reply in honest.values()
        for envelope in EnvelopeList.from_bytes(reply).entries
        if envelope.recipient == ME
    ]
    own = [e for e in EnvelopeList.from_bytes(session.sites[ME]._answered[1].header).entries if e.recipient == ME]
    assert session.refusal(2, own + mine[:3], ME) == ("E_SIG", "coordinator")


def test_envelope_from_a_site_that_announced_nothing(session):
    session.run_to(2)
    invented = sybil(session.plan.context())
    envelope = replace(session.entries(2, ME)[1], sender=invented.site_id)
    assert session.refusal(2, [*session.entries(2, ME), envelope], ME) == ("E_U2_SUBSET", "coordinator")


def test_duplicate_envelope(session):
    session.run_to(2)
    envelopes = session.entries(2, ME)
    assert session.refusal(2, [*envelopes, envelopes[1]], ME) == ("E_DUP_SITE", "coordinator")


def test_dealer_list_without_this_site(session):
    session.run_to(2)
    assert session.refusal(2, session.entries(2, ME)[1:], ME) == ("E_SELF_DROPPED", "coordinator")


def test_envelope_for_somebody_else(session):
    session.run_to(2)
    envelopes = session.entries(2, ME)
    envelopes[1] = session.entries(2, PEER)[1]
    assert envelopes[1].sender == PEER and envelopes[1].recipient == PEER
    assert session.refusal(2, envelopes, ME) == ("E_SIG", "coordinator")


def test_tampered_envelope_is_the_coordinators_fault_not_the_dealers(session):
    session.run_to(2)
    envelopes = session.entries(2, ME)
    envelopes[1] = replace(envelopes[1], ciphertext=bytes(82))
    assert session.refusal(2, envelopes, ME) == ("E_SIG", "coordinator")


def test_stale_envelope_of_another_attempt(session, federation):
    session.run_to(2)
    later = federation.session(plan=federation.plan(attempt=2), salt="later").run_to(2)
    envelopes = later.entries(2, ME)
    envelopes[1] = session.entries(2, ME)[1]
    assert later.refusal(2, envelopes, ME) == ("E_SIG", "coordinator")


# R3


def test_different_views_of_u2(session):
    """This site is shown four dealers, the others five: their uploads do not verify here."""
    session.run_to(2)
    session.give(2, session.entries(2, ME)[:4], ME)
    headers = []
    for site in session.ids[1:]:
        headers.append(MaskedHeader.from_bytes(session.reply(2, site)[0]))
    own = MaskedHeader.from_bytes(session.sites[ME]._answered[1].header)
    assert session.refusal(3, [own, *headers[:3]], ME) == ("E_SIG", "coordinator")


def test_masks_do_not_cancel_between_different_views_of_u2(session):
    session.run_to(2)
    session.give(2, session.entries(2, ME)[:4], ME)
    mine = session.sites[ME]._answered[1].vector
    others = [session.reply(2, site)[1] for site in session.ids[1:4]]
    assert len({upload.tobytes() for upload in [mine, *others]}) == 4


def test_forged_survivor(session, federation):
    session.run_to(3)
    headers = session.entries(3, ME)
    forged = replace(headers[1], upload_hash=bytes(32))
    assert session.refusal(3, [headers[0], forged, *headers[2:]], ME) == ("E_SIG", "coordinator")


def test_survivor_that_dealt_no_shares(make_federation):
    federation = make_federation(5)
    session = federation.session()
    session.run_step(0)
    session.run_step(1, silent={"site-005"})
    session.run_step(2)
    headers = session.entries(3, ME)
    invented = replace(headers[1], site_id="site-005")
    assert session.refusal(3, [*headers, invented], ME) == ("E_U3_SUBSET", "coordinator")


def test_duplicate_survivor(session):
    session.run_to(3)
    headers = session.entries(3, ME)
    assert session.refusal(3, [*headers[:3], headers[1]], ME) == ("E_DUP_SITE", "coordinator")


def test_survivor_list_without_this_site(session):
    session.run_to(3)
    assert session.refusal(3, session.entries(3, ME)[1:], ME) == ("E_SELF_DROPPED", "coordinator")


# R4


def test_quorum_short(session):
    session.run_to(4)
    assert session.refusal(4, session.entries(4, ME)[:3], ME) == ("E_QUORUM", "coordinator")  # t(5) = 4


def test_quorum_inflated_by_duplicates(session):
    session.run_to(4)
    confirms = session.entries(4, ME)[:3]
    assert session.refusal(4, [*confirms, *confirms], ME) == ("E_QUORUM", "coordinator")


def test_quorum_inflated_by_outsiders_and_bad_signatures(session, federation):
    session.run_to(4)
    confirms = session.entries(4, ME)
    outsider = replace(confirms[3], site_id="sybil")
    broken = replace(confirms[4], signature=bytes(64))
    assert session.refusal(4, [*confirms[:3], outsider, broken], ME) == ("E_QUORUM", "coordinator")


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
    assert session.refusal(4, [*session.entries(4, ME)[:3], outside], ME) == ("E_QUORUM", "coordinator")


def test_different_views_of_u3(federation):
    """Two overlapping survivor lists, each above the floor: no site can be given a quorum for both."""
    session = federation.session().run_to(3)
    headers = session.entries(3, ME)
    left, right = headers[:4], headers[1:]
    confirms = {"left": [], "right": []}
    for site in session.ids[:3]:
        confirms["left"].append(Confirm.from_bytes(session.give(3, left, site)))
    for site in session.ids[3:]:
        confirms["right"].append(Confirm.from_bytes(session.give(3, right, site)))
    everything = confirms["left"] + confirms["right"]
    for site in session.ids:
        assert session.refusal(4, everything, site) == ("E_QUORUM", "coordinator")


def test_a_site_never_reveals_both_shares_of_one_dealer(federation):
    session = federation.session()
    session.run_to(2)
    session.run_step(2, silent={"site-004"})
    session.run_step(3)
    machine = session.sites[ME]
    own, keys = machine._reveal()
    assert {share.dealer for share in own} == set(session.ids) - {"site-004"}
    assert {share.dealer for share in keys} == {"site-004"}
