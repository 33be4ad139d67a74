"""Exported releases: what their statement says, and whether they hold, which is checked in the background.

A check hashes every file of a release, so it is done once for each content, and not by itself for large ones.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from coordinator.exports import exports_of
from coordinator.home import Home
from coordinator.release_folder import ReleaseError, open_statement, present_files, read_part
from coordinator.run_queue import RunQueue
from coordinator.verify_release import Anchor, verify_release

__all__ = ["Releases"]

Values = dict[str, Any]
_LARGEST = 4 << 30   # bytes of a release that is checked without being asked
_MOST_CARD = 1 << 18
_MOST_KEPT = 256


class Releases:
    """The releases that `coordinator export` wrote from the runs of `home`.

    Args:
        changed: told, in one sentence, when a check has ended.
    """

    def __init__(self, home: Home, changed: Callable[[str], None]) -> None:
        self._home, self._changed = home, changed
        self._workers = ThreadPoolExecutor(max_workers=1, thread_name_prefix="verify")
        self._found: dict[tuple[Any, ...], Values] = {}

    def close(self) -> None:
        """Begin no further check."""
        self._workers.shutdown(wait=False, cancel_futures=True)

    def all(self) -> list[Values]:
        """Every export that was noted, newest first, as `one` without its card."""
        found = []
        for run in RunQueue(self._home.runs_folder).all():
            for number, export in enumerate(exports_of(self._home.runs_folder / run.run_id), 1):
                found.append({"run_id": run.run_id, "number": number, **self._look(export)})
        return sorted(found, key=lambda one: one["time"], reverse=True)

    def one(self, run_id: str, number: int) -> Values | None:
        """That export of the run (from 1), with its card; None where there is none."""
        exports = exports_of(self._home.runs_folder / run_id)
        if not 1 <= number <= len(exports):
            return None
        found = {"run_id": run_id, "number": number, **self._look(exports[number - 1])}
        try:
            card = read_part(Path(found["folder"]) / "README.md", _MOST_CARD).decode("utf-8", "replace")
        except (OSError, ReleaseError):
            card = ""
        return {**found, "card": card}

    def _look(self, export: Values) -> Values:
        folder = Path(export["folder"])
        values = {**export, "present": folder.is_dir(), "facts": {}, "hash": "", "size": 0, "fault": "", "check": None}
        if not values["present"]:
            return {**values, "fault": "The folder is not there any more: it was moved or removed."}
        try:
            statement = open_statement(folder)
            files = {name: path.stat() for name, path in present_files(folder).items()}
        except (ReleaseError, OSError) as error:
            return {**values, "fault": str(error)}
        size = sum(facts.st_size for facts in files.values())
        values |= {"facts": statement.facts, "hash": hashlib.sha256(statement.data).hexdigest(), "size": size}
        mark = (str(folder), *((name, facts.st_mtime_ns, facts.st_size) for name, facts in sorted(files.items())))
        return {**values, "check": self._check(mark, folder, size)}

    def _check(self, mark: tuple[Any, ...], folder: Path, size: int) -> Values:
        known = self._found.get(mark)
        if known is None:
            if size > _LARGEST:
                return {"state": "not checked"}
            known = self._found[mark] = {"state": "checking"}
            while len(self._found) > _MOST_KEPT:
                self._found.pop(next(iter(self._found)))
            self._workers.submit(self._verify, mark, folder)
        return known

    def _verify(self, mark: tuple[Any, ...], folder: Path) -> None:
        try:
            anchor = Anchor(self._home.in_force(), "", self._home.config.federation_id)
            found = verify_release(folder, anchor)
            outcome: Values = {"state": "holds", **found.facts()}
        except (ValueError, OSError) as error:  # ReleaseError among them
            outcome = {"state": "fails", "failure": str(error)}
        except Exception as error:
            outcome = {"state": "fails", "failure": f"the check itself failed ({type(error).__name__})"}
        self._found[mark] = outcome
        self._changed(f"release {folder.name}: {outcome['state']}")
