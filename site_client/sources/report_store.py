"""Reports that a server gave, in one SQLite file (0600) of the site's own: read without a network.

Each row is what one DiagnosticReport came to: a report, or why it is refused. Of several reports of one patient and
study the one issued last counts, so that an addendum replaces what it corrects; one without a time of issue comes
before all others, and equal times are decided by the resource's ID. What two patients have never meets.
"""

from __future__ import annotations

import json
import sqlite3
from collections import defaultdict
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict, replace
from pathlib import Path

from site_client.records import Refusal
from site_client.sources.interface import Report, SourceError
from site_client.sources.mirror import locked_folder, open_database

__all__ = ["ReportStore", "ReportWriter"]

FEW_REPORTS = 10
_FILE = "reports.sqlite"
_SCHEMA = """CREATE TABLE IF NOT EXISTS reports (
    id TEXT NOT NULL PRIMARY KEY, version TEXT NOT NULL, sweep INTEGER NOT NULL, issued TEXT NOT NULL,
    reason TEXT NOT NULL, report TEXT NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS progress (name TEXT NOT NULL PRIMARY KEY, value TEXT NOT NULL) STRICT"""


class ReportStore:
    """The store in `folder`, made at once; `writing` for everything that changes it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)

    @contextmanager
    def writing(self) -> Iterator[ReportWriter]:
        """The only writer while the block lasts. Raises SourceError when there is one already, or the disk fails."""
        with locked_folder(self._folder), closing(open_database(self._folder / _FILE, _SCHEMA)) as database:
            try:
                yield ReportWriter(database)
            except (OSError, sqlite3.Error) as error:
                raise SourceError(f"{self._folder} cannot be written ({type(error).__name__}); free space or correct "
                                  "its owner, then sync again: what came is kept.") from None

    def reports(self) -> Iterator[Report | Refusal]:
        """Every report that counts, and a refusal for every other one, by resource ID."""
        if not (self._folder / _FILE).exists():
            return
        with closing(open_database(self._folder / _FILE, _SCHEMA)) as database:
            later = _superseded(database)
            for name, reason, report in database.execute("SELECT id, reason, report FROM reports ORDER BY id"):
                item = f"DiagnosticReport/{name}"
                if reason or name in later:
                    yield Refusal(item, reason or "report-superseded")
                else:
                    yield _report(report)


class ReportWriter:
    """See `ReportStore.writing`. A sweep is one complete listing of the server."""

    def __init__(self, database: sqlite3.Connection) -> None:
        self._database = database

    def note(self, name: str) -> str:
        """What was noted under `name`; "" when nothing was."""
        row = self._database.execute("SELECT value FROM progress WHERE name = ?", (name,)).fetchone()
        return str(row[0]) if row else ""

    def set_notes(self, **notes: str) -> None:
        """Note all of these at once."""
        with self.together():
            self._database.executemany("INSERT OR REPLACE INTO progress VALUES (?, ?)", notes.items())

    def holds(self, name: str, version: str, sweep: int | None) -> bool:
        """Whether this version of a report is here; with a `sweep`, seen in it."""
        row = self._database.execute("SELECT version, sweep FROM reports WHERE id = ?", (name,)).fetchone()
        return row is not None and row[0] == version and sweep in (None, row[1])

    def put(self, name: str, version: str, sweep: int, issued: str, outcome: Report | Refusal) -> None:
        """Keep what a resource came to, instead of an earlier version."""
        reason = outcome.reason if isinstance(outcome, Refusal) else ""
        report = "" if isinstance(outcome, Refusal) else json.dumps(asdict(outcome))
        self._database.execute("INSERT OR REPLACE INTO reports VALUES (?, ?, ?, ?, ?, ?)",
                               (name, version, sweep, issued, reason, report))

    def keep_sweep(self, sweep: int) -> None:
        """Remove what this complete sweep did not see; SourceError when that is more than half of `FEW_REPORTS` or
        more."""
        held, gone = self._database.execute("SELECT count(*), coalesce(sum(sweep != ?), 0) FROM reports",
                                            (sweep,)).fetchone()
        if held >= FEW_REPORTS and gone > held / 2:
            raise SourceError(f"the server no longer lists {gone} of the {held} reports that are here, so none was "
                              "removed; if that is right, remove the source's mirror folder and sync again.")
        self._database.execute("DELETE FROM reports WHERE sweep != ?", (sweep,))

    @contextmanager
    def together(self) -> Iterator[None]:
        """All that the block writes, or nothing."""
        self._database.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._database.execute("ROLLBACK")
            raise
        self._database.execute("COMMIT")


def _superseded(database: sqlite3.Connection) -> set[str]:
    """IDs of the reports that a later one of the same patient and study replaces."""
    studies: dict[tuple[str, str], set[str]] = defaultdict(set)  # of a patient's accession number
    rows = [(issued, name, found.patient_id, found.study_uid, found.accession)
            for issued, name, report in database.execute("SELECT issued, id, report FROM reports WHERE reason = ''")
            for found in [_report(report)]]
    for _, _, patient, study, accession in rows:
        if study and accession:
            studies[patient, accession].add(study)
    newest: dict[tuple[str, str, str], str] = {}
    earlier: set[str] = set()
    for _, name, patient, study, accession in sorted(rows):
        if not study and len(known := studies[patient, accession]) == 1:
            study = min(known)
        key = (patient, study, "" if study else accession)
        if key in newest:
            earlier.add(newest[key])
        newest[key] = name
    return earlier


def _report(text: str) -> Report:
    found = Report(**json.loads(text))
    return replace(found, names=tuple(found.names), dates=tuple(found.dates))
