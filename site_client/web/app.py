"""The hospital's pages as an ASGI application. Nothing here changes anything; one form asks for a check."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from configs.schema import SiteConfig
from privacy.web.access import Brake, Sessions
from privacy.web.changes import FileChanges
from privacy.web.guard import Doors, Guard
from privacy.web.pages import Entrance, Front, templates_in
from site_client.web import views
from site_client.web.checkup import Checkup
from site_client.web.readings import Readings

__all__ = ["SitePages", "site_app"]

_log = logging.getLogger("site_client.web")
_HERE = Path(__file__).parent
_DOORS = Doors("site-client-status", "site-client status", posts=("/login", "/logout", "/doctor"))
_PAGES = (("overview", "/", "Overview"), ("runs", "/runs", "Runs"), ("left", "/left", "What left"),
          ("policy", "/policy", "Policy"), ("data", "/data", "Data"), ("doctor", "/doctor", "Doctor"))


@dataclass
class SitePages:
    """What the pages are made from.

    Args:
        site_file: as it was typed; pages name it in the commands that they show.
        token: opens a session.
        hosts: what a request's Host header may say.
        secure: whether it is served over TLS.
    """

    config: SiteConfig
    site_file: str
    token: str
    hosts: frozenset[str]
    secure: bool = False
    sessions: Sessions = field(default_factory=Sessions)
    brake: Brake = field(default_factory=Brake)

    def __post_init__(self) -> None:
        self.readings = Readings(self.config)
        self.changes = FileChanges(self.readings.files, self._sentence)
        self.checkup = Checkup(str(Path(self.site_file).resolve()), self.changes.touch)
        front = Front(
            _DOORS, self.config.site_id, "hospital", _PAGES, "site-client status SITE_FILE --web --url",
            "the site's", ("What changes anything is typed in a terminal:", "site-client --help"),
            "There is no such page here.", "Something here went wrong. The site itself is not touched by it.",
            tuple(path for _, path, _ in _PAGES[1:]))
        self.entrance = Entrance(front, templates_in(_HERE / "templates"), self.changes, _log, self.token, self.hosts,
                                 self.secure, self.sessions, self.brake)

    def _sentence(self) -> str:
        """What is read out when something changed."""
        sent = [event.fields for event in self.readings.log().events if event.kind == "egress"]
        if not sent:
            return "the site's state changed"
        last = sent[-1]
        where = f", run {last['run_id']}" + (f" round {last['round']}" if last.get("round") is not None else "")
        return f"{len(sent)} messages have left; last: {last['message']}{where if last.get('run_id') else ''}"


def site_app(pages: SitePages) -> Guard:
    """The application, guarded; its lifespan starts and ends the look for changes."""
    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        pages.changes.start()
        yield
        await run_in_threadpool(pages.changes.stop)
        pages.checkup.close()

    show, entrance = _Shown(pages), pages.entrance
    inner = Starlette(lifespan=lifespan, routes=[
        Route("/", show.overview), Route("/runs", show.runs), Route("/left", show.left),
        Route("/policy", show.policy), Route("/data", show.data), Route("/doctor", show.doctor, methods=["GET"]),
        Route("/doctor", show.examine, methods=["POST"]), *entrance.routes(),
    ], exception_handlers=entrance.faults())
    return entrance.guarded(inner)


class _Shown:
    """One method for each route."""

    def __init__(self, pages: SitePages) -> None:
        self._pages = pages

    async def _page(self, name: str, make: Callable[[], dict[str, Any]]) -> Response:
        found = await run_in_threadpool(make)
        return self._pages.entrance.page(name, site_file=self._pages.site_file, **found)

    async def overview(self, _: Request) -> Response:
        """What runs, the budget, alarms."""
        return await self._page("overview.html", lambda: views.overview(self._pages.readings, self._pages.site_file))

    async def runs(self, request: Request) -> Response:
        """The ledger."""
        return await self._page("runs.html", lambda: views.runs_page(self._pages.readings, _upto(request)))

    async def left(self, request: Request) -> Response:
        """The audit log's egress."""
        return await self._page("left.html", lambda: views.left_page(self._pages.readings, _upto(request)))

    async def policy(self, _: Request) -> Response:
        """The policy."""
        return await self._page("policy.html", lambda: views.policy_page(self._pages.readings))

    async def data(self, _: Request) -> Response:
        """The last index's counts."""
        return await self._page("data.html", lambda: views.data_page(self._pages.readings))

    async def doctor(self, _: Request) -> Response:
        """The last check's outcome."""
        return await self._page("doctor.html", self._pages.checkup.state)

    async def examine(self, _: Request) -> Response:
        """A check begins."""
        self._pages.checkup.begin()
        return RedirectResponse("/doctor", 303)


def _upto(request: Request) -> int | None:
    """The number after `?upto=`; None for anything that is none."""
    text = request.query_params.get("upto", "")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else None
