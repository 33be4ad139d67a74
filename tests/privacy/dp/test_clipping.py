"""The clip: one bound on the joint vector for every rule, threshold and layout, and a bit that the noise pays for."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from privacy.dp.accumulator import ClippedAccumulator
from privacy.dp.adaptive_clip import REACH, AdaptiveThreshold, bit_weight
from privacy.dp.clipping import AUTO_S_GAMMA, SLACK, ClipBounds, ClippedSum
from privacy.dp.noise import noisy_sum
from privacy.entropy import SystemEntropy
from privacy.manifest import AdaptiveClip

CPU = torch.device("cpu")
SIZES = st.sampled_from([0.0, 1e-9, 1e-3, 0.5, 1.0, 7.0, 1e6, 1e20])
RULES = [{"rule": "flat"}, {"rule": "auto-s"}, {"rule": "flat", "bit_weight": 0.3}]


def accumulator(bounds: ClipBounds, dimension: int = 4, lanes: int = 2) -> ClippedAccumulator:
    return ClippedAccumulator(dimension, lanes, bounds, CPU)


def direction(size: float, length: int, seed: int) -> torch.Tensor:
    values = torch.from_numpy(np.random.default_rng(seed).normal(size=length))
    return size * values / values.norm()


@pytest.mark.parametrize("rule", RULES, ids=str)
@settings(max_examples=60, deadline=None)
@given(gradient=SIZES, lane=SIZES, threshold=st.floats(1e-4, 1e4), seed=st.integers(0, 9), parts=st.integers(1, 3))
def test_one_patient_never_weighs_more_than_the_clip_norm(
    rule: dict[str, Any], gradient: float, lane: float, threshold: float, seed: int, parts: int
) -> None:
    bounds = ClipBounds(2.0, 0.4, **rule)
    total = accumulator(bounds)
    if bounds.num_bits:
        total.set_threshold(threshold)
    whole, lanes = direction(gradient, 4, seed), direction(lane, 2, seed + 100)
    for part in range(parts):  # the same patient over several micro-batches
        total.add(whole[None] / parts, lanes[None] / parts, torch.tensor([part == parts - 1]))
    vector = total.finish().vector
    assert np.linalg.norm(vector) <= 2.0 * (1 - SLACK) * (1 + 1e-12)
    if bounds.num_bits:
        assert abs(vector[-1]) == pytest.approx(0.15 * (1 - SLACK))
    if gradient >= 1e6 and rule["rule"] == "flat":
        assert np.linalg.norm(vector[:4]) == pytest.approx(bounds.gradient_bound * (1 - SLACK), rel=1e-9)  # it binds


def test_auto_s_is_the_papers_factor_and_stays_strictly_below_the_bound() -> None:
    bounds = ClipBounds(2.0, 0.4, "auto-s")
    norms = torch.tensor([0.0, 1e-6, 0.01, 1.0, 1e9], dtype=torch.float64)
    factors, _ = bounds.factors(norms, torch.zeros_like(norms))
    room = bounds.gradient_bound * (1 - SLACK)
    assert np.allclose(factors, room / (norms.numpy() + AUTO_S_GAMMA), rtol=1e-12)
    assert bool((factors * norms < bounds.gradient_bound).all())
    flat, _ = ClipBounds(2.0, 0.4).factors(norms, torch.zeros_like(norms))
    assert float(flat[2]) == 1.0 and float(factors[2]) > 90  # a small gradient is scaled up, unlike with flat clipping


@pytest.mark.parametrize("threshold", [0.05, 1.0, 40.0])
def test_the_adaptive_clip_is_a_flat_clip_at_the_threshold_scaled_to_the_room(threshold: float) -> None:
    bounds = ClipBounds(2.0, 0.4, bit_weight=0.3)
    rows = torch.from_numpy(np.random.default_rng(1).normal(size=(50, 4)) * np.geomspace(1e-3, 1e3, 50)[:, None])
    total = accumulator(bounds)
    total.set_threshold(threshold)
    total.add(rows.clone(), torch.zeros(50, 2))
    vector = total.finish().vector
    norms = rows.norm(dim=1)
    expected = (rows * torch.clamp(threshold / norms, max=1)[:, None]).sum(0).numpy()
    scaled_back = vector[:4] * threshold / bounds.gradient_bound
    assert np.allclose(scaled_back, expected, rtol=5e-5, atol=5e-5 * threshold)
    below = int((norms <= threshold).sum())
    assert vector[-1] / (0.3 * (1 - SLACK)) == pytest.approx(below - 25)


def test_the_bit_says_whether_the_whole_gradient_is_small_not_its_last_part() -> None:
    bounds = ClipBounds(2.0, 0.4, bit_weight=0.3)
    total = accumulator(bounds)
    total.set_threshold(1.0)
    part = torch.tensor([[0.8, 0.0, 0.0, 0.0]], dtype=torch.float64)
    total.add(part.clone(), torch.zeros(1, 2), torch.tensor([False]))
    total.add(part.clone(), torch.zeros(1, 2), torch.tensor([True]))
    assert total.finish().vector[-1] < 0
    total.add(part.clone(), torch.zeros(1, 2))
    assert total.finish().vector[-1] > 0  # the threshold outlives finish()


@pytest.mark.parametrize("where", ["gradient", "lane"])
def test_a_patient_that_is_not_finite_gives_no_bit_either(where: str) -> None:
    bounds = ClipBounds(2.0, 0.4, bit_weight=0.3)
    total = accumulator(bounds)
    rows, lanes = torch.ones(2, 4), torch.ones(2, 2)
    (rows if where == "gradient" else lanes)[0, 1] = float("nan")
    total.add(rows, lanes)
    broken = total.finish()
    total.add(torch.ones(1, 4), torch.ones(1, 2))
    assert np.array_equal(broken.vector, total.finish().vector) and broken.num_nonfinite_local == 1


def test_the_threshold_is_fixed_within_a_step_and_only_an_adaptive_clip_has_one() -> None:
    adaptive = accumulator(ClipBounds(2.0, 0.4, bit_weight=0.3))
    adaptive.add(torch.ones(1, 4), torch.ones(1, 2))
    with pytest.raises(ValueError, match="fixed within a step"):
        adaptive.set_threshold(1.0)
    adaptive.finish()
    for wrong in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="finite number above 0"):
            adaptive.set_threshold(wrong)
    with pytest.raises(ValueError, match="only an adaptive clip"):
        accumulator(ClipBounds(2.0, 0.4)).set_threshold(1.0)


@pytest.mark.parametrize(
    "wrong", [{"rule": "auto"}, {"bit_weight": 4.0}, {"bit_weight": -0.1}, {"rule": "auto-s", "bit_weight": 0.3}],
    ids=str)
def test_bounds_that_leave_no_room_or_mean_nothing_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        ClipBounds(2.0, 0.4, **wrong)


def test_the_gradients_noise_is_the_joint_multiplier_of_the_paper() -> None:
    """Andrew et al., theorem 1: z_gradient = (z**-2 - (2 sigma_b)**-2) ** (-1/2)."""
    noise, clip, bit_noise = 1.3, 0.7, 2.1
    bounds = ClipBounds(clip, 0.0, bit_weight=bit_weight(noise, clip, bit_noise))
    assert noise * clip / bounds.gradient_bound == pytest.approx((noise**-2 - (2 * bit_noise) ** -2) ** -0.5)


def test_the_noise_on_the_bit_has_the_manifests_standard_deviation() -> None:
    noise, clip, bit_noise = 1.5, 0.1, 8.0
    weight = bit_weight(noise, clip, bit_noise)
    entropy, empty = SystemEntropy(), ClippedSum(np.zeros(1), clip, 0, 0)
    counts = np.array([noisy_sum(empty, noise, entropy)[0] for _ in range(4000)]) / weight
    assert abs(counts.std() / bit_noise - 1) < 5 / math.sqrt(2 * 4000)


@pytest.mark.parametrize("quantile", [0.3, 0.5, 0.8])
def test_the_threshold_finds_the_quantile_of_the_norms(quantile: float) -> None:
    """400 patients a step with log-normal norms, far from the start; the bits carry the manifest's noise."""
    draw = np.random.default_rng(5)
    noise, clip, bit_noise, patients = 1.0, 1.0, 20.0, 400
    bounds = ClipBounds(clip, 0.0, bit_weight=bit_weight(noise, clip, bit_noise))
    threshold = AdaptiveThreshold(AdaptiveClip(quantile, 0.3, bit_noise), bounds, patients)
    total = accumulator(bounds, lanes=0, dimension=1)
    assert threshold.value == bounds.gradient_bound and threshold.scale == 1.0
    seen, entropy = [], SystemEntropy()
    for step in range(150):
        norms = torch.from_numpy(np.exp(draw.normal(3.0, 1.0, size=(patients, 1))))
        total.add(norms, None)
        threshold.follow(float(noisy_sum(total.finish(), noise, entropy)[-1]))
        total.set_threshold(threshold.value)
        seen += [threshold.value] if step >= 100 else []
    target = np.exp(3.0 + {0.3: -0.5244, 0.5: 0.0, 0.8: 0.8416}[quantile])
    assert np.median(seen) == pytest.approx(target, rel=0.12)


