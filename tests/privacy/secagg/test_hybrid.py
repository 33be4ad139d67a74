"""The hybrid suite: both secrets count, both directions of dropout recover, and who spoils a KEM is named."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from privacy.errors import FaultySiteError, ProtocolError
from privacy.messages import Advertise, AdvertiseList, Envelope, EnvelopeList, ErrorReply, LedgerMark
from privacy.secagg.client import SiteRound
from privacy.secagg.hybrid import (
    HybridAgreement,
    _backup_key,
    agreement,
    fresh_agreement,
    is_usable,
    make_offer,
    offered_secret,
    pair_key,
)
from privacy.secagg.keys import Agreement, Channel, SealError, open_sealed, pair_mask_key, seal

SUITE = "x25519-mlkem768"
CTX, H = b"c" * 32, b"h" * 32
CHANNEL = Channel(CTX, H, "a", "b")
FROZEN = json.loads((Path(__file__).parents[2] / "vectors" / "hybrid.json").read_text())
LOW, MIDDLE, HIGH = "site-001", "site-003", "site-005"


@pytest.fixture
def pairs(make_stream):
    stream = make_stream("pairs")
    return fresh_agreement(SUITE, stream), fresh_agreement(SUITE, stream)


@pytest.fixture(scope="module")
def hybrid(make_federation):
    return make_federation(suite=SUITE)


def test_known_answers():
    """Encapsulation is random, so its ciphertext is frozen and the recipient's side is recomputed."""
    own, peer = HybridAgreement(bytes(range(32))), HybridAgreement(bytes(range(1, 33)))
    assert own.public_bytes().hex() == FROZEN["public key"]
    assert own.private_bytes() == bytes(range(32)) and len(own.public_bytes()) == 1216
    sealed = bytes.fromhex(FROZEN["sealed"])
    assert open_sealed(own, peer.public_bytes(), Channel(CTX, H, "b", "a"), sealed) == b"frozen"
    offer = make_offer(peer, own.public_bytes(), CHANNEL)
    offer = replace(offer, **{name: bytes.fromhex(value) for name, value in FROZEN["offer"].items()})
    for pair, name, other in ((own, "b", peer), (peer, "a", own)):
        assert pair_key(pair, name, other.public_bytes(), H, CHANNEL, offer).hex() == FROZEN["pair key"]


def test_both_sites_and_whoever_has_either_root_derive_the_same_pair_key(pairs):
    low, high = pairs
    offer = make_offer(low, high.public_bytes(), CHANNEL)
    key = pair_key(low, "a", high.public_bytes(), H, CHANNEL, offer)
    assert key == pair_key(high, "b", low.public_bytes(), H, CHANNEL, offer) and len(key) == 32
    for pair, name, peer in ((low, "a", high), (high, "b", low)):
        rebuilt = agreement(SUITE, pair.private_bytes())
        assert rebuilt.public_bytes() == pair.public_bytes()
        assert pair_key(rebuilt, name, peer.public_bytes(), H, CHANNEL, offer) == key


def test_a_pair_key_needs_both_secrets_and_is_bound_to_all_of_its_context(pairs, make_stream):
    low, high = pairs
    peer, offer = high.public_bytes(), make_offer(low, high.public_bytes(), CHANNEL)
    again = make_offer(low, peer, CHANNEL)  # another KEM secret between the same keys
    third = fresh_agreement(SUITE, make_stream("third")).public_bytes()
    keys = [
        pair_key(low, "a", peer, H, CHANNEL, offer),
        pair_key(low, "a", peer, H, CHANNEL, again),
        pair_key(low, "a", third[:32] + peer[32:], H, CHANNEL, offer),  # another DH secret, the same KEM secret
        pair_key(low, "a", peer[:32] + third[32:], H, CHANNEL, offer),
        pair_key(low, "a", peer, b"i" * 32, CHANNEL, offer),
        pair_mask_key(low, peer, CTX, H, "a", "b"),
    ]
    assert len(set(keys)) == len(keys)
    secret = offered_secret(low, "a", offer, CHANNEL)
    parts = (low.public_bytes(), peer, offer.kem_ciphertext)
    assert keys[0] == pair_mask_key(low, peer, CTX, H, "a", "b", offered=secret, bound=parts)


