"""`coordinator doctor DIR`: what keeps the federation from running, or will soon, each with the fix. Reads only."""

from __future__ import annotations

import argparse
import ctypes
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from privacy.transport.diagnosis import (
    Finding,
    exit_code,
    failed,
    folder_findings,
    key_findings,
    machine_findings,
    package_findings,
    passed,
    process_findings,
    report,
    until,
    warned,
    watch,
)

if TYPE_CHECKING:
    from coordinator.home import Home

__all__ = ["add_doctor_command", "diagnose"]

_MODULES = ("coordinator.superlink_process", "coordinator.executor")
_LARGE_DATABASE = 2 * 10**9
_NOT_SYNCHRONISED = 5  # TIME_ERROR of adjtimex(2)
_FIX = "restore the coordinator's folder from backup"


def add_doctor_command(commands: Any) -> None:
    """Add `doctor` to the parser's `commands` (of `add_subparsers`)."""
    doctor = commands.add_parser(
        "doctor", help="what keeps the federation from running, and the fix",
        description="Look at keys, certificates, roster, processes, port and machine. Changes nothing. Exit code 1 "
                    "when a line is FAIL.")
    doctor.add_argument("folder", type=Path, metavar="DIR", help="the coordinator's folder")
    doctor.add_argument("--json", action="store_true", help="print JSON instead of text")
    doctor.set_defaults(command=_doctor)


def _doctor(arguments: argparse.Namespace) -> int:
    from coordinator.home import Home

    findings = diagnose(Home.open(arguments.folder))
    print(report(findings, as_json=arguments.json))
    return exit_code(findings)


def diagnose(home: Home) -> list[Finding]:
    """Every finding about that folder and this machine, in the order in which to mend them."""
    findings = [passed("folder", f"federation {home.config.federation_id}, sites connect to {home.config.address}")]
    findings += watch("packages", package_findings, "install the release into a fresh environment")
    findings += watch("files", lambda: folder_findings("files", home.folder), _FIX)
    findings += watch("keys", lambda: _keys(home), _FIX)
    findings += watch("process", lambda: process_findings(
        "process", home.log_folder / "up.lock", str(home.log_folder / "private.secret"), _MODULES,
        f"coordinator up {home.folder}"), "look at the machine's processes")
    findings += watch("port", lambda: _port(home), "correct `listen` in coordinator.yaml")
    findings += watch("health", lambda: _health(home), "see the process line")
    findings += watch("console", lambda: _console(home), "correct `console` in coordinator.yaml")
    findings += watch("certificate", lambda: _certificates(home), f"coordinator renew-certificate {home.folder}")
    findings += watch("roster", lambda: _roster(home), _FIX)
    findings += watch("runs", lambda: _runs(home), _FIX)
    findings += watch("database", lambda: _database(home), _FIX)
    findings += watch("clock", _clock, "set the clock (NTP)")
    findings += watch("machine", lambda: machine_findings(home.folder, 0, 0, "coordinator"), "look at the machine")
    return findings


def _keys(home: Home) -> list[Finding]:
    findings = key_findings("keys", {home.key_file: 32, home.ca_key_file: None, home.server_key_file: None})
    if all(one.level == "PASS" for one in findings):
        home.key()  # raises when it is not the invitation's
    return findings


def _is_up(home: Home) -> bool:
    from coordinator.up_command import status_file
    from privacy.transport.supervisor import read_status

    status = read_status(status_file(home.folder))
    return status is not None and bool(status["alive"])


def _port(home: Home) -> Iterator[Finding]:
    host, _, port = home.config.listen.rpartition(":")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    taken, up = False, _is_up(home)
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host.strip("[]"), int(port)))
        except PermissionError:
            yield failed("port", f"this user may not bind {home.config.listen}", "choose a port above 1023")
            return
        except OSError as error:
            if error.errno == 99:
                yield failed("port", f"{host} is no address of this machine", "correct `listen` in coordinator.yaml")
                return
            taken = True
    if taken and not up:
        yield failed("port", f"another program listens on {home.config.listen}", "end it, or choose another `listen`")
    elif up and not taken:
        yield warned("port", f"nothing listens on {home.config.listen} yet", "see log/superlink.log")
    else:
        yield passed("port", f"{home.config.listen} is " + ("`coordinator up`'s" if up else "free"))


