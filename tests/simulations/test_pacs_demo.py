"""The archive demo: how real files become hospitals, what is told of an index, and the whole story once."""

from __future__ import annotations

import base64
import io
import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from simulations.archive_lab import cannot_run, sample_files
from simulations.checked_story import Story, index_numbers
from simulations.pacs_corpus import (
    Hospital,
    Patient,
    Picture,
    Study,
    first_reports,
    hospitals,
    patients_of,
    questions,
    report_id,
    write_questions,
)
from simulations.pacs_demo import main, new_folder
from site_client.index_facts import index_facts, index_text
from site_client.records import PatientRecord, Refusal, SiteIndex

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def dealt() -> tuple[Hospital, ...]:
    return hospitals(patients_of(sample_files()), 3)


def study(uid: str, modality: str = "CT", part: str = "head", rows: int = 16) -> Study:
    return Study(uid, (Picture(Path("a"), f"{uid}.1", modality, part, False, 1, rows, 32),))


# ------------------------------------------------------------------ real files


def test_no_patient_is_at_two_hospitals_and_every_hospital_has_pictures(dealt):
    everybody = [one.patient_id for hospital in dealt for one in hospital.patients]
    assert len(everybody) == len(set(everybody)) >= 20
    assert all(sum(one.has_pictures for one in hospital.patients) >= 5 for hospital in dealt)
    assert [hospital.later is not None for hospital in dealt] == [True, False, False]


def test_files_without_a_usable_patient_are_left_out_and_images_come_once(dealt):
    taken = [file for hospital in dealt for one in hospital.patients for part in one.studies for file in part.files]
    assert len({file.uid for file in taken}) == len(taken) == len({file.path for file in taken})
    assert "emri_small.dcm" not in {file.path.name for file in taken}  # a real MR without a PatientID
    assert {file.modality for file in taken} >= {"CR", "CT", "MR", "US", "ECG", "SEG"}


def test_the_study_that_comes_later_is_not_there_at_first(dealt):
    first = dealt[0]
    assert {file.path for file in first.later.files}.isdisjoint(first.files)
    assert first.later.uid not in {part.uid for part in first.patients[0].studies}


def test_too_few_patients_are_told():
    with pytest.raises(ValueError, match="pip install pydicom-data"):
        hospitals([Patient("1", "", tuple(study(f"1.{n}") for n in range(4)))], 3)


# ------------------------------------------------------------------ texts


def test_answers_are_what_the_header_says():
    asked = list(questions(Patient("P1", "Doe^A", ()), [study("1.2"), study("1.3", part=""), study("1.4", rows=0)]))
    assert [(one["sop_instance_uids"][0], one["answer"]) for one in asked] == [
        ("1.2.1", "CT"), ("1.2.1", "grey"), ("1.2.1", "head"), ("1.3.1", "CT"), ("1.3.1", "grey")]
    assert all(one["answer"] in one.get("choices", [one["answer"]]) for one in asked)


def test_questions_of_the_later_study_come_with_it(tmp_path, dealt):
    write_questions(tmp_path, dealt[0])
    before = (tmp_path / "questions.jsonl").read_text().splitlines()
    write_questions(tmp_path, dealt[0], with_later=True)
    after = (tmp_path / "questions.jsonl").read_text().splitlines()
    assert after[: len(before)] == before
    assert {dealt[0].later.pictures[0].uid} == {json.loads(row)["sop_instance_uids"][0] for row in after[len(before):]}
    assert [path.name for path in tmp_path.iterdir()] == ["questions.jsonl"]


def test_one_report_names_its_patient_and_one_is_mixed_up():
    ill = Patient("P1", "Doe^Jane", (study("1.1"), study("1.2"), study("1.3")))
    made = first_reports(Hospital("site-1", (ill, Patient("P2", "Roe^Ann", (study("1.9"),))), study("1.4")))
    found = {one["id"]: one for one in made if one["resourceType"] == "DiagnosticReport"}
    texts = {name: base64.b64decode(one["presentedForm"][0]["data"]).decode() for name, one in found.items()}
    assert [name for name, text in texts.items() if "Jane Doe" in text] == [report_id(ill.studies[1])]
    assert found[report_id(ill.studies[2])]["subject"] == {"reference": "Patient/P2"}
    assert texts[report_id(ill.studies[0])] == (
        "FINDINGS: 1 picture of the head by computed tomography, 32 by 16 pixels, grey.\n"
        "IMPRESSION: computed tomography of the head.")


# ------------------------------------------------------------------ the story


def test_the_numbers_of_an_index_are_read_from_what_it_prints():
    index = SiteIndex((PatientRecord("a" * 64, {"studies": ("x", "y"), "questions": ("z",)}),),  # type: ignore[dict-item]
                      (Refusal("f", "phi-found"), Refusal("g", "localizer"), Refusal("h", "localizer")))
    facts = index_facts("site-1", index) | {"mirrors": {
        "pacs": {"new": 4, "known": 27, "failed": 2}, "ris": {"new": 0, "known": 9, "failed": 0}}}
    assert index_numbers(index_text(facts)) == {
        "mirrors": {"pacs": (4, 27, 2), "ris": (0, 9, 0)}, "patients": 1,
        "sources": {"questions": (1, 1), "studies": (2, 1)}, "reasons": {"phi-found": 1, "localizer": 2}}
    with pytest.raises(ValueError, match="no line says how many patients"):
        index_numbers("something else")


def test_a_fact_that_does_not_hold_is_told_as_such():
    story = Story(io.StringIO())
    story.check("water is wet", True)
    story.check("fire is cold", False)
    story.close()
    told = story.out.getvalue()
    assert "ok     water is wet\n  FAILED fire is cold\n" in told and "1 FAILED: 2 facts" in told
    assert story.summary()["facts"][1] == {"fact": "fire is cold", "ok": False} and story.failed == ["fire is cold"]


def test_only_a_folder_of_its_own_is_made_anew(tmp_path):
    (tmp_path / "thesis.txt").touch()
    with pytest.raises(ValueError, match="somebody else"):
        new_folder(tmp_path)
    assert (tmp_path / "thesis.txt").exists()
    made = new_folder(tmp_path / "demo")
    (made / "old").touch()
    assert not (new_folder(made) / "old").exists()
    assert stat.S_IMODE(made.stat().st_mode) == 0o700


def test_without_an_archive_it_says_what_to_install(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr("simulations.archive_lab.cannot_run", lambda: "the archive needs orthanc")
    assert main(["--folder", str(tmp_path / "demo")]) == 2
    assert capsys.readouterr().err == "pacs-demo: the archive needs orthanc\n"
    assert not (tmp_path / "demo").exists()


@pytest.mark.demos
@pytest.mark.slow
@pytest.mark.timeout(900)
def test_from_the_archive_to_a_private_round(tmp_path):
    if reason := cannot_run():
        if os.environ.get("CI", "").lower() == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    done = subprocess.run(
        [sys.executable, "-m", "simulations.pacs_demo", "--folder", str(tmp_path / "demo"), "--json"], cwd=ROOT,
        capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-6000:]
    found = json.loads(done.stdout)
    assert found["failed"] == 0 and len(found["facts"]) >= 18, done.stderr[-6000:]
    assert found["rounds"] == 1 and all(0 < value <= 6 for value in found["epsilon"].values())
    assert len(found["epsilon"]) == 3
