"""The coordinator keeps both messages of a site that contradict each other, before it leaves the site out."""

from __future__ import annotations

from dataclasses import replace

import pytest

from privacy.errors import FaultySiteError
from privacy.evidence import Evidence, proves
from privacy.messages import Advertise, Confirm, EnvelopeList, MaskedHeader, UnmaskShares
from privacy.secagg.server import CoordinatorRound

STEPS = ("advertise", "share", "masked", "confirm", "unmask")
KINDS = {
    "advertise": "two-announcements", "share": "two-envelopes", "masked": "two-uploads", "unmask": "two-unmaskings"}


@pytest.fixture
def kept(session) -> list[Evidence]:
    found: list[Evidence] = []
    session.coordinator = CoordinatorRound(
        plan=session.plan, roster=session.federation.roster, signing_key=session.federation.coordinator_key,
        on_evidence=found.append)
    return found


def give(session, step: int, site: str, message: bytes) -> str:
    """The code with which the coordinator refuses `message`."""
    to = session.coordinator
    receive = (to.receive_advertise, to.receive_share, to.receive_masked, to.receive_confirm, to.receive_unmask)[step]
    with pytest.raises(FaultySiteError) as refused:
        receive(site, message, session.uploads[site][1]) if step == 2 else receive(site, message)
    assert refused.value.blamed == site
    return refused.value.code


def second(session, step: int, site: str, first) -> bytes:
    """Another message that the site signs for a step which it has answered with `first`."""
    key, to = session.federation.keys[site], session.coordinator
    ctx = session.plan.context()
    if step == 0:
        advert = Advertise.from_bytes(first)
        values = {"site_id": site, "channel_key": advert.channel_key, "mask_key": bytes([9] * 32), "mark": advert.mark}
        return Advertise.signed(key, (ctx,), **values).to_bytes()
    h1 = to._cohort.h1
    if step == 1:
        entries = list(EnvelopeList.from_bytes(first).entries)
        one = {name: value for name, value in vars(entries[2]).items() if name != "signature"}
        entries[2] = type(entries[2]).signed(key, (ctx, h1), **{**one, "ciphertext": bytes(82)})
        return EnvelopeList(tuple(entries)).to_bytes()
    if step == 2:
        return MaskedHeader.signed(
            key, (ctx, to._h2), site_id=site, upload_hash=bytes(32), complaints=()).to_bytes()
    shares = UnmaskShares.from_bytes(first)
    return UnmaskShares.signed(
        key, (ctx, to._h3), site_id=site, self_mask_shares=shares.self_mask_shares[1:],
        mask_key_shares=shares.mask_key_shares).to_bytes()


@pytest.mark.parametrize("step", [0, 1, 2, 4])
@pytest.mark.parametrize("late", [False, True])
def test_two_signed_messages_of_one_step_are_kept_whole(session, kept, step: int, late: bool) -> None:
    session.run_to(step)
    site = session.ids[1]
    replies = {name: session.reply(step, name) for name in session.inbox}
    for name, reply in replies.items():
        session.deliver(step, name, reply)
    if late and step < 4:
        session.close(step)
    first = replies[site][0] if step == 2 else replies[site]
    message = second(session, step, site, first)
    assert give(session, step, site, message) == "E_TWO_MESSAGES"
    (evidence,) = kept
    assert session.coordinator.evidence == (evidence,)
    assert (evidence.kind, evidence.blamed) == (KINDS[STEPS[step]], site)
    assert proves(evidence, session.federation.roster)
    if step != 1:
        assert {statement.message for statement in evidence.statements} == {first, message}
    assert give(session, step, site, message) == "E_TWO_MESSAGES" and len(kept) == 1  # once


@pytest.mark.parametrize("step", [0, 1, 2, 3, 4])
def test_a_second_message_that_is_not_signed_by_the_site_proves_nothing(session, kept, step: int) -> None:
    session.run_to(step)
    for name in list(session.inbox):
        session.deliver(step, name, session.reply(step, name))
    mallory, victim = session.ids[0], session.ids[1]
    forged = {3: Confirm.signed(session.federation.keys[mallory], (bytes(32), bytes(32)), site_id=victim).to_bytes()}
    if step in (0, 2):
        kind = (Advertise, None, MaskedHeader)[step]
        first = session.coordinator._adverts[victim] if step == 0 else session.coordinator._headers[victim]
        field = "mask_key" if step == 0 else "upload_hash"
        forged[step] = replace(first, **{field: bytes([5] * 32)}).to_bytes()
        assert kind.from_bytes(forged[step])
    assert give(session, step, victim, forged.get(step, b"garbage")) == "E_TWO_MESSAGES"
    assert kept == [] and session.coordinator.evidence == ()


def test_a_weak_key_is_evidence_by_itself(session, kept) -> None:
    site = session.ids[0]
    advert = Advertise.from_bytes(session.reply(0, site))
    values = {"site_id": site, "channel_key": bytes(32), "mask_key": advert.mask_key, "mark": advert.mark}
    weak = Advertise.signed(session.federation.keys[site], (session.plan.context(),), **values)
    assert give(session, 0, site, weak.to_bytes()) == "E_WEAK_KEY"
    assert [evidence.kind for evidence in kept] == ["weak-key"]
    unsigned = replace(weak, signature=bytes(64))
    assert give(session, 0, site, unsigned.to_bytes()) == "E_SITE_SIG" and len(kept) == 1


def test_envelopes_for_two_seeds_are_evidence(session, kept) -> None:
    session.run_to(1)
    site = session.ids[0]
    entries = list(EnvelopeList.from_bytes(session.reply(1, site)).entries)
    one = {name: value for name, value in vars(entries[1]).items() if name != "signature"}
    cohort = session.coordinator._cohort
    entries[1] = type(entries[1]).signed(
        session.federation.keys[site], (cohort.ctx, cohort.h1), **{**one, "self_mask_commitment": bytes(32)})
    assert give(session, 1, site, EnvelopeList(tuple(entries)).to_bytes()) == "E_ENVELOPES"
    assert [evidence.kind for evidence in kept] == ["two-seeds"] and proves(kept[0], session.federation.roster)


def test_what_cannot_be_kept_is_an_error_and_not_a_silent_refusal(session) -> None:
    def full(_: Evidence) -> None:
        raise OSError("disk full")

    session.coordinator = CoordinatorRound(
        plan=session.plan, roster=session.federation.roster, signing_key=session.federation.coordinator_key,
        on_evidence=full)
    site = session.ids[0]
    first = session.reply(0, site)
    session.deliver(0, site, first)
    with pytest.raises(OSError, match="disk full"):
        session.coordinator.receive_advertise(site, second(session, 0, site, first))
    assert session.coordinator.evidence == ()


def test_an_honest_round_with_redelivery_leaves_no_evidence(session, kept) -> None:
    for step in range(5):
        replies = {name: session.reply(step, name) for name in session.inbox}
        for name, reply in replies.items():
            session.deliver(step, name, reply)
            session.deliver(step, name, reply)
        if step < 4:
            session.close(step)
    session.finish()
    assert kept == [] and session.coordinator.evidence == ()
