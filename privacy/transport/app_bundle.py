"""The bundle that stands for a run at Flower: it names a release and holds no code.

*Guarantees.* The same release gives the same bytes on every machine (fixed times, nothing compressed), so each side
computes what the bundle's hash must be and compares.

*Assumes.* Executors never unpack or import a bundle: they run what is installed, if the hash is the expected one.

*Does not cover.* What the installed release does; `privacy.release` says which one it is.
"""

from __future__ import annotations

import hashlib
import io
import zipfile

__all__ = ["RUN_KEY", "app_bundle", "bundle_hash"]

RUN_KEY = "run"  # the bundle's only setting: the run's name, for the coordinator's executor
_LONG_AGO = (1980, 1, 1, 0, 0, 0)
_PROJECT = """\
[project]
name = "federated-medgpt"
version = "1.0.0"
description = "Names the release {release}. It holds no code: each side runs what it has installed."
license = "Apache-2.0"
dependencies = []

[tool.flwr.app]
publisher = "federated-medgpt"

[tool.flwr.app.components]
serverapp = "coordinator.app:app"
clientapp = "site_client.app:app"

[tool.flwr.app.config]
run = ""
"""


def app_bundle(release: str) -> bytes:
    """A Flower app bundle (zip) that names `release` (hex)."""
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
        for name, text in (("pyproject.toml", _PROJECT.format(release=release)), ("RELEASE", f"{release}\n")):
            entry = zipfile.ZipInfo(name, date_time=_LONG_AGO)
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, text)
    return target.getvalue()


def bundle_hash(release: str) -> str:
    """SHA-256 (hex) of :func:`app_bundle`."""
    return hashlib.sha256(app_bundle(release)).hexdigest()
