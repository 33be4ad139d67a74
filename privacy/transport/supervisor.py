"""Keeps processes running: starts them, watches them, starts them again, and says why not.

*Guarantees.*
    * A child that ends is started again after a back-off that doubles up to `longest_s` and is forgotten after
      `steady_s` of quiet; which child, when, with which exit code is in the status file, whole at every moment.
    * Children are told to end by SIGTERM and killed after `grace_s`; they also end when the supervisor dies (Linux).

*Assumes.* Children write their own logs; their output here goes to one file each, which no secret enters.

*Does not cover.* A machine that is out of memory for good: the status says `waiting`, and the exit code.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from privacy.durable import write_whole

__all__ = ["Child", "Supervisor", "read_status"]

_DIE_WITH_PARENT = 1  # PR_SET_PDEATHSIG
_LARGEST_LOG = 8 << 20  # bytes; then the file is begun again, the old one kept as .1
_libc = ctypes.CDLL(None, use_errno=True)


@dataclass
class Child:
    """One process that is kept running.

    Args:
        on_exit: told the exit code after each end; returns the reason for the status, and may end or start others.
        ready: a file that the child writes when it is ready, and may take away again; removed before each start.
        lost: the reason for the status when it took the file away.
        needs: started only while that one is ready.
        inherits: descriptors that the child gets.
        vital: whether the service is ready only while this one is.
    """

    name: str
    command: Sequence[str]
    log: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    ready: Path | None = None
    lost: str = ""
    needs: Child | None = None
    inherits: tuple[int, ...] = ()
    vital: bool = True
    on_exit: Callable[[int], str] = lambda code: ""
    process: subprocess.Popen[bytes] | None = None
    starts: int = 0
    failures: int = 0           # in a row
    started_at: float = 0.0     # monotonic
    next_start: float = 0.0
    reason: str = ""
    was_ready: bool = False     # since its last start

    @property
    def is_ready(self) -> bool:
        """Whether it runs and has said that it is ready."""
        running = self.process is not None and self.process.poll() is None
        return running and (self.ready is None or self.ready.exists())


class Supervisor:
    """Runs children until it is told to stop.

    Args:
        status_file: JSON with the state of each child; written at every change.
        on_change: told whether everything is ready, and the reason where it is not.
    """

    def __init__(
        self, children: Sequence[Child], status_file: Path, *,
        on_change: Callable[[bool, str], None] = lambda up, why: None,
        first_s: float = 1.0, longest_s: float = 60.0, steady_s: float = 60.0, grace_s: float = 20.0,
    ) -> None:
        self._children = list(children)
        self._status_file, self._on_change = status_file, on_change
        self._first_s, self._longest_s, self._steady_s, self._grace_s = first_s, longest_s, steady_s, grace_s
        self._stop = threading.Event()
        self._said: tuple[Any, ...] = ()

    def stop(self) -> None:
        """End the children and return from `run`; may be called from a signal handler."""
        self._stop.set()

    def restart(self, name: str, reason: str) -> None:
        """End that child; it is started again at once."""
        for child in self._children:
            if child.name == name and child.process is not None and child.process.poll() is None:
                child.reason = reason
                child.process.send_signal(signal.SIGTERM)

    def run(self) -> None:
        """Until `stop`."""
        try:
            while not self._stop.is_set():
                for child in self._children:
                    try:
                        self._look_after(child)
                    except Exception as error:  # no process to be had, or no disk: the others go on
                        child.reason = f"cannot be started ({type(error).__name__})"
                        child.next_start = time.monotonic() + self._longest_s / 4
                self._report()
                self._stop.wait(0.2)
        finally:
            self._end_all()

    def _look_after(self, child: Child) -> None:
        now = time.monotonic()
        if child.process is not None:
            code = child.process.poll()
            if code is None:
                if now - child.started_at > self._steady_s:
                    child.failures = 0
                return
            child.process, child.reason = None, f"ended with exit code {code}"
            child.next_start = now + min(self._longest_s, self._first_s * 2**child.failures)
            child.failures = min(child.failures + 1, 16)
            child.reason = child.on_exit(code) or child.reason
        if now >= child.next_start and (child.needs is None or child.needs.is_ready):
            self._start(child)

    def _start(self, child: Child) -> None:
        if child.ready is not None:
            child.ready.unlink(missing_ok=True)
        with _log_file(child.log) as log:
            child.process = subprocess.Popen(
                list(child.command), stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
                env={**os.environ, **child.environment}, preexec_fn=_die_with_parent, start_new_session=True,
                pass_fds=child.inherits)
        child.starts, child.was_ready = child.starts + 1, False
        child.started_at = time.monotonic()

    def _end_all(self) -> None:
        for child in reversed(self._children):
            if child.process is not None and child.process.poll() is None:
                child.process.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + self._grace_s
        for child in self._children:
            if child.process is None:
                continue
            try:
                child.process.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                child.process.kill()
                child.process.wait()
            child.process, child.reason = None, "stopped"
        self._report()

    def _report(self) -> None:
        states = [(c, self._state(c)) for c in self._children]
        facts = [(c.name, state, c.process.pid if c.process else None, c.starts,
                  c.lost if state == "lost" else c.reason) for c, state in states]
        if tuple(facts) == self._said:
            return
        self._said = tuple(facts)
        vital = {c.name for c in self._children if c.vital}
        waiting = [f"{name}: {reason or state}" for name, state, _, _, reason in facts
                   if state != "running" and name in vital]
        status = {"pid": os.getpid(), "updated": time.time(), "ready": not waiting, "children": [
            {"name": name, "state": state, "pid": pid, "starts": starts, "last_reason": reason}
            for name, state, pid, starts, reason in facts]}
        try:
            write_whole(self._status_file, json.dumps(status, indent=1).encode())
        except OSError:  # a full disk must not end what runs
            self._said = ()
        self._on_change(not waiting, "; ".join(waiting))

    @staticmethod
    def _state(child: Child) -> str:
        if child.process is None or child.process.poll() is not None:
            return "waiting" if child.starts else "not started"
        ready = child.is_ready
        child.was_ready = child.was_ready or ready
        return "running" if ready else "lost" if child.was_ready else "starting"


def read_status(path: Path) -> dict[str, Any] | None:
    """The status that a supervisor wrote, with `alive`: whether it still runs; None when there is none."""
    try:
        status: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        os.kill(int(status["pid"]), 0)
    except (FileNotFoundError, ValueError, KeyError):
        return None
    except ProcessLookupError:
        return {**status, "alive": False, "ready": False}
    except PermissionError:
        pass
    return {**status, "alive": True}


def _log_file(path: Path) -> IO[bytes]:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    if path.is_file() and path.stat().st_size > _LARGEST_LOG:
        path.replace(path.with_name(f"{path.name}.1"))
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    return os.fdopen(descriptor, "ab", buffering=0)


def _die_with_parent() -> None:
    _libc.prctl(_DIE_WITH_PARENT, signal.SIGKILL)
