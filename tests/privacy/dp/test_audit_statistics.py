"""The audit's statistics against known distributions: they keep their false-alarm rate, and they see."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from privacy.dp.audit import (
    TestResult,
    canary_scores,
    contribution_test,
    decide,
    gaussian_test,
    noise_test,
    one_run_lower_bound,
    one_run_p_value,
    one_run_test,
    sampler_tests,
    step_correlation_test,
)

RATE = np.random.default_rng


def test_the_one_run_p_value_is_the_binomial_tail_and_delta_adds_to_it() -> None:
    plain = one_run_p_value(500, 100, 90, 1.0, 0.0)
    assert plain == pytest.approx(stats.binom.sf(89, 100, math.e / (1 + math.e)))
    with_delta = one_run_p_value(500, 100, 90, 1.0, 1e-5)
    # Theorem 5.2 by hand: alpha is the largest P[v > W >= v - i] / i.
    masses = [stats.binom.cdf(89, 100, math.e / (1 + math.e)) - stats.binom.cdf(89 - i, 100, math.e / (1 + math.e))
              for i in range(1, 91)]
    assert with_delta == pytest.approx(plain + 2 * 500 * 1e-5 * max(m / i for i, m in enumerate(masses, start=1)))
    assert one_run_p_value(500, 100, 90, 3.0, 0.0) > plain


def test_the_lower_bound_is_where_the_p_value_crosses() -> None:
    bound = one_run_lower_bound(400, 100, 100, 1e-8, 0.05)
    assert bound == pytest.approx(math.log(0.05 ** 0.01 / (1 - 0.05 ** 0.01)), abs=0.01)  # all right: p = level**(1/r)
    assert one_run_p_value(400, 100, 100, bound + 0.01, 1e-8) > 0.05
    assert one_run_lower_bound(400, 100, 50, 1e-8, 0.05) == 0.0


def test_guesses_of_randomised_response_respect_the_claim_and_refute_a_smaller_one() -> None:
    rng, epsilon, alarms = RATE(0), 1.0, 0
    for _ in range(300):
        included = rng.random(400) < 0.5
        truthful = rng.random(400) < math.e / (1 + math.e)
        scores = np.where(truthful == included, 1.0, -1.0) + rng.normal(0, 1e-3, 400)
        alarms += one_run_test(scores, included, 100, epsilon, 0.0)[0].p_value < 0.05
    assert alarms <= 300 * 0.05 + 3 * math.sqrt(300 * 0.05)
    included = rng.random(400) < 0.5
    assert one_run_test(included.astype(float), included, 100, epsilon, 1e-8)[0].p_value < 1e-6


def test_noise_of_the_claimed_variance_passes_and_ninety_per_cent_of_it_does_not() -> None:
    rng = RATE(1)
    p_values = [noise_test("x", float((rng.normal(size=2000) ** 2).sum()), 2000).p_value for _ in range(2000)]
    assert abs(np.mean(np.array(p_values) < 0.05) - 0.05) < 0.016
    assert noise_test("x", float(((0.9 * rng.normal(size=5000)) ** 2).sum()), 5000).p_value < 1e-6


def test_contributions_above_the_bound_are_found_and_smaller_ones_are_no_fault() -> None:
    large, share = contribution_test(inner=120.0, squared=100.0, bound=1.0, noise_std=0.2)
    assert share == pytest.approx(1.2) and large.value == pytest.approx(10.0) and large.rejects(1e-6)
    assert not contribution_test(inner=50.0, squared=100.0, bound=1.0, noise_std=0.2)[0].rejects(0.5)


def test_repeated_noise_is_found_and_fresh_noise_is_not() -> None:
    rng, alarms = RATE(2), 0
    basis = np.linalg.qr(rng.normal(size=(300, 5)))[0]
    for _ in range(400):
        fresh = [(v - basis @ (basis.T @ v), basis) for v in rng.normal(0, 2.0, (4, 300))]
        alarms += step_correlation_test(fresh, 2.0).p_value < 0.05
    assert alarms <= 400 * 0.05 + 3 * math.sqrt(400 * 0.05)
    assert step_correlation_test([fresh[0], fresh[1], fresh[0]], 2.0).p_value < 1e-12


@pytest.mark.parametrize("rate", [0.08, 0.25])
def test_poisson_draws_keep_the_false_alarm_rate(rate: float) -> None:
    rng, level, runs = RATE(3), 1e-3, 1000
    alarms: dict[str, int] = {}
    for _ in range(runs):
        for result in sampler_tests(rng.random((9, 250)) < rate, rate):
            alarms[result.name] = alarms.get(result.name, 0) + (result.p_value < level)
    assert len(alarms) == 4
    assert all(count <= 6 for count in alarms.values()), alarms  # 1 expected; above 6 has probability 1e-4


def test_shuffled_batches_repeated_draws_and_a_wrong_rate_are_found() -> None:
    rng, level = RATE(4), 1e-5
    order = np.concatenate([rng.permutation(200) for _ in range(3)]).reshape(-1, 50)[:9]
    shuffled = np.array([np.isin(np.arange(200), batch) for batch in order])
    found = {r.name for r in sampler_tests(shuffled, 0.25) if r.rejects(level)}
    assert {"spread of draw sizes", "patients in consecutive steps"} <= found
    same = np.repeat(rng.random((1, 200)) < 0.25, 9, axis=0)
    assert {r.name for r in sampler_tests(same, 0.25) if r.rejects(level)} >= {"patients in consecutive steps"}
    assert any(r.rejects(level) for r in sampler_tests(rng.random((9, 200)) < 0.4, 0.25) if r.name == "draws in all")


def test_scores_rank_those_who_contributed_first_also_when_canaries_resemble_each_other() -> None:
    rng = RATE(5)
    common = rng.normal(size=800)
    rows = np.array([0.8 * common / np.linalg.norm(common) + 0.6 * v / np.linalg.norm(v)
                     for v in rng.normal(size=(60, 800))])
    inside = np.arange(60) < 30
    released = rows[inside].sum(axis=0) + rng.normal(0, 0.05, 800)
    scores = canary_scores(rows @ rows.T, rows @ released, 0.05, 0.5)
    assert scores[inside].min() > scores[~inside].max()


def test_the_decision_is_bonferroni_over_all_tests() -> None:
    results = [TestResult("a", 1.0, "z", 4e-4), TestResult("b", -9.0, "z", 0.0, only_above=True, above=False)]
    decision = decide(results, 1e-3)
    assert decision.level == 5e-4 and decision.rejected == (True, False) and not decision.passed
    assert decide(results, 1e-4).passed
    with pytest.raises(ValueError, match="at least one test"):
        decide([], 1e-3)


def test_a_score_that_is_not_a_number_rejects():
    nan = float("nan")
    results = [gaussian_test("a", nan), noise_test("b", nan, 10), contribution_test(nan, 1.0, 1.0, 1.0)[0]]
    assert all(result.rejects(1e-9) for result in results)
    assert not decide(results, 1e-3).passed
