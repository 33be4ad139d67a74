"""Where pages are served, and their server: one process, one socket, until SIGTERM or SIGINT.

*Guarantees.* Only the address that was asked for is listened on; what is not loopback is served over TLS or not at all.
Nothing is logged of a request but what the application says.

*Assumes.* It runs in the process's main thread. Certificate and key, where they are needed, are the caller's.

*Does not cover.* Who may connect: see `privacy.web.guard`. Traffic on loopback can be captured by root.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Any

__all__ = ["Place", "bind", "serve_pages"]

_GRACE_S = 1


@dataclass(frozen=True)
class Place:
    """Where pages are served: an IP address and a port; TLS on any but loopback."""

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


def bind(place: Place, advice: str) -> tuple[socket.socket, Place]:
    """A listening socket, and the place with the port that it got (0 asks for any).

    Args:
        advice: what to do where it cannot be had.

    Raises:
        ValueError: the address is taken or not this machine's; one sentence.
    """
    family = socket.AF_INET6 if ":" in place.host else socket.AF_INET
    try:
        listening = socket.create_server((place.host, place.port), family=family, backlog=64)
    except OSError as error:
        raise ValueError(f"the pages cannot be served on {place.host}:{place.port} "
                         f"({os.strerror(error.errno or 0)}); {advice}") from None
    return listening, Place(place.host, int(listening.getsockname()[1]))


def serve_pages(
    app: Any, listening: socket.socket, certificate: tuple[Path, Path] | None, end_streams: Callable[[], None],
    on_ready: Callable[[], None],
) -> None:
    """Serve until SIGTERM or SIGINT.

    Args:
        app: the ASGI application.
        certificate: (chain, private key) as PEM files, for TLS; None on loopback.
        end_streams: called at the signal, so that open event streams hold nothing up.
        on_ready: told once it answers.
    """
    import uvicorn

    options: dict[str, Any] = {} if certificate is None else {
        "ssl_certfile": str(certificate[0]), "ssl_keyfile": str(certificate[1])}

    class Server(uvicorn.Server):  # type: ignore[misc,unused-ignore]
        def handle_exit(self, sig: int, frame: Any) -> None:
            end_streams()
            super().handle_exit(sig, frame)

        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            if self.started:
                on_ready()

    Server(uvicorn.Config(
        app, log_config=None, access_log=False, server_header=False, workers=1, lifespan="on", proxy_headers=False,
        timeout_graceful_shutdown=_GRACE_S, timeout_keep_alive=30, limit_concurrency=200,
        h11_max_incomplete_event_size=1 << 15, http="h11", loop="asyncio", ws="none", **options,
    )).run(sockets=[listening])
