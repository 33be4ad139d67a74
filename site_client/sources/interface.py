"""What every source of samples offers: it brings its content here, and names files, reports and questions.

A remote source mirrors into a folder of the site's own (`sync`), incrementally and so that a kill loses at most
the file in flight. What reads the mirror afterwards needs no network.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from site_client.records import Refusal

__all__ = ["KIND_SOURCES", "Question", "Report", "Source", "SourceError", "Synced"]

KIND_SOURCES = {
    "normal": "reports", "impression": "impressions", "alike": "patches", "study": "studies", "question": "questions",
}
"""The source that a kind of question counts for, a member of `site_client.records.SOURCES`."""

Progress = Callable[[int, int], None]  # done, all that are known of


class SourceError(ValueError):
    """A source cannot be used; the text is one sentence with the fix, without a value of a patient or a secret."""


@dataclass(frozen=True, slots=True)
class Synced:
    """What a `sync` did: items that are new here, items that the mirror already had, items the server did not give."""

    new: int = 0
    known: int = 0
    failed: int = 0


@dataclass(frozen=True, slots=True)
class Report:
    """One report. patient_id is normalised (`records.checked_patient_id`); the images are those of `study_uid`, or,
    where that is empty, of `accession`. names and dates: what the row says of the patient (PHI anchors), dates as
    YYYYMMDD."""

    item: str = field(repr=False)
    patient_id: str = field(repr=False)
    issuer: str = field(repr=False)
    study_uid: str = field(repr=False)
    accession: str = field(repr=False)
    findings: str = field(repr=False)
    impression: str = field(repr=False)
    names: tuple[str, ...] = field(default=(), repr=False)
    dates: tuple[str, ...] = field(default=(), repr=False)


@dataclass(frozen=True, slots=True)
class Question:
    """One question with its answer. It names images (`uids`, or `paths` relative to the source's dicom folder), or a
    study or a report (`study_uid`, `accession`), or nothing. patient_id is "" only where an image says whose it is."""

    item: str = field(repr=False)
    patient_id: str = field(repr=False)
    question_id: str = field(repr=False)
    kind: str
    text: str = field(repr=False)
    choices: tuple[str, ...] = field(repr=False)
    answer: str = field(repr=False)
    study_uid: str = field(default="", repr=False)
    accession: str = field(default="", repr=False)
    uids: tuple[str, ...] = field(default=(), repr=False)
    paths: tuple[str, ...] = field(default=(), repr=False)

    @property
    def source(self) -> str:
        """The source that its example counts for."""
        return KIND_SOURCES[self.kind]


class Source(Protocol):
    """One place that samples come from."""

    name: str

    def sync(self, progress: Progress | None = None) -> Synced:
        """Bring what is new here. Raises SourceError when the server refuses or cannot be reached; what came stays."""

    def folders(self) -> Sequence[Path]:
        """Folders with DICOM files, any depth."""

    def reports(self) -> Iterator[Report | Refusal]:
        """Every report that is here."""

    def questions(self) -> Iterator[Question | Refusal]:
        """Every question that is here."""
