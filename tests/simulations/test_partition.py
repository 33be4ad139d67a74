"""Splits are disjoint, re-drawable and skewed as promised."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from simulations.partition import cut_by_colour, cut_by_label, draw_split, largest_remainder, site_sizes

SHARES = (0.35, 0.30, 0.20, 0.15)


def rng(seed=0):
    return np.random.default_rng(seed)


def test_five_folds_have_pairwise_disjoint_test_sets():
    tests = [draw_split(199, 40, 40, fold, rng(fold), None).test for fold in range(5)]
    assert [len(test) for test in tests] == [40, 40, 40, 40, 39]
    assert len(set(np.concatenate(tests).tolist())) == 199


def test_a_split_is_disjoint_and_uses_everybody():
    split = draw_split(199, 40, 40, 2, rng(7), None)
    everybody = np.concatenate([split.public, split.test, split.private])
    assert sorted(everybody.tolist()) == list(range(199))


def test_the_seed_redraws_public_and_private_but_not_the_test_fold():
    one, two = (draw_split(199, 40, 40, 0, rng(seed), None) for seed in (1, 2))
    assert np.array_equal(one.test, two.test)
    assert not np.array_equal(one.public, two.public)


def test_a_limit_keeps_part_of_the_private_patients():
    whole, part = (draw_split(199, 40, 40, 0, rng(), limit) for limit in (None, 12))
    assert len(part.private) == 12
    assert set(part.private) < set(whole.private)
    assert np.array_equal(part.public, whole.public)


@pytest.mark.parametrize(("public", "test", "fold"), [(40, 41, 0), (40, 0, 0), (0, 40, 0), (160, 40, 0), (40, 40, 5)])
def test_impossible_splits_are_refused(public, test, fold):
    with pytest.raises(ValueError, match=r"choose|allow"):
        draw_split(199, public, test, fold, rng(), None)


def test_largest_remainder_adds_up_and_stays_within_one():
    for total in range(60):
        sizes = largest_remainder(SHARES, total)
        assert sum(sizes) == total
        assert all(abs(size - share * total) < 1 for size, share in zip(sizes, SHARES, strict=True))


def test_a_site_without_patients_is_refused():
    assert site_sizes(SHARES, 0) == [0, 0, 0, 0]
    with pytest.raises(ValueError, match="leave a site with none"):
        site_sizes(SHARES, 2)


@pytest.mark.parametrize("seed", range(5))
def test_label_shares_differ_clearly_between_sites(seed):
    normal = rng(seed).random(2419) < 0.35
    sites = cut_by_label(normal, SHARES, rng(seed))
    assert sorted(np.concatenate(sites).tolist()) == list(range(2419))
    assert [len(site) for site in sites] == site_sizes(SHARES, 2419)
    shares = sorted(normal[site].mean() for site in sites)
    assert min(np.diff(shares)) > 0.05
    assert shares[-1] - shares[0] > 0.35


@pytest.mark.parametrize("value", [True, False])
def test_a_single_label_still_fills_every_site(value):
    sites = cut_by_label(np.full(20, value), SHARES, rng())
    assert [len(site) for site in sites] == [7, 6, 4, 3]


@pytest.mark.parametrize("seed", range(5))
def test_colours_differ_clearly_between_sites(seed):
    brightness = rng(seed).normal(130, 30, 119)
    sites = cut_by_colour(brightness, SHARES, rng(seed))
    assert sorted(np.concatenate(sites).tolist()) == list(range(119))
    means = sorted(brightness[site].mean() for site in sites)
    assert min(np.diff(means)) > 8
    # Mixed, not merely cut: at least two neighbouring bands overlap.
    bands = sorted((brightness[site] for site in sites), key=np.mean)
    assert any(low.max() > high.min() for low, high in itertools.pairwise(bands))


def test_no_patients_make_empty_sites():
    assert [len(site) for site in cut_by_label(np.empty(0, bool), SHARES, rng())] == [0] * 4
    assert [len(site) for site in cut_by_colour(np.empty(0), SHARES, rng())] == [0] * 4
