"""The integrity tag: the honest sum passes, and nothing that a coordinator can do to it does."""

from __future__ import annotations

from dataclasses import fields

import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from hypothesis import given, settings
from hypothesis import strategies as st

from privacy.encoding import transcript
from privacy.errors import FaultyCoordinatorError, FaultySiteError, ProtocolError
from privacy.messages import Envelope, EnvelopeList
from privacy.secagg.client import SiteRound
from privacy.secagg.keys import commit, derive, seal
from privacy.secagg.tags import (
    add_tags,
    check_tags,
    mask_tags,
    masked_tags,
    site_tags,
    tag_key,
    tags_from_bytes,
    tags_to_bytes,
)

KEY = bytes(range(32))
SITES = ("a", "b", "c")
LIAR, VICTIM = "site-003", "site-001"


def words(label, *items, count):
    """An independent keystream, as Python integers."""
    key = derive(KEY, b"", transcript(label, *items))
    stream = Cipher(algorithms.AES256(key), modes.CTR(bytes(16))).encryptor().update(bytes(8 * count))
    return [int.from_bytes(stream[8 * i : 8 * i + 8], "little") for i in range(count)]


def honest(bits=24, dimension=5, lanes=2, seed=0):
    """Three sites' vectors, their ring sum and its tags."""
    bound = 1 << (bits - 3)
    drawn = np.random.default_rng(seed).integers(-bound, bound, (3, dimension))
    tags = [0] * lanes
    for site, row in zip(SITES, drawn, strict=True):
        add_tags(tags, site_tags(KEY, site, row.astype(np.int64).astype(np.uint32), lanes))
    total = (drawn.sum(axis=0) % (1 << bits)).astype(np.uint32)
    return total, tags


def accepts(total, tags, *, bits=24, survivors=SITES, key=KEY):
    try:
        check_tags(key, total, bits, survivors, tags_to_bytes(tags), lanes=2)
    except ProtocolError as error:
        assert (error.code, error.blamed) == ("E_TAG", "nobody")
        return False
    return True


def test_a_tag_is_the_inner_product_plus_the_sites_pad():
    values = [3, -7, 0, 2**22, -(2**22)]
    expected = [
        (sum(r * q for r, q in zip(words("tag-coefficients", lane, count=5), values, strict=True)) + pad) % 2**64
        for lane, pad in enumerate(words("tag-pad", "a", count=3))
    ]
    assert site_tags(KEY, "a", np.array(values).astype(np.uint32), 3) == expected


def test_blocks_join_without_a_seam():
    values = (np.arange(40_000) - 20_000).astype(np.uint32)
    coefficients = words("tag-coefficients", 0, count=values.size)
    expected = sum(r * (i - 20_000) for i, r in enumerate(coefficients)) + words("tag-pad", "a", count=1)[0]
    assert site_tags(KEY, "a", values, 1) == [expected % 2**64]


@pytest.mark.parametrize("bits", [16, 24, 32])
def test_the_honest_sum_passes_and_zero_lanes_check_nothing(bits):
    total, tags = honest(bits)
    assert accepts(total, tags, bits=bits)
    check_tags(KEY, total, bits, SITES, (), lanes=0)


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_any_change_of_one_coordinate_fails(data):
    bits = data.draw(st.sampled_from([16, 24, 32]))
    total, tags = honest(bits, seed=data.draw(st.integers(0, 5)))
    at = data.draw(st.integers(0, total.size - 1))
    error = data.draw(st.one_of(
        st.integers(1, (1 << bits) - 1), st.integers(0, bits - 1).map(lambda power: 1 << power)))
    total[at] = (int(total[at]) + error) % (1 << bits)
    assert not accepts(total, tags, bits=bits)


@settings(max_examples=100, deadline=None)
@given(lane=st.integers(0, 1), error=st.integers(1, 2**64 - 1))
def test_any_change_of_a_tag_fails(lane, error):
    total, tags = honest()
    tags[lane] = (tags[lane] + error) % 2**64
    assert not accepts(total, tags)


def test_swaps_constants_scalings_and_other_survivors_fail():
    total, tags = honest()
    assert accepts(total, tags)
    swapped = total.copy()
    swapped[[0, 1]] = swapped[[1, 0]]
    assert swapped[0] != swapped[1] and not accepts(swapped, tags)
    for constant in (1, 2**23):
        shifted = ((total.astype(np.int64) + constant) % 2**24).astype(np.uint32)
        assert not accepts(shifted, tags)
    doubled = (total * 2) % 2**24
    assert not accepts(doubled.astype(np.uint32), [tag * 2 % 2**64 for tag in tags])
    assert not accepts(np.zeros_like(total), [0, 0])  # linear without a pad, this would pass
    assert not accepts(total, tags[::-1])
    for survivors in (SITES[:2], (*SITES, "d"), ("a", "b", "d")):
        assert not accepts(total, tags, survivors=survivors)
    assert not accepts(total, tags, key=bytes(32))


