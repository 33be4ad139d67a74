"""`site-client status SITE_FILE`: is this site running, what has it done, what left, what is left of the budget.

A node that lost its coordinator keeps trying and stays ready, so `status` asks at the coordinator's address itself.
With `--web` the same and more is served as pages, until Ctrl-C (docs/site-web.md).

Exit codes: 0 it is ready and reaches the coordinator, 1 not, 2 bad input. Heavy imports happen inside the command.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from configs.schema import SiteConfig
    from privacy.web.serving import Place

__all__ = ["add_status_command", "status_facts"]

EXIT_OK, EXIT_FAILED = 0, 1
_PORT = 8445


def add_status_command(commands: Any) -> None:
    """Add `status` to the parser's `commands` (of `add_subparsers`)."""
    status = commands.add_parser(
        "status", help="does this site run, what has it done, what left",
        description="Processes, the way to the coordinator, roster, runs, what left the site and what waits. Exit code "
                    "1 when it is not ready or cannot reach the coordinator.")
    status.add_argument("site_file", metavar="SITE_FILE", help="this hospital's YAML file")
    status.add_argument("--json", action="store_true", help="print JSON instead of text")
    web = status.add_argument_group("as pages in a browser")
    web.add_argument("--web", action="store_true",
                     help="serve pages on this machine until Ctrl-C: runs, what left, budget, policy, data, doctor")
    web.add_argument("--port", type=int, metavar="N", help=f"on 127.0.0.1; 0 = any that is free (default: {_PORT})")
    web.add_argument("--url", action="store_true", help="print the address with the token and end")
    web.add_argument("--new-token", action="store_true",
                     help="replace the token and end; pages that are served must be started again")
    web.add_argument("--listen", metavar="IP:PORT", help="another address of this machine, instead of --port")
    web.add_argument("--beyond-this-machine", action="store_true",
                     help="let --listen name an address of a private network; needs --certificate and --key")
    web.add_argument("--certificate", type=Path, metavar="PEM", help="the server's certificate chain, for TLS")
    web.add_argument("--key", type=Path, metavar="PEM", help="its private key (0600)")
    status.set_defaults(command=_status)


def _status(arguments: argparse.Namespace) -> int:
    from configs.load import load_config
    from configs.schema import SiteConfig

    config = load_config(SiteConfig, arguments.site_file)
    if arguments.web:
        return _web(arguments, config)
    for name in ("port", "url", "new_token", "listen", "beyond_this_machine", "certificate", "key"):
        if getattr(arguments, name) not in (None, False):
            raise ValueError(f"--{name.replace('_', '-')} goes with --web")
    facts = status_facts(config)
    print(json.dumps(facts) if arguments.json else _text(facts, arguments.site_file))
    return EXIT_OK if facts["processes"]["state"] == "ready" and not facts["coordinator"]["fault"] else EXIT_FAILED


def _web(arguments: argparse.Namespace, config: SiteConfig) -> int:
    from privacy.transport.log_lines import log_as_json
    from site_client.web.serve import pages_url, renew_token, serve_site

    if arguments.json:
        raise ValueError("--json and --web are two answers; choose one")
    if arguments.new_token:
        renew_token(config)
        print("the token is new; sessions of the old one end when the pages are started again")
        return EXIT_OK
    place, certificate = _place(arguments), _certificate(arguments)
    if place.secure and certificate is None:
        raise ValueError("beyond this machine the pages are served over TLS only; give --certificate and --key")
    if arguments.url:
        print(pages_url(config, place))
        return EXIT_OK
    log_as_json(strict=True)
    serve_site(config, arguments.site_file, place, certificate, lambda found: print(
        f"{config.site_id}: open {pages_url(config, found)}\nCtrl-C ends the pages, not the site", flush=True))
    return EXIT_OK


def _place(arguments: argparse.Namespace) -> Place:
    from configs.coordination import require_private
    from privacy.web.serving import Place

    if arguments.listen is None:
        port = _PORT if arguments.port is None else arguments.port
        if not 0 <= port < 65536:
            raise ValueError(f"--port {port} must be 0 to 65535")
        return Place("127.0.0.1", port)
    if arguments.port is not None:
        raise ValueError("--listen names a port already; leave --port out")
    require_private("status", "listen", arguments.listen)
    if arguments.listen == "0":
        raise ValueError("--listen takes IP:PORT, such as 127.0.0.1:8445")
    place = Place.of(arguments.listen)
    if place.secure and not arguments.beyond_this_machine:
        raise ValueError(f"--listen {arguments.listen} is not only this machine; other machines would see the login. "
                         "If that is meant, add --beyond-this-machine, --certificate and --key")
    return place


def _certificate(arguments: argparse.Namespace) -> tuple[Path, Path] | None:
    import ssl

    if arguments.certificate is None and arguments.key is None:
        return None
    if arguments.certificate is None or arguments.key is None:
        raise ValueError("--certificate and --key go together")
    try:
        ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(arguments.certificate, arguments.key)
    except (OSError, ssl.SSLError):
        raise ValueError("--certificate and --key are no PEM certificate with its private key; ask whoever issued "
                         "them") from None
    return arguments.certificate, arguments.key


def status_facts(config: SiteConfig) -> dict[str, Any]:
    """Everything as JSON values; a part that cannot be read says why in its `fault` instead."""
    from privacy.transport.process_status import process_facts
    from site_client.start_command import status_file

    return {
        "site_id": config.site_id, "processes": process_facts(status_file(config), config.health_port),
        "coordinator": _coordinator(config), "roster": _roster(config), "budget": _budget(config),
        "egress": _egress(config), "waiting": _waiting(config)}


