"""Local DP-SGD: constants from the manifest alone, one clip a patient, and no patient who can stop a round."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from model.adapted import AdaptedModel
from model.adapter import AdapterLayout, Selection, attach
from model.backbone import BaseModel, build
from model.inputs import IGNORE, Encoded, Example
from model.spec import TINY, LoraSpec
from model.tokenizer import train_tokenizer
from privacy.dp.clipping import ClippedSum
from privacy.dp.coverage import UncoveredParameterError
from privacy.dp.noise import noisy_sum
from privacy.dp.sampling import poisson_draw
from privacy.entropy import Entropy
from privacy.messages import AdaptiveClip, SourceShare, StageSpec, Truncation
from privacy.statistics import LaneScale
from site_client import mechanism
from site_client.training import EncodedPatient, LocalTask, LocalUpdate, rehearse, run_local_steps

MICRO = replace(
    TINY, name="micro", vocab_size=420, hidden_size=32, expert_size=16, num_heads=2, num_kv_heads=1, num_experts=3,
    sliding_window=16, vision_hidden_size=16, vision_mlp_size=16, vision_layers=1, vision_heads=2, patch_size=16,
    initializer_range=0.2)  # fmt: skip
CLIP, SHARE, DECLARED = 0.05, 0.1, 40
SCALE = LaneScale(SHARE * CLIP / 3**0.5, 1.0)
STAGE = StageSpec(
    name="one", sources=(SourceShare("reports", 2), SourceShare("patches", 1)), groups=("attention", "projector"),
    schedule="b-only", learning_rate=1.0, momentum=0.0, local_steps=1, sampling_rate=1.0, noise_multiplier=1.0,
    max_rounds=3)


class Seeded(Entropy):
    """A repeatable source."""

    def __init__(self, seed: int = 1) -> None:
        super().__init__(bytes([seed] * 32), simulated=True)


def patch(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (32, 32, 3), dtype=np.uint8)


REPORTS = [Example(f"Findings: effusion number {i}. Is this study normal?", "abnormal", ("normal", "abnormal"))
           for i in range(4)]
PATCHES = [Example("Are the two patches alike?", "yes", ("yes", "no"), (patch(i), patch(9))) for i in range(3)]


@pytest.fixture(scope="module")
def adapted() -> AdaptedModel:
    torch.set_num_threads(1)
    tokenizer = train_tokenizer([e.question + " " + e.answer for e in REPORTS + PATCHES], MICRO.vocab_size)
    base = BaseModel(build(MICRO, seed=3), tokenizer, MICRO, bytes(32))
    model = attach(base.model, LoraSpec(rank=2, alpha=4), seed=0)
    model.eval()
    layout = AdapterLayout(model)
    return AdaptedModel(base, model, layout, layout.read(model))


@pytest.fixture
def selection(adapted: AdaptedModel) -> Selection:
    adapted.write(adapted.initial)
    return adapted.layout.select(STAGE.groups, "B")


@pytest.fixture
def patients(adapted: AdaptedModel) -> list[EncodedPatient]:
    """One with reports, one with patches, one with both."""
    reports, patches = adapted.encode(REPORTS), adapted.encode(PATCHES)
    return [{"reports": reports[:2]}, {"patches": patches[:1]}, {"reports": reports[2:], "patches": patches[1:]}]


def task(private: bool = False, **stage: Any) -> LocalTask:
    return LocalTask(
        stage=replace(STAGE, **stage), clip_norm=CLIP, private=private, lanes=SCALE, lane_bound=SHARE * CLIP,
        expected_patients=float(DECLARED))


def train(
    adapted: AdaptedModel, selection: Selection, patients: Sequence[EncodedPatient], what: LocalTask | None = None,
    entropy: Entropy | None = None,
) -> LocalUpdate:
    adapted.write(adapted.initial)
    return run_local_steps(adapted, selection, patients, what or task(), entropy or Seeded())


def same(first: LocalUpdate, second: LocalUpdate) -> bool:
    """Equal up to the rounding of another batch."""
    close = [np.allclose(a, b, rtol=0, atol=1e-6 * CLIP) for a, b in
             ((first.delta, second.delta), (first.lanes, second.lanes))]
    return all(close)


def test_the_divisor_is_the_declared_size_whatever_the_index_holds(
    adapted: AdaptedModel, selection: Selection, patients: list[EncodedPatient]
) -> None:
    few = train(adapted, selection, patients)
    many = train(adapted, selection, [*patients, *[{"reports": []}] * 50, *[{}] * 50])
    assert np.abs(few.delta).max() > 0 and same(few, many)
    halved = replace(task(), expected_patients=2.0 * DECLARED)
    assert np.allclose(2 * train(adapted, selection, patients, halved).delta, few.delta, rtol=0, atol=1e-6 * CLIP)


def test_patients_without_samples_for_the_stage_contribute_nothing(adapted: AdaptedModel, selection: Selection) -> None:
    update = train(adapted, selection, [{}, {"reports": []}, {"impressions": adapted.encode(REPORTS[:1])}])
    assert not update.delta.any() and not update.lanes.any()


def test_each_patient_is_clipped_once_however_many_sources_and_samples_it_has(
    adapted: AdaptedModel, selection: Selection, patients: list[EncodedPatient]
) -> None:
    update = train(adapted, selection, [patients[2]])
    gradient = update.delta * DECLARED  # learning rate 1, one step
    assert np.linalg.norm(np.concatenate([gradient, update.lanes])) <= CLIP
    assert np.linalg.norm(gradient) > 0.9 * CLIP  # the clip does bind
    assert update.lanes[2] == pytest.approx(SCALE.unit, rel=1e-4)  # one patient, not three samples


def test_a_patients_loss_is_the_mean_over_its_samples(
    adapted: AdaptedModel, selection: Selection, patients: list[EncodedPatient]
) -> None:
    once: EncodedPatient = {"reports": patients[0]["reports"][:1]}
    twice: EncodedPatient = {"reports": [*once["reports"], *once["reports"]]}
    roomy = replace(task(), clip_norm=1e3, lane_bound=1.0)  # the clip would hide a factor of two
    first, second = train(adapted, selection, [once], roomy), train(adapted, selection, [twice], roomy)
    assert np.abs(first.delta).max() > 1e-5 and same(first, second)


def test_the_statistics_of_all_steps_are_added(
    adapted: AdaptedModel, selection: Selection, patients: list[EncodedPatient]
) -> None:
    update = train(adapted, selection, patients, task(local_steps=3))
    assert update.lanes[2] == pytest.approx(3 * len(patients) * SCALE.unit, rel=1e-4)


def test_removing_one_patient_moves_the_sum_by_at_most_the_clip_norm(
    adapted: AdaptedModel, selection: Selection, patients: list[EncodedPatient]
) -> None:
    whole = train(adapted, selection, patients)
    for left_out in range(3):
        rest = train(adapted, selection, [p for i, p in enumerate(patients) if i != left_out])
        moved = np.concatenate([(whole.delta - rest.delta) * DECLARED, whole.lanes - rest.lanes])
        assert 0 < np.linalg.norm(moved) <= CLIP


def test_a_source_gives_at_most_its_share_of_samples(
    adapted: AdaptedModel, selection: Selection, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows: list[int] = []
    real = mechanism.collate
    monkeypatch.setattr(mechanism, "collate", lambda samples: rows.append(len(samples)) or real(samples))
    train(adapted, selection, [{"reports": adapted.encode(REPORTS), "patches": adapted.encode(PATCHES)}])
    assert rows == [3]


def test_an_empty_draw_is_a_step_of_noise_alone(adapted: AdaptedModel, selection: Selection) -> None:
    update = train(adapted, selection, [], task(private=True), Seeded(7))
    mirror = Seeded(7)
    poisson_draw(mirror, 0, 1.0)
    noise = noisy_sum(ClippedSum(np.zeros(selection.size + 3), CLIP, 0, 0), 1.0, mirror)
    # To the last bit but those that adding to the adapter's own numbers rounds away.
    assert np.allclose(update.delta, -noise[:-3] / DECLARED, rtol=0, atol=1e-12)
    assert np.array_equal(update.lanes, noise[-3:])


def test_every_step_has_its_own_draw_and_its_own_noise(
    adapted: AdaptedModel, selection: Selection, monkeypatch: pytest.MonkeyPatch
) -> None:
    draws: list[tuple[int, ...]] = []

    def watched(entropy: Entropy, num_patients: int, rate: float) -> np.ndarray:
        drawn = poisson_draw(entropy, num_patients, rate)
        draws.append(tuple(drawn))
        return drawn

    monkeypatch.setattr(mechanism, "poisson_draw", watched)
    nobody: list[EncodedPatient] = [{}] * 100
    two = train(adapted, selection, nobody, task(private=True, local_steps=2, sampling_rate=0.5))
    one = train(adapted, selection, nobody, task(private=True, local_steps=1, sampling_rate=0.5))
    assert len(set(draws[:2])) == 2 and draws[2] == draws[0]
    assert not np.allclose(two.lanes, 2 * one.lanes)


def broken(sample: Encoded, how: str) -> Encoded:
    if how == "not a number":
        assert sample.pixel_values is not None
        return replace(sample, pixel_values=sample.pixel_values * float("nan"))
    if how == "no answer":
        return replace(sample, labels=torch.full_like(sample.labels, IGNORE))
    return replace(sample, input_ids=sample.input_ids + MICRO.vocab_size)  # outside the vocabulary


@pytest.mark.parametrize("how", ["not a number", "no answer", "no such token"])
def test_a_patient_who_cannot_be_trained_on_contributes_zero_and_the_round_goes_on(
    adapted: AdaptedModel, selection: Selection, patients: list[EncodedPatient], how: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """An error would leave the site, and would tell that this patient was drawn."""
    bad: EncodedPatient = {"patches": [broken(sample, how) for sample in adapted.encode(PATCHES[:1])]}
    with caplog.at_level(logging.DEBUG):
        assert same(train(adapted, selection, [patients[0], bad, *patients[1:]]), train(adapted, selection, patients))
    assert "patients that contributed zero=1" in caplog.text


def test_a_batch_too_large_for_the_machine_is_done_patient_by_patient(
    adapted: AdaptedModel, selection: Selection, patients: list[EncodedPatient], monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = train(adapted, selection, patients)
    real = mechanism.collate

    def small_only(samples: Sequence[Encoded]) -> Any:
        if len(samples) > 3:
            raise MemoryError
        return real(samples)

    monkeypatch.setattr(mechanism, "collate", small_only)
    assert same(train(adapted, selection, patients), expected)


def test_when_nobody_can_be_trained_on_the_step_is_noise_alone(
    adapted: AdaptedModel, selection: Selection, patients: list[EncodedPatient], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(_: Sequence[Encoded]) -> Any:
        raise RuntimeError("patient Smith")

    monkeypatch.setattr(mechanism, "collate", fails)
    update = train(adapted, selection, patients, task(private=True))
    assert update.delta.any() and np.isfinite(update.delta).all()


@pytest.mark.parametrize("choice", [
    {"clipping": "auto-s"}, {"optimizer": "adamw"}, {"optimizer": "adamw-bc"}, {"momentum": 0.5},
    {"adaptive_clip": AdaptiveClip(0.5, 0.2, 10.0)}, {"truncation": Truncation(2, 100)}], ids=str)
def test_every_choice_trains_on_an_empty_and_on_a_full_draw(
    adapted: AdaptedModel, selection: Selection, patients: list[EncodedPatient], choice: dict[str, Any]
) -> None:
    for whom in ([], patients):
        update = train(adapted, selection, whom, task(private=True, local_steps=3, **choice))
        assert update.delta.shape == (selection.size,) and update.lanes.shape == (3,)  # the bit is not in it
        assert np.isfinite(update.delta).all() and update.delta.any()


def test_a_truncated_draw_takes_no_more_patients_than_its_batch(
    adapted: AdaptedModel, selection: Selection, patients: list[EncodedPatient]
) -> None:
    sizes: list[int] = []
    run_local_steps(
        adapted, selection, patients * 10, task(private=True, local_steps=3, truncation=Truncation(2, 100)), Seeded(),
        observe=lambda drawn, _: sizes.append(len(drawn)))
    assert sizes == [2, 2, 2]


def test_scaling_back_after_the_noise_is_the_flat_clip_at_the_first_threshold(
    adapted: AdaptedModel, selection: Selection, patients: list[EncodedPatient]
) -> None:
    """The first threshold is the gradient's room, so a first step differs from a flat one by the bit's share alone."""
    released: list[np.ndarray] = []
    what = task(private=True, adaptive_clip=AdaptiveClip(0.5, 0.2, 10.0))
    adapted.write(adapted.initial)
    update = run_local_steps(
        adapted, selection, patients, what, Seeded(), observe=lambda _, vector: released.append(vector))
    assert released[0].size == selection.size + 3 + 1
    assert np.allclose(update.delta, -released[0][: selection.size] / DECLARED, rtol=0, atol=1e-12)
    assert np.array_equal(update.lanes, released[0][selection.size : selection.size + 3])


@pytest.mark.parametrize(("people", "rate"), [(0, 1.0), (3, 1e-12)], ids=["empty index", "empty draws"])
def test_an_empty_draw_is_a_step_of_noise_alone_on_every_coordinate(
    adapted: AdaptedModel, selection: Selection, patients: list[EncodedPatient], people: int, rate: float
) -> None:
    steps, noise = 400, 1.3
    seen: list[np.ndarray] = []

    def observe(drawn: np.ndarray, released: np.ndarray) -> None:
        assert len(drawn) == 0
        seen.append(released)

    adapted.write(adapted.initial)
    update = run_local_steps(
        adapted, selection, patients[:people],
        task(private=True, local_steps=steps, sampling_rate=rate, noise_multiplier=noise), Seeded(), observe=observe)
    released = np.stack(seen) / (noise * CLIP)
    assert released.shape == (steps, selection.size + 3)
    # Six standard errors each, for every coordinate: a gradient's, and that of a lane.
    assert np.abs(released.std(axis=0) - 1).max() < 6 / (2 * steps) ** 0.5
    assert np.abs(released.mean(axis=0)).max() < 6 / steps**0.5
    assert len({row.tobytes() for row in seen}) == steps
    assert np.allclose(update.delta, -np.sum(seen, axis=0)[: selection.size] / DECLARED, rtol=0, atol=1e-9)


@pytest.mark.parametrize("factor", [1e-6, 1 / 1024, 0.3, 1.0, 1024.0, 1e6])
def test_under_any_adapted_threshold_a_patient_keeps_within_c_and_the_reading_is_to_scale(
    adapted: AdaptedModel, selection: Selection, patients: list[EncodedPatient], factor: float
) -> None:
    """Clip to G, scale by R / G, noise z C, scale back by G / R: the noise is z C G / R, the gradient its own."""
    what = task(private=True, noise_multiplier=0.9, adaptive_clip=AdaptiveClip(0.5, 0.2, 3.0))
    adapted.write(adapted.initial)
    people = [[sample for group in patient.values() for sample in group] for patient in patients]
    gradients = [raw_gradient(adapted, selection, samples) for samples in people]
    step = mechanism.PatientMechanism(adapted, selection, what, Seeded())
    threshold = step._threshold
    assert threshold is not None
    room = threshold.value
    assert room == pytest.approx(CLIP * (1 - SHARE**2 - (0.9 / 6) ** 2) ** 0.5)

    def place() -> None:
        """Every reading moves the threshold on."""
        threshold._value = factor * room
        step._engine.set_threshold(factor * room)

    try:
        for samples, own in zip(people, gradients, strict=True):
            place()
            vector = step.clipped_sum([samples]).vector
            assert vector.size == selection.size + 3 + 1 and np.linalg.norm(vector) <= CLIP
            bit = 0.9 / 6 * CLIP * (1 if np.linalg.norm(own) <= factor * room else -1)
            assert vector[-1] == pytest.approx(bit, rel=1e-4)
            expected = own * min(1.0, factor * room / np.linalg.norm(own)) / DECLARED
            read_back = step.read(vector).gradient
            assert np.linalg.norm(read_back - expected) <= 1e-4 * np.linalg.norm(expected)
        stds = []
        for _ in range(300):
            place()
            reading = step.read(step.release(step.clipped_sum([])))
            stds.append(reading.gradient)
            assert reading.noise_std == pytest.approx(0.9 * CLIP * factor / DECLARED)
        assert np.abs(np.std(stds, axis=0) / reading.noise_std - 1).max() < 6 / 600**0.5
    finally:
        step.close()


def raw_gradient(adapted: AdaptedModel, selection: Selection, samples: list[Encoded]) -> np.ndarray:
    """One patient's gradient under a clip that it cannot reach."""
    wide = replace(task(), clip_norm=1e6, lane_bound=SHARE * 1e6)
    other = mechanism.PatientMechanism(adapted, selection, wide, Seeded())
    try:
        return other.clipped_sum([samples]).vector[: selection.size]
    finally:
        other.close()


