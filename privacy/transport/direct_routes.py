"""Some routes of an ASGI application, answered without its layers, which cost more than a small request itself.

*Guarantees.*
    * A request for one of the routes is answered by its function or refused by `refuse`, once; any other is handed on.
    * Nothing of a body is read before the route's `admit` let the request in.
    * The functions run one at a time, in one thread: they never wait for each other's database lock.

*Assumes.* `admit` and the function check by themselves who asks; nothing before them does.

*Does not cover.* The size of a body: the listener's limit comes first (`privacy.transport.listeners`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

__all__ = ["DirectRoutes", "Route"]


@dataclass(frozen=True, slots=True)
class Route:
    """A function of the request and its body that gives the answer's body, or raises; and who is let in.

    `admit` is given the request without its body, and raises for a stranger; None = whoever comes as far as this.
    """

    answer: Callable[[Any, bytes], bytes]
    admit: Callable[[Any], None] | None = None


class DirectRoutes:
    """An ASGI application around `app`.

    Args:
        routes: by the path of a POST.
        new_request: what their functions are given, from an ASGI scope whose `app` is the application.
        refuse: the ASGI response for what a function raised.
        media_type: of every answer.
    """

    def __init__(
        self, app: Any, routes: Mapping[str, Route], new_request: Callable[[Any], Any],
        refuse: Callable[[Any, Exception], Awaitable[Any]], media_type: str,
    ) -> None:
        self._app, self._routes, self._new_request, self._refuse = app, routes, new_request, refuse
        self._media_type = media_type.encode()
        self._worker = ThreadPoolExecutor(1, "direct-routes")

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        route = self._routes.get(scope["path"]) if scope["type"] == "http" and scope["method"] == "POST" else None
        if route is None:
            await self._app(scope, receive, send)
            return
        request, loop = self._new_request({**scope, "app": self._app}), asyncio.get_running_loop()
        try:
            if route.admit is not None:
                await loop.run_in_executor(self._worker, route.admit, request)
            body = await _body(receive)
            if body is None:
                return
            content = await loop.run_in_executor(self._worker, route.answer, request, body)
        except Exception as error:  # `refuse` says what of it the other side is told
            await (await self._refuse(request, error))(scope, receive, send)
            return
        await send({"type": "http.response.start", "status": 200, "headers": [
            (b"content-type", self._media_type), (b"content-length", str(len(content)).encode())]})
        await send({"type": "http.response.body", "body": content})


async def _body(receive: Any) -> bytes | None:
    """All of it; None when the other side went away before its end."""
    parts: list[bytes] = []
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return None
        parts.append(message.get("body", b""))
        if not message.get("more_body", False):
            return parts[0] if len(parts) == 1 else b"".join(parts)
