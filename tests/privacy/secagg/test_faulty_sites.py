"""Sites that lie: each is named, and the round goes on when enough honest ones are left."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import pytest

from privacy.errors import CohortTooSmallError, FaultySiteError
from privacy.messages import (
    Advertise,
    DealtShare,
    Envelope,
    EnvelopeList,
    ErrorReply,
    LedgerMark,
    MaskedHeader,
    UnmaskShares,
)
from privacy.secagg.client import SiteRound
from privacy.secagg.keys import commit, pair_mask_key, seal, self_mask_key
from privacy.secagg.masking import apply_masks
from privacy.secagg.quantize import unpack
from privacy.secagg.shamir import split

LIAR, VICTIM = "site-003", "site-001"


class BadCiphertext(SiteRound):
    """Seals garbage for one victim, and signs it."""

    victims: tuple[str, ...] = (VICTIM,)

    def _envelope(self, recipient, seed_share, key_share):
        envelope = super()._envelope(recipient, seed_share, key_share)
        return self._spoil(envelope) if recipient in self.victims else envelope

    def _resign(self, envelope, **changes):
        values = {field.name: getattr(envelope, field.name) for field in fields(envelope)[:-1]} | changes
        return Envelope.signed(self._signing_key, (self._cohort.ctx, self._cohort.h1), **values)

    def _spoil(self, envelope):
        return self._resign(envelope, ciphertext=bytes(82))


class BadCommitment(BadCiphertext):
    """Commits to another share than the one it seals."""

    def _spoil(self, envelope):
        return self._resign(envelope, mask_key_share_commitment=bytes(32))


class NotInField(BadCiphertext):
    """Deals a value above the field's prime, with a good commitment and a good seal."""

    def _spoil(self, envelope):
        channel, bad = self._cohort.channel(self._id, envelope.recipient), b"\xff" * 33
        peer = self._cohort.adverts[envelope.recipient].channel_key
        return self._resign(
            envelope, self_mask_share_commitment=commit("seed-share", channel, bad),
            mask_key_share_commitment=commit("key-share", channel, bad),
            ciphertext=seal(self._channel_pair, peer, channel, bad + bad),
        )  # fmt: skip


class BadToMany(BadCiphertext):
    victims = ("site-001", "site-002")


class OtherSeed(SiteRound):
    """Deals shares of a seed that it does not use, each with a good commitment."""

    def _deal(self, message):
        reply = super()._deal(message)
        dealt = [
            self._envelope(site, seed, key)
            for site, seed, key in zip(
                self._cohort.ids,
                split(bytes(32), self._cohort.threshold, len(self._cohort.ids), self._entropy),
                split(self._mask_pair.private_bytes(), self._cohort.threshold, 5, self._entropy),
                strict=True,
            )
        ]
        return replace(reply, header=EnvelopeList(tuple(dealt)).to_bytes())


class WrongShare(SiteRound):
    """Reveals a share of site-002 that it was not dealt."""

    def _reveal(self):
        own, keys = super()._reveal()
        return tuple(DealtShare(s.dealer, bytes(33)) if s.dealer == "site-002" else s for s in own), keys


class MissingShare(SiteRound):
    def _reveal(self):
        own, keys = super()._reveal()
        return own[:-1], keys


class WrongKind(SiteRound):
    """Reveals the key share of a survivor."""

    def _reveal(self):
        dealt = {site: pair[1] for site, pair in self._dealt.items()}
        own, _ = super()._reveal()
        return own[1:], (DealtShare(own[0].dealer, dealt[own[0].dealer]),)


def assert_blames(call, code, site=LIAR):
    with pytest.raises(FaultySiteError) as fault:
        call()
    assert (fault.value.code, fault.value.blamed) == (code, site)


def run_with(federation, kind, silent_masked=()):
    session = federation.session(kinds={LIAR: kind})
    session.run_to(2)
    session.run_step(2, silent=silent_masked)
    session.run_step(3)
    return session


