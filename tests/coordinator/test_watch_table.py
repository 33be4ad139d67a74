"""`coordinator watch`: a table on a terminal of any width, plain lines in a pipe, JSON lines when asked."""

from __future__ import annotations

import io
import json
import os
import pty
import re
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager
from fcntl import ioctl
from pathlib import Path
from struct import pack
from typing import Any

import pytest
from rich.console import Console

from coordinator.progress import lines_of
from coordinator.watch_table import Watched
from tests.coordinator.console.homes import RECORDED, finish, make_recorded

EVENTS = [json.loads(line) for line in (RECORDED / "progress.jsonl").read_text().splitlines()]
CODE = "import sys; from coordinator.cli import main; sys.exit(main())"


def drawn(watched: Watched, width: int) -> str:
    console = Console(width=width, record=True, file=io.StringIO())
    console.print(watched.table(console))
    return console.export_text()


@pytest.fixture
def watched(tmp_path: Path) -> Watched:
    (tmp_path / "steps.jsonl").write_text((RECORDED / "steps.jsonl").read_text())
    found = Watched("demo", tmp_path)
    for event in EVENTS:
        found.add(event)
    return found


def test_the_table_says_stage_rounds_cohort_loss_step_and_time(watched: Watched) -> None:
    text = drawn(watched, 120)
    for words in ("demo: 9 of 9 rounds", "instruction", "3 accepted, 3 needed", "3 of 3 in the newest sum",
                  "public 0.108, flat", "noised 0",
                  "check the result and attest of round 9 took", "3 of 3 sites", "planned is being computed"):
        assert words in text, text


def test_the_time_left_is_the_mean_of_the_newest_rounds(tmp_path: Path) -> None:
    watched = Watched("demo", tmp_path)
    for event in ({"event": "begin", "rounds_total": 10, "rounds_done": 0},
                  *({**EVENTS[2], "event": "round", "round": number, "time": 1000.0 + 600 * number}
                    for number in (1, 2, 3))):
        watched.add(event)
    facts = dict(watched.facts(1000.0 + 1800))
    assert facts["left"] == "about 70 min" and facts["run"] == "demo: 3 of 10 rounds"
    assert dict(watched.facts(1000.0 + 1800 + 600))["left"] == "about 60 min"


@pytest.mark.parametrize("width", [30, 50, 79, 80, 200])
def test_no_line_is_wider_than_the_terminal(width: int, watched: Watched) -> None:
    text = drawn(watched, width)
    assert max(map(len, text.splitlines())) <= width and "demo" in text
    assert ("missing" in text) == (width >= 80)


@pytest.mark.parametrize(("values", "said"), [
    ([3.0, 3.0, 3.0, 1.0, 1.0, 1.0], ", falling"), ([1.0, 1.0, 1.0, 3.0, 3.0, 3.0], ", rising"),
    ([1.0, 1.0, 1.0, 1.001, 1.0, 1.0], ", flat"), ([1.0, 2.0, 3.0, 4.0, 5.0], "")])
def test_a_trend_compares_three_rounds_with_the_three_before(values: list[float], said: str, tmp_path: Path) -> None:
    watched = Watched("demo", tmp_path)
    for number, value in enumerate(values, 1):
        watched.add({**EVENTS[2], "event": "round", "round": number, "public": {"loss_a": value, "loss_b": value}})
    assert f"public {values[-1]:.3g}{said}" in dict(watched.facts(0.0))["loss"].partition(";")[0]


def test_before_anything_is_known_it_says_so(tmp_path: Path) -> None:
    text = drawn(Watched("demo", tmp_path), 100)
    assert "0 of ? rounds" in text and "waiting for the sites" in text and "not begun" in text


# ------------------------------------------------------------------ as a process


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_recorded(tmp_path_factory.mktemp("home"))


@contextmanager
def on_a_terminal(*words: str, columns: int = 100, **environment: str) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """The command on a terminal of its own; (the process, the terminal's other end)."""
    ours, theirs = pty.openpty()
    ioctl(theirs, termios.TIOCSWINSZ, pack("HHHH", 40, columns, 0, 0))
    clean = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "COLUMNS", "FORCE_COLOR")}
    running = subprocess.Popen([sys.executable, "-c", CODE, *words], stdin=theirs, stdout=theirs, stderr=theirs,
                               start_new_session=True, env={**clean, "TERM": "xterm-256color", **environment},
                               preexec_fn=lambda: ioctl(0, termios.TIOCSCTTY, 0))
    os.close(theirs)
    try:
        yield running, ours
    finally:
        running.kill()
        running.wait()
        os.close(ours)


def read_until(terminal: int, running: subprocess.Popen[bytes], what: str, seconds: float = 60.0) -> str:
    """What came until `what` did, or the process ended ("")."""
    import select

    text, end = b"", time.monotonic() + seconds
    while time.monotonic() < end and (not what or what.encode() not in text):
        if not select.select([terminal], [], [], 0.2)[0]:
            if running.poll() is not None:
                break
            continue
        try:
            text += os.read(terminal, 65536)
        except OSError:  # the other end is closed
            break
    return text.decode(errors="replace")


@pytest.mark.slow
@pytest.mark.parametrize("no_color", ["", "1"])
def test_on_a_terminal_there_is_a_table_that_ends_with_the_run(home: Path, no_color: str) -> None:
    with on_a_terminal("watch", str(home), "demo", **({"NO_COLOR": "1"} if no_color else {})) as (running, terminal):
        text = read_until(terminal, running, "")
        assert running.wait(30) == 0, text
    assert "9 of 9 rounds" in text and "\x1b[?25l" in text and "\x1b[?25h" in text  # cursor away, and back
    assert not no_color or not re.search(r"\x1b\[[0-9;]*3[1-7]", text)
    assert re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text).rstrip().endswith("finished")


@pytest.mark.slow
def test_ctrl_c_ends_the_watching_and_leaves_the_terminal_whole(home: Path) -> None:
    finish(home, "demo", state="running")
    try:
        with on_a_terminal("watch", str(home), "demo", columns=50) as (running, terminal):
            text = read_until(terminal, running, "rounds")
            time.sleep(0.5)
            os.write(terminal, b"\x03")
            text += read_until(terminal, running, "")
            assert running.wait(30) == 130
        assert "Traceback" not in text and text.rindex("\x1b[?25h") > text.rindex("\x1b[?25l")
    finally:
        finish(home, "demo")


@pytest.mark.slow
@pytest.mark.parametrize("terminal", [{"TERM": "dumb"}, None])
def test_a_pipe_and_a_terminal_that_cannot_move_get_the_same_plain_lines(
    home: Path, terminal: dict[str, str] | None
) -> None:
    wanted = [line for event in EVENTS for line in lines_of(event)] + ["finished"]
    if terminal is None:
        done = subprocess.run([sys.executable, "-c", CODE, "watch", str(home), "demo"], capture_output=True, text=True,
                              check=True)
        assert done.stdout.splitlines() == wanted and done.stderr == ""
        return
    with on_a_terminal("watch", str(home), "demo", columns=400, **terminal) as (running, end):
        text = read_until(end, running, "")
        assert running.wait(30) == 0
    assert text.replace("\r", "").splitlines() == wanted


def test_each_event_is_a_line_of_json(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import coordinator.cli

    assert coordinator.cli.main(["watch", str(home), "demo", "--json"]) == 0
    found: list[dict[str, Any]] = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert found[:-1] == EVENTS and found[-1]["event"] == "state"


