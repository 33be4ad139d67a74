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

import codecs
import csv
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from site_client.records import Refusal, RefusedItemError, checked_patient_id

__all__ = [
    "Question", "Report", "read_questions", "read_reports",
    "KIND_SOURCES", "MAX_IMAGES", "MAX_TEXT_CHARS", "QUESTION_COLUMNS", "REPORT_COLUMNS",
]  # fmt: skip

REPORT_COLUMNS = ("PatientID", "AccessionNumber", "Findings", "Impression")
QUESTION_COLUMNS = (
    "PatientID", "QuestionID", "Kind", "AccessionNumber", "SOPInstanceUIDs", "Question", "Choices", "Answer",
)  # fmt: skip
KIND_SOURCES = {"normal": "reports", "impression": "impressions", "alike": "patches"}
MAX_TEXT_CHARS = 20_000
MAX_IMAGES = 8
MAX_TABLE_BYTES = 256 * 2**20

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
    accession = _required(cells["AccessionNumber"], "identifier-missing")
    findings = _required(_text(cells["Findings"]), "text-missing")
    return Report(item, patient_id, accession, findings, _text(cells["Impression"]))


def _parse_question(item: str, cells: dict[str, str]) -> Question:
    patient_id = checked_patient_id(cells["PatientID"])
    question_id = _required(cells["QuestionID"], "identifier-missing")
    kind = cells["Kind"]
    if kind not in KIND_SOURCES:
        raise RefusedItemError("kind-unknown")
    accession, uids = _references(KIND_SOURCES[kind], cells)
    text = _required(_text(cells["Question"]), "text-missing")
    answer = _required(_text(cells["Answer"]), "answer-missing")
    choices = _choices(cells["Choices"])
    if choices and answer not in choices:
        raise RefusedItemError("answer-not-a-choice")
    return Question(item, patient_id, question_id, kind, accession, uids, text, choices, answer)


def _references(source: str, cells: dict[str, str]) -> tuple[str, tuple[str, ...]]:
    if source != "patches":
        return _required(cells["AccessionNumber"], "identifier-missing"), ()
    uids = tuple(uid.strip() for uid in cells["SOPInstanceUIDs"].split(";") if uid.strip())
    if not 1 <= len(uids) <= MAX_IMAGES:
        raise RefusedItemError("images-not-counted")
    return "", uids


def _choices(cell: str) -> tuple[str, ...]:
    if not cell:
        return ()  # an open question
    choices = tuple(_text(choice) for choice in cell.split("|"))
    if len(choices) < 2 or len(set(choices)) < len(choices) or not all(choices):
        raise RefusedItemError("choices-malformed")
    return choices


def _text(cell: str) -> str:
    if len(cell) > MAX_TEXT_CHARS:
        raise RefusedItemError("text-too-long")
    return " ".join(cell.split())


def _required(value: str, reason: str) -> str:
    if not value:
        raise RefusedItemError(reason)
    return value


def _read_table(
    path: Path, columns: Sequence[str], parse: Callable[[str, dict[str, str]], _ParsedT]
) -> tuple[list[_ParsedT], list[Refusal]]:
    parsed: list[_ParsedT] = []
    refused: list[Refusal] = []
    rows = _rows(path)
    header = [name.strip() for name in next(rows, (0, None))[1] or []]
    for column in columns:
        # The header found is not quoted: without one, the first row of patients would stand there.
        if header.count(column) != 1:
            raise ValueError(f"{path.name} must have exactly one column {column}; correct its header row.")
    for line, row in rows:
        item = f"{path.name} line {line}"
        try:
            parsed.append(parse(item, _cells(header, row)))
        except RefusedItemError as refusal:
            refused.append(Refusal(item, refusal.code))
    return parsed, refused


def _rows(path: Path) -> Iterator[tuple[int, list[str] | None]]:
    """Number and cells of each line that is not blank; None for a line whose quotation marks do not match.

    Every line has a reader of its own, and is decoded on its own, so that none can reach into the next.
    """
    # Of bytes, splitlines knows \n, \r and \r\n only; of text it would split inside cells, as at U+2028.
    for number, line in enumerate(_read_bytes(path).splitlines(), start=1):
        if not line:
            continue
        try:
            # Bytes that are not UTF-8 become lone surrogates, so that only their rows are refused.
            yield number, next(csv.reader([line.decode(errors="surrogateescape")], strict=True))
        except csv.Error:
            yield number, None


def _read_bytes(path: Path) -> bytes:
    try:
        if path.stat().st_size > MAX_TABLE_BYTES:
            raise ValueError(f"{path.name} is larger than {MAX_TABLE_BYTES} bytes; split it into several folders.")
        return path.read_bytes().removeprefix(codecs.BOM_UTF8)
    except OSError:
        raise ValueError(f"{path.name} is missing or cannot be read; put it into the data folder.") from None


def _cells(header: list[str], row: list[str] | None) -> dict[str, str]:
    if row is None or len(row) != len(header):
        raise RefusedItemError("row-malformed")
    if any("\ud800" <= char <= "\udfff" for cell in row for char in cell):
        raise RefusedItemError("not-utf8")
    return {name: cell.strip() for name, cell in zip(header, row, strict=True)}