@pytest.mark.parametrize("tags", [(), (bytes(8),), (bytes(16),), (bytes(8),) * 3])
def test_another_number_of_lanes_fails(tags):
    with pytest.raises(ProtocolError):
        check_tags(KEY, honest()[0], 24, SITES, tags, lanes=2)


def test_masks_cancel_and_have_their_own_label():
    tags, keys = [1, 2**64 - 1], [b"1" * 32, b"2" * 32]
    mask_tags(tags, keys[:1], keys[1:])
    assert tags != [1, 2**64 - 1]
    stream = Cipher(algorithms.AES256(b"1" * 32), modes.CTR(bytes(16))).encryptor().update(bytes(8))
    alone = [0]
    mask_tags(alone, keys[:1], [])
    assert alone != tags_from_bytes(stream)  # the vector's own mask begins with these bytes
    mask_tags(tags, keys[1:], keys[:1])
    assert tags == [1, 2**64 - 1]


def test_the_key_depends_on_every_contribution_and_the_round():
    given_ = {"a": b"1" * 32, "b": b"2" * 32}
    keys = {
        tag_key(given_, KEY, KEY), tag_key(given_ | {"b": b"3" * 32}, KEY, KEY), tag_key(given_, bytes(32), KEY),
        tag_key(given_, KEY, bytes(32)), tag_key({"a": b"1" * 32, "c": b"2" * 32}, KEY, KEY),
        tag_key({"a": b"2" * 32, "b": b"1" * 32}, KEY, KEY),
    }  # fmt: skip
    assert len(keys) == 6 and tag_key(dict(reversed(given_.items())), KEY, KEY) in keys


@pytest.fixture(scope="module")
def tagged(make_federation):
    return make_federation(dimension=4, tags=2)


def finished(federation, **options):
    session = federation.session(**options).run_to(4)
    session.run_step(4)
    return session, session.finish()


@pytest.mark.parametrize("suite", ["x25519", "x25519-mlkem768"])
def test_every_site_verifies_the_sum_and_none_another(make_federation, suite):
    session, total = finished(make_federation(dimension=4, tags=2, suite=suite))
    tags = session.coordinator.tags
    assert [len(tag) for tag in tags] == [8, 8]
    other = total.copy()
    other[3] ^= 1
    for machine in session.sites.values():
        machine.verify_sum(total, tags)
        for wrong in ((other, tags), (total, tags[::-1]), (total, tags[:1]), (total, ())):
            with pytest.raises(ProtocolError) as refused:
                machine.verify_sum(*wrong)
            assert (refused.value.code, refused.value.blamed) == ("E_TAG", "nobody")
        machine.verify_sum(total, tags)  # a refusal here changes nothing


def test_verification_waits_for_the_survivors_and_ends_with_the_secrets(tagged):
    session = tagged.session().run_to(3)
    machine = session.sites[VICTIM]
    with pytest.raises(FaultyCoordinatorError) as refused:
        machine.verify_sum(np.zeros(4, dtype=np.uint32), (bytes(8),) * 2)
    assert refused.value.code == "E_STAGE"
    machine.abort()
    assert session.wiped(VICTIM)
    with pytest.raises(FaultyCoordinatorError):
        machine.verify_sum(np.zeros(4, dtype=np.uint32), (bytes(8),) * 2)


def test_a_run_without_tags_has_none(federation):
    session, total = finished(federation)
    assert session.coordinator.tags == ()
    session.sites[VICTIM].verify_sum(total, ())


def test_tags_add_eight_bytes_a_lane_and_are_masked(tagged, federation):
    session = tagged.session()
    for site in tagged.ids:
        session.vectors[site].values[:] = 7
    session.run_to(3)
    sent = [upload.tobytes() for _, upload in session.uploads.values()]
    assert {len(upload) for upload in sent} == {4 * 3 + 2 * 8}
    assert len({upload[-16:-8] for upload in sent} | {upload[-8:] for upload in sent}) == 2 * len(sent)
    machine, ring_values = session.sites[VICTIM], np.full(4, 7, dtype=np.uint32)
    bare = masked_tags(machine._tag_key, VICTIM, ring_values, 2, [], []).tobytes()
    assert bare != sent[0][-16:]


