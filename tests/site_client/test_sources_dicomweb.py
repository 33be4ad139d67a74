"""DICOMweb against a real Orthanc with real files: what comes, what is kept, and what a kill leaves."""

from __future__ import annotations

import os
import signal
import sqlite3
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest
from pydicom import dcmread

from site_client.sources import archive as following
from site_client.sources.dicomweb import DicomWebSource
from site_client.sources.interface import SourceError
from site_client.sources.mirror import MirrorWriter
from tests.site_client.orthanc import archive, real_files, secret_file, web_config

pytestmark = pytest.mark.slow
__all__ = ["archive"]
ROOT = Path(__file__).resolve().parents[2]


def source(archive, tmp_path, **changes) -> DicomWebSource:
    return DicomWebSource(web_config(archive, tmp_path, **changes), tmp_path / "mirror", pause=lambda seconds: None)


def held(tmp_path) -> list[Path]:
    return sorted((tmp_path / "mirror" / "dicom").rglob("*.dcm"))


def listed(tmp_path) -> int:
    with sqlite3.connect(tmp_path / "mirror" / "instances.sqlite") as database:
        return database.execute("SELECT count(*) FROM instances").fetchone()[0]


def header(path: Path):
    return dcmread(path, stop_before_pixels=True, force=True)


def instances(archive) -> int:
    return archive.ask("GET", "statistics").json()["CountInstances"]


def test_all_real_files_come_and_only_new_ones_come_again(archive, tmp_path):
    files = real_files()
    assert archive.store(files[::2]) > 60
    site, first, steps = source(archive, tmp_path), instances(archive), []
    assert site.sync(lambda done, known: steps.append((done, known))).new == first == len(held(tmp_path))
    assert steps[-1][0] == steps[-1][1] == archive.ask("GET", "statistics").json()["CountStudies"]
    assert source(archive, tmp_path).sync().known == first

    archive.store(files)
    times = {path: path.stat().st_mtime_ns for path in held(tmp_path)}
    synced = site.sync()
    assert (synced.known, synced.new, synced.failed) == (first, instances(archive) - first, 0)
    assert all(path.stat().st_mtime_ns == before for path, before in times.items())
    assert site.folders() == [tmp_path / "mirror" / "dicom"]
    assert (list(site.reports()), list(site.questions())) == ([], [])


def test_files_come_as_they_are_stored_and_only_the_owner_reads_them(archive, tmp_path):
    archive.store(real_files())
    assert source(archive, tmp_path).sync().failed == 0
    headers = [header(path) for path in held(tmp_path)]
    stored = {found.SOPInstanceUID: found for path in real_files() if (found := header(path)).get("SOPInstanceUID")}
    syntaxes = {str(found.file_meta.TransferSyntaxUID) for found in headers}
    assert {"1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.5", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2"} <= syntaxes
    assert {found.get("PatientID") for found in headers} <= {found.get("PatientID") for found in stored.values()}
    for found, path in zip(headers, held(tmp_path), strict=True):
        names = {part for place in path.relative_to(tmp_path / "mirror").parts for part in (place, place[:-4])}
        assert not names & {found.get(keyword) for keyword in (
            "PatientID", "StudyInstanceUID", "SOPInstanceUID", "AccessionNumber")}
    for path in (tmp_path / "mirror").rglob("*"):
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path
    assert stat.S_IMODE((tmp_path / "mirror").stat().st_mode) == 0o700


def test_modalities_and_days_choose_studies_and_their_instances(archive, tmp_path):
    archive.store(real_files())
    source(archive, tmp_path, modalities=["CT", "CR"]).sync()
    found = [header(path) for path in held(tmp_path)]
    assert {one.Modality for one in found} == {"CT", "CR"}
    days = sorted(one.StudyDate for one in found if one.StudyDate)
    since = days[len(days) // 2]
    late = DicomWebSource(web_config(archive, tmp_path, modalities=["CT", "CR"],
                                     since=f"{since[:4]}-{since[4:6]}-{since[6:]}"), tmp_path / "late")
    assert late.sync().new == sum(day >= since for day in days) < len(found)


def test_what_the_archive_deletes_and_corrects_changes_here(archive, tmp_path):
    archive.store(real_files()[::3])
    site = source(archive, tmp_path)
    before = site.sync().new
    study = archive.ask("GET", "studies?expand").json()[0]
    gone = len(archive.ask("GET", f"studies/{study['ID']}/instances").json())
    archive.ask("DELETE", f"studies/{study['ID']}")
    synced = site.sync()
    assert (synced.new, synced.known, len(held(tmp_path)), listed(tmp_path)) == (0, before - gone, *[before - gone] * 2)

    # As an archive does after a mix-up of patients: the same UIDs under another ID.
    other = archive.ask("GET", "studies?expand").json()[0]
    uid = other["MainDicomTags"]["StudyInstanceUID"]
    changed = [dcmread(path) for path in held(tmp_path) if header(path).get("StudyInstanceUID") == uid]
    archive.ask("DELETE", f"studies/{other['ID']}")
    for number, dataset in enumerate(changed):
        dataset.PatientID = "CORRECTED-7"
        dataset.save_as(tmp_path / f"{number}.dcm")
    assert archive.store(tmp_path.glob("*.dcm")) == len(changed)
    synced = site.sync()
    corrected = [path for path in held(tmp_path) if header(path).get("PatientID") == "CORRECTED-7"]
    assert len(corrected) == synced.new > 0 and synced.new + synced.known == instances(archive) == listed(tmp_path)


def test_an_archive_that_lost_most_of_its_studies_removes_nothing(archive, tmp_path):
    archive.store(real_files()[::3])
    site = source(archive, tmp_path)
    before = site.sync().new
    for study in archive.ask("GET", "studies").json()[3:]:
        archive.ask("DELETE", f"studies/{study}")
    with pytest.raises(SourceError, match=r"no longer lists .* so none was removed; if that is right, remove"):
        site.sync()
    assert len(held(tmp_path)) == before


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"secret": "wrong"}, r"refuses the login \(401\); check user"),
        ({"path": "/dicom-wob"}, r"answers 404; check url\. It must be the root of DICOMweb"),
        ({"path": "/system"}, "check url"),
        ({"path": "/app/explorer.html"}, "check url"),
        ({"url": "http://127.0.0.1:9/dicom-web"}, "cannot be reached"),
        ({"url": "https://archive.invalid/dicom-web"}, "not known to DNS"),
    ],
)
def test_a_wrong_setting_is_one_sentence(archive, tmp_path, change, said):
    url = change.get("url", archive.url + change.get("path", "/dicom-web"))
    config = web_config(archive, tmp_path, url=url)
    if "secret" in change:
        secret_file(tmp_path, change["secret"])
    with pytest.raises(SourceError, match=said) as caught:
        DicomWebSource(config, tmp_path / "mirror", pause=lambda seconds: None).sync()
    assert archive.password not in str(caught.value) and "\n" not in str(caught.value)


