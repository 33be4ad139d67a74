"""`coordinator evidence`: what a run can prove about its sites, and the check of anybody's file.

Exit codes: 0 fine, 1 the evidence does not hold, 2 bad input (one sentence on stderr).
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

__all__ = ["add_command"]

EXIT_OK, EXIT_FAILED = 0, 1


def add_command(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `evidence` to the program's commands."""
    parser = commands.add_parser(
        "evidence", help="which sites signed things that contradict each other, for anybody to check",
        description="Two signed messages of one party that contradict each other: who, what, whether it holds, what to "
                    "do. Anybody with the roster can check an exported file.")
    parser.add_argument("words", nargs="*", metavar="RUN_FOLDER [list|show ID|export ID FILE]",
                        help="list what is kept (default), show one with its messages' bytes, or write one to a file")
    parser.add_argument("--verify", type=Path, metavar="FILE", help="check this file instead; needs no RUN_FOLDER")
    parser.add_argument("--roster", type=Path, metavar="ROSTER", help="the roster of that run, for --verify")
    parser.add_argument("--json", action="store_true", help="print JSON instead of text")
    parser.set_defaults(command=_evidence)


def _evidence(arguments: argparse.Namespace) -> int:
    if arguments.verify is not None:
        return _verify(arguments)
    from coordinator.evidence_folder import kept_in
    from privacy.evidence_report import act

    if not arguments.words or arguments.roster is not None:
        raise ValueError("evidence takes a RUN_FOLDER, then `list`, `show ID` or `export ID FILE`; --roster goes with "
                         "--verify")
    folder = Path(arguments.words[0])
    folder = folder / "coordinator" if (folder / "coordinator").is_dir() else folder
    if not folder.is_dir():
        raise ValueError(f"there is no run folder {folder}; name the output folder of a run")
    facts, text = act(arguments.words[1:], kept_in(folder), str(folder))
    print(json.dumps(facts) if arguments.json else text)
    return EXIT_OK if all(fact["proved"] for fact in facts) else EXIT_FAILED


def _verify(arguments: argparse.Namespace) -> int:
    """Check one file with a roster; needs nothing of this run."""
    from privacy.evidence_report import facts_of, read_evidence, read_roster, text_of

    if arguments.words or arguments.roster is None:
        raise ValueError("`evidence --verify FILE` takes `--roster ROSTER` and nothing else but --json")
    facts = facts_of(read_evidence(arguments.verify), read_roster(arguments.roster))
    print(json.dumps(facts) if arguments.json else text_of(facts))
    return EXIT_OK if facts["proved"] else EXIT_FAILED
