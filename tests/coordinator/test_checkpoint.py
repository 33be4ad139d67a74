"""Checkpoints appear whole or not at all, belong to one manifest, and say what to do when damaged."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from coordinator import checkpoint
from coordinator.checkpoint import Checkpoint, CheckpointError, latest, save


def state(round_number: int, manifest_hash: str = "ab") -> Checkpoint:
    return Checkpoint(
        round=round_number, adapter=np.arange(4, dtype=np.float32) / (round_number + 1),
        velocity=np.arange(4, dtype=np.float64) / 3, average=np.arange(4, dtype=np.float64) / 7,
        manifest_hash=manifest_hash,
        history=[{"round": n, "mean_loss": 1 / (n + 1), "missing": {"site-2": "sa_mask: timeout"}}
                 for n in range(round_number)])


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_what_was_saved_comes_back_bit_for_bit(tmp_path: Path) -> None:
    save(tmp_path / "new" / "folder", state(3))
    found = latest(tmp_path / "new" / "folder", "ab")
    assert found is not None
    assert found.adapter.dtype == np.float32 and found.velocity.dtype == np.float64
    assert found.adapter.tobytes() == state(3).adapter.tobytes()
    assert found.velocity.tobytes() == state(3).velocity.tobytes()
    assert (found.round, found.history) == (3, state(3).history)


def test_the_newest_wins_and_old_ones_go(tmp_path: Path) -> None:
    for number in (1, 2, 9, 10, 11):
        save(tmp_path, state(number), keep=2)
    assert names(tmp_path) == ["round-00010", "round-00011"]
    found = latest(tmp_path, "ab")
    assert found is not None and found.round == 11


def test_no_checkpoint_is_none(tmp_path: Path) -> None:
    assert latest(tmp_path, "ab") is None
    assert latest(tmp_path / "nowhere", "ab") is None


def test_a_kill_while_writing_leaves_the_checkpoint_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(tmp_path, state(1))

    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(checkpoint, "save_file", killed)
    with pytest.raises(KeyboardInterrupt):
        save(tmp_path, state(2))
    monkeypatch.undo()
    found = latest(tmp_path, "ab")
    assert found is not None and found.round == 1
    save(tmp_path, state(2))  # the half-written folder is not in the way
    found = latest(tmp_path, "ab")
    assert found is not None and found.round == 2


def test_saving_a_round_again_replaces_it(tmp_path: Path) -> None:
    save(tmp_path, state(1, "old"))
    save(tmp_path, state(1, "new"))
    assert latest(tmp_path, "new") is not None and names(tmp_path) == ["round-00001"]


def test_another_runs_checkpoint_is_refused(tmp_path: Path) -> None:
    save(tmp_path, state(1, "ab"))
    with pytest.raises(CheckpointError, match="another run manifest"):
        latest(tmp_path, "cd")


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-4])


def forget_key(path: Path) -> None:
    facts = json.loads(path.read_text())
    del facts["history"], facts["round"]
    path.write_text(json.dumps(facts))


@pytest.mark.parametrize(
    ("file", "damage"),
    [("state.safetensors", truncate), ("state.safetensors", Path.unlink), ("state.json", truncate),
     ("state.json", forget_key), ("state.json", Path.unlink)])
def test_a_damaged_checkpoint_names_the_folder_to_remove(tmp_path: Path, file: str, damage: object) -> None:
    save(tmp_path, state(1))
    folder = save(tmp_path, state(2))
    damage(folder / file)  # type: ignore[operator]
    with pytest.raises(CheckpointError, match=f"{folder} cannot be read .*remove that folder"):
        latest(tmp_path, "ab")


def test_other_folders_are_not_taken_for_checkpoints(tmp_path: Path) -> None:
    save(tmp_path, state(1))
    for name in ("round-abc", "round-00002.bak", ".partial-00003-1"):
        (tmp_path / name).mkdir()
    found = latest(tmp_path, "ab")
    assert found is not None and found.round == 1


def test_rounds_beyond_five_digits_are_found_in_order(tmp_path: Path) -> None:
    for number in (99_998, 99_999, 100_000, 100_001):
        save(tmp_path, replace(state(0), round=number), keep=2)
    assert names(tmp_path) == ["round-100000", "round-100001"]
    save(tmp_path, replace(state(0), round=99_999), keep=3)
    found = latest(tmp_path, "ab")
    assert found is not None and found.round == 100_001


def test_what_a_dead_process_left_half_written_goes_and_a_living_ones_stays(tmp_path: Path) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    living = f".partial-00001-{os.getppid()}"
    for name in (f".partial-00001-{ended.pid}", f".partial-00007-{os.getpid()}", living, ".partial-notes"):
        (tmp_path / name).mkdir()
    save(tmp_path, state(2))
    assert names(tmp_path) == sorted([living, ".partial-notes", "round-00002"])
