"""Keeps the run store in step with the files while the console runs, and tells open pages what changed."""

from __future__ import annotations

import asyncio
import json
import logging
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from coordinator.run_store import queries
from coordinator.run_store.database import Database
from coordinator.run_store.importer import Importer

__all__ = ["Live"]

_log = logging.getLogger(__name__)
_BUSY_S, _IDLE_S, _BUSY_FOR_S = 0.4, 2.0, 60.0
_LOOK_S, _SIGN_OF_LIFE_S = 0.25, 15.0
_MOST_STREAMS = 64
_MOST_SAID = 200  # runs named in one message


class Live:
    """Imports in a thread of its own; `version` grows with every change.

    Args:
        importer: of the run store.
        files: other files whose change is one of the pages', such as the supervisor's status.
    """

    def __init__(self, importer: Importer, database: Database, files: tuple[Path, ...] = ()) -> None:
        self._importer, self._database, self._files = importer, database, files
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="importer", daemon=True)
        self._streams = 0
        self._cannot_plan = False
        self.version = 0
        self.said = ""       # of the newest change, for a screen reader
        self.failing = ""    # why the last import failed; "" = it did not
        self.imported = 0.0  # when one last went well (time.time)

    def start(self) -> None:
        """Begin to import, in the background: a large folder's pages fill while they are looked at."""
        self._thread.start()

    def end_streams(self) -> None:
        """From a signal handler: open pages reconnect by themselves."""
        self._stop.set()

    def stop(self) -> None:
        """End the thread and every stream."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(10.0)

    def touch(self, said: str) -> None:
        """Something that pages show has changed."""
        self.said = said
        self.version += 1

    def _run(self) -> None:
        busy_until, looks = time.monotonic() + _BUSY_S, self._look()
        while not self._stop.wait(_BUSY_S if time.monotonic() < busy_until else _IDLE_S):
            changed = self._import()
            if not changed:
                changed = self._plan()
            now = self._look()
            if changed or now != looks:
                busy_until, looks = time.monotonic() + _BUSY_FOR_S, now
                self.touch(self._sentence(changed))

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

    def _plan(self) -> set[str]:
        try:
            return {planned} if (planned := self._importer.plan()) else set()
        except Exception:  # of a manifest that cannot be accounted for
            if not self._cannot_plan:
                _log.exception("planned epsilon cannot be computed")
            self._cannot_plan = True
            return set()

    def _sentence(self, changed: set[str]) -> str:
        words = []
        with suppress(Exception), self._database.reading() as connection:
            for run in queries.run_summaries(connection):
                if run["run_id"] in changed:
                    total = run["rounds_total"] if run["rounds_total"] is not None else "?"
                    words.append(f"run {run['run_id']}: {run['state']}, {run['rounds_done']} of {total} rounds")
        return "; ".join(words[:3]) or "the coordinator's processes or roster changed"

    def _look(self) -> list[Any]:
        found: list[Any] = []
        for path in self._files:
            with suppress(OSError):
                facts = path.stat()
                found.append((str(path), facts.st_mtime_ns, facts.st_size))
        return found

    async def stream(self, holds: Callable[[], bool]) -> AsyncIterator[str]:
        """Server-sent events: one now, one for each change, a comment as a sign of life; until `holds` says no."""
        if self._streams >= _MOST_STREAMS:
            yield "retry: 60000\n\n"
            return
        self._streams += 1
        try:
            seen, last = -1, time.monotonic()
            while not self._stop.is_set() and holds():
                if self.version != seen:
                    kind = "hello" if seen < 0 else "change"
                    seen, last = self.version, time.monotonic()
                    yield f"id: {seen}\nevent: {kind}\ndata: {json.dumps({'said': self.said[:_MOST_SAID]})}\n\n"
                elif time.monotonic() - last > _SIGN_OF_LIFE_S:
                    last = time.monotonic()
                    yield ": here\n\n"
                await asyncio.sleep(_LOOK_S)
        finally:
            self._streams -= 1
