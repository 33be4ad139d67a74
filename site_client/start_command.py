"""`site-client start`: this hospital's node and executor, kept running, with the health service."""

from __future__ import annotations

import argparse
import json
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from configs.schema import SiteConfig
    from privacy.enrolment import Invitation
    from privacy.transport.supervisor import Child, Supervisor

__all__ = ["add_start_command", "status_file"]

EXIT_OK = 0


def add_start_command(commands: Any) -> None:
    """Add `start` to the parser's `commands` (of `add_subparsers`)."""
    start = commands.add_parser(
        "start", help="take part until Ctrl-C: connect, and train what this hospital's policy allows",
        description="Keeps Flower's node and our own executor running and starts each again when it ends. The node "
                    "never runs what the coordinator sends; the executor runs the installed release only.")
    start.add_argument("site_file", metavar="SITE_FILE", help="this hospital's YAML file")
    start.add_argument("--dry-run", action="store_true",
                       help="print what would run and what would leave, and do nothing")
    start.add_argument("--json", action="store_true",
                       help="print and log JSON lines, whatever log_format in the site file says")
    start.set_defaults(command=_start)


def status_file(config: SiteConfig) -> Path:
    """Where `start` writes the state of its processes."""
    return Path(config.state) / "start.json"


def _start(arguments: argparse.Namespace) -> int:
    from configs.load import load_config
    from configs.schema import SiteConfig
    from privacy.enrolment import Invitation
    from privacy.state_version import claim_version
    from privacy.transport.log_lines import use_format
    from privacy.transport.service import alone

    config = load_config(SiteConfig, arguments.site_file)
    if arguments.dry_run:
        from site_client.run_preview import dry_run_facts, dry_run_text

        print(json.dumps(dry_run_facts(config)) if arguments.json else dry_run_text(config))
        return EXIT_OK
    if not config.invitation:
        raise ValueError("this site file has no `invitation`, so there is no coordinator to connect to; "
                         "`site-client init` writes a site file from one")
    invitation = Invitation.from_json(Path(config.invitation).read_bytes())
    state = Path(config.state)
    if not state.is_dir():
        raise ValueError(f"the state folder {state} does not exist; `site-client init` makes it, or restore it")
    use_format(config.log_format, strict=True, insist=arguments.json)
    with alone(state / "start.lock", f"`site-client start` runs already for {config.site_id}; end it first"):
        claim_version(state)
        _serve(arguments.site_file, config, invitation)
    return EXIT_OK


def _serve(site_file: str, config: SiteConfig, invitation: Invitation) -> None:
    from contextlib import nullcontext

    from privacy.transport.log_lines import is_json
    from privacy.transport.service import say, serve
    from privacy.transport.terminal import is_live, live_table

    node, executor = _children(site_file, config)
    say(f"{config.site_id}: coordinator {invitation.address}, federation {invitation.federation_id}")
    _book(config, "start")
    table: AbstractContextManager[None] = nullcontext()
    if is_live() and not is_json():
        from site_client.start_table import StartTable

        table = live_table(StartTable(config).table, every_s=1.0)
    try:
        with table:
            serve([node, executor], status_file(config), config.health_port, "ready: waiting for runs",
                  lambda supervisor: _explain_exits(supervisor, node, executor, invitation))
    finally:
        _book(config, "stop")
    say("stopped; a step that was going on was finished, or counts as not answered")


def _book(config: SiteConfig, kind: str) -> None:
    """Into the audit log: that the site starts or stops, and what its node has sent since the last time."""
    from privacy.release import release_hash
    from site_client.audit_log import AuditBrokenError, AuditUnwritableError, site_log
    from site_client.supernode_process import read_counts

    counts = Path(config.state) / "transport.json"
    try:
        with site_log(Path(config.state)) as audit:
            for name, one in read_counts(counts).items():
                audit.note("transport", request=name, count=one["requests"], bytes_out=one["bytes_out"],
                           bytes_in=one["bytes_in"])
            counts.unlink(missing_ok=True)
            if kind == "start":
                audit.note("start", release=release_hash())
            else:
                audit.note("stop", reason="asked")
    except (AuditBrokenError, AuditUnwritableError) as error:
        raise ValueError(f"nothing may leave without the audit log: {error}") from None


def _explain_exits(supervisor: Supervisor, node: Child, executor: Child, invitation: Invitation) -> None:
    """Flower's node ends without a reason when its clock is off, and the executor's end leaves the node waiting."""

    def node_ended(code: int) -> str:
        from site_client.connection_probe import probe

        found = probe(invitation.address, invitation.ca_certificate, timeout_s=5.0)
        if found.reason:
            return f"{found.reason}; {found.fix}"
        if code in (-signal.SIGTERM, 0) and node.reason:
            return node.reason
        if code < 0:
            return f"the node ended (exit code {code}): killed or out of memory"
        return (f"the node ended (exit code {code}) though the coordinator can be reached: it has not admitted this "
                "site's key yet, or still counts it as connected")

    def executor_ended(code: int) -> str:
        reason = "killed or out of memory" if code < 0 else "see log/executor.log"
        supervisor.restart("node", "restarted with the executor, whose task it still held")
        return f"the executor ended (exit code {code}): {reason}"

    node.on_exit, executor.on_exit = node_ended, executor_ended


def _children(site_file: str, config: SiteConfig) -> tuple[Child, Child]:
    """Node and executor. The port and secret between them are new at each start."""
    from privacy.durable import write_whole
    from privacy.entropy import SystemEntropy
    from privacy.transport.service import free_port
    from privacy.transport.supervisor import Child

    state = Path(config.state)
    secret, ready = state / "executor.secret", state / "executor.ready"
    write_whole(secret, SystemEntropy().random_bytes(32).hex().encode())
    port = str(free_port())
    shared = [str(Path(site_file).resolve()), "--port", port, "--secret-file", str(secret)]
    executor = Child(
        "executor", [sys.executable, "-m", "site_client.executor", *shared, "--ready", str(ready)],
        state / "log" / "executor.log", ready=ready)
    # Without the executor a node would take messages and hold them, and the coordinator wait a whole step for it.
    connected = state / "node.connected"
    node = Child(
        "node", [sys.executable, "-m", "site_client.supernode_process", *shared, "--ready", str(connected)],
        state / "log" / "node.log", ready=connected, needs=executor,
        lost="the coordinator does not answer any more; see the VPN and the network, then `site-client doctor`")
    return node, executor

