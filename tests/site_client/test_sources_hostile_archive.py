"""A DICOMweb server that lies, stalls or attacks: nothing leaves the origin, fills the memory or leaves the mirror."""

from __future__ import annotations

import json
import logging
import resource
import time
from pathlib import Path

import pytest

from configs.site_data import SourceConfig
from site_client.sources import dicomweb, server_session
from site_client.sources.dicomweb import DicomWebSource
from site_client.sources.interface import SourceError
from tests.site_client.orthanc import secret_file
from tests.site_client.stub_server import Answer, StubServer, stub_server

FILE = b"\0" * 128 + b"DICM" + b"content of a file" * 1000
QIDO = {"Content-Type": "application/dicom+json"}
PART = b"--frontier\r\nContent-Type: application/dicom\r\n\r\n"
KIND = 'multipart/related; type="application/dicom"; boundary=frontier'


def element(**values: str) -> dict[str, object]:
    tags = {"study": "0020000D", "series": "0020000E", "sop": "00080018", "patient": "00100020"}
    return {tags[name]: {"vr": "UI", "Value": [value]} for name, value in values.items()}


class Archive:
    """An honest archive of one study with `sops`; a test replaces one of its answers."""

    def __init__(self, *sops: str) -> None:
        self.sops = sops or ("1.2.3",)

    def __call__(self, path: str, headers: dict[str, str]) -> Answer:
        assert "Accept" in headers
        if "/series/" in path:
            return self.file(path)
        first = "offset=0" in path or "offset" not in path
        return self.instances(first) if "/instances" in path else self.studies(first)

    def studies(self, first: bool) -> Answer:
        return self.listing([element(study="1.2", patient="P1")] if first else [])

    def instances(self, first: bool) -> Answer:
        return self.listing([element(sop=sop, series="1.2.9") for sop in self.sops] if first else [])

    def file(self, path: str) -> Answer:
        return 200, {"Content-Type": KIND}, PART + FILE + b"\r\n--frontier--\r\n"

    @staticmethod
    def listing(entries: object) -> Answer:
        return 200, QIDO, json.dumps(entries).encode()


def source(server: StubServer, tmp_path: Path, pauses: list[float] | None = None, **changes: object) -> DicomWebSource:
    values = {"kind": "dicomweb", "name": "pacs", "url": f"http://127.0.0.1:{server.port}/dicom-web", "timeout_s": 2.0,
              "page_size": 5} | changes
    if "secret_file" not in changes:
        values["secret_file"] = secret_file(tmp_path, "a-token")
    pauses = [] if pauses is None else pauses
    return DicomWebSource(SourceConfig(**values), tmp_path / "mirror", most_file_bytes=2**20, pause=pauses.append)


def files(tmp_path: Path) -> list[Path]:
    return [path for path in (tmp_path / "mirror" / "dicom").rglob("*") if path.is_file()]


def test_an_honest_archive_first(tmp_path):
    with stub_server(Archive("1.2.3", "1.2.4")) as server:
        assert source(server, tmp_path).sync().new == 2
    assert [path.read_bytes() for path in files(tmp_path)] == [FILE] * 2
    assert {headers["Authorization"] for _, headers in server.asked} == {"Bearer a-token"}
    assert {headers["Accept-Encoding"] for _, headers in server.asked} == {"identity"}
    assert {headers["Host"] for _, headers in server.asked} == {f"127.0.0.1:{server.port}"}


def test_a_password_is_sent_as_basic_login(tmp_path):
    with stub_server(Archive()) as server:
        source(server, tmp_path, user="site", secret_file=secret_file(tmp_path, "päss:word\n")).sync()
    assert {headers["Authorization"] for _, headers in server.asked} == {"Basic c2l0ZTpww6Rzczp3b3Jk"}


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_no_redirect_is_followed(tmp_path, status):
    with stub_server(Archive()) as other, stub_server(
            lambda path, headers: (status, {"Location": f"http://localhost:{other.port}{path}"}, b"")) as server:
        with pytest.raises(SourceError, match=rf"redirects \({status}\), which is not followed"):
            source(server, tmp_path).sync()
        assert not other.asked and len(server.asked) == 1


