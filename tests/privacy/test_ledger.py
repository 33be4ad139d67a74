"""The ledger: durable before release, capped, chained, and honest about what it cannot claim."""

from __future__ import annotations

import dataclasses
import math
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from privacy.dp.accounting import ReleaseEvent, epsilon
from privacy.errors import BudgetExceededError
from privacy.ledger import Ledger, LedgerEntry, LedgerTamperedError, NotPrivateError

DELTA = 1e-5
ROOT = Path(__file__).parents[2]
FIRST = LedgerEntry(
    run_id="run", round=0, attempt=0, stage=0, mechanism="poisson-gaussian", sampling_rate=0.1, noise_multiplier=1.0,
    steps=2, clip_norm=0.5, delta=DELTA, entropy="system", created_utc="2026-01-01T00:00:00Z",
)  # fmt: skip


def entry(**changes) -> LedgerEntry:
    return dataclasses.replace(FIRST, **changes)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "ledger.sqlite"


def filled(path, rounds: int = 3, **options) -> Ledger:
    ledger = Ledger.open(path, **{"epsilon_cap": 8.0, **options})
    for number in range(rounds):
        ledger.reserve(entry(round=number))
    return ledger


def vandalise(path, *statements: str) -> None:
    """Someone with write access and no respect for triggers."""
    with sqlite3.connect(path) as raw:
        for statement in ("DROP TRIGGER events_no_update", "DROP TRIGGER events_no_delete", *statements):
            raw.execute(statement)
    raw.close()


def test_epsilon_is_that_of_one_shot_accounting(path):
    ledger = Ledger.open(path, epsilon_cap=8.0)
    stages = [ReleaseEvent(0.1, 1.0, 2), ReleaseEvent(0.05, 0.9, 3), ReleaseEvent(0.1, 1.0, 2)]
    for number, event in enumerate(stages):
        values = {name: getattr(event, name) for name in ("sampling_rate", "noise_multiplier", "steps")}
        assert ledger.reserve(entry(round=number, stage=number, **values)) == number + 1
    whole = [ReleaseEvent(0.1, 1.0, 4), ReleaseEvent(0.05, 0.9, 3)]
    assert ledger.spent(DELTA) == ledger.spent() == epsilon(whole, DELTA)
    assert ledger.spent(1e-6) == epsilon(whole, 1e-6)
    assert Ledger.open(path).entries()[1].stage == 1


def test_a_ledger_holds_the_heads_that_it_had_and_no_others(path, tmp_path):
    ledger = Ledger.open(path, epsilon_cap=8.0)
    start = (ledger.sequence, ledger.head())
    assert start == (0, bytes(32)) and ledger.holds(*start)
    ledger.reserve(entry())
    first = (ledger.sequence, ledger.head())
    ledger.reserve(entry(round=1))
    assert first[0] == 1 and ledger.sequence == 2
    assert ledger.holds(*start) and ledger.holds(*first) and ledger.holds(2, ledger.head())
    for wrong in ((2, first[1]), (3, ledger.head()), (0, first[1]), (-1, bytes(32)), (1, bytes(32))):
        assert not ledger.holds(*wrong)
    assert not Ledger.open(tmp_path / "other.sqlite").holds(*first)


