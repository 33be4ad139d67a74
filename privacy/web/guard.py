"""What every request passes first: its host name, its method, its size, its session; and the headers of every answer.

*Guarantees.*
    * A page elsewhere that makes a browser ask this server under its own name (DNS rebinding) names a host that is not
      ours, and one that posts a form to us is refused by its origin.
    * Nothing but the login, static files and what asks for a key of its own is answered without a session; only the
      posts that are named are taken.
    * Every answer forbids the browser to load, run, frame or keep anything that is not ours.

*Assumes.* A browser of this decade: it honours the headers.

*Does not cover.* Another user of the machine who can read this process's memory or traffic.
"""

from __future__ import annotations

import ipaddress
import logging
from collections.abc import Iterable
from dataclasses import dataclass
from http.cookies import CookieError, SimpleCookie
from typing import Any
from urllib.parse import quote

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse, RedirectResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from privacy.web.access import Sessions

__all__ = ["CONTENT_POLICY", "Doors", "Guard", "host_names"]

CONTENT_POLICY = ("default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
                  "form-action 'self'; base-uri 'none'; frame-ancestors 'none'")
_HEADERS = {
    "content-security-policy": CONTENT_POLICY,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "same-origin",  # with no-referrer a browser posts our own form with `Origin: null`
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
    "cache-control": "no-store",
}
_log = logging.getLogger(__name__)
_OPEN = ("/login", "/static/")   # without a session
_LARGEST_BODY = 4096
_READ_ONLY = PlainTextResponse("Nothing here can be changed.\n", status_code=405, headers={"allow": "GET, HEAD"})


def host_names(host: str, port: int, more: Iterable[str] = ()) -> frozenset[str]:
    """What a request's Host header may say: the address, on loopback its names, and `more`; lower case."""
    names = {host if ":" not in host else f"[{host}]"}
    if ipaddress.ip_address(host).is_loopback:
        names |= {"localhost", "127.0.0.1", "[::1]"}
    return frozenset({f"{name}:{port}" for name in names} | {one.lower() for one in more})


@dataclass(frozen=True)
class Doors:
    """What one server's guard lets through, and its names in the browser and in its refusals.

    Args:
        name: of the pages, one lower-case word with hyphens; makes the cookie's name, since a browser shares cookies
            between all ports of a host.
        command: that prints the address to open.
        own_key: paths that ask for a key of their own.
        posts: paths that take a form; everything else is read.
    """

    name: str
    command: str
    own_key: tuple[str, ...] = ()
    posts: tuple[str, ...] = ("/login", "/logout")

    def cookie(self, secure: bool) -> str:
        """The session's cookie; with TLS the browser itself refuses one that another host set."""
        return f"__Host-{self.name}" if secure else self.name


class Guard:
    """Around the application.

    Args:
        doors: what it lets through.
        hosts: see `host_names`.
        secure: whether it is served over TLS.
    """

    def __init__(
        self, app: ASGIApp, doors: Doors, hosts: frozenset[str], sessions: Sessions, *, secure: bool
    ) -> None:
        self._app, self._doors, self._hosts, self._sessions, self._secure = app, doors, hosts, sessions, secure

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":  # no web sockets
            return

        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._dress(MutableHeaders(raw=message["headers"]), scope["path"])
            await send(message)

        headers = Headers(scope=scope)
        refused = self._refusal(scope, headers)
        if refused is not None:
            await refused(scope, receive, answer)
            return
        cookie = self._cookie(headers)
        scope["state"] = {**scope.get("state", {}), "session": cookie}
        if not self._admitted(scope["path"], cookie):
            await self._to_login(scope)(scope, receive, answer)
            return
        try:
            await self._app(scope, receive, answer)
        except Exception:  # answered and logged inside; or the client went away
            _log.debug("request ended early")

    def _refusal(self, scope: Scope, headers: Headers) -> ASGIApp | None:
        if len(headers.getlist("host")) != 1 or headers["host"].lower() not in self._hosts:
            return PlainTextResponse(
                "These pages answer under their own name only; open the address that "
                f"`{self._doors.command}` prints.\n", status_code=421)
        if scope["method"] == "POST":
            own = f"{'https' if self._secure else 'http'}://{headers['host'].lower()}"
            if scope["path"] not in self._doors.posts:
                return _READ_ONLY
            length = headers.get("content-length", "")
            if "transfer-encoding" in headers or not length.isdigit() or int(length) > _LARGEST_BODY:
                return PlainTextResponse("Too long.\n", status_code=413)
            if headers.get("origin", own).lower() not in self._origins(own) or headers.get(
                    "sec-fetch-site", "same-origin") not in ("same-origin", "none"):
                return PlainTextResponse("This form belongs to another page.\n", status_code=403)
        elif scope["method"] not in ("GET", "HEAD"):
            return _READ_ONLY
        return None

    def _origins(self, own: str) -> set[str]:
        """Its own; behind a proxy that ends TLS also the same name with https."""
        return {own, own.replace("http://", "https://", 1)}

    def _admitted(self, path: str, cookie: str) -> bool:
        return path.startswith(_OPEN) or path in self._doors.own_key or self._sessions.holds(cookie)

    @staticmethod
    def _to_login(scope: Scope) -> ASGIApp:
        if scope["path"] == "/live":
            return PlainTextResponse("The session has ended.\n", status_code=401)
        after = "" if scope["path"] == "/" else f"?after={quote(scope['path'], safe='/')}"
        return RedirectResponse(f"/login{after}", status_code=303)

    def _cookie(self, headers: Headers) -> str:
        found: SimpleCookie = SimpleCookie()
        try:
            found.load(headers.get("cookie", ""))
        except CookieError:
            return ""
        morsel = found.get(self._doors.cookie(self._secure))
        return morsel.value if morsel is not None else ""

    def _dress(self, headers: MutableHeaders, path: str) -> None:
        wanted: dict[str, Any] = dict(_HEADERS)
        if path.startswith("/static/"):
            wanted["cache-control"] = "no-cache"
        if self._secure:
            wanted["strict-transport-security"] = "max-age=31536000"
        for name, value in wanted.items():
            headers[name] = value
