"""What an audit computes from one run's observations: p-values, bounds, and one decision fixed beforehand.

*Guarantees.*
    * Every p-value is two-sided and valid when the mechanism is as claimed: the noise and contribution tests are
      exact for Gaussian noise, totals and overlaps exact for Poisson draws, the two dispersions match two moments.
    * `decide` keeps the probability that any test of a correct mechanism rejects at or below one stated rate
      (Bonferroni); the number of tests and the level of each are fixed before a value is looked at.
    * `one_run_p_value` is Theorem 5.2 of Steinke, Nasr and Jagielski (NeurIPS 2023, arXiv 2305.08846).

*Assumes.*
    * Canaries were included independently with probability 1/2, and guesses are functions of what was released.
    * Noise is tested only on directions in which no drawn patient has a gradient.

*Does not cover.*
    * Proof of epsilon: a pass is failure to refute. Faults that these tests were not made for.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt
from scipy import stats

__all__ = [
    "Decision", "TestResult", "canary_scores", "contribution_test", "decide", "gaussian_test", "noise_test",
    "one_run_lower_bound", "one_run_p_value", "one_run_test", "sampler_tests", "step_correlation_test",
]

Vector = npt.NDArray[np.float64]
_EPSILON_LIMIT = 64.0
# Standard deviation that the scores allow each canary's contribution, in units of the expected one: wide, so that
# a mechanism which clips wrongly is decoded as well as one which clips rightly.
_LOOSE = 3.0


@dataclass(frozen=True)
class TestResult:
    """One test: a two-sided p-value, a standard score or another `value` in `unit`, and what it looked at.

    `only_above`: values below the expected one are no fault (a contribution smaller than C); they never reject.
    """

    __test__ = False  # not pytest's

    name: str
    value: float
    unit: str
    p_value: float
    only_above: bool = False
    above: bool = True

    def __post_init__(self) -> None:
        """A value that is not a number is no pass: it rejects."""
        if not (math.isfinite(self.value) and 0 <= self.p_value <= 1):
            object.__setattr__(self, "p_value", 0.0)
            object.__setattr__(self, "above", True)

    def rejects(self, level: float) -> bool:
        """Whether the claim is refuted at `level`."""
        return self.p_value < level and (self.above or not self.only_above)


@dataclass(frozen=True)
class Decision:
    """Every test's verdict at one level; `passed` means that nothing was refuted, which proves nothing."""

    false_alarm_rate: float
    level: float
    rejected: tuple[bool, ...]

    @property
    def passed(self) -> bool:
        """No test rejects."""
        return not any(self.rejected)


def decide(results: Sequence[TestResult], false_alarm_rate: float) -> Decision:
    """Bonferroni over all tests of the audit. Raises ValueError for no tests or a rate outside (0, 1)."""
    if not results or not 0 < false_alarm_rate < 1:
        raise ValueError("an audit needs at least one test and a false-alarm rate in (0, 1)")
    level = false_alarm_rate / len(results)
    return Decision(false_alarm_rate, level, tuple(result.rejects(level) for result in results))


def one_run_p_value(num_canaries: int, guesses: int, correct: int, epsilon: float, delta: float) -> float:
    """Largest probability of `correct` or more right guesses under (epsilon, delta)-DP.

    Steinke et al., arXiv 2305.08846, Theorem 5.2: P <= beta + 2 m delta max_i P[v > W >= v - i] / i with W binomial
    over `guesses` with probability e^eps / (1 + e^eps), beta = P[W >= v]. Raises ValueError for impossible counts.
    """
    if not 0 <= correct <= guesses <= num_canaries:
        raise ValueError("counts must satisfy 0 <= correct <= guesses <= num_canaries")
    if epsilon < 0 or not 0 <= delta <= 1:
        raise ValueError("epsilon must not be negative and delta must lie in [0, 1]")
    chance = 1 / (1 + math.exp(-epsilon))
    beta = float(stats.binom.sf(correct - 1, guesses, chance))
    below = np.cumsum(stats.binom.pmf(np.arange(correct - 1, -1, -1), guesses, chance))
    slope = float((below / np.arange(1, correct + 1)).max()) if correct else 0.0
    return min(1.0, beta + 2 * num_canaries * delta * slope)


