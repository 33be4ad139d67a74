"""`site-client evidence`: what this site can prove about the coordinator or a peer, and the check of others' files.

Exit codes: 0 fine, 1 the evidence does not hold, 2 bad input (one sentence on stderr). Nothing printed here is sent
anywhere, and no message holds anything of a patient.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from configs.schema import SiteConfig
    from privacy.evidence_report import Noted
    from privacy.identity import Roster

__all__ = ["add_command"]

EXIT_OK, EXIT_FAILED = 0, 1


def add_command(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `evidence` to the program's commands."""
    parser = commands.add_parser(
        "evidence", help="who signed things that contradict each other, for anybody to check",
        description="Two signed messages of one party that contradict each other: who, what, whether it holds, what to "
                    "do. Anybody with the roster can check an exported file.")
    parser.add_argument("words", nargs="*", metavar="SITE_FILE [list|show ID|export ID FILE]",
                        help="list what is kept (default), show one with its messages' bytes, or write one to a file")
    parser.add_argument("--verify", type=Path, metavar="FILE", help="check this file instead; needs no SITE_FILE")
    parser.add_argument("--roster", type=Path, metavar="ROSTER", help="the roster of that run, for --verify")
    parser.add_argument("--json", action="store_true", help="print JSON instead of text")
    parser.set_defaults(command=_evidence)


def _evidence(arguments: argparse.Namespace) -> int:
    if arguments.verify is not None:
        return _verify(arguments)
    from configs.load import load_config
    from configs.schema import SiteConfig
    from privacy.evidence_report import act

    if not arguments.words or arguments.roster is not None:
        raise ValueError("evidence takes a SITE_FILE, then `list`, `show ID` or `export ID FILE`; --roster goes with "
                         "--verify")
    config = load_config(SiteConfig, arguments.words[0])
    facts, text = act(arguments.words[1:], _kept(config), config.state)
    print(json.dumps(facts) if arguments.json else text)
    return EXIT_OK if all(fact["proved"] for fact in facts) else EXIT_FAILED


def _kept(config: SiteConfig) -> list[Noted]:
    """Contradictions that the store holds, and forks of peers' ledgers, which the memory of marks holds."""
    from site_client.evidence_store import EvidenceStore
    from site_client.roster_pin import RosterPin

    state, roster = Path(config.state), RosterPin(config).roster()
    kept: list[Noted] = []
    if (state / "evidence.sqlite").is_file():
        store = EvidenceStore(state / "evidence.sqlite", roster)
        try:
            kept += [(one.evidence, one.roster, one.noted_utc) for one in store.list()]
        finally:
            store.close()
    return kept + _forks(state / "peers.sqlite", roster)


def _forks(path: Path, roster: Roster) -> list[Noted]:
    from privacy.evidence import Statement, contradiction
    from site_client.peers import PeerMarks

    if not path.is_file():
        return []
    peers = PeerMarks(path, roster.federation_id)
    try:
        pairs = [pair for site in roster.site_ids for pair in peers.forks(site)]
    finally:
        peers.close()
    found = (contradiction([Statement(mark.to_bytes()) for mark in pair], roster) for pair in pairs)
    return [(evidence, roster, "") for evidence in found if evidence is not None]


def _verify(arguments: argparse.Namespace) -> int:
    """Check one file with a roster; needs nothing of this installation."""
    from privacy.evidence_report import facts_of, read_evidence, read_roster, text_of

    if arguments.words or arguments.roster is None:
        raise ValueError("`evidence --verify FILE` takes `--roster ROSTER` and nothing else but --json")
    facts = facts_of(read_evidence(arguments.verify), read_roster(arguments.roster))
    print(json.dumps(facts) if arguments.json else text_of(facts))
    return EXIT_OK if facts["proved"] else EXIT_FAILED
