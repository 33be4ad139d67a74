"""Statistic lanes: bounded together for each patient, decoded exactly, and within the ring for any likely draw."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from privacy.messages import RunManifest, SiteTerms, SourceShare, StageSpec
from privacy.statistics import LOSS_CEILING, LaneScale, lane_scale, mean_saturated, with_saturated

CLIP, SHARE = 0.7, 0.1
SCALE = LaneScale.of(
    clip_norm=CLIP, lane_share=SHARE, noise_multiplier=1.1, local_steps=4, sampling_rate=0.25, most_patients=900,
    saturation=2.0)
STAGE = StageSpec("one", (SourceShare("reports", 2),), ("attention",), "b-only", 0.1, 0.9, 4, 0.25, 1.1, 9)
MANIFEST = RunManifest(
    federation_id="fed", run_id="run", release="0", roster_hash=bytes(32), base_model_hash=bytes(32),
    adapter_hash=bytes(32), lora_rank=8, lora_alpha=16, privacy="patient-dp", clip_norm=CLIP, target_epsilon=8.0,
    lane_share=SHARE, bits=24, saturation=2.0, stages=(STAGE, replace(STAGE, name="two", noise_multiplier=2.2)),
    sites=(SiteTerms("a", 900, 0.6, 1e-6), SiteTerms("b", 300, 0.4, 1e-6)))

anything = st.floats(allow_nan=False, allow_infinity=True)


@settings(max_examples=100, deadline=None)
@given(loss=anything, correct=anything)
def test_a_patients_lanes_together_never_exceed_their_share_of_the_clip_norm(loss: float, correct: float) -> None:
    lanes = SCALE.patient(np.array([loss]), np.array([correct]))
    assert lanes.shape == (1, 3) and (lanes >= 0).all()
    assert np.linalg.norm(lanes) <= SHARE * CLIP * (1 + 1e-12)


def test_the_worst_patient_uses_the_whole_share() -> None:
    assert np.linalg.norm(SCALE.patient(np.array([1e9]), np.array([1.0]))) == pytest.approx(SHARE * CLIP)


def test_a_statistic_that_is_no_number_stays_one_so_that_the_engine_drops_the_patient() -> None:
    assert np.isnan(SCALE.patient(np.array([math.nan]), np.array([1.0]))).any()


@settings(max_examples=50, deadline=None)
@given(losses=st.lists(st.floats(0, LOSS_CEILING), min_size=1, max_size=30), data=st.data())
def test_decode_inverts_what_sites_send_when_there_is_no_noise(losses: list[float], data: st.DataObject) -> None:
    correct = data.draw(st.lists(st.floats(0, 1), min_size=len(losses), max_size=len(losses)))
    sent = SCALE.gain * SCALE.patient(np.array(losses), np.array(correct)).sum(axis=0)
    found = SCALE.decode(sent)
    assert found.drawn == pytest.approx(len(losses))
    assert found.mean_loss == pytest.approx(np.mean(losses), abs=1e-9)
    assert found.accuracy == pytest.approx(np.mean(correct), abs=1e-9)


@pytest.mark.parametrize("drawn", [-3.0, 0.0, 0.99])
def test_too_few_patients_give_no_mean(drawn: float) -> None:
    found = SCALE.decode(SCALE.gain * SCALE.unit * np.array([0.5, 0.5, drawn]))
    assert (found.mean_loss, found.accuracy, found.drawn) == (None, None, max(drawn, 0.0))


def test_noise_cannot_push_a_mean_out_of_its_range() -> None:
    found = SCALE.decode(SCALE.gain * SCALE.unit * np.array([90.0, -20.0, 30.0]))
    assert (found.mean_loss, found.accuracy) == (LOSS_CEILING, 0.0)


@pytest.mark.parametrize("noise", [0.0, 0.3, 2.0, 50.0])
@pytest.mark.parametrize("patients", [1, 120, 10**6])
def test_twice_the_expected_draw_and_eight_deviations_of_noise_do_not_saturate(noise: float, patients: int) -> None:
    steps, rate = 5, 0.2
    scale = LaneScale.of(
        clip_norm=CLIP, lane_share=SHARE, noise_multiplier=noise, local_steps=steps, sampling_rate=rate,
        most_patients=patients, saturation=2.0)
    most = scale.unit * 2 * steps * rate * patients + 8 * noise * CLIP * math.sqrt(steps)
    assert scale.gain * most <= 2.0


def test_the_scale_is_a_function_of_the_manifest_and_of_the_largest_declared_site() -> None:
    assert lane_scale(MANIFEST, 0) == SCALE
    assert lane_scale(MANIFEST, 1).unit == SCALE.unit and lane_scale(MANIFEST, 1).gain < SCALE.gain
    smaller = replace(MANIFEST, sites=(MANIFEST.sites[0], replace(MANIFEST.sites[1], declared_patients=10)))
    assert lane_scale(smaller, 0) == SCALE


def test_the_saturated_share_is_that_of_the_noised_vector_and_the_mean_over_sites_comes_back():
    noised = np.array([0.5, -2.5, 2.0, 3.0])
    sent = with_saturated(noised, 2.0)
    assert sent.tolist() == [*noised.tolist(), 1.0]  # two of four, of a range of 2
    other = with_saturated(np.zeros(4), 2.0)
    assert mean_saturated(float(sent[-1] + other[-1]), 2.0, 2) == pytest.approx(0.25)


def test_a_sum_that_a_lying_site_spoilt_stays_a_share():
    assert mean_saturated(-0.1, 2.0, 2) == 0.0
    assert mean_saturated(17.0, 2.0, 2) == 1.0
