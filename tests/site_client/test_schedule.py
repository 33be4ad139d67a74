"""The answer to a plan leaves at a scheduled time, and nothing that leaves has a size that depends on the draw."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from privacy.messages import Advertise, RunManifest
from site_client.schedule import ReplySchedule, release_time
from site_client.session import SiteSession
from site_client.training import LocalUpdate
from tests.site_client.small_site import (  # noqa: F401  (fixtures are used by name)
    IDS,
    MANIFEST,
    SIZE,
    STAGE,
    Round,
    Seeded,
    Site,
    admit,
    code,
    hello,
    light,
    plan_of,
    session_of,
    site,
    train,
)

PERIOD = 60.0
SCHEDULED = replace(MANIFEST, stages=tuple(replace(stage, reply_after_s=PERIOD) for stage in MANIFEST.stages))


class Clock:
    """Stands still but for `sleep` and for what a test adds to `now`."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.slept: list[float] = []

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        assert seconds > 0
        self.slept.append(seconds)
        self.now += seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


def timed(site: Site, clock: Clock, manifest: RunManifest = SCHEDULED) -> SiteSession:  # noqa: F811
    session = SiteSession(site, lambda purpose: Seeded(site.site_id, purpose), clock=clock, sleep=clock.sleep)  # type: ignore[arg-type]
    admit(session, manifest)
    return session


def training_of(clock: Clock, seconds: float, update: LocalUpdate | None = None) -> Callable[..., LocalUpdate]:
    def trains(*_: object) -> LocalUpdate:
        clock.now += seconds
        return update or LocalUpdate(np.linspace(-0.5, 0.5, SIZE), np.array([0.01, 0.02, 0.03]))

    return trains


# ------------------------------------------------------------------ the time


@pytest.mark.parametrize(("took", "leaves"), [(0.0, 60.0), (59.9, 60.0), (60.0, 60.0), (60.1, 120.0), (130.0, 240.0),
                                              (250.0, 480.0), (7200.0, 7680.0)])
def test_the_first_power_of_two_multiple_that_is_not_before_the_reply_is_ready(took: float, leaves: float) -> None:
    assert release_time(1000.0, 1000.0 + took, 60.0) == 1000.0 + leaves


def test_no_schedule_means_at_once() -> None:
    assert release_time(1000.0, 1007.0, 0.0) == 1007.0


@pytest.mark.parametrize("period", [5e-324, 1e-300, 1e-9, 0.001, 1e6, 1e308])
def test_no_period_makes_the_time_overflow_or_come_too_early(period: float) -> None:
    due = release_time(1e6, 1e6 + 250.0, period)
    assert due >= 1e6 + 250.0 and due < float("inf")


@pytest.mark.parametrize("bad", [-1.0, float("nan"), float("inf"), float("-inf")])
def test_a_time_that_is_no_number_is_no_time_to_leave_at(bad: float) -> None:
    with pytest.raises(ValueError, match="finite"):
        release_time(0.0, 10.0, bad)
    if bad != -1.0:
        with pytest.raises(ValueError, match="finite"):
            release_time(0.0, bad, 60.0)


@pytest.mark.parametrize("error", [OverflowError, ValueError, MemoryError, OSError])
@pytest.mark.parametrize("fails", [False, True])
def test_a_schedule_that_fails_ends_in_no_reply(
    site: Site, clock: Clock, monkeypatch: pytest.MonkeyPatch, error: type[Exception], fails: bool  # noqa: F811
) -> None:
    """As an error of the step it would leave at once, and tell how long the training took."""
    def broken(_: float) -> None:
        raise error("site's secret")

    def trains(*_: object) -> LocalUpdate:
        if fails:
            raise RuntimeError("of a patient")
        return LocalUpdate(np.linspace(-0.5, 0.5, SIZE), np.array([0.01, 0.02, 0.03]))

    monkeypatch.setattr("site_client.session.run_local_steps", trains)
    session = timed(site, clock)
    monkeypatch.setattr(session._schedule, "_sleep", broken)
    with pytest.raises(SystemExit) as caught:
        train(session, plan_of(SCHEDULED))
    assert "secret" not in str(caught.value) and "patient" not in str(caught.value)


