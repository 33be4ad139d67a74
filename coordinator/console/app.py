"""The console as an ASGI application: its routes, and what each needs. Nothing here changes a run."""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from sqlalchemy import Connection
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response, StreamingResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from coordinator.console import views
from coordinator.console.access import SESSION_S, Brake, Sessions, same
from coordinator.console.guard import Guard, cookie_name
from coordinator.console.live import Live
from coordinator.console.metrics import METRICS_TYPE, metrics_text
from coordinator.console.releases import Releases
from coordinator.console.words import FILTERS
from coordinator.home import Home
from coordinator.run_store.database import Database
from coordinator.run_store.importer import Importer
from coordinator.up_command import status_file

__all__ = ["Console", "console_app"]

_log = logging.getLogger("coordinator.console")
_HERE = Path(__file__).parent
_AFTER = ("/runs", "/sites", "/releases")  # where a login may lead


@dataclass
class Console:
    """What the pages are made from.

    Args:
        token: opens a session. metrics_token: opens `/metrics`.
        hosts: what a request's Host header may say.
        secure: whether it is served over TLS.
    """

    home: Home
    database: Database
    token: str
    metrics_token: str
    hosts: frozenset[str]
    secure: bool = False
    sessions: Sessions = field(default_factory=Sessions)
    brake: Brake = field(default_factory=Brake)

    def __post_init__(self) -> None:
        self.live = Live(Importer(self.database, self.home.runs_folder), self.database, (
            status_file(self.home.folder), self.home.roster_file, self.home.config_file))
        self.releases = Releases(self.home, self.live.touch)
        self.templates = Environment(
            loader=FileSystemLoader(_HERE / "templates"), autoescape=True, undefined=StrictUndefined,
            trim_blocks=True, lstrip_blocks=True)
        self.templates.filters.update(FILTERS)
        self.templates.tests["linkable"] = linkable

    def page(self, name: str, status: int = 200, **values: Any) -> HTMLResponse:
        """A template with the values that every page has."""
        text = self.templates.get_template(name).render(
            federation=self.home.config.federation_id, folder=str(self.home.folder), made=time.time(),
            version=self.live.version, **values)
        return HTMLResponse(text, status)


def linkable(identifier: str) -> bool:
    """Whether it is an identifier of ours, which a link may hold; anything else is shown as text."""
    from privacy.wire import check_id

    try:
        check_id("an identifier", identifier)
    except ValueError:
        return False
    return identifier.strip(".") != ""


def console_app(console: Console) -> Guard:
    """The application, guarded; its lifespan starts and ends the import of new events."""
    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        await run_in_threadpool(console.live.start)
        yield
        await run_in_threadpool(console.live.stop)
        console.releases.close()

    pages = _Pages(console)
    inner = Starlette(lifespan=lifespan, routes=[
        Route("/", pages.overview), Route("/runs/{run_id}", pages.run),
        Route("/runs/{run_id}/rounds/{number:int}", pages.round), Route("/sites", pages.sites),
        Route("/sites/{site_id}", pages.site), Route("/releases", pages.releases),
        Route("/releases/{run_id}/{number:int}", pages.release), Route("/live", pages.live),
        Route("/metrics", pages.metrics), Route("/login", pages.login, methods=["GET"]),
        Route("/login", pages.log_in, methods=["POST"]), Route("/logout", pages.log_out, methods=["POST"]),
        Mount("/static", StaticFiles(directory=_HERE / "static")),
    ], exception_handlers={HTTPException: pages.refused, Exception: pages.failed})
    return Guard(inner, console.hosts, console.sessions, secure=console.secure)


