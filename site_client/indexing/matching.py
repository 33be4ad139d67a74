"""Joins reports, questions and images, within one patient and never by guesswork.

Images are found by SOPInstanceUID or path, studies by StudyInstanceUID, else by AccessionNumber (DICOM PS3.3 C.7.2.1).
All must belong to the sample's own patient: a sample that mixes two is protected for neither. A patient's samples are a
function of that patient's records alone. An identifier that another patient claims too is reported and removes nothing,
since otherwise one patient more could take a sample away from another and the clip would bound neither.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field, fields

from configs.site_data import ImagesConfig
from site_client.imaging.frames import evenly, ordered_slices
from site_client.indexing.index_store import IndexedFile, IndexStore
from site_client.indexing.pictures import Picture
from site_client.indexing.texts import TextGate
from site_client.phi.anchors import Anchors
from site_client.records import Refusal, RefusedItemError, pseudonym
from site_client.sources.interface import Question, Report
from site_client.sources.table_rows import required

__all__ = ["OF_REPORTS", "REPORT_PROMPT", "Candidate", "Matcher"]

REPORT_PROMPT = "Write the findings and the impression of this study."
OF_REPORTS = ("normal", "impression")
"""Kinds of questions that are asked about a report's findings."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A sample whose pictures are still to be made. `all_needed`: it is nothing without every one of them."""

    item: str = field(repr=False)
    patient: str = field(repr=False)
    question_id: str = field(repr=False)
    source: str
    text: str = field(repr=False)
    choices: tuple[str, ...] = field(repr=False)
    answer: str = field(repr=False)
    pictures: tuple[Picture, ...] = field(repr=False)
    all_needed: bool


