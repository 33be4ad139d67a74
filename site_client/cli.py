"""`site-client`: what a hospital's operator looks at on its own machine. Heavy imports happen inside the commands.

Exit codes: 0 fine, 1 a check failed or the ledger's chain is broken, 2 bad input (one sentence on stderr). Only
`index --refused` prints identifiers of the hospital's own files; nothing printed here is sent anywhere.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from site_client import evidence_commands

if TYPE_CHECKING:
    from configs.schema import SiteConfig

__all__ = ["main"]

EXIT_OK, EXIT_FAILED, EXIT_USAGE, EXIT_INTERRUPTED = 0, 1, 2, 130


def main(argv: list[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    arguments = _parser().parse_args(argv)
    _quiet_environment()
    try:
        return int(arguments.command(arguments))
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except ValueError as error:
        return _usage(str(error))
    except OSError as error:  # its text could name a patient's file
        return _usage(f"a file of this installation cannot be opened ({error.strerror or type(error).__name__}); "
                      "run as the user that owns the site's folders")


def _usage(text: str) -> int:
    print(f"site-client: {text}", file=sys.stderr)
    return EXIT_USAGE


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="site-client", description="A hospital's side of the federation.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    from site_client.answer_command import add_answer_command
    from site_client.index_commands import add_index_commands

    add_index_commands(commands)
    ledger = commands.add_parser("ledger", help="privacy spent, the cap, and whether the ledger is intact",
                                 description="Epsilon is computed from the ledger's entries every time.")
    ledger.add_argument("words", nargs="*", metavar="[show|verify|export|approve] SITE_FILE",
                        help="show (default), verify chain, signatures and mark, print an export, or approve it "
                             "once in place of peers that could not confirm it (P_WITNESS)")
    ledger.add_argument("--head", metavar="HEX", help="a head noted earlier, which must still be in the chain")
    ledger.add_argument("--file", metavar="EXPORT", help="verify this export instead; needs no SITE_FILE")
    ledger.add_argument("--accept-head", metavar="HEX",
                        help="operator: the ledger that ends here is the newest; writes its lost mark anew")
    ledger.set_defaults(command=_ledger)
    check = commands.add_parser("check", help="is everything in place for a run",
                                description="One PASS or FAIL line for each part, with what to do about it.")
    check.set_defaults(command=_check)
    from site_client.approve_commands import add_approve_command
    from site_client.audit_commands import add_audit_command
    from site_client.backup_commands import add_backup_commands
    from site_client.doctor_command import add_doctor_command
    from site_client.dpia_command import add_dpia_command
    from site_client.init_command import add_init_command
    from site_client.plan_memory_command import add_plan_memory_command
    from site_client.roster_commands import add_roster_commands
    from site_client.start_command import add_start_command
    from site_client.status_command import add_status_command

    add_init_command(commands)
    add_start_command(commands)
    add_roster_commands(commands)
    add_approve_command(commands)
    add_audit_command(commands)
    add_doctor_command(commands)
    add_dpia_command(commands)
    add_status_command(commands)
    add_plan_memory_command(commands)
    add_backup_commands(commands)
    add_answer_command(commands)
    evidence_commands.add_command(commands)
    release = commands.add_parser("release", help="which code and which libraries run here: two hashes to compare")
    release.set_defaults(command=_release)
    for command in (ledger, check, release):
        if command is check:
            command.add_argument("site_file", metavar="SITE_FILE", help="this hospital's YAML file")
        command.add_argument("--json", action="store_true", help="print JSON instead of text")
    return parser


def _quiet_environment() -> None:
    """No hub, no telemetry, no advisory output: before any library reads these."""
    for name, value in {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "TRANSFORMERS_VERBOSITY": "error",
                        "FLWR_TELEMETRY_ENABLED": "0", "GRPC_VERBOSITY": "ERROR"}.items():
        os.environ.setdefault(name, value)


def _release(arguments: argparse.Namespace) -> int:
    from privacy.release import describe_release

    print(describe_release(as_json=arguments.json))
    return EXIT_OK


def _site(path: str) -> SiteConfig:
    from configs.load import load_config
    from configs.schema import SiteConfig

    return load_config(SiteConfig, path)


def _ledger(arguments: argparse.Namespace) -> int:
    from privacy.ledger import LedgerTamperedError
    from site_client import ledger_report

    action, path = _ledger_action(arguments.words)
    if arguments.file is not None:
        try:
            facts = ledger_report.verify_export_file(Path(arguments.file), arguments.head)
        except LedgerTamperedError as error:
            facts = {"chain_intact": False, "private": False, "said": f"BROKEN: {error}"}
        print(json.dumps(facts) if arguments.json else facts["said"])
        return EXIT_OK if facts["chain_intact"] and facts["private"] else EXIT_FAILED
    config = _site(path)
    if arguments.accept_head is not None:
        said = ledger_report.accept_head(config, arguments.accept_head)
        print(json.dumps({"site_id": config.site_id, "head": arguments.accept_head, "said": said})
              if arguments.json else said)
        return EXIT_OK
    if action == "approve":
        return _approve(config, as_json=arguments.json)
    try:
        if action == "export":
            print(ledger_report.export_text(config))
            return EXIT_OK
        facts = ledger_report.facts_of(config, arguments.head)
    except LedgerTamperedError as error:
        facts = {"site_id": config.site_id, "chain_intact": False, "fault": str(error)}
    print(json.dumps(facts) if arguments.json else ledger_report.text_of(facts))
    return EXIT_OK if facts["chain_intact"] else EXIT_FAILED


def _ledger_action(words: list[str]) -> tuple[str, str]:
    """(action, site file): the action may be left out, and `verify --file EXPORT` needs no site file."""
    action = words[0] if words and words[0] in ("show", "verify", "export", "approve") else "show"
    rest = words[1:] if words and words[0] == action else words
    if len(rest) > 1:
        raise ValueError("ledger takes `show`, `verify`, `export` or `approve` and one SITE_FILE")
    return action, rest[0] if rest else ""


def _approve(config: SiteConfig, *, as_json: bool) -> int:
    """The operator's word that this ledger is the newest; used up by one admission, void once the ledger moved on."""
    from privacy.ledger import Ledger, LedgerTamperedError
    from site_client.ledger_approval import LedgerApproval

    path = Path(config.state) / "ledger.sqlite"
    if not path.is_file():
        raise ValueError(f"there is no ledger at {path} to approve; the first run makes it")
    try:
        ledger = Ledger.open(path, must_exist=True)
    except LedgerTamperedError as error:
        return _usage(f"a broken ledger cannot be approved: {error}")
    try:
        sequence, head = LedgerApproval(Path(config.state)).give(ledger)
    finally:
        ledger.close()
    print(json.dumps({"site_id": config.site_id, "approved": True, "rows": sequence, "head": head.hex()}) if as_json
          else f"{config.site_id}: approved for one start: {sequence} rows, head {head.hex()[:16]}")
    return EXIT_OK


