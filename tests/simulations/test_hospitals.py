"""Hospitals of real data: valid files, disjoint patients, one patient per sample, all or nothing on disk."""

from __future__ import annotations

import csv
import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pydicom
import pytest

from simulations import hospitals
from simulations.hospitals import HospitalsConfig, make_hospitals, read_manifest
from simulations.packages import load_reports
from simulations.site_folder import IMPRESSION_QUESTION

SMALL = HospitalsConfig(
    num_public_reports=30,
    num_test_reports=12,
    num_public_images=2,
    num_test_images=2,
    max_reports=60,
    max_images=7,
)
SITES = ("site-1", "site-2", "site-3", "site-4")


def rows(folder: Path, name: str) -> list[dict[str, str]]:
    with (folder / name).open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    return make_hospitals(tmp_path_factory.mktemp("hospitals") / "out", SMALL)


def test_the_same_configuration_gives_the_same_bytes(made, tmp_path):
    again = make_hospitals(tmp_path / "again", SMALL)
    assert read_manifest(again) == read_manifest(made)
    other = make_hospitals(tmp_path / "other", dataclasses.replace(SMALL, seed=5))
    assert read_manifest(other)["test_fold"] == read_manifest(made)["test_fold"]
    assert read_manifest(other)["files_sha256"] != read_manifest(made)["files_sha256"]


def test_patients_are_disjoint_and_sites_unequal_and_skewed(made):
    seen: set[str] = set()
    for name in (*SITES, "public", "test"):
        patients = {row["PatientID"] for row in rows(made / name, "questions.csv")}
        assert not patients & seen
        seen |= patients
    counts = read_manifest(made)["counts"]
    assert [counts[name]["reports"] for name in SITES] == [21, 18, 12, 9]
    assert [counts[name]["images"] for name in SITES] == [3, 2, 1, 1]
    shares = [counts[name]["normal_reports"] / counts[name]["reports"] for name in SITES]
    assert max(shares) - min(shares) > 0.3


def test_manifest_counts_what_is_on_disk(made):
    counts = read_manifest(made)["counts"]
    for name, count in counts.items():
        assert len(rows(made / name, "reports.csv")) == count["reports"]
        assert len(rows(made / name, "questions.csv")) == count["samples"]
        assert len(list((made / name / "dicom").rglob("*.dcm"))) == count["dicom_files"]


def test_every_row_is_one_line_as_the_site_guide_demands(made):
    for name in (*SITES, "public", "test"):
        for table in ("reports.csv", "questions.csv"):
            assert len((made / name / table).read_bytes().splitlines()) == 1 + len(rows(made / name, table))


def test_labels_come_from_the_reports(made):
    normal = {f"CXR{report.number}": report.normal for report in load_reports()}
    asked = [row for row in rows(made / "site-1", "questions.csv") if row["Kind"] == "normal"]
    assert len(asked) == 21
    assert all((row["Answer"] == "normal") == normal[row["PatientID"]] for row in asked)


def test_a_wrong_impression_is_a_public_patients_and_of_the_other_label(made):
    public = {row["PatientID"] for row in rows(made / "public", "reports.csv")}
    by_patient = {f"CXR{report.number}": report for report in load_reports()}
    letters = set()
    for name in (*SITES, "public", "test"):
        for row in rows(made / name, "questions.csv"):
            if row["Kind"] != "impression":
                continue
            own = by_patient[row["PatientID"]]
            wrong = [
                patient
                for patient in public
                if row["Question"] == _question(row["Answer"], own.impression, by_patient[patient].impression)
                and by_patient[patient].impression != own.impression
                and by_patient[patient].normal != own.normal
            ]
            assert wrong, "the distractor is no public patient's impression of the other label"
            letters.add(row["Answer"])
    assert letters == {"A", "B"}


def _question(answer: str, own: str, wrong: str) -> str:
    return IMPRESSION_QUESTION.format(a=own, b=wrong) if answer == "A" else IMPRESSION_QUESTION.format(a=wrong, b=own)


