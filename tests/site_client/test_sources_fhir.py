"""FHIR R4 reports: paging, increments, and every rule of identity, study and text."""

from __future__ import annotations

import base64
import json
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from configs.site_data import SourceConfig
from site_client.records import REASONS, Refusal
from site_client.sources.fhir import FhirSource
from site_client.sources.interface import Report, SourceError
from tests.site_client.fhir_server import FhirServer, example_resources, fhir_server
from tests.site_client.made_fhir import form, identifier, patient, report, study

NOW = datetime(2024, 6, 1, tzinfo=UTC)


@pytest.fixture(scope="module")
def running():
    with fhir_server() as server:
        yield server


@pytest.fixture
def server(running):
    running.clear()
    return running


def source(server: FhirServer, tmp_path: Path, now: datetime = NOW, **changes: object) -> FhirSource:
    values = {"kind": "fhir", "name": "ris", "url": server.url, "page_size": 3, "timeout_s": 5.0} | changes
    return FhirSource(SourceConfig(**values), tmp_path / "mirror", pause=lambda seconds: None, now=lambda: now)


def outcome(server: FhirServer, tmp_path: Path, *resources: dict[str, object], **changes: object):
    server.put(*resources)
    site = source(server, tmp_path, **changes)
    assert site.sync().failed == 0
    (found,) = site.reports()
    return found


def reason(found) -> str:
    assert isinstance(found, Refusal) and found.reason in REASONS
    return found.reason


def test_a_report_with_all_that_belongs_to_it(server, tmp_path):
    found = outcome(server, tmp_path, patient(), study(), report())
    assert found == Report("DiagnosticReport/1", "MRN 1", "", "1.2.1", "", "Clear lungs.", "Normal.",
                           ("Jane Doe", "Doe^Jane A"), ("19560312", "20240105"))
    assert source(server, tmp_path).folders() == [] and list(source(server, tmp_path).questions()) == []
    for path in (tmp_path / "mirror").iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "mirror").stat().st_mode) == 0o700


def test_reports_are_read_without_the_server(server, tmp_path):
    outcome(server, tmp_path, patient(), study(), report())
    asked = len(server.asked)
    assert len(list(source(server, tmp_path).reports())) == 1 and len(server.asked) == asked
    assert list(source(server, tmp_path / "other").reports()) == []


def many(count: int) -> list[dict[str, object]]:
    return [resource for k in map(str, range(count)) for resource in (
        patient(k), study(k),
        report(k, subject={"reference": f"Patient/{k}"}, imagingStudy=[{"reference": f"ImagingStudy/{k}"}]))]


@pytest.mark.parametrize("strict", [False, True])
def test_all_pages_come_and_then_only_what_changed(server, tmp_path, strict):
    server.strict = strict
    server.put(*many(10))
    steps: list[tuple[int, int]] = []
    site = source(server, tmp_path)
    synced = site.sync(lambda done, known: steps.append((done, known)))
    assert (synced.new, synced.known, steps[-1], len(list(site.reports()))) == (10, 0, (10, 10), 10)
    assert sum("/Patient/" in path for path in server.asked) == (10 if strict else 0)

    server.asked.clear()
    server.put(report("3", status="entered-in-error"), report("11"), changed="2024-01-02T00:00:00Z")
    synced = site.sync()
    assert (synced.new, synced.known) == (2, 8 + 1)  # all but one within the overlap of two listings
    assert all("_lastUpdated=ge2023-12-31T23%3A55%3A00Z" in path for path in server.asked if "_count" in path)
    found = list(site.reports())
    assert sorted(reason(one) for one in found if isinstance(one, Refusal)) == ["report-not-final", "report-superseded"]

    server.asked.clear()
    synced = site.sync()
    assert (synced.new, synced.known) == (0, 2) and len(server.asked) == 1 + strict


def test_deletions_and_corrected_patients_are_seen_by_the_next_sweep(server, tmp_path):
    server.put(*many(10))
    source(server, tmp_path).sync()
    del server.resources["DiagnosticReport", "4"]
    server.put(patient("5", identifier=[identifier("corrected")]))
    source(server, tmp_path, NOW + timedelta(days=6)).sync()
    assert len(list(source(server, tmp_path).reports())) == 10
    assert source(server, tmp_path, NOW + timedelta(days=8)).sync().new == 9
    ids = {one.patient_id for one in source(server, tmp_path).reports()}
    assert len(ids) == 9 and "CORRECTED" in ids and not {"MRN 4", "MRN 5"} & ids


