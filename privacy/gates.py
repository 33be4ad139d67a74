"""Which rounds evaluate, what their sum says, and whether a stage's gate is passed: both sides compute it alike.

*Guarantees.*
    * `slot_of` is a function of the manifest, a round's number and the outcomes of earlier gates. So every evaluation
      is announced with the manifest, a plan that leaves out a gate or repeats a stage too often names another slot,
      and `evaluations` and `training_rounds` bound what a site must reserve.
    * A lane of an evaluation round is the noised sum of what `privacy.dp.validation` bounds, or the fail bit, which is
      computed from that noised sum alone. The fail bit is a whole number of steps of the ring: its sum is exact.
    * `failed_sites` fails closed: a sum that is no number of sites counts as all of them.

*Assumes.* Outcomes come from a result that a quorum attested, or that this site computed itself (`privacy.results`).

*Does not cover.* A site that lies about its own bit: it can make a gate fail, or hide that one other site failed. That
the sum is the one that the sites sent: integrity tags do, which a gate needs. A coordinator that drops a gate's sum
which it has seen: it gets as many further tries as there are spare ones.

Which of the reserved releases happen, and in which order, depends on noised outcomes. The charge covers that: draw all
of them from their dominating pairs beforehand and reveal them in any order, and the run is post-processing of the
product that is charged.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from privacy.dp.events import ReleaseEvent
from privacy.evaluation import EvaluationTerms, Gate, GateOutcome
from privacy.manifest import Plan, Purpose, RunManifest, SiteTerms, StageSpec

__all__ = [
    "EVALUATION_LANES", "EvaluationScale", "EvaluationSum", "Slot", "evaluation_events", "evaluation_scale",
    "evaluations", "expected_patients", "failed_sites", "gates_after", "has_evaluations", "slot_of", "total_rounds",
    "training_rounds",
]

EVALUATION_LANES = 3  # noised sum of the centred losses, noised number of patients, fail bit
# Each of a patient's two coordinates; their norm stays below 1 - privacy.dp.clipping.SLACK.
UNIT = (1 - 2.0**-14) / math.sqrt(2)


# ------------------------------------------------------------------ which round is what


@dataclass(frozen=True, slots=True)
class Slot:
    """What one round number is for.

    Args:
        stage: index; purpose: "train" or "evaluate".
        stage_round: training rounds of the stage before this round.
        repeat: how often the stage's gate has failed so far.
        decides: whether this evaluation decides the stage's gate.
    """

    stage: int
    purpose: Purpose
    stage_round: int
    repeat: int
    decides: bool


def has_evaluations(manifest: RunManifest) -> bool:
    """Whether any round of the run evaluates."""
    return any(stage.evaluation is not None for stage in manifest.stages)


def training_rounds(stage: StageSpec) -> int:
    """Training rounds that a site reserves for the stage: its blocks with all repeats."""
    return stage.max_rounds * (1 + _repeats(stage))


def evaluations(stage: StageSpec) -> int:
    """Evaluations that a site reserves for the stage, those that are tried again among them."""
    terms = stage.evaluation
    if terms is None:
        return 0
    between = (stage.max_rounds - 1) // terms.every_rounds if terms.every_rounds else 0
    return (1 + between) * (1 + _repeats(stage)) + (0 if terms.gate is None else terms.gate.spare)


def total_rounds(manifest: RunManifest) -> int:
    """The most rounds that the run can have."""
    return sum(training_rounds(stage) + evaluations(stage) for stage in manifest.stages)


def slot_of(stages: Sequence[StageSpec], number: int, outcomes: Sequence[GateOutcome]) -> Slot | None:
    """What round `number` (from 1) is for; None after the last round, or where a gate was not passed in time.

    Args:
        outcomes: of the gates before that round. A gate's round without one ended without a sum, and is tried again
            while spare ones are left.
    """
    for at, slot in enumerate(_slots(stages, {outcome.round: outcome for outcome in outcomes}), start=1):
        if at == number:
            return slot
    return None


def _slots(stages: Sequence[StageSpec], outcomes: dict[int, GateOutcome]) -> Iterator[Slot]:
    """The rounds in their order, as far as the outcomes lead."""
    number = 0
    for index, stage in enumerate(stages):
        gate = None if stage.evaluation is None else stage.evaluation.gate
        tries = 0 if gate is None else 1 + gate.max_repeats + gate.spare
        for repeat in range(1 + _repeats(stage)):
            for slot in _block(index, stage, repeat):
                number += 1
                yield slot
            if gate is None:
                break
            outcome = None
            while outcome is None:
                if tries == 0:
                    return
                tries, number = tries - 1, number + 1
                yield Slot(index, "evaluate", (repeat + 1) * stage.max_rounds, repeat, True)
                outcome = outcomes.get(number)
            if outcome.failed == 0:
                break
        else:
            return  # failed, and no repeat is left


def _block(index: int, stage: StageSpec, repeat: int) -> Iterator[Slot]:
    """A block's training rounds, with the evaluations that decide nothing."""
    terms, before = stage.evaluation, repeat * stage.max_rounds
    for done in range(stage.max_rounds):
        if terms is not None and terms.every_rounds and done and done % terms.every_rounds == 0:
            yield Slot(index, "evaluate", before + done, repeat, False)
        yield Slot(index, "train", before + done, repeat, False)
    if terms is not None and terms.gate is None:
        yield Slot(index, "evaluate", before + stage.max_rounds, repeat, False)


