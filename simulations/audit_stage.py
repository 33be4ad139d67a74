"""One stage of a run, audited: the site's own steps on canaries and real patients, then the tests on what they left.

The steps run through `site_client.training.run_local_steps` with the mechanism to be audited, the real engine and
the noise of the manifest. Afterwards the model is set back to each step's adapter and the canaries' own gradients
there are computed, so that every test knows which directions carry a signal and which carry noise alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from coordinator.curriculum import RoundSummary, position_after
from model.adapted import AdaptedModel
from model.adapter import Selection
from model.inputs import Encoded
from privacy.aggregation import share_of
from privacy.dp.accounting import ReleaseEvent, epsilon
from privacy.dp.audit import (
    TestResult,
    canary_scores,
    contribution_test,
    noise_test,
    one_run_lower_bound,
    one_run_p_value,
    one_run_test,
    sampler_tests,
    step_correlation_test,
)
from privacy.dp.clipping import ClipBounds
from privacy.entropy import Entropy
from privacy.messages import RunManifest, StageSpec
from privacy.statistics import LANES, lane_scale
from simulations.audit_canaries import ReferenceGradients, autograd_error, make_canaries, samples_in_order
from site_client.mechanism import EncodedPatient, LocalTask, PatientMechanism
from site_client.training import run_local_steps

__all__ = ["AuditSettings", "Guessing", "StageAudit", "audit_stage", "planned_guesses"]

Vector = npt.NDArray[np.float64]
_LEARNING_RATE = 0.01  # the update is post-processing; a slow one keeps the canaries loud
_START = 0.02          # of the factor B: at zero, A has no gradient
_RIGHT = 0.95           # share of right guesses that the audit is planned for
_AUTOGRAD_TOLERANCE = 1e-3


@dataclass(frozen=True)
class AuditSettings:
    """How much an audit runs. All of it is fixed before the first step.

    Args:
        num_canaries: of each stage, each in with probability 1/2. num_patients: at most so many real ones.
        rounds, steps: of each stage; the factor follows the stage's schedule.
        false_alarm_rate: that any test of a correct mechanism rejects. delta: of the claimed epsilon.
    """

    num_canaries: int = 640
    num_patients: int = 96
    rounds: int = 3
    steps: int = 3
    false_alarm_rate: float = 1e-3
    delta: float = 1e-8


@dataclass(frozen=True)
class StageAudit:
    """One stage's tests, and plain values about them for the report."""

    tests: list[TestResult]
    facts: dict[str, Any]


@dataclass(frozen=True)
class _Step:
    """What one step showed: the adapter it started from, its draw and what it released."""

    selection: Selection
    position: Vector
    drawn: npt.NDArray[np.int64]
    released: Vector


@dataclass(frozen=True)
class Guessing:
    """The one-run audit's plan, from public constants: scores over the first `steps`, so many guesses, the claim."""

    steps: int
    guesses: int
    claimed: float


@dataclass
class _Evidence:
    """Sums over a stage's steps."""

    scores: Vector
    inner: float = 0.0
    squared: float = 0.0
    noise: float = 0.0
    degrees: int = 0
    lane_noise: float = 0.0
    autograd_error: float = 0.0

    def __post_init__(self) -> None:
        self.residuals: list[tuple[Vector, Vector]] = []


def audit_stage(
    adapted: AdaptedModel, manifest: RunManifest, number: int, patients: Sequence[EncodedPatient],
    mechanism: type[PatientMechanism], settings: AuditSettings, entropy: Entropy, tick: Callable[[], None],
) -> StageAudit:
    """Run and test stage `number` of `manifest` on canaries and `patients`; `tick` after each step of both passes."""
    stage = replace(manifest.stages[number], local_steps=settings.steps, learning_rate=_LEARNING_RATE, momentum=0.0,
                    optimizer="sgd", max_rounds=settings.rounds, stop=None)
    canaries = make_canaries(settings.num_canaries, stage, adapted.base.spec, entropy)
    included = entropy.uniform64(settings.num_canaries) < np.uint64(1 << 63)
    real = [_trimmed(patient, manifest, number) for patient in patients[: settings.num_patients]]
    present = [canaries[index] for index in np.flatnonzero(included)] + real
    task = LocalTask(
        stage=stage, clip_norm=manifest.clip_norm, private=True, lanes=lane_scale(manifest, number),
        lane_bound=manifest.lane_share * manifest.clip_norm, expected_patients=stage.sampling_rate * len(present))
    _start(adapted, stage.groups, entropy)

    def shared(selection: Selection) -> LocalTask:
        """With distributed noise a share is for the length of a round's vector."""
        return replace(task, share=share_of(manifest, number, selection.size + len(LANES)))

    steps = _run(adapted, shared, stage, present, mechanism, entropy, tick)
    drawn = np.zeros((len(steps), len(present)), dtype=bool)
    for row, step in zip(drawn, steps, strict=True):
        row[step.drawn] = True
    plan = planned_guesses(stage, settings)
    evidence = _Evidence(np.zeros(settings.num_canaries))
    samples = [samples_in_order(canary, stage) for canary in canaries]
    others = [samples_in_order(patient, stage) for patient in real]
    for count, step in enumerate(steps):
        scored = count < plan.steps
        _examine(adapted, shared(step.selection), step, samples, np.flatnonzero(included), others, evidence, entropy,
                 scored=scored)
        tick()
    return _tested(shared(steps[0].selection), evidence, included, drawn, plan, settings)


