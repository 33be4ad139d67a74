"""Releases of one small run, and the command that verifies them."""

from __future__ import annotations

import pytest

import coordinator.cli
from tests.coordinator.release_bench import Bench, Verify


@pytest.fixture(scope="session")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return Bench(tmp_path_factory.mktemp("releases"))


@pytest.fixture
def verify(capsys: pytest.CaptureFixture[str]) -> Verify:
    """`coordinator verify-release FOLDER WORDS ...`: exit code, output, one line of error where it is not 0."""

    def call(folder: object, *more: object) -> tuple[int, str, str]:
        capsys.readouterr()
        code = coordinator.cli.main(["verify-release", str(folder), *map(str, more)])
        printed = capsys.readouterr()
        assert printed.err.count("\n") == (code != 0), printed.err
        return code, printed.out, printed.err

    return call
