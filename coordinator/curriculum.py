"""Which stage a round is in: a pure function of the history, so a restart and a replay give the same answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from privacy.evaluation import GateOutcome
from privacy.gates import slot_of
from privacy.manifest import Factor, Purpose, StageSpec

__all__ = ["Position", "RoundSummary", "gated_position", "position_after", "unpassed_gate"]


@dataclass(frozen=True, slots=True)
class RoundSummary:
    """What the curriculum may look at: the stage and the *noised* mean loss (nats; None if nothing was drawn)."""

    stage: int
    mean_loss: float | None


@dataclass(frozen=True, slots=True)
class Position:
    """Stage index, the round within that stage (from 0) and the LoRA factor that is trained in it.

    An evaluation trains nothing; its factor is that of the next training round of the stage. `decides`: whether it
    decides the stage's gate, which failed `repeat` times so far.
    """

    stage: int
    stage_round: int
    factor: Factor
    purpose: Purpose = "train"
    repeat: int = 0
    decides: bool = False


def position_after(history: Sequence[RoundSummary], stages: Sequence[StageSpec]) -> Position | None:
    """The position of the round that follows `history`, without evaluations; None when the curriculum is complete."""
    for index, stage in enumerate(stages):
        rounds = [entry for entry in history if entry.stage == index]
        if any(entry.stage > index for entry in history):
            continue
        if len(rounds) < stage.max_rounds and not _has_stopped(rounds, stage):
            return Position(index, len(rounds), _factor(stage.schedule, len(rounds)))
    return None


def gated_position(number: int, stages: Sequence[StageSpec], gates: Sequence[GateOutcome]) -> Position | None:
    """The position of round `number` of a run with evaluations: every number is used once, so it says all.

    None when the curriculum is complete, or ends at a gate that was not passed.
    """
    slot = slot_of(stages, number, gates)
    if slot is None:
        return None
    factor = _factor(stages[slot.stage].schedule, slot.stage_round)
    return Position(slot.stage, slot.stage_round, factor, slot.purpose, slot.repeat, slot.decides)


def unpassed_gate(stages: Sequence[StageSpec], gates: Sequence[GateOutcome]) -> int | None:
    """The first stage whose gate was not passed; None when all were."""
    passed = {outcome.stage for outcome in gates if outcome.failed == 0}
    return next((index for index, stage in enumerate(stages)
                 if stage.evaluation is not None and stage.evaluation.gate is not None and index not in passed), None)


def _factor(schedule: str, stage_round: int) -> Factor:
    """Alternation starts with B: while B is zero, A has no gradient (RoLoRA, arXiv 2409.02346)."""
    if schedule == "both":
        return "AB"
    if schedule == "b-only":
        return "B"
    return "B" if stage_round % 2 == 0 else "A"


def _has_stopped(rounds: Sequence[RoundSummary], stage: StageSpec) -> bool:
    """True when the last `patience` rounds brought the best noised loss down by less than `min_improvement`."""
    if stage.stop is None or len(rounds) <= stage.stop.patience:
        return False
    losses = [entry.mean_loss for entry in rounds if entry.mean_loss is not None]
    if len(losses) <= stage.stop.patience:
        return False
    before, recent = losses[: -stage.stop.patience], losses[-stage.stop.patience :]
    return min(before) - min(recent) < stage.stop.min_improvement