def one_run_lower_bound(num_canaries: int, guesses: int, correct: int, delta: float, level: float) -> float:
    """The largest epsilon that the guesses refute at `level` (confidence 1 - level); 0.0 when none."""
    low, high = 0.0, _EPSILON_LIMIT
    if one_run_p_value(num_canaries, guesses, correct, low, delta) >= level:
        return 0.0
    while high - low > 1e-4:
        middle = (low + high) / 2
        refuted = one_run_p_value(num_canaries, guesses, correct, middle, delta) < level
        low, high = (middle, high) if refuted else (low, middle)
    return low


def one_run_test(
    scores: Vector, included: npt.NDArray[np.bool_], guesses: int, epsilon: float, delta: float
) -> tuple[TestResult, int]:
    """Guess "in" for the `guesses` highest scores, abstain on the rest; the test of `epsilon` and the right guesses.

    The reported value is the lower bound on epsilon at 95 per cent.
    """
    chosen = np.argsort(-scores, kind="stable")[:guesses]
    correct = int(included[chosen].sum())
    p_value = one_run_p_value(scores.size, guesses, correct, epsilon, delta)
    bound = one_run_lower_bound(scores.size, guesses, correct, delta, 0.05)
    return TestResult("one-run bound", bound, "epsilon at least", p_value, only_above=True), correct


def canary_scores(gram: Vector, projections: Vector, noise_std: float, rate: float) -> Vector:
    """One step's log-likelihood ratio "in, drawn with `rate`" against "out", float64[M].

    `gram` (M, M) and `projections` (M,) are inner products of the canaries' clipped gradients with each other and with
    what was released. The others' contributions are Gaussian with a wide prior, left out for the canary itself by the
    Sherman-Morrison formula; so a canary is not mistaken for its neighbours.
    """
    variance = _LOOSE**2
    size = gram.shape[0]
    system = noise_std**2 * np.eye(size) + variance * gram
    solved = np.linalg.solve(system, np.column_stack([gram, projections]))
    own = np.diagonal(solved[:, :size])
    room = np.maximum(1 - variance * own, 1e-12)
    signal, strength = solved[:, size] / room, own / room
    ratio = np.clip(signal - strength / 2, -500, 500)
    return np.asarray(np.logaddexp(math.log1p(-rate) if rate < 1 else -np.inf, math.log(rate) + ratio))


def gaussian_test(name: str, score: float, *, only_above: bool = False, tests: int = 1) -> TestResult:
    """A standard normal score; `tests` > 1 when it is the largest of so many (Bonferroni inside)."""
    p_value = min(1.0, tests * 2 * float(stats.norm.sf(abs(score))))
    return TestResult(name, score, "z", p_value, only_above=only_above, above=score > 0)


def contribution_test(inner: float, squared: float, bound: float, noise_std: float) -> tuple[TestResult, float]:
    """Do drawn canaries add more than `bound` along their own directions? The test, and the estimate in bounds.

    `inner` is the sum over steps of <released, sum of the drawn canaries' unit vectors>, `squared` that of the squared
    norms of these sums, both after projection away from all other patients: the estimate inner / squared is Gaussian
    with mean at most `bound` and standard deviation noise_std / sqrt(squared).
    """
    if squared == 0:  # no canary was drawn: nothing to say
        return TestResult("canary contribution", 0.0, "z", 1.0, only_above=True, above=False), 0.0
    estimate = inner / squared
    score = (estimate - bound) * math.sqrt(squared) / noise_std
    return gaussian_test("canary contribution", score, only_above=True), estimate / bound


def noise_test(name: str, sum_of_squares: float, degrees: int) -> TestResult:
    """Squared noise over its claimed variance, summed: chi-square with `degrees` degrees of freedom."""
    low, high = stats.chi2.cdf(sum_of_squares, degrees), stats.chi2.sf(sum_of_squares, degrees)
    score = (sum_of_squares - degrees) / math.sqrt(2 * degrees)
    return TestResult(name, score, "z", min(1.0, 2 * float(min(low, high))), above=score > 0)


