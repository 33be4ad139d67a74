"""The ledger's file: signed rows, keys that hand over, and copies that are older than what was seen."""

from __future__ import annotations

import json
import shutil
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from privacy.dp.accounting import epsilon
from privacy.identity import SigningKey
from privacy.ledger import Ledger, LedgerTamperedError, LedgerVersionError, account_of
from privacy.ledger_chain import Row, check_export, row_hash
from privacy.ledger_file import LedgerFile, mark_path
from tests.privacy.test_ledger import DELTA, entry, filled, opened, schedule, vandalise

ROOT = Path(__file__).parents[2]
OTHER = SigningKey.from_private_bytes(bytes([7] * 32))


@pytest.fixture
def path(tmp_path):
    return tmp_path / "ledger.sqlite"


def test_every_row_is_signed_and_a_chain_under_another_key_is_refused(path):
    """Someone without the key rewrites a row and every hash after it."""
    filled(path, 1).close()
    with sqlite3.connect(path) as raw:
        kind, body, signer = raw.execute("SELECT kind, body, signer FROM events WHERE seq = 2").fetchone()
        previous = raw.execute("SELECT hash FROM events WHERE seq = 1").fetchone()[0]
        body = body.replace('"steps":2', '"steps":1')
        forged = row_hash(previous, 2, kind, body, signer).hex()
    raw.close()
    vandalise(path, f"UPDATE events SET body = '{body}', hash = x'{forged}' WHERE seq = 2")
    mark_path(path).unlink()
    with pytest.raises(LedgerTamperedError, match="not signed"):
        Ledger.open(path)
    with pytest.raises(LedgerTamperedError, match="not signed"):
        LedgerFile.accept(path, bytes.fromhex(forged))


def test_an_emptied_ledger_without_its_mark_is_not_a_new_one(path):
    filled(path).close()
    path.write_bytes(b"")
    (path.parent / f"{path.name}.mark").unlink()
    with pytest.raises(LedgerTamperedError, match="restore the whole state folder"):
        opened(path, must_exist=True)


def test_of_two_that_mask_one_round_one_is_told_so(path):
    first, second = filled(path, 1), opened(path)
    assert first.mark_masked("run", 0) and not second.mark_masked("run", 0)


def test_rows_that_another_process_adds_while_one_looks_are_not_missing_ones(path, monkeypatch):
    """`ledger show` beside a running site: SQLite's counter is of the same moment as the rows."""
    filled(path, 1).close()
    looking = LedgerFile.looking(path)
    rows, writers = looking.rows, []

    def write():
        other = opened(path)
        other.mark_masked("run", 0)
        other.close()

    def rows_then_a_writer():
        found = rows()
        writers.append(threading.Thread(target=write))
        writers[0].start()
        time.sleep(0.3)  # long enough for a writer that nothing holds back
        return found

    monkeypatch.setattr(looking, "rows", rows_then_a_writer)
    found = looking.verify()
    writers[0].join()
    monkeypatch.undo()
    assert len(looking.verify()) == len(found) + 1
    looking.close()


def test_a_ledger_holds_the_heads_that_it_had_and_no_others(path, tmp_path):
    ledger = opened(path)
    start = (ledger.sequence, ledger.head())
    assert start == (0, bytes(32)) and ledger.holds(*start)
    ledger.reserve_run("run", "ab" * 32, [entry().event()], DELTA)
    first = (ledger.sequence, ledger.head())
    ledger.reserve(entry())
    assert first[0] == 1 and ledger.sequence == 2
    assert ledger.holds(*start) and ledger.holds(*first) and ledger.holds(2, ledger.head())
    for wrong in ((2, first[1]), (3, ledger.head()), (0, first[1]), (-1, bytes(32)), (1, bytes(32))):
        assert not ledger.holds(*wrong)
    assert not Ledger.open(tmp_path / "other.sqlite").holds(*first)


def test_a_ledger_of_another_key_is_not_written_to(path):
    filled(path, 1).close()
    with pytest.raises(ValueError, match="another key"):
        Ledger.open(path, signing_key=OTHER, epsilon_cap=8.0)


def test_a_rotated_key_carries_the_spent_budget_over(path):
    ledger = filled(path, 2)
    spent = ledger.spent()
    ledger.rotate_key(OTHER)
    ledger.reserve(entry(round=2))
    assert ledger.current_key == OTHER.public_bytes()
    ledger.close()
    again = Ledger.open(path, signing_key=OTHER, epsilon_cap=8.0)
    assert again.spent() == spent and len(again.entries()) == 3
    with pytest.raises(ValueError, match="another key"):
        opened(path)  # the old key has handed over


def test_a_key_that_did_not_agree_cannot_be_rotated_to(path):
    ledger = filled(path, 1)
    with ledger._file.transaction():
        ledger._file.append("rotate", {"public_key": OTHER.public_bytes().hex(), "proof": "00" * 64})
    with pytest.raises(LedgerTamperedError, match="did not agree"):
        ledger.verify_chain()


