"""What one patient's rows and files say decides about that patient: not about others, and not about whether there is an
index at all."""

from __future__ import annotations

import csv
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from configs.site_data import ImagesConfig, PhiConfig
from site_client.imaging import burned_in
from site_client.imaging.sandbox import Rendered
from site_client.indexing.build import IndexSettings, build_index
from site_client.indexing.index_store import IndexStore, Scanned, modified_ns
from site_client.indexing.matching import Matcher
from site_client.indexing.pictures import CachedPictures
from site_client.indexing.scan import scan_folders
from site_client.indexing.texts import TextGate
from site_client.indexing.tile_cache import TileCache, TileForm
from site_client.phi.anchors import Anchors
from site_client.records import SiteIndex, checked_patient_id, pseudonym
from site_client.sources.interface import Question, Report
from site_client.sources.tables import FolderSource
from tests.site_client.made_headers import KEY, header

COLUMNS = ["PatientID", "QuestionID", "Kind", "AccessionNumber", "SOPInstanceUIDs", "Question", "Choices", "Answer"]
PLAIN = {"PatientID": "P1", "QuestionID": "q", "Kind": "question", "Question": "Well?", "Answer": "yes"}
REPORT = Report("reports.csv line 2", "P1", "", "1.2", "A1", "Clear lungs.", "Normal.")
QUESTION = Question("questions.csv line 2", "P1", "q1", "question", "What is seen?", (), "Nothing.")
FORM = TileForm(28, 4)


