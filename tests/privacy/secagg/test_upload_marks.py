"""The mark of the ledger in a masked vector's header: peers keep it before they confirm, and a false one is refused."""

from __future__ import annotations

import pytest

from privacy.errors import FaultySiteError
from privacy.messages import ErrorReply, LedgerMark, MaskedHeader

ME, PEER = "site-001", "site-002"


@pytest.fixture
def marked(session, federation):
    """A session whose sites all state row 8 in the masked step."""
    def stating(site):
        return lambda: LedgerMark.make(site, 8, bytes([8] * 32), "fed", federation.keys[site])

    for site, machine in session.sites.items():
        machine.on_masking = stating(site)
    return session


def test_marks_are_kept_before_a_survivor_list_is_confirmed(marked):
    marked.run_to(3)
    kept = []
    marked.sites[ME].on_marks = kept.extend
    marked.reply(3, ME)
    assert [(mark.site_id, mark.sequence) for mark in kept] == [(site, 8) for site in marked.ids]


def test_a_site_without_a_ledger_leaves_no_gap_among_the_marks_that_are_kept(marked):
    marked.sites[PEER].on_masking = lambda: None
    marked.run_to(3)
    kept = []
    marked.sites[ME].on_marks = kept.extend
    marked.reply(3, ME)
    assert [mark.site_id for mark in kept] == [site for site in marked.ids if site != PEER]


def test_no_confirmation_leaves_when_the_marks_cannot_be_kept(marked):
    marked.run_to(3)

    def fails(marks):
        raise OSError("disk full")

    marked.sites[ME].on_marks = fails
    with pytest.raises(OSError, match="disk full"):
        marked.reply(3, ME)
    assert marked.wiped(ME)


def test_the_mark_is_stated_after_the_round_was_booked(session):
    order = []
    session.run_to(2)
    session.sites[ME].on_masking = lambda: order.append("booked")
    header = MaskedHeader.from_bytes(session.reply(2, ME)[0])
    assert order == ["booked"] and header.mark is None


@pytest.mark.parametrize("signer", [PEER, "site-003"])
def test_a_mark_that_its_site_did_not_sign_is_refused_by_coordinator_and_peers(session, federation, signer):
    forged = LedgerMark.make(PEER, 8, bytes(32), "fed", federation.keys[signer])
    session.run_to(2)
    session.sites[PEER].on_masking = lambda: forged
    header, packed = session.reply(2, PEER)
    if signer == PEER:
        session.coordinator.receive_masked(PEER, header, packed)
        return
    with pytest.raises(FaultySiteError) as refused:
        session.coordinator.receive_masked(PEER, header, packed)
    assert (refused.value.code, refused.value.blamed) == ("E_SITE_SIG", PEER)
    replies = {site: session.reply(2, site) for site in session.ids if site != PEER}
    for site, reply in replies.items():
        session.deliver(2, site, reply)
    session.close(2)
    relayed = [*session.entries(3, ME), MaskedHeader.from_bytes(header)]
    assert session.refusal(3, relayed, ME) == ("E_SITE_SIG", PEER)


def test_a_header_carries_its_own_sites_mark_only(federation):
    other = LedgerMark.empty(PEER, "fed", federation.keys[PEER])
    with pytest.raises(ValueError, match="own"):
        MaskedHeader.signed(federation.keys[ME], (b"",), site_id=ME, upload_hash=bytes(32),
                            complaints=(ErrorReply("E_SHARE_COMMIT", PEER),), mark=other)
