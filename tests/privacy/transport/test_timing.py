"""How often a node asks, and how a process says that it lives."""

from __future__ import annotations

import threading

import pytest

from privacy.transport import timing
from privacy.transport.timing import Beat, Pace, Timing


def test_the_pace_grows_while_busy_and_rests_afterwards(monkeypatch: pytest.MonkeyPatch):
    slept: list[float] = []
    clock = [100.0]
    monkeypatch.setattr(timing.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(timing.time, "sleep", slept.append)
    handled: list[int] = []
    pace = Pace(Timing(busy_poll_s=0.3, idle_poll_s=2.0, busy_s=60.0))
    ask = pace.after(handled.append)
    pace.sleep(3)
    pace.sleep(3)
    clock[0] += 61
    pace.sleep(3)
    pace.sleep(0.5)
    ask(7)
    pace.sleep(3)
    assert handled == [7]
    assert slept == pytest.approx([0.05, 0.0575, 2.0, 0.5, 0.05])


def test_a_beat_goes_on_after_a_failure_until_it_is_stopped():
    sent: list[int] = []
    third = threading.Event()

    def send() -> None:
        sent.append(1)
        if len(sent) == 3:
            third.set()
        raise ConnectionError

    beat = Beat(send, 0.01)
    assert third.wait(5)
    beat.stop()
