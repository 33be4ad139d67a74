"""The bundle that stands for a run: the same bytes everywhere, no code in it, and Flower accepts it."""

from __future__ import annotations

import hashlib
import io
import zipfile

from privacy.transport.app_bundle import RUN_KEY, app_bundle, bundle_hash


def test_the_same_release_gives_the_same_bytes_and_another_one_others():
    assert app_bundle("ab" * 32) == app_bundle("ab" * 32)
    assert bundle_hash("ab" * 32) == hashlib.sha256(app_bundle("ab" * 32)).hexdigest()
    assert bundle_hash("ab" * 32) != bundle_hash("cd" * 32)


def test_it_holds_no_code_and_nothing_that_depends_on_the_machine():
    with zipfile.ZipFile(io.BytesIO(app_bundle("ab" * 32))) as archive:
        assert archive.namelist() == ["pyproject.toml", "RELEASE"]
        assert {entry.date_time for entry in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}
        assert {entry.compress_type for entry in archive.infolist()} == {zipfile.ZIP_STORED}


def test_flower_accepts_it_with_one_setting():
    from flwr.common.config import get_fab_config

    app = get_fab_config(app_bundle("ab" * 32))["tool"]["flwr"]["app"]
    assert app["config"] == {RUN_KEY: ""}
    assert app["components"] == {"serverapp": "coordinator.app:app", "clientapp": "site_client.app:app"}