def planned_guesses(stage: StageSpec, settings: AuditSettings) -> Guessing:
    """The number of first steps at which guesses that are nearly all right refute most; fixed before anything runs.

    Guesses are three quarters of the canaries that one expects to be in and drawn at least once; "nearly" allows for
    one wrong guess in twenty. More steps draw more canaries, and raise the claim that must be refuted.
    """
    best, least = None, 2.0
    for steps in range(1, settings.rounds * settings.steps + 1):
        claimed = _claimed(stage, steps, settings.delta)
        guesses = int(0.375 * settings.num_canaries * (1 - (1 - stage.sampling_rate) ** steps))
        right = math.ceil(_RIGHT * guesses)
        p_value = one_run_p_value(settings.num_canaries, guesses, right, claimed, settings.delta)
        if best is None or p_value < least:
            best, least = Guessing(steps, guesses, claimed), p_value
    if best is None:
        raise ValueError("an audit needs at least one round of one step")
    return best


def _claimed(stage: StageSpec, steps: int, delta: float) -> float:
    return epsilon([ReleaseEvent(stage.sampling_rate, stage.noise_multiplier, steps)], delta)


def _trimmed(patient: EncodedPatient, manifest: RunManifest, number: int) -> EncodedPatient:
    """A patient with no more samples than the stage takes, so that the audit knows which were used."""
    return {share.source: list(patient.get(share.source, ()))[: share.max_samples]
            for share in manifest.stages[number].sources}


def _start(adapted: AdaptedModel, groups: Sequence[str], entropy: Entropy) -> None:
    start = adapted.initial.copy()
    factor = adapted.layout.select(groups, "B")
    start[factor.indices] += _START * entropy.gaussian(factor.size)
    adapted.write(start)


def _run(
    adapted: AdaptedModel, task_of: Callable[[Selection], LocalTask], stage: StageSpec,
    patients: Sequence[EncodedPatient], mechanism: type[PatientMechanism], entropy: Entropy, tick: Callable[[], None],
) -> list[_Step]:
    """The real steps, round after round."""
    steps: list[_Step] = []
    for done in range(stage.max_rounds):
        position = position_after([RoundSummary(0, None)] * done, [stage])
        if position is None:
            raise RuntimeError("the stage ended before the audit's rounds")
        selection = adapted.layout.select(stage.groups, position.factor)

        def observe(drawn: npt.NDArray[np.int64], released: Vector, selection: Selection = selection) -> None:
            steps.append(_Step(selection, adapted.read(), drawn.copy(), released.copy()))
            tick()

        run_local_steps(
            adapted, selection, patients, task_of(selection), entropy, mechanism=mechanism, observe=observe)
    return steps