def test_noise_cannot_carry_the_threshold_away() -> None:
    bounds = ClipBounds(1.0, 0.0, bit_weight=0.1)
    threshold = AdaptiveThreshold(AdaptiveClip(0.5, 10.0, 1.0), bounds, 1.0)
    threshold.follow(1e300)
    assert threshold.value == pytest.approx(bounds.gradient_bound / REACH)
    threshold.follow(-1e300)
    assert threshold.value == pytest.approx(bounds.gradient_bound * REACH)
    with pytest.raises(ValueError, match="bit_weight above 0"):
        AdaptiveThreshold(AdaptiveClip(0.5, 1.0, 1.0), ClipBounds(1.0, 0.0), 1.0)


def test_a_threshold_far_from_the_room_is_refused() -> None:
    """At 2**20 times less, the factor R / G leaves nothing of a float32 gradient's precision."""
    bounds = ClipBounds(2.0, 0.4, bit_weight=0.3)
    total, norms, room = accumulator(bounds), torch.ones(1, dtype=torch.float64), bounds.gradient_bound
    for near in (room / 2.0**20, room / REACH, room * REACH, room * 2.0**20):
        total.set_threshold(near)
        bounds.factors(norms, norms, near)
    for far in (room / 2.0**21, room * 2.0**21, 1e-300, 1e300):
        with pytest.raises(ValueError, match="within a factor of"):
            total.set_threshold(far)
        with pytest.raises(ValueError, match="within a factor of"):
            bounds.factors(norms, norms, far)