def test_tls_is_asked_of_a_server_that_speaks_none(archive, tmp_path):
    config = web_config(archive, tmp_path, url=archive.dicomweb_url.replace("http:", "https:"))
    with pytest.raises(SourceError, match="certificate cannot be verified, or it speaks no TLS"):
        DicomWebSource(config, tmp_path / "mirror", pause=lambda seconds: None).sync()


def test_an_archive_killed_in_a_transfer_costs_the_file_in_flight(archive, tmp_path, monkeypatch):
    archive.store(real_files()[::3])
    keep, kept = MirrorWriter.keep, []

    def killing(self, study, instance, mark, pieces):
        if len(kept) == 20:
            pieces = cut(pieces)
        keep(self, study, instance, mark, pieces)
        kept.append(instance)

    def cut(pieces):
        yield next(pieces)
        archive.kill()
        yield from pieces

    monkeypatch.setattr(MirrorWriter, "keep", killing)
    # One try and one silence: what the test looks at is the file in flight, not the patience before.
    monkeypatch.setattr(following, "MOST_SILENCES", 1)
    with pytest.raises(SourceError, match=r"broke|reached"):
        source(archive, tmp_path).sync()
    assert len(kept) == len(held(tmp_path)) == listed(tmp_path) and len(kept) in (20, 21)
    assert list((tmp_path / "mirror" / "partial").iterdir()) == []

    before = len(kept)
    archive.start()
    synced = source(archive, tmp_path).sync()
    assert (synced.known, synced.new, synced.failed) == (before, instances(archive) - before, 0)
    assert len(set(kept)) == len(kept) == instances(archive)  # nothing came twice


def test_an_archive_that_comes_back_in_time_is_not_noticed(archive, tmp_path):
    archive.store(real_files()[::4])
    pauses: list[float] = []

    def restart(seconds: float) -> None:
        pauses.append(seconds)
        archive.start()

    site = DicomWebSource(web_config(archive, tmp_path), tmp_path / "mirror", pause=restart)
    synced = site.sync(lambda done, known: archive.kill() if done == 3 else None)
    assert (synced.new, synced.failed, len(pauses)) == (instances(archive), 0, 1)


def test_a_site_killed_in_a_sync_goes_on_where_it_was(archive, tmp_path):
    archive.store(real_files()[::3])
    config = web_config(archive, tmp_path)
    code = (f"from configs.site_data import SourceConfig\nfrom pathlib import Path\n"
            f"from site_client.sources.dicomweb import DicomWebSource\n"
            f"DicomWebSource(SourceConfig(kind='dicomweb', name='pacs', url={config.url!r}, user={config.user!r}, "
            f"secret_file={config.secret_file!r}, page_size=10), Path({str(tmp_path / 'mirror')!r})).sync()\n")
    process = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)})
    while len(held(tmp_path)) < 30 and process.poll() is None:
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    before = listed(tmp_path)
    assert before <= len(held(tmp_path)) <= before + 1
    assert all(path.stat().st_size == len(path.read_bytes()) > 132 for path in held(tmp_path))
    synced = source(archive, tmp_path).sync()
    assert (synced.known, synced.new) == (before, instances(archive) - before)
    assert list((tmp_path / "mirror" / "partial").iterdir()) == []


def test_two_syncs_at_once_do_not_mix(archive, tmp_path):
    archive.store(real_files()[:4])
    site, errors = source(archive, tmp_path), []

    def second(done: int, known: int) -> None:
        with pytest.raises(SourceError, match="another process syncs into") as caught:
            source(archive, tmp_path).sync()
        errors.append(caught)

    assert site.sync(second).failed == 0 and errors
