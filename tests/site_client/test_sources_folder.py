"""A folder of real reports and patches, joined patient by patient; faults are refused, never joined."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pydicom
import pytest

from simulations.packages import load_pairs, load_reports
from simulations.site_folder import ALIKE_QUESTION, NORMAL_QUESTION, write_site_folder
from site_client.records import REASONS, SiteIndex, checked_patient_id, pseudonym
from site_client.sources.folder import read_folder

KEY = bytes(range(32))
NUM_REPORTS, NUM_IMAGES = 6, 2


@pytest.fixture(scope="module")
def data():
    return load_reports(), load_pairs()


@pytest.fixture(scope="module")
def written(data, tmp_path_factory) -> Path:
    reports, pairs = data
    folder = tmp_path_factory.mktemp("site") / "data"
    images = [pairs[10 * k : 10 * k + 10] for k in range(NUM_IMAGES)]
    write_site_folder(folder, reports[:NUM_REPORTS], images, public=reports[50:90], seed=0)
    return folder


@pytest.fixture
def site(written, tmp_path) -> Path:
    return Path(shutil.copytree(written, tmp_path / "data"))


def read(site: Path, **options) -> SiteIndex:
    return read_folder(site, pseudonym_key=KEY, **options)


def examples_of(index: SiteIndex, patient: str, source: str):
    name = pseudonym(KEY, "", patient)
    found = [record for record in index.patients if record.pseudonym == name]
    return found[0].examples.get(source, ()) if found else ()


def append(path: Path, *cells: str) -> None:
    with path.open("a", encoding="utf-8") as stream:
        stream.write(",".join(cells) + "\n")


def files(site: Path, patient: str) -> list[Path]:
    return sorted((site / "dicom" / patient).iterdir())


def change(path: Path, **values: str) -> None:
    dataset = pydicom.dcmread(path)
    for keyword, value in values.items():
        setattr(dataset, keyword, value)
    dataset.save_as(path)


def test_a_whole_folder_becomes_one_record_a_patient(site, data):
    index = read(site)
    assert not index.refused
    assert len(index.patients) == NUM_REPORTS + NUM_IMAGES
    by_source = [{source: len(found) for source, found in record.examples.items()} for record in index.patients]
    of_reports = "{'reports': 1, 'impressions': 1}"
    assert sorted(map(str, by_source)) == ["{'patches': 10}"] * NUM_IMAGES + [of_reports] * NUM_REPORTS


def test_a_report_question_opens_with_the_findings(site, data):
    report = data[0][0]
    (normal,) = examples_of(read(site), f"CXR{report.number}", "reports")
    (impression,) = examples_of(read(site), f"CXR{report.number}", "impressions")
    assert normal.question == f"Findings: {report.findings} {NORMAL_QUESTION}"
    assert (normal.answer, normal.choices) == ("normal", ("normal", "abnormal"))
    assert impression.choices == ("A", "B")
    assert f"{impression.answer}: {report.impression}" in impression.question
    assert normal.images == ()


def test_an_image_question_carries_both_patches_in_order(site, data):
    examples = examples_of(read(site), "DERM001", "patches")
    assert len(examples) == 10
    for pair, example in zip(data[1][10:20], examples, strict=True):
        assert example.question == ALIKE_QUESTION
        assert example.answer == ("yes" if pair.alike else "no")
        assert np.array_equal(example.images[0], pair.first)
        assert np.array_equal(example.images[1], pair.second)


def test_nothing_that_identifies_a_patient_is_in_a_record(site):
    index = read(site)
    keys = [example.key for record in index.patients for found in record.examples.values() for example in found]
    assert len(set(keys)) == len(keys)
    shown = " ".join(keys) + " ".join(record.pseudonym for record in index.patients)
    assert "CXR" not in shown
    assert "DERM" not in shown


def test_the_order_of_rows_does_not_matter(site):
    before = read(site)
    for name in ("questions.csv", "reports.csv"):
        header, *lines = (site / name).read_text().splitlines(keepends=True)
        (site / name).write_text(header + "".join(reversed(lines)))
    after = read(site)
    assert [record.pseudonym for record in after.patients] == [record.pseudonym for record in before.patients]
    for one, two in zip(before.patients, after.patients, strict=True):
        assert [e.key for found in one.examples.values() for e in found] == [
            e.key for found in two.examples.values() for e in found
        ]


def test_removing_a_patient_leaves_the_others_as_they_were(site):
    before = read(site)
    shutil.rmtree(site / "dicom" / "DERM000")
    for name in ("questions.csv", "reports.csv"):
        lines = (site / name).read_text().splitlines(keepends=True)
        (site / name).write_text("".join(line for line in lines if not line.startswith(("DERM000,", "CXR1,"))))
    after = read(site)
    assert not after.refused
    gone = {pseudonym(KEY, "", patient) for patient in ("DERM000", "CXR1")}
    kept = [record for record in before.patients if record.pseudonym not in gone]
    assert len(kept) == len(before.patients) - 2
    assert str([_content(record) for record in kept]) == str([_content(record) for record in after.patients])


def _content(record):
    return record.pseudonym, {
        source: [(e.key, e.question, e.answer, [i.tobytes() for i in e.images]) for e in found]
        for source, found in record.examples.items()
    }


def test_a_question_about_another_patients_report_or_image_is_refused(site):
    uids = ";".join(path.stem for path in (files(site, "DERM000")[0], files(site, "DERM001")[0]))
    append(site / "questions.csv", "DERM000", "mix", "alike", "", uids, "Alike?", "yes|no", "yes")
    append(site / "questions.csv", "CXR1", "other", "normal", "A-CXR2", "", "Normal?", "yes|no", "yes")
    append(site / "questions.csv", "CXR1", "none", "normal", "A-NONE", "", "Normal?", "yes|no", "yes")
    append(site / "questions.csv", "DERM000", "none", "alike", "", "1.2.3", "Alike?", "yes|no", "yes")
    index = read(site)
    assert index.reasons() == {"image-unknown": 1, "patient-mismatch": 2, "report-unknown": 1}
    assert [len(examples_of(index, "CXR1", source)) for source in ("reports", "impressions")] == [1, 1]
    assert len(examples_of(index, "DERM000", "patches")) == 10


def test_a_file_whose_header_names_another_patient_is_not_joined(site):
    change(files(site, "DERM000")[0], PatientID="DERM001")
    index = read(site)
    assert index.reasons() == {"patient-mismatch": 1}
    assert len(examples_of(index, "DERM000", "patches")) == 9


def test_an_identifier_that_another_patient_claims_is_reported_and_takes_nothing_away(site):
    before = {record.pseudonym: record.examples for record in read(site).patients}
    original = files(site, "DERM000")[0]
    copy = site / "dicom" / "DERM001" / "copy.dcm"
    shutil.copy(original, copy)
    change(copy, PatientID="DERM001")
    append(site / "reports.csv", "CXR2", "A-CXR1", "other findings", "imp")
    index = read(site)
    assert index.reasons() == {}
    assert [refusal.reason for refusal in index.suspect] == ["identity-conflict"] * 4  # two files, two reports
    assert keys_and_pixels(before) == keys_and_pixels({r.pseudonym: r.examples for r in index.patients})


def test_adding_a_patient_leaves_every_other_patients_samples_as_they_were(site):
    before = {record.pseudonym: record.examples for record in read(site).patients}
    append(site / "reports.csv", "NEW", "A-CXR1", "a report under a number that is taken", "imp")
    append(site / "questions.csv", "NEW", "q", "normal", "A-CXR1", "", "Normal?", "yes|no", "yes")
    after = {record.pseudonym: record.examples for record in read(site).patients}
    assert len(after) == len(before) + 1
    assert keys_and_pixels(before) == keys_and_pixels({name: after[name] for name in before})


def keys_and_pixels(patients):
    """Examples as plain values that compare by content."""
    return {
        name: {source: [(e.question, e.answer, e.choices, e.key, [image.tobytes() for image in e.images])
                        for e in examples] for source, examples in by_source.items()}
        for name, by_source in patients.items()}


def test_repeats_by_the_same_patient_count_once(site):
    original = files(site, "DERM000")[0]
    shutil.copy(original, original.with_name("zz-copy.dcm"))
    for name in ("reports.csv", "questions.csv"):
        append(site / name, (site / name).read_text().splitlines()[1])
    index = read(site)
    assert index.reasons() == {"identifier-repeated": 3}
    assert [len(examples_of(index, "CXR1", source)) for source in ("reports", "impressions")] == [1, 1]


def test_damaged_files_are_refused_and_the_rest_is_read(site):
    first, second, third, *_ = files(site, "DERM000")
    first.write_bytes(first.read_bytes()[:-1000])
    second.write_bytes(b"not DICOM")
    change(third, PatientID="")
    (site / "dicom" / "notes.txt").write_text("Jane Doe")
    (site / "dicom" / "loop").symlink_to(site, target_is_directory=True)
    index = read(site)
    reasons = index.reasons()
    assert reasons["file-not-readable"] == 1
    assert reasons["patient-missing"] == 1
    assert sum(reasons[code] for code in ("dicom-unreadable", "pixels-truncated") if code in reasons) == 3
    assert reasons["image-unknown"] in (2, 3)
    assert len(examples_of(index, "DERM000", "patches")) == 10 - reasons["image-unknown"]
    assert len(examples_of(index, "DERM001", "patches")) == 10
    assert all(refusal.reason in REASONS for refusal in index.refused)


def test_the_issuer_is_part_of_the_pseudonym_and_strangers_are_refused(site):
    for path in files(site, "DERM000"):
        change(path, IssuerOfPatientID="NORTH")
    assert read(site).reasons() == {"image-unknown": 10, "issuer-differs": 20}
    index = read(site, issuer="NORTH")
    assert not index.refused
    assert pseudonym(KEY, "NORTH", checked_patient_id("derm000")) in {record.pseudonym for record in index.patients}
    assert not {r.pseudonym for r in index.patients} & {r.pseudonym for r in read(site).patients}


def test_progress_counts_the_files(site):
    calls: list[tuple[int, int]] = []
    read(site, progress=lambda done, total: calls.append((done, total)))
    assert calls == [(k, 40) for k in range(1, 41)]


def test_a_site_may_have_only_reports_or_only_images(site):
    lines = (site / "questions.csv").read_text().splitlines(keepends=True)
    shutil.rmtree(site / "dicom")
    (site / "questions.csv").write_text("".join(line for line in lines if not line.startswith("DERM")))
    assert len(read(site).patients) == NUM_REPORTS
    (site / "questions.csv").write_text(lines[0])
    (site / "reports.csv").unlink()
    assert read(site) == SiteIndex((), ())


def test_missing_parts_are_one_sentence(site, tmp_path):
    with pytest.raises(ValueError, match="data folder does not exist"):
        read(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="at least 16"):
        read_folder(site, pseudonym_key=b"short")
    (site / "reports.csv").unlink()
    with pytest.raises(ValueError, match=r"^reports.csv is missing"):
        read(site)
