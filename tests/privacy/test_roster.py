"""A roster of a new version needs its own officers, and those of the version it replaces."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from privacy.identity import MAX_DIMENSION, Officer, Roster, RosterSite
from privacy.roster import OfficerSignature, RosterError, SignedRoster
from privacy.roster_facts import fingerprint, roster_changes, roster_facts, roster_text
from tests.privacy.officers import KEYS, OFFICERS, signed
from tests.privacy.test_identity import key, roster

FIRST = signed(roster(4))


def successor(**changes: Any) -> Roster:
    return replace(FIRST.roster, **{"version": 2, **changes})


def refusal(file: SignedRoster, pinned: Roster | None = None) -> str:
    with pytest.raises(RosterError) as refused:
        SignedRoster.open(file.to_bytes(), pinned=pinned)
    assert "\n" not in str(refused.value)
    return str(refused.value)


# ------------------------------------------------------------------ the roster's own fields


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"officers": (OFFICERS[0], OFFICERS[0])}, "name or key is taken"),
        ({"officers": (OFFICERS[0], replace(OFFICERS[0], name="dan"))}, "name or key is taken"),
        ({"officers": (OFFICERS[0], replace(OFFICERS[1], name="ann"))}, "name or key is taken"),
        ({"officers": (Officer("ann", key("site-1").public_bytes()),)}, "name or key is taken"),
        ({"officers": (Officer("ann", key("coordinator").public_bytes()),)}, "name or key is taken"),
        ({"suites": ()}, "suites"), ({"suites": ("x25519", "x25519")}, "suites"), ({"suites": ("rsa",)}, "suites"),
        ({"max_dimension": 0}, "max_dimension"), ({"max_dimension": MAX_DIMENSION + 1}, "max_dimension"),
        ({"two_sites": True}, "min_cohort 2"), ({"two_sites": True, "min_cohort": 2}, "exactly two"),
        ({"min_cohort": 2}, "min_cohort"),
    ])
def test_a_roster_that_makes_no_sense_is_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        roster(4, **changes)


def test_two_sites_are_two_active_ones_and_no_other_number() -> None:
    pair = roster(2, two_sites=True, min_cohort=2)
    assert (pair.threshold(2), pair.floor(2)) == (2, 2)
    with pytest.raises(ValueError, match="exactly two"):
        replace(pair, sites=(pair.sites[0], replace(pair.sites[1], status="suspended")))
    three = roster(3)
    idle = replace(three.sites[2], status="suspended")
    assert replace(three, sites=(*three.sites[:2], idle), two_sites=True, min_cohort=2).active_ids == pair.site_ids
    with pytest.raises(ValueError, match="exactly two"):
        roster(2, two_sites=True, min_cohort=3)


@pytest.mark.parametrize("name", ["", "a b", "coordinator", "x" * 65])
def test_an_officer_has_a_plain_name_and_a_whole_key(name: str) -> None:
    with pytest.raises(ValueError, match="officer's name"):
        Officer(name, bytes(32))
    with pytest.raises(ValueError, match="public_key"):
        Officer("ann", bytes(31))


def test_a_site_is_active_or_suspended() -> None:
    with pytest.raises(ValueError, match="status"):
        RosterSite("a", bytes(32), 1, "gone")  # type: ignore[arg-type]


def test_one_roster_has_one_hash_and_every_field_is_in_it() -> None:
    base = FIRST.roster
    suites = ("x25519", "x25519-mlkem768")
    assert replace(base, officers=base.officers[::-1]).hash() == base.hash()
    assert replace(base, suites=suites).hash() == replace(base, suites=suites[::-1]).hash()
    changed = [
        replace(base, officers=base.officers[1:]), replace(base, suites=suites), replace(base, max_dimension=9),
        replace(base, sites=(replace(base.sites[0], status="suspended"), *base.sites[1:])),
        roster(2), roster(2, two_sites=True, min_cohort=2),
    ]  # fmt: skip
    assert len({base.hash(), *(one.hash() for one in changed)}) == 7
    assert Roster.from_bytes(base.to_bytes()) == base


# ------------------------------------------------------------------ two officers


def test_two_officers_are_enough_whichever_they_are() -> None:
    for names in (("ann", "bob"), ("cleo", "ann"), ("ann", "bob", "cleo")):
        file = signed(roster(4), *names)
        assert SignedRoster.open(file.to_bytes()) == file.roster == FIRST.roster
        assert file.signers(file.roster) == tuple(sorted(names))


def test_fewer_than_two_officers_are_refused() -> None:
    assert "signed by 0 of its own officers and 2 are needed" in refusal(SignedRoster(FIRST.roster))
    assert "signed by 1 of its own officers" in refusal(signed(roster(4), "ann"))
    assert "signed by 0" in refusal(SignedRoster(roster(4)))  # a roster without officers is never enough


def test_one_officer_who_signs_twice_is_one() -> None:
    once = SignedRoster(FIRST.roster).sign(KEYS["ann"])
    assert once.sign(KEYS["ann"]) == once
    with pytest.raises(ValueError, match="signs a roster once"):
        replace(once, signatures=once.signatures * 2)


def test_a_stranger_cannot_sign_and_counts_for_nothing() -> None:
    with pytest.raises(RosterError, match="no officer of the roster"):
        SignedRoster(FIRST.roster).sign(key("site-1"))
    other = replace(FIRST.roster, officers=(OFFICERS[0], Officer("eve", key("eve").public_bytes())))
    eve = SignedRoster(FIRST.roster).sign(key("eve"), pinned=other)  # good, and hers, but she is no officer here
    assert "signed by 1 of its own officers" in refusal(eve.sign(KEYS["ann"]))


@pytest.mark.parametrize("changed", [{"public_key": bytes(31)}, {"public_key": b""}, {"signature": bytes(63)}], ids=str)
def test_a_signature_of_an_officer_has_its_two_sizes(changed: dict[str, bytes]) -> None:
    with pytest.raises(ValueError, match=f"an officer's {next(iter(changed))}"):
        replace(FIRST.signatures[0], **changed)


def test_a_signature_holds_for_one_roster_only() -> None:
    moved = SignedRoster(successor(), FIRST.signatures)
    assert "is not good" in refusal(moved)
    zeros = OfficerSignature(KEYS["cleo"].public_bytes(), bytes(64))
    assert "is not good" in refusal(replace(FIRST, signatures=(*FIRST.signatures, zeros)))


@pytest.mark.parametrize("data", [b"", b"junk", FIRST.roster.to_bytes(), FIRST.to_bytes()[:-1]])
def test_another_file_is_refused_in_one_sentence(data: bytes) -> None:
    with pytest.raises(RosterError, match="not a signed roster of this release"):
        SignedRoster.open(data)


# ------------------------------------------------------------------ replacing a pinned roster


def test_two_officers_of_the_pinned_roster_let_a_higher_version_in() -> None:
    new = SignedRoster.make(successor(version=7), KEYS["ann"], KEYS["cleo"])
    assert SignedRoster.open(new.to_bytes(), pinned=FIRST.roster).version == 7


@pytest.mark.parametrize("version", [0, 1])
def test_a_roster_never_goes_back(version: int) -> None:
    again = SignedRoster.make(successor(version=version, min_cohort=4), *KEYS.values())
    assert "never goes back" in refusal(again, FIRST.roster)
    assert "never goes back" in refusal(FIRST, FIRST.roster)


def test_another_federation_is_refused() -> None:
    assert "of the federation other" in refusal(
        SignedRoster.make(successor(federation_id="other"), *KEYS.values()), FIRST.roster)


def test_new_officers_cannot_appoint_themselves() -> None:
    theirs = {name: key(name) for name in ("dan", "eve")}
    officers = tuple(Officer(name, each.public_bytes()) for name, each in theirs.items())
    usurped = SignedRoster.make(successor(officers=officers), *theirs.values())
    assert SignedRoster.open(usurped.to_bytes()).version == 2  # in itself it is signed well
    words = "signed by 0 of the officers of the pinned version 1 and 2 of them are needed"
    assert words in refusal(usurped, FIRST.roster)
    helped = usurped.sign(KEYS["ann"], pinned=FIRST.roster)
    assert "signed by 1 of the officers of the pinned" in refusal(helped, FIRST.roster)
    handed_over = helped.sign(KEYS["bob"], pinned=FIRST.roster)
    assert SignedRoster.open(handed_over.to_bytes(), pinned=FIRST.roster).officers == officers


def test_an_officers_name_with_another_key_is_another_officer() -> None:
    taken = tuple(Officer(name, key(f"new {name}").public_bytes()) for name in ("ann", "bob"))
    new = SignedRoster.make(successor(officers=taken), key("new ann"), key("new bob"))
    assert "signed by 0 of the officers of the pinned" in refusal(new, FIRST.roster)


# ------------------------------------------------------------------ what a person reads


def test_equal_rosters_have_no_changes_and_each_field_is_named() -> None:
    old = FIRST.roster
    assert roster_changes(old, old) == ()
    new_key = key("new").public_bytes()
    cases: list[tuple[dict[str, Any], str]] = [
        ({"version": 2}, "version: 1 -> 2"), ({"federation_id": "other"}, "federation_id: fed -> other"),
        ({"coordinator_key": new_key}, "coordinator's key changed: "), ({"min_cohort": 4}, "min_cohort: 3 -> 4"),
        ({"min_fraction": 0.25}, "min_fraction: 0.5 -> 0.25"), ({"max_dimension": 9}, f"max_dimension: {1 << 28} -> 9"),
        ({"suites": ("x25519", "x25519-mlkem768")}, "suites: x25519 -> x25519, x25519-mlkem768"),
        ({"sites": old.sites[1:]}, "site removed: site-1"),
        ({"sites": (*old.sites, RosterSite("new", new_key, 9))}, f"site added: new {fingerprint(new_key)}"),
        ({"sites": (replace(old.sites[0], public_key=new_key), *old.sites[1:])}, "site's key changed: site-1"),
        ({"sites": (replace(old.sites[0], status="suspended"), *old.sites[1:])}, "site-1: status active -> suspended"),
        ({"sites": (replace(old.sites[0], declared_patients=5), *old.sites[1:])}, "declared_patients 101 -> 5"),
        ({"officers": OFFICERS[1:]}, "officer removed: ann"),
        ({"officers": (*OFFICERS, Officer("dan", new_key))}, "officer added: dan"),
        ({"officers": (replace(OFFICERS[0], public_key=new_key), *OFFICERS[1:])}, "officer's key changed: ann"),
    ]  # fmt: skip
    for changes, words in cases:
        (line,) = roster_changes(old, replace(old, **changes))
        assert words in line
    pair = roster(2)
    assert roster_changes(pair, replace(pair, two_sites=True, min_cohort=2)) == (
        "min_cohort: 3 -> 2", "two_sites: False -> True")


def test_facts_say_who_signed_and_how_many_sites_a_sum_needs() -> None:
    facts = roster_facts(FIRST)
    assert [officer["signed"] for officer in facts["officers"]] == [True, True, False]
    assert facts["cohorts"] == [
        {"announced": 3, "threshold": 3, "floor": 3, "may_drop_out": 0},
        {"announced": 4, "threshold": 3, "floor": 3, "may_drop_out": 1}]
    text = roster_text(facts)
    assert FIRST.roster.hash().hex() in text and text.count("  signed") == 2
    assert all(fingerprint(site.public_key) in text for site in FIRST.roster.sites)
    assert "no round can begin" in roster_text(roster_facts(SignedRoster(roster(2))))
    assert "hides from the coordinator only" in roster_text(
        roster_facts(SignedRoster(roster(2, two_sites=True, min_cohort=2))))
