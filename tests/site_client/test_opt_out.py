"""The opt-out list: hashes only, whole changes or none, and damage never lets a patient in."""

from __future__ import annotations

import pytest

from site_client.opt_out import OPT_OUT_FILE, change_opt_out, read_opt_out
from site_client.records import pseudonym

KEY = bytes(range(32))


def change(state, *ids, **options):
    return change_opt_out(state, ids, key=KEY, issuer="", **options)


def test_added_counted_and_removed_by_whatever_spelling(tmp_path):
    assert change(tmp_path, "p1\n", " P2 \n", "\n", "P1") == (2, 2)
    assert read_opt_out(tmp_path) == {pseudonym(KEY, "", "P1"), pseudonym(KEY, "", "P2")}
    assert change(tmp_path, "p2", remove=True) == (1, 1)
    assert change(tmp_path, "p2", remove=True) == (0, 1)


def test_the_file_holds_no_identifier_and_is_private(tmp_path):
    change(tmp_path, "MRN4711")
    path = tmp_path / OPT_OUT_FILE
    assert "4711" not in path.read_text()
    assert path.stat().st_mode & 0o077 == 0


def test_a_line_that_is_no_identifier_changes_nothing_and_is_not_quoted(tmp_path):
    change(tmp_path, "P1")
    with pytest.raises(ValueError, match=r"^line 2 is no patient ID .*nothing was changed$") as caught:
        change(tmp_path, "P2", "unknown")
    assert "unknown" not in str(caught.value)
    assert len(read_opt_out(tmp_path)) == 1


def test_a_damaged_list_is_refused(tmp_path):
    change(tmp_path, "P1")
    path = tmp_path / OPT_OUT_FILE
    path.write_text(path.read_text()[:-10])
    with pytest.raises(ValueError, match="restore it from the newest backup"):
        read_opt_out(tmp_path)
