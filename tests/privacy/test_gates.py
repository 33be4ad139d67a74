"""Which rounds evaluate, what is reserved for them, and what their sums say: for every manifest and every outcome."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from dp_accounting import dp_event
from dp_accounting.pld import PLDAccountant
from hypothesis import given, settings
from hypothesis import strategies as st

from coordinator.manifest import planned_events as coordinators_events
from privacy.dp.accounting import calibrate, epsilon
from privacy.dp.events import ReleaseEvent
from privacy.dp.validation import released, validation_sum
from privacy.entropy import Entropy
from privacy.evaluation import EvaluationTerms, Gate, GateOutcome
from privacy.gates import (
    UNIT,
    evaluation_events,
    evaluation_scale,
    evaluations,
    failed_sites,
    gates_after,
    slot_of,
    total_rounds,
    training_rounds,
)
from privacy.manifest import Plan, RunManifest, SiteTerms, SourceShare, StageSpec, StopRule
from privacy.secagg.compact import coordinate_noise, too_narrow
from privacy.secagg.params import ring_params
from privacy.secagg.quantize import dequantize_sum, quantize
from site_client.policy import planned_events

GATE = Gate(threshold=2.0, min_patients=5, max_repeats=1, spare=1)
TERMS = EvaluationTerms(every_rounds=0, loss_cap=4.0, noise_multiplier=2.0, gate=GATE)
STAGE = StageSpec(
    name="one", sources=(SourceShare("reports", 2),), groups=("attention",), schedule="alternate", learning_rate=0.1,
    momentum=0.0, local_steps=2, sampling_rate=0.1, noise_multiplier=2.0, max_rounds=3, evaluation=TERMS)
MANIFEST = RunManifest(
    federation_id="fed", run_id="run", release="0", roster_hash=bytes(32), base_model_hash=bytes(32),
    adapter_hash=bytes(32), lora_rank=8, lora_alpha=16, privacy="patient-dp", clip_norm=1.0, target_epsilon=8.0,
    lane_share=0.1, bits=24, saturation=2.0, stages=(STAGE, replace(STAGE, name="two", evaluation=None)),
    sites=tuple(SiteTerms(f"site-{i}", 100 * i, 0.1 * i, 1e-5) for i in range(1, 5)),
    integrity_tags=1, validation_share=0.2)
PLAN = Plan("fed", "run", bytes(32), MANIFEST.hash(), 4, 1, 0, "B", bytes(32), 3, 3, 24, 4096.0, 2.0, "evaluate")


def shape(number: int, *outcomes: GateOutcome, stages: tuple[StageSpec, ...] = MANIFEST.stages) -> Any:
    slot = slot_of(stages, number, outcomes)
    return slot and (slot.stage, slot.purpose, slot.stage_round, slot.repeat, slot.decides)


def test_the_rounds_of_a_gated_stage_are_known_from_the_manifest_and_the_outcomes() -> None:
    passed, failed = GateOutcome(0, 4, 0), GateOutcome(0, 4, 2)
    assert [shape(number) for number in (1, 3, 4)] == [
        (0, "train", 0, 0, False), (0, "train", 2, 0, False), (0, "evaluate", 3, 0, True)]
    assert shape(5, passed) == (1, "train", 0, 0, False) and shape(8, passed) is None
    assert shape(5, failed) == (0, "train", 3, 1, False) and shape(8, failed) == (0, "evaluate", 6, 1, True)
    assert shape(9, failed, GateOutcome(0, 8, 0)) == (1, "train", 0, 0, False)
    assert shape(9, failed, GateOutcome(0, 8, 1)) is None  # no repeat is left, whatever the spare evaluations
    assert [shape(number) for number in (5, 6, 7)] == [(0, "evaluate", 3, 0, True)] * 2 + [None]  # lost ones
    assert shape(0) is None and shape(-1) is None and shape(2**31) is None


def test_evaluations_between_the_rounds_decide_nothing() -> None:
    stages = (replace(STAGE, evaluation=replace(TERMS, every_rounds=2, gate=None)),)
    assert [shape(number, stages=stages) for number in range(1, 7)] == [
        (0, "train", 0, 0, False), (0, "train", 1, 0, False), (0, "evaluate", 2, 0, False), (0, "train", 2, 0, False),
        (0, "evaluate", 3, 0, False), None]
    assert evaluations(stages[0]) == 2


STAGES = st.builds(
    lambda rounds, every, gate: replace(STAGE, max_rounds=rounds, evaluation=every and replace(
        TERMS, every_rounds=every - 1, gate=gate and Gate(2.0, 5, *gate))),
    st.integers(1, 4), st.one_of(st.none(), st.integers(1, 4)),
    st.one_of(st.none(), st.tuples(st.integers(0, 2), st.integers(0, 2))))


@settings(deadline=None, max_examples=200)
@given(st.lists(STAGES, min_size=1, max_size=3), st.lists(st.sampled_from([0, 1, None]), min_size=60, max_size=60))
def test_no_outcomes_lead_to_more_rounds_than_are_reserved(stages: list[StageSpec], given_: list[int | None]) -> None:
    """None is a round that was lost. Stages come in order, and none begins before the gate before it is passed."""
    outcomes: list[GateOutcome] = []
    used: dict[tuple[int, str], int] = {}
    number, last = 1, 0
    while (slot := slot_of(stages, number, outcomes)) is not None:
        assert slot.stage in (last, last + 1)
        if slot.stage > last:
            terms = stages[last].evaluation
            assert terms is None or terms.gate is None or (outcomes[-1].stage, outcomes[-1].failed) == (last, 0)
        last = slot.stage
        used[slot.stage, slot.purpose] = used.get((slot.stage, slot.purpose), 0) + 1
        if slot.decides and given_[number % 60] is not None:
            outcomes.append(GateOutcome(slot.stage, number, given_[number % 60] or 0))
        number += 1
    for index, stage in enumerate(stages):
        assert used.get((index, "train"), 0) <= training_rounds(stage)
        assert used.get((index, "evaluate"), 0) <= evaluations(stage)


# ------------------------------------------------------------------ what is charged


def test_both_sides_plan_every_repeat_and_every_evaluation() -> None:
    assert total_rounds(MANIFEST) == 3 * 2 + 3 + 3
    events = planned_events(MANIFEST)
    assert events == coordinators_events(MANIFEST) == [
        ReleaseEvent(0.1, 2.0, 2 * 3 * 2), ReleaseEvent(0.1, 2.0, 2 * 3), ReleaseEvent(1.0, 2.0, 3)]


def test_epsilon_of_a_manifest_with_evaluations_is_what_the_accounting_library_composes() -> None:
    accountant = PLDAccountant()
    for event, count in ((dp_event.PoissonSampledDpEvent(0.1, dp_event.GaussianDpEvent(2.0)), 18),
                         (dp_event.GaussianDpEvent(2.0), 3)):
        accountant.compose(dp_event.SelfComposedDpEvent(event, count))
    assert epsilon(planned_events(MANIFEST), 1e-5) == pytest.approx(accountant.get_epsilon(1e-5), rel=0.02)
    assert epsilon(planned_events(MANIFEST), 1e-5) > epsilon(evaluation_events(STAGE), 1e-5)


def test_noise_is_solved_around_what_the_evaluations_spend() -> None:
    fixed = evaluation_events(STAGE)
    training = [ReleaseEvent(0.1, 1.0, 18)]
    scale = calibrate(training, 4.0, 1e-5, fixed)
    assert 3.9 < epsilon([replace(training[0], noise_multiplier=scale), *fixed], 1e-5) <= 4.0
    assert scale > calibrate(training, 4.0, 1e-5)
    with pytest.raises(ValueError, match="evaluations spend target_epsilon 1 alone"):
        calibrate(training, 1.0, 1e-5, fixed)


@pytest.mark.parametrize(("changed", "words"), [
    ({"stages": (replace(STAGE, evaluation=replace(TERMS, noise_multiplier=0.0)),)}, "must be above 0"),
    ({"privacy": "none", "target_epsilon": 0.0, "stages": (replace(STAGE, noise_multiplier=0.0),)}, "privacy"),
    ({"integrity_tags": 0}, "integrity_tags"),
    ({"validation_share": 0.0}, "validation_share"), ({"validation_share": 0.6}, "validation_share"),
    ({"stages": (replace(STAGE, evaluation=None),)}, "validation_share"),
    ({"stages": (STAGE, replace(STAGE, name="two", evaluation=None, stop=StopRule(1, 0.0)))}, "stop"),
], ids=lambda value: value if isinstance(value, str) else "")
def test_a_manifest_whose_evaluation_would_not_be_noised_announced_or_held_out_cannot_be_made(
    changed: dict[str, Any], words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        replace(MANIFEST, **changed)


def test_an_evaluation_without_noise_can_be_neither_charged_nor_released() -> None:
    bare = replace(STAGE, evaluation=replace(TERMS, noise_multiplier=0.0))
    with pytest.raises(ValueError, match="noise_multiplier"):
        evaluation_events(bare)
    with pytest.raises(ValueError, match="noise_multiplier"):
        released(validation_sum(np.ones(3), 4.0), 0.0, Entropy(bytes(32), simulated=True))


def test_terms_that_could_never_fail_a_site_are_refused() -> None:
    with pytest.raises(ValueError, match="threshold"):
        replace(TERMS, loss_cap=2.0)


# ------------------------------------------------------------------ what a sum says


@pytest.mark.parametrize("bits", [16, 24, 32])
@pytest.mark.parametrize("saturation", [2.0**-90, 0.3, 1.0, 3.0, 4.0, 1e6])
@pytest.mark.parametrize("sites", [3, 5, 40])
def test_the_number_of_failed_sites_is_exact_in_every_ring(bits: int, saturation: float, sites: int) -> None:
    ring = ring_params(bits, saturation, sites)
    scale = evaluation_scale(replace(MANIFEST, bits=bits, saturation=saturation), 0)
    good, bad = (validation_sum(np.full(50, loss), 4.0).vector for loss in (0.5, 3.5))
    for failed in range(sites + 1):
        lanes = [scale.lanes(bad if site < failed else good) for site in range(sites)]
        total = sum(quantize(one, ring).values.astype(np.uint64) for one in lanes)
        real = dequantize_sum((total & 0xFFFFFFFF).astype(np.uint32), ring)  # type: ignore[union-attr, operator]
        assert failed_sites(scale, float(real[2]), sites) == failed
        outcome = gates_after((), replace(MANIFEST, bits=bits, saturation=saturation), PLAN, real, sites)
        assert outcome == (GateOutcome(0, 4, failed),)
        assert scale.decode(real, sites).patients == pytest.approx(50 * sites, rel=0.05)


def test_sixteen_bits_are_too_few_where_rounding_would_add_to_an_evaluations_noise() -> None:
    quiet = replace(STAGE, evaluation=replace(TERMS, noise_multiplier=1e-3))
    manifest = replace(MANIFEST, bits=16, stages=(quiet, MANIFEST.stages[1]))
    gain = evaluation_scale(manifest, 0).gain
    assert coordinate_noise(manifest, 0, "site-1") == gain * 1e-3 < coordinate_noise(manifest, 1, "site-1")
    assert ring_params(16, 2.0, 4).scale * gain * 1e-3 < 4 and too_narrow(manifest, 4, "site-1")


@pytest.mark.parametrize("lane", [-1.0, 0.5, 4.5, 5.0, 1e9])
def test_a_sum_that_is_no_number_of_sites_counts_as_all_failed(lane: float) -> None:
    scale = evaluation_scale(MANIFEST, 0)
    assert failed_sites(scale, lane * scale.bit, 4) == 4


def test_a_training_round_or_one_that_decides_nothing_adds_no_outcome() -> None:
    before = (GateOutcome(0, 4, 1),)
    assert gates_after(before, MANIFEST, replace(PLAN, purpose="train", round=5), np.zeros(3), 4) == before
    assert gates_after(before, MANIFEST, replace(PLAN, round=5), np.zeros(3), 4) == before  # that slot trains


def test_a_site_fails_where_too_few_patients_stand_out_of_the_noise_whatever_their_loss() -> None:
    scale = evaluation_scale(MANIFEST, 0)
    for count in (-3.0, 0.0, 4.9):
        assert scale.fails(UNIT * np.array([-count, count]), GATE)
    assert not scale.fails(UNIT * np.array([-5.0, 5.0]), GATE)
    assert scale.fails(UNIT * np.array([0.1, 5.0]), GATE) and not scale.fails(UNIT * np.array([0.0, 5.0]), GATE)


def test_the_error_that_is_shown_is_that_of_the_noise() -> None:
    scale, entropy = evaluation_scale(MANIFEST, 0), Entropy(bytes(32), simulated=True)
    total = validation_sum(np.full(80, 1.0), 4.0)
    sites = [scale.lanes(released(total, 2.0, entropy)) for _ in range(8000)]
    found = [scale.decode(one + other, 2) for one, other in zip(sites[::2], sites[1::2], strict=True)]
    means = np.array([one.mean_loss for one in found], dtype=float)
    assert means.mean() == pytest.approx(1.0, abs=0.01)
    assert means.std() == pytest.approx(np.mean([one.standard_error for one in found]), rel=0.08)
    few = scale.decode(scale.lanes(UNIT * np.array([0.5, 0.5])), 2)
    assert few.mean_loss is None and few.standard_error is None
