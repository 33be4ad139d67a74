"""The runs of a coordinator's folder and where each stands: one small file a run, written whole at every change.

`launch` puts a run in, the executor takes the oldest, `stop` and `resume` change what it finds. A run that was running
when the executor died is queued again; it goes on after its last checkpoint.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from configs.schema import RunConfig
from privacy.durable import sync, write_whole
from privacy.wire import check_id

__all__ = ["STOP_FILE", "QueuedRun", "RunQueue"]

State = Literal["queued", "running", "finished", "failed", "stopped"]
_MOST_DEATHS = 8
STOP_FILE = "stop"  # in the run's folder: end after the round that is going on


@dataclass(frozen=True)
class QueuedRun:
    """Where a run stands. `reason` says why it failed or stopped; `queued` is the time (s) that orders the queue,
    `tries` how often in a row it ended without a further round, `rounds` how many it had when it was taken up."""

    run_id: str
    state: State
    queued: float
    tries: int = 0
    reason: str = ""
    rounds: int = 0


class RunQueue:
    """The folder `runs/` of a coordinator."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def folder(self, run_id: str) -> Path:
        """Of that run. Raises ValueError for a name that no run can have."""
        check_id("run_id", run_id)
        return self._folder / run_id

    def add(self, config: RunConfig) -> QueuedRun:
        """Put a new run in. Raises ValueError when its name was used before; nothing was changed."""
        folder = self.folder(config.run_id)
        if (folder / "state.json").exists():
            raise ValueError(f"run {config.run_id} exists already; give the new one another run_id, or go on with it: "
                             f"`coordinator resume`")
        folder.mkdir(parents=True, exist_ok=True)
        write_whole(folder / "run.json", json.dumps(asdict(config), indent=1).encode())
        run = QueuedRun(config.run_id, "queued", time.time())
        self.put(run)
        sync(self._folder)
        return run

    def put(self, run: QueuedRun) -> None:
        """Durably, whole."""
        write_whole(self.folder(run.run_id) / "state.json", json.dumps(asdict(run)).encode())

    def get(self, run_id: str) -> QueuedRun:
        """Raises ValueError when there is no such run; the text names the runs that there are."""
        path = self.folder(run_id) / "state.json"
        if not path.is_file():
            known = ", ".join(run.run_id for run in self.all()) or "none yet, `coordinator launch` begins one"
            raise ValueError(f"there is no run {run_id}; known runs: {known}")
        return _read(path)

    def all(self) -> list[QueuedRun]:
        """Oldest first."""
        return sorted(self._present(), key=lambda run: run.queued)

    def _present(self) -> Iterator[QueuedRun]:
        """A damaged state is left out, so that it holds up no other run; `get` says what is wrong with it."""
        for path in self._folder.glob("*/state.json"):
            with suppress(ValueError):
                yield _read(path)

    def take_up_again(self) -> None:
        """What ran when the executor died goes on, before what was queued after it; not one that kills it each time."""
        for run in self._present():
            if run.state != "running":
                continue
            tries = 0 if self.rounds(run.run_id) > run.rounds else run.tries + 1
            if tries > _MOST_DEATHS:
                self.put(replace(run, state="failed", reason=(
                    f"the executor ended {tries} times in a row during this run; see log/executor.log")))
            else:
                self.put(replace(run, state="queued", tries=tries, reason="the executor was restarted"))

    def rounds(self, run_id: str) -> int:
        """Finished rounds on the disk."""
        found = self.folder(run_id).glob("checkpoints/round-*")
        return max((int(path.name.rpartition("-")[2]) for path in found), default=0)

    def next(self) -> QueuedRun | None:
        """The oldest run that waits."""
        return next((run for run in self.all() if run.state == "queued"), None)

    def stop(self, run_id: str) -> str:
        """Ask for the end of a run after its round; what happens, in one sentence. Raises ValueError."""
        run = self.get(run_id)
        if run.state == "queued":
            self.put(replace(run, state="stopped", reason="stopped by the operator before it began"))
            return f"run {run_id} is taken out of the queue; `coordinator resume` puts it back"
        if run.state != "running":
            raise ValueError(f"run {run_id} is {run.state} already")
        write_whole(self.folder(run_id) / STOP_FILE, b"")
        return f"run {run_id} ends after the round that is going on; `coordinator resume` goes on with the next one"

    def resume(self, run_id: str) -> str:
        """Queue a run that stopped or failed; what happens, in one sentence. Raises ValueError."""
        run = self.get(run_id)
        if run.state in ("running", "queued"):
            raise ValueError(f"run {run_id} is {run.state}; there is nothing to resume")
        if run.state == "finished":
            raise ValueError(f"run {run_id} is finished; `coordinator export` gives its adapter")
        (self.folder(run_id) / STOP_FILE).unlink(missing_ok=True)
        self.put(replace(run, state="queued", queued=time.time(), tries=0, reason=""))
        return f"run {run_id} is queued; it goes on after its last checkpoint"


def _read(path: Path) -> QueuedRun:
    try:
        facts: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return QueuedRun(**facts)
    except (ValueError, TypeError):
        raise ValueError(f"{path} is damaged; restore it from backup, or remove the file and launch the run again "
                         "under another run_id") from None
