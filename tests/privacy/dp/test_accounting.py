"""The accountant: known values, two opinions, calibration from below, and the Gaussian closed form."""

from __future__ import annotations

import dataclasses
import math

import pytest

from privacy.dp import accounting
from privacy.dp.accounting import PLD, RDP, ReleaseEvent, accountant, calibrate, epsilon, epsilon_at_order, epsilon_rdp

STAGES = [ReleaseEvent(0.02, 1.0, 300), ReleaseEvent(0.05, 1.0, 200), ReleaseEvent(0.1, 1.5, 100)]


def scaled(events, scale):
    return [ReleaseEvent(e.sampling_rate, scale * e.noise_multiplier, e.steps) for e in events]


@pytest.mark.parametrize(
    ("event", "pld", "rdp"),
    [
        (ReleaseEvent(0.01, 0.7, 1000), 4.619, 5.423),
        (ReleaseEvent(0.1, 1.0, 1000), 25.20, 27.16),
        (ReleaseEvent(0.1, 2.0, 200), 3.360, 3.680),
    ],
)
def test_published_values(event, pld, rdp):
    assert epsilon([event], 1e-5) == pytest.approx(pld, rel=1e-3)
    assert epsilon_rdp([event], 1e-5) == pytest.approx(rdp, rel=1e-3)


@pytest.mark.parametrize("delta", [1e-4, 1e-6])
@pytest.mark.parametrize("scale", [0.6, 1.0, 4.0])
def test_pld_is_at_most_rdp(scale, delta):
    events = scaled(STAGES, scale)
    assert 0 < epsilon(events, delta) <= epsilon_rdp(events, delta)


def test_without_subsampling_it_is_the_gaussian_closed_form():
    """Balle and Wang, ICML 2018, theorem 8, for T Gaussian releases: sensitivity sqrt(T) / sigma."""
    steps, sigma = 20, 10.0
    found = epsilon([ReleaseEvent(1.0, sigma, steps)], 1e-5)
    mu = math.sqrt(steps) / sigma

    def normal(x):
        return 0.5 * math.erfc(-x / math.sqrt(2))

    def delta(eps):
        return normal(mu / 2 - eps / mu) - math.exp(eps) * normal(-mu / 2 - eps / mu)

    # `from below` it must not be: epsilon is an upper bound, and tight.
    assert delta(found) <= 1e-5 <= delta(found - 0.02)


def test_order_and_splitting_do_not_matter():
    whole = epsilon(STAGES, 1e-5)
    split = [ReleaseEvent(e.sampling_rate, e.noise_multiplier, 1) for e in STAGES for _ in range(e.steps)]
    assert epsilon(split[::-1], 1e-5) == whole


def test_it_equals_the_library_accountant_in_one_shot():
    import dp_accounting
    from dp_accounting import pld

    def sampled(event):
        gaussian = dp_accounting.GaussianDpEvent(event.noise_multiplier)
        return dp_accounting.PoissonSampledDpEvent(event.sampling_rate, gaussian)

    accountant = pld.PLDAccountant(value_discretization_interval=1e-3)
    composed = [dp_accounting.SelfComposedDpEvent(sampled(event), event.steps) for event in STAGES]
    accountant.compose(dp_accounting.ComposedDpEvent(composed))
    assert epsilon(STAGES, 1e-5) == pytest.approx(accountant.get_epsilon(1e-5), rel=1e-9)


@pytest.mark.parametrize(("target", "scale"), [(1, 3.967), (8, 0.887)])
def test_calibration_meets_the_target_from_below(target, scale):
    found = calibrate(STAGES, target, 1e-5)
    assert found == pytest.approx(scale, rel=2e-3)
    assert 0.99 * target <= epsilon(scaled(STAGES, found), 1e-5) <= target


def test_calibration_of_one_stage_hits_eight():
    found = calibrate([ReleaseEvent(0.1, 1.0, 40)], 8.0, 1e-4)
    assert 7.92 <= epsilon([ReleaseEvent(0.1, found, 40)], 1e-4) <= 8.0


