"""Writes one folder as a hospital would export it: DICOM files, a table of reports and a table of questions.

A chest X-ray report carries two questions (is it normal? which of two impressions belongs to the findings?),
a dermoscopic image ten (are these two patches alike?).
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from simulations.dicom_writer import write_photograph
from simulations.packages import PAIRS_PER_IMAGE, PatchPair, Report

__all__ = [
    "write_site_folder",
    "ALIKE_QUESTION", "IMPRESSION_QUESTION", "NORMAL_QUESTION", "QUESTION_COLUMNS", "REPORT_COLUMNS", "WRITE_QUESTION",
]  # fmt: skip

REPORT_COLUMNS = ("PatientID", "AccessionNumber", "Findings", "Impression")
QUESTION_COLUMNS = (
    "PatientID", "QuestionID", "Kind", "AccessionNumber", "SOPInstanceUIDs", "Question", "Choices", "Answer",
)  # fmt: skip
NORMAL_QUESTION = "Is this chest X-ray normal or abnormal?"
IMPRESSION_QUESTION = "Which impression fits these findings? A: {a} B: {b}"
WRITE_QUESTION = "Findings: {findings} Write the impression."  # as `coordinator evaluate` asks (model.benchmarks)
ALIKE_QUESTION = "Are these two skin patches alike?"

Row = tuple[str, ...]


def write_site_folder(
    folder: Path,
    reports: Sequence[Report],
    images: Sequence[Sequence[PatchPair]],
    *,
    public: Sequence[Report],
    seed: int,
    report_questions: str = "choices",
) -> None:
    """Make ``folder`` with ``reports.csv``, ``questions.csv`` and ``dicom/<PatientID>/<SOPInstanceUID>.dcm``.

    ``images`` holds the pairs of each dermoscopic image (one patient each). Wrong impressions come from
    ``public`` reports; which one, and under which letter, depends on ``seed`` and the patient alone. With
    ``report_questions="impression"`` a report carries one question instead: write the impression that follows from
    the findings. Raises ValueError when ``public`` has no impression that differs from a patient's own.
    """
    folder.mkdir()
    if report_questions == "impression":
        questions = [_impression_question(report) for report in reports]
    else:
        questions = [row for report in reports for row in _report_questions(report, public, seed)]
    questions += [row for pairs in images for row in _write_image(folder, pairs)]
    rows = [(_patient(report), _accession(report), report.findings, report.impression) for report in reports]
    _write_table(folder / "reports.csv", REPORT_COLUMNS, rows)
    _write_table(folder / "questions.csv", QUESTION_COLUMNS, questions)


def _patient(report: Report) -> str:
    return f"CXR{report.number}"


def _accession(report: Report) -> str:
    return f"A-CXR{report.number}"


def _report_questions(report: Report, public: Sequence[Report], seed: int) -> list[Row]:
    # A generator of its own: adding or removing one patient must not change another patient's samples.
    rng = np.random.default_rng([seed, 2, report.number])
    own_first, wrong = bool(rng.integers(2)), _distractor(report, public, rng)
    a, b = (report.impression, wrong) if own_first else (wrong, report.impression)
    patient, accession = _patient(report), _accession(report)
    return [
        (patient, f"{patient}-normal", "normal", accession, "",
         NORMAL_QUESTION, "normal|abnormal", "normal" if report.normal else "abnormal"),
        (patient, f"{patient}-impression", "impression", accession, "",
         IMPRESSION_QUESTION.format(a=a, b=b), "A|B", "A" if own_first else "B"),
    ]  # fmt: skip


def _impression_question(report: Report) -> Row:
    patient = _patient(report)
    return (patient, f"{patient}-write", "question", "", "", WRITE_QUESTION.format(findings=report.findings), "",
            report.impression)


def _distractor(report: Report, public: Sequence[Report], rng: np.random.Generator) -> str:
    """An impression that is not this patient's, of the opposite label where there is one.

    It is drawn from public patients only, for every split. A distractor taken from another private patient
    would put a second patient's text into this patient's sample: removing that other patient would then
    change this patient's gradient too, and clipping and noise calibrated to one patient would no longer cover
    it.
    """
    own = report.impression.casefold()
    others = [other for other in public if other.impression.casefold() != own]
    preferred = [other for other in others if other.normal != report.normal] or others
    if not preferred:
        raise ValueError("The public reports hold no second impression; raise num_public_reports.")
    return preferred[int(rng.integers(len(preferred)))].impression


def _write_image(folder: Path, pairs: Sequence[PatchPair]) -> list[Row]:
    patient = f"DERM{pairs[0].source:03d}"
    target = folder / "dicom" / patient
    target.mkdir(parents=True)
    questions: list[Row] = []
    for pair in pairs:
        place = pair.number % PAIRS_PER_IMAGE
        uids = []
        for number, side, pixels in ((2 * place + 1, "a", pair.first), (2 * place + 2, "b", pair.second)):
            name = f"dermoscopic patch {pair.number}{side}"
            uids.append(
                write_photograph(target, pixels, patient_id=patient, study=f"A-{patient}", instance=name, number=number)
            )
        answer = "yes" if pair.alike else "no"
        row = (patient, f"{patient}-{place}", "alike", "", ";".join(uids), ALIKE_QUESTION, "yes|no", answer)
        questions.append(row)
    return questions


def _write_table(path: Path, columns: Sequence[str], rows: Iterable[Row]) -> None:
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(rows)
