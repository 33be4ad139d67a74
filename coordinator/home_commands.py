"""`coordinator init | enroll | renew-certificate`: a coordinator's folder is made, and sites are taken in.

Heavy imports happen inside the commands.
"""

from __future__ import annotations

import argparse
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from coordinator.authority import Authority

__all__ = ["add_home_commands"]

EXIT_OK = 0


def add_home_commands(commands: Any) -> None:
    """Add the three commands to the parser's `commands` (of `add_subparsers`)."""
    init = commands.add_parser(
        "init", help="make the coordinator's folder: keys, certificates, invitation",
        description="Make DIR whole or not at all: signing key, certificate authority, server certificate, invitation.")
    init.add_argument("folder", type=Path, metavar="DIR", help="a new folder")
    init.add_argument("--federation", required=True, metavar="NAME", help="the consortium's name")
    init.add_argument("--address", required=True, metavar="HOST:PORT", help="where the sites reach this coordinator")
    init.add_argument("--listen", metavar="HOST:PORT", help="what to bind (default: 0.0.0.0 and the address's port)")
    init.add_argument("--officer", action="append", required=True, metavar="NAME:HEX", dest="officers",
                      help="an officer: name and public key (`coordinator roster officer-key`); at least two")
    init.add_argument("--min-cohort", type=int, metavar="N",
                      help="fewest sites in a sum (default: 3, or 2 with --two-sites)")
    init.add_argument("--min-fraction", type=float, default=0.5, metavar="F",
                      help="fewest sites in a sum, of the active ones (default: 0.5)")
    init.add_argument("--two-sites", action="store_true",
                      help="exactly two sites: hides a site's update from the coordinator only")
    init.set_defaults(command=_init)
    enroll = commands.add_parser(
        "enroll", help="take in sites' requests and draft the roster",
        description="Check and store each request, and draft the roster with these sites for two officers to sign.")
    enroll.add_argument("folder", type=Path, metavar="DIR", help="the coordinator's folder")
    enroll.add_argument("requests", type=Path, nargs="+", metavar="REQUEST", help="a file that `site-client init` made")
    enroll.set_defaults(command=_enroll)
    renew = commands.add_parser(
        "renew-certificate", help="a new server certificate from the same authority",
        description="Valid for 397 days; sites notice nothing. A server.key that was removed is made anew.")
    renew.add_argument("folder", type=Path, metavar="DIR", help="the coordinator's folder")
    renew.add_argument("--name", action="append", metavar="HOST", dest="names",
                       help="another host name or IP address of this server, once for each (default: as before)")
    renew.set_defaults(command=_renew)
    for command in (init, enroll, renew):
        command.add_argument("--json", action="store_true", help="print JSON instead of text")


def _init(arguments: argparse.Namespace) -> int:
    from coordinator.authority import Authority, host_of, new_private_key
    from coordinator.roster_files import new_signing_key, officer_of
    from privacy.durable import new_folder
    from privacy.enrolment import Invitation
    from privacy.state_version import claim_version

    officers, now = tuple(officer_of(text) for text in arguments.officers), datetime.now(UTC)
    text = _config_text(arguments)
    with new_folder(arguments.folder.absolute()) as partial:
        for name in ("keys", "tls", "requests", "rosters", "runs", "log"):
            (partial / name).mkdir(mode=0o700)
        claim_version(partial)
        _write(partial / "coordinator.yaml", text.encode())
        _check_config(partial / "coordinator.yaml")
        key = new_signing_key(partial / "keys" / "coordinator.key")
        authority: Authority = Authority.new(arguments.federation, now)
        invitation = Invitation(
            federation_id=arguments.federation, address=arguments.address, officers=officers,
            ca_certificate=authority.certificate.decode("ascii"), coordinator_key=key.public_bytes())
        server = new_private_key()
        _write(partial / "tls" / "ca.key", authority.key)
        _write(partial / "tls" / "ca.crt", authority.certificate, public=True)
        _write(partial / "tls" / "server.key", server)
        _write(partial / "tls" / "server.crt",
               authority.server_certificate(server, [host_of(arguments.address)], now), public=True)
        _write(partial / "invitation.json", invitation.to_json().encode(), public=True)
    if arguments.json:
        print(json.dumps({"folder": str(arguments.folder), "federation_id": arguments.federation,
                          "invitation": str(arguments.folder / "invitation.json"),
                          "fingerprint": invitation.fingerprint(), "hash": invitation.hash().hex()}))
        return EXIT_OK
    print(f"{arguments.folder} is ready; keep keys/ and tls/ca.key in a backup\n"
          f"next: send {arguments.folder / 'invitation.json'} to every site and officer. They compare this fingerprint "
          f"by telephone:\n  {invitation.fingerprint()}\n"
          f"then: coordinator enroll {arguments.folder} REQUEST ...  with what the sites send back")
    return EXIT_OK


