"""`coordinator roster ...`: a roster is drafted, changed, signed by officers, and shown, one file at a time.

Heavy imports happen inside the commands. Each officer signs on an own machine with an own key file; the file goes from
one to the next. A changed roster is a new file with the next version and no signatures.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from privacy.identity import Roster

__all__ = ["add_roster_commands"]

EXIT_OK, EXIT_FAILED = 0, 1


def add_roster_commands(commands: Any) -> None:
    """Add `roster` with its commands to the parser's `commands` (of `add_subparsers`)."""
    roster = commands.add_parser(
        "roster", help="draft, change, sign and show the consortium's roster",
        description="The roster names the sites, their keys and the officers; two officers must sign it.")
    actions = roster.add_subparsers(required=True, metavar="ACTION")
    _add_drafting(actions)
    sign = _action(actions, "sign", _sign, "add an officer's signature",
                   "Read it first: `coordinator roster show FILE --previous OLD_FILE`. The file is replaced.")
    sign.add_argument("--key", type=Path, required=True, metavar="KEY_FILE", help="the officer's key file")
    sign.add_argument("--previous", type=Path, metavar="OLD_FILE",
                      help="the version that sites have pinned; its officers sign as well")
    show = _action(actions, "show", _show, "what is on a roster, who has signed, and what it changes",
                   "Exit code 1 while it is not signed by enough officers.")
    show.add_argument("--previous", type=Path, metavar="OLD_FILE", help="the version that sites have pinned")
    _action(actions, "officer-key", _officer_key, "make a signing key (0600) and print its public half",
            "For an officer, or for the coordinator itself. An existing file is never replaced.")


def _add_drafting(actions: Any) -> None:
    new = _action(actions, "new", _new, "draft the first version", "Write an unsigned draft of version 1.")
    new.add_argument("--federation", required=True, metavar="NAME", help="the consortium's name")
    new.add_argument("--coordinator-key", required=True, metavar="HEX", help="the coordinator's public key")
    new.add_argument("--site", action="append", required=True, metavar="ID:HEX:PATIENTS", dest="sites",
                     help="a hospital: identifier, public key, declared patients; once for each")
    new.add_argument("--officer", action="append", required=True, metavar="NAME:HEX", dest="officers",
                     help="an officer: name and public key; at least two")
    new.add_argument("--min-cohort", type=int, default=3, metavar="N", help="fewest sites in a sum (default: 3)")
    new.add_argument("--min-fraction", type=float, default=0.5, metavar="F",
                     help="fewest sites in a sum, of the active ones (default: 0.5)")
    new.add_argument("--two-sites", action="store_true",
                     help="exactly two sites, min-cohort 2: hides a site's update from the coordinator only")
    new.add_argument("--suite", action="append", metavar="NAME", dest="suites",
                     help="an allowed key agreement (default: x25519)")
    new.add_argument("--max-dimension", type=int, metavar="D", help="most coordinates of a plan (default: 2^28)")
    add = _action(actions, "add-site", _add_site, "a new version with one more hospital",
                  "Write the next version, unsigned.")
    add.add_argument("new_file", type=Path, metavar="NEW_FILE", help="where to write it")
    add.add_argument("--site", required=True, metavar="ID:HEX:PATIENTS", help="the hospital")
    suspend = _action(actions, "suspend", _suspend, "a new version in which a hospital takes part in nothing",
                      "Write the next version, unsigned.")
    suspend.add_argument("new_file", type=Path, metavar="NEW_FILE", help="where to write it")
    suspend.add_argument("site_id", metavar="SITE_ID")
    suspend.add_argument("--resume", action="store_true", help="let the suspended hospital take part again")
    revoke = _action(actions, "revoke", _revoke, "a hospital withdraws, or its keys are no longer its own",
                     "Draft the next version with the hospital suspended. With a coordinator's folder as FILE the "
                     "draft becomes its roster.bin; the hospital is shut out once two officers have signed.")
    revoke.add_argument("new_file", type=Path, nargs="?", metavar="NEW_FILE",
                        help="where to write it; not with a folder")
    revoke.add_argument("site_id", metavar="SITE_ID")