def index_of(tmp_path: Path, *rows: dict[str, str], reports: str = "", **images: object) -> SiteIndex:
    data = tmp_path / "data"
    data.mkdir(exist_ok=True)
    with (data / "questions.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)
    if reports:
        (data / "reports.csv").write_text(reports)
    settings = IndexSettings(folder=tmp_path / "index", key=KEY, form=FORM, images=ImagesConfig(**images))
    return build_index([FolderSource(data)], settings)


@pytest.mark.parametrize("of_another", ["", "P3,A3,Lungs are clear.,\n", "P3,A3,,\n"])
def test_a_question_about_a_report_ends_no_index_because_of_whose_reports_there_are(tmp_path, of_another):
    """Another patient's report must not decide whether there is an index."""
    about = PLAIN | {"PatientID": "P2", "Kind": "normal", "AccessionNumber": "A2"}
    index = index_of(tmp_path, PLAIN, about, reports="PatientID,AccessionNumber,Findings,Impression\n" + of_another)
    assert [one.pseudonym for one in index.patients] == [pseudonym(KEY, "", "P1")]
    assert "report-unknown" in index.reasons()


def test_a_missing_text_reader_is_told_before_a_suspect_picture_asks_for_it(tmp_path, monkeypatch):
    monkeypatch.setattr(burned_in.shutil, "which", lambda *_, **__: None)
    with pytest.raises(ValueError, match="tesseract"):
        index_of(tmp_path, PLAIN, burned_in="ocr")
    assert index_of(tmp_path, PLAIN, burned_in="refuse").patients


def joined(folder: Path, questions: list[Question], reports: list[Report], on_hit: str = "refuse"):
    with closing(IndexStore(folder, KEY, "")) as store:
        store.put([Scanned("data", "a", 1, 1, pseudonym(KEY, "", "P1"), header())])
        matcher = Matcher(store, TextGate(store, PhiConfig(on_hit=on_hit), KEY), ImagesConfig(), key=KEY, issuer="")
        matcher.add_reports(reports)
        found = list(matcher.candidates([("data", one) for one in questions], of_reports=True))
        return found, [(one.item, one.reason) for one in matcher.refused]


@pytest.mark.parametrize("changes", [
    {"patient_id": "\ud800"}, {"accession": "A\udc00"}, {"study_uid": "1.\ud800"}, {"issuer": "\ud800"},
    {"names": ("\ud800",)}, {"dates": ("\ud800",)}])
def test_half_a_character_in_one_report_refuses_that_report(tmp_path, changes):
    from dataclasses import replace

    odd = replace(REPORT, **({"item": "odd", "patient_id": "P2", "accession": "A2", "study_uid": ""} | changes))
    found, refused = joined(tmp_path, [QUESTION], [odd, REPORT])
    assert len(found) == 2
    assert refused == [("odd", "not-utf8")] or "issuer" in changes


@pytest.mark.parametrize("changes", [
    {"patient_id": "\ud800"}, {"accession": "A\udc00", "kind": "study"}, {"uids": ("\ud800",)}, {"paths": ("\ud800",)},
    {"question_id": "\ud800"}, {"text": "\ud800"}, {"answer": "\ud800"}, {"choices": ("\ud800", "b")}])
def test_half_a_character_in_one_question_refuses_that_question(tmp_path, changes):
    from dataclasses import replace

    odd = replace(QUESTION, **({"item": "odd"} | changes))
    found, refused = joined(tmp_path, [odd, QUESTION], [])
    assert (len(found), refused) == (1, [("odd", "not-utf8")])


@pytest.mark.parametrize("text", ["Mrs Kowalczyk is well.", "Born 3 April 1958.", "See MRN-77421 for more."])
def test_what_a_report_says_of_its_patient_is_searched_for_in_every_text_of_that_patient(tmp_path, text):
    from dataclasses import replace

    known = replace(REPORT, accession="MRN-77421", names=("Kowalczyk^Ewa",), dates=("19580403",))
    for number, part in enumerate(("text", "answer")):
        odd = replace(QUESTION, **{part: text})
        found, refused = joined(tmp_path / str(number), [odd], [known])
        assert refused == [(odd.item, "phi-found")]
        assert len(found) == 1
    other = replace(QUESTION, patient_id="P2", text="The kowalczyk sign is absent.")
    found, refused = joined(tmp_path / "other", [other], [known])
    assert not refused  # another patient's name is this one's word


@pytest.mark.parametrize("written", [
    "12\u200b34", "\ufeff1234", "1234\u00ad", "12\u206034", "1234\x00", "\u202a1234\u202c", "1\u034f234"])
def test_characters_that_nobody_sees_make_no_second_patient(written):
    assert checked_patient_id(written) == "1234"


def test_a_verdict_is_kept_for_the_next_index_and_goes_when_nobody_asks(tmp_path):
    def run(ask: bool) -> object:
        with closing(IndexStore(tmp_path, KEY, "")) as store:
            scan_folders(store, lambda: None, [], key=KEY, issuer="")
            found = store.verdict("v") if ask else None
            if ask and found is None:
                store.put_verdict("v", [("name", 0, 3)])
            return found

    assert run(True) is None
    assert run(True) == [("name", 0, 3)]
    run(False)
    run(False)
    assert run(True) is None


def test_an_index_that_cannot_be_opened_is_not_locked_for_ever(tmp_path):
    (tmp_path / "index.sqlite").mkdir()
    for _ in range(2):
        with pytest.raises(OSError):
            IndexStore(tmp_path, KEY, "")
    (tmp_path / "index.sqlite").rmdir()
    IndexStore(tmp_path, KEY, "").close()


class Liar:
    """Says of every file that it has the same content."""

    def __init__(self) -> None:
        self.open = self.most = 0

    def render(self, path, frames):
        value = 200 if path.name == "a" else 10
        return Rendered(tuple(np.full((40, 40, 3), value, np.uint8) for _ in frames), ("",) * len(frames), "ab" * 32)


def pictures_of(tmp_path: Path, renderer: object, names: list[str], **images: object):
    store = IndexStore(tmp_path / "index", KEY, "")
    (tmp_path / "dicom").mkdir(exist_ok=True)
    for number, name in enumerate(names):
        (tmp_path / "dicom" / name).write_bytes(b"x")
        changed = modified_ns((tmp_path / "dicom" / name).stat())
        store.put([Scanned("data", name, changed, 1, f"{number:064x}", header(sop_uid=f"1.{number}"))])
    pictures = CachedPictures(store, {"data": tmp_path / "dicom"}, ImagesConfig(**images), lambda: renderer,
                              lambda pixels: False, cache=TileCache(tmp_path / "tiles"), form=FORM)
    return store, pictures, [store.at("data", name) for name in names]


def test_what_one_patients_file_says_of_itself_gives_no_other_patient_its_picture(tmp_path):
    store, pictures, files = pictures_of(tmp_path, Liar(), ["a", "b"])
    with closing(store):
        pictures.prepare([(file, 0) for file in files])
        shown = [int(pictures.image(file, 0).overview().mean()) for file in files]
    assert shown == [200, 10]


def test_a_damaged_or_emptied_tile_file_is_made_again(tmp_path):
    for damage in (b"", b"\x93NUMPY", b"x" * 10_000):
        store, pictures, (file,) = pictures_of(tmp_path, Liar(), ["a"])
        with closing(store):
            pictures.prepare([(file, 0)])
            path = next((tmp_path / "tiles").rglob("*.npy"))
            path.write_bytes(damage)
            pictures.prepare([(file, 0)])
            assert int(pictures.image(file, 0).overview().mean()) == 200


def test_few_files_pictures_are_in_memory_at_once(tmp_path):
    class Weighed(Liar):
        def __init__(self) -> None:
            super().__init__()
            self.made: list[object] = []

        def render(self, path, frames):
            import gc
            import weakref

            gc.collect()
            rendered = super().render(path, frames)
            self.made = [one for one in self.made if one() is not None]
            self.made.append(weakref.ref(rendered.pixels[0]))
            self.most = max(self.most, len(self.made))
            return rendered

    renderer = Weighed()
    store, pictures, files = pictures_of(tmp_path, renderer, [f"f{number}" for number in range(40)], workers=2)
    with closing(store):
        pictures.prepare([(file, 0) for file in files])
    assert renderer.most <= 5




def test_a_damaged_seal_is_one_sentence_and_no_text_passes_unsearched(tmp_path):
    with closing(IndexStore(tmp_path, KEY, "")) as store:
        anna = pseudonym(KEY, "", "P1")
        store.put([Scanned("data", "a", 1, 1, anna, header())])
        store._db.execute("UPDATE anchors SET sealed = zeroblob(40)")
        with pytest.raises(ValueError, match=r"^the index in .* is damaged; remove index.sqlite"):
            TextGate(store, PhiConfig(on_hit="warn"), KEY).passes("item", anna, "A text.", Anchors())
