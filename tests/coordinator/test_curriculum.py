"""The stage of a round depends on the history alone."""

from __future__ import annotations

from dataclasses import replace

import pytest

from coordinator.curriculum import Position, RoundSummary, position_after
from privacy.manifest import SourceShare, StageSpec, StopRule

STAGE = StageSpec(
    name="one", sources=(SourceShare("reports", 1),), groups=("attention",), schedule="alternate", learning_rate=0.1,
    momentum=0.0, local_steps=1, sampling_rate=0.1, noise_multiplier=1.0, max_rounds=3)


def walk(stages: list[StageSpec], losses: list[float | None]) -> list[Position]:
    """All positions of a run whose noised losses are `losses`, in order; the last loss repeats."""
    history: list[RoundSummary] = []
    positions = []
    while (position := position_after(history, stages)) is not None:
        positions.append(position)
        history.append(RoundSummary(position.stage, losses[min(len(history), len(losses) - 1)]))
    return positions


def test_stages_follow_each_other_for_their_maximum_of_rounds() -> None:
    stages = [STAGE, replace(STAGE, name="two", max_rounds=1), replace(STAGE, name="three", max_rounds=2)]
    assert [(p.stage, p.stage_round) for p in walk(stages, [1.0])] == [
        (0, 0), (0, 1), (0, 2), (1, 0), (2, 0), (2, 1)]


def test_alternation_starts_with_b_in_every_stage() -> None:
    stages = [STAGE, replace(STAGE, name="two")]
    assert [p.factor for p in walk(stages, [1.0])] == ["B", "A", "B", "B", "A", "B"]


@pytest.mark.parametrize(("schedule", "factor"), [("both", "AB"), ("b-only", "B")])
def test_other_schedules_never_change_the_factor(schedule: str, factor: str) -> None:
    positions = walk([replace(STAGE, schedule=schedule)], [1.0])  # type: ignore[arg-type]
    assert {p.factor for p in positions} == {factor}


def test_a_replay_of_any_prefix_gives_the_same_position() -> None:
    stages = [replace(STAGE, max_rounds=6, stop=StopRule(2, 0.05)), replace(STAGE, name="two")]
    losses = [1.0, 0.9, 0.89, 0.88, 0.5]
    positions = walk(stages, losses)
    history = [RoundSummary(p.stage, losses[min(i, 4)]) for i, p in enumerate(positions)]
    for length, position in enumerate(positions):
        assert position_after(list(history[:length]), stages) == position
    assert position_after(history, stages) is None


def stopping(patience: int, min_improvement: float) -> list[StageSpec]:
    return [replace(STAGE, max_rounds=10, stop=StopRule(patience, min_improvement))]


def test_a_stage_ends_when_its_loss_stops_falling() -> None:
    assert len(walk(stopping(2, 0.1), [2.0, 1.5, 1.0, 0.95, 0.94, 0.5])) == 5


def test_a_loss_that_falls_enough_uses_all_rounds() -> None:
    assert len(walk(stopping(2, 0.1), [2.0 - 0.1 * i for i in range(10)])) == 10


def test_one_bad_round_within_the_patience_does_not_end_a_stage() -> None:
    assert len(walk(stopping(2, 0.1), [2.0, 1.5, 1.8, 1.3, 1.6, 1.1, 1.4, 0.9, 1.2, 0.7])) == 10


def test_rounds_without_a_statistic_never_stop_a_stage() -> None:
    assert len(walk(stopping(1, 0.1), [None])) == 10
    assert len(walk(stopping(2, 0.1), [1.0, None, None, 0.5, None, 0.45, 0.44])) == 7


def test_a_stage_that_stopped_stays_stopped_when_the_next_one_improves() -> None:
    stages = [*stopping(1, 0.1), replace(STAGE, name="two", max_rounds=2)]
    positions = walk(stages, [1.0, 1.0, 0.1, 0.05])
    assert [p.stage for p in positions] == [0, 0, 1, 1]


def test_an_empty_history_begins_at_the_beginning() -> None:
    assert position_after([], [STAGE]) == Position(0, 0, "B")