class _Pages:
    """One method for each route."""

    def __init__(self, console: Console) -> None:
        self._console = console

    async def _from_store(self, make: Callable[[Connection], dict[str, Any] | None]) -> dict[str, Any]:
        """What `make` reads, in a thread; 404 where it finds nothing."""
        def read() -> dict[str, Any] | None:
            with self._console.database.reading() as connection:
                return make(connection)

        found = await run_in_threadpool(read)
        if found is None:
            raise HTTPException(404)
        return found

    async def overview(self, _: Request) -> Response:
        """Runs and alarms."""
        found = await self._from_store(
            lambda connection: views.overview(connection, self._console.home, self._console.live.failing))
        return self._console.page("overview.html", **found)

    async def run(self, request: Request) -> Response:
        """One run."""
        upto = request.query_params.get("upto", "")
        newest = int(upto) if upto.isascii() and upto.isdigit() and len(upto) < 9 else None
        found = await self._from_store(lambda connection: views.run_page(
            connection, self._console.home, request.path_params["run_id"], newest))
        return self._console.page("run.html", **found)

    async def round(self, request: Request) -> Response:
        """One round of a run."""
        number = request.path_params["number"]
        if number >= 2**31:
            raise HTTPException(404)
        found = await self._from_store(
            lambda connection: views.round_page(connection, request.path_params["run_id"], number))
        return self._console.page("round.html", **found)

    async def sites(self, _: Request) -> Response:
        """All sites."""
        found = await self._from_store(lambda connection: views.sites_page(connection, self._console.home))
        return self._console.page("sites.html", **found)

    async def site(self, request: Request) -> Response:
        """One site."""
        found = await self._from_store(lambda connection: views.site_page(
            connection, self._console.home, request.path_params["site_id"]))
        return self._console.page("site.html", **found)

    async def releases(self, _: Request) -> Response:
        """All releases."""
        return self._console.page("releases.html", releases=await run_in_threadpool(self._console.releases.all))

    async def release(self, request: Request) -> Response:
        """One release."""
        run_id, number = request.path_params["run_id"], request.path_params["number"]
        found = await run_in_threadpool(self._console.releases.one, run_id, number) if linkable(run_id) else None
        if found is None:
            raise HTTPException(404)
        return self._console.page("release.html", release=found)

    async def live(self, request: Request) -> Response:
        """Server-sent events, until the session ends."""
        cookie, sessions = request.state.session, self._console.sessions
        return StreamingResponse(self._console.live.stream(lambda: sessions.holds(cookie)),
                                 media_type="text/event-stream", headers={"x-accel-buffering": "no"})

    async def metrics(self, request: Request) -> Response:
        """For Prometheus, with the metrics' own token or a session."""
        given = request.headers.get("authorization", "")
        known = given.startswith("Bearer ") and same(given[7:].strip(), self._console.metrics_token)
        address = _address(request)
        wait_s = self._console.brake.wait_s(address)
        if wait_s and not self._console.sessions.holds(request.state.session):
            return PlainTextResponse("Too many tries.\n", 429, {"retry-after": str(wait_s)})
        if not known and not self._console.sessions.holds(request.state.session):
            if given:
                self._console.brake.failed(address)
            return PlainTextResponse("The metrics' token is needed.\n", 401, {"www-authenticate": "Bearer"})
        text = await run_in_threadpool(
            metrics_text, self._console.home, self._console.database, self._console.live.imported)
        return Response(text, media_type=METRICS_TYPE)

    async def login(self, request: Request) -> Response:
        """The form."""
        return self._console.page("login.html", after=_after(request.query_params.get("after", "")), fault="")

    async def log_in(self, request: Request) -> Response:
        """A token becomes a session; a wrong one, or too many of them, does not."""
        form = {name: values[0] for name, values in parse_qs(
            (await request.body()).decode("utf-8", "replace"), max_num_fields=8).items()}
        address, after = _address(request), _after(form.get("after", ""))
        wait_s = self._console.brake.wait_s(address)
        if wait_s:
            fault = f"Too many wrong tokens came from here. Try again in {wait_s} s."
            answer = self._console.page("login.html", 429, after=after, fault=fault)
            answer.headers["retry-after"] = str(wait_s)
            return answer
        if not same(form.get("token", "").strip(), self._console.token):
            self._console.brake.failed(address)
            _log.warning("login refused", extra={"client": address})
            return self._console.page("login.html", 403, after=after, fault="This is not the console's token.")
        _log.info("login", extra={"client": address})
        answered = RedirectResponse(after, 303)
        answered.set_cookie(
            cookie_name(self._console.secure), self._console.sessions.begin(), max_age=int(SESSION_S), path="/",
            secure=self._console.secure, httponly=True, samesite="strict")
        return answered

    async def log_out(self, request: Request) -> Response:
        """The session ends here and in the browser."""
        self._console.sessions.end(request.state.session)
        answer = RedirectResponse("/login", 303)
        answer.delete_cookie(cookie_name(self._console.secure), path="/", secure=self._console.secure, httponly=True,
                             samesite="strict")
        return answer

    async def refused(self, request: Request, error: Exception) -> Response:
        """A page that is not there, or a method that is not allowed."""
        status = error.status_code if isinstance(error, HTTPException) else 500
        headers: Mapping[str, str] | None = error.headers if isinstance(error, HTTPException) else None
        if request.url.path.startswith(("/static/", "/live", "/metrics")) or not self._console.sessions.holds(
                request.state.session):
            return PlainTextResponse("Not found.\n" if status == 404 else "Not possible.\n", status, headers)
        return self._console.page("message.html", status, title="Not found" if status == 404 else "Not possible",
                                  text="There is no such page: the run, the site or the release is not known here.")

    async def failed(self, request: Request, error: Exception) -> Response:
        """What went wrong is in the log, never on the page."""
        _log.error("request failed", exc_info=error, extra={"path": request.url.path, "method": request.method})
        return self._console.page(
            "message.html", 500, title="This page cannot be shown",
            text="Something here went wrong, and log/console.log says what. The runs are not touched by it.")


def _address(request: Request) -> str:
    return request.client.host if request.client is not None else ""


def _after(path: str) -> str:
    """Where to go after the login: a page of ours, or the overview."""
    ours = path.startswith(_AFTER) and "//" not in path and "\\" not in path and path.isprintable() and path.isascii()
    return path if ours else "/"