def test_a_target_that_the_grid_rounds_to_nothing_is_met_from_below_or_refused():
    once = [ReleaseEvent(0.1, 1.0, 20)]
    found = calibrate(once, 0.01, 0.3)  # at this delta any more noise spends exactly 0
    assert 0.0099 <= epsilon(scaled(once, found), 0.3) <= 0.01
    with pytest.raises(ValueError, match="finer than the accountant's grid"):
        calibrate(once, 1e-7, 0.3)


def test_nothing_spends_nothing():
    assert epsilon([], 1e-5) == epsilon_rdp([], 1e-5) == 0.0
    assert epsilon([ReleaseEvent(0.0, 1.0, 10), ReleaseEvent(0.1, 1.0, 0)], 1e-5) == 0.0


def test_an_absurd_spend_is_answered_quickly_and_from_above():
    huge = [ReleaseEvent(0.5, 0.05, 1000)]
    assert epsilon(huge, 1e-5) == epsilon_rdp(huge, 1e-5) > 1e3


def test_bad_arguments_are_refused():
    for values in ((-0.1, 1.0, 1), (1.1, 1.0, 1), (0.1, 0.0, 1), (0.1, math.nan, 1), (0.1, 1.0, -1)):
        with pytest.raises(ValueError):
            ReleaseEvent(*values)
    for delta in (0.0, 1.0, -1e-5):
        with pytest.raises(ValueError, match="delta"):
            epsilon(STAGES, delta)
    with pytest.raises(ValueError, match="target_epsilon"):
        calibrate(STAGES, 0.0, 1e-5)
    with pytest.raises(ValueError, match="nothing to calibrate"):
        calibrate([], 1.0, 1e-5)


# ------------------------------------------------------------------ accountants by name, and a third opinion


def test_accountants_are_chosen_by_name():
    assert accountant() == accountant("pld") == PLD() and accountant("rdp") == RDP()
    assert PLD().epsilon(STAGES, 1e-5) == epsilon(STAGES, 1e-5) < RDP().epsilon(STAGES, 1e-5)
    with pytest.raises(ValueError, match='there is no accountant "prv"'):
        accountant("prv")


def test_the_accountant_that_under_reports_is_refused_with_its_reason():
    with pytest.raises(ValueError, match=r"under-reports epsilon \(3.48 where 4.62 is true\)"):
        accountant("gdp")


@pytest.mark.parametrize(
    "events",
    [
        [ReleaseEvent(0.01, 0.7, 1000)], [ReleaseEvent(0.01, 1.0, 1000)], [ReleaseEvent(0.1, 2.0, 200)],
        [ReleaseEvent(0.05, 1.2, 60)], STAGES, scaled(STAGES, 0.8),
    ],
)  # fmt: skip
def test_opacus_agrees_by_numerical_composition(events):
    """Gopi, Lee and Wutschitz, NeurIPS 2021: another library and another algorithm for the same number."""
    from opacus.accountants import PRVAccountant

    opinion = PRVAccountant()
    opinion.history = [(e.noise_multiplier, e.sampling_rate, e.steps) for e in events]
    theirs = opinion.get_epsilon(1e-5, eps_error=0.01, delta_error=1e-8)
    assert epsilon(events, 1e-5) <= theirs * 1.001  # PRV answers with an upper end
    assert theirs - epsilon(events, 1e-5) <= 0.02 + 1e-3 * theirs


def test_opacus_gdp_would_under_report():
    from opacus.accountants.analysis.gdp import compute_eps_poisson

    theirs = compute_eps_poisson(steps=1000, noise_multiplier=0.7, sample_rate=0.01, delta=1e-5)
    assert theirs < 0.8 * epsilon([ReleaseEvent(0.01, 0.7, 1000)], 1e-5)


def test_one_fixed_order_is_looser_than_the_best_one():
    assert epsilon_rdp(STAGES, 1e-5) <= epsilon_at_order(STAGES, 1e-5, 8.0)
    assert epsilon_at_order([], 1e-5, 8.0) == 0.0
    with pytest.raises(ValueError, match="at least 2"):
        epsilon_at_order(STAGES, 1e-5, 1.5)


# ------------------------------------------------------------------ truncated Poisson sampling


