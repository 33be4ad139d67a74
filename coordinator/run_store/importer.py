"""From the coordinator's files into the run store: what is new since the last time, each event once.

A run is brought up to date in one transaction that also keeps how far its journals were read, so an import that was cut
short begins again where the last whole one ended, and two that run at once do the same work twice at worst. A journal
that was replaced or cut is read anew from its beginning.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

from sqlalchemy import Connection, Table, delete, insert, select, update
from sqlalchemy.exc import IntegrityError, OperationalError

from coordinator.run_store import records
from coordinator.run_store.database import Database
from coordinator.run_store.planned import manifest_of, plan_of
from coordinator.run_store.schema import cohorts, measures, participation, planned, rounds, runs, steps

__all__ = ["Importer"]

JOURNAL, STEPS = "progress.jsonl", "steps.jsonl"
_BEGINNING = 256  # bytes by which a journal is known again
_WATCHED = (JOURNAL, STEPS, "state.json", "manifest.bin", "journal.json", "checkpoints")
_OF_A_RUN: tuple[Table, ...] = (rounds, participation, measures, cohorts, steps, planned, runs)


class Importer:
    """Keeps `database` in step with the runs under `folder`."""

    def __init__(self, database: Database, folder: Path) -> None:
        self._database, self._folder = database, folder
        self._seen: dict[str, tuple[Any, ...]] = {}

    def bring_up_to_date(self) -> set[str]:
        """Import what changed; the names of the runs that did, gone ones included.

        A run that another process imports just now is taken up the next time.
        """
        changed = set()
        present = {path.name: path for path in sorted(self._folder.glob("*")) if _is_run(path)}
        for run_id, path in present.items():
            look = _look(path)
            if self._seen.get(run_id) == look:
                continue
            with suppress(IntegrityError, OperationalError):
                with self._database.writing() as connection:
                    import_run(connection, path)
                self._seen[run_id] = look
                changed.add(run_id)
        return changed | self._forget(set(present))

    def plan(self) -> str:
        """Compute the planned epsilon of one run that lacks it: seconds, so it is no part of `bring_up_to_date` and of
        no transaction. Its name, or "" when no run lacks it."""
        with self._database.reading() as connection:
            lacking = connection.scalars(select(runs.c.run_id).where(
                runs.c.manifest.is_not(None), runs.c.run_id.not_in(select(planned.c.run_id))).order_by(
                    runs.c.queued.desc())).all()
        for run_id in lacking:
            rows = plan_of(self._folder / run_id)
            if rows:
                with suppress(IntegrityError, OperationalError), self._database.writing() as connection:
                    connection.execute(insert(planned), [{"run_id": run_id, **row} for row in rows])
                return str(run_id)
        return ""

    def _forget(self, present: set[str]) -> set[str]:
        """Runs whose folder is gone: the files are the truth."""
        with self._database.reading() as connection:
            gone = set(connection.scalars(select(runs.c.run_id))) - present
        for run_id in gone:
            with self._database.writing() as connection:
                _remove(connection, run_id, _OF_A_RUN)
            self._seen.pop(run_id, None)
        return gone


def import_run(connection: Connection, folder: Path) -> None:
    """Bring one run up to date within the caller's transaction."""
    run_id = folder.name
    known = connection.execute(select(runs).where(runs.c.run_id == run_id).with_for_update()).mappings().one_or_none()
    beginning = known["beginning"] if known else ""
    if known is None or not _goes_on(folder / JOURNAL, known["position"], beginning) or (
            _size(folder / STEPS) < known["steps_position"]):
        _remove(connection, run_id, _OF_A_RUN)
        connection.execute(insert(runs).values(
            run_id=run_id, state="unknown", reason="", ended="", ended_text="", lost_rounds=[], unreadable=0,
            position=0, beginning="", steps_position=0))
    _import_journal(connection, folder)
    _import_checkpoint(connection, folder)
    _import_state(connection, folder)


def _import_journal(connection: Connection, folder: Path) -> None:
    run = connection.execute(select(runs).where(runs.c.run_id == folder.name)).mappings().one()
    taken = _Taken(connection, folder.name, dict(run))
    taken.position = _each_line(folder / JOURNAL, taken.position, taken.take)
    taken.steps_position = _each_line(folder / STEPS, taken.steps_position, taken.take_step)
    connection.execute(update(runs).where(runs.c.run_id == folder.name).values(
        **taken.facts, position=taken.position, steps_position=taken.steps_position,
        beginning=_beginning(folder / JOURNAL, taken.position)))


