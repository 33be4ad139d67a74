"""What a server of the hospital may make this site hold, and whose a mirrored file is once the archive corrected it."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest
from urllib3.util import parse_url

from site_client.sources import fhir as fhir_module
from site_client.sources import mirror as mirror_module
from site_client.sources.interface import SourceError
from site_client.sources.server_session import ServerSession
from tests.site_client.made_fhir import patient, report, study
from tests.site_client.stub_server import stub_server
from tests.site_client.test_sources_hostile_archive import Archive, element, files, source
from tests.site_client.test_sources_hostile_fhir import bundle, stub_source

MIB = 2**20


@contextmanager
def held_below(most: int) -> Iterator[None]:
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < most
    finally:
        tracemalloc.stop()


def test_the_body_of_a_redirect_is_not_read(tmp_path):
    sent = [0]

    def endless():
        for _ in range(300):
            sent[0] += MIB
            yield bytes(MIB)

    with stub_server(lambda path, headers: (302, {"Location": "http://127.0.0.1:1/"}, endless())) as server, \
            pytest.raises(SourceError, match="which is not followed"):
        source(server, tmp_path).sync()
    assert sent[0] < 100 * MIB


def test_texts_in_place_of_uids_are_not_kept(tmp_path):
    count = iter(range(10**9))
    archive = Archive()
    archive.studies = lambda first: Archive.listing([element(study=f"{next(count):09d}" + "x" * MIB)]
                                                    if len(server.asked) < 30 else [])
    with stub_server(archive) as server, held_below(16 * MIB):
        assert source(server, tmp_path, page_size=1).sync().failed == 29


def test_ids_addresses_and_included_resources_are_not_kept(tmp_path):
    def answer(path, headers):
        number = len(stub.asked)
        long = f"{number:09d}" + "x" * MIB
        if number > 40:
            return 200, {}, bundle()
        return 200, {}, bundle(report(long, status="preliminary"), patient(f"{number}", photo=long),
                               link=[{"relation": "next", "url": f"?page={number}"}])

    with stub_server(answer) as stub, held_below(30 * MIB):
        assert stub_source(stub, tmp_path).sync().failed == 40


def test_a_large_patient_is_read_when_it_is_needed(tmp_path):
    large = patient(photo=[{"data": "x" * fhir_module._KEPT_BYTES}])
    answers = {"/fhir/Patient/1": json.dumps(large).encode(), "/fhir/ImagingStudy/1": json.dumps(study()).encode()}
    with stub_server(lambda path, headers: (200, {}, answers.get(path, bundle(report(), large)))) as stub:
        site = stub_source(stub, tmp_path)
        assert site.sync().new == 1
        assert [one.patient_id for one in site.reports()] == ["MRN 1"]


@pytest.mark.parametrize("broken", ["file", "instances"])
def test_a_file_of_the_wrong_patient_goes_although_the_right_one_does_not_come(tmp_path, broken):
    archive = Archive()
    with stub_server(archive) as server:
        assert source(server, tmp_path).sync().new == 1
        archive.studies = lambda first: Archive.listing([element(study="1.2", patient="P2")] if first else [])
        setattr(archive, broken, lambda *_: (404 if broken == "file" else 204, {}, b""))
        source(server, tmp_path).sync()
        assert not files(tmp_path)
        delattr(archive, broken)
        assert source(server, tmp_path).sync().new == 1
    assert len(files(tmp_path)) == 1


@pytest.mark.parametrize("url", [
    "http://127.0.0.1:{port}@evil.example/", "http://127.0.0.1:{port}\\@evil.example/", "http://evil.example#@127.0.0.1:{port}/",
    "http://127.0.0.1.evil.example:{port}/", "http://127.0.0.1:{port}.evil.example/", "\thttp://evil.example:{port}/",
    "http://evil.example\\@127.0.0.1:{port}/"])
def test_the_login_goes_to_the_origin_alone_however_an_address_is_written(tmp_path, monkeypatch, url):
    connected = []
    real = ServerSession.get_adapter

    def noted(self, url):
        connected.append((parse_url(url).host, parse_url(url).port))
        return real(self, url)

    monkeypatch.setattr(ServerSession, "get_adapter", noted)

    def answer(path, headers):
        link = [{"relation": "next", "url": url.format(port=stub.port)}] if len(stub.asked) < 2 else []
        return 200, {}, bundle(link=link)

    with stub_server(answer) as stub:
        with suppress(SourceError):
            stub_source(stub, tmp_path).sync()
        assert set(connected) <= {("127.0.0.1", stub.port)}


def test_a_nearly_full_volume_is_not_filled(tmp_path, monkeypatch):
    monkeypatch.setattr(mirror_module, "LEAST_FREE_BYTES", 2**60)
    with stub_server(Archive()) as server, pytest.raises(SourceError, match=r"is free for .*; free space, or narrow"):
        source(server, tmp_path).sync()
    assert not files(tmp_path)
