"""The site's protocol history on the disk: what stands, what is refused, and what a kill at any line leaves."""

from __future__ import annotations

import os
import shutil
import signal
import stat
import sys
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import pytest

from privacy.errors import FaultyCoordinatorError
from privacy.messages import Attest, Result, SignedResult
from privacy.results import RoundView
from site_client.round_store import RoundStore
from tests.site_client.small_site import COORDINATOR, IDS, PLAN, key_of

ONE, TWO = (np.full(20 * 5, value, dtype=np.uint8) for value in (1, 2))
VIEW = RoundView(PLAN.context(), b"1" * 32, b"2" * 32)
CONFIRMED = replace(VIEW, h3=b"3" * 32, announced=4, survivors=IDS)
VIEW = replace(VIEW, announced=4)


def result(number: int = 1, **changed: Any) -> SignedResult:
    made = Result("run", number, PLAN.context(), b"3" * 32, 4, IDS, "B", bytes(32), bytes(32), bytes(32), number)
    return SignedResult.make(replace(made, **changed), COORDINATOR)


def attest(signed: SignedResult) -> bytes:
    return Attest.make("site-1", signed.result, key_of("site-1")).to_bytes()


def refusal(work: Any, *values: Any) -> str:
    with pytest.raises(FaultyCoordinatorError) as failure:
        work(*values)
    return failure.value.code


@pytest.fixture
def store(tmp_path: Path) -> RoundStore:
    return RoundStore(tmp_path)


def held(store: RoundStore) -> tuple[int, bytes] | None:
    state = store.state("run")
    return None if state is None else (state.round, state.packed.tobytes())


def test_a_round_is_remembered_with_all_that_was_agreed(store: RoundStore, tmp_path: Path) -> None:
    assert store.find("run", 1) is None and not store.is_masked("run", 1)
    store.advertised(PLAN)
    store.masked(PLAN, VIEW)
    store.confirmed(PLAN, CONFIRMED)
    store.confirmed(PLAN, CONFIRMED)  # redelivered
    store.unmasked(PLAN)
    record = RoundStore(tmp_path).find("run", 1)
    assert record is not None
    assert (record.plan, record.view, record.masked, record.unmasked) == (PLAN, CONFIRMED, True, True)


def test_files_are_the_owners_alone_and_every_commit_is_synced(store: RoundStore, tmp_path: Path) -> None:
    store.advertised(PLAN)
    store.keep(result(), b"", ONE)
    files = [*tmp_path.glob("rounds.sqlite*"), *(tmp_path / "attested").iterdir()]
    assert len(files) >= 3  # database, write-ahead log, state
    assert all(stat.S_IMODE(path.stat().st_mode) == 0o600 for path in files)
    assert store._db.execute("PRAGMA journal_mode").fetchone()[0] == "wal"
    assert store._db.execute("PRAGMA synchronous").fetchone()[0] == 3  # EXTRA


def test_a_link_in_its_place_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "rounds.sqlite").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError):
        RoundStore(tmp_path)


def test_a_damaged_database_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "rounds.sqlite").write_bytes(b"no database" * 500)
    with pytest.raises(ValueError, match="not a readable database: move it away"):
        RoundStore(tmp_path)


def test_a_new_attempt_is_free_until_one_was_masked(store: RoundStore, tmp_path: Path) -> None:
    second = replace(PLAN, attempt=2)
    store.advertised(PLAN)
    store.advertised(second)
    assert refusal(store.masked, PLAN, VIEW) == "E_SPENT"  # the earlier process
    store.masked(second, VIEW)
    assert refusal(store.masked, second, VIEW) == "E_SPENT"
    assert refusal(RoundStore(tmp_path).advertised, replace(PLAN, attempt=3)) == "E_SPENT"


def test_a_second_survivor_list_is_never_confirmed(store: RoundStore) -> None:
    store.advertised(PLAN)
    assert refusal(store.confirmed, PLAN, CONFIRMED) == "E_STAGE"  # nothing was masked
    store.masked(PLAN, VIEW)
    store.confirmed(PLAN, CONFIRMED)
    assert refusal(store.confirmed, PLAN, replace(CONFIRMED, h3=b"4" * 32, survivors=IDS[:3])) == "E_STAGE"
    record = store.find("run", 1)
    assert record is not None and record.view == CONFIRMED


def test_one_result_a_round_over_processes_and_restarts(store: RoundStore, tmp_path: Path) -> None:
    first, other = result(), result(model_hash=b"9" * 32)
    assert store.keep(first, attest(first), ONE) == attest(first)
    again = RoundStore(tmp_path)
    assert again.attested(first) == attest(first)
    assert refusal(again.attested, other) == refusal(again.keep, other, attest(other), TWO) == "E_RESULT_MISMATCH"
    assert again.keep(first, b"", ONE) == attest(first)  # what was said stays said
    assert held(again) == (1, ONE.tobytes())


