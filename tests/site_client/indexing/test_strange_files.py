"""Names, depths, times and rows that no honest hospital has: each costs its own file or row, never the index."""

from __future__ import annotations

import json
import os
import subprocess
from contextlib import closing
from pathlib import Path

import pytest

from site_client.index_facts import index_facts, index_text
from site_client.indexing.index_store import IndexStore
from site_client.indexing.scan import scan_folders
from site_client.records import PatientRecord, Refusal, SiteIndex, pseudonym
from site_client.sources.interface import SourceError
from site_client.sources.tables import FolderSource
from tests.site_client.made_headers import KEY, MadeScanner, header, write

ANNA = pseudonym(KEY, "", "P1")


def walked(tmp_path: Path) -> tuple[list[str], list[tuple[str, str, str]], int]:
    """(files of the honest patient, refusals, files parsed) after one more pass."""
    scanner = MadeScanner({"a": header(), "b": header(sop_uid="1.2.9", patient_id="P2")})
    with closing(IndexStore(tmp_path / "index", KEY, "s")) as store:
        scan_folders(store, lambda: scanner, [("data", tmp_path / "dicom")], key=KEY, issuer="")
        return [file.path for file in store.files("study_uid", "1.2", ANNA)], list(store.refused()), len(scanner.parsed)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    write(tmp_path / "dicom", "a")
    return tmp_path / "dicom"


def test_a_name_that_is_no_utf8_is_refused_for_its_own_file(tmp_path, data):
    (Path(os.fsdecode(os.fsencode(data) + b"/M\xfcller"))).write_bytes(b"x")
    files, refused, _ = walked(tmp_path)
    assert files == ["a"]
    assert [reason for _, _, reason in refused] == ["file-name"]
    refused[0][1].encode()
    assert walked(tmp_path)[:2] == (files, refused)


def test_a_name_that_is_no_utf8_cannot_stand_in_for_another(tmp_path, data):
    (Path(os.fsdecode(os.fsencode(data) + b"/M\xfcller"))).write_bytes(b"x")
    for name in [path for _, path, _ in walked(tmp_path)[1]]:
        assert "//" in name or not (data / name).parent.exists()


def test_folders_deeper_than_calls_may_nest(tmp_path, data):
    try:
        for depth in range(1, 1201):
            (data / "/".join("d" * depth)).mkdir()
        (data / "/".join("d" * 1200) / "b").write_bytes(b"x")
        assert walked(tmp_path) == (["a"], [], 2)
    finally:  # what removes temporary folders nests its calls
        subprocess.run(["rm", "-rf", str(data / "d")], check=True)


def test_the_order_of_the_walk_is_that_of_names(tmp_path):
    write(tmp_path / "dicom", "a", "b/c", "b/a/x", "c", "b.d")
    from site_client.indexing.scan import _walk

    found = [path.relative_to(tmp_path / "dicom").as_posix() for path, _ in _walk(tmp_path / "dicom")]
    assert found == ["a", "b/a/x", "b/c", "b.d", "c"]


@pytest.mark.parametrize("seconds", [10_413_792_000, -10_413_792_000, 15_000_000_000])
def test_a_time_beyond_what_a_database_holds(tmp_path, data, seconds):
    os.utime(data / "a", (seconds, seconds))
    if (data / "a").stat().st_mtime_ns != seconds * 10**9:
        pytest.skip("this file system keeps no such time")
    assert walked(tmp_path) == (["a"], [], 1)
    assert walked(tmp_path) == (["a"], [], 0)


@pytest.mark.parametrize("path", ["x" * 300, "a/" * 250_000 + "x", "d/" + "x" * 70_000, "é" * 200])
def test_a_path_that_no_file_can_have_is_refused_for_its_own_row(tmp_path, path):
    (tmp_path / "dicom").mkdir()
    rows = [{"question_id": "q", "question": "What?", "answer": "This.", "images": path},
            {"question_id": "q", "patient_id": "P1", "question": "What?", "answer": "This."}]
    (tmp_path / "questions.jsonl").write_text("\n".join(map(json.dumps, rows)))
    first, second = FolderSource(tmp_path).questions()
    assert isinstance(first, Refusal) and first.reason in ("path-outside", "image-unknown")
    assert second.patient_id == "P1"


@pytest.mark.parametrize("name", ["questions.csv", "reports.jsonl", "conversations.json"])
def test_a_table_that_is_a_pipe_is_not_waited_for(tmp_path, name):
    os.mkfifo(tmp_path / name)
    source = FolderSource(tmp_path)
    with pytest.raises(SourceError, match=f"{name} is no regular file"):
        list(source.reports())
        list(source.questions())


def test_one_entry_of_conversations_that_no_object_is_costs_itself(tmp_path):
    entry = '{"id": 1, "id": 2, "patient_id": "P1", "conversations": []}'
    good = {"id": "c", "patient_id": "P2", "conversations": [{"from": "human", "value": "Well?"},
                                                             {"from": "gpt", "value": "Yes."}]}
    (tmp_path / "conversations.json").write_text(f"[{entry}, {json.dumps(good)}]")
    first, second = FolderSource(tmp_path).questions()
    assert isinstance(first, Refusal) and first.reason == "row-malformed"
    assert second.patient_id == "P2"


def test_a_line_of_a_hundred_thousand_choices_is_refused(tmp_path):
    row = {"question_id": "q", "patient_id": "P1", "question": "Which?", "answer": "0",
           "choices": [str(number) for number in range(100_000)]}
    (tmp_path / "questions.jsonl").write_text(json.dumps(row))
    (refused,) = FolderSource(tmp_path).questions()
    assert refused.reason == "choices-malformed"


def test_a_name_cannot_steer_the_operators_terminal():
    index = SiteIndex((PatientRecord("0" * 64, {}),), (Refusal("dicom/\x1b]0;x\x07\udcfc\n", "sop-class"),))
    facts = index_facts("site-1", index) | {"refused_items": [{"item": r.item, "reason": r.reason}
                                                              for r in index.refused]}
    text = index_text(facts)
    text.encode()
    assert "\x1b" not in text and "\x07" not in text
