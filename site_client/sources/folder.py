"""Joins a site's DICOM files, reports and questions into one record for each patient.

A folder holds ``questions.csv``, ``reports.csv`` (when questions name reports) and ``dicom/`` (when they name
images; any depth, any file name). Questions find images by SOPInstanceUID and reports by AccessionNumber,
never by guesswork; both must belong to the question's own patient, because a sample that mixes two patients
is protected for neither. A patient's samples are a function of that patient's records alone: an identifier that
another patient claims too is reported for the staff to look into, and removes nothing, since otherwise one patient
more could take a sample away from another and the clip would bound neither.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Generic, Protocol, TypeVar

from model.inputs import Example
from site_client.records import (
    SOURCES,
    PatientRecord,
    Refusal,
    RefusedItemError,
    SiteIndex,
    keyed_digest,
    pseudonym,
)
from site_client.sources.dicom import DicomImage, quiet_library, read_image
from site_client.sources.reports import Question, Report, read_questions, read_reports

__all__ = ["read_folder"]

Progress = Callable[[int, int], None]


class _Owned(Protocol):
    @property
    def patient_id(self) -> str: ...


_OwnedT = TypeVar("_OwnedT", bound=_Owned)


class _Register(Generic[_OwnedT]):
    """Values by patient and identifier: a repeat by the same patient is refused, other patients change nothing."""

    def __init__(self, missing: str) -> None:
        self._missing = missing
        self._values: dict[tuple[str, str], _OwnedT] = {}
        self._bearers: dict[str, list[str]] = defaultdict(list)
        self._owners: dict[str, set[str]] = defaultdict(set)
        self.refused: list[Refusal] = []

    def add(self, identifier: str, value: _OwnedT, item: str) -> None:
        if (value.patient_id, identifier) in self._values:
            self.refused.append(Refusal(item, "identifier-repeated"))
            return
        self._values[value.patient_id, identifier] = value
        self._bearers[identifier].append(item)
        self._owners[identifier].add(value.patient_id)

    def find(self, identifier: str, patient_id: str) -> _OwnedT:
        value = self._values.get((patient_id, identifier))
        if value is None:
            raise RefusedItemError("patient-mismatch" if identifier in self._owners else self._missing)
        return value

    def suspect(self) -> list[Refusal]:
        """Every bearer of an identifier that two patients claim."""
        return [Refusal(item, "identity-conflict") for identifier, owners in self._owners.items() if len(owners) > 1
                for item in self._bearers[identifier]]


def read_folder(path: Path, *, pseudonym_key: bytes, issuer: str = "", progress: Progress | None = None) -> SiteIndex:
    """Read everything under ``path``; what cannot be used is in the index's ``refused``, with a reason.

    ``pseudonym_key`` is the site's secret (16 bytes or more), ``issuer`` the authority that assigns the
    patient IDs of this folder; a file that names another issuer is refused. ``progress`` is called with
    (files read, files). The result depends on the content only, not on the order of files and rows, except
    which of two repeats by the same patient is kept. Raises ValueError for a missing folder or table, a
    missing column and a short key.
    """
    path = Path(path)
    if not path.is_dir():
        raise ValueError("The data folder does not exist; name the folder that holds questions.csv.")
    pseudonym(pseudonym_key, issuer, "")  # an unusable key should be told before an hour of reading
    questions, refused = read_questions(path / "questions.csv")
    reports = _read_reports(path / "reports.csv", required=any(question.accession for question in questions))
    images = _read_images(path / "dicom", issuer.strip(), progress)
    examples, not_joined = _join(questions, reports, images, pseudonym_key)
    patients = [
        PatientRecord(pseudonym(pseudonym_key, issuer, patient), by_source) for patient, by_source in examples.items()
    ]
    patients.sort(key=lambda record: record.pseudonym)
    return SiteIndex(tuple(patients), (*refused, *reports.refused, *images.refused, *not_joined),
                     (*reports.suspect(), *images.suspect()))


def _read_reports(path: Path, *, required: bool) -> _Register[Report]:
    register = _Register[Report]("report-unknown")
    if not required and not path.exists():
        return register
    reports, refused = read_reports(path)
    register.refused += refused
    for report in reports:
        register.add(report.accession, report, report.item)
    return register


def _read_images(folder: Path, issuer: str, progress: Progress | None) -> _Register[DicomImage]:
    register = _Register[DicomImage]("image-unknown")
    # Links are listed, not followed; the reader refuses them.
    files = sorted(path for path in folder.rglob("*") if path.is_symlink() or not path.is_dir())
    with quiet_library():
        for done, path in enumerate(files, start=1):
            item = path.relative_to(folder.parent).as_posix()
            try:
                image = read_image(path)
                if image.issuer not in ("", issuer):
                    raise RefusedItemError("issuer-differs")
                register.add(image.uid, image, item)
            except RefusedItemError as refusal:
                register.refused.append(Refusal(item, refusal.code))
            if progress is not None:
                progress(done, len(files))
    return register


def _join(
    questions: Iterable[Question], reports: _Register[Report], images: _Register[DicomImage], key: bytes
) -> tuple[dict[str, dict[str, tuple[Example, ...]]], list[Refusal]]:
    found: dict[str, dict[str, list[Example]]] = defaultdict(lambda: {source: [] for source in SOURCES})
    seen: set[tuple[str, str]] = set()
    refused: list[Refusal] = []
    # By question ID, so that the order of rows in the table cannot change which sample a draw picks.
    for question in sorted(questions, key=lambda question: (question.patient_id, question.question_id)):
        try:
            if (question.patient_id, question.question_id) in seen:
                raise RefusedItemError("identifier-repeated")
            example = _example(question, reports, images, key)
        except RefusedItemError as refusal:
            refused.append(Refusal(question.item, refusal.code))
            continue
        seen.add((question.patient_id, question.question_id))
        found[question.patient_id][question.source].append(example)
    frozen = {
        patient: {source: tuple(examples) for source, examples in by_source.items() if examples}
        for patient, by_source in found.items()
    }
    return frozen, refused


def _example(question: Question, reports: _Register[Report], images: _Register[DicomImage], key: bytes) -> Example:
    pixels = tuple(images.find(uid, question.patient_id).pixels for uid in question.uids)
    text = question.text
    if question.accession:
        text = f"Findings: {reports.find(question.accession, question.patient_id).findings} {text}"
    return Example(
        question=text,
        answer=question.answer,
        choices=question.choices,
        images=pixels,
        key=keyed_digest(key, "question", question.patient_id, question.question_id),
    )
