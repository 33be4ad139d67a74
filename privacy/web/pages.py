"""What the pages of every server of ours share: templates, login and logout, static files, and pages for what is wrong.

*Guarantees.*
    * Every value is escaped; a name that a template does not know is an error, not an empty place.
    * A wrong token is counted, never repeated and never logged. A login leads to a page of ours and nowhere else.
    * What went wrong inside is in the log; the page says only that something did.

*Assumes.* The application stands behind `privacy.web.guard`.

*Does not cover.* What a page shows.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

from jinja2 import ChoiceLoader, Environment, FileSystemLoader, StrictUndefined
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response, StreamingResponse
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles

from privacy.web.access import SESSION_S, Brake, Sessions, same
from privacy.web.changes import Changes
from privacy.web.guard import Doors, Guard
from privacy.web.words import FILTERS

__all__ = ["Entrance", "Front", "address_of", "templates_in"]

_HERE = Path(__file__).parent


@dataclass(frozen=True)
class Front:
    """What a server's pages are called and say.

    Args:
        doors: see `privacy.web.guard`.
        owner, side: the name and what it is, such as ("north", "coordinator").
        pages: (key, path, name) of the navigation.
        command: that prints the address with the token.
        machine: whose machine that is, such as "the coordinator's".
        read_only: the footer's words on how things are changed, with its command.
        missing: what a page that is not there says. broken: what one that failed says.
    """

    doors: Doors
    owner: str
    side: str
    pages: tuple[tuple[str, str, str], ...]
    command: str
    machine: str
    read_only: tuple[str, str]
    missing: str
    broken: str
    after: tuple[str, ...] = ()  # where a login may lead, beside the overview


def templates_in(folder: Path) -> Environment:
    """Templates of `folder` and the shared ones, with the shared filters."""
    made = Environment(
        loader=ChoiceLoader([FileSystemLoader(folder), FileSystemLoader(_HERE / "templates")]), autoescape=True,
        undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    made.filters.update(FILTERS)
    return made


@dataclass
class Entrance:
    """Login, logout and what is shown when something is wrong, for one server.

    Args:
        token: opens a session.
        hosts: what a request's Host header may say.
        secure: whether it is served over TLS.
    """

    front: Front
    templates: Environment
    changes: Changes
    log: logging.Logger
    token: str
    hosts: frozenset[str]
    secure: bool
    sessions: Sessions = field(default_factory=Sessions)
    brake: Brake = field(default_factory=Brake)

    def page(self, name: str, status: int = 200, **values: Any) -> HTMLResponse:
        """A template with the values that every page has."""
        text = self.templates.get_template(name).render(
            front=self.front, made=time.time(), version=self.changes.version, **values)
        return HTMLResponse(text, status)

    def routes(self) -> list[BaseRoute]:
        """Those that every server has."""
        return [Route("/live", self.live), Route("/login", self.login, methods=["GET"]),
                Route("/login", self.log_in, methods=["POST"]), Route("/logout", self.log_out, methods=["POST"]),
                Mount("/static", StaticFiles(directory=_HERE / "static"))]

    def faults(self) -> dict[Any, Any]:
        """Starlette's exception handlers."""
        return {HTTPException: self.refused, Exception: self.failed}

    def guarded(self, app: Any) -> Guard:
        """The application behind the guard."""
        return Guard(app, self.front.doors, self.hosts, self.sessions, secure=self.secure)

    async def live(self, request: Request) -> Response:
        """Server-sent events, until the session ends."""
        cookie, sessions = request.state.session, self.sessions
        return StreamingResponse(self.changes.stream(lambda: sessions.holds(cookie)), media_type="text/event-stream",
                                 headers={"x-accel-buffering": "no"})

    async def login(self, request: Request) -> Response:
        """The form."""
        return self.page("login.html", after=self._after(request.query_params.get("after", "")), fault="")

    async def log_in(self, request: Request) -> Response:
        """A token becomes a session; a wrong one, or too many of them, does not."""
        form = {name: values[0] for name, values in parse_qs(
            (await request.body()).decode("utf-8", "replace"), max_num_fields=8).items()}
        address, after = address_of(request), self._after(form.get("after", ""))
        wait_s = self.brake.wait_s(address)
        if wait_s:
            fault = f"Too many wrong tokens came from here. Try again in {wait_s} s."
            answer = self.page("login.html", 429, after=after, fault=fault)
            answer.headers["retry-after"] = str(wait_s)
            return answer
        if not same(form.get("token", "").strip(), self.token):
            self.brake.failed(address)
            self.log.warning("login refused", extra={"client": address})
            return self.page("login.html", 403, after=after, fault="This is not the console's token.")
        self.log.info("login", extra={"client": address})
        answered = RedirectResponse(after, 303)
        answered.set_cookie(
            self.front.doors.cookie(self.secure), self.sessions.begin(), max_age=int(SESSION_S), path="/",
            secure=self.secure, httponly=True, samesite="strict")
        return answered

    async def log_out(self, request: Request) -> Response:
        """The session ends here and in the browser."""
        self.sessions.end(request.state.session)
        answer = RedirectResponse("/login", 303)
        answer.delete_cookie(self.front.doors.cookie(self.secure), path="/", secure=self.secure, httponly=True,
                             samesite="strict")
        return answer

    async def refused(self, request: Request, error: Exception) -> Response:
        """A page that is not there, or a method that is not allowed."""
        status = error.status_code if isinstance(error, HTTPException) else 500
        headers: Mapping[str, str] | None = error.headers if isinstance(error, HTTPException) else None
        plain = ("/static/", "/live", *self.front.doors.own_key)
        if request.url.path.startswith(plain) or not self.sessions.holds(request.state.session):
            return PlainTextResponse("Not found.\n" if status == 404 else "Not possible.\n", status, headers)
        return self.page("message.html", status, title="Not found" if status == 404 else "Not possible",
                         text=self.front.missing)

    async def failed(self, request: Request, error: Exception) -> Response:
        """What went wrong is in the log, never on the page."""
        self.log.error("request failed", exc_info=error, extra={"path": request.url.path, "method": request.method})
        return self.page("message.html", 500, title="This page cannot be shown", text=self.front.broken)

    def _after(self, path: str) -> str:
        """Where to go after the login: a page of ours, or the overview."""
        ours = (path.startswith(self.front.after) and "//" not in path and "\\" not in path and path.isprintable()
                and path.isascii())
        return path if ours else "/"


def address_of(request: Request) -> str:
    """Of who asks; "" where it is not known."""
    return request.client.host if request.client is not None else ""
