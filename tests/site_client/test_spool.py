"""The spool: one update, for one plan in any of its attempts, unreadable for others, gone once it is used."""

from __future__ import annotations

import os
import stat
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from privacy.messages import Plan
from site_client.spool import Spool

PLAN = Plan(
    federation_id="fed", run_id="run", roster_hash=bytes(32), manifest_hash=bytes([1] * 32), round=3, attempt=1,
    stage=0, factor="B", model_hash=bytes([2] * 32), dimension=5, num_lanes=3, bits=24, scale=2.0**18, saturation=2.0)
VALUES = np.array([0, 1, 2**32 - 1, 7, 2**31], dtype=np.uint32)


def test_what_was_kept_is_found_by_another_process_in_a_later_attempt(tmp_path: Path) -> None:
    Spool(tmp_path).keep(PLAN, VALUES)
    found = Spool(tmp_path).find(replace(PLAN, attempt=9))
    assert found is not None and found.dtype == np.uint32 and np.array_equal(found, VALUES)
    found[0] = 5  # masking overwrites it, the file keeps the update
    again = Spool(tmp_path).find(PLAN)
    assert again is not None and np.array_equal(again, VALUES)


@pytest.mark.parametrize(
    "changed",
    [{"run_id": "other"}, {"round": 4}, {"model_hash": bytes(32)}, {"stage": 1}, {"factor": "A"},
     {"manifest_hash": bytes(32)}, {"scale": 2.0**17}, {"dimension": 6}])
def test_another_plan_never_gets_it(tmp_path: Path, changed: dict[str, Any]) -> None:
    Spool(tmp_path).keep(PLAN, VALUES)
    assert Spool(tmp_path).find(replace(PLAN, **changed)) is None


def test_a_newer_update_replaces_the_older(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    spool.keep(PLAN, VALUES)
    spool.keep(replace(PLAN, round=4), VALUES + np.uint32(1))
    assert spool.find(PLAN) is None
    assert len(list((tmp_path / "spool").iterdir())) == 1


def test_nothing_is_left_after_drop(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    spool.drop()  # an empty spool is no error
    spool.keep(PLAN, VALUES)
    spool.drop()
    assert spool.find(PLAN) is None and list((tmp_path / "spool").iterdir()) == []


def test_only_the_owner_can_read_it(tmp_path: Path) -> None:
    Spool(tmp_path).keep(PLAN, VALUES)
    (file,) = (tmp_path / "spool").iterdir()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700


def test_a_file_of_another_size_is_not_used(tmp_path: Path) -> None:
    Spool(tmp_path).keep(PLAN, VALUES)
    (file,) = (tmp_path / "spool").iterdir()
    file.write_bytes(file.read_bytes()[:-4])
    assert Spool(tmp_path).find(PLAN) is None


def test_a_kill_while_writing_leaves_nothing_that_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(_: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", killed)
    with pytest.raises(KeyboardInterrupt):
        Spool(tmp_path).keep(PLAN, VALUES)
    monkeypatch.undo()
    assert Spool(tmp_path).find(PLAN) is None
    Spool(tmp_path).keep(PLAN, VALUES)
    assert len(list((tmp_path / "spool").iterdir())) == 1
