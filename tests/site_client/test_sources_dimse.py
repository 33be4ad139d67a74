"""C-FIND and C-GET against a real Orthanc; what an archive that refuses, lies or dies does."""

from __future__ import annotations

import socket
import sys
import threading
from pathlib import Path

import pytest
from pydicom import dcmread
from pynetdicom.dimse import DIMSEServiceProvider

from configs.site_data import SourceConfig
from site_client.sources import archive as following
from site_client.sources import dimse
from site_client.sources.dimse import DimseSource
from site_client.sources.interface import SourceError
from site_client.sources.mirror import MirrorWriter
from tests.site_client.orthanc import archive, dimse_config, real_files

__all__ = ["archive"]


def source(archive, tmp_path, **changes) -> DimseSource:
    return DimseSource(dimse_config(archive, **changes), tmp_path / "mirror", pause=lambda seconds: None)


def held(tmp_path) -> list[Path]:
    return sorted((tmp_path / "mirror" / "dicom").rglob("*.dcm"))


@pytest.mark.slow
def test_real_files_come_in_their_own_syntax_and_once(archive, tmp_path):
    archive.store(real_files())
    total = archive.ask("GET", "statistics").json()["CountInstances"]
    synced = source(archive, tmp_path).sync()
    assert synced.new == len(held(tmp_path)) and synced.new + synced.failed == total and synced.failed <= 2
    assert source(archive, tmp_path).sync().known == synced.new
    headers = [dcmread(path, stop_before_pixels=True) for path in held(tmp_path)]
    syntaxes = {str(header.file_meta.TransferSyntaxUID) for header in headers}
    assert {"1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.4.70", "1.2.840.10008.1.2.5"} <= syntaxes
    given = [dcmread(path, stop_before_pixels=True, force=True) for path in real_files()]
    stored = {(str(header.get("SOPInstanceUID")), str(header.file_meta.get("TransferSyntaxUID"))) for header in given}
    compressed = [header for header in headers if str(header.file_meta.TransferSyntaxUID) in dimse._COMPRESSED]
    assert len(compressed) > 15
    assert all((str(header.SOPInstanceUID), str(header.file_meta.TransferSyntaxUID)) in stored for header in compressed)


@pytest.mark.slow
def test_modalities_days_deletions_and_corrections(archive, tmp_path):
    archive.store(real_files()[::3])
    site = source(archive, tmp_path, modalities=["CT", "MR"])
    first = site.sync().new
    found = [dcmread(path, stop_before_pixels=True) for path in held(tmp_path)]
    assert {header.Modality for header in found} == {"CT", "MR"} and len(found) == first
    gone = next(study for study in archive.ask("GET", "studies?expand").json()
                if study["MainDicomTags"]["StudyInstanceUID"] == found[0].StudyInstanceUID)
    archive.ask("DELETE", f"studies/{gone['ID']}")
    assert site.sync().new == 0
    assert {dcmread(path, stop_before_pixels=True).StudyInstanceUID for path in held(tmp_path)} == {
        header.StudyInstanceUID for header in found} - {found[0].StudyInstanceUID}
    late = DimseSource(dimse_config(archive, since="2100-01-01"), tmp_path / "late")
    assert late.sync().new == 0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changes", "said"),
    [({"called_title": "NOBODY"}, "rejects the association: it is not named by called_title"),
     ({"url": "127.0.0.1:9"}, "no association with the archive"), ({"url": "nowhere.invalid:104"}, "no association")])
def test_a_wrong_setting_is_one_sentence(archive, tmp_path, changes, said):
    with pytest.raises(SourceError, match=said):
        source(archive, tmp_path, **changes).sync()


@pytest.mark.slow
def test_an_archive_killed_in_between_costs_nothing_that_came(archive, tmp_path, monkeypatch):
    archive.store(real_files()[::3])
    keep, kept = MirrorWriter.keep, []

    def killing(self, study, instance, mark, pieces):
        keep(self, study, instance, mark, pieces)
        kept.append(instance)
        if len(kept) == 20:
            archive.kill()

    monkeypatch.setattr(MirrorWriter, "keep", killing)
    with pytest.raises(SourceError, match=r"no association|does not answer"):
        source(archive, tmp_path).sync()
    assert len(held(tmp_path)) == 20
    archive.start()
    synced = source(archive, tmp_path).sync()
    assert synced.known == 20 and len(set(kept)) == len(kept) == 20 + synced.new


@pytest.mark.slow
def test_an_answer_that_the_library_loses_is_asked_for_again(archive, tmp_path, monkeypatch):
    archive.store(real_files()[::6])
    total = archive.ask("GET", "statistics").json()["CountInstances"]
    get, lost = DIMSEServiceProvider.get_msg, []

    def losing(self, block=False):
        context, message = get(self, block)
        if len(lost) < 3 and getattr(message, "Status", None) == 0xFF00 and message.__class__.__name__ == "C_FIND":
            lost.append(message)
            return get(self, block)
        return context, message

    monkeypatch.setattr(DIMSEServiceProvider, "get_msg", losing)
    assert source(archive, tmp_path).sync().new == total and len(lost) == 3


@pytest.mark.slow
def test_a_file_above_the_limit_fails_and_the_others_come(archive, tmp_path, monkeypatch):
    small = sorted(real_files(), key=lambda path: path.stat().st_size)
    archive.store([*small[40:70], small[-1]])
    monkeypatch.setattr(following, "MOST_SILENCES", 1000)
    limit = small[-1].stat().st_size // 2
    site = DimseSource(dimse_config(archive), tmp_path / "mirror", most_file_bytes=limit, pause=lambda seconds: None)
    synced = site.sync()
    assert synced.failed == 1 and synced.new > 10
    assert all(path.stat().st_size <= limit + 2**16 for path in held(tmp_path))


def config(port: int, **changes: object) -> SourceConfig:
    values = {"kind": "dimse", "name": "pacs", "url": f"127.0.0.1:{port}", "called_title": "X", "timeout_s": 0.5}
    return SourceConfig(**values | changes)


def test_the_library_is_an_extra_and_its_absence_one_sentence(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pynetdicom", None)
    with pytest.raises(SourceError, match=r"pynetdicom is missing; run: pip install 'federated-medgpt\[dimse\]'"):
        DimseSource(config(104), tmp_path)


@pytest.mark.parametrize("url", ["pacs", "pacs:0", "pacs:99999", "http://pacs:104", ":104", "pacs:104/x"])
def test_an_address_that_is_none(tmp_path, url):
    with pytest.raises(SourceError, match="url must be HOST:PORT"):
        DimseSource(config(104, url=url), tmp_path)


@pytest.mark.parametrize("answer", [
    b"", b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\x03\x00\x00\x00\x00\x04\x00\x01\x01\x01", b"\xff" * 64])
def test_a_peer_that_does_not_speak_dicom_is_one_sentence(tmp_path, answer):
    def serve():
        for _ in range(5):
            try:
                peer, _ = listener.accept()
            except OSError:
                return
            peers.append(peer)
            peer.sendall(answer)

    peers: list[socket.socket] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        with pytest.raises(SourceError, match=r"no association with the archive|rejects the association"):
            DimseSource(config(listener.getsockname()[1]), tmp_path / "m", pause=lambda seconds: None).sync()
    for peer in peers:
        peer.close()
