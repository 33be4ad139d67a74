"""`site-client approve SITE_FILE [FILE|HASH]`: the operator's word on a run or on a new roster.

Exit codes: 0 approved or listed, 1 not approved, 2 bad input (one sentence on stderr). Nothing here is sent anywhere; a
site that runs sees an approved run when the coordinator asks again.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from configs.schema import SiteConfig
    from privacy.roster import SignedRoster

__all__ = ["OFFERED_ROSTER", "add_approve_command"]

EXIT_OK, EXIT_FAILED = 0, 1
OFFERED_ROSTER = "roster.offered"  # in the state folder: a signed roster that came over the wire and waits
_PREFIX = re.compile(r"[0-9a-fA-F]{8,64}")


def add_approve_command(commands: Any) -> None:
    """Add `approve` to the parser's `commands` (of `add_subparsers`)."""
    parser = commands.add_parser(
        "approve", help="allow a run, or put a new roster in force; without FILE list what waits",
        description="Print what would run and what would leave, or what a new roster changes, and ask. An approval is "
                    "of exactly one manifest and overrides no rule of the policy.")
    parser.add_argument("site_file", metavar="SITE_FILE", help="this hospital's YAML file")
    parser.add_argument("what", metavar="FILE|HASH", nargs="?",
                        help="a signed manifest or roster, or the first 8 or more digits of a hash that waits")
    parser.add_argument("--yes", action="store_true", help="do not ask; the hash was compared already")
    parser.add_argument("--json", action="store_true", help="print JSON instead of text")
    parser.set_defaults(command=_approve)


def _approve(arguments: argparse.Namespace) -> int:
    from configs.load import load_config
    from configs.schema import SiteConfig
    from privacy.errors import MessageFormatError
    from privacy.messages import SignedManifest
    from privacy.roster import SignedRoster
    from site_client.roster_commands import approve_roster
    from site_client.roster_pin import RosterPin

    config = load_config(SiteConfig, arguments.site_file)
    if arguments.what is None:
        print(json.dumps(_listed_facts(config)) if arguments.json else _listed(config))
        return EXIT_OK
    data = _found(config, arguments.what)
    try:
        SignedManifest.from_bytes(data)
    except MessageFormatError:
        try:
            roster = SignedRoster.from_bytes(data)
        except MessageFormatError:
            raise ValueError("that file is neither a signed manifest nor a signed roster of this release; ask for it "
                             "again") from None
        code = approve_roster(RosterPin(config), roster, ask=not arguments.yes,
                              as_json=arguments.json)
        offered = _offered(config)
        if code == EXIT_OK and offered is not None and offered.roster == roster.roster:
            (Path(config.state) / OFFERED_ROSTER).unlink(missing_ok=True)
        return code
    return _approve_run(config, data, ask=not arguments.yes, as_json=arguments.json)


def _approve_run(config: SiteConfig, signed: bytes, *, ask: bool, as_json: bool) -> int:
    from model.backbone import hash_model
    from privacy.errors import ProtocolError
    from privacy.ledger import LedgerTamperedError
    from privacy.messages import SignedManifest
    from site_client.audit_commands import booking
    from site_client.roster_commands import confirmed
    from site_client.roster_pin import RosterPin
    from site_client.run_approval import RunApprovals
    from site_client.run_preview import account_of_site, run_facts, run_text

    roster = RosterPin(config).roster()
    try:
        manifest = SignedManifest.open(signed, roster)
        account = account_of_site(config, roster)
    except ProtocolError as error:
        raise ValueError(f"that manifest cannot be approved: {error} Ask the coordinator for one that is signed for "
                         f"version {roster.version} of the roster") from None
    except LedgerTamperedError as error:
        raise ValueError(f"no run can be approved on a broken ledger: {error}") from None
    facts = run_facts(manifest, roster, config, account, hash_model(Path(config.base_model)))
    print(json.dumps(facts) if as_json else run_text(facts))
    if ask and not confirmed(facts["hash"], "compare the manifest's hash with the coordinator",
                             sys.stderr if as_json else None):
        print("not approved; nothing was changed", file=sys.stderr)
        return EXIT_FAILED
    with booking(Path(config.state)) as log:
        new = RunApprovals(Path(config.state)).approve(manifest)
        log.note("approval", what="manifest", hash=facts["hash"], run_id=manifest.run_id)
    if not as_json:
        print(f"approved run {manifest.run_id}" + ("" if new else ", again"))
    if config.policy.approve_runs == "auto":
        print("policy.approve_runs is auto: what the policy allows runs without an approval", file=sys.stderr)
    if facts["refused_by"]:
        print(f"the policy still refuses it ({', '.join(facts['refused_by'])}); change the site file if you want it to "
              "run", file=sys.stderr)
    return EXIT_OK


def _listed_facts(config: SiteConfig) -> dict[str, Any]:
    from site_client.run_approval import RunApprovals

    offered = _offered(config)
    return {
        "site_id": config.site_id,
        "runs": [{"run_id": run.manifest.run_id, "hash": run.digest, "arrived": run.arrived}
                 for run in RunApprovals(Path(config.state)).pending()],
        "roster": None if offered is None else {"hash": offered.roster.hash().hex(), "version": offered.roster.version,
                                                "federation_id": offered.roster.federation_id}}


def _listed(config: SiteConfig) -> str:
    from site_client.run_preview import waiting_lines

    offered = _offered(config)
    roster = "no roster waits for approval" if offered is None else (
        f"roster that waits for approval\n  {offered.roster.hash().hex()[:16]}  version {offered.roster.version} of "
        f"{offered.roster.federation_id}")
    return "\n".join([*waiting_lines(config), roster])


def _offered(config: SiteConfig) -> SignedRoster | None:
    from privacy.roster import SignedRoster

    path = Path(config.state) / OFFERED_ROSTER
    return SignedRoster.parse(path.read_bytes()) if path.is_file() else None


def _found(config: SiteConfig, what: str) -> bytes:
    """The bytes of the file `what`, or of the one thing that waits and whose hash begins so."""
    from site_client.run_approval import RunApprovals

    if Path(what).is_file():
        return Path(what).read_bytes()
    if not _PREFIX.fullmatch(what):
        raise ValueError(f"{what} is no file, and no hash either: give the first 8 or more digits of one that "
                         "`site-client approve SITE_FILE` lists")
    waiting = {run.digest: run.signed for run in RunApprovals(Path(config.state)).pending()}
    offered = _offered(config)
    if offered is not None:
        waiting[offered.roster.hash().hex()] = offered.to_bytes()
    matching = [signed for digest, signed in waiting.items() if digest.startswith(what.lower())]
    if len(matching) != 1:
        raise ValueError(f"{len(matching)} things that wait have a hash that begins with {what}; "
                         "`site-client approve SITE_FILE` lists them")
    return matching[0]
