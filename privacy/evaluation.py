"""What a manifest says of evaluation rounds and gates, and what a gate's round gave.

*Guarantees.* Terms that exist are within the bounds checked here; `check_evaluations` refuses a manifest whose
evaluation has no noise although the run is private, and one whose rounds could not be told in advance.

*Assumes.* A site keeps its validation patients out of training (`site_client.validation`) and charges every
evaluation before it reads them (`site_client.evaluation`).

*Does not cover.* Which round evaluates and what its sum says (`privacy.gates`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from privacy.wire import Message, check_range

if TYPE_CHECKING:
    from privacy.manifest import StageSpec

__all__ = ["EvaluationTerms", "Gate", "GateOutcome", "check_evaluations", "check_outcomes"]

MOST_REPEATS = 16
MOST_SPARE = 16


@dataclass(frozen=True)
class Gate(Message):
    """A stage must pass it before the next one begins; one that does not is trained for another block of its rounds.

    Args:
        threshold: nats; a site passes whose noised mean loss is at most this.
        min_patients: a site whose noised number of validation patients is smaller does not pass.
        max_repeats: further blocks of the stage's rounds; all are reserved before the run.
        spare: gate rounds that may be tried again because they ended without a sum; reserved as well.
    """

    threshold: float
    min_patients: int
    max_repeats: int
    spare: int

    def check(self) -> None:
        check_range("gate.threshold", self.threshold, 0.0, 1e6)
        check_range("gate.min_patients", self.min_patients, 1, 10**9)
        check_range("gate.max_repeats", self.max_repeats, 0, MOST_REPEATS)
        check_range("gate.spare", self.spare, 0, MOST_SPARE)


@dataclass(frozen=True)
class EvaluationTerms(Message):
    """Rounds of a stage in which sites evaluate the model on their validation patients and train nothing.

    Args:
        every_rounds: training rounds between two of them; 0 = only after the last round of a block.
        loss_cap: nats; a patient's mean loss is cut here.
        noise_multiplier: standard deviation of the noise over the bound on one patient; 0 only where privacy is "none".
        gate: the last evaluation of each block decides it; None decides nothing.
    """

    every_rounds: int
    loss_cap: float
    noise_multiplier: float
    gate: Gate | None = None

    def check(self) -> None:
        check_range("evaluation.every_rounds", self.every_rounds, 0, 10**5)
        check_range("evaluation.loss_cap", self.loss_cap, 1e-6, 1e6)
        check_range("evaluation.noise_multiplier", self.noise_multiplier, 0.0, 1e4)
        if self.gate is not None and not self.gate.threshold < self.loss_cap:
            raise ValueError("gate.threshold must be below evaluation.loss_cap, or no site could ever fail")


@dataclass(frozen=True)
class GateOutcome(Message):
    """What a gate's round gave: how many of the sites in its sum did not pass; 0 = the stage is passed."""

    stage: int
    round: int
    failed: int

    def check(self) -> None:
        check_range("a gate's stage", self.stage, 0, 2**16)
        check_range("a gate's round", self.round, 1, 2**31)
        check_range("a gate's failed", self.failed, 0, 2**16)


def check_outcomes(outcomes: Sequence[GateOutcome]) -> None:
    """Raise ValueError unless the outcomes are in the order of their rounds, one a round."""
    rounds = [outcome.round for outcome in outcomes]
    if rounds != sorted(set(rounds)) or len(rounds) > 1024:
        raise ValueError("gate outcomes must be in the order of their rounds, one a round, at most 1024")


def check_evaluations(
    stages: Sequence[StageSpec], *, privacy: str, validation_share: float, integrity_tags: int
) -> None:
    """Raise ValueError for evaluations that a run with these terms cannot have.

    Rounds that evaluate must be known in advance, so no stage may end early. A gate rests on the sum, so its sum must
    bear integrity tags: without them a coordinator could show the sites a sum in which nobody failed.
    """
    check_range("validation_share", validation_share, 0.0, 0.5)
    terms = [stage.evaluation for stage in stages if stage.evaluation is not None]
    if bool(terms) != (validation_share > 0):
        raise ValueError("validation_share is above 0 exactly where a stage has an evaluation; set both or neither")
    if not terms:
        return
    if any((one.noise_multiplier > 0) != (privacy != "none") for one in terms):
        raise ValueError('evaluation.noise_multiplier must be above 0 in a patient-dp run, and 0 with privacy "none"')
    if any(stage.stop is not None for stage in stages):
        raise ValueError("a run with an evaluation has no stop rule: its rounds are fixed in advance; leave out stop")
    if any(one.gate is not None for one in terms) and integrity_tags < 1:
        raise ValueError("a run with a gate needs integrity_tags of at least 1, so that its sum cannot be replaced")
