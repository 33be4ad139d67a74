"""A tiny real federation for tests: real reports and patches, a base model trained for seconds, four sites."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from configs.load import load_config
from configs.schema import CurriculumConfig, FaultConfig, SimulationConfig
from model.adapted import open_adapted
from model.adapter import adapter_hash
from model.spec import LoraSpec
from simulations.federation import FederationFiles, lay_out
from simulations.materials import Materials, prepare

QUICK = [
    "data.max_reports=120", "data.max_images=16", "data.num_public_reports=60", "data.num_public_images=8",
    "data.num_test_reports=30", "data.num_test_images=4", "evaluation.public_questions=10",
    "base.epochs={normal: 1, impression: 0, alike: 1, free: 0}", "site_min_patients=10",
]


@dataclass(frozen=True)
class Prepared:
    """Configuration and materials that federations of a test share."""

    config: SimulationConfig
    materials: Materials


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Iterator[Prepared]:
    """Made once for all workers, in a folder beside theirs, which is the cache folder while the module's tests run."""
    root = tmp_path_factory.getbasetemp()
    cache = (root if worker_id == "master" else root.parent) / "cache"
    config = load_config(SimulationConfig, "configs/simulations/smoke.yaml", QUICK)
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("XDG_CACHE_HOME", str(cache))
        yield Prepared(config, prepare(config, lambda what, done, total: None))


Make = Callable[..., FederationFiles]


@pytest.fixture
def federation(prepared: Prepared, tmp_path: Path) -> Make:
    """Lays out one federation: `federation(mode=..., folder=..., audit=...)`."""

    def make(
        mode: str = "patient-dp", folder: str = "federation", audit: Path | None = None
    ) -> FederationFiles:
        materials, config = prepared.materials, prepared.config
        lora = LoraSpec(rank=config.lora.rank, alpha=config.lora.alpha, groups=tuple(config.lora.groups))
        adapted = open_adapted(str(materials.base_model), lora)
        return lay_out(
            tmp_path / folder, config, load_config(CurriculumConfig, config.curriculum),
            hospitals=materials.hospitals, declared=materials.declared, base_model=materials.base_model,
            base_hash=materials.base_hash, adapter_hash=adapter_hash(adapted.initial),
            public_examples=materials.public_examples, mode=mode,  # type: ignore[arg-type]
            audit=audit)

    return make


@pytest.fixture
def without_faults(prepared: Prepared) -> SimulationConfig:
    return replace(prepared.config, faults=[])


def lost(site: str, round_number: int, step: str) -> list[FaultConfig]:
    """One message that the network loses."""
    return [FaultConfig(site=site, round=round_number, at=step)]
