"""Keeps the run store in step with the files while the console runs, and tells open pages what changed.

The files are read once before the first page is answered: a run that is there is never said to be unknown.
"""

from __future__ import annotations

import logging
import time
from contextlib import suppress
from pathlib import Path

from coordinator.run_store import queries
from coordinator.run_store.database import Database
from coordinator.run_store.importer import Importer
from privacy.web.changes import BUSY_FOR_S, BUSY_S, IDLE_S, Changes, look

__all__ = ["Live"]

_log = logging.getLogger(__name__)


class Live(Changes):
    """Imports in a thread of its own; `version` grows with every change.

    Args:
        importer: of the run store.
        files: other files whose change is one of the pages', such as the supervisor's status.
    """

    def __init__(self, importer: Importer, database: Database, files: tuple[Path, ...] = ()) -> None:
        super().__init__()
        self._importer, self._database, self._files = importer, database, files
        self._cannot_plan = False
        self.failing = ""    # why the last import failed; "" = it did not
        self.imported = 0.0  # when one last went well (time.time)

    def start(self) -> None:
        """Bring the store up to date, then go on in the background."""
        if changed := self._import():
            self.touch(self._sentence(changed))
        super().start()

    def _run(self) -> None:
        busy_until, looks = time.monotonic() + BUSY_S, look(self._files)
        while not self._stop.wait(BUSY_S if time.monotonic() < busy_until else IDLE_S):
            changed = self._import()
            planned = "" if changed else self._plan()
            now = look(self._files)
            if changed or now != looks:
                busy_until, looks = time.monotonic() + BUSY_FOR_S, now
                self.touch(self._sentence(changed))
            elif planned:
                busy_until = time.monotonic() + BUSY_FOR_S
                self.touch("")  # a further number on the page, and nothing to read out

    def _import(self) -> set[str]:
        try:
            changed = self._importer.bring_up_to_date()
        except Exception as error:  # the disk, the database: the pages say so, and it is tried again
            if not self.failing:
                _log.exception("import failed")
                self.touch("The run store cannot be brought up to date.")
            self.failing = type(error).__name__
            return set()
        self.failing, self.imported = "", time.time()
        if changed:
            _log.info("imported", extra={"runs": len(changed)})
        return changed

    def _plan(self) -> str:
        try:
            return self._importer.plan()
        except Exception:  # of a manifest that cannot be accounted for
            if not self._cannot_plan:
                _log.exception("planned epsilon cannot be computed")
            self._cannot_plan = True
            return ""

    def _sentence(self, changed: set[str]) -> str:
        words = []
        with suppress(Exception), self._database.reading() as connection:
            for run in queries.run_summaries(connection):
                if run["run_id"] in changed:
                    total = run["rounds_total"] if run["rounds_total"] is not None else "?"
                    words.append(f"run {run['run_id']}: {run['state']}, {run['rounds_done']} of {total} rounds")
        return "; ".join(words[:3]) or "the coordinator's processes or roster changed"
