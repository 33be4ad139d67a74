"""The console's process: opens the store, makes the tokens, and serves on a private address until SIGTERM.

`coordinator up` starts it and starts it again; `coordinator console DIR` runs it alone.
"""

from __future__ import annotations

import argparse
import os
import socket
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from coordinator.console.access import token_in
from coordinator.console.guard import host_names
from coordinator.console.logs import log_as_json
from coordinator.home import Home
from coordinator.run_store.database import file_url, open_database

__all__ = ["Place", "console_url", "main", "metrics_token_file", "serve_console", "store_url", "token_file"]

_GRACE_S = 1


@dataclass(frozen=True)
class Place:
    """Where the console listens: an IP address and a port; TLS on any but loopback."""

    host: str
    port: int

    @classmethod
    def of(cls, address: str) -> Place:
        """From IP:PORT. Raises ValueError for "0"."""
        if address == "0":
            raise ValueError("the console is switched off (`console: 0` in coordinator.yaml); give it an address "
                             "there, or name one with --listen")
        host, _, port = address.rpartition(":")
        return cls(host.strip("[]"), int(port))

    @property
    def secure(self) -> bool:
        """Whether it is served over TLS."""
        return not ip_address(self.host).is_loopback

    @property
    def url(self) -> str:
        """Of the overview."""
        name = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'https' if self.secure else 'http'}://{name}:{self.port}/"


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
    import uvicorn

    from coordinator.console.app import Console, console_app

    home.console_folder.mkdir(mode=0o700, exist_ok=True)
    listening = _bind(place)
    place = Place(place.host, int(listening.getsockname()[1]))
    database = open_database(store_url(home), home.config.federation_id)
    try:
        console = Console(
            home, database, token_in(token_file(home)), token_in(metrics_token_file(home)),
            host_names(place.host, place.port, home.config.console_names), place.secure)
        options: dict[str, Any] = {"ssl_certfile": str(home.server_certificate_file),
                                   "ssl_keyfile": str(home.server_key_file)} if place.secure else {}

        class Server(uvicorn.Server):  # type: ignore[misc,unused-ignore]
            def handle_exit(self, sig: int, frame: Any) -> None:
                console.live.end_streams()
                super().handle_exit(sig, frame)

            async def startup(self, sockets: list[socket.socket] | None = None) -> None:
                await super().startup(sockets)
                if self.started:
                    on_ready(place)

        Server(uvicorn.Config(
            console_app(console), log_config=None, access_log=False, server_header=False, workers=1, lifespan="on",
            proxy_headers=False, timeout_graceful_shutdown=_GRACE_S, timeout_keep_alive=30, limit_concurrency=200,
            h11_max_incomplete_event_size=1 << 15, http="h11", loop="asyncio", ws="none", **options,
        )).run(sockets=[listening])
    finally:
        database.close()


def _bind(place: Place) -> socket.socket:
    family = socket.AF_INET6 if ":" in place.host else socket.AF_INET
    try:
        return socket.create_server((place.host, place.port), family=family, backlog=64)
    except OSError as error:
        raise ValueError(f"the console cannot listen on {place.host}:{place.port} ({os.strerror(error.errno or 0)}); "
                         "choose another address: `console` in coordinator.yaml, or --listen") from None


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
