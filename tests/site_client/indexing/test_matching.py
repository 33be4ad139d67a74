"""The join: by UID, else by accession number, within one patient; nothing of one patient depends on another."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from configs.site_data import ImagesConfig, PhiConfig
from site_client.imaging.header import Header
from site_client.indexing.index_store import IndexStore, Scanned
from site_client.indexing.matching import REPORT_PROMPT, Candidate, Matcher
from site_client.indexing.texts import TextGate
from site_client.records import Refusal, pseudonym
from site_client.sources.interface import Question, Report
from tests.site_client.made_headers import KEY, header

REPORT = Report("reports.csv line 2", "P1", "", "1.2", "A1", "Clear lungs.", "Normal.")
QUESTION = Question("questions.csv line 2", "P1", "q1", "study", "What is seen?", (), "Nothing.", study_uid="1.2")


class Site:
    """Files, reports and questions in, candidates and refusals out."""

    def __init__(self, folder: Path, files: Sequence[tuple[str, Header]], **images: int) -> None:
        self._folder, self._files, self._images = folder, files, ImagesConfig(**images)
        self.runs = 0

    def join(
        self, questions: Iterable[Question] = (), reports: Iterable[Report | Refusal] = (), *, of_reports: bool = False,
        opted_out: Iterable[str] = (), on_hit: str = "refuse",
    ) -> tuple[list[Candidate], list[tuple[str, str]], list[str]]:
        self.runs += 1
        with closing(IndexStore(self._folder / str(self.runs), KEY, "")) as store:
            store.put(Scanned("data", path, 1, 1, pseudonym(KEY, "", head.patient_id), head)
                      for path, head in self._files)
            texts = TextGate(store, PhiConfig(on_hit=on_hit), KEY)
            matcher = Matcher(store, texts, self._images, key=KEY, issuer="",
                              opted_out={pseudonym(KEY, "", one) for one in opted_out})
            matcher.add_reports(reports)
            found = list(matcher.candidates([("data", one) for one in questions], of_reports=of_reports))
            return found, [(one.item, one.reason) for one in matcher.refused], [one.item for one in matcher.suspect()]


def shown(candidate: Candidate) -> list[tuple[str, int]]:
    return [(file.path, frame) for file, frame in candidate.pictures]


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path, [
        ("a1", header(sop_uid="1.2.1", instance_number=2)), ("a2", header(sop_uid="1.2.2", instance_number=1)),
        ("b1", header(sop_uid="1.3.1", study_uid="1.3", accession="A2", patient_id="P2"))])


def test_a_study_is_found_by_its_uid_in_the_order_of_its_slices(site):
    (found,), refused, _ = site.join([QUESTION])
    assert shown(found) == [("a2", 0), ("a1", 0)]
    assert (found.source, found.text, found.answer) == ("studies", "What is seen?", "Nothing.")
    assert not refused


def test_the_accession_number_is_used_where_the_uid_finds_nothing(site):
    (found,), refused, _ = site.join([replace(QUESTION, study_uid="", accession="A1")])
    assert len(shown(found)) == 2
    (found,), refused, _ = site.join([replace(QUESTION, study_uid="9.9", accession="A1")])
    assert len(shown(found)) == 2
    assert not refused


@pytest.mark.parametrize("changes", [
    {"study_uid": "1.3"}, {"study_uid": "", "accession": "A2"},
    {"study_uid": "", "uids": ("1.3.1",), "kind": "question"}, {"study_uid": "", "paths": ("b1",), "kind": "question"},
    {"study_uid": "", "paths": ("a1", "b1"), "kind": "question"}])
def test_images_of_another_patient_are_quarantined(site, changes):
    found, refused, _ = site.join([replace(QUESTION, **changes)])
    assert (found, refused) == ([], [("questions.csv line 2", "patient-mismatch")])


def test_a_study_that_nobody_has_is_unknown(site):
    found, refused, _ = site.join([replace(QUESTION, study_uid="9.9")])
    assert (found, refused) == ([], [("questions.csv line 2", "image-unknown")])


def test_a_question_without_a_patient_belongs_to_the_one_of_its_file(site):
    silent = replace(QUESTION, patient_id="", kind="question", study_uid="", paths=("b1",))
    (found,), _, _ = site.join([silent])
    assert found.patient == pseudonym(KEY, "", "P2")
    _, refused, _ = site.join([replace(silent, paths=())])
    assert refused == [("questions.csv line 2", "patient-missing")]
    _, refused, _ = site.join([replace(silent, paths=("a1", "b1"))])
    assert refused == [("questions.csv line 2", "patient-mismatch")]


def test_an_identifier_that_another_patient_claims_takes_nothing_away(tmp_path, site):
    alone, _, _ = site.join([QUESTION], [REPORT], of_reports=True)
    both = Site(tmp_path / "both", [*site._files, ("c", header(patient_id="P3"))])
    found, refused, suspect = both.join(
        [QUESTION], [REPORT, replace(REPORT, item="reports.csv line 3", patient_id="P3")], of_reports=True)
    mine = [one for one in found if one.patient == pseudonym(KEY, "", "P1")]
    assert [(one.text, one.answer, shown(one)) for one in mine] == [
        (one.text, one.answer, shown(one)) for one in alone]
    assert sorted(set(suspect)) == ["reports.csv line 2", "reports.csv line 3"]
    assert not refused


def test_a_report_whose_study_is_here_becomes_a_sample_of_its_own(site):
    (found,), refused, _ = site.join(reports=[REPORT], of_reports=True)
    assert (found.text, found.answer) == (REPORT_PROMPT, "Findings: Clear lungs. Impression: Normal.")
    assert shown(found) == [("a2", 0), ("a1", 0)]
    assert not refused


def test_a_report_without_images_is_no_fault_and_one_of_a_stranger_is_quarantined(site):
    found, refused, _ = site.join(reports=[replace(REPORT, study_uid="9.9", accession="A9")], of_reports=True)
    assert (found, refused) == ([], [])
    found, refused, _ = site.join(reports=[replace(REPORT, study_uid="1.3", accession="")], of_reports=True)
    assert (found, refused) == ([], [("reports.csv line 2", "patient-mismatch")])


def test_an_explicit_question_about_a_study_stands_in_for_its_report(site):
    found, _, _ = site.join([replace(QUESTION, answer="")], [REPORT], of_reports=True)
    assert [one.answer for one in found] == ["Findings: Clear lungs. Impression: Normal."]


def test_findings_come_before_a_question_about_a_report(site):
    asked = replace(QUESTION, kind="normal", choices=("yes", "no"), answer="yes", study_uid="", accession="A1")
    (found,), _, _ = site.join([asked], [REPORT])
    assert (found.source, found.text) == ("reports", "Findings: Clear lungs. What is seen?")
    assert not found.pictures
    for reports, reason in (([], "report-unknown"), ([replace(REPORT, patient_id="P2")], "patient-mismatch")):
        assert site.join([asked], reports)[1] == [("questions.csv line 2", reason)]


def test_repeated_reports_and_unknown_issuers(site):
    _, refused, _ = site.join(reports=[
        REPORT, replace(REPORT, item="x", findings="Other."), replace(REPORT, item="y", issuer="OTHER", accession="A7"),
        Refusal("z", "not-utf8")])
    assert refused == [("x", "identifier-repeated"), ("y", "issuer-differs"), ("z", "not-utf8")]


def test_long_series_and_cines_are_thinned_evenly_and_bounded(tmp_path):
    slices = [(f"s{number:03d}", header(sop_uid=f"1.2.{number}", position=float(-number))) for number in range(100)]
    (found,), _, _ = Site(tmp_path / "a", slices, most_images=4).join([QUESTION])
    assert shown(found) == [("s099", 0), ("s066", 0), ("s033", 0), ("s000", 0)]
    (found,), _, _ = Site(tmp_path / "b", [("cine", header(frames=96))], most_frames=3).join([QUESTION])
    assert shown(found) == [("cine", 0), ("cine", 48), ("cine", 95)]


def test_a_text_that_names_its_patient_is_refused_redacted_or_kept(site):
    named = replace(QUESTION, answer="Ms Anna Smith, born 3 Feb 1961, has a clear chest.")
    found, refused, _ = site.join([named])
    assert (found, refused) == ([], [("questions.csv line 2", "phi-found")])
    (found,), _, _ = site.join([named], on_hit="redact")
    assert "Smith" not in found.answer
    assert "1961" not in found.answer
    assert found.answer.endswith("has a clear chest.")
    (found,), _, _ = site.join([named], on_hit="warn")
    assert found.answer == named.answer


def test_names_of_the_reports_own_row_count_too(site):
    written = replace(REPORT, names=("Miller^Karen",), findings="Karen Miller has clear lungs.")
    assert site.join(reports=[written], of_reports=True)[1] == [("reports.csv line 2", "phi-found")]
    assert not site.join(reports=[replace(written, names=("Jones^Karen",), findings="Clear.")], of_reports=True)[1]


def test_opted_out_patients_rows_are_refused(site):
    found, refused, _ = site.join([QUESTION], [REPORT], of_reports=True, opted_out=["P1"])
    assert not found
    assert {reason for _, reason in refused} == {"opted-out"}