def _action(actions: Any, name: str, command: Any, text: str, description: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = actions.add_parser(name, help=text, description=description)
    kind = "key" if name == "officer-key" else "roster"
    where = ", or the coordinator's folder, whose roster.bin is meant" if name in ("sign", "show", "revoke") else ""
    parser.add_argument("file", type=Path, metavar="FILE", help=f"a {kind} file{where}")
    parser.add_argument("--json", action="store_true", help="print JSON instead of text")
    parser.set_defaults(command=command)
    return parser


def _new(arguments: argparse.Namespace) -> int:
    from coordinator.roster_files import key_of, officer_of, site_of, write_draft
    from privacy.identity import MAX_DIMENSION, Roster

    largest = MAX_DIMENSION if arguments.max_dimension is None else arguments.max_dimension
    return write_draft(arguments.file, Roster(
        federation_id=arguments.federation, version=1, coordinator_key=key_of(arguments.coordinator_key),
        sites=tuple(site_of(text) for text in arguments.sites), min_cohort=arguments.min_cohort,
        min_fraction=arguments.min_fraction, officers=tuple(officer_of(text) for text in arguments.officers),
        suites=tuple(arguments.suites or ("x25519",)), max_dimension=largest, two_sites=arguments.two_sites),
        as_json=arguments.json)


def _add_site(arguments: argparse.Namespace) -> int:
    from coordinator.roster_files import read_roster, site_of, with_sites, write_draft

    return write_draft(
        arguments.new_file, with_sites(read_roster(arguments.file).roster, [site_of(arguments.site)]),
        as_json=arguments.json)


def _suspend(arguments: argparse.Namespace) -> int:
    from coordinator.roster_files import read_roster, with_status, write_draft

    roster = read_roster(arguments.file).roster
    return write_draft(
        arguments.new_file, with_status(roster, arguments.site_id, "active" if arguments.resume else "suspended"),
        as_json=arguments.json)


def _revoke(arguments: argparse.Namespace) -> int:
    from coordinator.home import Home
    from coordinator.roster_drafts import draft
    from coordinator.roster_files import read_roster, with_status, write_draft

    if arguments.new_file is not None:
        return write_draft(
            arguments.new_file, with_status(read_roster(arguments.file).roster, arguments.site_id, "suspended"),
            as_json=arguments.json)
    if not arguments.file.is_dir():
        raise ValueError(f"{arguments.file} is a roster file; name the NEW_FILE to write, or give the coordinator's "
                         "folder in its place")
    said = draft(Home.open(arguments.file), lambda roster: with_status(roster, arguments.site_id, "suspended"))
    made = read_roster(arguments.file / "roster.bin").roster
    print(json.dumps({"file": str(arguments.file / "roster.bin"), "version": made.version, "hash": made.hash().hex(),
                      "signatures": 0, "said": said}) if arguments.json else said)
    return EXIT_OK


def _sign(arguments: argparse.Namespace) -> int:
    from coordinator.roster_files import read_roster, read_signing_key
    from privacy.durable import write_whole

    path, previous = _named(arguments)
    again = read_roster(path).sign(read_signing_key(arguments.key), previous)
    mode = path.stat().st_mode & 0o777
    write_whole(path, again.to_bytes())
    path.chmod(mode)
    version, found, count = again.roster.version, again.roster.hash().hex(), len(again.signatures)
    print(json.dumps({"file": str(path), "version": version, "hash": found, "signatures": count}) if arguments.json
          else f"version {version}, hash {found}: {count} signatures")
    return EXIT_OK


def _named(arguments: argparse.Namespace) -> tuple[Path, Roster | None]:
    """The roster file that FILE or DIR names, and the roster that it replaces: --previous, or as DIR knows it."""
    from coordinator.roster_files import read_roster

    if arguments.previous is not None:
        previous: Roster | None = read_roster(arguments.previous).roster
    elif arguments.file.is_dir():
        from coordinator.home import Home

        kept = Home.open(arguments.file).previous()
        previous = None if kept is None else kept.roster
    else:
        previous = None
    return (arguments.file / "roster.bin" if arguments.file.is_dir() else arguments.file), previous


def _show(arguments: argparse.Namespace) -> int:
    from coordinator.roster_files import read_roster
    from privacy.roster import RosterError
    from privacy.roster_facts import roster_changes, roster_facts, roster_text

    path, previous = _named(arguments)
    signed = read_roster(path)
    facts = roster_facts(signed)
    try:
        signed.require_signed(previous)
        facts["reason"] = ""
    except RosterError as error:
        facts["reason"] = str(error)
    facts["ready"] = not facts["reason"]
    facts["changes"] = [] if previous is None else list(roster_changes(previous, signed.roster))
    if arguments.json:
        print(json.dumps(facts))
    else:
        changes = [f"change       {line}" for line in facts["changes"]]
        print("\n".join([roster_text(facts), *changes, facts["reason"] or "signed by enough officers"]))
    return EXIT_OK if facts["ready"] else EXIT_FAILED


def _officer_key(arguments: argparse.Namespace) -> int:
    from coordinator.roster_files import new_signing_key

    public = new_signing_key(arguments.file).public_bytes().hex()
    print(json.dumps({"file": str(arguments.file), "public_key": public}) if arguments.json else public)
    return EXIT_OK
