"""The console as an ASGI application: its routes, and what each needs. Nothing here changes a run."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy import Connection
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response
from starlette.routing import Route

from coordinator.console import views
from coordinator.console.live import Live
from coordinator.console.metrics import METRICS_TYPE, metrics_text
from coordinator.console.releases import Releases
from coordinator.home import Home
from coordinator.run_store.database import Database
from coordinator.run_store.importer import Importer
from coordinator.up_command import status_file
from privacy.web.access import Brake, Sessions, same
from privacy.web.guard import Doors, Guard
from privacy.web.pages import Entrance, Front, address_of, templates_in

__all__ = ["Console", "console_app"]

_log = logging.getLogger("coordinator.console")
_HERE = Path(__file__).parent
_DOORS = Doors("coordinator-console", "coordinator console", own_key=("/metrics",))


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
        templates = templates_in(_HERE / "templates")
        templates.tests["linkable"] = linkable
        self.entrance = Entrance(_front(self.home), templates, self.live, _log, self.token, self.hosts, self.secure,
                                 self.sessions, self.brake)

    def page(self, name: str, **values: Any) -> HTMLResponse:
        """A template with the values that every page has."""
        return self.entrance.page(name, folder=str(self.home.folder), **values)


def _front(home: Home) -> Front:
    return Front(
        _DOORS, home.config.federation_id, "coordinator",
        (("runs", "/", "Overview"), ("sites", "/sites", "Sites"), ("releases", "/releases", "Releases")),
        "coordinator console DIR --url", "the coordinator's",
        ("What changes a run is typed in a terminal:", "coordinator --help"),
        "There is no such page: the run, the site or the release is not known here.",
        "Something here went wrong, and log/console.log says what. The runs are not touched by it.",
        ("/runs", "/sites", "/releases"))


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
        Route("/releases/{run_id}/{number:int}", pages.release), Route("/metrics", pages.metrics),
        *console.entrance.routes(),
    ], exception_handlers=console.entrance.faults())
    return console.entrance.guarded(inner)


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

    async def metrics(self, request: Request) -> Response:
        """For Prometheus, with the metrics' own token or a session."""
        given = request.headers.get("authorization", "")
        known = given.startswith("Bearer ") and same(given[7:].strip(), self._console.metrics_token)
        address = address_of(request)
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
