"""One federation of real processes for each module, and the public materials that all of them share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from configs.load import load_config
from configs.schema import SimulationConfig
from simulations.materials import Materials, prepare
from simulations.real_federation import RealFederation


@pytest.fixture(scope="session")
def materials() -> Materials:
    """The smoke hospitals and base model, made once and kept in the cache folder."""
    return prepare(load_config(SimulationConfig, "configs/simulations/smoke.yaml", []), lambda what, done, total: None)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("real") / "federation"


@pytest.fixture(scope="module")
def federation(materials: Materials, folder: Path) -> Iterator[RealFederation]:
    """Four sites and a coordinator on 127.0.0.1, all ready."""
    with RealFederation(folder, materials) as running:
        yield running
