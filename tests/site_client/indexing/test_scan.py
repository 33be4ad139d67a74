"""The walk: what is new is parsed, what is known is not, what is gone is forgotten, and a kill loses little."""

from __future__ import annotations

import os
from contextlib import closing
from pathlib import Path

import pytest

from site_client.indexing import scan
from site_client.indexing.index_store import IndexStore
from site_client.indexing.scan import scan_folders
from site_client.records import pseudonym
from tests.site_client.made_headers import KEY, MadeScanner, header, write

ANNA = pseudonym(KEY, "", "P1")
BORIS = pseudonym(KEY, "", "P2")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    write(tmp_path / "dicom", "a", "deep/er/b", "c")
    return tmp_path / "dicom"


@pytest.fixture
def scanner() -> MadeScanner:
    return MadeScanner({
        "a": header(), "b": header(sop_uid="1.2.2", patient_id="p2 ", accession="A2", study_uid="1.3",
                                   names=("Brown^Boris",)),
        "c": "sop-class"})


def opened(tmp_path: Path, settings: str = "s") -> IndexStore:
    return IndexStore(tmp_path / "index", KEY, settings)


def run(tmp_path: Path, data: Path, scanner: MadeScanner, **options: object) -> dict[str, object]:
    """One pass; then everything that a user could ask."""
    with closing(opened(tmp_path, str(options.pop("settings", "s")))) as store:
        parsed = scan_folders(store, lambda: scanner, [("data", data)], key=KEY, issuer="", **options)
        return {"parsed": parsed, "refused": list(store.refused()), "modalities": store.counts("modality"),
                "anna": store.files("study_uid", "1.2", ANNA), "boris": store.files("study_uid", "1.3", BORIS)}


def test_a_first_pass_parses_everything_and_a_second_nothing(tmp_path, data, scanner):
    first = run(tmp_path, data, scanner)
    assert (first["parsed"], sorted(scanner.parsed)) == (3, ["a", "b", "c"])
    assert [file.path for file in first["anna"]] == ["a"]
    assert [file.path for file in first["boris"]] == ["deep/er/b"]  # "p2 " and "P2" are one patient
    assert first["refused"] == [("data", "c", "sop-class")]
    assert first["modalities"] == {"DX": 2}
    scanner.parsed.clear()
    second = run(tmp_path, data, scanner)
    assert second | {"parsed": 3} == first
    assert not scanner.parsed


def test_changed_new_and_removed_files(tmp_path, data, scanner):
    run(tmp_path, data, scanner)
    write(data, "a", "d", age_s=5)
    (data / "deep/er/b").unlink()
    scanner.known |= {"a": header(modality="CT"), "d": header(sop_uid="1.2.9", modality="MR")}
    scanner.parsed.clear()
    found = run(tmp_path, data, scanner)
    assert sorted(scanner.parsed) == ["a", "d"]
    assert found["modalities"] == {"CT": 1, "MR": 1}
    assert not found["boris"]


def test_a_file_in_anothers_place_is_parsed_although_size_and_time_are_the_same(tmp_path, data, scanner):
    assert run(tmp_path, data, scanner)["anna"]
    (data / "a").unlink()
    write(data, "a")  # the same length and time of modification
    scanner.known["a"] = header(patient_id="P2", study_uid="1.3")
    found = run(tmp_path, data, scanner)
    assert not found["anna"]
    assert {file.path for file in found["boris"]} == {"a", "deep/er/b"}


def test_nothing_of_a_removed_patient_stays_on_the_disk(tmp_path, data, scanner):
    run(tmp_path, data, scanner)
    with closing(opened(tmp_path)) as store:
        assert store.anchors(BORIS).names == ("Brown^Boris",)
    (data / "deep/er/b").unlink()
    run(tmp_path, data, scanner)
    with closing(opened(tmp_path)) as store:
        assert store.anchors(BORIS).names == ()
        assert store.anchors(ANNA).names == ("Smith^Anna",)