def test_one_patients_samples_do_not_depend_on_who_else_is_there(made, tmp_path):
    fewer = make_hospitals(tmp_path / "fewer", dataclasses.replace(SMALL, max_reports=20, max_images=0))
    before, after = ({}, {})
    for folder, questions in ((made, before), (fewer, after)):
        for name in SITES:
            questions.update({row["QuestionID"]: row for row in rows(folder / name, "questions.csv")})
    assert len(after) == 40
    assert all(before[key] == row for key, row in after.items())


def test_dicom_files_are_complete_and_hold_the_patches(made):
    asked = [row for row in rows(made / "site-1", "questions.csv") if row["Kind"] == "alike"]
    assert len(asked) == 30
    uids = [uid for row in asked for uid in row["SOPInstanceUIDs"].split(";")]
    assert len(set(uids)) == 60
    for row in asked[:4]:
        for uid in row["SOPInstanceUIDs"].split(";"):
            dataset = pydicom.dcmread(made / "site-1" / "dicom" / row["PatientID"] / f"{uid}.dcm")
            assert dataset.SOPInstanceUID == uid == dataset.file_meta.MediaStorageSOPInstanceUID
            assert dataset.SOPClassUID == dataset.file_meta.MediaStorageSOPClassUID == "1.2.840.10008.5.1.4.1.1.77.1.4"
            assert dataset.file_meta.TransferSyntaxUID == "1.2.840.10008.1.2.1"
            assert dataset.SOPInstanceUID.is_valid
            assert dataset.PatientID == row["PatientID"]
            assert dataset.pixel_array.shape == (32, 32, 3)
            assert dataset.pixel_array.dtype == np.uint8


def test_finished_hospitals_are_reused_and_others_not_overwritten(made):
    before = (made / "manifest.json").stat().st_mtime_ns
    assert make_hospitals(made, SMALL) == made
    assert (made / "manifest.json").stat().st_mtime_ns == before
    with pytest.raises(ValueError, match="another configuration"):
        make_hospitals(made, dataclasses.replace(SMALL, seed=1))


def test_an_interrupted_run_leaves_nothing_behind(tmp_path, monkeypatch):
    written = []

    def stops_at_the_third(folder, *args, **kwargs):
        written.append(folder)
        folder.mkdir()
        if len(written) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(hospitals, "write_site_folder", stops_at_the_third)
    with pytest.raises(KeyboardInterrupt):
        make_hospitals(tmp_path / "out", SMALL)
    assert len(written) == 3
    assert list(tmp_path.iterdir()) == []


def test_hospitals_appear_by_one_rename(tmp_path, monkeypatch):
    def full_disk(source, target):
        assert read_manifest(source)
        assert not target.exists()
        raise OSError

    monkeypatch.setattr(hospitals.os, "replace", full_disk)
    with pytest.raises(OSError):
        make_hospitals(tmp_path / "out", SMALL)
    assert list(tmp_path.iterdir()) == []


def test_losing_a_race_takes_the_winners_work(made, tmp_path, monkeypatch):
    out, write_all = tmp_path / "out", hospitals._write_all

    def meanwhile(folder, config):
        shutil.copytree(made, out)
        return write_all(folder, config)

    monkeypatch.setattr(hospitals, "_write_all", meanwhile)
    assert make_hospitals(out, SMALL) == out
    assert list(tmp_path.iterdir()) == [out]


def test_a_half_written_folder_is_never_taken_for_finished(tmp_path):
    (tmp_path / "site-1").mkdir()
    with pytest.raises(ValueError, match="no finished hospitals"):
        make_hospitals(tmp_path, SMALL)


@pytest.mark.parametrize(
    "change", [{"seed": -1}, {"site_shares": (0.5, 0.4)}, {"site_shares": (1.5, -0.5)}, {"max_reports": -1}]
)
def test_bad_configurations_are_refused(change):
    with pytest.raises(ValueError, match="must"):
        dataclasses.replace(SMALL, **change)
