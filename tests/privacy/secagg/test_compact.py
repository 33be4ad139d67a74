"""16 bits only where the noise hides the rounding: the formula against the training's own optimiser and ring."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from privacy.messages import AdaptiveClip
from privacy.secagg.compact import coordinate_noise, too_narrow
from privacy.secagg.params import ring_params
from privacy.secagg.quantize import quantize
from privacy.statistics import lane_scale
from site_client.optimizer import local_optimizer

SITE = "site-001"


@pytest.fixture(scope="module")
def manifest(make_federation):
    """5 sites; u = 0.1 * 1.0 / (0.1 * 200) * sqrt(1 + 1.9^2 + 2.71^2 + 3.439^2)."""
    return make_federation(5, bits=16).manifest


def with_stage(manifest, **changes):
    return replace(manifest, stages=(replace(manifest.stages[0], **changes),))


@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("steps", [1, 7])
def test_the_noise_is_that_of_the_local_steps(manifest, momentum, steps):
    manifest = with_stage(manifest, momentum=momentum, local_steps=steps, noise_multiplier=1.3)
    stage, rng = manifest.stages[0], np.random.default_rng(0)
    size, std = 40_000, 1.3 * manifest.clip_norm / (stage.sampling_rate * 200)
    optimizer, position = local_optimizer(stage, size), np.zeros(size)
    for _ in range(steps):
        position = optimizer.step(position, std * rng.standard_normal(size), std)
    weighted = manifest.terms(SITE).weight * position
    assert coordinate_noise(manifest, 0, SITE) == pytest.approx(weighted.std(), rel=0.02)


def test_the_noise_scales_with_weight_rate_and_declared_patients(manifest):
    before = coordinate_noise(manifest, 0, SITE)
    assert before == pytest.approx(0.005 * math.sqrt(1 + 1.9**2 + 2.71**2 + 3.439**2))
    assert coordinate_noise(with_stage(manifest, learning_rate=0.05), 0, SITE) == pytest.approx(before / 2)
    assert coordinate_noise(replace(manifest, clip_norm=0.5), 0, SITE) == pytest.approx(before / 2)
    sites = tuple(replace(terms, weight=0.25) for terms in manifest.sites)
    assert coordinate_noise(replace(manifest, sites=sites), 0, SITE) == pytest.approx(before / 4)
    sites = tuple(replace(terms, declared_patients=400) for terms in manifest.sites)
    assert coordinate_noise(replace(manifest, sites=sites), 0, SITE) == pytest.approx(before / 2)


def test_the_statistics_count_where_their_noise_is_smaller(manifest):
    loud = with_stage(manifest, learning_rate=1000.0)
    assert coordinate_noise(loud, 0, SITE) == pytest.approx(lane_scale(loud, 0).gain * math.sqrt(4))


def test_what_the_manifest_does_not_fix_counts_as_no_noise(manifest):
    for changes in ({"optimizer": "adamw", "momentum": 0.0}, {"optimizer": "adamw-bc", "momentum": 0.0},
                    {"adaptive_clip": AdaptiveClip(0.5, 0.2, 10.0)}):
        other = with_stage(manifest, **changes)
        assert coordinate_noise(other, 0, SITE) == 0 and too_narrow(other, 5, SITE)


def test_a_ring_that_passes_adds_at_most_one_percent_and_the_next_coarser_one_is_refused(manifest):
    fits = manifest
    while not too_narrow(replace(fits, saturation=2 * fits.saturation), 5, SITE):
        fits = replace(fits, saturation=2 * fits.saturation)
    noise, ring = coordinate_noise(fits, 0, SITE), ring_params(16, fits.saturation, 5)
    assert not too_narrow(fits, 5, SITE) and too_narrow(replace(fits, saturation=2 * fits.saturation), 5, SITE)
    assert 1 / 6 / ring.scale**2 <= 0.01 * noise**2 < 4 * 1 / 6 / ring.scale**2
    assert 5 * 4.08 * fits.saturation / noise <= 2**15
    drawn = noise * np.random.default_rng(0).standard_normal(200_000)
    error = quantize(drawn, ring).values.view(np.int32) / ring.scale - drawn
    assert error.var() <= 0.01 * noise**2


def test_every_stage_counts(manifest):
    quiet = replace(manifest.stages[0], name="two", learning_rate=1e-6)
    assert not too_narrow(manifest, 5, SITE)
    assert too_narrow(replace(manifest, stages=(*manifest.stages, quiet)), 5, SITE)


def test_wider_rings_and_runs_without_noise_always_pass_and_a_roster_beyond_the_ring_never(manifest):
    wide = replace(manifest, saturation=1e6)
    assert too_narrow(wide, 5, SITE)
    assert not too_narrow(replace(wide, bits=24), 5, SITE) and not too_narrow(replace(wide, bits=32), 5, SITE)
    bare = replace(wide, privacy="none", stages=(replace(wide.stages[0], noise_multiplier=0.0),))
    assert not too_narrow(bare, 5, SITE)
    assert too_narrow(manifest, 30_000, SITE)