def test_an_offer_holds_for_its_channel_only(pairs):
    low, high = pairs
    offer = make_offer(low, high.public_bytes(), CHANNEL)
    for name in ("ctx", "h1", "sender", "recipient"):
        other = replace(CHANNEL, **{name: b"x" * 32 if name in ("ctx", "h1") else "aa"})
        with pytest.raises(ValueError):
            offered_secret(high, "b", offer, other)
        with pytest.raises(SealError):
            offered_secret(low, other.sender, offer, other)


def test_only_the_lower_site_offers_and_nobody_falls_back_to_dh_alone(pairs):
    low, high = pairs
    assert make_offer(high, low.public_bytes(), replace(CHANNEL, sender="c")) is None
    assert make_offer(low, low.public_bytes(), replace(CHANNEL, recipient="a")) is None
    assert make_offer(Agreement(bytes(32)), bytes(32), CHANNEL) is None
    with pytest.raises(ValueError):
        pair_key(low, "a", high.public_bytes(), H, CHANNEL, None)


def test_a_channel_opens_only_with_both_secrets(pairs, make_stream):
    low, high = pairs
    sealed = seal(low, high.public_bytes(), CHANNEL, b"shares")
    assert len(sealed) == 1088 + 6 + 16
    assert open_sealed(high, low.public_bytes(), CHANNEL, sealed) == b"shares"
    third = fresh_agreement(SUITE, make_stream("third"))
    for own, peer, data in (
        (third, low.public_bytes(), sealed),
        (high, third.public_bytes()[:32] + low.public_bytes()[32:], sealed),
        (high, low.public_bytes()[:32] + third.public_bytes()[32:], sealed),
        (high, low.public_bytes(), bytes([sealed[0] ^ 1]) + sealed[1:]),
        (high, low.public_bytes(), sealed[:-1] + bytes([sealed[-1] ^ 1])),
    ):
        with pytest.raises(SealError):
            open_sealed(own, peer, CHANNEL, data)
    assert repr(low) == "Agreement(...)"


def test_every_pattern_of_dropouts_after_dealing_gives_the_exact_sum(make_federation):
    """Each site, and each two of seven, as lower and as higher party of pairs with the survivors."""
    federation = make_federation(7, 3, suite=SUITE, tags=2)
    for count in (0, 1, 2):
        for gone in combinations(federation.ids, count):
            session = federation.session().run_to(2)
            for step in (2, 3, 4):
                session.run_step(step, silent=gone)
            total = session.finish()
            alive = [site for site in federation.ids if site not in gone]
            np.testing.assert_array_equal(total, session.plain_sum(alive))
            for site in alive:
                session.sites[site].verify_sum(total, session.coordinator.tags)


def test_the_largest_lists_of_two_hundred_sites_fit_in_a_message():
    most, size = 200, Envelope.LIMIT_BYTES
    ids = [f"{'s' * 60}-{i:03d}" for i in range(most)]
    low, high = HybridAgreement(bytes(32)), HybridAgreement(b"1" * 32)
    offer = make_offer(low, high.public_bytes(), CHANNEL)
    common = {
        "self_mask_commitment": H, "self_mask_share_commitment": H, "mask_key_share_commitment": H,
        "ciphertext": bytes(1088 + 82 + 32), "tag_commitment": H, "signature": bytes(64)}
    own = Envelope(ids[0], ids[0], **common)
    dealt = EnvelopeList((own, *(Envelope(ids[0], site, **common, pair_offer=offer) for site in ids[1:])))
    assert len(dealt.to_bytes()) == 549_836 < size
    adverts = tuple(
        Advertise(site, bytes(1216), bytes(1216), LedgerMark(site, 2**31, H, bytes(64)), bytes(64)) for site in ids)
    assert len(AdvertiseList(adverts).to_bytes()) == 555_024 < size


def test_sizes_are_fixed_by_cohort_and_suite(hybrid):
    def sizes():
        session, seen = hybrid.session(), []
        for step in range(5):
            replies = {site: session.reply(step, site) for site in session.inbox}
            seen += [len(r[0]) + r[1].nbytes if step == 2 else len(r) for r in replies.values()]
            for site, reply in replies.items():
                session.deliver(step, site, reply)
            if step < 4:
                session.close(step)
        return seen

    assert sizes() == sizes()


def bad_key(advert, key, part):
    """The advertisement's keys with one half of one of them replaced."""
    old = getattr(advert, key)
    return {key: part + old[32:] if len(part) == 32 else old[:32] + part}


UNUSABLE = [bytes(32), b"\xff" * 1184]  # low order; coefficients above the modulus


