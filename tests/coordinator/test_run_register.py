"""An honest coordinator cannot sign two manifests for one run, or run one run twice: the register refuses before."""

from __future__ import annotations

import json
import stat
from dataclasses import replace
from pathlib import Path

import pytest

from coordinator.run_register import RunTakenError, claimed
from tests.coordinator.test_rounds import MANIFEST


@pytest.fixture
def key(tmp_path: Path) -> Path:
    return tmp_path / "coordinator.key"


def test_a_run_goes_on_in_its_folder_also_when_that_was_moved(tmp_path: Path, key: Path) -> None:
    for _ in range(2):
        with claimed(key, tmp_path / "a", MANIFEST):
            pass
    (tmp_path / "a").rename(tmp_path / "b")
    with claimed(key, tmp_path / "b", MANIFEST), claimed(key, tmp_path / "c", replace(MANIFEST, run_id="next")):
        pass
    register = tmp_path / "coordinator.key.runs.json"
    assert set(json.loads(register.read_text())) == {"run", "next"} and stat.S_IMODE(register.stat().st_mode) == 0o600


def test_a_second_manifest_under_the_name_is_refused(tmp_path: Path, key: Path) -> None:
    with claimed(key, tmp_path / "a", MANIFEST):
        pass
    for folder in ("a", "b"):
        with pytest.raises(RunTakenError, match="another manifest; give the changed one a new run_id"), \
                claimed(key, tmp_path / folder, replace(MANIFEST, clip_norm=2.0)):
            pytest.fail("it must not begin")
    with claimed(key, tmp_path / "a", MANIFEST):  # the first one still stands
        pass


def test_a_second_folder_is_refused(tmp_path: Path, key: Path) -> None:
    """Its journal would count the attempts from one again."""
    with claimed(key, tmp_path / "a", MANIFEST):
        pass
    with pytest.raises(RunTakenError, match="begun in another folder"), claimed(key, tmp_path / "b", MANIFEST):
        pytest.fail("it must not begin")


def test_a_second_process_in_the_folder_is_refused_until_the_first_ends(tmp_path: Path, key: Path) -> None:
    with claimed(key, tmp_path / "a", MANIFEST), pytest.raises(RunTakenError, match="another process"), \
            claimed(key, tmp_path / "a", MANIFEST):
        pytest.fail("it must not begin")
    with pytest.raises(ZeroDivisionError), claimed(key, tmp_path / "a", MANIFEST):
        raise ZeroDivisionError
    with claimed(key, tmp_path / "a", MANIFEST):  # a run that failed holds nothing
        pass


def test_another_key_has_another_register(tmp_path: Path, key: Path) -> None:
    with claimed(key, tmp_path / "a", MANIFEST), claimed(tmp_path / "other.key", tmp_path / "b", MANIFEST):
        pass
