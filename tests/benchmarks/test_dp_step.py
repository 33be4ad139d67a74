"""The benchmark's arithmetic: lengths, intervals, goals and exit codes. Nothing is timed."""

from __future__ import annotations

import math

import pytest

from benchmarks._exactness import Deviation
from benchmarks._goals import goals_of
from benchmarks._grid import EXACT, FILL, GRIDS, Point, chosen, ragged_lengths
from benchmarks._measure import ArmResult, PointResult
from benchmarks._ratios import Goal, Ratio, exit_code, goal_line, ratio_of


def result(point, ratio, memory, arm="ours", low=None):
    made = ArmResult(1.0, Ratio(ratio, ratio if low is None else low, ratio, 9), 100, memory)
    return PointResult(point, {"non-private": ArmResult(), arm: made})


def good():
    return [result(Point(8, 128, 8, 256), 1.01, 1.02), result(Point(8, 128, 64, 256), 1.02, 1.3),
            result(Point(8, 128, 8, 256, experts=True), 1.0, 0.9),
            result(Point(8, 128, 8, 256, ragged=True), 0.5, 0.4, "ours packed")]


def exact(dtype, size):
    return Deviation(EXACT[0], "ours", dtype, size / 2, size)


DEVIATIONS = [exact("float32", 1e-6), exact("float64", 1e-15)]


def verdicts(results, deviations=DEVIATIONS, *, quick=False):
    return {goal.name: goal_line(goal).split()[-1] for goal in goals_of(results, deviations, quick=quick)}


def test_ragged_rows_have_the_stated_fill():
    for rows, longest in ((16, 128), (8, 1024)):
        lengths = ragged_lengths(rows, longest)
        assert len(lengths) == rows and max(lengths) == longest and min(lengths) >= 4
        assert sum(lengths) / rows / longest == pytest.approx(FILL, abs=0.02)


def test_grids_cover_what_the_goals_speak_of():
    for points in GRIDS.values():
        assert {point.family for point in points} == {"attention", "experts", "packed"}
        assert {point.checkpointing for point in points} == {"none", "reentrant", "non-reentrant"}
        assert len({point.label for point in points}) == len(points)
    for name in GRIDS:
        assert {point.family for point in chosen(name, True)} == {"attention", "experts", "packed"}
        assert set(chosen(name, True)) < set(chosen(name, False))


def test_the_interval_is_that_of_order_statistics():
    # n = 9: P(Binomial(9, 1/2) <= 1) = 0.0195, so the second smallest and the second largest.
    assert ratio_of([9, 1, 8, 2, 7, 3, 6, 4, 5]) == Ratio(5, 2, 8, 9)
    assert ratio_of([3.0, 1.0, 2.0]) == Ratio(2.0, 1.0, 3.0, 3)
    assert ratio_of([4.0]) == Ratio(4.0, 4.0, 4.0, 1)
    with pytest.raises(ValueError):
        ratio_of([])


def test_a_goal_line_says_ok_short_or_not_measured():
    assert goal_line(Goal("x", 1.03, 1.03)) == "goal x: 1.030 <= 1.03 ok"
    assert goal_line(Goal("x", 1.03, 1.031)) == "goal x: 1.031 <= 1.03 short"
    assert goal_line(Goal("x", 1e-5, 2e-7)) == "goal x: 2.0e-07 <= 1e-05 ok"
    assert goal_line(Goal("x", 1.0, reason="no GPU")) == "goal x: not measured (no GPU)"
    assert goal_line(Goal("x", 1.0, math.nan)).endswith("short")
    assert exit_code([Goal("x", 1.0, 0.5), Goal("y", 1.0)]) == 0
    assert exit_code([Goal("x", 1.0, 0.5), Goal("y", 1.0, 2.0)]) == 1


def test_good_results_meet_every_goal():
    assert set(verdicts(good()).values()) == {"ok"}


@pytest.mark.parametrize(
    ("bad", "name"),
    [
        (result(Point(8, 128, 8, 256), 1.2, 1.0, low=1.07), "attention-time-interval"),
        (result(Point(8, 128, 8, 256), 1.0, 1.11), "attention-memory"),
        (result(Point(8, 128, 8, 256, experts=True), 1.0, 1.06), "experts-memory"),
        (result(Point(8, 128, 8, 256, ragged=True), 0.56, 0.4, "ours packed"), "packed-time"),
    ],
)
def test_one_bad_point_is_enough(bad, name):
    found = verdicts([*good(), bad])
    assert [goal for goal, verdict in found.items() if verdict == "short"] == [name]


def test_medians_and_errors_can_be_short():
    slow = [result(Point(8, 128, 8, 256, experts=experts), 1.04, 1.0) for experts in (False, False, True)]
    found = verdicts([*good()[1:2], *slow], [exact("float32", 2e-5), exact("float64", math.nan)])
    assert {goal for goal, verdict in found.items() if verdict == "short"} == {
        "attention-time-median", "experts-time-median", "error-float32", "error-float64"}


def test_a_quick_run_finds_no_goal_met():
    found = verdicts(good(), quick=True)
    assert "ok" not in found.values() and "short" not in found.values()
    worse = [result(Point(8, 128, 8, 256), 1.2, 1.2)]
    assert verdicts(worse, quick=True)["attention-memory"] == "short"
    assert verdicts(worse, quick=True)["attention-time-median"] != "short"


def test_what_was_not_measured_is_never_ok():
    assert all("not measured" in goal_line(goal) for goal in goals_of([], [], quick=False))
    half = [*good(), PointResult(Point(4, 512, 8, 256), {"non-private": ArmResult(), "ours": ArmResult()})]
    assert verdicts(half)["attention-time-median"] != "ok"
