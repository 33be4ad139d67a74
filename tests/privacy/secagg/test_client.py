"""Order, redelivery, hooks and secrets of a site's machine."""

from __future__ import annotations

from dataclasses import replace

import pytest

from privacy.errors import FaultyCoordinatorError
from privacy.results import RoundView
from privacy.secagg.client import SiteRound

ME, PEER = "site-001", "site-002"


def test_unmask_twice(session):
    session.run_to(4)
    confirms = session.entries(4, ME)
    first = session.give(4, confirms, ME)
    assert session.give(4, confirms, ME) == first  # an identical redelivery
    with pytest.raises(FaultyCoordinatorError) as refusal:
        session.give(4, confirms[:4], ME)  # also a quorum, but another request
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
    changed = list(reversed(session.entries(step, ME)))
    with pytest.raises(FaultyCoordinatorError) as refusal:
        session.give(step, changed, ME)
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
    assert session.wiped(ME)


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


def test_a_site_must_be_on_both_the_roster_and_the_manifest(federation):
    """Each alone is not enough, and the refusal says what to check."""
    others = tuple(terms for terms in federation.manifest.sites if terms.site_id != ME)
    entries = tuple(entry for entry in federation.roster.sites if entry.site_id != ME)
    for changes in (
        {"manifest": replace(federation.manifest, sites=others)},
        {"roster": replace(federation.roster, sites=entries)},
    ):
        parts = {"roster": federation.roster, "manifest": federation.manifest} | changes
        with pytest.raises(ValueError, match="on the roster and in the manifest"):
            SiteRound(site_id=ME, signing_key=federation.keys[ME], entropy=None, **parts)


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
    assert session.wiped(ME)
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


def test_what_a_site_saw_of_an_attempt_is_what_the_coordinator_agreed_on(session):
    machine = session.sites[ME]
    with pytest.raises(FaultyCoordinatorError) as refusal:
        _ = machine.view  # there is no plan yet
    assert refusal.value.code == "E_STAGE"
    session.run_step(0)
    assert machine.view == RoundView(session.plan.context())
    session.run_step(1)
    assert machine.view == RoundView(
        session.plan.context(), session.coordinator.cohort.h1, announced=5)
    session.run_step(2, {PEER})
    session.run_step(3)
    assert machine.view == session.coordinator.view
    assert machine.view.survivors == tuple(site for site in session.ids if site != PEER)
