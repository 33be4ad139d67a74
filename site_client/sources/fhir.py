"""Reports from a server that speaks FHIR R4 (hl7.org/fhir/R4): DiagnosticReport, as plain JSON.

The first sync lists every report; later ones what changed since (`_lastUpdated`), of every status, so that a report
that was entered in error goes from here. What the server deleted, and patients whose identifiers it corrected, are
seen when everything is listed again: after `SWEEP_DAYS`, after a change of the settings, and every time where the
server does not say when its resources changed. A killed sync goes on where it was: reports of the same listing are not
resolved again. Pages are followed on the server's own origin only, to a bounded number.

Resources that a report refers to are read from the report itself, from its page, or from the server. The rules by which
they become one report are those of `fhir_resources`.
"""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urljoin

from configs.site_data import SourceConfig
from site_client.records import Refusal, RefusedItemError
from site_client.sources import fhir_resources as r
from site_client.sources.fhir_resources import Resource, instant, items, text
from site_client.sources.interface import Progress, Question, Report, SourceError, Synced
from site_client.sources.patience import NotGivenError, ServerFaultError, TooLargeError
from site_client.sources.report_store import ReportStore, ReportWriter
from site_client.sources.server_session import ForeignAddressError, ServerSession

__all__ = ["FhirSource"]

SWEEP_DAYS = 7
OVERLAP = timedelta(minutes=5)  # of two listings: transactions end after the time that they carry
MOST_PAGES, MOST_EMPTY_PAGES = 1_000_000, 100
MOST_PAGE_BYTES, MOST_RESOURCE_BYTES = 64 * 2**20, 4 * 2**20
_KEPT_RESOURCES, _KEPT_BYTES = 4096, 2**14  # and of each; larger ones are read when they are needed
_MERGES = 3  # of a patient into another, one after the other
_JSON = "application/fhir+json"
_REFERENCE = re.compile(r"([A-Z][A-Za-z]{1,40})/((?!\.+(?:/|$))[A-Za-z0-9.-]{1,64})(?:/_history/[A-Za-z0-9.-]{1,64})?")
_INCLUDES = ["DiagnosticReport:subject", "DiagnosticReport:based-on"]


