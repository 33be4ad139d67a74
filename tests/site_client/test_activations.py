"""The site's cache of activations: filled before a step, forgotten with the patient, refused where it cannot be."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from configs.schema import ConfigError, PolicyConfig, SiteConfig
from model.adapted import AdaptedModel, adapted_from
from model.backbone import BaseModel, build
from model.inputs import Encoded, Example, collate
from model.spec import LoraSpec
from model.tokenizer import train_tokenizer
from site_client.activations import Activations
from site_client.mechanism import EncodedPatient
from tests.model.conftest import MICRO

CONFIG = SiteConfig(site_id="site-1", data="data", state="state", base_model="base", policy=PolicyConfig(max_epsilon=8),
                    invitation="invitation.json")


def model(layers: int) -> AdaptedModel:
    spec = replace(MICRO, num_layers=3, adapted_layers=layers)
    base = BaseModel(build(spec, seed=3), train_tokenizer(["Findings: large heart"], spec.vocab_size), spec, bytes(32))
    return adapted_from(base, LoraSpec(rank=2, groups=("attention",)))


@pytest.fixture(scope="module")
def adapted() -> AdaptedModel:
    return model(2)


def patients(adapted: AdaptedModel, count: int) -> list[tuple[str, EncodedPatient]]:
    return [(f"p{number}", {"questions": adapted.encode([Example(f"Findings: heart {number}", "large")])})
            for number in range(count)]


def files(folder: Path) -> list[Path]:
    return sorted(folder.glob("??/*.npy"))


def test_it_is_filled_for_everybody_and_forgets_who_takes_no_part(adapted: AdaptedModel, tmp_path: Path) -> None:
    cache = Activations.of(replace(CONFIG, activations=str(tmp_path / "kept")), adapted)
    assert cache is not None
    attached = [patient for _, patient in cache.attach(patients(adapted, 3))]
    cache.settle(attached)
    assert len(files(tmp_path / "kept")) == 3
    made = [path.stat().st_mtime_ns for path in files(tmp_path / "kept")]
    cache.settle(attached)
    assert [path.stat().st_mtime_ns for path in files(tmp_path / "kept")] == made
    cache.settle(attached[1:])  # an opt-out while the site runs
    assert len(files(tmp_path / "kept")) == 2
    sample: Encoded = attached[1]["questions"][0]
    assert collate([sample]).states is not None

    again = Activations.of(replace(CONFIG, activations=str(tmp_path / "kept")), adapted)  # after a restart
    assert again is not None
    again.settle([patient for _, patient in again.attach(patients(adapted, 2))])
    assert len(files(tmp_path / "kept")) == 2


def test_in_memory_nothing_is_written(adapted: AdaptedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    cache = Activations.of(replace(CONFIG, activations="memory"), adapted)
    assert cache is not None
    cache.settle([patient for _, patient in cache.attach(patients(adapted, 2))])
    assert not list(tmp_path.iterdir())
    assert Activations.of(CONFIG, adapted) is None


def test_where_it_cannot_be_is_told(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no layer of this base is frozen"):
        Activations.of(replace(CONFIG, activations="memory"), model(0))
    with pytest.raises(ConfigError, match="one process and one device"):
        replace(CONFIG, activations="memory", processes=2)
