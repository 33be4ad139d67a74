"""The console's process: opens the store, makes the tokens, and serves on a private address until SIGTERM.

`coordinator up` starts it and starts it again; `coordinator console DIR` runs it alone.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from coordinator.home import Home
from coordinator.run_store.database import file_url, open_database
from privacy.transport.log_lines import log_as_json
from privacy.web.access import token_in
from privacy.web.guard import host_names
from privacy.web.serving import Place, bind, serve_pages

__all__ = ["Place", "console_url", "main", "metrics_token_file", "serve_console", "store_url", "token_file"]


def token_file(home: Home) -> Path:
    """The operator's token."""
    return home.console_folder / "token"


def metrics_token_file(home: Home) -> Path:
    """The token of `/metrics`."""
    return home.console_folder / "metrics.token"


def store_url(home: Home) -> str:
    """Of the run store; by default a file in the coordinator's folder."""
    return home.config.run_store or file_url(home.console_folder / "runs.sqlite")


def console_url(home: Home, place: Place) -> str:
    """What an operator opens. The token is behind a #: a browser sends that part to nobody, and no log holds it."""
    return f"{place.url}login#{token_in(token_file(home))}"


def serve_console(home: Home, place: Place, on_ready: Callable[[Place], None]) -> None:
    """Serve until SIGTERM or SIGINT.

    Args:
        on_ready: told where it listens, once it answers.

    Raises:
        ValueError: the address is taken or not this machine's, or the store or a token cannot be used; one sentence.
    """
    from coordinator.console.app import Console, console_app

    home.console_folder.mkdir(mode=0o700, exist_ok=True)
    listening, place = bind(place, "choose another address: `console` in coordinator.yaml, or --listen")
    database = open_database(store_url(home), home.config.federation_id)
    try:
        console = Console(
            home, database, token_in(token_file(home)), token_in(metrics_token_file(home)),
            host_names(place.host, place.port, home.config.console_names), place.secure)
        certificate = (home.server_certificate_file, home.server_key_file) if place.secure else None
        serve_pages(console_app(console), listening, certificate, console.live.end_streams, lambda: on_ready(place))
    finally:
        database.close()


def main(argv: Sequence[str] | None = None) -> int:
    """`python -m coordinator.console.process DIR --ready FILE`."""
    parser = argparse.ArgumentParser(prog="coordinator.console.process", description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--ready", type=Path, required=True)
    arguments = parser.parse_args(argv)
    os.umask(0o077)
    log_as_json()
    try:
        home = Home.open(arguments.folder)
        serve_console(home, Place.of(home.config.console), lambda place: arguments.ready.touch())
    except (ValueError, OSError) as error:
        print(f"coordinator console: {error}", file=sys.stderr, flush=True)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
