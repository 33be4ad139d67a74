"""Poisson draws: each patient Binomial(T, q), steps and patients independent; sample choice without replacement."""

from __future__ import annotations

import math

import numpy as np
import pytest

from privacy.dp.sampling import choose_samples, poisson_draw, truncated_poisson_draw
from privacy.entropy import Entropy, SystemEntropy


def inclusion(entropy, steps: int, patients: int, rate: float) -> np.ndarray:
    matrix = np.zeros((steps, patients), bool)
    for row in matrix:
        row[poisson_draw(entropy, patients, rate)] = True
    return matrix


def z_scores(drawn: np.ndarray, rate: float) -> dict[str, float]:
    """Standard scores of what a Poisson sampler must show and a shuffler does not."""
    steps, patients = drawn.shape
    sizes, counts = drawn.sum(1), drawn.sum(0)
    variance = rate * (1 - rate)
    both = (drawn[:-1] & drawn[1:]).sum() - rate**2 * (steps - 1) * patients
    return {
        "mean": (drawn.sum() - rate * drawn.size) / np.sqrt(variance * drawn.size),
        "spread of batch sizes": (sizes.var(ddof=1) / (variance * patients) - 1) * np.sqrt((steps - 1) / 2),
        "spread of counts": (counts.var(ddof=1) / (variance * steps) - 1) * np.sqrt((patients - 1) / 2),
        "repeats in the next step": both / np.sqrt(rate**2 * (1 - rate**2) * (steps - 1) * patients),
    }


def test_inclusion_is_binomial_and_independent():
    scores = z_scores(inclusion(SystemEntropy(), 400, 500, 0.2), 0.2)
    assert max(map(abs, scores.values())) < 5, scores


def test_the_test_catches_shuffled_fixed_batches():
    order = np.random.default_rng(0)
    drawn = np.zeros((400, 500), bool)
    for epoch in range(80):
        for step, batch in enumerate(order.permutation(500).reshape(5, 100)):
            drawn[5 * epoch + step, batch] = True
    scores = z_scores(drawn, 0.2)
    assert abs(scores["spread of batch sizes"]) > 10 and abs(scores["spread of counts"]) > 10


@pytest.mark.parametrize(("rate", "count"), [(0.0, 0), (1.0, 50)])
def test_the_ends_are_exact(rate, count):
    drawn = poisson_draw(SystemEntropy(), 50, rate)
    assert drawn.dtype == np.int64 and len(drawn) == count


def test_an_empty_site_and_the_threshold():
    class Fixed(Entropy):
        def uniform64(self, n):
            return np.array([2**62 - 1, 2**62], np.uint64)[:n]

    assert len(poisson_draw(SystemEntropy(), 0, 0.5)) == 0
    assert poisson_draw(Fixed(bytes(32), simulated=True), 2, 0.25).tolist() == [0]


def test_samples_are_chosen_uniformly_without_replacement():
    entropy = SystemEntropy()
    chosen = np.array([choose_samples(entropy, 5, 2) for _ in range(5000)])
    assert (chosen[:, 0] < chosen[:, 1]).all()
    pairs = np.bincount(chosen[:, 0] * 5 + chosen[:, 1], minlength=25)
    pairs = pairs[pairs > 0]
    assert len(pairs) == 10
    assert ((pairs - 500) ** 2 / 500).sum() < 45  # 9 degrees of freedom, p = 1e-6
    assert choose_samples(entropy, 2, 3).tolist() == [0, 1]
    assert choose_samples(entropy, 0, 3).tolist() == []


def test_bad_arguments_are_refused():
    entropy = SystemEntropy()
    for patients, rate in ((-1, 0.5), (5, -0.1), (5, 1.1), (5, float("nan"))):
        with pytest.raises(ValueError):
            poisson_draw(entropy, patients, rate)
    for available, limit in ((-1, 1), (3, 0)):
        with pytest.raises(ValueError):
            choose_samples(entropy, available, limit)


def test_a_truncated_draw_is_a_poisson_draw_cut_to_a_uniform_subset():
    entropy, steps, patients, rate, size = SystemEntropy(), 4000, 40, 0.5, 18
    matrix = np.zeros((steps, patients), bool)
    for row in matrix:
        drawn = truncated_poisson_draw(entropy, patients, rate, size)
        assert drawn.dtype == np.int64 and (np.diff(drawn) > 0).all()
        row[drawn] = True
    sizes = matrix.sum(1)
    assert sizes.max() == size and sizes.min() < size
    # Every patient is as likely as every other: nobody's place in the order protects or exposes.
    expected = sizes.mean() / patients
    z = (matrix.mean(0) - expected) / np.sqrt(expected * (1 - expected) / steps)
    assert np.abs(z).max() < 5
    # Draws that are not too large are the plain ones: P(size < 18) of Binomial(40, 1/2).
    below = sum(math.comb(patients, k) for k in range(size)) / 2**patients
    assert abs((sizes < size).mean() - below) < 5 * np.sqrt(below * (1 - below) / steps)


def test_a_batch_size_beyond_the_site_changes_nothing_and_zero_is_refused():
    mirror, entropy = Repeated(), Repeated()
    assert np.array_equal(poisson_draw(mirror, 50, 0.3), truncated_poisson_draw(entropy, 50, 0.3, 50))
    assert len(truncated_poisson_draw(entropy, 0, 0.3, 5)) == 0
    with pytest.raises(ValueError, match="batch_size must be at least 1"):
        truncated_poisson_draw(entropy, 10, 0.3, 0)


class Repeated(Entropy):
    """A repeatable source."""

    def __init__(self) -> None:
        super().__init__(bytes(32), simulated=True)