def _examine(
    adapted: AdaptedModel, task: LocalTask, step: _Step, canaries: Sequence[list[Encoded]],
    included: npt.NDArray[np.int64], others: Sequence[list[Encoded]], evidence: _Evidence, entropy: Entropy, *,
    scored: bool,
) -> None:
    """Add what one step says. Directions of real patients in the draw are projected away from everything."""
    adapted.write(step.position)
    drawn = included[step.drawn[step.drawn < included.size]]
    beside = [others[index - included.size] for index in step.drawn[step.drawn >= included.size]]
    reference = ReferenceGradients(adapted, step.selection, task, entropy)
    # Guesses need every canary's gradient, the exact tests only those of the canaries in the draw.
    gradients, lanes = reference.of(canaries if scored else [canaries[index] for index in drawn])
    drawn = drawn if scored else np.arange(drawn.size)
    other_gradients, other_lanes = reference.of(beside)
    reference.close()
    if not evidence.residuals:
        evidence.autograd_error = autograd_error(adapted, step.selection, canaries[:2], gradients[:2])
    size, deviation = step.selection.size, _deviation(task)
    released, units = step.released[:size], _units(gradients)
    away = _orthonormal(_units(other_gradients))
    clear = units - (units @ away) @ away.T
    total = clear[drawn].sum(axis=0)
    evidence.inner += float(released @ total)
    evidence.squared += float(total @ total)
    basis = _orthonormal(np.concatenate([_units(other_gradients), units[drawn]]))
    noise = released - basis @ (basis.T @ released)
    evidence.noise += float(noise @ noise) / deviation**2
    evidence.degrees += size - basis.shape[1]
    evidence.residuals.append((noise, basis))
    expected = _within(lanes[drawn], task.lane_bound).sum(axis=0) + _within(other_lanes, task.lane_bound).sum(axis=0)
    evidence.lane_noise += float(((step.released[size:] - expected) ** 2).sum()) / deviation**2
    if not scored:
        return
    clear *= ClipBounds(task.clip_norm, task.lane_bound).gradient_bound
    evidence.scores += canary_scores(clear @ clear.T, clear @ released, deviation, task.stage.sampling_rate)


def _deviation(task: LocalTask) -> float:
    """Of the claimed noise on a coordinate. With distributed noise it is that of the honest shares, whose unit differs
    between factors by what rounding takes of the bound, under 1e-3: tests over several rounds take the first one's."""
    if task.share is not None:
        return task.share.noise_std(task.share.honest)
    return task.stage.noise_multiplier * task.clip_norm


def _units(rows: Vector) -> Vector:
    """Rows of length one; rows of zeros stay."""
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.asarray(rows / np.where(norms > 0, norms, 1.0))


def _within(rows: Vector, bound: float) -> Vector:
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.asarray(rows * np.minimum(1.0, bound / np.maximum(norms, 1e-300)))


def _orthonormal(rows: Vector) -> Vector:
    """(d, k) orthonormal columns whose span holds every row."""
    return np.asarray(np.linalg.qr(rows[np.any(rows != 0, axis=1)].T)[0])


def _tested(
    task: LocalTask, evidence: _Evidence, included: npt.NDArray[np.bool_], drawn: npt.NDArray[np.bool_],
    plan: Guessing, settings: AuditSettings,
) -> StageAudit:
    stage, steps = task.stage, drawn.shape[0]
    bounds = ClipBounds(task.clip_norm, task.lane_bound)
    deviation = _deviation(task)
    bound, correct = one_run_test(evidence.scores, included, plan.guesses, plan.claimed, settings.delta)
    contribution, share = contribution_test(evidence.inner, evidence.squared, bounds.gradient_bound, deviation)
    exact = evidence.autograd_error < _AUTOGRAD_TOLERANCE
    tests = [
        bound, contribution, noise_test("noise variance", evidence.noise, evidence.degrees),
        noise_test("noise variance of statistics", evidence.lane_noise, len(LANES) * steps),
        step_correlation_test(evidence.residuals, deviation), *sampler_tests(drawn, stage.sampling_rate),
        TestResult("gradients equal autograd", evidence.autograd_error, "relative error", float(exact))]
    facts = {
        "stage": stage.name, "steps": steps, "sampling_rate": stage.sampling_rate,
        "noise_multiplier": stage.noise_multiplier, "patients": int(drawn.shape[1]),
        "claimed_epsilon": _claimed(stage, steps, settings.delta), "canaries": int(included.size),
        "canaries_in": int(included.sum()), "bound_steps": plan.steps, "bound_claimed_epsilon": plan.claimed,
        "guesses": plan.guesses, "correct": correct,
        "bound_if_all_correct": one_run_lower_bound(
            included.size, plan.guesses, plan.guesses, settings.delta, 0.05),
        "contribution_over_bound": share, "noise_over_claimed": evidence.noise / evidence.degrees,
        "scores_in": np.sort(evidence.scores[included]).tolist(),
        "scores_out": np.sort(evidence.scores[~included]).tolist()}
    return StageAudit(tests, facts)