@pytest.mark.parametrize(
    ("kind", "code"),
    [(BadCiphertext, "E_SHARE_DECRYPT"), (BadCommitment, "E_SHARE_COMMIT"), (NotInField, "E_SHARE_COMMIT")],
)
@pytest.mark.parametrize("liar_drops", [False, True])
def test_bad_share_is_reported_and_the_round_completes(make_federation, kind, code, liar_drops):
    federation = make_federation(8)  # t(8) = 6: one dropout and one withheld share leave enough
    gone = {LIAR} if liar_drops else set()
    session = run_with(federation, kind, gone)
    session.run_step(4)
    survivors = [site for site in session.ids if site not in gone]
    np.testing.assert_array_equal(session.finish(), session.plain_sum(survivors))
    assert session.sites[VICTIM].complaints == (ErrorReply(code, LIAR),)
    assert session.coordinator.complaints == ((VICTIM, ErrorReply(code, LIAR)),)


def test_a_dealer_that_cheats_too_many_loses_the_round_and_is_named(federation):
    session = run_with(federation, BadToMany)  # 3 good shares are left, t(5) = 4
    session.run_step(4)
    assert_blames(session.finish, "E_DEALER")


def test_shares_of_another_secret_are_found_when_it_is_rebuilt(federation):
    session = run_with(federation, OtherSeed)
    session.run_step(4)
    assert_blames(session.finish, "E_DEALER")


def test_a_key_that_does_not_fit_its_shares_is_found_when_it_is_rebuilt(federation):
    class OtherKey(OtherSeed):
        def _deal(self, message):
            reply = SiteRound._deal(self, message)
            seeds = split(self._seed, self._cohort.threshold, 5, self._entropy)
            keys = split(bytes(32), self._cohort.threshold, 5, self._entropy)
            dealt = map(self._envelope, self._cohort.ids, seeds, keys)
            return replace(reply, header=EnvelopeList(tuple(dealt)).to_bytes())

    session = run_with(federation, OtherKey, {LIAR})
    session.run_step(4)
    assert_blames(session.finish, "E_DEALER")


@pytest.mark.parametrize("kind", [WrongShare, MissingShare, WrongKind])
def test_wrong_share_at_unmask_is_blamed_and_the_round_completes(federation, kind):
    session = run_with(federation, kind)
    for site in session.ids:
        reply = session.reply(4, site)
        if site == LIAR:
            assert_blames(lambda reply=reply: session.deliver(4, LIAR, reply), "E_UNMASK_SHARES")
        else:
            session.deliver(4, site, reply)
    np.testing.assert_array_equal(session.finish(), session.plain_sum(session.ids))


def test_a_share_that_is_not_a_field_element_is_blamed(federation):
    session = run_with(federation, SiteRound)
    session.run_step(4, silent={LIAR})
    honest = UnmaskShares.from_bytes(session.reply(4, LIAR))
    binding = (session.plan.context(), session.sites[LIAR]._h3)
    spoiled = (DealtShare(honest.self_mask_shares[0].dealer, b"\xff" * 33), *honest.self_mask_shares[1:])
    message = UnmaskShares.signed(
        federation.keys[LIAR], binding, site_id=LIAR, self_mask_shares=spoiled, mask_key_shares=()
    )
    assert_blames(lambda: session.deliver(4, LIAR, message.to_bytes()), "E_UNMASK_SHARES")


def test_a_bad_share_that_its_recipient_did_not_report_is_the_recipients_fault(federation):
    class Accomplice(SiteRound):
        def _open_all(self, envelopes):
            super()._open_all(envelopes)
            self._complaints = ()
            self._dealt[LIAR] = (b"\xff" * 33,) * 2

    session = federation.session(kinds={LIAR: NotInField, VICTIM: Accomplice}).run_to(4)
    assert_blames(lambda: session.deliver(4, VICTIM, session.reply(4, VICTIM)), "E_UNMASK_SHARES", VICTIM)
    session.run_step(4, silent={VICTIM})
    np.testing.assert_array_equal(session.finish(), session.plain_sum(session.ids))


def test_too_few_good_unmask_replies_give_no_sum(federation):
    session = federation.session(kinds={LIAR: WrongShare, "site-004": WrongShare}).run_to(4)
    for site in session.ids:
        try:
            session.deliver(4, site, session.reply(4, site))
        except FaultySiteError as fault:
            assert fault.code == "E_UNMASK_SHARES" and fault.blamed == site
    with pytest.raises(CohortTooSmallError):
        session.finish()


