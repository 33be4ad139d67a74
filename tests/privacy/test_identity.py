from __future__ import annotations

import hashlib
from dataclasses import replace

import pytest

from privacy.errors import MessageFormatError
from privacy.identity import Roster, RosterSite, SigningKey, verify


def key(name: str) -> SigningKey:
    return SigningKey.from_private_bytes(hashlib.sha256(name.encode()).digest())


def roster(n: int = 4, **changes: object) -> Roster:
    sites = tuple(RosterSite(f"site-{i}", key(f"site-{i}").public_bytes(), 100 + i) for i in range(1, n + 1))
    return replace(Roster("fed", 1, key("coordinator").public_bytes(), sites, 3, 0.5), **changes)


def test_signature_holds_for_its_key_label_and_items_only():
    one = key("one")
    public, signature = one.public_bytes(), one.sign("plan", 1, "a")
    assert verify(public, signature, "plan", 1, "a") and len(signature) == 64
    assert not verify(public, signature, "confirm", 1, "a")
    assert not verify(public, signature, "plan", 1, "b")
    assert not verify(public, signature, "plan", 1, "a", None)
    assert not verify(key("two").public_bytes(), signature, "plan", 1, "a")
    assert not verify(public, signature[:-1], "plan", 1, "a")
    assert not verify(public[:-1], signature, "plan", 1, "a")


def test_keys_are_made_from_injected_bytes_and_can_be_stored():
    asked = []

    def random_bytes(n):
        asked.append(n)
        return b"k" * n

    one = SigningKey.generate(random_bytes)
    assert asked == [32] and one.private_bytes() == b"k" * 32
    assert SigningKey.from_private_bytes(one.private_bytes()).public_bytes() == one.public_bytes()
    with pytest.raises(ValueError, match="32 bytes"):
        SigningKey.from_private_bytes(b"short")


def test_repr_shows_the_public_half_only():
    one = key("one")
    assert one.public_bytes().hex() in repr(one)
    assert one.private_bytes().hex() not in repr(one)


def test_roster_hash_does_not_depend_on_the_order_of_sites_but_on_everything_else():
    base = roster()
    assert replace(base, sites=base.sites[::-1]).hash() == base.hash()
    other = replace(base.sites[0], declared_patients=5)
    changed = [
        replace(base, version=2), replace(base, federation_id="other"), replace(base, min_cohort=4),
        replace(base, min_fraction=0.6), replace(base, coordinator_key=key("x").public_bytes()),
        replace(base, sites=base.sites[1:]), replace(base, sites=(other, *base.sites[1:])),
    ]  # fmt: skip
    assert len({base.hash(), *(one.hash() for one in changed)}) == 8


def test_roster_survives_its_file_and_only_the_canonical_file():
    base = roster()
    assert Roster.from_bytes(base.to_bytes()) == base
    shuffled = replace(base)
    object.__setattr__(shuffled, "sites", base.sites[::-1])
    for wrong in (shuffled.to_bytes(), base.to_bytes() + b"N", base.to_bytes()[:-1], b"\x02" + base.to_bytes()[1:]):
        with pytest.raises(MessageFormatError):
            Roster.from_bytes(wrong)


def test_look_up_and_growth():
    base = roster(3)
    assert base.site("site-2").declared_patients == 102
    with pytest.raises(KeyError):
        base.site("site-9")
    grown = base.with_site(RosterSite("site-0", key("site-0").public_bytes(), 7))
    assert grown.version == 2 and grown.site_ids == ("site-0", "site-1", "site-2", "site-3")


@pytest.mark.parametrize(
    ("n", "t"), [(3, 3), (4, 3), (5, 4), (8, 6), (10, 7), (16, 11), (50, 34), (100, 67), (200, 134)]
)
def test_threshold_is_the_sheets_table(n, t):
    assert roster().threshold(n) == t


def test_floor_is_the_largest_of_three_rules():
    assert roster(4, min_fraction=0.0).floor(4) == 3  # min_cohort and t(4)
    assert roster(4, min_fraction=0.0).floor(8) == 6  # t(8)
    assert roster(8, min_fraction=0.8).floor(5) == 7  # ceil(6.4)
    assert roster(8, min_fraction=0.0, min_cohort=5).floor(5) == 5
    assert roster(8, min_fraction=0.5).floor(4) == 5 and roster(9, min_fraction=0.5).floor(4) == 5  # more than half
    assert roster(8, min_fraction=0.49).floor(4) == 4


@pytest.mark.parametrize(
    "changes",
    [
        {"min_cohort": 2}, {"min_fraction": 1.1}, {"min_fraction": -0.1}, {"federation_id": ""}, {"version": -1},
        {"coordinator_key": b"short"}, {"coordinator_key": key("site-1").public_bytes()}, {"sites": []},
        {"federation_id": "a b"}, {"min_cohort": 3.0},
    ],
)  # fmt: skip
def test_a_roster_that_makes_no_sense_is_refused(changes):
    with pytest.raises(ValueError):
        roster(**changes)


def test_a_site_or_key_listed_twice_is_refused():
    base = roster()
    for extra in (replace(base.sites[0], public_key=bytes(32)), replace(base.sites[0], site_id="other")):
        with pytest.raises(ValueError, match="twice"):
            replace(base, sites=(*base.sites, extra))


@pytest.mark.parametrize("site_id", ["coordinator", "nobody", "", "-a", "a/b", "a" * 65, "site\n"])
def test_reserved_and_odd_identifiers_are_refused(site_id):
    with pytest.raises(ValueError):
        RosterSite(site_id, bytes(32), 1)


def test_a_public_key_of_low_order_verifies_nothing():
    """With the neutral element as key, R the neutral element and S = 0 satisfy S B = R + h A for every statement."""
    neutral = bytes([1]) + bytes(31)
    assert not verify(neutral, neutral + bytes(32), "label", 1, "a")