def test_a_server_that_lost_most_reports_removes_none(server, tmp_path):
    server.put(*many(10))
    source(server, tmp_path).sync()
    for k in range(6):
        del server.resources["DiagnosticReport", str(k)]
    with pytest.raises(SourceError, match="no longer lists 6 of the 10 reports that are here, so none was removed"):
        source(server, tmp_path, NOW + timedelta(days=8)).sync()
    assert len(list(source(server, tmp_path).reports())) == 10


def test_a_server_without_times_is_listed_whole_each_time(server, tmp_path):
    server.dated = False
    server.put(*many(4))
    for _ in range(2):
        assert source(server, tmp_path).sync().new == 4
    del server.resources["DiagnosticReport", "2"]
    source(server, tmp_path).sync()
    assert len(list(source(server, tmp_path).reports())) == 3
    assert not any("_lastUpdated" in path for path in server.asked)


def test_category_and_day_are_asked_for_and_a_change_of_them_lists_again(server, tmp_path):
    radiology = [{"coding": [{"code": "RAD"}]}]
    server.put(patient(), study(), report("1", category=radiology), report("2"),
               report("3", category=radiology, effectiveDateTime="2020-01-01"))
    source(server, tmp_path).sync()
    assert len(list(source(server, tmp_path).reports())) == 3
    site = source(server, tmp_path, category="RAD", since="2023-01-01")
    site.sync()
    assert [one.item for one in site.reports()] == ["DiagnosticReport/1"]


def test_a_killed_sync_goes_on_without_resolving_again(server, tmp_path, monkeypatch):
    server.strict = True
    server.put(*many(9))

    def killed(done: int, known: int) -> None:
        if done == 6:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        source(server, tmp_path).sync(killed)
    server.asked.clear()
    synced = source(server, tmp_path).sync()
    assert (synced.known, synced.new) == (6, 3)
    assert sum("/Patient/" in path for path in server.asked) == 3


# ------------------------------------------------------------------ whose report it is

@pytest.mark.parametrize(
    ("identifiers", "expected"),
    [
        ([identifier("a")], "A"),
        ([identifier("ssn", "SS"), identifier("a")], "A"),
        ([identifier("a", None)], "A"),
        ([identifier("a", None), identifier("a ", None)], "A"),
        ([identifier("ssn", "SS")], "patient-missing"),
        ([identifier("a"), identifier("b")], "patient-ambiguous"),
        ([identifier("a"), identifier("b", use="usual")], "B"),
        ([identifier("a", use="official"), identifier("b", use="secondary")], "A"),
        ([identifier("a", None), identifier("b", None)], "patient-ambiguous"),
        ([identifier("a", use="old"), identifier("b")], "B"),
        ([identifier("a", period={"end": "2023-12-31"}), identifier("b", period={"end": "2025"})], "B"),
        ([identifier("0")], "patient-dummy"), ([], "patient-missing"), ([identifier("")], "patient-missing"),
        ([7, None, identifier("a")], "A"), ({"value": "a"}, "patient-missing"),
    ],
)
def test_the_patient_id(server, tmp_path, identifiers, expected):
    found = outcome(server, tmp_path, patient(identifier=identifiers), study(), report())
    assert (found.patient_id if isinstance(found, Report) else reason(found)) == expected


def test_the_patient_id_of_a_configured_system(server, tmp_path):
    both = [identifier("a", system="urn:x"), identifier("b", None, system="urn:y")]
    found = outcome(server, tmp_path, patient(identifier=both), study(), report(), patient_system="urn:y")
    assert found.patient_id == "B"


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"subject": None}, "patient-missing"), ({"subject": {"display": "Jane"}}, "patient-missing"),
        ({"subject": {"reference": "Group/1"}}, "patient-missing"),
        ({"subject": {"reference": "Patient/9"}}, "reference-unresolved"),
        ({"subject": {"reference": "https://other.example/fhir/Patient/1"}}, "reference-unresolved"),
        ({"subject": {"reference": "Patient/.."}}, "reference-unresolved"),
        ({"subject": {"reference": "Patient/../../x"}}, "reference-unresolved"),
        ({"subject": {"reference": "Patient/1/_history/2"}}, "MRN 1"),
        ({"subject": {"reference": "#p"}, "contained": [patient("p")]}, "MRN P"),
        ({"subject": {"reference": "#q"}, "contained": [patient("p")]}, "patient-missing"),
        ({"subject": "Patient/1"}, "patient-missing"), ({"status": "preliminary"}, "report-not-final"),
        ({"status": "amended"}, "MRN 1"), ({"status": "corrected"}, "MRN 1"),
        ({"status": ["final"]}, "report-not-final"),
    ],
)
def test_the_subject_and_the_status(server, tmp_path, changes, expected):
    found = outcome(server, tmp_path, patient(), study(), report(**changes))
    assert (found.patient_id if isinstance(found, Report) else reason(found)) == expected
    assert all(".." not in path for path in server.asked)


