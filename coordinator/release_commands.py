"""`coordinator verify-release`: whether an exported run is what it says, for anybody, without a network.

Exit codes: 0 everything holds, 1 something does not (one sentence), 2 bad input (one sentence on stderr).
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

__all__ = ["add_release_commands"]

EXIT_OK, EXIT_FAILED = 0, 1


def add_release_commands(commands: Any) -> None:
    """Add the command to the parser's `commands` (of `add_subparsers`)."""
    verify = commands.add_parser(
        "verify-release", help="check an exported run offline: signatures, files, privacy numbers",
        description="Check every file and signature of a release that `coordinator export` wrote, and print what was "
                    "checked and what that does not prove. Needs no coordinator's folder and no network.")
    verify.add_argument("folder", type=Path, metavar="DIR", help="the release")
    verify.add_argument("--roster", type=Path, metavar="ROSTER", help="a roster of the federation that you trust")
    verify.add_argument("--key", default="", metavar="FINGERPRINT",
                        help="the coordinator's key or its fingerprint, from the consortium and not from the release")
    verify.add_argument("--federation-id", default="", metavar="NAME", help="the federation that it must be of")
    verify.add_argument("--base", type=Path, metavar="BASE_DIR",
                        help="the base model: is it the right one, and are merged weights it and the adapter?")
    verify.add_argument("--json", action="store_true", help="print JSON instead of text")
    verify.set_defaults(command=_verify)


def _verify(arguments: argparse.Namespace) -> int:
    from coordinator.release_folder import ReleaseError
    from coordinator.roster_files import read_roster
    from coordinator.verify_release import Anchor, verify_release

    anchor = Anchor(
        None if arguments.roster is None else read_roster(arguments.roster), arguments.key, arguments.federation_id)
    if anchor.roster is not None:
        anchor.roster.require_signed()
    try:
        found = verify_release(arguments.folder, anchor, arguments.base)
    except ReleaseError as error:
        if arguments.json:
            print(json.dumps({"good": False, "failure": str(error)}))
        print(f"coordinator: {error}", file=sys.stderr)
        return EXIT_FAILED
    print(json.dumps(found.facts()) if arguments.json else found.text())
    return EXIT_OK
