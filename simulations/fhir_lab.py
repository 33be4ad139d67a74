"""A hospital's report server on this machine: a small FHIR R4 server on loopback, in a thread of this process.

    with fhir_server() as server:
        server.token = "..."            # a bearer token that it then asks for
        server.put(patient, study, report)
        server.url, server.asked

It serves searchset Bundles of DiagnosticReport in pages, with `_lastUpdated`, `category`, `date` and includes of the
subject, and reads of single resources and Binaries (hl7.org/fhir/R4/http.html). What is put in is served as it is.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

__all__ = ["FhirServer", "Resource", "fhir_server"]

Resource = dict[str, Any]


class FhirServer:
    """Resources by (type, id). `asked` lists paths with queries; `changed` is the time that a put resource carries."""

    def __init__(self) -> None:
        self.port = 0
        self.clear()

    def clear(self) -> None:
        """Empty, and with the ways it had at first."""
        self.resources: dict[tuple[str, str], Resource] = {}
        self.asked: list[str] = []
        self.binaries: dict[str, tuple[str, bytes]] = {}
        self.strict = False
        self.dated = True
        self.token = ""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/fhir"

    def put(self, *resources: Resource, changed: str = "2024-01-01T00:00:00Z") -> None:
        for resource in resources:
            kept = deepcopy(resource)
            if self.dated:
                kept["meta"] = {"lastUpdated": changed}
            self.resources[kept["resourceType"], kept["id"]] = kept

    def application(self) -> Starlette:
        return Starlette(routes=[
            Route("/fhir/DiagnosticReport", self._search), Route("/fhir/Binary/{name}", self._binary),
            Route("/fhir/{kind}/{name}", self._read)])

    def _refused(self, request: Request) -> Response | None:
        self.asked.append(request.url.path + (f"?{request.url.query}" if request.url.query else ""))
        wanted = f"Bearer {self.token}"
        return Response(status_code=401) if self.token and request.headers.get("Authorization") != wanted else None

    async def _read(self, request: Request) -> Response:
        found = self.resources.get((request.path_params["kind"], request.path_params["name"]))
        return self._refused(request) or (JSONResponse(found, media_type="application/fhir+json") if found
                                          else Response(status_code=404))

    async def _binary(self, request: Request) -> Response:
        kind, data = self.binaries.get(request.path_params["name"], ("", b""))
        return self._refused(request) or Response(data, 200 if kind else 404, {"Content-Type": kind})

    async def _search(self, request: Request) -> Response:
        if refused := self._refused(request):
            return refused
        query = request.query_params
        if self.strict and "_include" in query:
            return Response(status_code=400)
        found = [self.resources[key] for key in sorted(self.resources) if key[0] == "DiagnosticReport"]
        found = [report for report in found if self._matches(report, query)]
        size, at = int(query.get("_count", 50)), int(query.get("_at", 0))
        page = found[at : at + size]
        included = [self.resources[key] for report in page if "DiagnosticReport:subject" in query.getlist("_include")
                    and (key := _subject(report)) in self.resources]
        links = [{"relation": "self", "url": str(request.url)}]
        if at + size < len(found):
            links.append({"relation": "next", "url": str(request.url.include_query_params(_at=at + size))})
        entries = [{"resource": report, "search": {"mode": "match"}} for report in page]
        entries += [{"resource": patient, "search": {"mode": "include"}} for patient in included]
        return JSONResponse({"resourceType": "Bundle", "type": "searchset", "total": len(found), "link": links,
                             "entry": entries}, media_type="application/fhir+json")

    def _matches(self, report: Resource, query: Any) -> bool:
        codes = {coding.get("code") for category in report.get("category", []) for coding in category.get("coding", [])}
        day = str(report.get("effectiveDateTime", ""))
        changed = report.get("meta", {}).get("lastUpdated", "9999")
        return (query.get("category") in (None, *codes) and day[:10] >= query.get("date", "ge")[2:]
                and changed >= query.get("_lastUpdated", "ge")[2:])


def _subject(report: Resource) -> tuple[str, ...]:
    subject = report.get("subject")
    reference = subject.get("reference") if isinstance(subject, dict) else ""
    return tuple(reference.split("/")) if isinstance(reference, str) else ()


@contextmanager
def fhir_server() -> Iterator[FhirServer]:
    """Serve an empty server while the block lasts."""
    fhir = FhirServer()
    # No log configuration of its own: that closes the handlers of this process, and absl's then closes its stream.
    server = uvicorn.Server(uvicorn.Config(
        fhir.application(), host="127.0.0.1", port=0, log_level="error", log_config=None))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    deadline = time.monotonic() + 20
    while not server.started and time.monotonic() < deadline:
        time.sleep(0.01)
    fhir.port = server.servers[0].sockets[0].getsockname()[1]
    try:
        yield fhir
    finally:
        server.should_exit = True
        thread.join(10)
