"""`make console-demo` as a user sees it: real sites, a live page, and nothing left behind at its end."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from simulations.console_demo import main

LIMIT_S = 540.0


def test_help_says_what_it_does(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    assert "web console" in capsys.readouterr().out


@pytest.mark.demos
@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_live_run_of_three_real_sites_is_seen_round_by_round(tmp_path: Path) -> None:
    begin, log = time.monotonic(), tmp_path / "demo.log"
    words = [sys.executable, "-m", "simulations.console_demo", "--rounds", "2", "--out", str(tmp_path / "demo")]
    with log.open("wb") as out:
        demo = subprocess.Popen(words, stdout=out, stderr=subprocess.STDOUT, start_new_session=True,
                                env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"})
    try:
        def text() -> str:
            assert demo.poll() is None and time.monotonic() - begin < LIMIT_S, log.read_text()
            time.sleep(0.5)
            return log.read_text()

        while not (found := re.search(r"(http://\S+/)login#(\S+)", text())):
            pass
        opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor())
        opener.open(f"{found[1]}login", data=f"token={found[2]}".encode(), timeout=30)

        def page(path: str) -> str:
            text()
            with opener.open(found[1] + path, timeout=30) as answer:
                return str(answer.read().decode())

        seen: set[str] = set()  # the curve's summary names its newest round
        while len(seen) < 2:
            shown = page("runs/demo")
            seen.update(re.findall(r"Loss on public questions: [^<]*", shown))
        assert "noised, masked means" in shown and shown.count("accepted</span>") == 3
        assert "train and announce keys" in page("runs/demo/rounds/1")
        assert 'medgpt_coordinator_process_running{process="executor"} 1.0' in page("metrics")
    finally:
        demo.send_signal(signal.SIGTERM)
        demo.wait(90)
    assert demo.returncode == 0 and "ended" in log.read_text()
    left = subprocess.run(["pgrep", "-f", str(tmp_path / "demo")], capture_output=True, text=True, check=False)
    assert left.stdout == ""
