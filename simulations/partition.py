"""Who goes where: disjoint public, test and private splits, and unequal, skewed sites.

Only index arithmetic on patients; no file is read or written. Every draw comes from a numpy ``Generator`` the
caller seeds, so the same seed gives the same hospitals. (Ordinary pseudo-randomness is right here: this
shapes a simulation, it protects nobody.)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "NUM_FOLDS",
    "Split",
    "cut_by_colour",
    "cut_by_label",
    "draw_split",
    "largest_remainder",
    "site_sizes",
]

NUM_FOLDS = 5

_FOLD_SEED = 20_240_531  # one permutation for every run: it is what makes the folds of different runs disjoint
_LABEL_SPREAD = 1.2  # log-odds between the middle and the outermost site's share of normal reports
_COLOUR_MIXING = 0.15  # how far, as a fraction of all images, mixing moves an image in the order of brightness

Indices = NDArray[np.int64]


@dataclass(frozen=True)
class Split:
    """Indices of patients, each a sorted int64 array; the three are disjoint."""

    public: Indices
    test: Indices
    private: Indices


def draw_split(
    num_patients: int,
    num_public: int,
    num_test: int,
    fold: int,
    rng: np.random.Generator,
    max_private: int | None,
) -> Split:
    """Cut ``num_patients`` into a test fold, a public set and the private rest.

    The test set is block ``fold`` of one fixed permutation, so folds 0 to 4 never share a test patient; the
    last block is shorter when five blocks do not fit (199 images make four folds of 40 and one of 39). Public
    and private are drawn from the rest with ``rng``. ``max_private`` keeps only so many private patients.
    Raises ValueError when the folds or the public set do not fit.
    """
    if not 0 <= fold < NUM_FOLDS:
        raise ValueError(f"fold is {fold}; choose one of 0 to {NUM_FOLDS - 1}.")
    if not 1 <= num_test <= -(-num_patients // NUM_FOLDS):
        limit = -(-num_patients // NUM_FOLDS)
        raise ValueError(f"A test set of {num_test} patients is out of range; five disjoint ones allow 1 to {limit}.")
    fixed = np.random.default_rng(_FOLD_SEED).permutation(num_patients)
    test = fixed[fold * num_test : (fold + 1) * num_test]
    rest = rng.permutation(np.setdiff1d(fixed, test))
    if not 1 <= num_public < len(rest):
        raise ValueError(f"A public set of {num_public} patients is out of range; choose 1 to {len(rest) - 1}.")
    private = rest[num_public:][:max_private]
    return Split(np.sort(rest[:num_public]), np.sort(test), np.sort(private))


def largest_remainder(quotas: Sequence[float] | NDArray[np.float64], total: int) -> list[int]:
    """Whole numbers that add up to ``total`` and each lie within one of its quota scaled to that total."""
    exact = np.asarray(quotas, dtype=np.float64)
    exact = exact * (total / exact.sum()) if total else np.zeros_like(exact)
    whole = np.floor(exact).astype(np.int64)
    # A stable sort on the negated remainder hands the rest to the earliest of equals.
    for index in np.argsort(whole - exact, kind="stable")[: total - int(whole.sum())]:
        whole[index] += 1
    return [int(count) for count in whole]


def site_sizes(shares: Sequence[float], total: int) -> list[int]:
    """Patients at each site; ValueError when a site would have none though there are patients to share
    out."""
    sizes = largest_remainder(shares, total)
    if total and min(sizes) == 0:
        raise ValueError(f"{total} private patients leave a site with none; raise the limit or drop the smallest site.")
    return sizes


def cut_by_label(normal: NDArray[np.bool_], shares: Sequence[float], rng: np.random.Generator) -> list[Indices]:
    """Cut patients over sites whose shares of ``normal`` (n,) differ clearly; returns a sorted index array
    per site.

    Each site's log-odds of a normal report are a common offset plus its own, the sites' own being equally
    spaced and dealt out at random: as unlike as a draw from a Dirichlet distribution (Hsu et al., 2019,
    section 3), without the chance that two sites come out alike.
    """
    sizes = np.asarray(site_sizes(shares, len(normal)))
    if len(normal) == 0:
        return [np.empty(0, np.int64) for _ in sizes]
    spread = rng.permutation(np.linspace(-_LABEL_SPREAD, _LABEL_SPREAD, len(sizes)))
    num_normal = _normal_counts(sizes, spread, int(normal.sum()))
    with_label, without = rng.permutation(np.flatnonzero(normal)), rng.permutation(np.flatnonzero(~normal))
    cuts_with, cuts_without = np.cumsum(num_normal)[:-1], np.cumsum(sizes - num_normal)[:-1]
    halves = zip(np.split(with_label, cuts_with), np.split(without, cuts_without), strict=True)
    return [np.sort(np.concatenate(pair)) for pair in halves]


def _normal_counts(sizes: Indices, spread: NDArray[np.float64], total: int) -> Indices:
    low, high = -40.0, 40.0
    for _ in range(100):  # bisection for the common offset at which the sites' expected counts add up to the total
        middle = (low + high) / 2
        expected = sizes / (1 + np.exp(-(middle + spread)))
        low, high = (middle, high) if expected.sum() < total else (low, middle)
    counts = np.minimum(largest_remainder(expected, total), sizes)
    while counts.sum() < total:  # only rounding at a site that is full: hand it to the roomiest one
        counts[np.argmax(sizes - counts)] += 1
    return np.asarray(counts, dtype=np.int64)


def cut_by_colour(brightness: NDArray[np.float64], shares: Sequence[float], rng: np.random.Generator) -> list[Indices]:
    """Cut images over sites by mean colour (n,): bands of the order of brightness, mixed so that they
    overlap."""
    sizes = site_sizes(shares, len(brightness))
    rank = np.argsort(np.argsort(brightness, kind="stable"), kind="stable") / max(len(brightness), 1)
    mixed = rank + _COLOUR_MIXING * rng.uniform(-1, 1, len(brightness))
    order = np.argsort(mixed, kind="stable")
    bands = rng.permutation(len(sizes))  # which site is the darkest is drawn too
    cuts = np.cumsum([sizes[site] for site in bands])[:-1]
    by_site = dict(zip(bands.tolist(), np.split(order, cuts), strict=True))
    return [np.sort(by_site[site]) for site in range(len(sizes))]