class Matcher:
    """Collects candidates and refusals of one site.

    Args:
        key, issuer: of the pseudonyms; a row that names another issuer is refused.
        opted_out: pseudonyms of patients of whom nothing is used.
    """

    def __init__(
        self, store: IndexStore, texts: TextGate, images: ImagesConfig, *, key: bytes, issuer: str,
        opted_out: Collection[str] = (),
    ) -> None:
        self._store, self._texts, self._images = store, texts, images
        self._key, self._issuer, self._opted_out = key, issuer, opted_out
        self._by_accession: dict[tuple[str, str], Report] = {}
        self._by_study: dict[tuple[str, str], Report] = {}
        self._bearers: dict[str, list[str]] = defaultdict(list)
        self._owners: dict[str, set[str]] = defaultdict(set)
        self._explicit: set[tuple[str, str]] = set()
        self._said: dict[str, Anchors] = {}
        self.refused: list[Refusal] = []

    # -------------------------------------------------------------- reports

    def add_reports(self, reports: Iterable[Report | Refusal]) -> None:
        """Keep each report under its patient; a repeat by the same patient is refused, the first one stays."""
        for report in reports:
            if isinstance(report, Refusal):
                self.refused.append(report)
                continue
            try:
                _require_text(report)
                patient = self._patient(report.patient_id, report.issuer)
                self._said[patient] = _joined(self._said.get(patient, Anchors()), _beside(report))
                self._add_report(patient, report)
            except RefusedItemError as refusal:
                self.refused.append(Refusal(report.item, refusal.code))

    def _add_report(self, patient: str, report: Report) -> None:
        if not (report.accession or report.study_uid):
            raise RefusedItemError("identifier-missing")
        named = [(self._by_accession, report.accession), (self._by_study, report.study_uid)]
        if any(name and (patient, name) in register for register, name in named):
            raise RefusedItemError("identifier-repeated")
        for register, name in named:
            if name:
                register[patient, name] = report
                self._bearers[name].append(report.item)
                self._owners[name].add(patient)

    def suspect(self) -> Iterator[Refusal]:
        """Every bearer of an identifier that two patients claim."""
        for name, owners in self._owners.items():
            if len(owners) > 1:
                yield from (Refusal(item, "identity-conflict") for item in self._bearers[name])

    # -------------------------------------------------------------- samples

    def candidates(self, questions: Iterable[tuple[str, Question]], *, of_reports: bool) -> Iterator[Candidate]:
        """A candidate for each question ((source, question) pairs) that can be joined; with `of_reports` also one for
        each report whose study has images here."""
        for source, question in questions:
            try:
                yield self._candidate(source, question)
            except RefusedItemError as refusal:
                self.refused.append(Refusal(question.item, refusal.code))
        if not of_reports:
            return
        # Not by item: the number of a report's line is a matter of other patients' lines.
        for patient, report in sorted(self._all_reports(), key=lambda pair: (pair[0], *_names(pair[1]))):
            try:
                if (found := self._of_report(patient, report)) is not None:
                    yield found
            except RefusedItemError as refusal:
                self.refused.append(Refusal(report.item, refusal.code))

    def _all_reports(self) -> Iterator[tuple[str, Report]]:
        seen: set[int] = set()
        for register in (self._by_accession, self._by_study):
            for (patient, _), report in register.items():
                if id(report) not in seen:
                    seen.add(id(report))
                    yield patient, report

    def _candidate(self, source: str, question: Question) -> Candidate:
        _require_text(question)
        found = [self._at(source, path) for path in question.paths]
        patient = self._patient(question.patient_id) if question.patient_id else _owner(found)
        if any(file.patient != patient for file in found):
            raise RefusedItemError("patient-mismatch")
        files = [self._image(uid, patient) for uid in question.uids] + found
        own = Anchors((), tuple(filter(None, (question.patient_id, question.accession))), ())
        beside = _joined(self._said.get(patient, Anchors()), own)
        pictures = tuple(picture for file in files for picture in self._frames(file))
        if question.kind == "study":
            self._explicit.update((patient, name) for name in (question.study_uid, question.accession) if name)
        text, answer, *choices = (
            self._texts.passes(question.item, patient, part, beside)
            for part in (question.text, question.answer, *question.choices))
        if not answer:  # of a study: its report is the answer
            answer = self._written(patient, self._report(patient, question))
        if question.kind in OF_REPORTS:
            report = self._report(patient, question)
            findings = self._texts.passes(report.item, patient, report.findings, self._said[patient])
            text = f"Findings: {findings} {text}"
        elif not files and (question.study_uid or question.accession):
            pictures = self._study(patient, question.study_uid, question.accession)
        return Candidate(question.item, patient, question.question_id, question.source, text,
                         tuple(choices), answer, pictures, all_needed=bool(files))

    def _report(self, patient: str, question: Question) -> Report:
        for register, name in ((self._by_study, question.study_uid), (self._by_accession, question.accession)):
            if name and (report := register.get((patient, name))) is not None:
                return report
        known = any(name in self._owners for name in (question.study_uid, question.accession) if name)
        raise RefusedItemError("patient-mismatch" if known else "report-unknown")

    def _of_report(self, patient: str, report: Report) -> Candidate | None:
        names = [name for name in _names(report) if name]
        if any((patient, name) in self._explicit for name in names):
            return None
        try:
            pictures = self._study(patient, report.study_uid, report.accession)
        except RefusedItemError as refusal:
            if refusal.code == "image-unknown":
                return None  # a report without images is no fault: questions may use its text
            raise
        return Candidate(report.item, patient, f"report {names[0]}", "studies", REPORT_PROMPT, (),
                         self._written(patient, report), pictures, all_needed=False)

    def _written(self, patient: str, report: Report) -> str:
        """A report as the answer to be learned."""
        parts = (("Findings", report.findings), ("Impression", report.impression))
        return required(" ".join(f"{name}: {self._texts.passes(report.item, patient, text, self._said[patient])}"
                                 for name, text in parts if text), "text-missing")

    # -------------------------------------------------------------- patients and images

    def _patient(self, patient_id: str, issuer: str = "") -> str:
        if issuer not in ("", self._issuer):
            raise RefusedItemError("issuer-differs")
        patient = pseudonym(self._key, self._issuer, patient_id)
        if patient in self._opted_out:
            raise RefusedItemError("opted-out")
        return patient

    def _at(self, source: str, path: str) -> IndexedFile:
        file = self._store.at(source, path)
        if file is None or file.reason:
            raise RefusedItemError("image-unknown")
        return file

    def _image(self, uid: str, patient: str) -> IndexedFile:
        found = self._store.files("sop_uid", uid, patient)
        if not found:
            raise RefusedItemError("patient-mismatch" if self._store.has("sop_uid", uid) else "image-unknown")
        return min(found, key=lambda file: (file.source, file.path))

    def _study(self, patient: str, study_uid: str, accession: str) -> tuple[Picture, ...]:
        """Pictures of a study, `images.most_images` of them at most, evenly spaced over its series in order."""
        foreign = False
        for column, value in (("study_uid", study_uid), ("accession", accession)):
            if not value:
                continue
            if found := self._store.files(column, value, patient):
                pictures = [picture for file in _in_order(found) for picture in self._frames(file)]
                return tuple(pictures[number] for number in evenly(len(pictures), self._images.most_images))
            foreign = foreign or self._store.has(column, value)
        raise RefusedItemError("patient-mismatch" if foreign else "image-unknown")

    def _frames(self, file: IndexedFile) -> list[Picture]:
        return [(file, frame) for frame in evenly(file.frames, self._images.most_frames)]


def _owner(found: list[IndexedFile]) -> str:
    if not found:
        raise RefusedItemError("patient-missing")
    return found[0].patient


def _in_order(files: list[IndexedFile]) -> list[IndexedFile]:
    """By series, and within one as it was scanned; a repeat of the same image counts once."""
    series: dict[str, dict[str, IndexedFile]] = {}
    for file in files:
        series.setdefault(file.series_uid, {}).setdefault(file.sop_uid, file)
    return [file for name in sorted(series) for file in ordered_slices(list(series[name].values()))]


def _names(report: Report) -> tuple[str, str]:
    return report.study_uid, report.accession


def _require_text(row: Report | Question) -> None:
    """Half a surrogate pair, which JSON can hold, fits neither a hash nor the index, and would end both."""
    values = (getattr(row, one.name) for one in fields(row))
    texts = (text for value in values for text in ((value,) if isinstance(value, str) else value))
    if any("\ud800" <= char <= "\udfff" for text in texts for char in text):
        raise RefusedItemError("not-utf8")


def _joined(one: Anchors, other: Anchors) -> Anchors:
    """What either says, each once: all that a patient's reports say is searched for in all of that patient's texts."""
    return Anchors(*(tuple(dict.fromkeys((*first, *second))) for first, second in (
        (one.names, other.names), (one.identifiers, other.identifiers), (one.dates, other.dates))))


def _beside(report: Report) -> Anchors:
    return Anchors(report.names, tuple(filter(None, (report.patient_id, report.accession))), report.dates)
