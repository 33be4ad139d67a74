"""The review file: complete, private, whole, and nothing of it in anything else."""

from __future__ import annotations

import stat

import pytest

from site_client.phi.anchors import Anchors
from site_client.phi.check import find_phi
from site_client.phi.review import REVIEW_FILE, WARNING, ReviewedText, counts, write_review

TEXT = "No effusion.\nMay Long\u202e was seen on 5 March 2023 by Dr. Smith\x1b[2J and sent home."
WHO = Anchors(("Long^May",), (), ("20230305",))


def reviewed() -> ReviewedText:
    return ReviewedText("reports.csv row 7", TEXT, find_phi(TEXT, WHO))


def full_disk(descriptor: int) -> None:
    raise OSError(28, "No space left")


def test_it_shows_each_hit_with_its_item_and_what_stands_around_it(tmp_path):
    path = write_review(tmp_path, [reviewed()])
    lines = path.read_text(encoding="utf-8").splitlines()
    assert lines[0] == WARNING and path == tmp_path / REVIEW_FILE
    assert sum("reports.csv row 7" in line for line in lines) == 3
    assert any(">>May Long" in line and "No effusion." in line for line in lines)
    assert not any(char in "".join(lines) for char in "\x1b\u202e")


def test_only_the_owner_can_read_it_and_the_next_check_overwrites_it(tmp_path):
    path = write_review(tmp_path, [reviewed()])
    path.chmod(0o644)
    write_review(tmp_path, [])
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    text = path.read_text(encoding="utf-8")
    assert "May Long" not in text and "Nothing was found." in text
    assert [file.name for file in tmp_path.iterdir()] == [REVIEW_FILE]


def test_when_writing_fails_the_old_file_stays(tmp_path, monkeypatch):
    path = write_review(tmp_path, [reviewed()])
    before = path.read_bytes()
    monkeypatch.setattr("privacy.durable.os.fsync", full_disk)
    with pytest.raises(ValueError, match="cannot be written: No space left"):
        write_review(tmp_path, [])
    assert path.read_bytes() == before and [file.name for file in tmp_path.iterdir()] == [REVIEW_FILE]


def test_a_missing_folder_is_one_sentence(tmp_path):
    with pytest.raises(ValueError, match="cannot be written"):
        write_review(tmp_path / "missing", [])


def test_anything_else_gets_counts_only():
    assert counts([reviewed(), reviewed()]) == {"name": 2, "person": 2, "date": 2}
    assert "Long" not in repr(reviewed()) and "row 7" not in repr(reviewed())


def test_a_lone_surrogate_in_a_text_does_not_stop_the_review(tmp_path):
    text = "May Long \ud800"
    path = write_review(tmp_path, [ReviewedText("x", text, find_phi(text, WHO))])
    assert "May Long" in path.read_text(encoding="utf-8")