def test_restoring_only_the_database_is_found(path, tmp_path):
    ledger = filled(path, 1)
    shutil.copy(path, tmp_path / "backup")
    ledger.reserve(entry(round=1))
    ledger.close()
    shutil.copy(tmp_path / "backup", path)
    with pytest.raises(LedgerTamperedError, match="older than its mark, which has seen row 3"):
        opened(path)


def test_a_fork_of_the_same_length_is_found(path, tmp_path):
    ledger = filled(path, 1)
    shutil.copytree(tmp_path, tmp_path.with_name("fork"))
    ledger.reserve(entry(round=1))
    ledger.close()
    fork = opened(tmp_path.with_name("fork") / path.name)
    fork.reserve(entry(round=7))
    fork.close()
    shutil.copy(tmp_path.with_name("fork") / path.name, path)
    with pytest.raises(LedgerTamperedError, match="older than its mark"):
        opened(path)


def test_a_lost_database_is_not_replaced_by_an_empty_one(path):
    filled(path, 1).close()
    path.unlink()
    with pytest.raises(FileNotFoundError, match="restore"):
        opened(path)
    assert not path.exists()


def test_a_lost_mark_needs_the_operators_word(path):
    ledger = filled(path, 2)
    head = ledger.head()
    ledger.close()
    mark_path(path).unlink()
    with pytest.raises(LedgerTamperedError, match="accept-head"):
        opened(path)
    with pytest.raises(ValueError, match="does not end at that head"):
        LedgerFile.accept(path, bytes(32))
    LedgerFile.accept(path, head)
    opened(path).reserve(entry(round=2))
    mark_path(path).write_text("{")
    with pytest.raises(LedgerTamperedError, match="damaged"):
        opened(path)


def test_a_ledger_of_an_older_release_is_refused_with_what_to_do(path):
    with sqlite3.connect(path) as raw:
        raw.execute("CREATE TABLE events (seq INTEGER PRIMARY KEY AUTOINCREMENT, kind TEXT, body TEXT, hash BLOB)")
    raw.close()
    with pytest.raises(LedgerVersionError, match=r"schema 1.*go on with the release that wrote it"):
        opened(path)


def test_holds_answers_for_rows_that_were_seen(path):
    ledger = opened(path)
    assert ledger.holds(0, bytes(32)) and ledger.sequence == 0
    ledger.reserve_run("run", "aa", [schedule(3)], DELTA)
    head = ledger.head()
    ledger.reserve(entry())
    assert ledger.sequence == 2 and ledger.holds(1, head) and ledger.holds(2, ledger.head())
    assert not ledger.holds(2, head) and not ledger.holds(3, head) and not ledger.holds(0, head)


def test_an_export_is_checked_without_the_sites_files(path):
    ledger = filled(path, 2)
    ledger.rotate_key(OTHER)
    exported = json.loads(json.dumps(ledger.export()))
    rows = check_export(exported)
    assert account_of(rows).spent() == ledger.spent() == epsilon([schedule(10)], DELTA)
    assert all(isinstance(row, Row) for row in rows) and exported["current_key"] == OTHER.public_bytes().hex()
    cut = {**exported, "rows": exported["rows"][:-1]}
    edited = json.loads(json.dumps(exported).replace('\\"steps\\":2', '\\"steps\\":1'))
    assert edited != exported
    for bad in (cut, edited, {**exported, "first_key": "00" * 32}):
        with pytest.raises(LedgerTamperedError):
            check_export(bad)
    for bad in ({}, {**exported, "format": "x"}, {**exported, "rows": [{}]}):
        with pytest.raises(ValueError):
            check_export(bad)


_RACER = """
import sys
from privacy.dp.accounting import ReleaseEvent
from privacy.errors import BudgetExceededError
from privacy.identity import SigningKey
from privacy.ledger import Ledger
name, path, cap = sys.argv[1], sys.argv[2], float(sys.argv[3])
key = SigningKey.from_private_bytes(bytes(range(32)))
ledger = Ledger.open(path, signing_key=key, epsilon_cap=cap)
sys.stdin.readline()
taken = 0
for number in range(6):
    try:
        ledger.reserve_run(f"{name}-{number}", "aa", [ReleaseEvent(0.1, 1.0, 2)], 1e-5)
        taken += 1
    except BudgetExceededError:
        pass
print(taken)
"""


def test_racing_processes_never_reserve_more_than_the_cap(path):
    one = epsilon([schedule(1)], DELTA)
    opened(path, 5.5 * one).close()
    racers = [
        subprocess.Popen([sys.executable, "-c", _RACER, name, str(path), str(5.5 * one)], cwd=ROOT, text=True,
                         stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        for name in ("a", "b", "c")]
    for racer in racers:
        racer.stdin.write("go\n")
        racer.stdin.flush()
    taken = [int(racer.communicate(timeout=60)[0]) for racer in racers]
    ledger = Ledger.open(path)
    assert sum(taken) == 5 == len(ledger.account().reservations)
    assert ledger.spent() <= 5.5 * one