def test_the_newest_result_stands_and_an_older_one_is_refused(store: RoundStore) -> None:
    store.keep(result(1), b"", ONE)
    assert store.attested(result(1)) is None  # accepted, not attested
    store.keep(result(3), b"", TWO)
    assert store.newest("run") == result(3).result and store.newest("other") is None
    assert refusal(store.keep, result(2), b"", ONE) == "E_RESULT_MISMATCH"
    assert held(store) == (3, TWO.tobytes())


def test_a_lost_or_damaged_state_is_none_and_is_kept_again(store: RoundStore, tmp_path: Path) -> None:
    signed = result()
    store.keep(signed, attest(signed), ONE)
    (path,) = (tmp_path / "attested").iterdir()
    path.write_bytes(TWO.tobytes())
    assert held(store) is None
    path.unlink()
    assert held(store) is None
    assert store.keep(signed, b"", ONE) == attest(signed)
    assert held(store) == (1, ONE.tobytes())


def test_no_more_than_the_newest_state_of_two_runs_and_one_before_stay(store: RoundStore, tmp_path: Path) -> None:
    for number, run in enumerate(("run", "run", "a", "b", "b"), start=1):
        store.keep(result(number, run_id=run), b"", np.full(8, number, dtype=np.uint8))
    assert held(store) is None and store.state("a") is not None and store.state("b") is not None
    assert store.newest("run") is not None  # the history is kept
    assert len(list((tmp_path / "attested").iterdir())) <= 3


# ------------------------------------------------------------------ kill -9 at every line


def operate(store: RoundStore, report: int) -> None:
    """The second result is kept; reported only when that returned, as the attestation leaves then."""
    store.advertised(replace(PLAN, round=2))
    os.write(report, b"1")
    store.masked(replace(PLAN, round=2), VIEW)
    os.write(report, b"2")
    store.keep(result(2), attest(result(2)), TWO)
    os.write(report, b"3")


def child(folder: Path, report: int, die_at: int) -> None:
    """Never returns: kills itself at its `die_at`-th line of the store's code."""
    seen = 0

    def lines(frame: FrameType, event: str, _: Any) -> Any:
        nonlocal seen
        if not any(part in frame.f_code.co_filename for part in ("/site_client/round_store", "/privacy/durable")):
            return None
        if event == "line":
            seen += 1
            if seen == die_at:
                os.kill(os.getpid(), signal.SIGKILL)
        return lines

    try:
        sys.settrace(lines)
        operate(RoundStore(folder), report)
    finally:
        os._exit(0)


def killed(folder: Path, die_at: int) -> tuple[bytes, bool]:
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reading)
        child(folder, writing, die_at)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        reported = pipe.read()
    return reported, os.WIFSIGNALED(os.waitpid(pid, 0)[1])


def check_after(folder: Path, reported: bytes) -> None:
    store = RoundStore(folder)
    record = store.find("run", 2)
    assert record is not None or b"1" not in reported
    assert store.is_masked("run", 2) or b"2" not in reported
    newest, state = store.newest("run"), held(store)
    assert newest is not None and state is not None
    assert state == {1: (1, ONE.tobytes()), 2: (2, TWO.tobytes())}[newest.round]  # the old one or the new one
    assert (newest.round == 2 and store.attested(result(2)) == attest(result(2))) or b"3" not in reported
    if newest.round == 2:
        assert refusal(store.keep, result(2, h3=b"8" * 32), b"", ONE) == "E_RESULT_MISMATCH"
    store.keep(result(2), attest(result(2)), TWO)  # and work goes on
    store.keep(result(3), b"", ONE)
    assert len(list((folder / "attested").iterdir())) <= 2
    store.close()


def walk(tmp_path: Path, first: int, step: int) -> int:
    ready = tmp_path / "ready"
    ready.mkdir()
    store = RoundStore(ready)
    store.keep(result(1), attest(result(1)), ONE)
    store.close()
    die_at, deaths = first, 0
    while True:
        folder = tmp_path / f"at-{die_at}"
        shutil.copytree(ready, folder)
        reported, died = killed(folder, die_at)
        check_after(folder, reported)
        shutil.rmtree(folder)
        if not died:
            assert reported == b"123"
            return deaths
        die_at, deaths = die_at + step, deaths + 1


def test_killed_at_some_lines_it_holds_the_old_state_or_the_new_one(tmp_path: Path) -> None:
    assert walk(tmp_path, 2, 5) > 15


@pytest.mark.slow
def test_killed_at_every_line_it_holds_the_old_state_or_the_new_one(tmp_path: Path) -> None:
    assert walk(tmp_path, 1, 1) > 80
