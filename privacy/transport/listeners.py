"""The hub's two listeners: a public one that answers few routes, and a private one that asks for a secret.

*Guarantees.*
    * The public listener hands on the routes it was given, within `LARGEST_REQUEST` where a route carries objects and
      `LARGEST_QUESTION` elsewhere; anything else is not found.
    * The private one is on loopback, and a request without the secret is refused before the application sees it.

*Assumes.* The file that holds the secret is readable by the coordinator's user only.

*Does not cover.* Who calls an allowed route: the application's own node authentication does.
"""

from __future__ import annotations

import asyncio
import hmac
import signal
import socket
from collections.abc import Awaitable, Callable
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["LARGEST_QUESTION", "LARGEST_REQUEST", "SECRET_HEADER", "PrivateListener", "PublicListener", "serve_both"]

LARGEST_REQUEST = 32 << 20  # bytes; Flower cuts arrays into 5 MiB objects
LARGEST_QUESTION = 1 << 20  # of any other route: a message's head names its objects, 70 bytes each
_OBJECTS = "push-object"
SECRET_HEADER = "x-coordinator-secret"


@dataclass(frozen=True, slots=True)
class PrivateListener:
    """A loopback port, and the secret that it asks for.

    `descriptor` is a socket that listens on it already, bound by the supervisor: the port is never free, so nobody else
    on the machine can take it and be told the secret. None = bind it.
    """

    port: int
    secret: str
    descriptor: int | None = None

    @property
    def host_port(self) -> str:
        """127.0.0.1:PORT."""
        return f"127.0.0.1:{self.port}"


@dataclass(frozen=True, slots=True)
class PublicListener:
    """Where the sites connect: host, port, PEM files of its certificate and key, and the paths that it answers."""

    host: str
    port: int
    certificate: Path
    key: Path
    routes: frozenset[str]


async def serve_both(
    app: Any, private: PrivateListener, public: PublicListener, on_ready: Callable[[], None]
) -> None:
    """Serve the ASGI application `app` on both until SIGTERM or SIGINT; `on_ready` is called when both answer."""
    import uvicorn

    class Server(uvicorn.Server):  # type: ignore[misc,unused-ignore]
        @contextmanager
        def capture_signals(self) -> Any:  # ours, below: two servers in one loop
            yield

    shared: dict[str, Any] = {"log_level": "warning", "access_log": False, "server_header": False, "workers": 1,
                              "http": "httptools"}
    inner = Server(uvicorn.Config(_Private(app, private.secret), host="127.0.0.1", port=private.port, lifespan="on",
                                  **shared))
    outer = Server(uvicorn.Config(_Public(app, public.routes), host=public.host, port=public.port, lifespan="off",
                                  ssl_certfile=str(public.certificate), ssl_keyfile=str(public.key),
                                  timeout_keep_alive=75, limit_concurrency=1000, **shared))

    def stop() -> None:
        inner.should_exit = outer.should_exit = True

    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop)

    async def announce() -> None:
        while not (inner.started and outer.started):
            if inner.should_exit or outer.should_exit:
                return
            await asyncio.sleep(0.05)
        on_ready()

    bound = None if private.descriptor is None else [socket.socket(fileno=private.descriptor)]
    await asyncio.gather(inner.serve(sockets=bound), outer.serve(), announce())


class _Public:
    """Lets `routes` through, within their sizes; anything else is not found."""

    def __init__(self, app: Any, routes: frozenset[str]) -> None:
        self._app, self._routes = app, routes

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        if scope["path"] not in self._routes:
            await _answer(send, 404)
        elif _length(scope) > (LARGEST_REQUEST if scope["path"].endswith(_OBJECTS) else LARGEST_QUESTION):
            await _answer(send, 413)
        else:
            await self._app(scope, receive, send)


class _Private:
    """Asks for the secret. Whoever may read the file that holds it may do everything."""

    def __init__(self, app: Any, secret: str) -> None:
        self._app, self._secret = app, secret.encode()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] not in ("http", "lifespan"):
            return
        if scope["type"] == "http":
            given = dict(scope["headers"]).get(SECRET_HEADER.encode(), b"")
            if not hmac.compare_digest(given, self._secret):
                await _answer(send, 401)
                return
        await self._app(scope, receive, send)


def _length(scope: Any) -> int:
    """Of the body, in bytes; one that is not announced counts as too long."""
    headers = dict(scope["headers"])
    text = headers.get(b"content-length", b"" if scope["method"] == "POST" else b"0")
    if b"transfer-encoding" in headers:
        return LARGEST_REQUEST + 1
    return int(text) if text.isdigit() else LARGEST_REQUEST + 1


async def _answer(send: Callable[[Any], Awaitable[None]], status: int) -> None:
    await send({"type": "http.response.start", "status": status, "headers": [(b"content-length", b"0")]})
    await send({"type": "http.response.body", "body": b""})
