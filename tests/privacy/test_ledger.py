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
from privacy.identity import SigningKey
from privacy.ledger import Ledger, LedgerEntry, LedgerTamperedError, NotPrivateError
from privacy.ledger_file import LedgerFile, mark_path

DELTA = 1e-5
ROOT = Path(__file__).parents[2]
KEY = SigningKey.from_private_bytes(bytes(range(32)))
FIRST = LedgerEntry(
    run_id="run", round=0, attempt=0, stage=0, mechanism="poisson-gaussian", sampling_rate=0.1, noise_multiplier=1.0,
    steps=2, clip_norm=0.5, delta=DELTA, entropy="system", created_utc="2026-01-01T00:00:00Z",
)  # fmt: skip


def entry(**changes) -> LedgerEntry:
    return dataclasses.replace(FIRST, **changes)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "ledger.sqlite"


def opened(path, cap: float | None = 8.0, **options) -> Ledger:
    return Ledger.open(path, signing_key=KEY, epsilon_cap=cap, **options)


def filled(path, rounds: int = 3, planned: int = 10, **options) -> Ledger:
    """One run of `planned` rounds, of which `rounds` are booked."""
    ledger = opened(path, **options)
    ledger.reserve_run("run", "aa", [schedule(planned)], DELTA)
    for number in range(rounds):
        ledger.reserve(entry(round=number))
    return ledger


def schedule(rounds: int) -> ReleaseEvent:
    return ReleaseEvent(0.1, 1.0, 2 * rounds)


def vandalise(path, *statements: str) -> None:
    """Someone with write access and no respect for triggers."""
    with sqlite3.connect(path) as raw:
        for statement in ("DROP TRIGGER events_no_update", "DROP TRIGGER events_no_delete", *statements):
            raw.execute(statement)
    raw.close()


def test_what_ran_is_that_of_one_shot_accounting(path):
    ledger = opened(path)
    stages = [ReleaseEvent(0.1, 1.0, 2), ReleaseEvent(0.05, 0.9, 3), ReleaseEvent(0.1, 1.0, 2)]
    ledger.reserve_run("run", "aa", stages, DELTA)
    for number, event in enumerate(stages):
        values = {name: getattr(event, name) for name in ("sampling_rate", "noise_multiplier", "steps")}
        assert ledger.reserve(entry(round=number, stage=number, **values)) == number + 2
    whole = [ReleaseEvent(0.1, 1.0, 4), ReleaseEvent(0.05, 0.9, 3)]
    assert ledger.ran(DELTA) == ledger.ran() == ledger.spent() == epsilon(whole, DELTA)
    assert ledger.ran(1e-6) == epsilon(whole, 1e-6)
    assert Ledger.open(path).entries()[1].stage == 1