def test_nothing_of_the_environment_is_used(tmp_path, monkeypatch):
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login other password other\n")
    monkeypatch.setenv("NETRC", str(tmp_path / ".netrc"))
    with stub_server(lambda path, headers: (500, {}, b"")) as proxy, stub_server(Archive()) as server:
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
        assert source(server, tmp_path, secret_file="").sync().new == 1
        assert not proxy.asked and all("Authorization" not in headers for _, headers in server.asked)


@pytest.mark.parametrize("uid", ["../../../../etc/x", "..", "1/2", "1.2?x=1", "1.2#", "", "1" * 65, "1.2\n", "%2e%2e"])
def test_what_is_no_uid_is_never_asked_for(tmp_path, uid):
    archive = Archive()
    archive.studies = lambda first: Archive.listing([element(study=uid), element(study="1.2")] if first else [])
    with stub_server(archive) as server:
        synced = source(server, tmp_path).sync()
    assert (synced.new, synced.failed) == (1, 1)
    archive.sops = ("1.2.3", uid)
    (tmp_path / "second").mkdir()
    with stub_server(archive) as second:
        assert source(second, tmp_path / "second").sync().failed == 2
    for path, _ in server.asked + second.asked:
        assert ".." not in path and path.startswith(("/dicom-web/studies?", "/dicom-web/studies/1.2/"))
    assert {path.name for path in tmp_path.iterdir()} == {"mirror", "second", "secret"}


def test_a_file_longer_than_the_limit_fails_and_stays_out_of_memory(tmp_path):
    def endless():
        yield PART + FILE
        while True:
            yield b"x" * 2**20

    archive = Archive("1.2.3", "1.2.4")
    honest = archive.file
    archive.file = lambda path: (200, {"Content-Type": KIND}, endless()) if "1.2.3" in path else honest(path)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with stub_server(archive) as server:
        synced = source(server, tmp_path).sync()
    assert (synced.new, synced.failed, len(files(tmp_path))) == (1, 1, 1)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100 * 2**10
    assert not list((tmp_path / "mirror" / "partial").iterdir())


def test_a_listing_longer_than_the_limit_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(server_session, "MOST_ANSWER_BYTES", 2**16)
    with stub_server(lambda path, headers: (200, QIDO, iter([b"[" + b" " * 2**20] * 100))) as server, \
            pytest.raises(SourceError, match="longer than 65536 bytes; lower page_size"):
        source(server, tmp_path).sync()
    assert len(server.asked) == 1


@pytest.mark.parametrize(
    "body", [b"<html>Welcome</html>", b"[" * 100_000, b"[1]", b'"x"', b"[[]]", b"\xff\xfe", b"{", b"[null]"])
def test_what_is_not_dicomweb_is_one_sentence(tmp_path, body):
    with stub_server(lambda path, headers: (200, {"Content-Type": "text/html"}, body)) as server, \
            pytest.raises(SourceError, match="not as DICOMweb; url must be its root"):
        source(server, tmp_path).sync()


@pytest.mark.parametrize("values", [None, [], {}, "x", [None], [{}], [[1]], [{"Alphabetic": ["x"]}], 7])
def test_elements_of_any_shape_are_read(tmp_path, values):
    archive = Archive()
    archive.studies = lambda first: Archive.listing(
        [element(study="1.2") | {"00100010": {"Value": values}, "00100020": values}] if first else [])
    with stub_server(archive) as server:
        assert source(server, tmp_path).sync().new == 1


def test_a_page_that_comes_again_and_again_ends(tmp_path):
    archive = Archive()
    archive.studies = lambda first: Archive.listing([element(study=f"1.{k}") for k in range(5)])
    with stub_server(archive) as server, pytest.raises(SourceError, match="same page again and again; raise page_size"):
        source(server, tmp_path).sync()
    archive.studies = lambda first: Archive.listing([element(study=f"1.{k}") for k in range(7)])
    with stub_server(archive) as server:  # it ignores limit and offset, and says all at once
        assert source(server, tmp_path).sync().new == 7


