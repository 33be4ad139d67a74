"""A site's sources from its configuration: order, names, places of the mirrors, and nothing loaded or asked early."""

from __future__ import annotations

import stat
import subprocess
import sys
from pathlib import Path

import pytest

from configs.site import PolicyConfig, SiteConfig
from configs.site_data import SourceConfig
from site_client.sources.dicomweb import DicomWebSource
from site_client.sources.dimse import DimseSource
from site_client.sources.fhir import FhirSource
from site_client.sources.interface import SourceError
from site_client.sources.open_source import open_sources
from site_client.sources.tables import FolderSource

ROOT = Path(__file__).resolve().parents[2]


def site(tmp_path: Path, data: str = "", *sources: SourceConfig) -> SiteConfig:
    return SiteConfig(site_id="site-001", data=data, state=str(tmp_path / "state"), base_model="b", invitation="i",
                      policy=PolicyConfig(max_epsilon=1.0), sources=list(sources))


def test_the_own_folder_is_first_and_the_others_follow(tmp_path):
    (tmp_path / "more").mkdir()
    found = open_sources(site(
        tmp_path, str(tmp_path), SourceConfig(kind="fhir", name="ris", url="https://ris.example/fhir"),
        SourceConfig(kind="dicomweb", name="pacs", url="https://pacs.example/dicom-web"),
        SourceConfig(kind="dimse", name="old", url="old.example:104", called_title="OLD"),
        SourceConfig(kind="folder", name="more", path=str(tmp_path / "more"))))
    assert [(type(source), source.name) for source in found] == [
        (FolderSource, "data"), (FhirSource, "ris"), (DicomWebSource, "pacs"), (DimseSource, "old"),
        (FolderSource, "more")]
    mirror = tmp_path / "state" / "index" / "mirror"
    assert [list(source.folders()) for source in found] == [
        [tmp_path / "dicom"], [], [mirror / "pacs" / "dicom"], [mirror / "old" / "dicom"],
        [tmp_path / "more" / "dicom"]]
    assert all(stat.S_IMODE(path.stat().st_mode) == 0o700 for path in (mirror, *mirror.iterdir()))
    assert not [one for source in found for one in (*source.reports(), *source.questions())]


def test_a_folder_that_does_not_exist_is_one_sentence(tmp_path):
    with pytest.raises(SourceError, match="data folder does not exist"):
        open_sources(site(tmp_path, str(tmp_path / "nowhere")))
    with pytest.raises(SourceError, match="more folder does not exist"):
        open_sources(site(tmp_path, "", SourceConfig(kind="folder", name="more", path=str(tmp_path / "nowhere"))))


def test_a_site_with_a_folder_loads_no_client_of_a_server(tmp_path):
    code = (f"import sys\nfrom configs.site import PolicyConfig, SiteConfig\n"
            f"from site_client.sources.open_source import open_sources\n"
            f"open_sources(SiteConfig(site_id='site-001', data={str(tmp_path)!r}, state='s', base_model='b', "
            f"invitation='i', policy=PolicyConfig(max_epsilon=1.0)))\n"
            f"print([name for name in ('dicomweb_client', 'requests', 'pynetdicom', 'torch', 'pydicom') "
            f"if name in sys.modules])\n")
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (result.returncode, result.stdout.strip()) == (0, "[]"), result.stderr