@pytest.mark.parametrize("change", [lambda up: up[:-8], lambda up: np.concatenate([up, up[:8]])])
def test_an_upload_with_another_number_of_tags_is_refused(tagged, change):
    session = tagged.session().run_to(2)
    header, packed = session.reply(2, LIAR)
    with pytest.raises(FaultySiteError) as fault:
        session.coordinator.receive_masked(LIAR, header, change(packed))
    assert (fault.value.code, fault.value.blamed) == ("E_UPLOAD", LIAR)


class Dealer(SiteRound):
    """Gives VICTIM another contribution than everybody else."""

    equivocates = False

    def _envelope(self, recipient, seed_share, key_share):
        envelope = super()._envelope(recipient, seed_share, key_share)
        if recipient != VICTIM:
            return envelope
        channel, other = self._cohort.channel(self._id, recipient), b"\x01" * 32
        plain = seed_share.to_bytes() + key_share.to_bytes() + other
        changes = {"ciphertext": seal(self._channel_pair, self._cohort.adverts[VICTIM].channel_key, channel, plain)}
        if self.equivocates:
            changes["tag_commitment"] = commit("tag", self._cohort.channel(self._id, self._id), other)
        values = {field.name: getattr(envelope, field.name) for field in fields(envelope)[:-1]}
        return Envelope.signed(self._signing_key, (self._cohort.ctx, self._cohort.h1), **values | changes)


class TwoFacedDealer(Dealer):
    equivocates = True


class SealedGarbage(Dealer):
    def _envelope(self, recipient, seed_share, key_share):
        envelope = SiteRound._envelope(self, recipient, seed_share, key_share)
        values = {field.name: getattr(envelope, field.name) for field in fields(envelope)[:-1]}
        values |= {"ciphertext": bytes(114)} if recipient == VICTIM else {}
        return Envelope.signed(self._signing_key, (self._cohort.ctx, self._cohort.h1), **values)


@pytest.mark.parametrize(("kind", "code"), [(Dealer, "E_SHARE_COMMIT"), (SealedGarbage, "E_SHARE_DECRYPT")])
def test_a_bad_contribution_is_refused_before_masking_and_its_dealer_named(tagged, kind, code):
    session = tagged.session(kinds={LIAR: kind}).run_to(2)
    session.sites[VICTIM].on_masking = lambda: pytest.fail("nothing may be masked")
    with pytest.raises(FaultySiteError) as fault:
        session.reply(2, VICTIM)
    assert (fault.value.code, fault.value.blamed) == (code, LIAR) and session.wiped(VICTIM)
    again = tagged.session(plan=tagged.plan(attempt=2), salt="again")  # the update was not spent
    again.vectors = session.vectors
    again.run_to(4)
    again.run_step(4)
    np.testing.assert_array_equal(again.finish(), again.plain_sum(tagged.ids))


def test_two_contributions_of_one_dealer_are_refused_by_the_coordinator(tagged):
    session = tagged.session(kinds={LIAR: TwoFacedDealer}).run_to(1)
    with pytest.raises(FaultySiteError) as fault:
        session.run_step(1)
    assert (fault.value.code, fault.value.blamed) == ("E_ENVELOPES", LIAR)


def test_an_envelope_without_a_contribution_is_refused_by_coordinator_and_site(tagged, federation):
    """Shaped as in a run without tags."""

    class Untagged(SiteRound):
        def _envelope(self, recipient, seed_share, key_share):
            self._contribution = b""
            return super()._envelope(recipient, seed_share, key_share)

    session = tagged.session(kinds={LIAR: Untagged}).run_to(1)
    reply = session.reply(1, LIAR)
    with pytest.raises(FaultySiteError) as fault:
        session.coordinator.receive_share(LIAR, reply)
    assert (fault.value.code, fault.value.blamed) == ("E_ENVELOPES", LIAR)
    bare = next(one for one in EnvelopeList.from_bytes(reply).entries if one.recipient == VICTIM)
    dealt = [EnvelopeList.from_bytes(session.reply(1, site)).entries for site in tagged.ids if site != LIAR]
    entries = [bare, *(one for envelopes in dealt for one in envelopes if one.recipient == VICTIM)]
    assert session.refusal(2, entries, VICTIM) == ("E_ENVELOPES", LIAR)


def test_a_site_that_lies_in_its_tag_fails_the_check_for_all(tagged):
    class Tagger(SiteRound):
        def _open_all(self, envelopes):
            super()._open_all(envelopes)
            self._tag_key = bytes(32)

    session, total = finished(tagged, kinds={LIAR: Tagger})
    np.testing.assert_array_equal(total, session.plain_sum(tagged.ids))
    with pytest.raises(ProtocolError) as refused:
        session.sites[VICTIM].verify_sum(total, session.coordinator.tags)
    assert (refused.value.code, refused.value.blamed) == ("E_TAG", "nobody")