class FhirSource:
    """The reports of the server at `config.url`, kept below `mirror`."""

    def __init__(
        self, config: SourceConfig, mirror: Path, *, pause: Callable[[float], None] = time.sleep,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.name = config.name
        self._config = config
        self._store = ReportStore(mirror)
        self._pause = pause
        self._now = now

    def sync(self, progress: Progress | None = None) -> Synced:
        """Bring what is new, changed or gone; progress is called with (reports done, of how many the server knows)."""
        with self._store.writing() as writer, ServerSession(self._config, self._pause) as session:
            return _Sync(self._config, session, writer, self._now(), progress).run()

    def folders(self) -> Sequence[Path]:
        """None: reports only."""
        return []

    def reports(self) -> Iterator[Report | Refusal]:
        """What is here; no network."""
        return self._store.reports()

    def questions(self) -> Iterator[Question | Refusal]:
        """None."""
        return iter(())


class _Sync:
    def __init__(self, config: SourceConfig, session: ServerSession, writer: ReportWriter, now: datetime,
                 progress: Progress | None) -> None:
        self._config = config
        self._session = session
        self._writer = writer
        self._now = now
        self._progress = progress
        self._root = config.url.rstrip("/") + "/"
        self._resources: dict[str, Resource] = {}
        self._latest = instant(writer.note("cursor"))
        self.new = self.known = self.failed = 0

    def run(self) -> Synced:
        settings = hashlib.sha256(repr((self._root, self._config.category, self._config.since,
                                        self._config.patient_system)).encode()).hexdigest()
        full = self._is_full(settings)
        sweep = int(self._writer.note("sweep") or 0)
        if full and self._writer.note("open") != settings:
            sweep += 1
            self._writer.set_notes(sweep=str(sweep), open=settings, cursor="", settings=settings)
        if full:
            self._latest = None
        dated = self._follow(self._parameters(full), sweep, full)
        if self.failed:  # they are asked for again, with all that changed since
            return Synced(self.new, self.known, self.failed)
        if full:
            self._writer.keep_sweep(sweep)
            self._writer.set_notes(open="", swept=self._now.isoformat())
        cursor = self._latest.isoformat() if self._latest and dated else ""
        self._writer.set_notes(cursor=cursor)
        return Synced(self.new, self.known, self.failed)

    def _is_full(self, settings: str) -> bool:
        swept = instant(self._writer.note("swept"))
        return bool(self._writer.note("open")) or self._writer.note("settings") != settings or self._latest is None \
            or swept is None or not timedelta(0) <= self._now - swept < timedelta(days=SWEEP_DAYS)

    def _parameters(self, full: bool) -> list[tuple[str, str]]:
        found = [("_count", str(self._config.page_size)), *(("_include", include) for include in _INCLUDES)]
        if self._config.category:
            found.append(("category", self._config.category))
        if self._config.since:
            found.append(("date", f"ge{self._config.since}"))
        if not full and self._latest:
            found.append(("_lastUpdated", f"ge{(self._latest - OVERLAP).strftime('%Y-%m-%dT%H:%M:%SZ')}"))
        return found

    # -------------------------------------------------------------- pages

    def _follow(self, parameters: list[tuple[str, str]], sweep: int, full: bool) -> bool:
        """Every page; whether every report said when it changed."""
        dated, done, empty = True, 0, 0
        visited: set[bytes] = set()  # digests: an address, or an ID, can be as long as a page
        seen: set[bytes] = set()
        bundle, address = self._first(parameters), ""
        while True:
            entries = _objects(entry.get("resource") for entry in _objects(bundle.get("entry")))
            fresh = [report for report in entries if report.get("resourceType") == "DiagnosticReport"
                     and _digest(report.get("id")) not in seen]
            seen.update(_digest(report.get("id")) for report in fresh)
            self._remember(entries)
            for report in fresh:
                dated &= self._take(report, sweep, full)
            done, empty = done + len(fresh), 0 if fresh else empty + 1
            if self._progress is not None:
                total = bundle.get("total")
                self._progress(done, max(done, total if isinstance(total, int) else 0))
            address = self._next(bundle, address)
            if not address:
                return dated
            if _digest(address) in visited or len(visited) >= MOST_PAGES or empty >= MOST_EMPTY_PAGES:
                raise self._session.error("the server's pages have no end; ask its operator")
            visited.add(_digest(address))
            bundle = self._bundle(address)

    def _first(self, parameters: list[tuple[str, str]]) -> Resource:
        try:
            return self._bundle(self._root + "DiagnosticReport", parameters)
        except TooLargeError:
            raise
        except NotGivenError:  # strict servers refuse what they cannot include
            try:
                return self._bundle(self._root + "DiagnosticReport", [p for p in parameters if p[0] != "_include"])
            except NotGivenError as error:
                raise SourceError(f"{error} It must be the root of FHIR R4, such as https://HOST/fhir") from None

    def _bundle(self, address: str, parameters: Sequence[tuple[str, str]] = ()) -> Resource:
        bundle = self._session.get_json(address, _JSON, MOST_PAGE_BYTES, parameters)
        if not isinstance(bundle, dict) or bundle.get("resourceType") != "Bundle" or bundle.get("type") != "searchset":
            raise self._session.error("the server answers, but not with search results of FHIR; url must be its root, "
                                      "such as https://HOST/fhir")
        return bundle

    def _next(self, bundle: Resource, current: str) -> str:
        found = [text(link.get("url")) for link in items(bundle.get("link")) if link.get("relation") == "next"]
        return self._joined(current or self._root, found[0]) if found and found[0] else ""

    def _joined(self, start: str, address: str) -> str:
        try:
            return urljoin(start, address)
        except ValueError:
            raise ForeignAddressError(str(self._session.error("the server names an address that is none; check url"))) \
                from None

    # -------------------------------------------------------------- one report

    def _take(self, report: Resource, sweep: int, full: bool) -> bool:
        """Keep what the report comes to; whether it says when it changed."""
        name, meta = text(report.get("id")), report.get("meta") if isinstance(report.get("meta"), dict) else {}
        updated = instant((meta or {}).get("lastUpdated"))
        version = hashlib.sha256(json.dumps(report, sort_keys=True).encode()).hexdigest()
        if not _REFERENCE.fullmatch(f"DiagnosticReport/{name}"):
            self.failed += 1
        elif self._writer.holds(name, version, sweep if full else None):
            self.known += 1
        else:
            try:
                outcome = self._outcome(report, f"DiagnosticReport/{name}")
            except ServerFaultError:
                self.failed += 1
                return updated is not None
            issued = instant(report.get("issued")) or updated
            self._writer.put(name, version, sweep, issued.isoformat() if issued else "", outcome)
            self.new += 1
        if updated:
            self._latest = max(self._latest or updated, updated)
        return updated is not None

    def _outcome(self, report: Resource, item: str) -> Report | Refusal:
        try:
            if report.get("status") not in r.FINAL:
                raise RefusedItemError("report-not-final")
            patient = self._patient(report)
            identity = r.patient_id(patient, self._config.patient_system, self._now)
            study, accession = self._study(report)
            findings, impression = r.report_sections(report, self._attachment)
            return Report(item, identity, "", study, accession, findings, impression,
                          r.patient_names(patient), r.patient_dates(patient, report))
        except RefusedItemError as refusal:
            return Refusal(item, refusal.code)

    def _patient(self, report: Resource) -> Resource:
        patient = self._resolve(report, report.get("subject"), "Patient")
        if patient is None:
            raise RefusedItemError("patient-missing")
        for _ in range(_MERGES):  # a patient that was merged into another is that one
            others = [link.get("other") for link in items(patient.get("link")) if link.get("type") == "replaced-by"]
            other = self._resolve(patient, others[0], "Patient") if others else None
            if other is None:
                return patient
            patient = other
        raise RefusedItemError("patient-ambiguous")

    def _study(self, report: Resource) -> tuple[str, str]:
        uids: set[str] = set()
        accessions = set(r.accessions(report))
        for field, kind in (("imagingStudy", "ImagingStudy"), ("basedOn", "ServiceRequest")):
            for reference in items(report.get(field)):
                named = (reference, self._resolved_or_empty(report, reference, kind))
                accessions.update(found for resource in named for found in r.accessions(resource))
                if kind == "ImagingStudy":
                    uids.update(found for resource in named for found in r.study_uids(resource))
        accession = accessions.pop() if len(accessions) == 1 else ""
        if len(uids) == 1:
            return uids.pop(), accession
        if not accession:
            raise RefusedItemError("study-ambiguous" if uids or accessions else "study-missing")
        return "", accession

    def _resolved_or_empty(self, report: Resource, reference: Resource, kind: str) -> Resource:
        try:  # the reference may name the study by itself
            return self._resolve(report, reference, kind) or {}
        except RefusedItemError:
            return {}

    # -------------------------------------------------------------- what it refers to

    def _resolve(self, owner: Resource, reference: object, kind: str) -> Resource | None:
        """The resource of a reference, None where it is of another kind or names none."""
        name = text(reference.get("reference")) if isinstance(reference, dict) else ""
        if name.startswith("#"):
            inside = [one for one in items(owner.get("contained")) if f"#{text(one.get('id'))}" == name]
            return inside[0] if inside and inside[0].get("resourceType") == kind else None
        found = _REFERENCE.fullmatch(name.removeprefix(self._root))
        if not name or (found and found[1] != kind):
            return None
        if not found:
            raise RefusedItemError("reference-unresolved")  # on another server, or none of FHIR
        key = f"{found[1]}/{found[2]}"
        if key not in self._resources:
            resource = self._read(self._root + key, kind)
            self._remember([resource], key)
            return resource
        return self._resources[key]

    def _read(self, address: str, kind: str) -> Resource:
        try:
            resource = self._session.get_json(address, _JSON, MOST_RESOURCE_BYTES)
        except NotGivenError:
            raise RefusedItemError("reference-unresolved") from None
        if not isinstance(resource, dict) or resource.get("resourceType") != kind:
            raise RefusedItemError("reference-unresolved")
        return resource

    def _remember(self, resources: Sequence[Resource], key: str = "") -> None:
        for resource in resources:
            if resource.get("resourceType") in ("Patient", "ImagingStudy", "ServiceRequest") \
                    and len(json.dumps(resource)) <= _KEPT_BYTES:
                self._resources[key or f"{resource['resourceType']}/{text(resource.get('id'))}"] = resource
        while len(self._resources) > _KEPT_RESOURCES:
            del self._resources[next(iter(self._resources))]

    def _attachment(self, address: str, kind: str) -> tuple[str, bytes]:
        try:
            content_type, data = self._session.get_bytes(
                self._joined(self._root, address), kind, 2 * r.MOST_MARKUP_BYTES)
            if "json" in content_type.lower():  # a Binary as a resource
                return r.binary(json.loads(data))
            return content_type, data
        except (NotGivenError, ForeignAddressError, RecursionError, UnicodeError, json.JSONDecodeError):
            raise RefusedItemError("reference-unresolved") from None


def _digest(value: object) -> bytes:
    return hashlib.sha256(text(value).encode(errors="surrogatepass")).digest()


def _objects(value: object) -> list[Resource]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list | Iterator) else []