def _check(arguments: argparse.Namespace) -> int:
    config = _site(arguments.site_file)
    found: list[dict[str, str]] = []
    for name, part in _parts().items():
        try:
            found.append({"level": "PASS", "name": name, "text": part(config)})
        except Exception as error:  # each part reports; one that is broken must not hide the others
            found.append({"level": "FAIL", "name": name, "text": _reason(error)})
        if not arguments.json:
            print("{level}  {name:<11} {text}".format(**found[-1]))
    whole = all(one["level"] == "PASS" for one in found)
    if arguments.json:
        print(json.dumps({"ok": whole, "findings": found}))
    return EXIT_OK if whole else EXIT_FAILED


def _reason(error: Exception) -> str:
    """What to print: the sentence of an error that has one; of any other only its kind, which names no patient."""
    from privacy.ledger import LedgerTamperedError

    if isinstance(error, OSError):
        return f"cannot be opened ({error.strerror or type(error).__name__}); run as the user that owns the folder"
    if isinstance(error, ValueError | LedgerTamperedError):
        return str(error)
    return f"failed unexpectedly ({type(error).__name__}); run `site-client index` or `ledger` for this part alone"


def _parts() -> dict[str, Callable[[SiteConfig], str]]:
    from site_client import installation_checks as checks

    return {"keys": checks.check_keys, "roster": checks.check_roster, "ledger": checks.check_ledger,
            "base model": checks.check_base_model, "data": checks.check_data}