def test_a_crash_between_reserve_and_release_over_counts(path):
    code = (
        "import os, sys\n"
        "from privacy.ledger import Ledger, LedgerEntry\n"
        f"entry = {FIRST!r}\n"
        f"Ledger.open({str(path)!r}, epsilon_cap=8.0).reserve(entry)\n"
        "os._exit(9)\n"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 9
    ledger = Ledger.open(path, epsilon_cap=8.0)
    once = ledger.spent()
    assert once == epsilon([ReleaseEvent(0.1, 1.0, 2)], DELTA)
    assert ledger.last_attempt("run") == (0, 0)
    ledger.reserve(entry(attempt=1))
    assert ledger.spent() == epsilon([ReleaseEvent(0.1, 1.0, 4)], DELTA) > once


def test_the_cap_is_enforced_and_a_refusal_books_nothing(path):
    one = epsilon([FIRST.event()], DELTA)
    two = epsilon([ReleaseEvent(0.1, 1.0, 4)], DELTA)
    ledger = Ledger.open(path, epsilon_cap=(one + two) / 2)
    ledger.reserve(FIRST)
    with pytest.raises(BudgetExceededError) as refusal:
        ledger.reserve(entry(round=1))
    assert (refusal.value.spent, refusal.value.requested, refusal.value.limit) == (one, two, (one + two) / 2)
    assert len(ledger.entries()) == 1
    ledger.close()
    exact = Ledger.open(path, epsilon_cap=two)
    exact.reserve(entry(round=1))
    with pytest.raises(BudgetExceededError):
        exact.reserve(entry(run_id="another run"))


def test_the_smallest_delta_of_any_entry_counts(path):
    ledger = filled(path, 1)
    ledger.reserve(entry(round=1, delta=1e-7))
    assert ledger.spent() == epsilon([ReleaseEvent(0.1, 1.0, 4)], 1e-7) > ledger.spent(DELTA)


def test_would_spend_projects_a_whole_plan(path):
    ledger = filled(path, 2)
    plan = [ReleaseEvent(0.1, 1.0, 6)]
    assert ledger.would_spend(plan, DELTA) == epsilon([ReleaseEvent(0.1, 1.0, 10)], DELTA)
    assert len(ledger.entries()) == 2


def test_a_step_without_noise_is_infinite_for_good(path):
    ledger = filled(path, 1, epsilon_cap=math.inf)
    ledger.reserve(entry(round=1, mechanism="none", noise_multiplier=0.0, sampling_rate=1.0))
    ledger.reserve(entry(round=2))
    assert ledger.spent() == ledger.would_spend([], DELTA) == math.inf
    assert not ledger.is_private()
    with pytest.raises(NotPrivateError, match="without noise"):
        ledger.statement()
    ledger.close()
    with pytest.raises(BudgetExceededError):
        Ledger.open(path, epsilon_cap=1e9).reserve(entry(round=3))


def test_simulated_entropy_forbids_a_statement(path):
    ledger = filled(path, 1)
    claim = ledger.statement()
    assert (claim.epsilon, claim.delta, claim.entries) == (ledger.spent(), DELTA, 1)
    assert "each patient" in str(claim) and ledger.head().hex()[:16] in str(claim)
    ledger.reserve(entry(round=1, entropy="simulated"))
    assert not ledger.is_private()
    with pytest.raises(NotPrivateError, match="simulated"):
        ledger.statement()
    assert math.isfinite(ledger.spent())


@pytest.mark.parametrize(
    "vandalism",
    [
        "UPDATE events SET body = replace(body, '\"steps\":2', '\"steps\":1') WHERE seq = 2",
        "UPDATE events SET kind = 'attempt' WHERE seq = 2",
        "UPDATE events SET hash = zeroblob(32) WHERE seq = 3",
        "DELETE FROM events WHERE seq = 1",
        "DELETE FROM events WHERE seq = 2",
        "DELETE FROM events WHERE seq = 3",
        "DELETE FROM events",
    ],
)
def test_tampering_is_found_and_nothing_more_is_reserved(path, vandalism):
    ledger = filled(path)
    vandalise(path, vandalism)
    for refused in (
        ledger.verify_chain,
        ledger.statement,
        lambda: ledger.reserve(entry(round=3)),
        lambda: ledger.mark_masked("run", 0),
        lambda: Ledger.open(path, epsilon_cap=8.0),
    ):
        with pytest.raises(LedgerTamperedError):
            refused()


def test_a_noted_head_finds_a_ledger_that_was_rolled_back(path):
    ledger = filled(path, 2)
    early = ledger.head()
    ledger.reserve(entry(round=2))
    late = ledger.head()
    ledger.verify_chain(early)
    vandalise(path, "DELETE FROM events WHERE seq = 3", "UPDATE sqlite_sequence SET seq = 2")
    ledger.verify_chain()
    ledger.verify_chain(early)
    with pytest.raises(LedgerTamperedError, match="noted earlier"):
        ledger.verify_chain(late)


def test_rows_cannot_be_changed_through_sql(path):
    ledger = filled(path, 1)
    with sqlite3.connect(path) as raw:
        for statement in ("UPDATE events SET kind = 'x'", "DELETE FROM events"):
            with pytest.raises(sqlite3.IntegrityError, match="append-only"):
                raw.execute(statement)
    raw.close()
    ledger.verify_chain()


def test_a_file_that_is_no_ledger_is_refused(path):
    path.write_bytes(b"not a database, but long enough to be read as one" * 100)
    with pytest.raises(LedgerTamperedError):
        Ledger.open(path)


def test_the_file_is_private_and_writes_are_synchronous(path):
    ledger = filled(path, 1)
    assert path.stat().st_mode & 0o777 == 0o600
    assert ledger._db.execute("PRAGMA synchronous").fetchone()[0] >= 2
    ledger.close()
    path.chmod(0o644)
    Ledger.open(path).close()
    assert path.stat().st_mode & 0o777 == 0o600
    link = path.with_name("link")
    link.symlink_to(path)
    with pytest.raises(OSError):
        Ledger.open(link)


def test_a_missing_ledger_is_noticed(path):
    with pytest.raises(FileNotFoundError, match="restore"):
        Ledger.open(path, must_exist=True)
    assert not path.exists()


def test_attempts_only_go_forward(path):
    ledger = filled(path, 2)
    assert ledger.last_attempt("run") == (1, 0)
    assert ledger.last_attempt("other") is None
    for late in (entry(round=1), entry(round=0, attempt=5)):
        with pytest.raises(ValueError, match="next attempt"):
            ledger.reserve(late)
    ledger.record_attempt("run", 1, 1)
    assert ledger.last_attempt("run") == (1, 1)
    with pytest.raises(ValueError, match="next attempt"):
        ledger.reserve(entry(round=1, attempt=1))
    assert len(ledger.entries()) == 2


def test_masking_is_booked_once_and_only_after_a_reservation(path):
    ledger = filled(path, 1)
    with pytest.raises(ValueError, match="reserve before masking"):
        ledger.mark_masked("run", 1)
    assert not ledger.is_masked("run", 0)
    ledger.mark_masked("run", 0)
    head = ledger.head()
    ledger.mark_masked("run", 0)
    assert ledger.head() == head
    assert Ledger.open(path).is_masked("run", 0)


def test_two_processes_cannot_both_take_the_last_of_the_budget(path):
    two = epsilon([ReleaseEvent(0.1, 1.0, 4)], DELTA)
    first, second = (Ledger.open(path, epsilon_cap=two) for _ in range(2))
    first.reserve(entry(run_id="a"))
    second.reserve(entry(run_id="b"))
    for ledger in (first, second):
        with pytest.raises(BudgetExceededError):
            ledger.reserve(entry(run_id="c"))


def test_a_ledger_without_a_cap_only_reads(path):
    filled(path, 1).close()
    ledger = Ledger.open(path)
    assert ledger.spent() > 0
    with pytest.raises(ValueError, match="epsilon_cap"):
        ledger.reserve(entry(round=1))
    with pytest.raises(ValueError, match="epsilon_cap"):
        Ledger.open(path, epsilon_cap=math.nan)


def test_reserving_is_quick_with_many_entries(path):
    ledger = filled(path, 10, epsilon_cap=100.0)
    for number in range(10, 20):
        ledger.reserve(entry(round=number, stage=1, noise_multiplier=1.2, sampling_rate=0.05))
    start = time.process_time()
    ledger.reserve(entry(round=20, stage=2, noise_multiplier=1.1))
    assert time.process_time() - start < 0.5


@pytest.mark.parametrize(
    "changes",
    [
        {"mechanism": "laplace"}, {"entropy": "none"}, {"unit": "record"}, {"neighbouring": "replace-one"},
        {"steps": 0}, {"round": -1}, {"delta": 0.0}, {"noise_multiplier": 0.0}, {"sampling_rate": 1.5},
        {"clip_norm": math.nan}, {"mechanism": "none", "noise_multiplier": math.inf},
    ],
)  # fmt: skip
def test_entries_that_cannot_be_booked_are_refused(changes):
    with pytest.raises(ValueError):
        entry(**changes)


def test_an_empty_ledger(path):
    ledger = Ledger.open(path)
    assert (ledger.spent(), ledger.entries(), ledger.head()) == (0.0, (), bytes(32))
    assert ledger.is_private() and path.stat().st_size > 0


def test_a_run_stands_for_one_manifest_from_its_first_reservation_on(path):
    ledger = Ledger.open(path, epsilon_cap=8.0)
    assert ledger.bind_run("run", "aa")
    assert ledger.bind_run("run", "bb")  # nothing reserved yet
    ledger.reserve(entry())
    rows = ledger.head()
    assert not ledger.bind_run("run", "aa") and not ledger.bind_run("run", "cc")
    assert ledger.bind_run("run", "bb") and ledger.head() == rows  # nothing is booked for what is known
    assert ledger.bind_run("another", "aa")
    ledger.close()
    assert not Ledger.open(path, epsilon_cap=8.0).bind_run("run", "aa")


def test_a_run_with_reservations_but_no_known_manifest_is_not_bound(path):
    """As after restoring a ledger of an older release: nobody can say what was approved."""
    ledger = filled(path, 1)
    assert not ledger.bind_run("run", "aa")
