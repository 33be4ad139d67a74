"""What Flower's processes are told: how often they ask and say that they live, and where a site's node connects.

*Guarantees.* None; these are values and waits.

*Assumes.* Both sides of one federation have the same heartbeat.

*Does not cover.* How Flower takes them (`privacy.transport.flower_internals`).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["Beat", "NodeOptions", "Pace", "Timing"]


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds: between signs of life, and between two questions for messages (see `configs.checks.TransportConfig`)."""

    heartbeat_s: float = 30.0
    busy_poll_s: float = 0.3
    idle_poll_s: float = 2.0
    busy_s: float = 60.0

    @property
    def first_poll_s(self) -> float:
        """The pause before the first question after a message; the next step often follows at once."""
        return self.busy_poll_s / 6

    def later(self, pause_s: float) -> float:
        """The pause after `pause_s`: longer, up to `busy_poll_s`."""
        return min(pause_s * 1.15, self.busy_poll_s)


class Pace:
    """Stands for the module `time` in a loop that asks for messages: its fixed waits are short and grow from question
    to question; after `busy_s` without a message it asks at its idle pace."""

    def __init__(self, timing: Timing) -> None:
        self._timing, self._last, self._pause = timing, time.monotonic(), timing.first_poll_s

    def after(self, handle: Callable[..., None]) -> Callable[..., None]:
        """`handle`, after which it asks at once: the next step often follows a message that was handled."""

        def handled(*given: Any, **named: Any) -> None:
            handle(*given, **named)
            self._last, self._pause = time.monotonic(), self._timing.first_poll_s

        return handled

    def sleep(self, seconds: float) -> None:
        """What the loop calls for its own wait of `seconds`."""
        busy = time.monotonic() - self._last < self._timing.busy_s
        time.sleep(self._pause if busy else min(seconds, self._timing.idle_poll_s))
        self._pause = self._timing.later(self._pause)


class Beat:
    """Calls `send` now and every `every_s` until `stop`; a failure is the other side's to notice."""

    def __init__(self, send: Callable[[], object], every_s: float) -> None:
        self._stop = threading.Event()

        def beat() -> None:
            done = False
            while not done:
                with suppress(Exception):
                    send()
                done = self._stop.wait(every_s)

        threading.Thread(target=beat, daemon=True).start()

    def stop(self) -> None:
        """No further one begins."""
        self._stop.set()


@dataclass(frozen=True, slots=True)
class NodeOptions:
    """What a site's node needs; `port` is on loopback, where the executor asks for tasks with the secret."""

    superlink: str
    root_certificates: Path
    private_key: Path
    port: int
    secret_file: Path
