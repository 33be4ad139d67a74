"""What the ledger's rows add up to: a Renyi filter, and rounds that came to nothing."""

from __future__ import annotations

import pytest

from privacy.dp.accounting import epsilon_at_order
from privacy.errors import BudgetExceededError
from privacy.ledger import Ledger
from tests.privacy.test_ledger import DELTA, entry, filled, opened, schedule


@pytest.fixture
def path(tmp_path):
    return tmp_path / "ledger.sqlite"


# ------------------------------------------------------------------ the Renyi filter


def test_the_renyi_filter_charges_entries_at_one_order(path):
    options = {"composition": "rdp", "renyi_order": 8, "delta_cap": 1e-4}
    ledger = filled(path, 2, planned=5, cap=20.0, **options)
    two = epsilon_at_order([schedule(2)], 1e-4, 8)
    assert (ledger.spent(), ledger.spent_delta()) == (two, 1e-4) and two > ledger.ran(1e-4)
    ledger.close()
    tight = opened(path, epsilon_at_order([schedule(3)], 1e-4, 8), **options)
    tight.reserve(entry(round=2))
    with pytest.raises(BudgetExceededError) as refusal:
        tight.reserve(entry(round=3))
    assert refusal.value.spent == refusal.value.limit < refusal.value.requested
    assert len(tight.entries()) == 3


def test_how_runs_compose_is_fixed_by_the_first_run(path):
    filled(path, 1).close()
    other = opened(path, 80.0, composition="rdp", delta_cap=1e-4)
    with pytest.raises(ValueError, match='composes runs by "sum" since its first run'):
        other.reserve_run("second", "bb", [schedule(1)], DELTA)


# ------------------------------------------------------------------ wasted rounds


def test_rounds_that_were_never_finished_are_counted(path):
    ledger = filled(path, 1)
    assert (ledger.wasted_rounds(), ledger.wasted_rounds(next_round=True)) == (0, 1)  # it may still be open
    ledger.mark_masked("run", 0)
    ledger.finish_round("run", 0)
    rows = ledger.sequence
    ledger.finish_round("run", 0)
    assert ledger.sequence == rows and ledger.wasted_rounds(next_round=True) == 0
    ledger.reserve(entry(round=1))
    ledger.reserve(entry(round=1, attempt=1))  # trained again: the first one is wasted
    ledger.reserve(entry(round=2))
    assert ledger.wasted_rounds() == 2
    ledger.finish_round("run", 1)
    assert Ledger.open(path).wasted_rounds() == 1
    with pytest.raises(ValueError, match="reserve before finishing"):
        ledger.finish_round("run", 9)
