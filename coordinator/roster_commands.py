"""`coordinator roster ...`: a roster is drafted, changed, signed by officers, and shown, one file at a time.

Heavy imports happen inside the commands. Each officer signs on an own machine with an own key file; the file goes from
one to the next. A changed roster is a new file with the next version and no signatures.
"""

from __future__ import annotations

import argparse
import json
import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from privacy.identity import Officer, Roster, RosterSite, SigningKey
    from privacy.roster import SignedRoster

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
    show.add_argument("--json", action="store_true", help="print JSON instead of text")
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


def _action(actions: Any, name: str, command: Any, text: str, description: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = actions.add_parser(name, help=text, description=description)
    kind = "key" if name == "officer-key" else "roster"
    parser.add_argument("file", type=Path, metavar="FILE", help=f"a {kind} file")
    parser.set_defaults(command=command)
    return parser


def _new(arguments: argparse.Namespace) -> int:
    from privacy.identity import MAX_DIMENSION, Roster

    largest = MAX_DIMENSION if arguments.max_dimension is None else arguments.max_dimension
    roster = Roster(
        federation_id=arguments.federation, version=1, coordinator_key=_key_of(arguments.coordinator_key),
        sites=tuple(_site_of(text) for text in arguments.sites), min_cohort=arguments.min_cohort,
        min_fraction=arguments.min_fraction, officers=tuple(_officer_of(text) for text in arguments.officers),
        suites=tuple(arguments.suites or ("x25519",)), max_dimension=largest, two_sites=arguments.two_sites)
    return _write_draft(arguments.file, roster)


def _add_site(arguments: argparse.Namespace) -> int:
    roster = _read(arguments.file).roster
    if roster.two_sites:  # the only way on: an ordinary federation
        roster = replace(roster, two_sites=False, min_cohort=3)
    return _write_draft(arguments.new_file, roster.with_site(_site_of(arguments.site)))


def _suspend(arguments: argparse.Namespace) -> int:
    roster = _read(arguments.file).roster
    if arguments.site_id not in roster.site_ids:
        raise ValueError(f"{arguments.site_id} is not on the roster; give one of {', '.join(roster.site_ids)}")
    status: Literal["active", "suspended"] = "active" if arguments.resume else "suspended"
    if roster.site(arguments.site_id).status == status:
        raise ValueError(f"{arguments.site_id} is {status} already; nothing was written")
    sites = tuple(
        replace(site, status=status) if site.site_id == arguments.site_id else site for site in roster.sites)
    return _write_draft(arguments.new_file, replace(roster, version=roster.version + 1, sites=sites))


def _sign(arguments: argparse.Namespace) -> int:
    from privacy.durable import write_whole

    signed = _read(arguments.file)
    previous = None if arguments.previous is None else _read(arguments.previous).roster
    again = signed.sign(_signing_key(arguments.key), previous)
    mode = arguments.file.stat().st_mode & 0o777
    write_whole(arguments.file, again.to_bytes())
    arguments.file.chmod(mode)
    print(f"version {again.roster.version}, hash {again.roster.hash().hex()}: {len(again.signatures)} signatures")
    return EXIT_OK


def _show(arguments: argparse.Namespace) -> int:
    from privacy.roster import RosterError
    from privacy.roster_facts import roster_changes, roster_facts, roster_text

    signed = _read(arguments.file)
    previous = None if arguments.previous is None else _read(arguments.previous).roster
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
    from privacy.durable import sync
    from privacy.entropy import SystemEntropy
    from privacy.identity import SigningKey

    key = SigningKey.generate(SystemEntropy().random_bytes)
    try:
        descriptor = os.open(arguments.file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    except FileExistsError:
        raise ValueError(f"{arguments.file} exists; a key is never replaced, choose another name") from None
    with os.fdopen(descriptor, "wb") as file:
        file.write(key.private_bytes())
        file.flush()
        os.fsync(file.fileno())
    sync(arguments.file.parent)
    print(key.public_bytes().hex())
    return EXIT_OK


def _signing_key(path: Path) -> SigningKey:
    from privacy.identity import SigningKey

    if path.stat().st_mode & 0o077:
        raise ValueError(f"key file {path} is readable by others; run: chmod 600 {path}")
    secret = path.read_bytes()
    if len(secret) != 32:
        raise ValueError(f"key file {path} has {len(secret)} bytes instead of 32; restore it from backup")
    return SigningKey.from_private_bytes(secret)


def _read(path: Path) -> SignedRoster:
    from privacy.roster import SignedRoster

    if not path.is_file():
        raise ValueError(f"roster file {path} does not exist; `coordinator roster new` drafts one")
    return SignedRoster.parse(path.read_bytes())


def _write_draft(path: Path, roster: Roster) -> int:
    from privacy.roster import SignedRoster

    if path.exists():
        raise ValueError(f"{path} exists; a roster file is never replaced by a draft, choose another name")
    path.write_bytes(SignedRoster(roster).to_bytes())
    print(f"version {roster.version}, hash {roster.hash().hex()}: a draft, for its officers to sign")
    return EXIT_OK


def _key_of(text: str) -> bytes:
    try:
        key = bytes.fromhex(text)
    except ValueError:
        key = b""
    if len(key) != 32:
        raise ValueError(f"{text[:70]!r} is not a public key; give 64 hexadecimal digits")
    return key


def _site_of(text: str) -> RosterSite:
    from privacy.identity import RosterSite

    parts = text.split(":")
    if len(parts) != 3 or not (parts[2].isascii() and parts[2].isdigit()):
        raise ValueError(f"{text!r} is not a site; give ID:HEX:PATIENTS with the 64 digits of its public key")
    return RosterSite(parts[0], _key_of(parts[1]), int(parts[2]))


def _officer_of(text: str) -> Officer:
    from privacy.identity import Officer

    name, colon, key = text.partition(":")
    if not colon:
        raise ValueError(f"{text!r} is not an officer; give NAME:HEX with the 64 digits of the public key")
    return Officer(name, _key_of(key))
