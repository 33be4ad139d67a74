"""The utility study: its design, how patients are dealt, and what its goals say of made-up results."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from simulations.studies.utility_design import Cell, design, quick_design
from simulations.studies.utility_report import facts_of, goal_lines, plot, text_of
from simulations.studies.utility_train import RATES, deal

HEADLINE = [cell for cell in design() if cell.task == "reports" and cell.seed < 5 and cell.sites in (1, 8)
            and (cell.split, cell.schedule) == ("even", "alternate") and cell.arm != "alone-dp"]


def test_the_design_is_a_fraction_with_a_whole_headline():
    cells = design()
    assert len({cell.name for cell in cells}) == len(cells)
    assert sum(cell.arm != "base" for cell in cells) <= 150
    for arm in ("pooled-dp", "local", "distributed"):
        for epsilon in (1.0, 3.0, 8.0):
            assert sum((cell.arm, cell.epsilon) == (arm, epsilon) for cell in HEADLINE) == 5
    assert all(cell.sites <= 8 for cell in cells if cell.task == "patches")
    assert set(quick_design()) <= set(cells)


def test_every_run_that_trains_has_a_rate():
    for cell in design():
        assert cell.arm == "base" or cell.epsilon in RATES[cell.task][cell.arm], cell.name


@pytest.mark.parametrize("sites", [1, 4, 8, 32])
def test_every_patient_is_dealt_to_one_site(sites):
    patients: Any = [{"reports": [SimpleNamespace(answer=number % 2, number=number)]} for number in range(301)]
    even = deal(patients, Cell("reports", "local", 0, 1.0, sites))
    assert sorted(one["reports"][0].number for own in even for one in own) == list(range(301))
    assert max(map(len, even)) - min(map(len, even)) <= 1
    again = deal(patients, Cell("reports", "distributed", 0, 8.0, sites))
    assert [[one["reports"][0].number for one in own] for own in again] == [
        [one["reports"][0].number for one in own] for own in even]  # both arms train on the same sites


def test_a_skewed_deal_has_one_answer_at_each_end_and_unequal_sites():
    patients: Any = [{"reports": [SimpleNamespace(answer=number % 2)]} for number in range(400)]
    first, *_, last = deal(patients, Cell("reports", "local", 0, 1.0, 8, split="skewed"))
    assert {one["reports"][0].answer for one in first} == {0}
    assert {one["reports"][0].answer for one in last} == {1}
    assert len(first) > 3 * len(last)


def made(**accuracy: float) -> dict[Cell, dict[str, Any]]:
    """Results whose accuracy is the arm's, a little different from seed to seed but alike in all arms."""
    return {cell: {"accuracy": accuracy.get(cell.arm.replace("-", "_"), 0.85) + 0.01 * cell.seed, "loss": 0.1,
                   "rate": 1.0, "cpu_seconds": 1.0} for cell in HEADLINE}


def test_goals_are_met_by_what_is_near_pooled_and_above_local():
    lines, short = goal_lines(made(pooled_dp=0.85, distributed=0.849, local=0.80))
    assert not short and all(" ok" in line for line in lines)
    assert "goal distributed-above-local-eps1: 4.90 >= 2 ok" in lines[-1]


def test_goals_are_short_for_what_is_far_and_no_better():
    results = made(pooled_dp=0.85, distributed=0.80, local=0.80)
    for cell in results:
        results[cell]["loss"] = 0.11 if cell.arm == "distributed" else 0.1
    lines, short = goal_lines(results)
    assert short and all(" short" in line for line in lines)


def test_a_loss_within_a_percent_is_enough():
    results = made(pooled_dp=0.85, distributed=0.80, local=0.70)
    assert not goal_lines(results)[1]


def test_one_seed_measures_no_goal():
    lines, short = goal_lines({cell: facts for cell, facts in made().items() if cell.seed == 0})
    assert not short and all("not measured" in line for line in lines)


def test_differences_are_paired_by_seed():
    results = made(pooled_dp=0.85, distributed=0.84, local=0.80)
    del results[next(cell for cell in results if cell.arm == "pooled-dp" and cell.epsilon == 1.0 and cell.seed == 4)]
    row = next(row for row in facts_of(results)["rows"] if row["arm"] == "distributed" and row["epsilon"] == 1.0)
    mean, width, seeds = row["minus_pooled_dp_points"]
    assert (round(mean, 6), round(width, 6), seeds) == (-1.0, 0.0, 4)


def test_table_and_plot_are_made_of_what_is_there(tmp_path):
    results = {cell: facts for cell, facts in made().items() if cell.seed == 0}
    text = text_of(facts_of(results))
    assert "federated, distributed noise | 1 | 8 | even" in text
    plot(results, tmp_path / "plot.png")
    assert (tmp_path / "plot.png").read_bytes()[:4] == b"\x89PNG"
    assert replace(next(iter(results)), seed=-1) == next(iter(results)).row
