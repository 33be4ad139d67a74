"""`coordinator up`: the hub and the executor, kept running, with the health service; one line for each change."""

from __future__ import annotations

import argparse
import sys
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
    up.add_argument("--json", action="store_true",
                    help="print and log JSON lines, whatever log_format in coordinator.yaml says")
    up.set_defaults(command=_up)


def status_file(folder: Path) -> Path:
    """Where `up` writes the state of its processes."""
    return folder / "log" / "up.json"


def _up(arguments: argparse.Namespace) -> int:
    from coordinator.home import Home
    from privacy.state_version import claim_version
    from privacy.transport.log_lines import use_format
    from privacy.transport.service import alone, say, serve

    home = Home.open(arguments.folder)
    home.key()
    use_format(home.config.log_format, insist=arguments.json)
    _check_certificate(home)
    home.log_folder.mkdir(exist_ok=True, mode=0o700)
    with alone(home.log_folder / "up.lock", f"`coordinator up` runs already for {home.folder}; end it first"):
        claim_version(home.folder)
        say(f"federation {home.config.federation_id}: sites connect to {home.config.address}, "
            f"listening on {home.config.listen}")
        say(_roster_line(home))
        if home.config.console != "0":
            say(f"console: `coordinator console {home.folder} --url` prints its address")
        serve(_children(home), status_file(home.folder), home.config.health_port, "ready")
        say("stopped; a run that was going on goes on at the next `coordinator up`")
    return EXIT_OK


def _roster_line(home: Home) -> str:
    try:
        roster = home.roster().roster
    except ValueError as error:
        return f"no site can connect yet: {error}"
    return f"roster version {roster.version}: {', '.join(roster.active_ids)}"


def _check_certificate(home: Home) -> None:
    """A certificate that has ended looks like an attack to every site, so nothing is begun with one."""
    from datetime import UTC, datetime, timedelta

    from privacy.enrolment import certificate_of
    from privacy.transport.service import say

    try:
        ends = certificate_of(home.server_certificate_file.read_bytes()).not_valid_after_utc
    except (FileNotFoundError, ValueError) as error:
        wrong = "is missing" if isinstance(error, FileNotFoundError) else "is no certificate in PEM"
        raise ValueError(f"{home.server_certificate_file} {wrong}; restore it from backup or run `coordinator "
                         f"renew-certificate {home.folder}`") from None
    if ends <= datetime.now(UTC):
        raise ValueError(f"the server's certificate ended on {ends:%Y-%m-%d}; run `coordinator renew-certificate "
                         f"{home.folder}`")
    if ends - datetime.now(UTC) < timedelta(days=30):
        say(f"WARNING: the server's certificate ends on {ends:%Y-%m-%d}; run `coordinator renew-certificate`")


def _children(home: Home) -> list[Child]:
    """The two processes, and the console. The private listener's port and secret are new at each start of `up`."""
    from privacy.durable import write_whole
    from privacy.entropy import SystemEntropy
    from privacy.transport.service import listening_socket
    from privacy.transport.supervisor import Child

    secret = home.log_folder / "private.secret"
    write_whole(secret, SystemEntropy().random_bytes(32).hex().encode())
    listening = listening_socket()
    shared = ["--port", str(listening.getsockname()[1]), "--secret-file", str(secret)]

    def child(name: str, module: str, *more: str, inherits: tuple[int, ...] = ()) -> Child:
        ready = home.log_folder / f"{name}.ready"
        return Child(name, [sys.executable, "-m", module, str(home.folder), *shared, "--ready", str(ready), *more],
                     home.log_folder / f"{name}.log", ready=ready, inherits=inherits)

    descriptor = listening.detach()  # open until this process ends
    hub = child("superlink", "coordinator.superlink_process", "--descriptor", str(descriptor), inherits=(descriptor,))
    return [hub, child("executor", "coordinator.executor"), *_console(home)]


def _console(home: Home) -> list[Child]:
    """The web console, unless it is switched off. It only looks on, so its absence keeps nothing from being ready."""
    from privacy.transport.supervisor import Child

    if home.config.console == "0":
        return []
    ready = home.log_folder / "console.ready"
    command = [sys.executable, "-m", "coordinator.console.process", str(home.folder), "--ready", str(ready)]
    return [Child("console", command, home.log_folder / "console.log", ready=ready, vital=False)]
