"""The whole index, on real DICOM files: decoded once, cached, joined, and the same however it came about."""

from __future__ import annotations

import csv
import os
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom.data
import pytest
from pydicom import dcmread

from configs.site_data import ImagesConfig
from model.inputs import Example, tiles_of
from model.spec import TINY
from site_client.imaging.sandbox import Sandbox
from site_client.indexing.build import IndexSettings, build_index
from site_client.indexing.tile_cache import CachedImage, TileForm
from site_client.records import SiteIndex, pseudonym
from site_client.sources.tables import FolderSource

KEY = bytes(range(32))
REAL = Path(pydicom.data.__file__).parent / "test_files"
FORM = TileForm(TINY.image_size, TINY.max_tiles)
FILES = {"CT_small.dcm": "CT1", "MR_small.dcm": "MR1", "MR_small_RLE.dcm": "MR1", "JPEG2000.dcm": "NM1"}


class CountingSandbox:
    """The real sandbox, and what was asked of it."""

    def __init__(self) -> None:
        self._sandbox = Sandbox(ImagesConfig()).__enter__()
        self.scanned = self.rendered = 0

    def get(self) -> CountingSandbox:
        return self

    def scan(self, paths: Sequence[Path]):
        self.scanned += len(paths)
        return self._sandbox.scan(paths)

    def render(self, path: Path, frames: Sequence[int]):
        self.rendered += 1
        return self._sandbox.render(path, frames)

    def close(self) -> None:
        self._sandbox.__exit__(None, None, None)


