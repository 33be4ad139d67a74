"""`site-client dpia SITE_FILE`: what this site's files say, as the input of a data protection impact assessment."""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import Any

__all__ = ["add_dpia_command"]


def add_dpia_command(commands: Any) -> None:
    """Add `dpia` to the parser's `commands` (of `add_subparsers`)."""
    parser = commands.add_parser(
        "dpia", help="facts of this site as input for a data protection impact assessment",
        description="Markdown in the order of GDPR Article 35(7), with an entry for Article 30 and a table for HIPAA's "
                    "Security Rule, from ledger, audit log, policy, roster and index. An aid, not legal advice; "
                    "what only the controller can say is marked. Nothing is sent anywhere.")
    parser.add_argument("site_file", metavar="SITE_FILE", help="this hospital's YAML file")
    parser.add_argument("--out", type=Path, metavar="FILE.md", help="write a new file (0600) instead of printing")
    parser.add_argument("--no-data", action="store_true", help="leave the counts of the data out; reads no index")
    parser.add_argument("--json", action="store_true", help="the same facts as JSON instead of text")
    parser.set_defaults(command=_dpia)


def _dpia(arguments: argparse.Namespace) -> int:
    from configs.load import load_config
    from configs.schema import SiteConfig
    from site_client.dpia_facts import dpia_facts
    from site_client.dpia_text import dpia_text
    from site_client.index_commands import index_progress
    from site_client.index_facts import report_facts
    from site_client.site_index import read_site

    config = load_config(SiteConfig, arguments.site_file)
    if arguments.out is not None and arguments.out.exists():
        raise ValueError(f"{arguments.out} exists; name a new file")
    index = None
    if not arguments.no_data:
        with index_progress() as show:
            index = report_facts(config.site_id, read_site(config, progress=show))
    facts = dpia_facts(config, index)
    text = json.dumps(facts, indent=1) + "\n" if arguments.json else dpia_text(facts)
    if arguments.out is None:
        print(text, end="")
        return 0
    with os.fdopen(os.open(arguments.out, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as out:
        out.write(text)
    print(f"{arguments.out}: read it, fill in what is marked, and let the data protection officer judge it")
    return 0
