"""kill -9 at every line of the ledger's write path: nothing that was reported as reserved is ever missing."""

from __future__ import annotations

import os
import shutil
import signal
import sys
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from privacy.ledger import Ledger
from tests.privacy.test_ledger import DELTA, entry, opened, schedule


def operate(ledger: Ledger, report: int) -> None:
    """One round; each operation is reported only after it returned, as a release would follow it."""
    ledger.reserve_run("run", "aa", [schedule(3)], DELTA)
    os.write(report, b"1")
    ledger.reserve(entry())
    os.write(report, b"2")
    ledger.mark_masked("run", 0)
    os.write(report, b"3")
    ledger.finish_round("run", 0)
    os.write(report, b"4")


def child(path: Path, report: int, die_at: int) -> None:
    """Never returns: runs `operate` and kills itself at its `die_at`-th line of ledger code."""
    seen = 0

    def lines(frame: FrameType, event: str, _: Any) -> Any:
        nonlocal seen
        if not any(part in frame.f_code.co_filename for part in ("/privacy/ledger", "/privacy/durable")):
            return None
        if event == "line":
            seen += 1
            if seen == die_at:
                os.kill(os.getpid(), signal.SIGKILL)
        return lines

    try:
        sys.settrace(lines)
        operate(opened(path), report)
    finally:
        os._exit(0)


def killed(path: Path, die_at: int) -> tuple[bytes, bool]:
    """What the child reported, and whether it died on the way."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reading)
        child(path, writing, die_at)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        reported = pipe.read()
    return reported, os.WIFSIGNALED(os.waitpid(pid, 0)[1])


def check_after(path: Path, reported: bytes) -> None:
    ledger = opened(path)
    ledger.verify_chain()
    account = ledger.account()
    assert len(account.reservations) >= (b"1" in reported)
    assert len(account.entries) >= (b"2" in reported)
    assert ledger.is_masked("run", 0) or b"3" not in reported
    assert ("run", 0) in account.finished or b"4" not in reported
    ledger.reserve_run("run", "aa", [schedule(3)], DELTA)  # and work goes on
    ledger.reserve(entry(attempt=1))
    assert ledger.wasted_rounds() <= 1
    ledger.close()


def walk(tmp_path: Path, first: int, step: int) -> int:
    """Kill at lines `first`, `first + step`, ... until one run survives; how many were killed."""
    opened(tmp_path / "warm").reserve_run("run", "aa", [schedule(3)], DELTA)  # imports and caches are inherited
    die_at, deaths = first, 0
    while True:
        folder = tmp_path / f"at-{die_at}"
        folder.mkdir()
        reported, died = killed(folder / "ledger.sqlite", die_at)
        check_after(folder / "ledger.sqlite", reported)
        shutil.rmtree(folder)
        if not died:
            assert reported == b"1234"
            return deaths
        die_at, deaths = die_at + step, deaths + 1


@pytest.mark.parametrize("first", [1, 5])
def test_killed_at_some_lines_it_never_under_counts(tmp_path: Path, first: int) -> None:
    assert walk(tmp_path, first, 41) > 5


@pytest.mark.slow
def test_killed_at_every_line_it_never_under_counts(tmp_path: Path) -> None:
    assert walk(tmp_path, 1, 1) > 200
