"""`site-client start` on a terminal: what its table says, and that a pipe and a terminal get what is theirs."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
from rich.console import Console

from privacy.transport.terminal import bar, live_table, time_words
from site_client.start_table import StartTable
from tests.coordinator.test_watch_table import on_a_terminal, read_until
from tests.site_client.made_site import MadeSite
from tests.site_client.web.sites import RUN, add_history, be_up, new_site

CODE = "import sys; from site_client.cli import main; sys.exit(main())"


@pytest.fixture
def site(tmp_path: Path) -> MadeSite:
    return new_site(tmp_path)


def drawn(site: MadeSite, width: int = 100) -> str:
    console = Console(width=width, record=True, file=io.StringIO())
    console.print(StartTable(site.config).table(console))
    return console.export_text()


def test_a_new_site_has_spent_and_sent_nothing(site: MadeSite) -> None:
    text = drawn(site)
    for words in ("site-1, not running", "not connected, fl.example.org:8443", "none yet", "nothing spent of epsilon 8",
                  "0 messages, 0 bytes"):
        assert words in text, text


def test_a_working_site_shows_processes_run_budget_and_bytes(site: MadeSite) -> None:
    add_history(site)
    be_up(site)
    text = drawn(site)
    for words in ("site-1, ready", "running, started 2 times", "connected, fl.example.org:8443",
                  f"{RUN}: stage 2, round 7", "confirm who is in the sum,", "14 of at most 24", "of 8 charged",
                  "16 messages, 1,4"):
        assert words in text, text


def test_what_is_wrong_stands_in_its_line(site: MadeSite) -> None:
    add_history(site)
    be_up(site, "lost", "the coordinator does not answer any more")
    (site.state / "ledger.sqlite").unlink()
    text = drawn(site, 300)
    assert "lost; the coordinator does not answer any more" in text and "cannot be told" in text


@pytest.mark.parametrize("width", [30, 60, 200])
def test_no_line_is_wider_than_the_terminal(width: int, site: MadeSite) -> None:
    add_history(site)
    be_up(site)
    assert max(map(len, drawn(site, width).splitlines())) <= width


def test_bars_and_times() -> None:
    assert bar(0.0) == f"[{'.' * 20}]" and bar(0.5) == f"[{'#' * 10}{'.' * 10}]" and bar(7.0) == f"[{'#' * 20}]"
    assert [time_words(one) for one in (-1, 5, 89, 90, 5399, 5400, 200_000)] == [
        "0 s", "5 s", "89 s", "2 min", "90 min", "2 h", "2 days"]


def test_a_table_that_cannot_be_made_ends_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    def fail(_: Console) -> None:
        raise OSError("in /srv/P4711")

    with live_table(fail, every_s=0.05):
        time.sleep(0.2)
    assert "P4711" not in capsys.readouterr().out


# ------------------------------------------------------------------ as a process


@pytest.mark.slow
def test_a_pipe_gets_plain_lines_or_json_lines_and_no_table(site: MadeSite) -> None:
    site.set("health_port: 0", "health_port: 0\nlog_format: text")
    for words, json_lines in (((), False), (("--json",), True)):
        running = subprocess.Popen([sys.executable, "-c", CODE, "start", str(site.file), *words], text=True,
                                   stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        assert running.stdout is not None
        first = running.stdout.readline()
        end = time.monotonic() + 60
        while not (site.state / "start.json").is_file():  # the supervisor runs
            assert running.poll() is None and time.monotonic() < end
            time.sleep(0.05)
        running.terminate()
        rest = running.communicate(timeout=60)[0]
        (site.state / "start.json").unlink()
        lines = [line for line in (first + rest).splitlines() if line]
        assert running.returncode == 0 and "\x1b" not in first + rest
        if json_lines:
            found = [json.loads(line)["message"] for line in lines]
        else:
            assert all(re.match(r"\d\d:\d\d:\d\d ", line) for line in lines)
            found = [line[9:] for line in lines]
        assert found[0] == "site-1: coordinator fl.example.org:8443, federation fed"
        assert found[-1].startswith("stopped;")


@pytest.mark.slow
def test_a_terminal_gets_a_table_and_ctrl_c_ends_it_cleanly(site: MadeSite, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.coordinator.test_watch_table.CODE", CODE)
    with on_a_terminal("start", str(site.file), columns=60) as (running, terminal):
        text = read_until(terminal, running, "messages, ")
        os.write(terminal, b"\x03")
        text += read_until(terminal, running, "")
        assert running.wait(60) == 0
    assert "federation fed" in text and "nothing spent" in text and "stopped;" in text and "Traceback" not in text
    assert text.rindex("\x1b[?25h") > text.rindex("\x1b[?25l")
