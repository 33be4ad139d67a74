"""The folder source: ``dicom/`` with reports and questions in CSV, JSON lines, or LLaVA's conversations.

CSV is read as `table_rows` says, with further columns that may be absent: reports may have
StudyInstanceUID, PatientName, PatientBirthDate and IssuerOfPatientID, questions StudyInstanceUID. A report names its
study by UID or accession number. JSON lines have the same keys in snake case; their reports may hold one ``report`` in
place of findings and impression, which headings split (`report_text`).

Kinds of questions beside `normal`, `impression` and `alike`: ``study`` names a study, whose images lead to the answer
(no answer: the study's report is it); ``question`` names images by ``sop_instance_uids`` or by ``images`` (paths below
dicom/), or a study, or nothing. Only a question that names images or a study may leave its patient to them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

from site_client.records import Refusal, RefusedItemError, checked_patient_id
from site_client.sources.conversations import conversation_questions
from site_client.sources.interface import KIND_SOURCES, Progress, Question, Report, SourceError, Synced
from site_client.sources.report_text import sections
from site_client.sources.table_rows import (
    MAX_IMAGES,
    checked_choices,
    csv_rows,
    json_elements,
    json_rows,
    required,
    tidy,
)

__all__ = ["TABLES", "FolderSource", "csv_questions", "csv_reports"]

TABLES = ("questions.csv", "questions.jsonl", "conversations.json", "conversations.jsonl", "reports.csv",
          "reports.jsonl")

REPORT_COLUMNS = ("PatientID", "AccessionNumber", "Findings", "Impression")
QUESTION_COLUMNS = (
    "PatientID", "QuestionID", "Kind", "AccessionNumber", "SOPInstanceUIDs", "Question", "Choices", "Answer",
)  # fmt: skip
_FURTHER_REPORT = ("StudyInstanceUID", "PatientName", "PatientBirthDate", "IssuerOfPatientID")
_FURTHER_QUESTION = ("StudyInstanceUID",)
_KEYS = {
    "PatientID": "patient_id", "IssuerOfPatientID": "issuer_of_patient_id", "PatientName": "patient_name",
    "PatientBirthDate": "patient_birth_date", "StudyInstanceUID": "study_instance_uid",
    "AccessionNumber": "accession_number", "Findings": "findings", "Impression": "impression", "Report": "report",
    "QuestionID": "question_id", "Kind": "kind", "Question": "question", "Answer": "answer",
}  # fmt: skip
_MOST_PATH_CHARS = 1024
_DATE = re.compile(r"(\d{4})-?(\d\d)-?(\d\d)")
_ItemT = TypeVar("_ItemT")
_Rows = Iterable[tuple[str, Mapping[str, Any] | Refusal]]


class FolderSource:
    """A folder of the hospital's own, named ``name``; nothing to bring.

    Raises SourceError when the folder does not exist; `reports` and `questions` raise it for a damaged table. Tables
    are all optional: what a folder lacks it does not have.
    """

    def __init__(self, path: Path, name: str = "data") -> None:
        self.name = name
        self._path = Path(path)
        if not self._path.is_dir():
            raise SourceError(f"The {name} folder does not exist; name the one that holds dicom/ and tables.")

    @property
    def has_tables(self) -> bool:
        """Whether there is anything that could be a sample."""
        return any((self._path / name).exists() for name in TABLES)

    def sync(self, progress: Progress | None = None) -> Synced:
        """Everything is here already."""
        return Synced()

    @property
    def has_reports(self) -> bool:
        """Whether there is a table of reports, be it empty."""
        return any((self._path / name).exists() for name in ("reports.csv", "reports.jsonl"))

    def folders(self) -> Sequence[Path]:
        """``dicom/``, whether it exists or not."""
        return [self._path / "dicom"]

    def reports(self) -> Iterator[Report | Refusal]:
        """Of reports.csv, then of reports.jsonl."""
        if (path := self._path / "reports.csv").exists():
            yield from csv_reports(path)
        if (path := self._path / "reports.jsonl").exists():
            yield from _parsed(json_rows(path), lambda item, row: _report(item, _as_cells(row)))

    def questions(self) -> Iterator[Question | Refusal]:
        """Of questions.csv, questions.jsonl, conversations.json and conversations.jsonl, in this order."""
        if (path := self._path / "questions.csv").exists():
            yield from csv_questions(path)
        if (path := self._path / "questions.jsonl").exists():
            yield from _parsed(json_rows(path), self._json_question)
        for name, rows in (("conversations.json", json_elements), ("conversations.jsonl", json_rows)):
            if (path := self._path / name).exists():
                for item, row in rows(path):
                    yield from [row] if isinstance(row, Refusal) else self._conversation(item, row)

    def _json_question(self, item: str, row: Mapping[str, Any]) -> Question:
        cells = {"Kind": "question"} | {name: cell for name, cell in _as_cells(row).items() if cell}
        paths = self._checked_paths(_texts(row.get("images")))
        return _question(item, cells, _texts(row.get("sop_instance_uids")), paths, _texts(row.get("choices")))

    def _conversation(self, item: str, row: Mapping[str, Any]) -> Iterator[Question | Refusal]:
        try:
            patient = _one_text(row.get("patient_id"))
            paths = self._checked_paths(_texts(row.get("image")))
            patient_id = checked_patient_id(patient) if patient or not paths else ""
            if len(paths) > MAX_IMAGES:
                raise RefusedItemError("images-not-counted")
            yield from conversation_questions(item, row, patient_id, paths)
        except RefusedItemError as refusal:
            yield Refusal(item, refusal.code)

    def _checked_paths(self, texts: Sequence[str]) -> tuple[str, ...]:
        """Paths below dicom/, in their plain form; RefusedItemError for one that leads out of it or through a link."""
        checked = []
        for text in texts:
            if len(text) > _MOST_PATH_CHARS:
                raise RefusedItemError("path-outside")
            path = PurePosixPath(text)
            steps = [step for step in (path, *path.parents) if step.parts]
            inside = steps and not path.is_absolute() and not {"..", "\\", "\0"} & {*path.parts, *text}
            if not inside or any(map(self._is_link, steps)):
                raise RefusedItemError("path-outside")
            checked.append(path.as_posix())
        return tuple(checked)

    def _is_link(self, step: PurePosixPath) -> bool:
        try:
            return (self._path / "dicom" / step).is_symlink()
        except OSError:  # a name that no file can have
            return True


def csv_reports(path: Path) -> Iterator[Report | Refusal]:
    """The reports of a table with `REPORT_COLUMNS`, in its order; one line is one row.

    Raises ValueError when the table is missing, too large or lacks a column.
    """
    return _parsed(csv_rows(path, REPORT_COLUMNS, _FURTHER_REPORT), _report)


def csv_questions(path: Path) -> Iterator[Question | Refusal]:
    """The questions of a table with `QUESTION_COLUMNS`; as `csv_reports`."""
    return _parsed(csv_rows(path, QUESTION_COLUMNS, _FURTHER_QUESTION), _csv_question)


def _csv_question(item: str, cells: Mapping[str, str]) -> Question:
    uids = tuple(uid.strip() for uid in cells["SOPInstanceUIDs"].split(";") if uid.strip())
    return _question(item, cells, uids, (), cells["Choices"].split("|") if cells["Choices"] else ())


def _parsed(rows: _Rows, parse: Callable[[str, Any], _ItemT]) -> Iterator[_ItemT | Refusal]:
    for item, row in rows:
        if isinstance(row, Refusal):
            yield row
            continue
        try:
            yield parse(item, row)
        except RefusedItemError as refusal:
            yield Refusal(item, refusal.code)


def _report(item: str, cells: Mapping[str, str]) -> Report:
    patient_id = checked_patient_id(cells.get("PatientID", ""))
    study, accession = cells.get("StudyInstanceUID", ""), cells.get("AccessionNumber", "")
    required(study or accession, "identifier-missing")
    findings, impression = tidy(cells.get("Findings", "")), tidy(cells.get("Impression", ""))
    if not findings and not impression:
        tidy(cells.get("Report", ""))  # its bounds
        findings, impression = sections(cells.get("Report", ""))
    name, birth = cells.get("PatientName", ""), cells.get("PatientBirthDate", "")
    return Report(
        item, patient_id, cells.get("IssuerOfPatientID", ""), study, accession, required(findings, "text-missing"),
        impression, (tidy(name),) if name else (), (_date(birth),) if birth else ())


def _question(
    item: str, cells: Mapping[str, str], uids: Sequence[str], paths: Sequence[str], choices: Sequence[str]
) -> Question:
    kind = cells["Kind"]
    if kind not in KIND_SOURCES:
        raise RefusedItemError("kind-unknown")
    study, accession = cells.get("StudyInstanceUID", ""), cells.get("AccessionNumber", "")
    patient = cells.get("PatientID", "")
    may_be_silent = kind == "question" and (study or accession or uids or paths)
    patient_id = checked_patient_id(patient) if patient or not may_be_silent else ""
    question_id = required(cells.get("QuestionID", ""), "identifier-missing")
    study, accession, uids, paths = _references(kind, study, accession, uids, paths)
    text = required(tidy(cells.get("Question", "")), "text-missing")
    answer = tidy(cells.get("Answer", ""))
    if kind != "study":
        required(answer, "answer-missing")
    return Question(item, patient_id, question_id, kind, text, checked_choices(choices, answer), answer,
                    study, accession, tuple(uids), tuple(paths))


def _references(
    kind: str, study: str, accession: str, uids: Sequence[str], paths: Sequence[str]
) -> tuple[str, str, Sequence[str], Sequence[str]]:
    """What a question of this kind names, and nothing else of the row."""
    if kind in ("normal", "impression"):
        required(study or accession, "identifier-missing")
        return study, accession, (), ()
    if kind == "study":
        required(study or accession, "study-missing")
        return study, accession, (), ()
    if len(uids) + len(paths) > MAX_IMAGES or (kind == "alike" and not uids):
        raise RefusedItemError("images-not-counted")
    if kind == "alike":
        return "", "", uids, ()
    if bool(uids) + bool(paths) + bool(study or accession) > 1:
        raise RefusedItemError("images-ambiguous")
    return study, accession, uids, paths


def _as_cells(row: Mapping[str, Any]) -> dict[str, str]:
    """A JSON row as if it were one of CSV, but with its line breaks; a report's may carry headings."""
    return {column: _one_text(row.get(key)) for column, key in _KEYS.items()}


def _one_text(value: object) -> str:
    """A JSON text or whole number, stripped; "" for null. RefusedItemError for everything else."""
    if value is None:
        return ""
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, str):
        raise RefusedItemError("row-malformed")
    if any("\ud800" <= char <= "\udfff" for char in value):
        raise RefusedItemError("not-utf8")
    return value.strip()


def _texts(value: object) -> tuple[str, ...]:
    """One text or a list of them."""
    values = value if isinstance(value, list) else [] if value is None else [value]
    return tuple(required(_one_text(text), "row-malformed") for text in values)


def _date(text: str) -> str:
    found = _DATE.fullmatch(text)
    if found is None:
        raise RefusedItemError("date-malformed")
    return "".join(found.groups())