def test_pages_without_an_end_end(tmp_path, monkeypatch):
    monkeypatch.setattr(dicomweb, "MOST_STUDIES", 50)
    count = iter(range(10**9))
    with stub_server(lambda path, headers: Archive.listing([element(study=f"1.{next(count)}") for _ in range(5)])) \
            as server, pytest.raises(SourceError, match="more than 50 entries; narrow"):
        source(server, tmp_path).sync()
    assert len(server.asked) < 15


@pytest.mark.parametrize(
    ("headers", "body", "new"),
    [
        ({"Content-Type": KIND}, PART + b"<html>no DICOM</html>" * 99 + b"\r\n--frontier--", 0),
        ({"Content-Type": KIND}, PART + b"short\r\n--frontier--", 0),
        ({"Content-Type": KIND}, PART + FILE, 0),
        ({"Content-Type": KIND}, b"no part at all", 0),
        ({"Content-Type": KIND}, b"", 0),
        ({"Content-Type": "text/html"}, FILE, 0),
        ({"Content-Type": "multipart/related"}, PART + FILE + b"\r\n--frontier--", 0),
        ({"Content-Type": "application/dicom"}, FILE, 1),
        ({"Content-Type": "application/dicom", "Content-Length": str(len(FILE) + 1)}, FILE, 0),
        ({"Content-Type": KIND, "Content-Encoding": "gzip"}, PART + FILE + b"\r\n--frontier--", None),
    ],
)
def test_only_whole_files_are_kept(tmp_path, headers, body, new):
    archive = Archive()
    archive.file = lambda path: (200, headers, iter([body]) if "Content-Length" in headers else body)
    with stub_server(archive) as server:
        if new is None:
            with pytest.raises(SourceError, match="compresses its answers although asked not to"):
                source(server, tmp_path).sync()
        else:
            synced = source(server, tmp_path, timeout_s=0.5).sync()
            assert (synced.new, synced.failed) == (new, 1 - new)
    assert [path.read_bytes() for path in files(tmp_path)] == [FILE] * bool(new)


@pytest.mark.parametrize("size", [1, 2, 3, 7, 11, 64])
def test_a_part_is_found_wherever_pieces_break(tmp_path, size):
    content = FILE[:140] + b"\r\n--frontie\r\n--fronti\r\n\r\n--frontierx"[:-2] + b"x\r\n-" + FILE[:50]
    body = b"preamble\r\n" + PART + content + b"\r\n--frontier--epilogue"
    content = body[len(b"preamble\r\n" + PART):].split(b"\r\n--frontier")[0]

    def chunked():
        for at in range(0, len(body), size):
            piece = body[at : at + size]
            yield f"{len(piece):x}\r\n".encode() + piece + b"\r\n"
        yield b"0\r\n\r\n"

    archive = Archive()
    archive.file = lambda path: (200, {"Content-Type": KIND, "Transfer-Encoding": "chunked"}, chunked())
    with stub_server(archive) as server:
        assert source(server, tmp_path).sync().new == 1
    assert [path.read_bytes() for path in files(tmp_path)] == [content]


@pytest.mark.parametrize("status", [500, 503, 429])
def test_a_fault_is_tried_again_with_longer_and_longer_pauses(tmp_path, status):
    pauses: list[float] = []
    left = [3]
    archive = Archive()

    def sometimes(path, headers):
        left[0] -= 1
        return (status, {"Retry-After": "99999"}, b"") if left[0] >= 0 else archive(path, headers)

    with stub_server(sometimes) as server:
        assert source(server, tmp_path, pauses).sync().new == 1
    assert pauses == [0.5, 1.0, 2.0]


def test_a_fault_that_stays_is_told_and_bounded(tmp_path):
    pauses: list[float] = []
    with stub_server(lambda path, headers: (503, {}, b"")) as server, \
            pytest.raises(SourceError, match=r"fault of its own \(503\); try again later"):
        source(server, tmp_path, pauses).sync()
    assert (len(server.asked), len(pauses)) == (5, 4)