def _config_text(arguments: argparse.Namespace) -> str:
    port = arguments.address.rpartition(":")[2]
    listen = arguments.listen or f"0.0.0.0:{port}"
    smallest = arguments.min_cohort if arguments.min_cohort is not None else 2 if arguments.two_sites else 3
    return f"""\
# The coordinator's folder, made by `coordinator init`. See configs/coordination.py for every key.
federation_id: {json.dumps(arguments.federation)}
address: {json.dumps(arguments.address)}  # where the sites reach this coordinator; it is in their invitation
listen: {json.dumps(listen)}   # what the public listener binds
min_cohort: {smallest}        # of the first roster: fewest sites in a sum
min_fraction: {json.dumps(arguments.min_fraction)}    # the same, of the active sites
two_sites: {json.dumps(arguments.two_sites)}
health_port: 0       # gRPC health service on 127.0.0.1; 0 = none
console: "127.0.0.1:8444"  # the web console, for this machine's operators (`coordinator console DIR`); 0 = none
"""


def _check_config(path: Path) -> None:
    from configs.coordination import HomeConfig
    from configs.load import load_config

    load_config(HomeConfig, path)


def _write(path: Path, content: bytes, *, public: bool = False) -> None:
    """A 0600 file; what is handed out or shown to every client is 0644."""
    from privacy.durable import write_whole

    write_whole(path, content)
    if public:
        path.chmod(0o644)


def _enroll(arguments: argparse.Namespace) -> int:
    from coordinator.home import Home
    from coordinator.roster_drafts import enrol

    home = Home.open(arguments.folder)
    said = enrol(home, arguments.requests)
    latest = home.latest()
    print(json.dumps({"said": said, "requests": sorted(home.requests()), "roster": None if latest is None else {
        "version": latest.roster.version, "hash": latest.roster.hash().hex(), "active": list(latest.roster.active_ids)},
    }) if arguments.json else said)
    return EXIT_OK


def _renew(arguments: argparse.Namespace) -> int:
    from coordinator.authority import SERVER_DAYS, host_of, new_private_key, server_names
    from coordinator.home import Home

    home = Home.open(arguments.folder)
    authority, present = home.authority(), home.server_certificate_file
    if arguments.names is None and present.is_file():
        more: tuple[str, ...] = server_names(present.read_bytes())
    else:
        more = tuple(arguments.names or ())
    key = home.server_key_file.read_bytes() if home.server_key_file.is_file() else new_private_key()
    made = authority.server_certificate(key, (host_of(home.config.address), *more), datetime.now(UTC))
    if not home.server_key_file.is_file():
        _write(home.server_key_file, key)
    _write(present, made, public=True)
    if arguments.json:
        print(json.dumps({"days": SERVER_DAYS, "names": list(server_names(made))}))
        return EXIT_OK
    print(f"renewed for {SERVER_DAYS} days: {', '.join(server_names(made))}; it is used from the next `coordinator up`")
    return EXIT_OK
