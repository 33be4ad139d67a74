"""The coordinator's executor: takes queued runs, one at a time, and plays the ServerApp of each with the model loaded.

It is the only client of the hub's private listener. It runs the installed code and no other: the bundle with which a
run is announced at Flower holds none. A run that stops below its quorum is tried again from its last
checkpoint, a few times in a row; what it fails of in the end is in the run's state.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from coordinator.home import Home
from coordinator.run_queue import QueuedRun, RunQueue
from coordinator.superlink_process import timing_of
from privacy.release import release_hash
from privacy.transport.app_bundle import app_bundle
from privacy.transport.child import child_arguments, log_to_output
from privacy.transport.flower_internals.process import prepare
from privacy.transport.flower_internals.tasks import HubControl
from privacy.transport.listeners import PrivateListener

__all__ = ["Executor", "main"]

_log = logging.getLogger(__name__)
_POLL_S = 0.2


def main(argv: list[str] | None = None) -> int:
    """`python -m coordinator.executor DIR --port PORT --secret-file FILE --ready FILE`."""
    arguments = child_arguments("coordinator.executor", __doc__, argv)
    log_to_output()
    home = Home.open(arguments.owner)
    timing = timing_of(home)
    prepare(timing, home.folder / "flower")
    private = PrivateListener(arguments.port, arguments.secret_file.read_text("ascii"))
    from coordinator.app import app  # torch, peft and flwr: seconds, before the first run asks for them

    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    executor = Executor(home, lambda: HubControl(private, timing), app)
    arguments.ready.touch()
    executor.run_until(stop)
    return 0


class Executor:
    """Works through the queue of `home`.

    Args:
        connect: a connection to the hub; may fail while the hub is away.
        server_app: called as (grid, context) for each run.
    """

    def __init__(self, home: Home, connect: Callable[[], HubControl], server_app: Callable[[Any, Any], Any]) -> None:
        self._home, self._connect, self._app = home, connect, server_app
        self._queue = RunQueue(home.runs_folder)

    def run_until(self, stop: threading.Event) -> None:
        """Run after run until `stop`; a run that goes on then is taken up at the next start."""
        self._queue.take_up_again()
        threading.Thread(target=_end_with, args=(stop,), daemon=True).start()
        while not stop.is_set():
            run = self._queue.next()
            if run is None:
                stop.wait(_POLL_S)
                continue
            self._attend(run, stop)

    def _attend(self, run: QueuedRun, stop: threading.Event) -> None:
        before = self._queue.rounds(run.run_id)
        run = replace(run, state="running", rounds=before)
        self._queue.put(run)
        _log.info("run=%s begins try=%d", run.run_id, run.tries + 1)
        try:
            self._prepare(run.run_id)
            self._play(run.run_id)
        except Exception as error:
            if self._queue.rounds(run.run_id) > before:  # it came on: only failures in a row count
                run = replace(run, tries=0)
            self._judge(run, error, stop)
        else:
            self._queue.put(replace(run, state="finished", reason=""))
            _log.info("run=%s finished", run.run_id)

    def _prepare(self, run_id: str) -> None:
        from coordinator.run_files import prepare_run

        prepare_run(self._home, run_id)

    def _play(self, run_id: str) -> None:
        control = self._connect()
        control.end_all()
        grid, context = control.begin(run_id, app_bundle(release_hash()))
        context.run_config = {"coordinator-file": str(self._queue.folder(run_id) / "coordinator.yaml")}
        failure = "the coordinator's executor ended"
        try:
            self._app(grid, context)
            failure = ""
        except Exception as error:
            failure = type(error).__name__
            raise
        finally:
            control.finish(failure)

    def _judge(self, run: QueuedRun, error: Exception, stop: threading.Event) -> None:
        """Failed, stopped, or once more: what may pass by itself is a lack of sites, and a hub that went away."""
        from coordinator.app import RunStoppedError
        from coordinator.conversation import RoundFailedError

        kind = type(error).__name__
        if isinstance(error, RunStoppedError):
            self._queue.put(replace(run, state="stopped", reason=str(error)))
            _log.info("run=%s stopped by the operator", run.run_id)
            return
        hub = type(error).__module__.startswith("httpx")
        passing = isinstance(error, RoundFailedError) or hub
        reason = str(error) if isinstance(error, ValueError | RuntimeError | OSError) else kind
        if hub:
            reason = f"the hub was away, or no longer knew this executor's task ({kind}); see log/superlink.log"
        _log.warning("run=%s try=%d ended kind=%s: %s", run.run_id, run.tries + 1, kind, reason)
        if not passing or run.tries >= self._home.config.retries:
            self._queue.put(replace(run, state="failed", reason=reason))
            return
        if stop.wait(self._home.config.retry_after_s):
            return
        if self._queue.get(run.run_id).state == "running":
            self._queue.put(replace(run, state="queued", tries=run.tries + 1, reason=reason))


def _end_with(stop: threading.Event) -> None:
    """A run in progress is left where it is when the supervisor ends: everything it needs is on the disk."""
    stop.wait()
    time.sleep(1.0)
    os._exit(0)


if __name__ == "__main__":
    sys.exit(main())
