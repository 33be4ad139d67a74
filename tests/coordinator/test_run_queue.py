"""The queue of runs on disk: order, what a stop and a resume change, what a dead executor leaves."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from configs.schema import RunConfig
from coordinator.run_queue import STOP_FILE, RunQueue


def config(run_id: str) -> RunConfig:
    return RunConfig(run_id=run_id, curriculum="c.yaml", base_model="base", public_examples="public.npz")


def test_the_oldest_waits_longest(tmp_path: Path):
    queue = RunQueue(tmp_path)
    assert queue.next() is None
    for name in ("b", "a"):
        queue.add(config(name))
    assert [run.run_id for run in queue.all()] == ["b", "a"]
    assert queue.next().run_id == "b"  # type: ignore[union-attr]


def test_a_name_stands_for_one_run(tmp_path: Path):
    queue = RunQueue(tmp_path)
    queue.add(config("one"))
    with pytest.raises(ValueError, match="run one exists already"):
        queue.add(config("one"))


@pytest.mark.parametrize("name", ["", "..", "a/b", "a b", "x" * 65, ".hidden"])
def test_a_name_is_no_path(tmp_path: Path, name: str):
    with pytest.raises(ValueError, match="run_id"):
        RunQueue(tmp_path / "runs").add(config(name))
    assert not (tmp_path / "runs").exists()


def test_an_unknown_run_is_named_with_those_that_there_are(tmp_path: Path):
    queue = RunQueue(tmp_path)
    queue.add(config("one"))
    with pytest.raises(ValueError, match="no run two; known runs: one"):
        queue.get("two")


def test_what_ran_when_the_executor_died_goes_first_again(tmp_path: Path):
    queue = RunQueue(tmp_path)
    first = queue.add(config("first"))
    queue.add(config("second"))
    queue.put(replace(first, state="running"))
    assert queue.next().run_id == "second"  # type: ignore[union-attr]
    RunQueue(tmp_path).take_up_again()
    assert queue.next().run_id == "first"  # type: ignore[union-attr]


def test_stop_and_resume(tmp_path: Path):
    queue = RunQueue(tmp_path)
    run = queue.add(config("one"))
    assert "taken out" in queue.stop("one")
    assert queue.next() is None
    queue.resume("one")
    queue.put(replace(run, state="running"))
    queue.stop("one")
    assert (tmp_path / "one" / STOP_FILE).exists()
    with pytest.raises(ValueError, match="one is running"):
        queue.resume("one")
    queue.put(replace(run, state="failed", tries=3, reason="why"))
    with pytest.raises(ValueError, match="one is failed already"):
        queue.stop("one")
    queue.resume("one")
    assert not (tmp_path / "one" / STOP_FILE).exists()
    assert (queue.get("one").state, queue.get("one").tries) == ("queued", 0)
    queue.put(replace(run, state="finished"))
    with pytest.raises(ValueError, match="one is finished"):
        queue.resume("one")


def test_a_damaged_state_is_said_in_one_sentence_and_holds_up_nobody_else(tmp_path: Path):
    queue = RunQueue(tmp_path)
    for name in ("one", "two"):
        queue.add(config(name))
    (tmp_path / "one" / "state.json").write_text("{")
    with pytest.raises(ValueError, match=r"state\.json is damaged; restore"):
        queue.get("one")
    assert queue.next().run_id == "two"  # type: ignore[union-attr]


def test_a_run_that_kills_its_executor_each_time_is_given_up(tmp_path: Path):
    queue = RunQueue(tmp_path)
    run = queue.add(config("one"))
    for deaths in range(9):
        assert queue.get("one").state == "queued", deaths
        queue.put(replace(queue.get("one"), state="running"))
        queue.take_up_again()
    assert queue.get("one").state == "failed"
    assert "ended 9 times" in queue.get("one").reason
    queue.put(replace(run, state="running", tries=8))
    (tmp_path / "one" / "checkpoints" / "round-00001").mkdir(parents=True)
    queue.take_up_again()
    assert (queue.get("one").state, queue.get("one").tries) == ("queued", 0)  # it came on


def test_a_launch_that_was_cut_short_may_be_repeated(tmp_path: Path):
    (tmp_path / "one").mkdir()
    RunQueue(tmp_path).add(config("one"))
    assert RunQueue(tmp_path).get("one").state == "queued"