def test_a_crash_between_reserve_and_release_over_counts(path):
    code = (
        "import os, sys\n"
        "from privacy.identity import SigningKey\n"
        "from privacy.dp.accounting import ReleaseEvent\n"
        "from privacy.ledger import Ledger, LedgerEntry\n"
        f"entry = {FIRST!r}\n"
        "key = SigningKey.from_private_bytes(bytes(range(32)))\n"
        f"ledger = Ledger.open({str(path)!r}, signing_key=key, epsilon_cap=8.0)\n"
        "ledger.reserve_run('run', 'aa', [ReleaseEvent(0.1, 1.0, 4)], 1e-5)\n"
        "ledger.reserve(entry)\n"
        "os._exit(9)\n"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 9
    ledger = opened(path)
    once = ledger.ran()
    assert once == epsilon([ReleaseEvent(0.1, 1.0, 2)], DELTA)
    assert ledger.last_attempt("run") == (0, 0)
    ledger.reserve(entry(attempt=1))
    assert ledger.ran() == epsilon([ReleaseEvent(0.1, 1.0, 4)], DELTA) > once
    with pytest.raises(BudgetExceededError):  # the crashed one used up a round of the schedule
        ledger.reserve(entry(attempt=2))


def test_the_cap_is_enforced_on_whole_runs_and_a_refusal_books_nothing(path):
    one, cap = epsilon([schedule(3)], DELTA), 1.9 * epsilon([schedule(3)], DELTA)
    ledger = opened(path, cap)
    ledger.reserve_run("run", "aa", [schedule(3)], DELTA)
    before = ledger.sequence
    with pytest.raises(BudgetExceededError) as refusal:
        ledger.reserve_run("second", "bb", [schedule(3)], DELTA)
    assert (refusal.value.spent, refusal.value.requested, refusal.value.limit) == (one, 2 * one, cap)
    assert refusal.value.code == "P_BUDGET" and ledger.sequence == before
    ledger.close()
    exact = opened(path, 2 * one)
    exact.reserve_run("second", "bb", [schedule(3)], DELTA)
    with pytest.raises(BudgetExceededError):
        exact.reserve_run("third", "cc", [ReleaseEvent(0.1, 1.0, 1)], DELTA)
    assert (exact.spent(), exact.spent_delta()) == (2 * one, 2 * DELTA)


def test_a_stopped_run_keeps_its_whole_reservation(path):
    ledger = filled(path, 1, planned=5)
    assert ledger.spent() == epsilon([schedule(5)], DELTA) > ledger.ran()


def test_reserving_a_run_again_books_nothing_and_another_schedule_is_refused(path):
    ledger = filled(path, 1, planned=5)
    rows = ledger.sequence
    ledger.reserve_run("run", "aa", [schedule(5)], DELTA)
    assert ledger.sequence == rows
    for manifest, rounds, delta in (("aa", 6, DELTA), ("aa", 5, 1e-6), ("bb", 5, DELTA)):
        with pytest.raises(ValueError, match="another run_id"):
            ledger.reserve_run("run", manifest, [schedule(rounds)], delta)
    assert ledger.sequence == rows


@pytest.mark.parametrize(
    "changes", [{"steps": 9}, {"noise_multiplier": 0.99}, {"sampling_rate": 0.2},
                {"truncated_batch": 20, "most_patients": 400}])  # fmt: skip
def test_a_round_outside_the_reserved_schedule_is_refused(path, changes):
    ledger = filled(path, 1, planned=5)
    with pytest.raises(BudgetExceededError) as refusal:
        ledger.reserve(entry(round=1, **changes))
    assert refusal.value.limit == epsilon([schedule(5)], DELTA)
    assert len(ledger.entries()) == 1
    ledger.reserve(entry(round=1, steps=8))
    with pytest.raises(BudgetExceededError):
        ledger.reserve(entry(round=2, steps=1))


def test_a_round_of_a_run_that_was_not_reserved_is_refused(path):
    with pytest.raises(ValueError, match="reserve_run"):
        opened(path).reserve(FIRST)
    with pytest.raises(ValueError, match="delta"):
        filled(path, 0).reserve(entry(delta=1e-6))


def test_deltas_of_runs_add_up_under_their_own_cap(path):
    ledger = opened(path, 100.0, delta_cap=2.5e-5)
    for name in ("a", "b"):
        ledger.reserve_run(name, "aa", [schedule(1)], DELTA)
    with pytest.raises(BudgetExceededError) as refusal:
        ledger.reserve_run("c", "aa", [schedule(1)], DELTA)
    assert (refusal.value.code, refusal.value.spent, refusal.value.limit) == ("P_DELTA", 2e-5, 2.5e-5)


def test_a_lowered_cap_stops_a_run_that_is_under_way(path):
    filled(path, 1).close()
    with pytest.raises(BudgetExceededError):
        opened(path, 0.5).reserve(entry(round=1))


# ------------------------------------------------------------------ what cannot be claimed


def test_steps_without_noise_need_permission_and_lift_no_cap(path, tmp_path):
    unnoised = entry(mechanism="none", noise_multiplier=0.0, sampling_rate=1.0)
    with pytest.raises(BudgetExceededError):
        opened(path, math.inf).reserve(unnoised)
    allowed = opened(tmp_path / "simulated.sqlite", 0.1, allow_unnoised=True)
    with pytest.raises(BudgetExceededError):
        allowed.reserve_run("run", "aa", [schedule(10)], DELTA)
    allowed.reserve(unnoised)


def test_a_step_without_noise_is_infinite_for_good(path):
    ledger = filled(path, 1, cap=math.inf, allow_unnoised=True)
    ledger.reserve(entry(round=1, mechanism="none", noise_multiplier=0.0, sampling_rate=1.0))
    ledger.reserve(entry(round=2))
    assert ledger.spent() == ledger.ran() == math.inf
    assert not ledger.is_private()
    with pytest.raises(NotPrivateError, match="without noise"):
        ledger.statement()
    ledger.close()
    with pytest.raises(BudgetExceededError):
        opened(path, 1e9).reserve(entry(round=3))


def test_simulated_entropy_forbids_a_statement(path):
    ledger = filled(path, 1)
    claim = ledger.statement()
    assert (claim.epsilon, claim.delta, claim.entries) == (ledger.spent(), DELTA, 1)
    assert claim.ran == ledger.ran() < claim.epsilon
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
        lambda: opened(path),
    ):
        with pytest.raises(LedgerTamperedError):
            refused()