def test_a_late_masked_vector_stays_masked(federation):
    """The coordinator gets a dropped site's upload after all: it can take the pair masks off, never b."""
    session = federation.session().run_to(2)
    seed = session.sites[LIAR]._seed
    _, late = session.reply(2, LIAR)
    session.run_step(2, silent={LIAR})
    session.run_step(3)
    revealed = [UnmaskShares.from_bytes(session.reply(4, site)) for site in session.inbox]
    assert all(LIAR not in {share.dealer for share in reply.self_mask_shares} for reply in revealed)
    session.run_step(4)
    coordinator, stripped = session.coordinator, unpack(late, 24)
    pair = coordinator._recovery._mask_pair(LIAR)
    for peer in session.inbox:
        advert = coordinator._cohort.adverts[peer]
        key = pair_mask_key(pair, advert.mask_key, session.plan.context(), coordinator._h2, LIAR, peer)
        apply_masks(stripped, *(([key], []) if peer < LIAR else ([], [key])))
    plain = session.plain_sum([LIAR])
    assert not np.any(stripped & 0xFFFFFF == plain)
    own = self_mask_key(seed, session.plan.context(), coordinator._h2, LIAR)
    apply_masks(stripped, [], [own])  # with b, which nobody reveals, it would be bare
    np.testing.assert_array_equal(stripped & 0xFFFFFF, plain)


# what the coordinator refuses on arrival


def test_announcement_signed_by_another_site(session, federation):
    theirs = session.reply(0, "site-001")
    assert_blames(lambda: session.deliver(0, "site-002", theirs), "E_SITE_SIG", "site-002")


def test_announcement_for_another_plan(session, federation):
    other = federation.session(plan=federation.plan(round=2))
    assert_blames(lambda: session.deliver(0, LIAR, other.reply(0, LIAR)), "E_SITE_SIG")


def test_undecodable_reply(session):
    assert_blames(lambda: session.deliver(0, LIAR, b"\x01"), "E_FORMAT")


def test_sender_that_is_not_on_the_roster(session):
    assert_blames(lambda: session.deliver(0, "site-999", b""), "E_STAGE", "site-999")


@pytest.mark.parametrize(("channel", "mask", "code"), [(bytes(32), None, "E_WEAK_KEY"), (None, "same", "E_DUP_KEY")])
def test_bad_ephemeral_keys(session, federation, channel, mask, code):
    good = Advertise.from_bytes(session.reply(0, LIAR))
    first = channel if channel is not None else good.channel_key
    second = first if mask == "same" else good.mask_key
    message = Advertise.signed(
        federation.keys[LIAR], (session.plan.context(),), site_id=LIAR, channel_key=first, mask_key=second,
        mark=good.mark,
    )  # fmt: skip
    assert_blames(lambda: session.deliver(0, LIAR, message.to_bytes()), code)


def test_a_mark_of_the_ledger_that_it_did_not_sign(session, federation):
    good = Advertise.from_bytes(session.reply(0, LIAR))
    forged = LedgerMark.make(LIAR, 9, bytes(32), federation.roster.federation_id, federation.coordinator_key)
    message = Advertise.signed(
        federation.keys[LIAR], (session.plan.context(),), site_id=LIAR, channel_key=good.channel_key,
        mask_key=good.mask_key, mark=forged,
    )  # fmt: skip
    assert_blames(lambda: session.deliver(0, LIAR, message.to_bytes()), "E_SITE_SIG")


def test_copied_ephemeral_key(session, federation):
    theirs = Advertise.from_bytes(session.reply(0, "site-001"))
    session.deliver(0, "site-001", theirs.to_bytes())
    copy = Advertise.signed(
        federation.keys[LIAR], (session.plan.context(),), site_id=LIAR, channel_key=theirs.channel_key,
        mask_key=theirs.mask_key, mark=LedgerMark.empty(LIAR, federation.roster.federation_id, federation.keys[LIAR]),
    )  # fmt: skip
    assert_blames(lambda: session.deliver(0, LIAR, copy.to_bytes()), "E_DUP_KEY")


