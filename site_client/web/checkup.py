"""`site-client doctor` as a page asks for it: a process of its own, one at a time, its last outcome kept.

It loads the model's libraries and hashes the base model, which the pages' own process never does.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

__all__ = ["MOST_S", "Checkup"]

MOST_S = 900.0    # then it is ended: a base model on a slow disk is hashed in less
_AGAIN_S = 10.0   # after an outcome; a page that is loaded again must not start another
_CODE = "import sys; from site_client.cli import main; sys.exit(main(['doctor', sys.argv[1], '--json']))"
_LEVELS = ("FAIL", "WARN", "PASS")


class Checkup:
    """Of one site file.

    Args:
        on_change: told what to say when one begins or ends.
    """

    def __init__(self, site_file: str, on_change: Callable[[str], None]) -> None:
        self._site_file, self._on_change = site_file, on_change
        self._alone = threading.Lock()
        self._running: subprocess.Popen[str] | None = None
        self._thread: threading.Thread | None = None
        self._outcome: dict[str, Any] | None = None

    def begin(self) -> None:
        """Start one, unless one runs or has just ended."""
        with self._alone:
            outcome = self._outcome
            recent = outcome is not None and time.time() - outcome["ended"] < _AGAIN_S
            if recent or (self._thread is not None and self._thread.is_alive()):
                return
            self._thread = threading.Thread(target=self._run, name="doctor", daemon=True)
            self._thread.start()
        self._on_change("the doctor has begun")

    def state(self) -> dict[str, Any]:
        """{running, outcome: None or {findings (worst first), counts, ended, seconds, fault}}."""
        with self._alone:
            return {"running": self._thread is not None and self._thread.is_alive(), "outcome": self._outcome}

    def close(self) -> None:
        """End one that runs."""
        if self._running is not None and self._running.poll() is None:
            self._running.kill()

    def _run(self) -> None:
        begun = time.time()
        try:
            self._running = subprocess.Popen(
                [sys.executable, "-P", "-c", _CODE, self._site_file], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL, text=True)
            text, _ = self._running.communicate(timeout=MOST_S)
            outcome: dict[str, Any] = {"findings": _sorted(json.loads(text)["findings"]), "fault": ""}
        except subprocess.TimeoutExpired:
            self.close()
            outcome = {"findings": [], "fault": f"it did not end within {MOST_S / 60:.0f} minutes and was ended"}
        except (ValueError, KeyError, TypeError, OSError) as error:
            outcome = {"findings": [], "fault": f"it could not be run ({type(error).__name__})"}
        counts = {level: sum(one["level"] == level for one in outcome["findings"]) for level in _LEVELS}
        with self._alone:
            self._outcome = {**outcome, "counts": counts, "ended": time.time(), "seconds": time.time() - begun}
            self._thread = None
        self._on_change(outcome["fault"] or f"the doctor has ended: {counts['FAIL']} FAIL, {counts['WARN']} WARN")


def _sorted(findings: list[dict[str, str]]) -> list[dict[str, str]]:
    return sorted(({name: str(one[name]) for name in ("level", "name", "text", "fix")} for one in findings),
                  key=lambda one: _LEVELS.index(one["level"]))