def test_an_open_patient_is_added_up_in_float64() -> None:
    """Float32 rounding of the carry would lose the third coordinate; the joint norm keeps to the bound all the same."""
    bounds = ClipBounds(2.0, 0.4)
    total = accumulator(bounds)
    big = torch.tensor([[2.0**30, 0.0, 1.0, 0.0]])
    parts = [big, torch.tensor([[1.0, 0.0, 0.0, 0.0]]), torch.tensor([[-(2.0**30), 0.0, 0.0, 0.0]])]
    for index, part in enumerate(parts):
        others = torch.zeros(1, 4)
        rows = torch.cat([part, others]) if index == 2 else part.clone()
        total.add(rows, torch.zeros(len(rows), 2), torch.tensor([index == 2] * len(rows)))
    result = total.finish()
    assert result.vector[:4].tolist() == [1.0, 0.0, 1.0, 0.0] and result.num_patients_local == 2


def test_the_joint_norm_keeps_to_the_slack_with_float32_parts() -> None:
    bounds, worst = ClipBounds(1.0, 0.3, bit_weight=0.2), 0.0
    for seed in range(200):
        draw, total = torch.Generator().manual_seed(seed), accumulator(bounds)
        for part in range(3):
            rows = 10.0 ** (seed % 7 - 3) * torch.randn(1, 4, generator=draw)
            total.add(rows, torch.randn(1, 2, generator=draw), torch.tensor([part == 2]))
        worst = max(worst, float(np.linalg.norm(total.finish().vector)))
    assert 1 - 2 * SLACK < worst <= (1 - SLACK) * (1 + 1e-12)
