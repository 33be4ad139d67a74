from __future__ import annotations

from dataclasses import fields, replace

import pytest

from privacy.secagg.keys import (
    Agreement,
    Channel,
    SealError,
    announced_hash,
    commit,
    dealer_hash,
    is_weak,
    open_sealed,
    pair_mask_key,
    seal,
    self_mask_key,
    survivor_hash,
)

CTX, H = b"c" * 32, b"h" * 32
CHANNEL = Channel(CTX, H, "a", "b")


@pytest.fixture
def pairs(make_stream):
    stream = make_stream("pairs")
    return Agreement.fresh(stream), Agreement.fresh(stream)


def test_both_sites_derive_the_same_pair_key_whatever_the_order_of_names(pairs):
    one, two = pairs
    key = pair_mask_key(one, two.public_bytes(), CTX, H, "a", "b")
    assert key == pair_mask_key(two, one.public_bytes(), CTX, H, "b", "a") and len(key) == 32


def test_every_binding_changes_the_derived_keys(pairs, make_stream):
    one, two = pairs
    other = Agreement.fresh(make_stream("third")).public_bytes()
    peer = two.public_bytes()
    keys = [
        pair_mask_key(one, peer, CTX, H, "a", "b"),
        pair_mask_key(one, other, CTX, H, "a", "b"),
        pair_mask_key(one, peer, b"d" * 32, H, "a", "b"),
        pair_mask_key(one, peer, CTX, b"i" * 32, "a", "b"),
        pair_mask_key(one, peer, CTX, H, "a", "c"),
        self_mask_key(bytes(32), CTX, H, "a"),
        self_mask_key(bytes(32), b"d" * 32, H, "a"),
        self_mask_key(bytes(32), CTX, b"i" * 32, "a"),
        self_mask_key(bytes(32), CTX, H, "b"),
        self_mask_key(b"1" * 32, CTX, H, "a"),
    ]
    assert len(set(keys)) == len(keys)


def test_an_envelope_opens_only_for_its_recipient_and_its_round(pairs):
    one, two = pairs
    sealed = seal(one, two.public_bytes(), CHANNEL, b"shares")
    assert open_sealed(two, one.public_bytes(), CHANNEL, sealed) == b"shares"
    changes = {"ctx": b"d" * 32, "h1": b"i" * 32, "sender": "c", "recipient": "c"}
    assert set(changes) == {field.name for field in fields(Channel)}
    for name, value in changes.items():
        with pytest.raises(SealError):
            open_sealed(two, one.public_bytes(), replace(CHANNEL, **{name: value}), sealed)
    with pytest.raises(SealError):
        open_sealed(two, two.public_bytes(), CHANNEL, sealed)
    with pytest.raises(SealError):
        open_sealed(two, one.public_bytes(), CHANNEL, sealed[:-1] + bytes([sealed[-1] ^ 1]))


def test_the_two_directions_use_different_keys(pairs):
    one, two = pairs
    there = seal(one, two.public_bytes(), CHANNEL, bytes(66))
    back = seal(two, one.public_bytes(), Channel(CTX, H, "b", "a"), bytes(66))
    assert there[:66] != back[:66]


def test_commitments_bind_kind_dealer_recipient_and_round():
    seen = {
        commit("seed", CHANNEL, b"x"),
        commit("seed-share", CHANNEL, b"x"),
        commit("seed", replace(CHANNEL, recipient="c"), b"x"),
        commit("seed", replace(CHANNEL, h1=bytes(32)), b"x"),
        commit("seed", CHANNEL, b"y"),
    }
    assert len(seen) == 5


def test_cohort_hashes_chain_and_ignore_order():
    h2 = dealer_hash(H, ["b", "a"])
    assert h2 == dealer_hash(H, ["a", "b"]) != dealer_hash(H, ["a"])
    assert h2 != dealer_hash(CTX, ["a", "b"])
    uploads = {"a": (b"1", b"2"), "b": (b"3", b"4")}
    h3 = survivor_hash(h2, uploads)
    assert h3 == survivor_hash(h2, dict(reversed(uploads.items())))
    assert len({h3, survivor_hash(H, uploads), survivor_hash(h2, uploads | {"b": (b"3", b"5")})}) == 3
    assert announced_hash(CTX, [("a",)]) != announced_hash(CTX, [("b",)])


def test_low_order_keys_are_weak_and_secrets_stay_out_of_repr(pairs):
    low_order = bytes.fromhex("e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800")  # RFC 7748 curve
    assert is_weak(bytes(32)) and is_weak(low_order) and is_weak(b"\x01" + bytes(31))
    assert not is_weak(pairs[0].public_bytes())
    assert repr(pairs[0]) == "Agreement(...)"


def test_x25519_known_answer():
    """RFC 7748, section 6.1."""
    alice = Agreement(bytes.fromhex("77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a"))
    bob = Agreement(bytes.fromhex("5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb"))
    assert alice.public_bytes().hex() == "8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a"
    shared = "4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742"
    assert alice.exchange(bob.public_bytes()).hex() == shared == bob.exchange(alice.public_bytes()).hex()


def test_a_key_is_weak_iff_an_exchange_with_it_gives_zero(make_stream):
    """Every listed point, its neighbours and its form with the ignored top bit, against the exchange itself."""
    from privacy.secagg.keys import _LOW_ORDER

    near = {(point + step) % 2**255 for point in _LOW_ORDER for step in (-1, 0, 1)}
    candidates = [(value + top).to_bytes(32, "little") for value in near for top in (0, 2**255)]
    candidates += [make_stream("keys").random_bytes(32) for _ in range(20)]
    refused = 0
    for key in candidates:
        try:
            Agreement(b"\x01" * 32).exchange(key)
            fails = False
        except ValueError:
            fails = True
        refused += fails
        assert is_weak(key) == fails
    assert refused == 2 * 7
    assert is_weak(bytes(31)) and is_weak(b"")
