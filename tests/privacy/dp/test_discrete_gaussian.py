"""The sampler against the exact probabilities, and against exact rejection sampling (Canonne, Kamath and Steinke)."""

from __future__ import annotations

import hashlib
import math
from fractions import Fraction

import numpy as np
import pytest
from scipy import stats

from privacy.dp.discrete_gaussian import DiscreteGaussian, _table
from privacy.entropy import Entropy, SystemEntropy


class Seeded(Entropy):
    """Repeatable bits."""

    def __init__(self, *purpose: object) -> None:
        super().__init__(hashlib.sha256(repr(purpose).encode()).digest(), simulated=True)


class Scripted(Entropy):
    """Gives out the 64-bit words that it was told to, and then complains."""

    def __init__(self, words: list[int]) -> None:
        super().__init__(bytes(32), simulated=True)
        self._words = words

    def uniform64(self, n: int) -> np.ndarray:
        given, self._words = self._words[:n], self._words[n:]
        assert len(given) == n
        return np.array(given, dtype=np.uint64)


def exact(variance: float, values: np.ndarray) -> np.ndarray:
    """Probabilities by their definition, summed far beyond every tail."""
    reach = np.arange(-math.ceil(40 * math.sqrt(variance)), math.ceil(40 * math.sqrt(variance)) + 1)
    return np.asarray(np.exp(-values**2 / (2 * variance)) / np.exp(-reach**2 / (2 * variance)).sum())


def chi_square(drawn: np.ndarray, variance: float) -> float:
    """p-value; neighbouring values are joined until twenty are expected."""
    reach = math.ceil(9 * math.sqrt(variance))
    values = np.arange(-reach, reach + 1)
    expected = exact(variance, values) * drawn.size
    seen = np.bincount(drawn + reach, minlength=values.size)[: values.size]
    groups = np.cumsum(expected) // 20
    joined = [(seen[groups == g].sum(), expected[groups == g].sum()) for g in np.unique(groups)]
    found, wanted = np.array(joined).T
    wanted *= found.sum() / wanted.sum()
    return float(stats.chisquare(found, wanted).pvalue)


@pytest.mark.parametrize("variance", [1.0, 7.3, 64.0**2, 256.0**2])
def test_a_table_draws_as_the_definition_says(variance: float) -> None:
    drawn = DiscreteGaussian(variance).draw(200_000, Seeded("table", variance))
    assert drawn.dtype == np.int64 and chi_square(drawn, variance) > 1e-4


@pytest.mark.parametrize("variance", [1024.0**2 + 1, 1300.0**2, 5.0e7])
def test_a_convolution_has_the_very_same_law(variance: float) -> None:
    drawn = DiscreteGaussian(variance).draw(300_000, Seeded("levels", variance))
    assert chi_square(drawn, variance) > 1e-4


@pytest.mark.parametrize("std", [8200.0, 151_000.0, 3.0e6])
def test_large_noise_has_the_variance_that_was_asked_for_and_no_structure(std: float) -> None:
    drawn = DiscreteGaussian(std**2).draw(400_000, Seeded("large", std))
    score = ((drawn / std) ** 2).sum()
    assert 1e-4 < stats.chi2.cdf(score, drawn.size) < 1 - 1e-4
    assert stats.kstest(drawn / std, "norm").pvalue > 1e-4
    for modulus in (2, 8, 32, 100):  # m Y + W must not leave a trace of m
        assert stats.chisquare(np.bincount(drawn % modulus, minlength=modulus)).pvalue > 1e-4


def test_the_levels_add_up_to_the_variance_exactly() -> None:
    for variance in (Fraction(3, 7) + 10**9, Fraction(70_000), Fraction(1_048_577), Fraction(2**34) + Fraction(16, 5)):
        sampler = DiscreteGaussian(variance)
        left, whole, weight = variance, Fraction(0), 1
        for step, _ in sampler._levels:
            whole += Fraction(weight**2 * (8 * step) ** 2)
            weight *= step
            left = left / step**2 - 64
        assert whole + weight**2 * left == variance
        assert not sampler._levels or left >= 4096  # what the convolution lemma is used with
        assert left <= 1024**2


