"""One recorded folder for all, and a console on it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from coordinator.console.app import Console
from tests.coordinator.console.homes import log_in, make_recorded, serving


@pytest.fixture(scope="session")
def recorded_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Not to be changed: copy it."""
    return make_recorded(tmp_path_factory.mktemp("recorded"))


@pytest.fixture(scope="module")
def served(recorded_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Console, TestClient]]:
    with serving(recorded_home, tmp_path_factory.mktemp("store")) as (console, client):
        yield console, client


@pytest.fixture
def stranger(served: tuple[Console, TestClient]) -> TestClient:
    """A browser without a session."""
    served[1].cookies.clear()
    return served[1]


@pytest.fixture
def client(served: tuple[Console, TestClient]) -> TestClient:
    """A browser with one."""
    served[1].cookies.clear()
    served[0].brake._failed.clear()
    return log_in(served[1])