def test_a_noted_head_finds_a_ledger_that_was_rolled_back(path):
    ledger = filled(path, 2)
    early = ledger.head()
    ledger.reserve(entry(round=2))
    late = ledger.head()
    ledger.verify_chain(early)
    vandalise(path, "DELETE FROM events WHERE seq = 4", "UPDATE sqlite_sequence SET seq = 3")
    with pytest.raises(LedgerTamperedError, match="older than its mark"):
        ledger.verify_chain()
    mark_path(path).unlink()
    LedgerFile.accept(path, early)  # someone who takes care of the mark, too
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
    assert ledger._file.connection.execute("PRAGMA synchronous").fetchone()[0] >= 2
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
    two = 2 * epsilon([schedule(1)], DELTA)
    first, second = (opened(path, two) for _ in range(2))
    first.reserve_run("a", "aa", [schedule(1)], DELTA)
    second.reserve_run("b", "aa", [schedule(1)], DELTA)
    for ledger in (first, second):
        with pytest.raises(BudgetExceededError):
            ledger.reserve_run("c", "aa", [schedule(1)], DELTA)


def test_a_ledger_without_a_cap_only_reads(path):
    filled(path, 1).close()
    ledger = Ledger.open(path)
    assert ledger.spent() > 0
    with pytest.raises(ValueError, match="signing_key"):
        ledger.reserve(entry(round=1))
    with pytest.raises(ValueError, match="epsilon_cap"):
        opened(path, None).reserve(entry(round=1))
    for caps in ({"cap": math.nan}, {"delta_cap": 0.0}, {"composition": "best"}, {"renyi_order": 1}):
        with pytest.raises(ValueError, match=r"cap|composition|renyi_order"):
            opened(path, **caps)


def test_reserving_is_quick_with_many_entries(path):
    ledger = filled(path, 10, cap=100.0)
    ledger.reserve_run("other", "bb", [ReleaseEvent(0.05, 1.2, 20), ReleaseEvent(0.1, 1.1, 2)], DELTA)
    for number in range(10):
        ledger.reserve(entry(run_id="other", round=number, stage=1, noise_multiplier=1.2, sampling_rate=0.05))
    start = time.process_time()
    ledger.reserve(entry(run_id="other", round=20, stage=2, noise_multiplier=1.1))
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
    ledger = opened(path)
    assert ledger.bind_run("run", "aa")
    assert ledger.bind_run("run", "bb")  # nothing reserved yet
    ledger.reserve_run("run", "bb", [schedule(1)], DELTA)
    ledger.reserve(entry())
    rows = ledger.head()
    assert not ledger.bind_run("run", "aa") and not ledger.bind_run("run", "cc")
    assert ledger.bind_run("run", "bb") and ledger.head() == rows  # nothing is booked for what is known
    assert ledger.bind_run("another", "aa")
    ledger.close()
    assert not opened(path).bind_run("run", "aa")


def test_a_reserved_run_stands_for_the_manifest_that_was_reserved(path):
    ledger = filled(path, 0)
    assert not ledger.bind_run("run", "bb")
    rows = ledger.sequence
    assert ledger.bind_run("run", "aa") and ledger.sequence == rows


def test_a_run_with_entries_but_no_known_manifest_is_not_bound(path):
    """A run without noise needs no reservation; nobody can say which manifest it was approved under."""
    ledger = opened(path, math.inf, allow_unnoised=True)
    ledger.reserve(entry(mechanism="none", noise_multiplier=0.0))
    assert not ledger.bind_run("run", "aa")