@pytest.fixture(scope="module")
def sandbox():
    made = CountingSandbox()
    yield made
    made.close()


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A hospital of three patients, with a question about each study and a report for one."""
    folder = tmp_path / "data"
    (folder / "dicom").mkdir(parents=True)
    rows = []
    for number, (name, patient) in enumerate(FILES.items()):
        dataset = dcmread(REAL / name)
        dataset.PatientID, dataset.PatientName = patient, "Okonkwo^Ifeoma"
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = f"1.9.{number}"
        dataset.AccessionNumber = f"ACC{number}"
        dataset.save_as(folder / "dicom" / name)
        rows.append([patient, f"q{number}", "question", "", f"1.9.{number}", "Which modality is this?", "",
                     str(dataset.Modality)])
    write_rows(folder / "questions.csv", rows)
    (folder / "reports.csv").write_text(
        "PatientID,AccessionNumber,Findings,Impression\nCT1,ACC0,A small phantom.,Normal.\n")
    return folder


def write_rows(path: Path, rows: Sequence[Sequence[str]]) -> None:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([
            ["PatientID", "QuestionID", "Kind", "AccessionNumber", "SOPInstanceUIDs", "Question", "Choices", "Answer"],
            *rows])


def settings(data: Path, **changes: object) -> IndexSettings:
    made = IndexSettings(folder=data.parent / "index", key=KEY, form=FORM, images=ImagesConfig(burned_in="accept"))
    return replace(made, **changes)  # type: ignore[arg-type]


def build(data: Path, sandbox: CountingSandbox, **changes: object) -> SiteIndex:
    sandbox.scanned = sandbox.rendered = 0
    return build_index([FolderSource(data)], settings(data, **changes), parser=sandbox)


def examples(index: SiteIndex, patient: str) -> dict[str, tuple[Example, ...]]:
    name = pseudonym(KEY, "", patient)
    return next((dict(one.examples) for one in index.patients if one.pseudonym == name), {})


def test_real_scanners_files_become_samples_with_tiles(data, sandbox):
    index = build(data, sandbox)
    assert not index.refused
    assert {source: len(found) for source, found in examples(index, "CT1").items()} == {"studies": 1, "questions": 1}
    assert [one.answer for one in examples(index, "MR1")["questions"]] == ["MR", "MR"]
    (image,) = examples(index, "CT1")["questions"][0].images
    assert isinstance(image, CachedImage)
    (tiles,) = tiles_of(examples(index, "CT1")["questions"][0], TINY)
    assert tiles.shape == (image.count, 3, TINY.image_size, TINY.image_size)
    assert float(tiles.std()) > 0.1
    assert index.files["modalities"] == {"MR": 2, "CT": 1, "NM": 1}


def test_a_second_pass_parses_and_decodes_nothing(data, sandbox):
    first = build(data, sandbox)
    assert (sandbox.scanned, sandbox.rendered) == (4, 4)
    second = build(data, sandbox)
    assert (sandbox.scanned, sandbox.rendered) == (0, 0)
    assert [one.pseudonym for one in second.patients] == [one.pseudonym for one in first.patients]
    assert [e.key for p in second.patients for s in p.examples.values() for e in s] == [
        e.key for p in first.patients for s in p.examples.values() for e in s]


def test_the_same_picture_in_two_encodings_is_the_same_to_the_model(data, sandbox):
    plain, compressed = (tiles_of(one, TINY)[0] for one in examples(build(data, sandbox), "MR1")["questions"])
    assert plain.equal(compressed)


def test_a_lost_cache_is_made_again_and_an_unneeded_picture_goes(data, sandbox):
    build(data, sandbox)
    tiles = data.parent / "index" / "tiles"
    assert len(list(tiles.rglob("*.npy"))) == 4
    shutil.rmtree(tiles)
    index = build(data, sandbox)
    assert sandbox.rendered == 4
    assert tiles_of(examples(index, "NM1")["questions"][0], TINY)
    (data / "dicom" / "JPEG2000.dcm").unlink()
    index = build(data, sandbox)
    assert [one.reason for one in index.refused] == ["image-unknown"]
    assert len(list(tiles.rglob("*.npy"))) == 3


def test_a_changed_file_gives_another_picture(data, sandbox):
    before = tiles_of(examples(build(data, sandbox), "CT1")["questions"][0], TINY)[0]
    path = data / "dicom" / "CT_small.dcm"
    dataset = dcmread(path)
    dataset.PixelData = np.flipud(dataset.pixel_array).tobytes()
    dataset.save_as(path)
    os.utime(path, (1_800_000_000, 1_800_000_000))
    after = tiles_of(examples(build(data, sandbox), "CT1")["questions"][0], TINY)[0]
    assert sandbox.rendered == 1
    assert not before.equal(after)


def test_damaged_pixels_are_refused_with_a_reason_and_so_is_the_question(data, sandbox):
    path = data / "dicom" / "JPEG2000.dcm"
    content = bytearray(path.read_bytes())
    start = content.index(b"\xff\x4f\xff\x51")
    content[start + 20 : start + 400] = bytes(380)
    path.write_bytes(content)
    index = build(data, sandbox)
    assert {one.item.split("/")[0]: one.reason for one in index.refused}["questions.csv line 5"] == "image-unknown"
    assert any(one.item == "dicom/JPEG2000.dcm" and one.reason != "image-unknown" for one in index.refused)
    assert examples(index, "CT1")
    assert not examples(index, "NM1")


def test_suspects_of_burned_in_text_are_refused_unless_the_site_opts_in(data, sandbox):
    path = data / "dicom" / "CT_small.dcm"
    dataset = dcmread(path)
    dataset.BurnedInAnnotation = "YES"
    dataset.save_as(path)
    index = build(data, sandbox, images=ImagesConfig())
    assert ("dicom/CT_small.dcm", "burned-in-text") in {(one.item, one.reason) for one in index.refused}
    assert not examples(index, "CT1")
    index = build(data, sandbox, images=ImagesConfig(burned_in_accept=["CT"]))
    assert examples(index, "CT1")


def test_small_data_may_be_read_whole(data, sandbox):
    index = build(data, sandbox, form=None)
    (image,) = examples(index, "CT1")["questions"][0].images
    assert isinstance(image, np.ndarray)
    assert image.shape == (128, 128, 3)


def test_an_opt_out_list_that_vanished_stops_everything(data, sandbox):
    gone = pseudonym(KEY, "", "CT1")
    index = build(data, sandbox, opted_out=frozenset({gone}))
    assert not examples(index, "CT1")
    assert {one.reason for one in index.refused} == {"opted-out"}
    with pytest.raises(ValueError, match="opt-out list is gone"):
        build(data, sandbox)
    assert examples(build(data, sandbox, opted_out=frozenset()), "CT1")


def test_a_patients_samples_are_bounded_by_that_patients_own(data, sandbox):
    with (data / "questions.csv").open("a", newline="") as file:
        csv.writer(file).writerows(["CT1", f"more{number}", "question", "", "1.9.0", f"Question {number}?", "", "yes"]
                                   for number in range(20))
    index = build(data, sandbox, most_samples=5)
    kept = examples(index, "CT1")["questions"]
    assert len(kept) == 5
    assert [one.reason for one in index.refused] == ["patient-bound"] * 16
    (data / "dicom" / "MR_small.dcm").unlink()
    again = build(data, sandbox, most_samples=5)
    assert [one.key for one in examples(again, "CT1")["questions"]] == [one.key for one in kept]


def test_hits_are_counted_by_kind_and_stand_in_the_private_review_file_only(data, sandbox):
    (data / "reports.csv").write_text("PatientID,AccessionNumber,Findings,Impression\n"
                                      "CT1,ACC0,Ms Okonkwo has clear lungs.,Normal.\n")
    index = build(data, sandbox)
    assert sum(index.phi_hits.values()) >= 1
    assert [one.reason for one in index.refused] == ["phi-found"]
    review = data.parent / "index" / "phi-review.txt"
    assert "Okonkwo" in review.read_text()
    assert review.stat().st_mode & 0o077 == 0
    for path in (data.parent / "index").rglob("*"):
        assert path == review or not path.is_file() or b"Okonkwo" not in path.read_bytes(), path.name
