"""At-least-once delivery, step by step: identical bytes get the identical reply, other bytes get nothing.

And a vector that arrives after its site was counted out stays masked: nobody ever reveals a share of its own mask.
"""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from privacy.errors import CohortTooSmallError, FaultyCoordinatorError, FaultySiteError, LateMessageError
from privacy.messages import UnmaskShares

ME = "site-001"
AFTER = ("advertised", "shared", "masked", "confirmed", "done")
STEPS = range(5)


def as_bytes(reply):
    """A reply as one byte string."""
    return reply if isinstance(reply, bytes) else reply[0] + reply[1].tobytes()


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("times", [1, 3])
def test_a_site_repeats_its_reply_to_identical_bytes_and_draws_nothing_new(session, step, times):
    session.run_to(step)
    first = as_bytes(session.reply(step, ME))
    machine = session.sites[ME]
    drawn = machine._entropy._count
    for _ in range(times):
        assert as_bytes(session.reply(step, ME)) == first
    assert machine._entropy._count == drawn and machine.state == AFTER[step]


@pytest.mark.parametrize("step", STEPS)
def test_a_repeated_reply_changes_nothing_at_the_coordinator(session, step):
    session.run_to(step)
    reply = session.reply(step, ME)
    session.deliver(step, ME, reply)
    waiting, total = session.coordinator.waiting, session.coordinator._total.copy()
    session.deliver(step, ME, reply)
    assert session.coordinator.waiting == waiting
    np.testing.assert_array_equal(session.coordinator._total, total)


@pytest.mark.parametrize("step", STEPS)
def test_a_whole_round_in_which_everything_arrives_twice_gives_the_same_sum(session, step):
    for now in STEPS:
        for site in session.inbox:
            for _ in range(2 if now == step else 1):
                session.deliver(now, site, session.reply(now, site))
        if now < 4:
            session.close(now)
    np.testing.assert_array_equal(session.finish(), session.plain_sum(session.ids))


@pytest.mark.parametrize("step", STEPS)
def test_a_site_refuses_other_bytes_for_an_answered_step_and_keeps_its_state(session, federation, step):
    session.run_to(step)
    first = as_bytes(session.reply(step, ME))
    machine = session.sites[ME]
    with pytest.raises(FaultyCoordinatorError) as refusal:
        if step == 0:
            machine.advertise(federation.plan(attempt=2), session.vectors[ME])
        else:
            session.give(step, session.entries(step, ME)[::-1], ME)
    assert (refusal.value.code, machine.state) == ("E_STAGE", AFTER[step])
    if step:
        session.inbox = {**session.inbox, ME: machine._answered[0]}
    assert as_bytes(session.reply(step, ME)) == first  # what was asked first is still answered


@pytest.mark.parametrize("step", STEPS)
def test_the_coordinator_refuses_other_bytes_for_an_accepted_step(session, step):
    session.run_to(step)
    reply = session.reply(step, ME)
    session.deliver(step, ME, reply)
    total = session.coordinator._total.copy()
    changed = (reply[0][:-1] + b"\0", reply[1]) if step == 2 else reply[:-1] + bytes([reply[-1] ^ 1])
    with pytest.raises(FaultySiteError) as fault:
        session.deliver(step, ME, changed)
    assert (fault.value.code, fault.value.blamed) == ("E_TWO_MESSAGES", ME)
    np.testing.assert_array_equal(session.coordinator._total, total)


@pytest.mark.parametrize("later", [2, 3, 4])
def test_bytes_of_an_earlier_step_are_refused_once_the_next_was_answered(session, later):
    session.run_to(later)
    old = session.sites[ME]._answered[0]
    session.reply(later, ME)
    machine = session.sites[ME]
    with pytest.raises(FaultyCoordinatorError) as refusal:
        (machine.share, machine.mask, machine.confirm)[later - 2](old)
    assert refusal.value.code == "E_STAGE" and machine.state == AFTER[later]


@pytest.mark.parametrize("step", STEPS)
def test_after_a_refusal_every_step_is_closed_for_good(session, federation, step):
    session.run_to(step)
    machine = session.sites[ME]
    if step == 0:
        machine.abort()
    else:
        honest, session.inbox[ME] = session.inbox[ME], b""
        with pytest.raises(FaultyCoordinatorError):
            session.reply(step, ME)
        session.inbox[ME] = honest
    assert session.wiped(ME)
    with pytest.raises(FaultyCoordinatorError) as refusal:
        session.reply(step, ME)
    assert refusal.value.code == "E_STAGE"


