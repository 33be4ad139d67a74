"""The coordinator's executor with a hub that is played: what finishes, fails, is tried again, is stopped."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from configs.coordination import HomeConfig
from configs.schema import RunConfig
from coordinator.app import RunStoppedError
from coordinator.conversation import RoundFailedError
from coordinator.executor import Executor
from coordinator.home import Home
from coordinator.run_queue import RunQueue


class Hub:
    """Stands for `HubControl`: notes what it was asked."""

    def __init__(self, calls: list[str]) -> None:
        self.calls = calls

    def end_all(self) -> None:
        self.calls.append("end_all")

    def begin(self, name: str, bundle: bytes) -> tuple[Any, Any]:
        self.calls.append(f"begin {name}")
        return "grid", type("Context", (), {})()

    def finish(self, failure: str = "") -> None:
        self.calls.append(f"finish {failure}".strip())


def play(folder: Path, app: Callable[[int], None], retries: int = 2) -> tuple[RunQueue, list[str]]:
    """One run with `app(number of the call)`; until nothing waits."""
    home = Home(folder, HomeConfig(federation_id="north", address="a.b:1", retries=retries, retry_after_s=0.01))
    queue, calls, stop, count = RunQueue(home.runs_folder), [], threading.Event(), [0]
    queue.add(RunConfig(run_id="one", curriculum="c", base_model="b", public_examples="p"))

    def server_app(grid: Any, context: Any) -> None:
        assert grid == "grid"
        assert context.run_config == {"coordinator-file": str(folder / "runs" / "one" / "coordinator.yaml")}
        count[0] += 1
        app(count[0])

    executor = Executor(home, lambda: Hub(calls), server_app)  # type: ignore[arg-type,return-value]
    executor._prepare = lambda run_id: None  # type: ignore[method-assign]
    while (run := queue.next()) is not None:
        executor._attend(run, stop)
    return queue, calls


def test_a_run_that_ends_well(tmp_path: Path):
    queue, calls = play(tmp_path, lambda number: None)
    assert queue.get("one").state == "finished"
    assert calls == ["end_all", "begin one", "finish"]


def test_a_lack_of_sites_is_tried_again_and_then_said(tmp_path: Path):
    def app(number: int) -> None:
        raise RoundFailedError(f"too few, time {number}")

    queue, calls = play(tmp_path, app)
    run = queue.get("one")
    assert (run.state, run.reason) == ("failed", "too few, time 3")
    assert calls.count("begin one") == 3
    assert calls.count("finish RoundFailedError") == 3


def test_only_failures_in_a_row_count(tmp_path: Path):
    """A run of weeks loses its sites now and then; each time it has made rounds it has all its tries again."""
    def app(number: int) -> None:
        if number <= 6:
            (tmp_path / "runs" / "one" / "checkpoints" / f"round-{number:05d}").mkdir(parents=True)
        raise RoundFailedError(f"too few, time {number}")

    queue, calls = play(tmp_path, app)
    assert (queue.get("one").state, queue.get("one").reason) == ("failed", "too few, time 8")
    assert calls.count("begin one") == 8


def test_the_reason_of_a_hub_that_stays_away_names_its_log(tmp_path: Path):
    import httpx

    def app(number: int) -> None:
        raise httpx.ConnectError("gone")

    queue, _ = play(tmp_path, app)
    assert "superlink.log" in queue.get("one").reason


def test_a_hub_that_went_away_is_tried_again(tmp_path: Path):
    import httpx

    def app(number: int) -> None:
        if number == 1:
            raise httpx.ConnectError("gone")

    queue, _ = play(tmp_path, app)
    assert queue.get("one").state == "finished"


@pytest.mark.parametrize(("error", "reason"), [
    (ValueError("the base model is another"), "the base model is another"), (KeyError("secret"), "KeyError")])
def test_a_mistake_is_not_tried_again(tmp_path: Path, error: Exception, reason: str):
    def app(number: int) -> None:
        raise error

    queue, calls = play(tmp_path, app)
    assert (queue.get("one").state, queue.get("one").reason) == ("failed", reason)
    assert calls.count("begin one") == 1


def test_the_operators_stop_is_no_failure(tmp_path: Path):
    def app(number: int) -> None:
        raise RunStoppedError("asked")

    queue, _ = play(tmp_path, app)
    assert queue.get("one").state == "stopped"


def test_a_run_that_cannot_be_prepared_says_why(tmp_path: Path):
    home = Home(tmp_path, HomeConfig(federation_id="north", address="a.b:1"))
    queue = RunQueue(home.runs_folder)
    run = queue.add(RunConfig(run_id="one", curriculum="c", base_model="b", public_examples="p"))
    executor = Executor(home, lambda: Hub([]), lambda grid, context: None)  # type: ignore[arg-type,return-value]
    executor._attend(run, threading.Event())
    assert queue.get("one").state == "failed"
    assert "is missing" in queue.get("one").reason  # the invitation, here


def test_a_stop_while_it_waits_for_the_next_try(tmp_path: Path):
    home = Home(tmp_path, HomeConfig(federation_id="north", address="a.b:1", retry_after_s=0.2))
    queue = RunQueue(home.runs_folder)
    run = queue.add(RunConfig(run_id="one", curriculum="c", base_model="b", public_examples="p"))

    def app(grid: Any, context: Any) -> None:
        queue.put(replace(queue.get("one"), state="stopped", reason="by hand"))
        raise RoundFailedError("too few")

    executor = Executor(home, lambda: Hub([]), app)  # type: ignore[arg-type,return-value]
    executor._prepare = lambda run_id: None  # type: ignore[method-assign]
    executor._attend(run, threading.Event())
    assert queue.get("one").state == "stopped"
