"""`site-client backup` and `restore`: everything of a site that cannot be made again, in one file, and back.

A backup is of one moment. Left out is what can be made again or must not come back: the adapter state (the coordinator
sends it), an update that waits for its upload, the operator's word on a ledger, logs, and the secrets between the
site's own processes.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from configs.schema import SiteConfig

__all__ = ["add_backup_commands"]

EXIT_OK, EXIT_FAILED = 0, 1
KIND = "site"
_DATABASES = ("audit.sqlite", "rounds.sqlite", "evidence.sqlite", "peers.sqlite", "ledger.sqlite")
_FILES = ("version", "identity.key", "pseudonym.key", "node.key", "identity.has-ledger", "roster.pin", "roster.offered",
          "ledger.sqlite.mark", "audit.sqlite.head", "approved-runs", "transport.json", "opt-out.txt")


def add_backup_commands(commands: Any) -> None:
    """Add `backup` and `restore` to the parser's `commands` (of `add_subparsers`)."""
    backup = commands.add_parser(
        "backup", help="keys, ledger, audit log and roster pin in one file",
        description="A copy of one moment, also while the site runs. The file holds the site's keys and is not "
                    "encrypted: keep it where the state folder could be.")
    backup.add_argument("site_file", metavar="SITE_FILE", help="this hospital's YAML file")
    backup.add_argument("out", type=Path, metavar="OUT.tar", help="the new file (0600)")
    backup.set_defaults(command=_backup)
    restore = commands.add_parser(
        "restore", help="make a new state folder from a backup",
        description="Every chain and signature is checked before the folder appears. Restore only the newest backup: "
                    "peers refuse a ledger that is older than what they have seen of it.")
    restore.add_argument("backup", type=Path, metavar="OUT.tar", help="a file that `site-client backup` made")
    restore.add_argument("state", type=Path, metavar="NEW_STATE", help="the new state folder")
    restore.set_defaults(command=_restore)
    for command in (backup, restore):
        command.add_argument("--json", action="store_true", help="print JSON instead of text")


def _backup(arguments: argparse.Namespace) -> int:
    from configs.load import load_config
    from configs.schema import SiteConfig
    from privacy.backup import write_backup
    from privacy.state_version import STATE_VERSION, require_known

    config = load_config(SiteConfig, arguments.site_file)
    state = Path(config.state)
    if not (state / "identity.key").is_file():
        raise ValueError(f"{state} has no identity.key, so there is nothing to back up")
    require_known(state)
    _check(state)
    files = {name: state / name for name in _FILES}
    files |= {f"pending/{path.name}": path for path in sorted((state / "pending").glob("*.manifest"))}
    files |= _beside(arguments.site_file, config)
    texts = {} if (state / "version").is_file() else {"version": f"{STATE_VERSION}\n".encode()}
    notes = write_backup(arguments.out.absolute(), KIND, files,
                         [(name, state / name) for name in _DATABASES if (state / name).is_file()], texts)
    if arguments.json:
        print(json.dumps({"file": str(arguments.out), "site_id": config.site_id, "files": len(notes["files"]),
                          "release": notes["release"], "ledger": _ledger_line(state)}))
        return EXIT_OK
    print(f"{arguments.out}: {len(notes['files'])} files of {config.site_id}, release {notes['release'][:16]}\n"
          f"{_ledger_line(state)}\nit holds this site's keys: keep it as safe as {state}, and make one after every run")
    return EXIT_OK


def _beside(site_file: str, config: SiteConfig) -> dict[str, Path]:
    """What `restore` leaves in the archive: the site file names folders of the old machine."""
    found = {"beside/site.yaml": Path(site_file)}
    for name, place in (("invitation.json", config.invitation), ("roster.bin", config.roster)):
        if place:
            found[f"beside/{name}"] = Path(place)
    return found


def _restore(arguments: argparse.Namespace) -> int:
    from privacy.backup import unpack
    from privacy.durable import new_folder

    with new_folder(arguments.state.absolute()) as partial:
        notes = unpack(arguments.backup, KIND, partial)
        _check(partial)
        beside = sorted(path.name for path in (partial / "beside").iterdir())
        for name in beside:
            (partial / "beside" / name).unlink()
        (partial / "beside").rmdir()
    if arguments.json:
        print(json.dumps({"folder": str(arguments.state), "made_utc": notes["made_utc"], "version": notes["version"],
                          "release": notes["release"], "ledger": _ledger_line(arguments.state), "beside": beside}))
        return EXIT_OK
    print(f"{arguments.state} is restored from {notes['made_utc']} (release {notes['version']}, "
          f"{notes['release'][:16]})\n{_ledger_line(arguments.state)}\n"
          f"1. the site file's `state` must name {arguments.state.absolute()}; the old {', '.join(beside)}: tar -xf "
          f"{arguments.backup} beside\n"
          "2. what was spent after this backup is not in this ledger. Peers that saw more of it refuse it (P_LEDGER); "
          "where too few of them\n   can say (P_WITNESS), `site-client ledger approve` is your word that it is the "
          "newest. Do not give it for an older copy\n"
          "3. site-client doctor SITE_FILE, then site-client start SITE_FILE; never start the old copy again")
    return EXIT_OK


def _check(state: Path) -> None:
    """Raises ValueError when keys, ledger, audit log or pin of the folder do not hold; nothing is put in place then."""
    from privacy.errors import MessageFormatError
    from privacy.ledger import Ledger, LedgerTamperedError
    from privacy.roster import RosterError
    from site_client.audit_log import AuditBrokenError, AuditUnwritableError, site_log
    from site_client.keystore import has_ledger, signing_key
    from site_client.roster_pin import PinnedRoster

    for name in ("identity.key", "pseudonym.key"):
        if not (state / name).is_file():
            raise ValueError(f"there is no {name}; take another backup")
    key = signing_key(state)
    try:
        if has_ledger(state):
            Ledger.open(state / "ledger.sqlite", signing_key=key, must_exist=True).close()
        if (state / "audit.sqlite").is_file() or (state / "audit.sqlite.head").is_file():
            site_log(state).release()
        if (state / "roster.pin").is_file():
            PinnedRoster.from_bytes((state / "roster.pin").read_bytes()).approved.require_signed()
    except FileNotFoundError:
        raise ValueError("the ledger is not there though this site kept one; take the newest whole backup") from None
    except TimeoutError:
        raise ValueError("the ledger is being written; try again between two rounds") from None
    except (LedgerTamperedError, AuditBrokenError, AuditUnwritableError) as error:
        raise ValueError(f"it does not hold together: {error}") from None
    except (MessageFormatError, RosterError):
        raise ValueError("its roster.pin is damaged; take another backup") from None


def _ledger_line(state: Path) -> str:
    from privacy.ledger import Ledger

    if not (state / "ledger.sqlite").is_file():
        return "ledger: none yet"
    ledger = Ledger.open(state / "ledger.sqlite", must_exist=True)
    try:
        return f"ledger: {ledger.sequence} rows, head {ledger.head().hex()}"
    finally:
        ledger.close()
