"""`site-client index` tells what came from each server, and of nobody who was not asked."""

from __future__ import annotations

import base64
import json

import pytest

from simulations.fhir_lab import FhirServer, fhir_server
from simulations.real_federation import set_keys
from site_client.index_facts import index_facts, index_text
from site_client.records import SiteIndex
from tests.site_client.made_site import MadeSite

TEXT = base64.b64encode(b"FINDINGS: Clear lungs.\nIMPRESSION: Normal.").decode()


@pytest.fixture
def server():
    with fhir_server() as running:
        yield running


@pytest.fixture
def site(tmp_path, capsys, server) -> MadeSite:
    made = MadeSite(tmp_path, capsys)
    set_keys(made.file, {"sources": json.dumps([{"kind": "fhir", "name": "ris", "url": server.url}])})
    return made


def put_report(server: FhirServer, name: str, changed: str = "2024-01-01T00:00:00Z") -> None:
    server.put({"resourceType": "Patient", "id": "1", "identifier": [{"value": "P4711"}]},
               {"resourceType": "DiagnosticReport", "id": name, "status": "final",
                "subject": {"reference": "Patient/1"},
                "identifier": [{"type": {"coding": [{"code": "ACSN"}]}, "value": f"A{name}"}],
                "presentedForm": [{"contentType": "text/plain", "data": TEXT}]}, changed=changed)


def mirror_lines(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.startswith("mirror of ")]


def test_what_came_from_a_server_is_told_each_time(site, server):
    put_report(server, "1")
    assert mirror_lines(site.run("index", site.file)[1]) == ["mirror of ris: 1 new, 0 known"]
    assert mirror_lines(site.run("index", site.file)[1]) == ["mirror of ris: 0 new, 1 known"]
    put_report(server, "2", changed="2024-01-01T00:00:01Z")
    facts = json.loads(site.run("index", site.file, "--json")[1])
    assert facts["mirrors"] == {"ris": {"new": 1, "known": 1, "failed": 0}}


def test_nothing_is_told_of_servers_that_nobody_asked(site, server):
    put_report(server, "1")
    site.run("index", site.file)
    assert "mirrors" not in json.loads(site.run("index", site.file, "--no-sync", "--json")[1])
    assert "mirrors" not in json.loads(site.run("index", site.file, "--report", "--json")[1])
    set_keys(site.file, {"sources": "[]"})
    (site.folder / "data/reports.csv").write_text(
        "PatientID,AccessionNumber,Findings,Impression\nP4711,A1,Clear.,Normal.\n")
    assert "mirrors" not in json.loads(site.run("index", site.file, "--json")[1])


def test_what_a_server_did_not_give_is_told_too():
    facts = index_facts("site-1", SiteIndex(())) | {"mirrors": {"pacs": {"new": 3, "known": 40, "failed": 2}}}
    assert mirror_lines(index_text(facts)) == [
        "mirror of pacs: 3 new, 40 known, 2 not given; they are asked for again"]