@pytest.mark.parametrize("key", ["channel_key", "mask_key"])
@pytest.mark.parametrize("part", UNUSABLE, ids=["low order", "not reduced"])
def test_unusable_keys_are_refused_by_coordinator_and_site_and_their_owner_is_named(hybrid, key, part):
    session = hybrid.session()
    session.run_step(0)
    entries = session.entries(1, LOW)
    assert is_usable(entries[2], SUITE) and not is_usable(entries[2], "x25519")
    entries[2] = resigned(hybrid, session.plan, entries[2], **bad_key(entries[2], key, part))
    fresh = hybrid.coordinator(session.plan)
    with pytest.raises(FaultySiteError) as fault:
        fresh.receive_advertise(MIDDLE, entries[2].to_bytes())
    assert (fault.value.code, fault.value.blamed) == ("E_WEAK_KEY", MIDDLE)
    assert session.refusal(1, entries, LOW) == ("E_WEAK_KEY", MIDDLE)


def resigned(federation, plan, advert, **changes):
    values = {field.name: getattr(advert, field.name) for field in fields(advert)[:-1]} | changes
    return Advertise.signed(federation.keys[advert.site_id], (plan.context(),), **values)


@pytest.mark.parametrize("half", [slice(0, 32), slice(32, None)], ids=["x25519", "kem"])
def test_half_a_key_used_twice_is_a_duplicate(hybrid, half):
    session = hybrid.session()
    session.run_step(0)
    entries = session.entries(1, LOW)
    entries[2] = resigned(
        hybrid, session.plan, entries[2], **bad_key(entries[2], "mask_key", entries[1].channel_key[half]))
    fresh = hybrid.coordinator(session.plan)
    fresh.receive_advertise("site-002", entries[1].to_bytes())
    with pytest.raises(FaultySiteError) as fault:
        fresh.receive_advertise(MIDDLE, entries[2].to_bytes())
    assert (fault.value.code, fault.value.blamed) == ("E_DUP_KEY", MIDDLE)
    assert session.refusal(1, entries, LOW) == ("E_DUP_KEY", "coordinator")


@pytest.mark.parametrize(("run", "announced"), [(SUITE, "x25519"), ("x25519", SUITE)])
def test_keys_of_another_suite_are_refused(make_federation, run, announced):
    federation, other = make_federation(suite=run), make_federation(suite=announced)
    session, alien = federation.session(), other.session()
    session.run_step(0)
    entries = session.entries(1, LOW)
    message = Advertise.from_bytes(alien.reply(0, MIDDLE))
    keys = {name: getattr(message, name) for name in ("channel_key", "mask_key")}
    entries[2] = resigned(federation, session.plan, entries[2], **keys)
    fresh = federation.coordinator(session.plan)
    with pytest.raises(FaultySiteError) as fault:
        fresh.receive_advertise(MIDDLE, entries[2].to_bytes())
    assert (fault.value.code, fault.value.blamed) == ("E_WEAK_KEY", MIDDLE)
    assert session.refusal(1, entries, LOW) == ("E_WEAK_KEY", MIDDLE)


class Spoiler(SiteRound):
    """Signs an envelope to HIGH in which one thing is wrong."""

    def _envelope(self, recipient, seed_share, key_share):
        envelope = super()._envelope(recipient, seed_share, key_share)
        if recipient != HIGH:
            return envelope
        values = {field.name: getattr(envelope, field.name) for field in fields(envelope)[:-1]}
        return Envelope.signed(
            self._signing_key, (self._cohort.ctx, self._cohort.h1), **values | self.changes(envelope))

    def changes(self, envelope):
        raise NotImplementedError


class BadChannelKem(Spoiler):
    def changes(self, envelope):
        return {"ciphertext": bytes(1088) + envelope.ciphertext[1088:]}


class BadPairKem(Spoiler):
    def changes(self, envelope):
        return {"pair_offer": replace(envelope.pair_offer, kem_ciphertext=bytes(1088))}


class BadPairCommitment(Spoiler):
    def changes(self, envelope):
        return {"pair_offer": replace(envelope.pair_offer, commitment=bytes(32))}


class BadBackup(Spoiler):
    def changes(self, envelope):
        return {"pair_offer": replace(envelope.pair_offer, backup=bytes(48))}