@settings(max_examples=10, deadline=None)
@given(data=st.data())
def test_no_share_of_a_late_sites_own_mask_is_ever_revealed(make_federation, data):
    """Whoever is counted out before U3, in whatever mix, even when its upload exists: only its key is rebuilt."""
    n = data.draw(st.integers(5, 7))
    federation = make_federation(n)
    most = n - federation.roster.floor(n)
    late = set(data.draw(st.lists(st.sampled_from(federation.ids), min_size=1, max_size=most, unique=True)))
    session = federation.session().run_to(2)
    uploads = {site: session.reply(2, site) for site in sorted(late)}  # they did upload, too late
    session.run_step(2, silent=late)
    for site, upload in uploads.items():
        with pytest.raises(LateMessageError):
            session.deliver(2, site, upload)
    shown = next(iter(session.inbox.values()))  # the survivor list, the same for all
    session.run_step(3)
    for site in session.inbox:
        revealed = UnmaskShares.from_bytes(session.reply(4, site))
        assert {share.dealer for share in revealed.self_mask_shares} == set(session.ids) - late
        assert {share.dealer for share in revealed.mask_key_shares} == late
    for site in sorted(late):  # and it cannot be talked into a list that leaves it out
        with pytest.raises(FaultyCoordinatorError) as refusal:
            session.sites[site].confirm(shown)
        assert refusal.value.code == "E_SELF_DROPPED"
    session.run_step(4)
    np.testing.assert_array_equal(session.finish(), session.plain_sum(sorted(set(session.ids) - late)))


# dropouts with another oracle


def expected(n, leaves, min_cohort, fraction):
    """The sheet's rules in integers: t = floor(2 n1 / 3) + 1; R1 to R3 need max(min, t, ceil(fraction n)), R4 and the
    end need t. `fraction` is (numerator, denominator); `leaves` holds the step at which each site falls silent."""
    still = [[site for site in range(n) if leaves[site] > step] for step in range(5)]
    t = (2 * len(still[0])) // 3 + 1
    floor = max(min_cohort, t, -(-fraction[0] * n // fraction[1]))
    enough = (floor, floor, floor, t, t)
    for step in range(5):
        if len(still[step]) < enough[step]:
            return None, step
    return still[2], 5


@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_any_dropouts_give_the_exact_sum_or_stop_at_the_first_step_that_is_too_small(make_federation, data):
    one_pattern_of_dropouts(make_federation, data, 7)


@pytest.mark.slow
@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_three_hundred_patterns_of_dropouts_among_up_to_fourteen_sites(make_federation, data):
    one_pattern_of_dropouts(make_federation, data, 14)


def one_pattern_of_dropouts(make_federation, data, most):
    n = data.draw(st.integers(3, most))
    d, bits = data.draw(st.sampled_from([1, 2, 17, 301])), data.draw(st.sampled_from([16, 24, 32]))
    fraction = data.draw(st.sampled_from([(0, 1), (1, 2), (3, 4), (7, 8), (1, 1)]))
    smallest = data.draw(st.integers(3, n))
    federation = make_federation(n, d, bits, fraction[0] / fraction[1], smallest)
    # Weighted to stay: most draws then get past the first steps.
    leaves = data.draw(st.lists(st.sampled_from([5] * 12 + [0, 1, 2, 3, 4]), min_size=n, max_size=n))
    session = federation.session()
    survivors, stops = expected(n, leaves, smallest, fraction)
    for step in STEPS:
        silent = {site for site, at in zip(federation.ids, leaves, strict=True) if at <= step}
        if step == stops:
            with pytest.raises(CohortTooSmallError) as small:
                session.run_step(step, silent=silent)
                session.finish()
            assert (small.value.code, small.value.blamed) == ("E_COHORT_SMALL", "nobody")
            return
        session.run_step(step, silent=silent)
    names = [federation.ids[site] for site in survivors]
    np.testing.assert_array_equal(session.finish(), session.plain_sum(names))
    assert session.coordinator.survivors == tuple(names)


@pytest.mark.parametrize("bits", [16, 24, 32])
@pytest.mark.parametrize("n", [3, 4, 5, 8])
def test_no_round_wraps_at_the_largest_inputs(make_federation, n, bits):
    federation = make_federation(n, 2, bits)
    session = federation.session()
    level = federation.ring.max_level
    for site in federation.ids:
        session.vectors[site].values[:] = np.array([level, -level], dtype=np.int64).astype(np.uint32)
    session.run_to(4)
    session.run_step(4)
    half = 1 << (bits - 1)
    lifted = [(int(word) + half) % (2 * half) - half for word in session.finish()]
    assert lifted == [n * level, -n * level]