def test_an_absolute_reference_to_this_server_is_read_here(server, tmp_path):
    found = outcome(server, tmp_path, patient(), study(), report(subject={"reference": f"{server.url}/Patient/1"}))
    assert found.patient_id == "MRN 1"


def test_a_merged_patient_is_the_other_one(server, tmp_path):
    link = {"link": [{"type": "replaced-by", "other": {"reference": "Patient/2"}}]}
    assert outcome(server, tmp_path, patient(**link), patient("2"), study(), report()).patient_id == "MRN 2"


def test_patients_merged_in_a_circle_are_refused(server, tmp_path):
    link = {"link": [{"type": "replaced-by", "other": {"reference": "Patient/1"}}]}
    assert reason(outcome(server, tmp_path, patient(**link), study(), report())) == "patient-ambiguous"


# ------------------------------------------------------------------ which study it is about

def accession(value: str) -> list[dict[str, object]]:
    return [identifier(value, "ACSN")]


@pytest.mark.parametrize(
    ("studies", "changes", "expected"),
    [
        ([study("1", identifier=[])], {}, "study-missing"), ([study()], {"imagingStudy": None}, "study-missing"),
        ([], {}, "study-missing"), ([study("1", "1.2", "1.3")], {}, "study-ambiguous"),
        ([study("1", "1.2", "1.3")], {"identifier": accession("A7")}, ("", "A7")),
        ([study()], {"imagingStudy": None, "identifier": accession("A7")}, ("", "A7")),
        ([study("1", identifier=accession("A1"))], {}, ("", "A1")),
        ([study("1", identifier=study()["identifier"] + accession("A1"))], {}, ("1.2.1", "A1")),
        ([study("1", identifier=accession("A1"))], {"identifier": accession("A2")}, "study-ambiguous"),
        ([{"resourceType": "ServiceRequest", "id": "1", "identifier": accession("A3")}],
         {"basedOn": [{"reference": "ServiceRequest/1"}], "imagingStudy": None}, ("", "A3")),
        ([], {"basedOn": [{"identifier": accession("A4")[0]}]}, ("", "A4")),
        ([], {"imagingStudy": [{"identifier": study()["identifier"][0]}]}, ("1.2.1", "")),
        ([], {"imagingStudy": [{"reference": "#s"}], "contained": [study("s")]}, "study-missing"),
        ([], {"imagingStudy": [{"reference": "#s"}], "contained": [study("s", "1.5")]}, ("1.5", "")),
        ([study("1", "1.2/../x")], {}, "study-missing"), ([study("1", "1." + "2" * 70)], {}, "study-missing"),
    ],
)
def test_the_study(server, tmp_path, studies, changes, expected):
    found = outcome(server, tmp_path, patient(), *studies, report(**changes))
    assert ((found.study_uid, found.accession) if isinstance(found, Report) else reason(found)) == expected


def test_the_latest_report_of_a_study_counts_for_its_patient_only(server, tmp_path):
    both = study("1", identifier=study()["identifier"] + accession("A1"))
    server.put(
        patient(), patient("2"), both,
        report("a", issued="2024-01-05T12:00:00+02:00"), report("b", issued="2024-01-05T11:00:00Z", status="corrected"),
        report("c", issued=None, identifier=accession("A1"), imagingStudy=None),
        report("d", issued="2024-01-06T00:00:00Z", status="preliminary"),
        report("e", issued="2024-01-07T00:00:00Z", subject={"reference": "Patient/2"}),
        report("f", issued="2024-01-01T00:00:00Z", imagingStudy=None, identifier=accession("A9")))
    site = source(server, tmp_path)
    site.sync()
    assert {one.item[-1]: one.reason if isinstance(one, Refusal) else "" for one in site.reports()} == {
        "a": "report-superseded", "b": "", "c": "report-superseded", "d": "report-not-final", "e": "", "f": ""}


# ------------------------------------------------------------------ what it says

