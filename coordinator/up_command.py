"""`coordinator up`: the hub and the executor, kept running, with the health service; one line for each change."""

from __future__ import annotations

import argparse
import fcntl
import os
import signal
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from coordinator.home import Home
    from privacy.transport.supervisor import Child

__all__ = ["add_up_command", "status_file"]

EXIT_OK = 0


def add_up_command(commands: Any) -> None:
    """Add `up` to the parser's `commands` (of `add_subparsers`)."""
    up = commands.add_parser(
        "up", help="serve the federation until Ctrl-C: the sites connect, launched runs run",
        description="Keeps Flower's hub (TLS; only the fleet's routes in public) and the run's executor running, and "
                    "starts each again when it ends. A run that was going on goes on after its last checkpoint.")
    up.add_argument("folder", type=Path, metavar="DIR", help="the coordinator's folder")
    up.set_defaults(command=_up)


def status_file(folder: Path) -> Path:
    """Where `up` writes the state of its processes."""
    return folder / "log" / "up.json"


def _up(arguments: argparse.Namespace) -> int:
    from coordinator.home import Home
    from privacy.transport.health import HealthService
    from privacy.transport.supervisor import Supervisor

    home = Home.open(arguments.folder)
    home.key()
    _check_certificate(home)
    with _only_one(home):
        health = HealthService(home.config.health_port) if home.config.health_port else None
        said: list[str] = []

        def on_change(ready: bool, why: str) -> None:
            if health is not None:
                health.set(ready, why)
            line = "ready" if ready else why
            if said[-1:] != [line]:
                said.append(line)
                _say(line)

        _say(f"federation {home.config.federation_id}: sites connect to {home.config.address}, "
             f"listening on {home.config.listen}")
        _say(_roster_line(home))
        supervisor = Supervisor(_children(home), status_file(home.folder), on_change=on_change)

        def drain(*_: object) -> None:
            if health is not None:
                health.set(False, "draining")
            supervisor.stop()

        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, drain)
        supervisor.run()
        _say("stopped; a run that was going on goes on at the next `coordinator up`")
        if health is not None:
            health.stop()
    return EXIT_OK


def _say(line: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {line}", flush=True)


def _roster_line(home: Home) -> str:
    try:
        roster = home.roster().roster
    except ValueError as error:
        return f"no site can connect yet: {error}"
    return f"roster version {roster.version}: {', '.join(roster.active_ids)}"


def _check_certificate(home: Home) -> None:
    """A certificate that has ended looks like an attack to every site, so nothing is begun with one."""
    from datetime import UTC, datetime, timedelta

    from cryptography.x509 import load_pem_x509_certificate

    if not home.server_certificate_file.is_file():
        raise ValueError(f"{home.server_certificate_file} is missing; restore it from backup or run `coordinator "
                         f"renew-certificate {home.folder}`")
    ends = load_pem_x509_certificate(home.server_certificate_file.read_bytes()).not_valid_after_utc
    if ends <= datetime.now(UTC):
        raise ValueError(f"the server's certificate ended on {ends:%Y-%m-%d}; run `coordinator renew-certificate "
                         f"{home.folder}`")
    if ends - datetime.now(UTC) < timedelta(days=30):
        _say(f"WARNING: the server's certificate ends on {ends:%Y-%m-%d}; run `coordinator renew-certificate`")


@contextmanager
def _only_one(home: Home) -> Iterator[None]:
    home.log_folder.mkdir(exist_ok=True, mode=0o700)
    descriptor = os.open(home.log_folder / "up.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise ValueError(f"`coordinator up` runs already for {home.folder}; end it first") from None
    try:
        yield
    finally:
        os.close(descriptor)


def _children(home: Home) -> list[Child]:
    """The two processes. The private listener's port and secret are new at each start of `up`."""
    from privacy.durable import write_whole
    from privacy.entropy import SystemEntropy
    from privacy.transport.supervisor import Child

    secret = home.log_folder / "private.secret"
    write_whole(secret, SystemEntropy().random_bytes(32).hex().encode())
    port = str(_free_port())

    def child(name: str, module: str) -> Child:
        ready = home.log_folder / f"{name}.ready"
        return Child(
            name, [sys.executable, "-m", module, str(home.folder), "--port", port, "--secret-file", str(secret),
                   "--ready", str(ready)], home.log_folder / f"{name}.log", ready=ready)

    return [child("superlink", "coordinator.superlink_process"), child("executor", "coordinator.executor")]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