def _repeats(stage: StageSpec) -> int:
    return 0 if stage.evaluation is None or stage.evaluation.gate is None else stage.evaluation.gate.max_repeats


# ------------------------------------------------------------------ what it is charged


def evaluation_events(stage: StageSpec, steps: int | None = None) -> list[ReleaseEvent]:
    """What `steps` evaluations cost (None: all that the stage can have): every validation patient, each time; none
    without an evaluation. Raises ValueError without noise, which no accountant can charge."""
    if stage.evaluation is None:
        return []
    return [ReleaseEvent(1.0, stage.evaluation.noise_multiplier, evaluations(stage) if steps is None else steps)]


def expected_patients(manifest: RunManifest, stage: StageSpec, terms: SiteTerms) -> float:
    """Patients that a training step draws at a site that has as many as it declared: the gradient's divisor."""
    return stage.sampling_rate * terms.declared_patients * (1 - manifest.validation_share)


# ------------------------------------------------------------------ what a round's sum says


@dataclass(frozen=True, slots=True)
class EvaluationSum:
    """An evaluation over all sites in the sum; None where too few patients stand out of the noise.

    Args:
        patients: noised number of validation patients.
        mean_loss: nats, of the noised sums; each patient's loss was cut at the terms' cap.
        standard_error: nats, of the noise alone; it does not cover which patients were there.
    """

    patients: float
    mean_loss: float | None
    standard_error: float | None


@dataclass(frozen=True, slots=True)
class EvaluationScale:
    """The lanes of one evaluation round, from manifest constants only.

    Args:
        terms: the stage's.
        gain: factor between a site's noised sums and the coordinates that are quantised.
        bit: what a fail bit of 1 is sent as; a power of two within the ring's saturation.
    """

    terms: EvaluationTerms
    gain: float
    bit: float

    def lanes(self, released: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """float64[3] to be quantised, from a site's noised sums float64[2]; post-processing of them."""
        gate = self.terms.gate
        failed = gate is not None and self.fails(released, gate)
        return np.append(self.gain * released, self.bit * failed)

    def fails(self, released: npt.NDArray[np.float64], gate: Gate) -> bool:
        """Whether a site does not pass: too few patients, or a mean loss that is not at most the threshold."""
        patients = float(released[1]) / UNIT
        return not (patients >= gate.min_patients and self._mean(released) <= gate.threshold)

    def decode(self, lanes: npt.NDArray[np.float64], sites: int) -> EvaluationSum:
        """From the sum over `sites` sites of the transmitted lanes, float64[3]."""
        sums = lanes[:2] / self.gain
        patients = float(sums[1]) / UNIT
        if patients < 1.0:
            return EvaluationSum(max(patients, 0.0), None, None)
        noise = self.terms.noise_multiplier * math.sqrt(sites) / UNIT
        centred = float(sums[0]) / float(sums[1])
        # The quotient's error to first order: both sums have the same noise, independently.
        error = self.terms.loss_cap / 2 * noise / patients * math.hypot(1.0, centred)
        return EvaluationSum(patients, min(max(self._mean(sums), 0.0), self.terms.loss_cap), error)

    def _mean(self, sums: npt.NDArray[np.float64]) -> float:
        return self.terms.loss_cap * (1 + float(sums[0]) / float(sums[1])) / 2


def evaluation_scale(manifest: RunManifest, stage: int) -> EvaluationScale:
    """The scale in `stage`: both sides compute it, nobody sends it. Raises ValueError without an evaluation."""
    terms = manifest.stages[stage].evaluation
    if terms is None:
        raise ValueError("this stage has no evaluation")
    most = manifest.validation_share * max(one.declared_patients for one in manifest.sites)
    room = 2.0 * UNIT * most + 8.0 * terms.noise_multiplier + 8.0 * UNIT
    return EvaluationScale(
        terms, manifest.saturation / room, math.ldexp(1.0, math.frexp(manifest.saturation)[1] - 1))


def failed_sites(scale: EvaluationScale, lane: float, sites: int) -> int:
    """How many of `sites` sites did not pass, from the sum of their fail bits; all, where it is no such number."""
    count = lane / scale.bit
    return int(count) if count in range(sites + 1) else sites


def gates_after(
    before: Sequence[GateOutcome], manifest: RunManifest, plan: Plan, real: npt.NDArray[np.float64], sites: int
) -> tuple[GateOutcome, ...]:
    """Every outcome after a round: `before`, and this round's where it decides a gate.

    Args:
        real: the round's sum, float64[d].
        sites: how many are in it.
    """
    slot = slot_of(manifest.stages, plan.round, before) if plan.purpose == "evaluate" else None
    if slot is None or not slot.decides:
        return tuple(before)
    failed = failed_sites(evaluation_scale(manifest, plan.stage), float(real[EVALUATION_LANES - 1]), sites)
    return (*before, GateOutcome(plan.stage, plan.round, failed))