def step_correlation_test(residuals: Sequence[tuple[Vector, Vector]], noise_std: float) -> TestResult:
    """The largest correlation between the noise of two steps, over all pairs of equal length.

    Each step gives (noise, basis): noise float64[d] has no part in the span of the orthonormal columns of `basis`
    (d, k), so <n_s, n_t> given n_s is N(0, noise_std^2 |P_t n_s|^2) exactly. A shared generator shows as a huge score.
    """
    scores = []
    for later, (noise, basis) in enumerate(residuals):
        for earlier, _ in residuals[:later]:
            if earlier.size == noise.size:
                spread = np.linalg.norm(earlier - basis @ (basis.T @ earlier))
                scores.append(float(earlier @ noise) / (noise_std * float(spread)))
    if not scores:
        return TestResult("noise repeated", 0.0, "z", 1.0)
    return gaussian_test("noise repeated", max(scores, key=abs), tests=len(scores))


def sampler_tests(drawn: npt.NDArray[np.bool_], rate: float) -> list[TestResult]:
    """Poisson sampling at `rate`, from who was drawn in which step: bool (steps, patients).

    Total of all draws; spread of the patients' counts (Binomial(T, q)); spread of the steps' sizes (Binomial(n, q):
    fixed batches have none); patients shared by consecutive steps (hypergeometric given the sizes).
    """
    steps, patients = drawn.shape
    total = int(drawn.sum())
    low, high = stats.binom.cdf(total, drawn.size, rate), stats.binom.sf(total - 1, drawn.size, rate)
    spread = math.sqrt(drawn.size * rate * (1 - rate)) or 1.0
    score = (total - drawn.size * rate) / spread
    results = [TestResult("draws in all", score, "z", min(1.0, 2 * float(min(low, high))), above=score > 0)]
    if rate < 1:
        results.append(_dispersion_test("spread of patients' counts", drawn.sum(axis=0), steps, rate))
        results.append(_dispersion_test("spread of draw sizes", drawn.sum(axis=1), patients, rate))
        results.append(_overlap_test(drawn))
    return results


def _dispersion_test(name: str, counts: npt.NDArray[np.int64], trials: int, rate: float) -> TestResult:
    """Sum of squared standard scores of Binomial(trials, rate) counts.

    Its mean is exact; with fourth central moment 3 V^2 + V (1 - 6 q (1 - q)), so is its variance, and a scaled
    chi-square with both gives the tails.
    """
    one = trials * rate * (1 - rate)
    value = float(((counts - trials * rate) ** 2).sum() / one)
    scale = (2 + (1 - 6 * rate * (1 - rate)) / one) / 2
    degrees = counts.size / scale
    low, high = stats.chi2.cdf(value / scale, degrees), stats.chi2.sf(value / scale, degrees)
    score = (value - counts.size) / math.sqrt(2 * scale * counts.size)
    return TestResult(name, score, "z", min(1.0, 2 * float(min(low, high))), above=score > 0)


def _overlap_test(drawn: npt.NDArray[np.bool_]) -> TestResult:
    """Patients in two consecutive steps: a sum of independent hypergeometric counts given the steps' sizes."""
    sizes, patients = drawn.sum(axis=1), drawn.shape[1]
    exact, mean, variance = np.ones(1), 0.0, 0.0
    for first, second in pairwise(sizes):
        law = stats.hypergeom(patients, int(first), int(second))
        exact = np.convolve(exact, law.pmf(np.arange(int(min(first, second)) + 1)))
        mean, variance = mean + float(law.mean()), variance + float(law.var())
    shared = int((drawn[:-1] & drawn[1:]).sum())
    low, high = float(exact[: shared + 1].sum()), float(exact[shared:].sum())
    score = (shared - mean) / math.sqrt(variance) if variance > 0 else 0.0
    return TestResult("patients in consecutive steps", score, "z", min(1.0, 2 * min(low, high)), above=score > 0)