@pytest.mark.parametrize("choice", [{}, {"clipping": "auto-s"}], ids=str)
def test_opacus_trains_the_same_step(
    adapted: AdaptedModel, selection: Selection, patients: list[EncodedPatient], choice: dict[str, Any]
) -> None:
    pytest.importorskip("opacus")
    ours = train(adapted, selection, patients, task(**choice))
    theirs = train(adapted, selection, patients, replace(task(**choice), engine="opacus"))
    assert np.abs(ours.delta).max() > 0
    assert np.abs(ours.delta - theirs.delta).max() <= 1e-5 * np.abs(ours.delta).max()
    assert np.allclose(ours.lanes, theirs.lanes, rtol=1e-5)


class _Leaky(AdaptedModel):
    """Trains a weight of the base as well, which no per-patient gradient covers."""

    def set_trainable(self, selection: Selection) -> list[tuple[str, torch.nn.Parameter]]:
        chosen = super().set_trainable(selection)
        next(self.model.parameters()).requires_grad_(True)
        return chosen


def test_the_rehearsal_fails_closed_on_public_examples(adapted: AdaptedModel, selection: Selection) -> None:
    public = adapted.encode([REPORTS[0], PATCHES[0]])
    rehearse(adapted, selection, public, task())
    assert np.array_equal(adapted.read(), adapted.initial)  # it trains nothing
    leaky = _Leaky(adapted.base, adapted.model, adapted.layout, adapted.initial)
    with pytest.raises(UncoveredParameterError):
        rehearse(leaky, selection, public, task())


def test_a_patients_share_does_not_depend_on_who_else_is_in_the_batch(
    adapted: AdaptedModel, selection: Selection, patients: list[EncodedPatient]
) -> None:
    """A mean over the batch, or over its tokens, would shrink everybody's share when a patient is added."""
    wide = replace(task(), clip_norm=1e6, lane_bound=SHARE * 1e6)  # nobody is clipped
    step = mechanism.PatientMechanism(adapted, selection, wide, Seeded())
    samples = [[sample for source in patient.values() for sample in source] for patient in patients]
    alone = [step.clipped_sum([one]).vector for one in samples]
    together = step.clipped_sum(samples).vector
    step.close()
    assert min(np.linalg.norm(vector) for vector in alone) > 1e-3
    assert np.allclose(together, sum(alone), rtol=0, atol=1e-5 * np.linalg.norm(together))
