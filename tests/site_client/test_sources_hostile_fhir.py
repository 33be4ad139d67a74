"""FHIR servers that refuse, lie or attack: nothing leaves the origin, and no sync goes on for ever."""

from __future__ import annotations

import json

import pytest

from configs.site_data import SourceConfig
from site_client.records import Refusal
from site_client.sources import fhir as fhir_module
from site_client.sources.fhir import FhirSource
from site_client.sources.interface import SourceError
from tests.site_client.fhir_server import fhir_server
from tests.site_client.made_fhir import patient, report, study
from tests.site_client.orthanc import secret_file
from tests.site_client.stub_server import stub_server


def stub_source(stub, tmp_path, token: str = "a-token"):
    config = SourceConfig(kind="fhir", name="ris", url=f"http://127.0.0.1:{stub.port}/fhir", timeout_s=2.0,
                          secret_file=secret_file(tmp_path, token))
    return FhirSource(config, tmp_path / "mirror", pause=lambda seconds: None)


def bundle(*reports: object, **more: object) -> bytes:
    entries = [{"resource": one} for one in reports]
    return json.dumps({"resourceType": "Bundle", "type": "searchset", "entry": entries} | more).encode()


def test_logins(tmp_path):
    with fhir_server() as server:
        server.token = "right"
        server.put(patient(), study(), report())
        with pytest.raises(SourceError, match=r"refuses the login \(401\)"):
            stub_source(server, tmp_path, "wrong").sync()
        assert stub_source(server, tmp_path, "right").sync().new == 1


def test_a_next_page_elsewhere_is_not_asked_for(tmp_path):
    with stub_server(lambda path, headers: (200, {}, bundle(report()))) as other, \
            stub_server(lambda path, headers: (200, {}, bundle(link=[
                {"relation": "next", "url": f"http://127.0.0.1:{other.port}/fhir?page=2"}]))) as stub:
        with pytest.raises(SourceError, match="names an address on another host or port"):
            stub_source(stub, tmp_path).sync()
        assert not other.asked


@pytest.mark.parametrize("url", ["//evil.example/x", "file:///etc/passwd", "http://[::1", "ftp://x/", "https://127.0.0.1/"])
def test_no_other_kind_of_address_either(tmp_path, url):
    link = [{"relation": "next", "url": url}]
    with stub_server(lambda path, headers: (200, {}, bundle(link=link))) as stub, \
            pytest.raises(SourceError, match="ris"):
        stub_source(stub, tmp_path).sync()
    attached = report(presentedForm=[{"contentType": "text/plain", "url": url}])
    answers = {"/fhir/Patient/1": json.dumps(patient()).encode(), "/fhir/ImagingStudy/1": json.dumps(study()).encode()}
    with stub_server(lambda path, headers: (200, {}, answers.get(path, bundle(attached)))) as stub:
        site = stub_source(stub, tmp_path)
        site.sync()
        assert [(type(one), one.reason) for one in site.reports()] == [(Refusal, "reference-unresolved")]


def test_pages_without_an_end_end(tmp_path):
    same = bundle(link=[{"relation": "next", "url": "?page=2"}])
    with stub_server(lambda path, headers: (200, {}, same)) as stub, pytest.raises(SourceError, match="have no end"):
        stub_source(stub, tmp_path).sync()
    count = iter(range(10**9))
    with stub_server(lambda path, headers: (200, {}, bundle(link=[{"relation": "next", "url": f"?p={next(count)}"}]))) \
            as stub, pytest.raises(SourceError, match="have no end"):
        stub_source(stub, tmp_path).sync()
    assert len(stub.asked) <= fhir_module.MOST_EMPTY_PAGES + 2


@pytest.mark.parametrize("body", [b"<html>", b"[" * 10**5, b"[]", b'{"resourceType": "OperationOutcome"}', b"", b"1"])
def test_what_is_not_fhir_is_one_sentence(tmp_path, body):
    with stub_server(lambda path, headers: (200, {}, body)) as stub, \
            pytest.raises(SourceError, match=r"check url|its root"):
        stub_source(stub, tmp_path).sync()


def test_a_page_longer_than_the_limit_is_one_sentence(tmp_path, monkeypatch):
    monkeypatch.setattr(fhir_module, "MOST_PAGE_BYTES", 1000)
    with stub_server(lambda path, headers: (200, {}, b" " * 2000)) as stub, \
            pytest.raises(SourceError, match="longer than 1000 bytes; lower page_size"):
        stub_source(stub, tmp_path).sync()
    assert len(stub.asked) == 1


def test_a_fault_at_one_resource_is_asked_for_again(tmp_path):
    broken = [True]

    def answer(path, headers):
        if path.startswith("/fhir/Patient"):
            return (500, {}, b"") if broken[0] else (200, {}, json.dumps(patient()).encode())
        if path.startswith("/fhir/ImagingStudy"):
            return 200, {}, json.dumps(study()).encode()
        return 200, {}, bundle(report(meta={"lastUpdated": "2024-01-01T00:00:00Z"}))

    with stub_server(answer) as stub:
        assert stub_source(stub, tmp_path).sync().failed == 1
        broken[0] = False
        assert stub_source(stub, tmp_path).sync().new == 1
        assert len(list(stub_source(stub, tmp_path).reports())) == 1