class _Taken:
    """What the lines say of one run, as they are read."""

    def __init__(self, connection: Connection, run_id: str, run: dict[str, Any]) -> None:
        self._connection, self._run_id = connection, run_id
        self.position, self.steps_position = int(run["position"]), int(run["steps_position"])
        self.facts = {name: run[name] for name in (
            "rounds_total", "ended", "ended_text", "first_time", "last_time", "unreadable")}

    def take(self, position: int, line: bytes) -> None:
        """A line of the run's journal."""
        try:
            event = records.event_of(line)
            self._take(position, event)
        except ValueError:
            self.facts["unreadable"] += 1
            return
        first = self.facts["first_time"]
        self.facts["first_time"] = event["time"] if first is None else first
        self.facts["last_time"] = event["time"]

    def _take(self, position: int, event: records.Event) -> None:
        kind = event["event"]
        if kind == "round":
            put_round(self._connection, self._run_id, event)
        elif kind == "cohort":
            rows = records.cohort_rows(event)
            if rows:
                self._connection.execute(insert(cohorts), [
                    {"run_id": self._run_id, "position": position, **row} for row in rows])
        elif kind == "begin":
            self.facts["rounds_total"] = records.whole(event.get("rounds_total"))
        ended = kind in ("end", "failed", "stopped")
        text = records.text_of(event.get("text", "")) if ended else ""
        self.facts.update(ended=kind if ended else "", ended_text=text)

    def take_step(self, position: int, line: bytes) -> None:
        """A line of `steps.jsonl`."""
        try:
            row = records.step_row(records.event_of(line))
        except ValueError:
            self.facts["unreadable"] += 1
            return
        self._connection.execute(insert(steps).values(run_id=self._run_id, position=position, **row))


def put_round(connection: Connection, run_id: str, entry: records.Event) -> None:
    """Write a finished round, in the place of what was known of it. Raises ValueError; then nothing is written."""
    row, people = records.round_row(entry), records.participation_rows(entry)
    measured = records.measure_rows(entry)
    for table in (rounds, participation, measures):
        connection.execute(delete(table).where(table.c.run_id == run_id, table.c.round == row["round"]))
    connection.execute(insert(rounds).values(run_id=run_id, **row))
    for table, rows in ((participation, people), (measures, measured)):
        if rows:
            connection.execute(insert(table), [{"run_id": run_id, "round": row["round"], **one} for one in rows])


def _import_checkpoint(connection: Connection, folder: Path) -> None:
    """Rounds that only the newest checkpoint knows: the process ended before it wrote the event, or a backup."""
    states = sorted((folder / "checkpoints").glob("round-*/state.json"))
    history = _json(states[-1]).get("history") if states else None
    known = set(connection.scalars(select(rounds.c.round).where(rounds.c.run_id == folder.name)))
    for entry in history if isinstance(history, list) else []:
        with suppress(ValueError):
            if isinstance(entry, dict) and records.whole(entry.get("round")) not in known:
                put_round(connection, folder.name, entry)


def _import_state(connection: Connection, folder: Path) -> None:
    state, journal = _json(folder / "state.json"), _json(folder / "journal.json")
    values: dict[str, Any] = {}
    with suppress(ValueError):
        values = {"state": records.text_of(state.get("state", "unknown")),
                  "reason": records.text_of(state.get("reason", "")), "queued": records.number(state.get("queued"))}
    masked = journal.get("masked")
    if isinstance(masked, dict):
        summed = set(connection.scalars(select(rounds.c.round).where(rounds.c.run_id == folder.name)))
        values["lost_rounds"] = sorted({int(one) for one in masked if one.isdigit() and len(one) < 9} - summed)
    run = connection.execute(select(runs).where(runs.c.run_id == folder.name)).one()
    if run.manifest is None:
        found = manifest_of(folder)
        if found is not None:
            values["manifest"] = found
            if run.rounds_total is None:
                values["rounds_total"] = found["rounds_total"]
    if values:
        connection.execute(update(runs).where(runs.c.run_id == folder.name).values(**values))


def _each_line(path: Path, position: int, take: Callable[[int, bytes], None]) -> int:
    """Hand over every whole line from `position` on, with its own position; the position after the last of them."""
    if not path.is_file():
        return position
    with path.open("rb") as file:
        for begin, line in _lines(file, position):
            take(begin, line)
            position = begin + len(line)
    return position


def _lines(file: BinaryIO, position: int) -> Iterator[tuple[int, bytes]]:
    file.seek(position)
    for line in file:
        if not line.endswith(b"\n"):  # it is being written
            return
        yield position, line
        position += len(line)


def _goes_on(path: Path, position: int, beginning: str) -> bool:
    """Whether the journal is the one that was read up to `position`."""
    return position == 0 or (_size(path) >= position and _beginning(path, position) == beginning)


def _beginning(path: Path, position: int) -> str:
    if position == 0:
        return ""
    with path.open("rb") as file:
        return hashlib.sha256(file.read(min(position, _BEGINNING))).hexdigest()


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


def _remove(connection: Connection, run_id: str, tables: tuple[Table, ...]) -> None:
    for table in tables:
        connection.execute(delete(table).where(table.c.run_id == run_id))


def _json(path: Path) -> dict[str, Any]:
    """The object in the file; {} where there is none."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _is_run(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink() and any((path / name).exists() for name in _WATCHED)


def _look(path: Path) -> tuple[Any, ...]:
    """What changes when a run does."""
    found = []
    for name in _WATCHED:
        with suppress(FileNotFoundError):
            facts = (path / name).stat()
            found.append((name, facts.st_mtime_ns, facts.st_size, facts.st_ino))
    return tuple(found)
