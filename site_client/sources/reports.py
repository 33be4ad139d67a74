"""Reads the two tables of a site's folder: ``reports.csv`` and ``questions.csv``.

One line of the file is one record, whatever its quotation marks say. A patient's samples must not depend on
another patient's record, and a quotation mark that is never closed would otherwise pull the next patients' rows
into this patient's text, or remove them. So, unlike RFC 4180, a cell cannot hold a line break: each line of such
a row is refused, for that row only. Two consequences, both confined: a first line that happens to be a whole row
is used, with the text of its own patient cut short; a later line that happens to be a whole row counts as a record
of the patient whom it names.

A damaged row is refused and counted, never repaired. A damaged table (no such file, too large, a missing column) is
a ValueError and nothing of it is used: the operator's error, told before any run.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from site_client.records import Refusal, RefusedItemError, checked_patient_id
from site_client.sources.table_rows import MAX_IMAGES, MAX_TEXT_CHARS, checked_choices, csv_rows, required, tidy

__all__ = [
    "Question", "Report", "read_questions", "read_reports",
    "KIND_SOURCES", "MAX_IMAGES", "MAX_TEXT_CHARS", "QUESTION_COLUMNS", "REPORT_COLUMNS",
]  # fmt: skip

REPORT_COLUMNS = ("PatientID", "AccessionNumber", "Findings", "Impression")
QUESTION_COLUMNS = (
    "PatientID", "QuestionID", "Kind", "AccessionNumber", "SOPInstanceUIDs", "Question", "Choices", "Answer",
)  # fmt: skip
KIND_SOURCES = {"normal": "reports", "impression": "impressions", "alike": "patches"}

_ParsedT = TypeVar("_ParsedT")


@dataclass(frozen=True)
class Report:
    """One report. ``patient_id`` is normalised; ``impression`` may be empty."""

    item: str = field(repr=False)
    patient_id: str = field(repr=False)
    accession: str = field(repr=False)
    findings: str = field(repr=False)
    impression: str = field(repr=False)


@dataclass(frozen=True)
class Question:
    """One question. It names one report (``accession``) or images (``uids``), as its ``kind`` demands."""

    item: str = field(repr=False)
    patient_id: str = field(repr=False)
    question_id: str = field(repr=False)
    kind: str
    accession: str = field(repr=False)
    uids: tuple[str, ...] = field(repr=False)
    text: str = field(repr=False)
    choices: tuple[str, ...] = field(repr=False)
    answer: str = field(repr=False)

    @property
    def source(self) -> str:
        """The source its example counts for, a member of `site_client.records.SOURCES`."""
        return KIND_SOURCES[self.kind]


def read_reports(path: Path) -> tuple[list[Report], list[Refusal]]:
    """The reports of a table with `REPORT_COLUMNS`, in its order, and the refused rows; one line is one row.

    Raises ValueError when the table is missing, too large or lacks a column.
    """
    return _read_table(path, REPORT_COLUMNS, _parse_report)


def read_questions(path: Path) -> tuple[list[Question], list[Refusal]]:
    """The questions of a table with `QUESTION_COLUMNS`, in its order, and the refused rows; one line is one row.

    Raises ValueError when the table is missing, too large or lacks a column.
    """
    return _read_table(path, QUESTION_COLUMNS, _parse_question)


def _parse_report(item: str, cells: dict[str, str]) -> Report:
    patient_id = checked_patient_id(cells["PatientID"])
    accession = required(cells["AccessionNumber"], "identifier-missing")
    findings = required(tidy(cells["Findings"]), "text-missing")
    return Report(item, patient_id, accession, findings, tidy(cells["Impression"]))


def _parse_question(item: str, cells: dict[str, str]) -> Question:
    patient_id = checked_patient_id(cells["PatientID"])
    question_id = required(cells["QuestionID"], "identifier-missing")
    kind = cells["Kind"]
    if kind not in KIND_SOURCES:
        raise RefusedItemError("kind-unknown")
    accession, uids = _references(KIND_SOURCES[kind], cells)
    text = required(tidy(cells["Question"]), "text-missing")
    answer = required(tidy(cells["Answer"]), "answer-missing")
    choices = checked_choices(cells["Choices"].split("|") if cells["Choices"] else (), answer)
    return Question(item, patient_id, question_id, kind, accession, uids, text, choices, answer)


def _references(source: str, cells: dict[str, str]) -> tuple[str, tuple[str, ...]]:
    if source != "patches":
        return required(cells["AccessionNumber"], "identifier-missing"), ()
    uids = tuple(uid.strip() for uid in cells["SOPInstanceUIDs"].split(";") if uid.strip())
    if not 1 <= len(uids) <= MAX_IMAGES:
        raise RefusedItemError("images-not-counted")
    return "", uids


def _read_table(
    path: Path, columns: Sequence[str], parse: Callable[[str, dict[str, str]], _ParsedT]
) -> tuple[list[_ParsedT], list[Refusal]]:
    parsed: list[_ParsedT] = []
    refused: list[Refusal] = []
    for item, cells in csv_rows(path, columns):
        if isinstance(cells, Refusal):
            refused.append(cells)
            continue
        try:
            parsed.append(parse(item, cells))
        except RefusedItemError as refusal:
            refused.append(Refusal(item, refusal.code))
    return parsed, refused