@pytest.mark.parametrize(("patients", "expected"), [(4000, 1.98), (5000, 4.40), (5800, 8.82)])
def test_truncation_is_charged_at_the_number_of_patients(patients, expected):
    event = ReleaseEvent(0.05, 1.0, 20, truncated_batch=290, most_patients=patients)
    assert epsilon([event], 1e-5) == pytest.approx(expected, abs=0.01)
    assert epsilon([event], 1e-5) <= epsilon_rdp([event], 1e-5)


@pytest.mark.parametrize(("rate", "noise", "cap"), [(0.05, 1.0, 290), (0.01, 1.0, 64), (0.25, 2.0, 10)])
def test_a_truncated_charge_covers_every_smaller_number_of_patients(rate, noise, cap):
    def cost(patients):
        return epsilon([ReleaseEvent(rate, noise, 20, cap, patients)], 1e-5)

    even = int(cap / rate)  # the expected draw meets the cap
    counts = [cap, cap + 1, *(int(even * share) for share in (0.5, 0.7, 0.8, 0.9, 0.95, 1.0, 1.1, 1.25, 2.0, 40.0))]
    costs = [cost(patients) for patients in sorted(counts)]
    assert costs == sorted(costs)
    assert cost(10**9) == epsilon([ReleaseEvent(rate, noise / 2, 20)], 1e-5)
    assert library_bound(rate, noise, cap, int(1.25 * even)) <= cost(10**9)  # where the library's own bound peaks


def library_bound(rate, noise, cap, patients):
    from dp_accounting.pld import privacy_loss_distribution as pld

    step = pld.from_truncated_subsampled_gaussian_mechanism(
        dataset_size=patients, sampling_probability=rate, truncated_batch_size=cap, noise_multiplier=noise,
        value_discretization_interval=1e-3)
    return step.self_compose(20).get_epsilon_for_delta(1e-5)


def test_a_bound_on_patients_that_is_far_too_high_does_not_lower_the_renyi_charge():
    plain, cut = ReleaseEvent(0.5, 20.0, 2000), ReleaseEvent(0.5, 20.0, 2000, 10, 10**9)
    assert epsilon_at_order([cut], 1e-5, 8.0) > epsilon_at_order([plain], 1e-5, 8.0)


@pytest.mark.parametrize("cap", [400, 5000, 9000])
def test_a_cap_that_hardly_ever_cuts_costs_nothing(cap):
    event, plain = ReleaseEvent(0.05, 1.0, 20, cap, 5000), ReleaseEvent(0.05, 1.0, 20)
    assert epsilon([event], 1e-5) == pytest.approx(epsilon([plain], 1e-5), rel=1e-6)
    assert epsilon_rdp([event], 1e-5) >= epsilon_rdp([plain], 1e-5)  # moments feel an event that delta would hide
    assert cap == 400 or epsilon_rdp([event], 1e-5) == epsilon_rdp([plain], 1e-5)


def test_truncated_and_plain_steps_compose_and_calibrate():
    mixed = [ReleaseEvent(0.05, 1.0, 20, 290, 5000), ReleaseEvent(0.05, 1.0, 20)]
    assert epsilon(mixed, 1e-5) > max(epsilon([event], 1e-5) for event in mixed)
    found = calibrate(mixed, 4.0, 1e-5)
    assert 3.96 <= epsilon(scaled_truncated(mixed, found), 1e-5) <= 4.0


def scaled_truncated(events, scale):
    return [dataclasses.replace(e, noise_multiplier=scale * e.noise_multiplier) for e in events]


@pytest.mark.parametrize("values", [(290, 0), (0, 5000), (-1, -1)])
def test_a_truncation_names_both_its_numbers(values):
    with pytest.raises(ValueError, match="truncated_batch and most_patients"):
        ReleaseEvent(0.05, 1.0, 20, *values)


def test_importing_the_module_does_not_load_the_library():
    import subprocess
    import sys
    from pathlib import Path

    code = "import sys, privacy.ledger; assert not {'dp_accounting', 'torch', 'scipy'} & set(sys.modules)"
    root = Path(accounting.__file__).parents[2]
    subprocess.run([sys.executable, "-c", code], check=True, cwd=root)
