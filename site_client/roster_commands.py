"""`site-client roster show | approve`: the consortium's roster as this hospital's operator reads and approves it.

Heavy imports happen inside the commands. Nothing here is sent anywhere.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from privacy.roster import SignedRoster
    from site_client.roster_pin import RosterPin

__all__ = ["add_roster_commands", "approve_roster", "confirmed"]

EXIT_OK, EXIT_FAILED = 0, 1
_TYPED = 8  # hex digits of the new hash that the operator types


def add_roster_commands(commands: Any) -> None:
    """Add `roster` with its two commands to the parser's `commands` (of `add_subparsers`)."""
    roster = commands.add_parser("roster", help="the consortium's roster: what is in force, and a new version",
                                 description="The newest version approved here is in the state folder, roster.pin.")
    actions = roster.add_subparsers(required=True, metavar="show|approve")
    show = actions.add_parser(
        "show", help="sites, officers and floors, and what a new file would change",
        description="Print the roster in force. With NEW_FILE also what it changes, and whether it may be approved; "
                    "exit code 1 if it may not.")
    approve = actions.add_parser(
        "approve", help="put a new version in force",
        description="Print what changes, ask, and keep the new version durably. It holds from the next start of the "
                    "site's process, for runs whose manifest names it.")
    for action in (show, approve):
        action.add_argument("site_file", metavar="SITE_FILE", help="this hospital's YAML file")
        action.add_argument("--json", action="store_true", help="print JSON instead of text")
    show.add_argument("new_file", metavar="NEW_FILE", nargs="?", type=Path, help="a roster file to compare with")
    approve.add_argument("new_file", metavar="NEW_FILE", type=Path, help="the roster file to approve")
    approve.add_argument("--yes", action="store_true", help="do not ask; the hash was compared already")
    show.set_defaults(command=_show)
    approve.set_defaults(command=_approve)


def _show(arguments: argparse.Namespace) -> int:
    from privacy.roster_facts import roster_changes, roster_facts

    pin = _pin(arguments.site_file)
    first = arguments.new_file is not None and pin.before() is None
    signed = None if first else pin.current()
    facts: dict[str, Any] = {"in_force": None if signed is None else roster_facts(signed),
                             "approved_here": pin.path.is_file()}
    if arguments.new_file is not None:
        new = _read(arguments.new_file)
        reason = _reason_against(pin, new, signed)
        facts["new"] = roster_facts(new)
        facts["changes"] = [] if signed is None else list(roster_changes(signed.roster, new.roster))
        facts["may_be_approved"], facts["reason"] = not reason, reason
    print(json.dumps(facts) if arguments.json else _text(facts))
    return EXIT_OK if facts.get("may_be_approved", True) else EXIT_FAILED


def _text(facts: dict[str, Any]) -> str:
    from privacy.roster_facts import roster_text

    if facts["in_force"] is None:
        return "\n".join(["nothing is in force here yet; the new file:", roster_text(facts["new"]), _verdict(facts)])
    source = "state/roster.pin" if facts["approved_here"] else "the site file; pinned at the first start"
    lines = [f"in force, from {source}", roster_text(facts["in_force"])]
    if "new" in facts:
        lines += ["", *_change_lines(facts["new"], facts["changes"])]
        lines.append(_verdict(facts))
    return "\n".join(lines)


def _verdict(facts: dict[str, Any]) -> str:
    return "may be approved" if facts["may_be_approved"] else f"may not be approved: {facts['reason']}"


def _change_lines(new: dict[str, Any], changes: list[str]) -> list[str]:
    return [f"new file: version {new['version']}, hash {new['hash']}", f"signed by {', '.join(new['signed_by'])}",
            *(f"  {line}" for line in changes or ["nothing changes"])]


def _approve(arguments: argparse.Namespace) -> int:
    return approve_roster(_pin(arguments.site_file), _read(arguments.new_file), ask=not arguments.yes,
                          as_json=arguments.json)


def approve_roster(pin: RosterPin, new: SignedRoster, *, ask: bool, as_json: bool = False) -> int:
    """Print what `new` changes, ask unless told not to, and put it in force; the exit code. As JSON one object, at the
    end; what is asked then stands on the error output.

    Raises:
        ValueError: it may not replace what is in force; nothing was changed.
    """
    from privacy.roster_facts import roster_changes, roster_facts, roster_text
    from site_client.audit_commands import booking

    out, digest = sys.stderr if as_json else sys.stdout, new.roster.hash().hex()
    facts = {"version": new.roster.version, "hash": digest, "approved": True}
    if pin.path.is_file() and pin.current().roster == new.roster:
        print(json.dumps({**facts, "already": True}) if as_json else
              f"version {new.roster.version} is in force here already")
        return EXIT_OK
    pin.check_new(new)
    before = pin.before()
    if before is None:
        print(f"the first roster of this site\n{roster_text(roster_facts(new))}", file=out)
    else:
        print("\n".join(_change_lines(roster_facts(new), list(roster_changes(before, new.roster)))), file=out)
    if ask and not confirmed(digest, "compare the hash with the consortium by telephone", out):
        print("not approved; nothing was changed", file=sys.stderr)
        return EXIT_FAILED
    with booking(pin.path.parent) as log:
        pin.approve(new)
        log.note("approval", what="roster", hash=digest)
    print(json.dumps({**facts, "already": False}) if as_json else
          f"approved version {new.roster.version}; it is in force from the next start of this site's process")
    return EXIT_OK


def confirmed(digits: str, advice: str, out: TextIO | None = None) -> bool:
    """Whether the operator types the first digits of the hash `digits` (hex) that was printed; asked on `out`, by
    default the standard output."""
    print(f"{advice}; to approve, type its first {_TYPED} digits: ", end="", flush=True, file=out)
    typed = sys.stdin.readline().strip().lower()
    print(file=out)
    return typed == digits[:_TYPED]


def _pin(site_file: str) -> RosterPin:
    from configs.load import load_config
    from configs.schema import SiteConfig
    from site_client.roster_pin import RosterPin

    return RosterPin(load_config(SiteConfig, site_file))


def _read(path: Path) -> SignedRoster:
    from privacy.roster import SignedRoster

    if not path.is_file():
        raise ValueError(f"roster file {path} does not exist; name the file that the consortium sent")
    return SignedRoster.parse(path.read_bytes())


def _reason_against(pin: RosterPin, new: SignedRoster, current: SignedRoster | None) -> str:
    """Why `new` may not be approved; empty when it may, or when it is the one in force."""
    if current is not None and new.roster == current.roster:
        return ""
    try:
        pin.check_new(new)
    except ValueError as error:
        return str(error)
    return ""
