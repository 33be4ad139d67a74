"""Public test data in the cache: used offline once it is there, and never where it is not what was pinned."""

from __future__ import annotations

import base64
import hashlib
import io
import subprocess
import tarfile

import pytest

from simulations import public_files
from simulations.public_files import cached_package, fetch_package, package_cache


@pytest.fixture
def tarball(tmp_path, monkeypatch) -> bytes:
    """The pinned package "small" 1.0.0, not yet in the cache."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        entry = tarfile.TarInfo("package/a.txt")
        entry.size = 5
        tar.addfile(entry, io.BytesIO(b"hello"))
    digest = base64.b64encode(hashlib.sha512(packed.getvalue()).digest()).decode()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(public_files, "PACKAGES", {"small": ("1.0.0", digest)})
    return packed.getvalue()


def serve(monkeypatch, content: bytes) -> list[list[str]]:
    """npm as it would be; the calls of it."""
    calls: list[list[str]] = []

    def run(command, cwd, **options):
        calls.append(command)
        (public_files.Path(cwd) / "small-1.0.0.tgz").write_bytes(content)
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(public_files.shutil, "which", lambda name: "/usr/bin/npm")
    monkeypatch.setattr(public_files.subprocess, "run", run)
    return calls


def test_a_package_is_fetched_once_and_then_found_without_npm(tarball, monkeypatch):
    assert cached_package("small") is None
    calls = serve(monkeypatch, tarball)
    assert fetch_package("small") and fetch_package("small")
    assert len(calls) == 1 and calls[0][-1] == "small@1.0.0"
    folder = cached_package("small")
    assert folder is not None and (folder / "a.txt").read_text() == "hello"
    assert sorted(path.name for path in package_cache().iterdir()) == ["small-1.0.0", "small-1.0.0.tgz"]


def test_what_is_not_the_pinned_content_is_not_kept(tarball, monkeypatch):
    serve(monkeypatch, tarball + b"x")
    assert not fetch_package("small") and cached_package("small") is None
    assert list(package_cache().iterdir()) == []
    (package_cache() / "small-1.0.0.tgz").write_bytes(tarball[:-1])
    assert cached_package("small") is None


def test_no_npm_is_no_package(tarball, monkeypatch):
    monkeypatch.setattr(public_files.shutil, "which", lambda name: None)
    assert not fetch_package("small")
