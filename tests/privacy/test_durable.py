"""A folder appears whole or not at all, and never in place of another."""

from __future__ import annotations

from pathlib import Path

import pytest

from privacy.durable import new_folder, write_whole


def test_a_new_folder_appears_at_the_end_and_is_private(tmp_path: Path) -> None:
    with new_folder(tmp_path / "made") as partial:
        (partial / "inner").mkdir()
        write_whole(partial / "inner" / "file", b"content")
        assert not (tmp_path / "made").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["made"]
    assert (tmp_path / "made" / "inner" / "file").read_bytes() == b"content"
    assert (tmp_path / "made").stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("fault", [OSError("disk full"), KeyboardInterrupt()])
def test_a_folder_that_fails_leaves_nothing(tmp_path: Path, fault: BaseException) -> None:
    with pytest.raises(type(fault)), new_folder(tmp_path / "made") as partial:
        write_whole(partial / "file", b"content")
        raise fault
    assert list(tmp_path.iterdir()) == []


def test_what_exists_is_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    for name in ("empty", "link"):
        with pytest.raises(ValueError, match="never replaced"), new_folder(tmp_path / name):
            pytest.fail("the block must not run")
    with pytest.raises(ValueError, match="does not exist; make it first"), new_folder(tmp_path / "no" / "made"):
        pytest.fail("the block must not run")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "link"]
