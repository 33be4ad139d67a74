"""The supervisor with real processes: starts again, backs off, ends its children, says what it does."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from privacy.transport.supervisor import Child, Supervisor, read_status

SLEEPS = "import time; time.sleep(60)"


def child(folder: Path, code: str, name: str = "one", **others: object) -> Child:
    return Child(name, [sys.executable, "-c", code], folder / "log" / f"{name}.log", **others)  # type: ignore[arg-type]


@contextmanager
def running(supervisor: Supervisor) -> Iterator[None]:
    thread = threading.Thread(target=supervisor.run)
    # PR_SET_PDEATHSIG belongs to the thread that started the child, so a test's thread must outlive it
    thread.start()
    try:
        yield
    finally:
        supervisor.stop()
        thread.join(30)
        assert not thread.is_alive()


def until(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.02)


def test_a_child_that_is_killed_runs_again_and_the_status_says_so(tmp_path: Path):
    status = tmp_path / "status.json"
    one = child(tmp_path, SLEEPS, on_exit=lambda code: f"it was {code}")
    with running(Supervisor([one], status, first_s=0.05)):
        until(lambda: one.process is not None and (read_status(status) or {}).get("ready") is True)
        first = one.process.pid  # type: ignore[union-attr]
        os.kill(first, signal.SIGKILL)
        until(lambda: one.starts == 2 and one.process is not None)
        until(lambda: (read_status(status) or {"children": [{"starts": 0}]})["children"][0]["starts"] == 2)
        found = read_status(status)
        assert found is not None
        assert found["children"][0]["last_reason"] == "it was -9"
        assert found["children"][0]["pid"] != first
    assert one.process is None


def test_a_child_that_always_ends_is_started_ever_more_rarely(tmp_path: Path):
    one = child(tmp_path, "raise SystemExit(3)")
    with running(Supervisor([one], tmp_path / "status.json", first_s=0.3, longest_s=100)):
        until(lambda: one.starts >= 3)
        wait = one.next_start - time.monotonic()
    assert one.failures >= 2
    assert one.reason == "stopped"
    assert wait < 2.5


def test_not_ready_before_the_child_says_so(tmp_path: Path):
    ready, go = tmp_path / "ready", tmp_path / "go"
    code = (f"import pathlib, time\nwhile not pathlib.Path({str(go)!r}).exists(): time.sleep(0.02)\n"
            f"pathlib.Path({str(ready)!r}).touch(); time.sleep(60)")
    ready.touch()  # of a former process
    said: list[tuple[bool, str]] = []
    one = child(tmp_path, code, ready=ready)
    with running(Supervisor([one], tmp_path / "status.json", on_change=lambda up, why: said.append((up, why)))):
        until(lambda: (False, "one: starting") in said)
        assert (True, "") not in said
        go.touch()
        until(lambda: (True, "") in said)


def test_a_child_that_takes_its_word_back_is_lost_until_it_says_so_again(tmp_path: Path):
    ready = tmp_path / "ready"
    said: list[tuple[bool, str]] = []
    one = child(tmp_path, SLEEPS, ready=ready, lost="nobody answers")
    with running(Supervisor([one], tmp_path / "status.json", on_change=lambda up, why: said.append((up, why)))):
        until(lambda: said == [(False, "one: starting")])
        ready.touch()
        until(lambda: said[-1] == (True, ""))
        ready.unlink()
        until(lambda: said[-1] == (False, "one: nobody answers"))
        ready.touch()
        until(lambda: said[-1] == (True, ""))
    assert one.starts == 1


def test_a_child_that_ignores_the_end_is_killed(tmp_path: Path):
    mark = tmp_path / "mark"
    code = (f"import pathlib, signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); "
            f"pathlib.Path({str(mark)!r}).touch(); time.sleep(60)")
    one = child(tmp_path, code)
    begin = time.monotonic()
    with running(Supervisor([one], tmp_path / "status.json", grace_s=0.5)):
        until(mark.exists)
    assert time.monotonic() - begin < 20


def test_children_end_when_the_supervisor_is_killed(tmp_path: Path):
    code = ("import sys; from pathlib import Path; from privacy.transport.supervisor import *\n"
            f"Supervisor([Child('one', [sys.executable, '-c', {SLEEPS!r}], Path({str(tmp_path)!r}) / 'log')], "
            f"Path({str(tmp_path)!r}) / 'status.json').run()")
    parent = subprocess.Popen([sys.executable, "-c", code])
    try:
        until(lambda: ((read_status(tmp_path / "status.json") or {}).get("ready")) is True)
        pid = json.loads((tmp_path / "status.json").read_text())["children"][0]["pid"]
    finally:
        parent.kill()
        parent.wait()
    until(lambda: not Path(f"/proc/{pid}").exists() or "State:\tZ" in Path(f"/proc/{pid}/status").read_text())
    left = read_status(tmp_path / "status.json")
    assert left is not None
    assert not left["alive"]
    assert not left["ready"]


def test_restart_ends_and_starts_one_child(tmp_path: Path):
    one, two = child(tmp_path, SLEEPS), child(tmp_path, SLEEPS, "two")
    supervisor = Supervisor([one, two], tmp_path / "status.json", first_s=0.05)
    with running(supervisor):
        until(lambda: one.process is not None and two.process is not None)
        supervisor.restart("two", "because")
        until(lambda: two.starts == 2)
        assert one.starts == 1


def test_a_full_disk_under_the_status_ends_nothing(tmp_path: Path):
    one = child(tmp_path, SLEEPS)
    with running(Supervisor([one], tmp_path / "missing" / "status.json", first_s=0.05)):
        until(lambda: one.process is not None)
        time.sleep(0.5)
        assert one.process is not None
        assert one.process.poll() is None


def test_no_status_and_a_damaged_one(tmp_path: Path):
    assert read_status(tmp_path / "none.json") is None
    (tmp_path / "bad.json").write_text("{")
    assert read_status(tmp_path / "bad.json") is None


def test_the_log_is_private_and_begun_again_when_it_is_long(tmp_path: Path):
    log = tmp_path / "log" / "one.log"
    log.parent.mkdir()
    log.write_bytes(b"x" * (9 << 20))
    one = child(tmp_path, "print('hello', flush=True); " + SLEEPS)
    with running(Supervisor([one], tmp_path / "status.json")):
        until(lambda: log.is_file() and log.read_bytes() == b"hello\n")
    assert log.stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "log" / "one.log.1").stat().st_size == 9 << 20


def test_a_child_that_needs_another_starts_once_that_one_is_ready(tmp_path: Path):
    ready = tmp_path / "ready"
    needed = child(tmp_path, SLEEPS, "needed", ready=ready)
    one = child(tmp_path, SLEEPS, needs=needed)
    with running(Supervisor([one, needed], tmp_path / "status.json", first_s=0.05)):
        until(lambda: needed.process is not None)
        time.sleep(0.5)
        assert one.starts == 0
        ready.touch()
        until(lambda: one.starts == 1)
        assert one.process is not None and needed.process is not None
        needed.process.kill()
        until(lambda: needed.starts == 2)
        one.process.kill()  # it ends while the other is not ready again
        time.sleep(0.7)
        assert one.starts == 1
        ready.touch()
        until(lambda: one.starts == 2)