def test_the_table_is_the_cumulative_distribution_to_128_bits() -> None:
    table = _table(Fraction(9, 2))
    weights = [Fraction(math.exp(-k * k / 9)) for k in range(-60, 61)]
    total, reached = sum(weights), Fraction(0)
    for value, weight in zip(range(-60, 61), weights, strict=True):
        reached += weight
        place = value - table.lowest
        if 0 <= place < table.high.size - 1:
            entry = (int(table.high[place]) << 64) + int(table.low[place])
            assert abs(Fraction(entry, 2**128) - reached / total) < Fraction(1, 2**48)  # what floats are good for
    assert (np.diff(table.high.astype(object)) >= 0).all()


def test_all_128_bits_of_a_draw_are_compared() -> None:
    table = _table(Fraction(9, 2))
    middle = -table.lowest
    high, low = int(table.high[middle]), int(table.low[middle])
    assert table.draw(1, Scripted([high, low]))[0] == 1  # the entry is reached: the next value
    assert table.draw(1, Scripted([high, low - 1]))[0] == 0
    assert table.draw(1, Scripted([high - 1]))[0] == 0
    assert table.draw(1, Scripted([0, 0]))[0] == table.lowest
    assert table.draw(1, Scripted([2**64 - 1, 2**64 - 1]))[0] == -table.lowest
    tail = [i for i in range(table.high.size - 1) if int(table.high[i]) == 2**64 - 1]
    assert len(tail) > 5  # many entries share an upper half there, and the lower half decides among them
    for place in tail:
        drawn = table.draw(1, Scripted([2**64 - 1, int(table.low[place])]))[0]
        assert drawn == table.lowest + place + 1


def test_bits_come_from_the_source_alone_and_blocks_do_not_matter() -> None:
    sampler = DiscreteGaussian(3000.0**2)
    assert (sampler.draw(500, Seeded("a")) == sampler.draw(500, Seeded("a"))).all()
    assert (sampler.draw(500, Seeded("a")) != sampler.draw(500, Seeded("b"))).any()
    long = sampler.draw(150_000, SystemEntropy())
    assert long.size == 150_000 and abs(np.corrcoef(long[:-65536], long[65536:])[0, 1]) < 0.02
    assert sampler.draw(0, Seeded("a")).size == 0


@pytest.mark.parametrize("variance", [0.5, 0.0, -1.0, 2.0**81])
def test_other_variances_are_refused(variance: float) -> None:
    with pytest.raises(ValueError, match="must lie in"):
        DiscreteGaussian(variance)


# ------------------------------------------------------------------ the oracle


class Rejection:
    """Canonne, Kamath and Steinke, arXiv 2004.00010, algorithms 1 to 3: exact, slow, in whole numbers."""

    def __init__(self, variance: Fraction, source: Entropy) -> None:
        self._variance, self._source = variance, source
        self._scale = math.isqrt(math.floor(variance)) + 1
        self._bits = np.zeros(0, dtype=np.uint64)

    def below(self, bound: int) -> int:
        """Uniform over range(bound), by rejection."""
        limit = 2**64 // bound * bound
        while True:
            if not self._bits.size:
                self._bits = self._source.uniform64(1 << 14)
            word, self._bits = int(self._bits[0]), self._bits[1:]
            if word < limit:
                return word % bound

    def bernoulli(self, chance: Fraction) -> bool:
        return self.below(chance.denominator) < chance.numerator

    def exponential(self, gamma: Fraction) -> bool:
        """Bernoulli(exp(-gamma))."""
        while gamma > 1:
            if not self.exponential(Fraction(1)):
                return False
            gamma -= 1
        k = 1
        while self.bernoulli(gamma / k):
            k += 1
        return k % 2 == 1

    def laplace(self) -> int:
        while True:
            u = self.below(self._scale)
            if not self.exponential(Fraction(u, self._scale)):
                continue
            v = 0
            while self.exponential(Fraction(1)):
                v += 1
            negative, size = self.below(2) == 1, u + self._scale * v
            if not (negative and size == 0):
                return -size if negative else size

    def draw(self) -> int:
        while True:
            y = self.laplace()
            distance = abs(abs(y) - self._variance / self._scale)
            if self.exponential(distance * distance / (2 * self._variance)):
                return y


@pytest.mark.parametrize("variance", [Fraction(25), Fraction(1500**2)])
def test_it_agrees_with_exact_rejection_sampling(variance: Fraction) -> None:
    oracle = Rejection(variance, Seeded("oracle", variance))
    theirs = np.array([oracle.draw() for _ in range(6_000)])
    ours = DiscreteGaussian(variance).draw(60_000, Seeded("ours", variance))
    assert stats.ks_2samp(theirs, ours).pvalue > 1e-4
    if variance < 100:
        assert chi_square(theirs, float(variance)) > 1e-4
