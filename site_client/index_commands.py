"""`site-client index` and `site-client opt-out`: what the data of this hospital are, and who is left out."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from configs.schema import SiteConfig
    from site_client.records import SiteIndex

__all__ = ["add_index_commands", "index_progress"]

_MOST_PICTURES = 48


def add_index_commands(commands: Any) -> None:
    """Both commands."""
    index = commands.add_parser(
        "index", help="mirror servers, read what is new, and count patients, samples and refusals",
        description="Mirrors the servers of `sources`, parses new files in a sandbox, joins reports, questions and "
                    "images within each patient, searches the texts for what names somebody, and keeps ready pictures. "
                    "Only what is new is read; a run that was interrupted goes on. Nothing is sent to the coordinator.")
    index.add_argument("site_file", metavar="SITE_FILE", help="this hospital's YAML file")
    index.add_argument("--no-sync", action="store_true", help="ask no server; read what is on this machine")
    index.add_argument("--report", action="store_true",
                       help="counts per modality, transfer syntax, refusal and patient; counts below 10 are hidden")
    index.add_argument("--exact", action="store_true", help="with --report: hide nothing; for the hospital's own eyes")
    index.add_argument("--refused", action="store_true",
                       help="also list every refused item; may show patient identifiers on this screen")
    index.add_argument("--contact-sheet", metavar="PNG", type=Path,
                       help="also write small pictures of up to 48 images, as the model sees them; shows patients")
    index.add_argument("--json", action="store_true", help="print JSON instead of text")
    index.set_defaults(command=_index)
    opt_out = commands.add_parser(
        "opt-out", help="patients of whom nothing is used",
        description="Reads patient IDs from standard input, one a line, and keeps their hashes only. `site-client "
                    "index` forgets what it had of them; what a model learned before stays as the ledger bounded it.")
    opt_out.add_argument("action", choices=("add", "remove", "count"))
    opt_out.add_argument("site_file", metavar="SITE_FILE", help="this hospital's YAML file")
    opt_out.add_argument("--json", action="store_true", help="print JSON instead of text")
    opt_out.set_defaults(command=_opt_out)


def _site(path: str) -> SiteConfig:
    from configs.load import load_config
    from configs.schema import SiteConfig

    return load_config(SiteConfig, path)


def _index(arguments: argparse.Namespace) -> int:
    from site_client.index_facts import index_facts, index_text, report_facts, report_text
    from site_client.site_index import read_site, sync_site

    if arguments.exact and not arguments.report:
        raise ValueError("--exact goes with --report")
    config = _site(arguments.site_file)
    with index_progress() as show:
        came = {} if arguments.no_sync else sync_site(config, show)
        index = read_site(config, progress=show, retry=True)
    if arguments.contact_sheet is not None:
        _contact_sheet(arguments.contact_sheet, index)
    if arguments.report:
        facts = report_facts(config.site_id, index, exact=arguments.exact)
        text = report_text(facts)
    else:
        facts = index_facts(config.site_id, index)
        if servers := [source.name for source in config.sources if source.kind != "folder" and came]:
            facts["mirrors"] = {name: asdict(came[name]) for name in servers}
        if arguments.refused:
            facts["refused_items"] = [{"item": r.item, "reason": r.reason} for r in (*index.refused, *index.suspect)]
        text = index_text(facts)
    print(json.dumps(facts) if arguments.json else text)
    return 0


def _opt_out(arguments: argparse.Namespace) -> int:
    from site_client.keystore import load_or_create_secret
    from site_client.opt_out import change_opt_out, read_opt_out

    config = _site(arguments.site_file)
    state = Path(config.state)
    changed, number = 0, len(read_opt_out(state) or ())
    if arguments.action != "count":
        key = load_or_create_secret(state / "pseudonym.key")
        changed, number = change_opt_out(state, sys.stdin, key=key, issuer=config.issuer,
                                         remove=arguments.action == "remove")
    facts = {"site_id": config.site_id, "changed": changed, "opted_out": number}
    print(json.dumps(facts) if arguments.json else
          f"{config.site_id}: {number} patients opted out, {changed} changed"
          + ("; it takes effect with the next `site-client index` or round" if changed else ""))
    return 0


@contextmanager
def index_progress() -> Iterator[Callable[[str, int, int], None] | None]:
    """A bar with the time left on stderr for each step; nothing when stderr is not a terminal."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("left"),
               TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        bars: dict[str, Any] = {}

        def show(what: str, done: int, total: int) -> None:
            if what not in bars:
                bars[what] = progress.add_task(what, total=None)
            progress.update(bars[what], completed=done, total=total)

        yield show


def _contact_sheet(path: Path, index: SiteIndex) -> None:
    from site_client.imaging.contact_sheet import write_contact_sheet
    from site_client.indexing.tile_cache import CachedImage

    pictures = []
    for patient in index.patients:
        for source, examples in patient.examples.items():
            images = [image for example in examples[:2] for image in example.images if isinstance(image, CachedImage)]
            pictures += [(f"{source}, {image.count} tiles", image.overview()) for image in images[:2]]
        if len(pictures) >= _MOST_PICTURES:
            break
    if not pictures:
        raise ValueError("there is no picture to show: no sample has an image")
    write_contact_sheet(path, pictures[:_MOST_PICTURES])
