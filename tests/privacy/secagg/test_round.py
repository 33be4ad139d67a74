"""The sum is right whoever drops out, or there is no sum."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from privacy.errors import CohortTooSmallError
from privacy.secagg.quantize import dequantize_sum

NEVER = 5


def outcome(federation, leaves):
    """The survivors, or None where the protocol must stop: the sheet's counting rules and nothing else."""
    alive = [[site for site in federation.ids if leaves[site] > step] for step in range(5)]
    n1 = len(alive[0])
    floor = federation.roster.floor(n1)
    threshold = federation.roster.threshold(n1)
    sizes = [len(sites) for sites in alive]
    if sizes[0] < floor or sizes[1] < floor or sizes[2] < floor:
        return None
    return alive[2] if sizes[3] >= threshold and sizes[4] >= threshold else None


@st.composite
def dropouts(draw, make_federation):
    n = draw(st.integers(3, 8))
    federation = make_federation(
        n, draw(st.integers(1, 9)), draw(st.sampled_from([16, 24, 32])), draw(st.sampled_from([0.0, 0.5, 1.0])),
        suite=draw(st.sampled_from(["x25519", "x25519-mlkem768"])), tags=draw(st.integers(0, 2)),
    )
    leaves = dict.fromkeys(federation.ids, NEVER)
    for site in draw(st.lists(st.sampled_from(federation.ids), max_size=n // 2, unique=True)):
        leaves[site] = draw(st.integers(0, 4))
    return federation, leaves


def run(session, leaves):
    for step in range(5):
        session.run_step(step, silent={site for site, at in leaves.items() if at <= step})
    return session.finish()


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_sum_is_exact_or_refused_iff_below_the_floor(make_federation, data):
    federation, leaves = data.draw(dropouts(make_federation))
    session = federation.session()
    survivors = outcome(federation, leaves)
    if survivors is None:
        with pytest.raises(CohortTooSmallError):
            run(session, leaves)
        return
    total = run(session, leaves)
    assert session.coordinator.survivors == tuple(survivors)
    np.testing.assert_array_equal(total, session.plain_sum(survivors))
    for site in survivors:
        if leaves[site] > 3:  # it saw the survivors
            session.sites[site].verify_sum(total, session.coordinator.tags)
    real = sum(federation.vector(site) for site in survivors)
    error = np.abs(dequantize_sum(total, federation.ring) - real)
    assert error.max() <= len(survivors) * 0.5 / federation.ring.scale * (1 + 1e-9)


def test_forty_sites_with_twelve_gone_at_different_steps(make_federation):
    federation = make_federation(40, 50)
    leaves = dict.fromkeys(federation.ids, NEVER)
    for at, sites in enumerate([federation.ids[:3], federation.ids[5:8], federation.ids[20:24], federation.ids[30:32]]):
        leaves |= dict.fromkeys(sites, at)
    survivors = outcome(federation, leaves)
    session = federation.session()
    np.testing.assert_array_equal(run(session, leaves), session.plain_sum(survivors))
    assert len(survivors) == 30


def test_a_vector_longer_than_one_block_survives_the_whole_round(make_federation):
    federation = make_federation(3, 70_001)
    session = federation.session().run_to(4)
    session.run_step(4)
    np.testing.assert_array_equal(session.finish(), session.plain_sum(federation.ids))


def test_extreme_inputs_do_not_wrap(make_federation):
    federation = make_federation(7, 4)
    session = federation.session()
    for sign in (1, -1):
        session = federation.session()
        for site in federation.ids:
            extreme = np.uint32(sign * federation.ring.max_level % 2**32)
            session.vectors[site].values[:] = extreme
        session.run_to(4)
        session.run_step(4)
        np.testing.assert_allclose(dequantize_sum(session.finish(), federation.ring), sign * 7 * 2.0)


def test_an_aborted_attempt_can_be_repeated_with_the_same_vector_and_fresh_keys(federation):
    first = federation.session().run_to(2)
    for site in first.sites.values():
        site.abort()
    second = federation.session(plan=federation.plan(attempt=2), salt="again")
    second.vectors = first.vectors
    second.run_to(4)
    second.run_step(4)
    np.testing.assert_array_equal(second.finish(), second.plain_sum(federation.ids))


def test_identical_updates_give_unrelated_uploads(federation):
    session = federation.session()
    for site in federation.ids:
        session.vectors[site].values[:] = 7
    session.run_to(3)
    uploads = [upload.tobytes() for _, upload in session.uploads.values()]
    assert len(set(uploads)) == len(uploads)
    assert all(b"\x07\x00\x00" not in upload for upload in uploads)


def test_message_sizes_do_not_depend_on_the_vector(federation):
    def sizes(value):
        session = federation.session()
        for site in federation.ids:
            session.vectors[site].values[:] = value
        seen = []
        for step in range(5):
            for site in session.inbox:
                reply = session.reply(step, site)
                seen.append((len(reply[0]), reply[1].nbytes) if step == 2 else len(reply))
                session.deliver(step, site, reply)
            if step < 4:
                session.close(step)
        return seen

    assert sizes(0) == sizes(federation.ring.max_level)