class OtherSecretInBackup(Spoiler):
    """The backup opens, to something else than what the higher site was offered."""

    def changes(self, envelope):
        offer, channel = envelope.pair_offer, self._cohort.channel(self._id, HIGH)
        backup = AESGCM(_backup_key(self._mask_pair, channel, offer.kem_ciphertext)).encrypt(bytes(12), bytes(32), None)
        return {"pair_offer": replace(offer, backup=backup)}


class OtherSuite(Spoiler):
    def changes(self, envelope):
        return {"ciphertext": bytes(82), "pair_offer": None}


def test_a_spoilt_channel_is_reported_and_the_round_completes(make_federation):
    federation = make_federation(8, suite=SUITE)
    session = federation.session(kinds={MIDDLE: BadChannelKem}).run_to(4)
    session.run_step(4)
    np.testing.assert_array_equal(session.finish(), session.plain_sum(federation.ids))
    assert session.coordinator.complaints == ((HIGH, ErrorReply("E_SHARE_DECRYPT", MIDDLE)),)


@pytest.mark.parametrize("kind", [BadPairKem, BadPairCommitment])
def test_the_higher_site_refuses_a_spoilt_offer_before_it_masks_and_names_the_lower(hybrid, kind):
    session = hybrid.session(kinds={MIDDLE: kind}).run_to(2)
    session.sites[HIGH].on_masking = lambda: pytest.fail("nothing may be masked")
    with pytest.raises(FaultySiteError) as fault:
        session.reply(2, HIGH)
    assert (fault.value.code, fault.value.blamed) == ("E_SHARE_COMMIT", MIDDLE) and session.wiped(HIGH)


@pytest.mark.parametrize(
    ("kind", "gone"),
    [(BadPairKem, HIGH), (BadPairCommitment, HIGH), (BadBackup, MIDDLE), (OtherSecretInBackup, MIDDLE)],
)
def test_an_offer_that_cannot_be_rebuilt_after_a_dropout_costs_the_round_and_names_the_lower(hybrid, kind, gone):
    session = hybrid.session(kinds={MIDDLE: kind}).run_to(2)
    for step in (2, 3, 4):
        session.run_step(step, silent=(gone,))
    before = session.coordinator._total.copy()
    with pytest.raises(FaultySiteError) as fault:
        session.finish()
    assert (fault.value.code, fault.value.blamed) == ("E_DEALER", MIDDLE)
    np.testing.assert_array_equal(session.coordinator._total, before)


def test_an_envelope_of_the_other_suite_is_refused_by_the_coordinator(hybrid):
    session = hybrid.session(kinds={MIDDLE: OtherSuite}).run_to(1)
    with pytest.raises(FaultySiteError) as fault:
        session.run_step(1)
    assert (fault.value.code, fault.value.blamed) == ("E_ENVELOPES", MIDDLE)


def test_an_envelope_has_an_offer_exactly_where_its_suite_and_its_direction_ask_for_one(hybrid):
    session = hybrid.session().run_to(2)
    upwards, downwards = session.entries(2, HIGH)[2], session.entries(2, LOW)[2]
    for wrong in (
        lambda: replace(upwards, pair_offer=None),
        lambda: replace(downwards, pair_offer=upwards.pair_offer),
        lambda: replace(upwards, ciphertext=bytes(82)),
        lambda: replace(upwards, tag_commitment=bytes(32)),
    ):
        with pytest.raises(ValueError, match="sizes of one suite"):
            wrong()


@pytest.mark.parametrize("victim", [LOW, HIGH])
def test_an_envelope_of_the_other_suite_is_refused_by_the_site_and_its_sender_is_named(hybrid, victim):
    """A coordinator that lets a colluding site through is found by the recipient."""
    session = hybrid.session().run_to(2)
    entries = session.entries(2, victim)
    cohort = session.sites[victim]._cohort
    values = {field.name: getattr(entries[2], field.name) for field in fields(entries[2])[:-1]}
    entries[2] = Envelope.signed(
        hybrid.keys[MIDDLE], (cohort.ctx, cohort.h1), **values | {"ciphertext": bytes(82), "pair_offer": None})
    assert session.refusal(2, entries, victim) == ("E_ENVELOPES", MIDDLE)


def test_a_refusal_wipes_the_offers_too(hybrid):
    session = hybrid.session().run_to(2)
    assert session.sites[LOW]._offers.keys() == set(hybrid.ids) - {LOW}
    with pytest.raises(ProtocolError):
        session.give(2, session.entries(2, LOW)[:2], LOW)
    assert session.wiped(LOW)
