"""Optimisers of the local steps against their formulas and against torch; the noise correction against its purpose."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from privacy.messages import SourceShare, StageSpec
from site_client.optimizer import AdamW, MomentumSgd, local_optimizer

START = np.array([1.0, -2.0, 0.5, 0.0])
GRADIENTS = np.random.default_rng(3).normal(size=(12, 4))


def path(optimizer, noise: float = 0.0) -> np.ndarray:
    position, seen = START.copy(), []
    for gradient in GRADIENTS:
        position = optimizer.step(position, gradient, noise)
        seen.append(position)
    return np.array(seen)


def torch_path(make) -> np.ndarray:
    weight = torch.nn.Parameter(torch.from_numpy(START.copy()))
    optimizer, seen = make([weight]), []
    for gradient in GRADIENTS:
        weight.grad = torch.from_numpy(gradient.copy())
        optimizer.step()
        seen.append(weight.detach().numpy().copy())
    return np.array(seen)


def test_momentum_is_that_of_torch() -> None:
    expected = torch_path(lambda weights: torch.optim.SGD(weights, lr=0.3, momentum=0.8))
    assert np.allclose(path(MomentumSgd(4, 0.3, 0.8)), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_adamw_is_that_of_torch_whatever_the_noise_level(decay: float) -> None:
    expected = torch_path(lambda weights: torch.optim.AdamW(weights, lr=0.01, weight_decay=decay))
    for noise in (0.0, 5.0):
        assert np.allclose(path(AdamW(4, 0.01, weight_decay=decay), noise), expected, rtol=0, atol=1e-10)


def test_the_corrected_second_moment_is_the_papers() -> None:
    """Step by step in plain numbers, with a noise level that changes as under an adaptive clip."""
    optimizer, position = AdamW(1, 0.1, correct_noise=True), np.zeros(1)
    first = second = power = 0.0
    for number, (gradient, noise) in enumerate([(2.0, 0.5), (-1.0, 0.25), (0.1, 1.5)], start=1):
        before = position
        position = optimizer.step(position, np.array([gradient]), noise)
        first, second = 0.9 * first + 0.1 * gradient, 0.999 * second + 0.001 * gradient**2
        power = 0.999 * power + 0.001 * noise**2
        debias = 1 - 0.999**number
        square = max(second / debias - power / debias, 0.01 * power / debias)
        assert position[0] - before[0] == pytest.approx(-0.1 * first / (1 - 0.9**number) / square**0.5)


def test_the_correction_recovers_the_scale_of_a_gradient_that_drowns_in_noise() -> None:
    draw = np.random.default_rng(0)
    scale, noise, steps = np.array([0.2, 1.0]), 2.0, 6000
    plain, corrected = AdamW(2, 1.0), AdamW(2, 1.0, correct_noise=True)
    for _ in range(steps):
        gradient = scale + noise * draw.normal(size=2)
        moved = {kind: one.step(np.zeros(2), gradient, noise) for kind, one in (("plain", plain), ("bc", corrected))}
    # Expected spread: sqrt(scale**2 + noise**2) without, sqrt(scale**2) (or the floor) with the correction.
    assert abs(moved["bc"]).max() > 1.5 * abs(moved["plain"]).max()
    square = corrected._second / (1 - 0.999**steps)
    assert corrected._spread(square, noise**2)[1] == pytest.approx(1.0, rel=0.5)


def test_no_step_divides_by_zero() -> None:
    for correct in (False, True):
        moved = AdamW(3, 0.1, correct_noise=correct).step(np.zeros(3), np.zeros(3), 0.0)
        assert np.array_equal(moved, np.zeros(3))


@pytest.mark.parametrize(("name", "kind"), [("sgd", MomentumSgd), ("adamw", AdamW), ("adamw-bc", AdamW)])
def test_the_manifest_names_the_optimiser(name: str, kind: type) -> None:
    stage = StageSpec(
        "one", (SourceShare("reports", 1),), ("attention",), "b-only", 0.05, 0.0, 1, 0.1, 1.0, 1, optimizer=name)
    optimizer = local_optimizer(stage, 4)
    assert type(optimizer) is kind
    moved = optimizer.step(START, GRADIENTS[0], 10.0) - START
    if name == "adamw-bc":
        assert not np.allclose(np.abs(moved), 0.05)
    elif name == "adamw":
        assert np.allclose(moved, -0.05 * np.sign(GRADIENTS[0]), atol=1e-6)
    else:
        assert np.allclose(moved, -0.05 * GRADIENTS[0])
