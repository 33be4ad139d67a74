"""`site-client init`: a hospital's folder with its keys, its commented site file, and the request that it sends.

Heavy imports happen inside the command. Nothing is sent; the keys never leave the folder.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from configs.site import PolicyConfig
    from privacy.enrolment import Invitation, SiteRequest

__all__ = ["add_init_command"]

EXIT_OK = 0
_MOST_BYTES = 1 << 16


def add_init_command(commands: Any) -> None:
    """Add `init` to the parser's `commands` (of `add_subparsers`)."""
    init = commands.add_parser(
        "init", help="make this hospital's folder: keys, policy, enrolment request",
        description="Make FOLDER whole or not at all, from the coordinator's invitation. Nothing is sent.")
    init.add_argument("folder", type=Path, metavar="FOLDER", help="a new folder, on the site's protected volume")
    init.add_argument("--invitation", type=Path, required=True, metavar="FILE", help="invitation.json, as received")
    init.add_argument("--site-id", required=True, metavar="ID", help="the identifier that this hospital asks for")
    init.add_argument("--patients", type=int, required=True, metavar="N", help="declared number of patients")
    init.add_argument("--data", type=Path, required=True, metavar="DIR",
                      help="folder with dicom/, reports.csv and questions.csv")
    init.add_argument("--base-model", type=Path, required=True, metavar="DIR", help="folder of the shared base model")
    init.add_argument("--max-epsilon", type=float, default=8.0, metavar="E",
                      help="most that this site ever spends on a patient (default: 8)")
    init.add_argument("--auto-approve", action="store_true",
                      help="a roster that two invited officers signed comes into force by itself")
    init.add_argument("--policy", action="append", default=[], metavar="KEY=VALUE", dest="settings",
                      help="another rule of the policy, as in the site file")
    init.add_argument("--json", action="store_true", help="print JSON instead of text")
    init.set_defaults(command=_init)


def _init(arguments: argparse.Namespace) -> int:
    from privacy.durable import new_folder, write_whole
    from privacy.enrolment import Invitation

    if not arguments.invitation.is_file():
        raise ValueError(f"invitation {arguments.invitation} does not exist; name the file that the coordinator sent")
    with arguments.invitation.open("rb") as file:
        invitation = Invitation.from_json(file.read(_MOST_BYTES + 1))
    policy = _policy(arguments)
    with new_folder(arguments.folder.absolute()) as partial:
        request = _request(arguments, invitation, partial / "state")
        write_whole(partial / "invitation.json", invitation.to_json().encode())
        write_whole(partial / f"{request.site_id}.request", request.to_json().encode())
        _write_site_file(partial / "site.yaml", arguments, policy)
    for name, place in (("data", arguments.data), ("base model", arguments.base_model)):
        if not place.is_dir():
            print(f"site-client: warning: the {name} folder {place} does not exist yet", file=sys.stderr)
    if request.declared_patients < policy.min_patients:
        print(f"site-client: warning: this site declares {request.declared_patients} patients and policy.min_patients "
              f"is {policy.min_patients}: every run would be refused", file=sys.stderr)
    print(_facts(arguments.folder, invitation, request) if arguments.json
          else _next_steps(arguments.folder, invitation, request))
    return EXIT_OK


def _policy(arguments: argparse.Namespace) -> PolicyConfig:
    from configs.load import load_overrides
    from configs.site import PolicyConfig

    rosters = "auto" if arguments.auto_approve else "by-hand"
    return load_overrides(PolicyConfig, [
        f"max_epsilon={arguments.max_epsilon}", f"approve_rosters={rosters}", *arguments.settings])


def _request(arguments: argparse.Namespace, invitation: Invitation, state: Path) -> SiteRequest:
    """Makes the site's three keys in `state` and signs what it asks for."""
    from privacy.enrolment import SiteRequest
    from privacy.state_version import claim_version
    from site_client.keystore import load_or_create_secret, node_public_key, signing_key

    state.mkdir(mode=0o700)
    claim_version(state)
    load_or_create_secret(state / "pseudonym.key")
    return SiteRequest.make(
        signing_key(state), invitation, site_id=arguments.site_id, declared_patients=arguments.patients,
        node_key=node_public_key(state))


def _write_site_file(path: Path, arguments: argparse.Namespace, policy: PolicyConfig) -> None:
    """Written, and read back: what a path says must survive YAML. Raises ValueError when it does not."""
    from configs.load import load_config
    from configs.schema import SiteConfig
    from privacy.durable import write_whole
    from site_client.site_file import site_file_text

    data, base_model = arguments.data.absolute(), arguments.base_model.absolute()
    folder = arguments.folder.absolute()
    text = site_file_text(
        site_id=arguments.site_id, folder=folder, data=data, base_model=base_model, policy=policy)
    write_whole(path, text.encode())
    config = load_config(SiteConfig, path)
    read = (config.policy, config.data, config.base_model, config.state)
    if read != (policy, str(data), str(base_model), str(folder / "state")):
        raise ValueError("a path has characters that a site file cannot hold; choose one without $, braces and control "
                         "characters")


def _facts(folder: Path, invitation: Invitation, request: SiteRequest) -> str:
    from privacy.roster_facts import fingerprint

    return json.dumps({
        "folder": str(folder), "site_id": request.site_id, "address": invitation.address,
        "federation_id": invitation.federation_id, "invitation_fingerprint": invitation.fingerprint(),
        "site_fingerprint": fingerprint(request.public_key), "request": str(folder / f"{request.site_id}.request"),
        "site_file": str(folder / "site.yaml")})


def _next_steps(folder: Path, invitation: Invitation, request: SiteRequest) -> str:
    from privacy.roster_facts import fingerprint

    return (
        f"{folder} is ready for {request.site_id} at {invitation.address} (federation {invitation.federation_id})\n"
        f"1. compare the invitation's fingerprint with an officer by telephone:\n     {invitation.fingerprint()}\n"
        f"   and read out this site's key, which the officers look for on the roster:\n"
        f"     {fingerprint(request.public_key)}\n"
        f"2. send {folder / (request.site_id + '.request')} to the coordinator; nothing in it is secret\n"
        f"3. read the policy in {folder / 'site.yaml'}, and back up {folder / 'state'}\n"
        f"4. site-client start {folder / 'site.yaml'}")
