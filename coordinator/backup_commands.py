"""`coordinator backup` and `restore`: keys, certificates, rosters and runs in one file, and back into a new folder.

A run never goes on from an old copy: its journal would count the same attempts again, and the sites would hold two
plans for one attempt, signed by this coordinator. A restored folder's runs can be looked at and exported; none goes on.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from coordinator.home import Home

__all__ = ["add_backup_commands"]

EXIT_OK = 0
KIND = "coordinator"
_ENDED = "restored"  # stands for a folder's token in the register: no folder has it, so the run cannot go on
_RESTORED = ("this folder was restored from a backup, and a run never goes on from an old copy; launch a new run "
             "with a new run_id")
_RUN_FILES = ("run.json", "state.json", "manifest.bin", "roster.bin", "coordinator.yaml", "progress.jsonl",
              "steps.jsonl", "journal.json", "rounds.json")


def add_backup_commands(commands: Any) -> None:
    """Add `backup` and `restore` to the parser's `commands` (of `add_subparsers`)."""
    backup = commands.add_parser(
        "backup", help="keys, certificates, rosters and runs in one file",
        description="Also while `coordinator up` runs. The file holds the coordinator's keys and is not encrypted.")
    backup.add_argument("folder", type=Path, metavar="DIR", help="the coordinator's folder")
    backup.add_argument("out", type=Path, metavar="OUT.tar", help="the new file (0600)")
    backup.set_defaults(command=_backup)
    restore = commands.add_parser(
        "restore", help="make a new coordinator's folder from a backup",
        description="Keys and rosters are checked before the folder appears. Its runs can be exported; none goes on.")
    restore.add_argument("backup", type=Path, metavar="OUT.tar", help="a file that `coordinator backup` made")
    restore.add_argument("folder", type=Path, metavar="NEW_DIR", help="the new folder")
    restore.set_defaults(command=_restore)
    for command in (backup, restore):
        command.add_argument("--json", action="store_true", help="print JSON instead of text")


def _backup(arguments: argparse.Namespace) -> int:
    from coordinator.home import Home
    from privacy.backup import write_backup
    from privacy.state_version import STATE_VERSION

    home = Home.open(arguments.folder)
    _check(home)
    files = {path.relative_to(home.folder).as_posix(): path for path in sorted(_files(home)) if path.is_file()}
    texts = {} if "version" in files else {"version": f"{STATE_VERSION}\n".encode()}
    notes = write_backup(arguments.out.absolute(), KIND, files, texts=texts)
    if arguments.json:
        print(json.dumps({"file": str(arguments.out), "federation_id": home.config.federation_id,
                          "files": len(notes["files"]), "release": notes["release"]}))
        return EXIT_OK
    print(f"{arguments.out}: {len(notes['files'])} files of federation {home.config.federation_id}, release "
          f"{notes['release'][:16]}\nit holds the coordinator's keys: keep it as safe as {home.folder}, and make one "
          "after every roster and every run")
    return EXIT_OK


def _files(home: Home) -> list[Path]:
    """Everything but logs, the hub's database of messages on their way, and what only binds a run to its folder."""
    register = home.key_file.with_name(f"{home.key_file.name}.runs.json")
    found = [home.config_file, home.invitation_file, home.key_file, register, home.roster_file,
             home.folder / "version", *home.rosters_folder.glob("*.bin"), *home.requests_folder.glob("*.request"),
             home.ca_certificate_file, home.ca_key_file, home.server_certificate_file, home.server_key_file]
    for run in home.runs_folder.iterdir():
        found += [run / name for name in _RUN_FILES]
        found += [path for folder in ("adapter", "evidence") for path in (run / folder).rglob("*")]
        whole = sorted(path for path in (run / "checkpoints").glob("round-*") if (path / "state.json").is_file())
        found += [path for newest in whole[-1:] for path in newest.rglob("*")]
    return found


def _check(home: Home) -> None:
    """Raises ValueError when keys, invitation, requests or rosters do not belong together."""
    home.key()
    home.authority()
    home.requests()
    home.in_force()


def _restore(arguments: argparse.Namespace) -> int:
    from coordinator.home import Home
    from privacy.backup import unpack
    from privacy.durable import new_folder

    with new_folder(arguments.folder.absolute()) as partial:
        notes = unpack(arguments.backup, KIND, partial)
        for name in ("keys", "tls", "requests", "rosters", "runs", "log"):
            (partial / name).mkdir(mode=0o700, exist_ok=True)
        for public in ("invitation.json", "tls/ca.crt", "tls/server.crt"):
            if (partial / public).is_file():
                (partial / public).chmod(0o644)
        home = Home.open(partial)
        _check(home)
        _end_runs(home)
    if arguments.json:
        print(json.dumps({"folder": str(arguments.folder), "made_utc": notes["made_utc"],
                          "version": notes["version"], "release": notes["release"]}))
        return EXIT_OK
    print(f"{arguments.folder} is restored from {notes['made_utc']} (release {notes['version']}, "
          f"{notes['release'][:16]})\n"
          "1. end the old `coordinator up` for good: two coordinators with one key sign what sites keep as evidence\n"
          "2. its runs can be exported, and none goes on. Give new runs names that were never used, also not after "
          "this backup: sites refuse a\n   second manifest under one name (P_RUN_ID), and keep both as evidence\n"
          "3. a roster signed after this backup is newer than the one here: ask an officer or a site for it, as "
          "roster.bin\n"
          f"4. coordinator doctor {arguments.folder}, then coordinator up {arguments.folder}")
    return EXIT_OK


def _end_runs(home: Home) -> None:
    """No run of this folder goes on: the register says so to the executor, and the queue to the operator."""
    from coordinator.run_queue import RunQueue
    from privacy.durable import write_whole

    register = home.key_file.with_name(f"{home.key_file.name}.runs.json")
    known: dict[str, Any] = json.loads(register.read_text(encoding="utf-8")) if register.is_file() else {}
    queue = RunQueue(home.runs_folder)
    for run in queue.all():
        known.setdefault(run.run_id, {"manifest_hash": "", "token": ""})
        if run.state != "finished":
            queue.put(replace(run, state="failed", reason=_RESTORED))
    for one in known.values():
        one["token"] = _ENDED
    write_whole(register, json.dumps(known, indent=1).encode())