@pytest.mark.parametrize(("short", "long"), [(0.5, 59.0), (61.0, 119.0)])
def test_a_short_and_a_long_draw_leave_at_the_same_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, short: float, long: float
) -> None:
    left = []
    for seconds in (short, long):
        clock = Clock()
        monkeypatch.setattr("site_client.session.run_local_steps", training_of(clock, seconds))
        session = timed(Site(tmp_path / str(seconds)), clock)
        Advertise.from_bytes(train(session, plan_of(SCHEDULED)))
        left.append(clock.now - 1000.0)
    assert left == [PERIOD * (1 + short // PERIOD)] * 2


def test_without_a_schedule_nothing_waits(site: Site, clock: Clock) -> None:  # noqa: F811
    Advertise.from_bytes(train(timed(site, clock, MANIFEST), plan_of()))
    assert clock.slept == [] and clock.now == 1000.0


def test_a_failure_of_the_training_leaves_on_time_too(
    site: Site, clock: Clock, monkeypatch: pytest.MonkeyPatch  # noqa: F811
) -> None:
    """How soon memory ran out would tell how large the draw was."""
    def fails(*_: object) -> LocalUpdate:
        clock.now += 7.0
        raise MemoryError

    monkeypatch.setattr("site_client.session.run_local_steps", fails)
    assert code(train(timed(site, clock), plan_of(SCHEDULED))) == "E_SITE"
    assert clock.now == 1000.0 + PERIOD


def test_a_waiting_update_is_offered_again_on_schedule(
    site: Site, clock: Clock, monkeypatch: pytest.MonkeyPatch  # noqa: F811
) -> None:
    monkeypatch.setattr("site_client.session.run_local_steps", training_of(clock, 130.0))
    train(timed(site, clock), plan_of(SCHEDULED))
    assert clock.now == 1000.0 + 4 * PERIOD
    Advertise.from_bytes(train(timed(site, clock), plan_of(SCHEDULED, attempt=2)))
    assert clock.now == 1000.0 + 5 * PERIOD


def test_a_redelivered_plan_gets_the_same_bytes_without_another_wait(site: Site, clock: Clock) -> None:  # noqa: F811
    session = timed(site, clock)
    first = train(session, plan_of(SCHEDULED))
    assert train(session, plan_of(SCHEDULED)) == first and clock.slept == [PERIOD]


def test_a_plan_that_is_refused_before_the_training_is_answered_at_once(site: Site, clock: Clock) -> None:  # noqa: F811
    assert code(train(timed(site, clock), plan_of(SCHEDULED, stage=1))) == "E_MANIFEST"
    assert clock.slept == []


def test_overruns_are_counted_here_and_logged_without_a_value(caplog: pytest.LogCaptureFixture) -> None:
    clock = Clock()
    schedule = ReplySchedule(clock, clock.sleep)
    for seconds, overruns in ((60.0, 0), (61.0, 1), (1.0, 1), (987.0, 2)):
        with schedule.release(schedule.now(), 60.0):
            clock.now += seconds
        assert schedule.overruns == overruns
    first, second = (record.getMessage() for record in caplog.records)
    assert first == second and not any(letter.isdigit() for letter in first)


def test_a_sleep_that_returns_early_is_slept_again() -> None:
    clock = Clock()

    def restless(seconds: float) -> None:
        clock.sleep(seconds / 2 if seconds > 1 else seconds)

    schedule = ReplySchedule(clock, restless)
    with schedule.release(clock(), 60.0):
        pass
    assert clock.now == 1060.0 and len(clock.slept) > 3


def test_a_site_refuses_a_run_without_a_schedule_unless_its_policy_says_otherwise(tmp_path: Path) -> None:
    strict = Site(tmp_path / "strict", require_scheduled_replies=True)
    session = session_of(strict, None)
    assert code(hello(session, MANIFEST)) == "P_TIMING"
    half = replace(SCHEDULED, stages=(SCHEDULED.stages[0], replace(STAGE, name="two")))
    assert code(hello(session, half)) == "P_TIMING"
    brief = tuple(replace(stage, reply_after_s=0.001) for stage in MANIFEST.stages)
    assert code(hello(session, replace(MANIFEST, stages=brief))) == "P_TIMING"
    admit(session, SCHEDULED)
    admit(session_of(Site(tmp_path / "lenient", require_scheduled_replies=False), None), MANIFEST)


# ------------------------------------------------------------------ the sizes


def sizes_of(folder: Path, monkeypatch: pytest.MonkeyPatch, updates: list[LocalUpdate]) -> list[tuple[Any, ...]]:
    """(step, site, bytes of the reply, bytes of its vector) of a whole round whose sites made those updates."""
    found: list[tuple[Any, ...]] = []
    federation = Round(folder)
    waiting = iter(updates)
    monkeypatch.setattr("site_client.session.run_local_steps", lambda *_: next(waiting))
    for name, session in federation.sessions.items():
        answer = session.answer

        def noted(step: str, body: bytes, vector: Any, name: str = name, answer: Any = answer) -> Any:
            reply, upload = answer(step, body, vector)
            found.append((step, name, len(reply), None if upload is None else (upload.nbytes, upload.dtype.str)))
            return reply, upload

        monkeypatch.setattr(session, "answer", noted)
    assert federation.run() is not None
    return found


def test_no_message_of_a_site_has_a_size_that_depends_on_the_draw(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nobody = [LocalUpdate(np.zeros(SIZE), np.zeros(3))] * 4
    many = [LocalUpdate(np.full(SIZE, 1e9 * (-1) ** i), np.array([0.09, -0.09, 1e6])) for i in range(4)]
    some = [LocalUpdate(np.linspace(-i, i + 0.1, SIZE), np.array([0.01 * i, 0.0, 0.02])) for i in range(4)]
    first, *others = (sizes_of(tmp_path / str(i), monkeypatch, updates) for i, updates in
                      enumerate((nobody, many, some)))
    assert len(first) == 6 * len(IDS) and all(sizes == first for sizes in others)