def _health(home: Home) -> Iterator[Finding]:
    from privacy.transport.health import check_health

    if not home.config.health_port:
        yield passed("health", "no health service (health_port: 0)")
        return
    status, reason = check_health(home.config.health_port)
    if status == "SERVING":
        yield passed("health", "SERVING")
    else:
        yield warned("health", f"{status}: {reason}", "coordinator status DIR says which process is not ready")


def _console(home: Home) -> Iterator[Finding]:
    """Whether its address is free, or answers while `coordinator up` serves it."""
    from privacy.web.serving import Place

    if home.config.console in ("", "0"):
        yield passed("console", "no web console (console: 0)")
        return
    place = Place.of(home.config.console)
    with socket.socket(socket.AF_INET6 if ":" in place.host else socket.AF_INET) as probe:
        probe.settimeout(2)
        answers = probe.connect_ex((place.host, place.port)) == 0
    if answers == _is_up(home):
        yield passed("console", f"{home.config.console} " + ("answers; coordinator console DIR --url" if answers
                                                             else "is free"))
    elif answers:
        yield warned("console", f"another program listens on {home.config.console}", "end it, or choose another "
        "`console`")
    else:
        yield warned("console", f"nothing answers on {home.config.console}", "see log/console.log")


def _certificates(home: Home) -> Iterator[Finding]:
    from coordinator.authority import host_of, server_names
    from privacy.enrolment import certificate_of

    server = home.server_certificate_file.read_bytes()
    fix = f"coordinator renew-certificate {home.folder}, then start `coordinator up` again"
    yield until("certificate", "the server's certificate", certificate_of(server).not_valid_after_utc, fix)
    if host_of(home.config.address) not in server_names(server):
        yield failed("certificate", f"it is not for {host_of(home.config.address)}, where the sites connect", fix)
    authority = certificate_of(home.ca_certificate_file.read_bytes())
    yield until("authority", "the certificate authority", authority.not_valid_after_utc,
                "it is in every invitation: a new coordinator's folder and new invitations are needed by then")


def _roster(home: Home) -> Iterator[Finding]:
    roster = home.roster().roster  # raises, and says who must still sign
    home.node_keys()
    yield passed("roster", f"version {roster.version} in force, {len(roster.active_ids)} of {len(roster.sites)} sites "
                           "active")
    latest = home.latest()
    if latest is not None and latest.roster.version > roster.version:
        yield warned("draft", home.still_needed(latest), "no run needs it; it comes into force once it is signed")


def _runs(home: Home) -> Iterator[Finding]:
    from coordinator.run_queue import RunQueue

    runs = RunQueue(home.runs_folder).all()
    for run in runs:
        if run.state == "failed":
            yield warned("runs", f"{run.run_id} has failed", f"coordinator status {home.folder} {run.run_id} says why")
    busy = [f"{run.run_id} {run.state}" for run in runs if run.state in ("running", "queued")]
    yield passed("runs", f"{len(runs)} in all" + (f"; {', '.join(busy)}" if busy else ""))


def _database(home: Home) -> Iterator[Finding]:
    files = [path for path in home.folder.glob("superlink.sqlite*") if path.is_file()]
    size = sum(path.stat().st_size for path in files)
    if size > _LARGE_DATABASE:
        yield warned("database", f"the hub's database has {size / 1e9:.1f} GB",
                     "between two runs: end `coordinator up`, remove superlink.sqlite*, start it again; it holds "
                     "messages on their way, and nothing of a run")
    else:
        yield passed("database", f"the hub's database has {size / 1e6:.1f} MB")


def _clock() -> Iterator[Finding]:
    state = ctypes.CDLL(None, use_errno=True).adjtimex(ctypes.create_string_buffer(512))
    if state == _NOT_SYNCHRONISED:
        yield warned("clock", "the kernel says that this clock is not synchronised",
                     "set it by NTP: sites may be at most 5 s ahead of it")
    elif state < 0:
        yield warned("clock", "not known on this system", "see that it is set by NTP")
    else:
        yield passed("clock", "synchronised")