def test_instances_that_the_server_cannot_give_do_not_stop_the_others(tmp_path):
    sops = [f"1.2.{k}" for k in range(10)]
    archive = Archive(*sops)
    honest = archive.file
    answers = {"1.2.3": (500, {}, b""), "1.2.4": (404, {}, b""), "1.2.5": (403, {}, b""), "1.2.6": (410, {}, b"")}
    archive.file = lambda path: answers.get(path.rsplit("/", 1)[1], honest(path))
    with stub_server(archive) as server:
        synced = source(server, tmp_path).sync()
        assert (synced.new, synced.failed) == (6, 4)
        assert (source(server, tmp_path).sync().known, len(files(tmp_path))) == (6, 6)


def test_a_login_that_expires_in_the_middle_keeps_what_came(tmp_path):
    archive = Archive("1.2.3", "1.2.4")
    honest = archive.file
    archive.file = lambda path: honest(path) if path.endswith("1.2.3") else (401, {}, b"")
    with stub_server(archive) as server, pytest.raises(SourceError, match=r"refuses the login \(401\)"):
        source(server, tmp_path).sync()
    assert len(files(tmp_path)) == 1


def test_a_server_that_drips_or_says_nothing_ends_in_time(tmp_path, monkeypatch):
    def drip():
        yield b"["
        while True:
            time.sleep(0.02)
            yield b" "

    def silent():
        time.sleep(1.5)
        yield b""

    begin = time.monotonic()
    for pieces, said in ((drip, "too slowly; raise timeout_s"), (silent, "does not answer|broke off")):
        with stub_server(lambda path, headers, pieces=pieces: (200, QIDO, pieces())) as server, \
                pytest.raises(SourceError, match=said):
            source(server, tmp_path, timeout_s=0.3).sync()
    assert time.monotonic() - begin < 30


def test_no_listing_of_instances_removes_none(tmp_path):
    archive = Archive("1.2.3")
    with stub_server(archive) as server:
        source(server, tmp_path).sync()
        archive.sops = ()
        archive.instances = lambda first: (204, {}, b"")
        source(server, tmp_path).sync()
        assert len(files(tmp_path)) == 1
        archive.instances = lambda first: Archive.listing([element(sop="1.9", series="1.8")] if first else [])
        assert source(server, tmp_path).sync().new == 1
        assert len(files(tmp_path)) == 1


def test_a_study_missing_from_the_listing_only_by_chance_stays(tmp_path):
    archive = Archive()
    with stub_server(archive) as server:
        source(server, tmp_path).sync()
        archive.studies = lambda first: Archive.listing([])
        server.answer = lambda path, headers: (
            Archive.listing([element(study="1.2")]) if "StudyInstanceUID=1.2" in path else archive(path, headers))
        source(server, tmp_path).sync()
        assert len(files(tmp_path)) == 1
        server.answer = archive
        source(server, tmp_path).sync()
        assert not files(tmp_path)


def test_no_identifier_is_logged(tmp_path, caplog):
    caplog.set_level(logging.DEBUG)
    archive = Archive("1.2.345678")
    archive.studies = lambda first: Archive.listing([element(study="1.2.777", patient="DOE")] if first else [])
    with stub_server(archive) as server:
        assert source(server, tmp_path).sync().new == 1
    assert "345678" not in caplog.text and "1.2.777" not in caplog.text and "a-token" not in caplog.text


@pytest.mark.parametrize(
    ("mode", "text", "said"),
    [(0o644, "x", r"readable by others \(mode 644\); run: chmod 600"), (0o600, "", "must hold one line"),
     (0o600, "a\nb", "must hold one line"), (0o600, "ä", "must hold one line"), (None, "", "does not exist")])
def test_a_secret_that_must_not_be_used(tmp_path, mode, text, said):
    path = tmp_path / "token"
    if mode is not None:
        path.write_text(text, encoding="utf-8")
        path.chmod(mode)
    with stub_server(Archive()) as server, pytest.raises(SourceError, match=said):
        source(server, tmp_path, secret_file=str(path)).sync()
    assert not server.asked