def _coordinator(config: SiteConfig) -> dict[str, Any]:
    """`fault` is "" where a node could connect now."""
    from privacy.enrolment import Invitation
    from site_client.connection_probe import probe

    if not config.invitation:
        return {"address": "", "fault": ""}
    try:
        invitation = Invitation.from_json(Path(config.invitation).read_bytes())
    except FileNotFoundError:
        return {"address": "", "fault": f"{config.invitation} does not exist; put back the file that was received"}
    found = probe(invitation.address, invitation.ca_certificate, timeout_s=5.0)
    return {"address": invitation.address, "fault": f"{found.reason}; {found.fix}" if found.reason else ""}


def _roster(config: SiteConfig) -> dict[str, Any]:
    from site_client.roster_pin import RosterPin

    try:
        roster = RosterPin(config).roster()
    except ValueError as error:
        return {"fault": str(error)}
    return {"federation_id": roster.federation_id, "version": roster.version, "active": list(roster.active_ids),
            "hash": roster.hash().hex()}


def _budget(config: SiteConfig) -> dict[str, Any]:
    """None spent where there is no ledger yet."""
    from privacy.ledger import LedgerTamperedError
    from site_client.keystore import has_ledger
    from site_client.ledger_report import facts_of

    if not (Path(config.state) / "ledger.sqlite").is_file() and not has_ledger(Path(config.state)):
        return {"epsilon": 0.0, "left": config.policy.max_epsilon, "max_epsilon": config.policy.max_epsilon, "runs": []}
    try:
        facts = facts_of(config)
    except (ValueError, LedgerTamperedError) as error:
        return {"fault": str(error)}
    runs = [{name: run[name] for name in ("run_id", "rounds", "steps", "planned_steps", "wasted")}
            for run in facts["per_run"]]
    return {"epsilon": facts["epsilon"], "left": facts["left"], "max_epsilon": facts["max_epsilon"],
            "guarantees": facts["guarantees"], "runs": runs}


def _egress(config: SiteConfig) -> dict[str, Any]:
    from site_client.audit_commands import egress_report
    from site_client.audit_log import AuditBrokenError, AuditUnwritableError, head_path, site_log

    path = Path(config.state) / "audit.sqlite"
    if not path.is_file() and not head_path(path).is_file():
        return {"bytes": 0, "messages": 0, "last_utc": None, "refusals": {}}
    try:
        log = site_log(Path(config.state))
        try:
            events = log.verify()
        finally:
            log.release()
    except (AuditBrokenError, AuditUnwritableError) as error:
        return {"fault": str(error)}
    left, report = [event for event in events if event.kind == "egress"], egress_report(events)
    return {"bytes": report["bytes_that_left"], "messages": len(left), "last_utc": left[-1].utc if left else None,
            "refusals": report["refusals"]}


def _waiting(config: SiteConfig) -> list[str]:
    from site_client.roster_pin import RosterPin
    from site_client.run_approval import RunApprovals

    waiting = [f"run {run.manifest.run_id} ({run.digest[:16]})"
               for run in RunApprovals(Path(config.state)).pending()]
    return [*waiting, *(["a roster"] if RosterPin(config).offered_path.is_file() else [])]


def _text(facts: dict[str, Any], site_file: str) -> str:
    from privacy.transport.process_status import process_lines
    from site_client.doctor import age
    from site_client.guarantees_report import guarantee_lines
    from site_client.ledger_report import epsilon_text

    roster, budget, egress = facts["roster"], facts["budget"], facts["egress"]
    lines = [f"site       {facts['site_id']}", *process_lines(facts["processes"], f"site-client start {site_file}")]
    if facts["coordinator"]["address"] or facts["coordinator"]["fault"]:
        lines.append("reach      " + (facts["coordinator"]["fault"] or f"{facts['coordinator']['address']} answers"))
    lines.append(f"roster     {roster['fault']}" if "fault" in roster else
                 f"roster     {roster['federation_id']} version {roster['version']}: {', '.join(roster['active'])}")
    if "fault" in budget:
        lines.append(f"ledger     {budget['fault']}")
    else:
        lines += [f"run        {run['run_id']}: {run['rounds']} rounds, {run['steps']} of {run['planned_steps']} steps"
                  + (f", {run['wasted']} rounds wasted" if run["wasted"] else "") for run in budget["runs"]]
        lines.append(f"budget     epsilon {epsilon_text(budget['epsilon'])} of {budget['max_epsilon']:g} spent, "
                     f"{budget['left']:.4g} left")
        lines += guarantee_lines(budget.get("guarantees"))
    if "fault" in egress:
        lines.append(f"left       {egress['fault']}")
    else:
        last = "nothing yet" if egress["last_utc"] is None else f"last {age(egress['last_utc'])} ago"
        lines.append(f"left       {egress['messages']} messages, {egress['bytes']:,} bytes, {last}")
        if egress["refusals"]:
            lines.append("refused    " + ", ".join(f"{code} {count}" for code, count in egress["refusals"].items()))
    lines.append(f"waiting    {', '.join(facts['waiting']) or 'nothing'}"
                 + (f"; site-client approve {site_file}" if facts["waiting"] else ""))
    return "\n".join(lines)
