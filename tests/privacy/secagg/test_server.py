"""What the coordinator holds, and the order in which it works."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from privacy.errors import CohortTooSmallError, FaultySiteError, LateMessageError
from privacy.secagg.server import STEPS, CoordinatorRound


def reachable(root):
    """Every object that can be reached from `root` through attributes and containers."""
    seen, queue = {}, [root]
    while queue:
        item = queue.pop()
        if id(item) in seen or isinstance(item, type):
            continue
        seen[id(item)] = item
        if isinstance(item, dict):
            queue += [*item.keys(), *item.values()]
        elif isinstance(item, list | tuple | set | frozenset):
            queue += item
        elif isinstance(item, np.ndarray) and item.base is not None:
            queue.append(item.base)
        queue += vars(item).values() if hasattr(item, "__dict__") else []
    return list(seen.values())


def test_no_single_sites_vector_is_held_after_it_was_folded(make_federation):
    federation = make_federation(4, dimension=2000)
    session = federation.session().run_to(2)
    for site in session.ids:
        header, packed = session.reply(2, site)
        session.coordinator.receive_masked(site, header, packed)
        held = reachable(session.coordinator)
        arrays = [item for item in held if isinstance(item, np.ndarray)]
        assert len(arrays) == 1 and arrays[0] is session.coordinator._total
        assert all(len(item) < 2000 for item in held if isinstance(item, bytes | bytearray | memoryview))
        assert not any(item is packed for item in held)
    assert len(held) > 50  # the walk does reach into the round


def test_the_running_sum_is_still_masked_before_the_last_step(session):
    session.run_to(4)
    running = session.coordinator._total & np.uint32(0xFFFFFF)
    assert not np.any(running == session.plain_sum(session.ids))


def test_steps_and_waiting_lists(session):
    coordinator = session.coordinator
    assert coordinator.step == "advertise" and coordinator.waiting == session.ids
    session.deliver(0, "site-001", session.reply(0, "site-001"))
    assert coordinator.waiting == session.ids[1:]
    session.run_step(0, silent={"site-005"})
    assert coordinator.step == "share" and coordinator.waiting == session.ids[:4]
    for step in (1, 2, 3, 4):
        assert coordinator.step == STEPS[step]
        session.run_step(step)
    assert coordinator.waiting == ()
    session.finish()
    assert coordinator.step == "done" and coordinator.survivors == session.ids[:4]


def test_a_step_below_its_floor_stays_open_and_can_still_be_closed(session):
    for site in session.ids[:2]:
        session.deliver(0, site, session.reply(0, site))
    with pytest.raises(CohortTooSmallError) as small:
        session.close(0)
    assert (small.value.code, small.value.blamed) == ("E_COHORT_SMALL", "nobody")
    session.run_step(0)
    assert session.coordinator.step == "share"


@pytest.mark.parametrize("step", [0, 1, 2, 3])
def test_every_step_needs_its_floor_at_the_coordinator_too(session, step):
    session.run_to(step)
    for site in session.ids[:3]:  # the floor and t of five are four
        session.deliver(step, site, session.reply(step, site))
    if step == 0:
        session.close(0)  # of three that announced, three are enough
        assert session.coordinator.waiting == session.ids[:3]
        return
    with pytest.raises(CohortTooSmallError):
        session.close(step)
    assert session.coordinator.step == STEPS[step]
    session.deliver(step, session.ids[3], session.reply(step, session.ids[3]))
    session.close(step)


def test_late_message_is_ignored_and_nobody_is_blamed(session):
    session.run_to(1)
    late = session.reply(1, "site-005")
    session.run_step(1, silent={"site-005"})
    with pytest.raises(LateMessageError) as ignored:
        session.deliver(1, "site-005", late)
    assert (ignored.value.code, ignored.value.blamed) == ("E_LATE", "nobody")
    assert "site-005" not in session.inbox


def test_late_upload_is_not_folded(session):
    session.run_to(2)
    late = session.reply(2, "site-005")
    session.run_step(2, silent={"site-005"})
    before = session.coordinator._total.copy()
    with pytest.raises(LateMessageError):
        session.deliver(2, "site-005", late)
    assert (session.coordinator._total == before).all()


def test_an_accepted_upload_is_folded_once(session):
    session.run_to(2)
    reply = session.reply(2, "site-001")
    session.deliver(2, "site-001", reply)
    before = session.coordinator._total.copy()
    session.deliver(2, "site-001", reply)
    assert (session.coordinator._total == before).all()


def test_early_message_is_refused(session):
    session.run_step(0)
    with pytest.raises(FaultySiteError) as fault:
        session.coordinator.receive_confirm("site-001", b"")
    assert (fault.value.code, fault.value.blamed) == ("E_STAGE", "site-001")


def test_a_site_that_left_cannot_come_back(session):
    session.run_step(0)
    session.run_step(1, silent={"site-005"})
    with pytest.raises(FaultySiteError) as fault:
        session.coordinator.receive_masked("site-005", b"", np.zeros(18, np.uint8))
    assert fault.value.code == "E_STAGE"


def test_steps_close_in_order_and_the_sum_is_given_once(session):
    to = session.coordinator
    closers = (to.close_advertise, to.close_share, to.close_masked, to.close_confirm, to.finish)
    for step in range(5):
        for other, close in enumerate(closers):
            if other != step:
                with pytest.raises(ValueError, match=f"open step is {STEPS[step]}"):
                    close()
        session.run_step(step)
    session.finish()
    for close in closers:
        with pytest.raises(ValueError, match="open step is done"):
            close()


def test_a_round_needs_its_own_roster_key_and_a_ring_that_cannot_wrap(federation):
    plan, roster = federation.plan(), federation.roster
    with pytest.raises(ValueError, match="roster"):
        CoordinatorRound(plan=plan, roster=roster, signing_key=federation.keys["site-001"])
    with pytest.raises(ValueError, match="roster"):
        CoordinatorRound(plan=plan, roster=replace(roster, version=9), signing_key=federation.coordinator_key)
    with pytest.raises(ValueError, match="wrap"):
        federation.coordinator(federation.plan(scale=2.0**22))
