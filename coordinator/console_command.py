"""`coordinator console DIR`: the address of the web console, served here where `coordinator up` does not serve it.

Heavy imports happen inside the command.
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from coordinator.home import Home

__all__ = ["add_console_command"]

EXIT_OK = 0


def add_console_command(commands: Any) -> None:
    """Add `console` to the parser's `commands` (of `add_subparsers`)."""
    console = commands.add_parser(
        "console", help="look at runs, sites and releases in a browser",
        description="Print the address of the web console, with the token that opens it. Where `coordinator up` does "
                    "not serve it, serve it here until Ctrl-C. It reads, and changes nothing.")
    console.add_argument("folder", type=Path, metavar="DIR", help="the coordinator's folder")
    console.add_argument("--url", action="store_true", help="print the address and end")
    console.add_argument("--listen", metavar="IP:PORT", default="",
                         help="serve here, whatever coordinator.yaml says; port 0 = any that is free")
    console.add_argument("--metrics-token", action="store_true", help="print the token of /metrics and end")
    console.add_argument("--new-token", action="store_true",
                         help="replace both tokens and end; a console that runs must be started again")
    console.add_argument("--json", action="store_true", help="print JSON instead of text")
    console.set_defaults(command=_console)


def _console(arguments: argparse.Namespace) -> int:
    from coordinator.console.process import console_url, metrics_token_file, token_file
    from coordinator.home import Home
    from privacy.web.access import new_token, token_in
    from privacy.web.serving import Place

    home = Home.open(arguments.folder)
    os.umask(0o077)
    if arguments.new_token:
        for file in (token_file(home), metrics_token_file(home)):
            new_token(file)
        print(json.dumps({"new_token": True}) if arguments.json else
              "both tokens are new; sessions of the old ones end when the console is started again")
        return EXIT_OK
    if arguments.metrics_token:
        token = token_in(metrics_token_file(home))
        print(json.dumps({"metrics_token": token}) if arguments.json else token)
        return EXIT_OK
    place = _place(arguments.listen) if arguments.listen else Place.of(home.config.console)
    if arguments.url:
        _say("", console_url(home, place), as_json=arguments.json)
        return EXIT_OK
    if not arguments.listen and _is_served(home):
        _say("`coordinator up` serves the console: ", console_url(home, place), as_json=arguments.json)
        return EXIT_OK
    return _serve(home, place, as_json=arguments.json)


def _say(text: str, url: str, *, as_json: bool) -> None:
    print(json.dumps({"url": url}) if as_json else f"{text}{url}", flush=True)


def _place(listen: str) -> Any:
    from configs.coordination import require_private
    from privacy.web.serving import Place

    host, _, port = listen.rpartition(":")
    require_private("console", "listen", listen if port != "0" else f"{host}:1")
    place = Place.of(listen if port != "0" else f"{host}:1")
    return place if port != "0" else Place(place.host, 0)


def _is_served(home: Home) -> bool:
    from coordinator.up_command import status_file
    from privacy.transport.supervisor import read_status

    status = read_status(status_file(home.folder))
    return status is not None and bool(status["alive"]) and any(
        child["name"] == "console" and child["state"] == "running" for child in status["children"])


def _serve(home: Home, place: Any, *, as_json: bool) -> int:
    from coordinator.console.process import console_url, serve_console
    from privacy.transport.log_lines import log_as_json

    log_as_json()  # of the log alone: the address holds the token, which no log may
    serve_console(home, place, lambda found: _say("console: ", console_url(home, found), as_json=as_json))
    return EXIT_OK