def test_a_pass_that_is_broken_off_goes_on_where_it_was(tmp_path, scanner, monkeypatch):
    monkeypatch.setattr(scan, "_BATCH", 4)
    names = [f"f{number:02d}" for number in range(10)]
    write(tmp_path / "dicom", *names)
    scanner.known = {name: header(sop_uid=f"1.{number}") for number, name in enumerate(names)}
    scanner.dies_at = "f09"
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, tmp_path / "dicom", scanner)
    assert len(scanner.parsed) == 9
    scanner.parsed.clear()
    scanner.dies_at = ""
    assert len(run(tmp_path, tmp_path / "dicom", scanner)["anna"]) == 10
    assert scanner.parsed == ["f08", "f09"]  # two batches of four were kept


def test_links_and_pipes_are_refused_and_never_opened(tmp_path, data, scanner):
    (data / "link").symlink_to(data / "a")
    (data / "out").symlink_to("/etc")
    os.mkfifo(data / "pipe")
    found = run(tmp_path, data, scanner)
    assert [(path, reason) for _, path, reason in found["refused"] if reason == "file-not-readable"] == [
        ("link", "file-not-readable"), ("out", "file-not-readable"), ("pipe", "file-not-readable")]
    assert sorted(scanner.parsed) == ["a", "b", "c"]


@pytest.mark.parametrize(("changes", "reason"), [
    ({"patient_id": ""}, "patient-missing"), ({"patient_id": "ANON"}, "patient-dummy"),
    ({"issuer": "OTHER"}, "issuer-differs")])
def test_files_whose_patient_is_not_sure_are_refused(tmp_path, data, scanner, changes, reason):
    scanner.known["a"] = header(**changes)
    found = run(tmp_path, data, scanner)
    assert ("data", "a", reason) in found["refused"]
    assert not found["anna"]


def test_an_opted_out_patient_leaves_no_trace_but_the_path(tmp_path, data, scanner):
    found = run(tmp_path, data, scanner, opted_out={ANNA})
    assert ("data", "a", "opted-out") in found["refused"]
    assert not found["anna"]
    assert found["boris"]
    content = (tmp_path / "index" / "index.sqlite").read_bytes()
    assert ANNA.encode() not in content
    assert BORIS.encode() in content


def test_opting_out_later_forgets_what_was_indexed(tmp_path, data, scanner):
    run(tmp_path, data, scanner)
    with closing(opened(tmp_path)) as store:
        store.opt_out([ANNA])
        assert not store.files("study_uid", "1.2", ANNA)
    found = run(tmp_path, data, scanner)
    assert ("data", "a", "opted-out") in found["refused"]
    assert found["parsed"] == 0
    content = (tmp_path / "index" / "index.sqlite").read_bytes()
    assert ANNA.encode() not in content
    assert BORIS.encode() in content


def test_other_settings_or_another_key_start_anew(tmp_path, data, scanner):
    run(tmp_path, data, scanner)
    scanner.parsed.clear()
    assert run(tmp_path, data, scanner, settings="other")["parsed"] == 3
    with closing(IndexStore(tmp_path / "index", bytes(32), "other")) as store:
        assert not store.files("study_uid", "1.2", ANNA)


def test_a_damaged_index_is_made_again(tmp_path, data, scanner):
    run(tmp_path, data, scanner)
    path = tmp_path / "index" / "index.sqlite"
    for beside in path.parent.glob("index.sqlite-*"):
        beside.unlink()
    path.write_bytes(b"SQLite format 3\x00" + b"\xff" * 4096)
    assert run(tmp_path, data, scanner)["parsed"] == 3


def test_a_name_is_nowhere_in_the_index_and_its_files_are_private(tmp_path, data, scanner):
    run(tmp_path, data, scanner)
    for path in (tmp_path / "index").iterdir():
        assert path.stat().st_mode & 0o077 == 0, path.name
        assert b"Smith" not in path.read_bytes()
        assert b"19610203" not in path.read_bytes()
    assert (tmp_path / "index").stat().st_mode & 0o077 == 0


def test_a_folder_that_does_not_exist_holds_nothing(tmp_path, scanner):
    assert run(tmp_path, tmp_path / "nowhere", scanner)["parsed"] == 0


def test_progress_ends_with_everything(tmp_path, data, scanner):
    shown: list[tuple[int, int]] = []
    run(tmp_path, data, scanner, progress=lambda done, total: shown.append((done, total)))
    assert shown[-1] == (3, 3)