def narrative(markup: str) -> dict[str, str]:
    return {"status": "generated", "div": f'<div xmlns="http://www.w3.org/1999/xhtml">{markup}</div>'}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"presentedForm": [form("Clear lungs.")], "conclusion": "Normal."}, ("Clear lungs.", "Normal.")),
        ({"conclusion": "Other."}, ("Clear lungs.", "Normal.")),
        ({"presentedForm": [form("<p>Findings:</p><p>Clear.</p>", "text/html"), form("Plain.")]}, ("Plain.", "")),
        ({"presentedForm": [form("<p>Findings:</p><p>Cl&auml;r.</p>", "text/html; charset=utf-8")]}, ("Clär.", "")),
        ({"presentedForm": [form("Größe".encode("latin-1"), "text/plain; charset=ISO-8859-1")]}, ("Größe", "")),
        ({"presentedForm": [form("Größe".encode("latin-1"))]}, "not-utf8"),
        ({"presentedForm": [form("x", "text/plain; charset=unicode_escape")]}, "not-utf8"),
        ({"presentedForm": [form(b"%PDF", "application/pdf")]}, "report-pdf"),
        ({"presentedForm": [form(b"%PDF", "application/pdf")], "conclusion": "Normal."}, "report-pdf"),
        ({"presentedForm": [form(b"%PDF", "application/pdf")], "text": narrative("Clear.")}, ("Clear.", "")),
        ({"presentedForm": [form(b"{\\rtf", "application/rtf")]}, "report-format"),
        ({"presentedForm": [form() | {"data": "*"}]}, "report-format"),
        ({"presentedForm": None, "text": narrative("<h1>Findings</h1>Clear.<h1>Impression</h1>Normal.")},
         ("Clear.", "Normal.")),
        ({"presentedForm": None}, "text-missing"), ({"presentedForm": None, "conclusion": "Normal."}, "text-missing"),
        ({"presentedForm": [form("x" * 20_001)]}, "text-too-long"), ({"presentedForm": "x"}, "text-missing"),
        ({"presentedForm": [form("x" * 2**19)]}, "text-too-long"), ({"conclusion": "x" * 20_001}, "text-too-long"),
        ({"presentedForm": None, "text": narrative("<b>" * 2**17)}, "text-too-long"),
        ({"presentedForm": [form("Impression: Normal.")], "text": narrative("Clear.")}, ("Clear.", "Normal.")),
        ({"presentedForm": [{"contentType": "text/plain", "url": "Binary/b"}]}, ("From the server.", "")),
        ({"presentedForm": [{"contentType": "text/plain", "url": "Binary/j"}]}, ("In JSON.", "")),
        ({"presentedForm": [{"contentType": "text/plain", "url": "Binary/l"}]}, ("Größe", "")),
        ({"presentedForm": [{"contentType": "text/plain", "url": "Binary/none"}]}, "reference-unresolved"),
        ({"presentedForm": [{"contentType": "text/plain", "url": "Binary/long"}]}, "reference-unresolved"),
    ],
)
def test_the_text(server, tmp_path, changes, expected):
    binary = {"resourceType": "Binary", "contentType": "text/plain", "data": base64.b64encode(b"In JSON.").decode()}
    server.binaries = {"b": ("text/plain", b"From the server."), "j": ("application/fhir+json",
                                                                       json.dumps(binary).encode()),
                       "l": ("text/plain; charset=iso-8859-1", "Größe".encode("latin-1")),
                       "long": ("text/plain", b"x" * 2**20)}
    found = outcome(server, tmp_path, patient(), study(), report(**changes))
    assert ((found.findings, found.impression) if isinstance(found, Report) else reason(found)) == expected


@pytest.mark.parametrize("value", [None, 7, "x", [], {}, [None], [7], [[]], [{}], {"reference": 7}, True])
def test_fields_of_any_shape_are_refused_not_raised(server, tmp_path, value):
    server.put(patient(), study())
    for field in ("subject", "imagingStudy", "basedOn", "identifier", "presentedForm", "text", "conclusion", "issued",
                  "contained", "status", "effectiveDateTime", "effectivePeriod"):
        server.put(report(field) | {field: value})
    for field in ("identifier", "name", "birthDate", "link"):
        server.put(patient(field, **{field: value}), report(f"p{field}", subject={"reference": f"Patient/{field}"}))
    site = source(server, tmp_path, page_size=100)
    assert site.sync().new == 16
    assert len(list(site.reports())) == 16


@pytest.mark.slow  # .ci/packages fetches them
def test_the_standards_own_examples(server, tmp_path):
    server.put(*example_resources())
    site = source(server, tmp_path, page_size=2)
    assert site.sync().new == 6
    found = {one.item.split("/")[1]: reason(one) if isinstance(one, Refusal) else one for one in site.reports()}
    assert set(found) == {"102", "example-pgx", "f201", "gingival-mass", "pap", "ultrasound"}
    assert found["gingival-mass"] == "patient-missing" and found["ultrasound"] == "study-missing"
    linked = next(resource for resource in example_resources() if resource["id"] == "ultrasound")
    server.put(linked | {"imagingStudy": [{"reference": "ImagingStudy/example"}]}, changed="2024-03-01T00:00:00Z")
    site.sync()
    (used,) = [one for one in site.reports() if isinstance(one, Report)]
    assert used.patient_id == "12345" and used.study_uid == "2.16.124.113543.6003.1154777499.30246.19789.3503430045"
    assert used.impression == "Unremarkable study" and "19741225" in used.dates and "Chalmers^Peter James" in used.names
