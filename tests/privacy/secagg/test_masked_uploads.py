"""What the coordinator sees of one site: uniform numbers that say nothing about what is below them.

Everything is drawn from named streams, so the outcome never changes between runs. False alarms: truly uniform data
crosses the bound of one chi-square (255 degrees of freedom, five standard deviations) with probability 4.5e-6. There
are about 60 of them here, so another set of seeds would fail with probability 3 in 10,000.
"""

from __future__ import annotations

import numpy as np
import pytest

from privacy.secagg.quantize import unpack

D = 1 << 14
ME = "site-001"


def upload(federation, *, value=None, plan=None, salt="", site=ME):
    session = federation.session(plan=plan, salt=salt)
    if value is not None:
        session.vectors[site].values[:] = np.uint32(value % 2**32)
    session.run_to(2)
    return unpack(session.reply(2, site)[1], federation.ring.bits)


def chi_square(octets):
    counts = np.bincount(octets.astype(np.int64), minlength=256)
    expected = octets.size / 256
    return ((counts - expected) ** 2 / expected).sum()


def is_uniform(values, bits):
    """Every byte of the coordinates, 255 degrees of freedom: mean 255, standard deviation 22.6."""
    octets = [values >> np.uint32(shift) & np.uint32(255) for shift in range(0, bits, 8)]
    return all(abs(chi_square(octet) - 255) < 5 * 22.6 for octet in octets)


@pytest.mark.parametrize("bits", [16, 24, 32])
@pytest.mark.parametrize("content", ["zero", "largest", "smallest"])
def test_a_site_uploads_uniform_numbers_whatever_it_holds(make_federation, bits, content):
    federation = make_federation(3, D, bits)
    level = {"zero": 0, "largest": 1, "smallest": -1}[content] * federation.ring.max_level
    assert is_uniform(upload(federation, value=level), bits)


def test_the_check_of_uniformity_can_fail():
    assert not is_uniform(np.arange(D, dtype=np.uint32), 24)
    assert not is_uniform(np.zeros(D, dtype=np.uint32), 24)
    rng = np.random.default_rng(3)
    assert is_uniform(rng.integers(0, 2**24, D, dtype=np.uint32), 24)
    nearly = rng.integers(0, 2**24, D, dtype=np.uint32)
    nearly[: D // 20] = 5  # one in twenty is not masked
    assert not is_uniform(nearly, 24)


def test_equal_inputs_of_two_rounds_cannot_be_linked(make_federation):
    """Same site, same vector, next round: the difference of the uploads is as uniform as each of them."""
    federation = make_federation(3, D)
    first = upload(federation, value=7, salt="one")
    second = upload(federation, value=7, plan=federation.plan(round=2), salt="two")
    assert is_uniform((first - second) & np.uint32(0xFFFFFF), 24)
    assert abs(np.corrcoef(first, second)[0, 1]) < 5 / np.sqrt(D)


def test_a_next_round_masks_differently_even_with_the_same_random_bytes(make_federation):
    """The context goes into every key: even a random source that repeats itself does not repeat a mask."""
    federation = make_federation(3, D)
    first, again = (upload(federation, value=7, salt="same") for _ in range(2))
    np.testing.assert_array_equal(first, again)  # it is the stream that decides, and nothing else
    second = upload(federation, value=7, plan=federation.plan(round=2), salt="same")
    assert is_uniform((first - second) & np.uint32(0xFFFFFF), 24)


def test_equal_inputs_of_two_sites_cannot_be_linked(make_federation):
    federation = make_federation(4, D)
    session = federation.session()
    for site in federation.ids:
        session.vectors[site].values[:] = 7
    session.run_to(2)
    uploads = [unpack(session.reply(2, site)[1], 24) for site in federation.ids]
    for place, one in enumerate(uploads):
        for other in uploads[:place]:
            assert is_uniform((one - other) & np.uint32(0xFFFFFF), 24)


def test_the_sum_of_all_but_one_upload_is_still_uniform(make_federation):
    """Nothing cancels before everybody's masks are in."""
    federation = make_federation(4, D)
    session = federation.session().run_to(2)
    uploads = [unpack(session.reply(2, site)[1], 24) for site in federation.ids]
    assert is_uniform(sum(uploads[1:]) & np.uint32(0xFFFFFF), 24)
    assert is_uniform(sum(uploads) & np.uint32(0xFFFFFF), 24)  # the pair masks cancel; every site's own stays