def test_two_different_messages_for_one_step(session, federation):
    session.deliver(0, LIAR, session.reply(0, LIAR))
    session.deliver(0, LIAR, session.reply(0, LIAR))  # an identical redelivery is ignored
    other = federation.session(salt="other").reply(0, LIAR)
    assert_blames(lambda: session.deliver(0, LIAR, other), "E_TWO_MESSAGES")


@pytest.mark.parametrize("change", ["missing", "extra", "twice", "two-seeds"])
def test_incomplete_dealing(session, federation, change):
    session.run_to(1)
    envelopes = list(EnvelopeList.from_bytes(session.reply(1, LIAR)).entries)
    if change == "missing":
        envelopes.pop()
    elif change == "extra":
        envelopes.append(replace(envelopes[0], recipient="site-999"))
    elif change == "twice":
        envelopes.append(envelopes[0])
    else:
        envelopes[0] = replace(envelopes[0], self_mask_commitment=bytes(32))
    message = EnvelopeList(tuple(envelopes)).to_bytes()
    assert_blames(lambda: session.deliver(1, LIAR, message), "E_ENVELOPES")


def test_envelopes_with_a_bad_signature_or_sender(session):
    session.run_to(1)
    envelopes = list(EnvelopeList.from_bytes(session.reply(1, LIAR)).entries)
    for changes in ({"signature": bytes(64)}, {"sender": "site-001"}):
        spoiled = EnvelopeList((replace(envelopes[0], **changes), *envelopes[1:])).to_bytes()
        assert_blames(lambda spoiled=spoiled: session.deliver(1, LIAR, spoiled), "E_SITE_SIG")


@pytest.mark.parametrize("change", ["bit", "short", "words", "strided"])
def test_tampered_upload_is_not_folded(session, change):
    session.run_to(2)
    header, packed = session.reply(2, LIAR)
    spoiled = {
        "bit": lambda: packed ^ np.uint8(1),
        "short": lambda: packed[:-1].copy(),
        "words": lambda: packed.astype(np.uint32),
        "strided": lambda: np.repeat(packed, 2)[::2],
    }[change]()
    assert_blames(lambda: session.coordinator.receive_masked(LIAR, header, spoiled), "E_UPLOAD")
    assert not session.coordinator._total.any()
    session.deliver(2, LIAR, (header, packed))  # the true one is still welcome


def test_upload_header_of_another_site_or_with_made_up_complaints(session, federation):
    session.run_to(2)
    header, packed = session.reply(2, "site-001")
    assert_blames(lambda: session.coordinator.receive_masked(LIAR, header, packed), "E_SITE_SIG")
    head = MaskedHeader.from_bytes(header)
    false = MaskedHeader.signed(
        federation.keys["site-001"], (session.plan.context(), session.coordinator._h2), site_id="site-001",
        upload_hash=head.upload_hash, complaints=(ErrorReply("E_SHARE_COMMIT", "site-999"),),
    )  # fmt: skip
    assert_blames(
        lambda: session.coordinator.receive_masked("site-001", false.to_bytes(), packed), "E_FORMAT", "site-001"
    )


def test_confirmation_and_shares_signed_by_another_site(session):
    session.run_to(3)
    theirs = session.reply(3, "site-001")
    assert_blames(lambda: session.deliver(3, LIAR, theirs), "E_SITE_SIG")
    session.run_step(3)
    theirs = session.reply(4, "site-001")
    assert_blames(lambda: session.deliver(4, LIAR, theirs), "E_SITE_SIG")


def test_a_false_complaint_only_withholds_one_share(federation):
    class Slanderer(SiteRound):
        def _open_all(self, envelopes):
            super()._open_all(envelopes)
            del self._dealt["site-002"]
            self._complaints = (ErrorReply("E_SHARE_COMMIT", "site-002"),)

    session = run_with(federation, Slanderer)
    session.run_step(4)
    np.testing.assert_array_equal(session.finish(), session.plain_sum(session.ids))
    assert session.coordinator.complaints == ((LIAR, ErrorReply("E_SHARE_COMMIT", "site-002")),)
