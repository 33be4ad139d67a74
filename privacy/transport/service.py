"""A long-running command: alone, supervised, with a health service, ended by a signal after a drain.

*Guarantees.* Two services of one folder never run at once. While draining the health service says so.

*Assumes.* It runs in the process's main thread.

*Does not cover.* What the children do.
"""

from __future__ import annotations

import fcntl
import os
import signal
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from privacy.transport.health import HealthService
from privacy.transport.log_lines import as_line, is_json
from privacy.transport.supervisor import Child, Supervisor

__all__ = ["alone", "free_port", "listening_socket", "say", "serve"]


def say(line: str) -> None:
    """One line with the time, at once; a JSON object where JSON was chosen (`privacy.transport.log_lines`)."""
    print(as_line(line) if is_json() else f"{time.strftime('%H:%M:%S')} {line}", flush=True)


@contextmanager
def alone(lock: Path, taken: str) -> Iterator[None]:
    """Hold `lock` until the end of the block or the process. Raises ValueError with `taken` when another holds it."""
    descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ValueError(taken) from None
        yield
    finally:
        os.close(descriptor)


def free_port() -> int:
    """A port of 127.0.0.1 on which nothing listens now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def listening_socket() -> socket.socket:
    """A socket that listens on a port of 127.0.0.1 that the kernel chose; a child may inherit it."""
    made = socket.create_server(("127.0.0.1", 0), backlog=256)
    made.set_inheritable(True)
    return made


def serve(
    children: Sequence[Child], status_file: Path, health_port: int, ready_line: str,
    prepare: Callable[[Supervisor], None] = lambda supervisor: None,
) -> None:
    """Run `children` until SIGTERM or SIGINT; each change of what is ready is one line on standard output.

    Args:
        health_port: of the health service on 127.0.0.1; 0 = none.
        prepare: given the supervisor before it runs.

    Raises:
        ValueError: the health port is taken.
    """
    health = HealthService(health_port) if health_port else None
    said: list[str] = []

    def on_change(ready: bool, why: str) -> None:
        if health is not None and said[-1:] != ["draining"]:
            health.set(ready, why)
        line = ready_line if ready else why
        if said[-1:] != [line] and said[-1:] != ["draining"]:
            said.append(line)
            say(line)

    supervisor = Supervisor(children, status_file, on_change=on_change)
    prepare(supervisor)

    def drain(*_: object) -> None:
        said.append("draining")
        if health is not None:
            health.set(False, "draining")
        supervisor.stop()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, drain)
    try:
        supervisor.run()
    finally:
        if health is not None:
            health.stop()
