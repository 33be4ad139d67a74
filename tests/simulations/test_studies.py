"""The tables and goals of `docs/results.md` follow from the rows' files."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from configs.load import load_config
from configs.schema import AdaptiveClipConfig, CurriculumConfig, SimulationConfig, StageConfig
from coordinator.manifest import solve_noise
from simulations.studies import tricks
from simulations.studies.results import summarise
from simulations.studies.tuning import scaled_stage


def row(right: int, *, privacy: bool = False) -> dict[str, Any]:
    """Ten patients a kind, the first `right` of them answered well."""
    test = {kind: {"correct": [int(n < right) for n in range(10)], "patients": [f"p{n}" for n in range(10)]}
            for kind in ("normal", "impression", "alike")}
    facts: dict[str, Any] = {"test": test, "seconds": 1.0, "rounds": [{"bytes_from_sites": {"a": 500_000}}] * 2}
    if privacy:
        facts["privacy"] = {"a": {"epsilon": 7.9, "delta": 1e-5}, "b": {"epsilon": 7.5, "delta": 1e-5}}
    return facts


def rows(base: int, federated: int, private: int) -> dict[str, Any]:
    return {"base": row(base), "pooled": row(federated), "federated": row(federated),
            "federated-dp": row(private, privacy=True)}


def test_goals_that_are_met_and_missed_are_told_apart() -> None:
    _, goals = summarise({0: rows(5, 9, 8), 1: rows(5, 9, 8)})
    assert [line for line, _ in goals] == [
        "goal normal-gain-points: 30.00 >= 8 ok", "goal normal-gap-points: 10.00 <= 6 short",
        "goal alike-share-of-gain: 0.75 >= 0.5 ok"]
    assert [met for _, met in goals] == [True, False, True]


def test_no_gain_without_privacy_leaves_the_share_short() -> None:
    _, goals = summarise({0: rows(8, 8, 8)})
    assert goals[-1] == ("goal alike-share-of-gain: nan >= 0.5 short", False)


def test_the_table_shows_each_seed_the_mean_and_paired_differences() -> None:
    text, _ = summarise({0: rows(5, 9, 8), 1: rows(7, 9, 8)})
    assert "| base | 50.0 | 70.0 | 60.0 ± " in text
    assert "- federated-dp minus base: +20.0 [" in text
    assert "| 0 | 7.900 | 1e-05 | 1.00 |" in text


# ------------------------------------------------------------------ choices at equal privacy


def instruction() -> StageConfig:
    curriculum = load_config(CurriculumConfig, "curriculum/three-stage.yaml")
    return next(stage for stage in curriculum.stages if stage.name == tricks.STAGE)


@pytest.mark.parametrize("name", tricks.CELLS)
def test_a_cell_changes_what_it_names_and_not_what_is_held_equal(name: str) -> None:
    stage, config = instruction(), load_config(SimulationConfig, "simulations/demo.yaml")
    changed, settings = tricks.cell_inputs(tricks.CELLS[name], stage, config, 2540)
    for held in ("sources", "groups", "local_steps", "sampling_rate", "rounds", "relative_noise"):
        assert getattr(changed, held) == getattr(stage, held)
    assert settings.privacy.target_epsilon == config.privacy.target_epsilon == 8.0
    assert settings.lora.alpha == 2 * settings.lora.rank
    same = (changed, settings) == (stage, config)
    assert same == (name == tricks.BASELINE)


def test_a_truncated_cell_pays_for_its_cap_with_noise() -> None:
    stage, config = replace(instruction(), rounds=2), load_config(SimulationConfig, "simulations/demo.yaml")
    noise = [solve_noise(CurriculumConfig(stages=[tricks.cell_inputs(tricks.CELLS[name], stage, config, 2540)[0]]),
                         8.0, 1e-5)[0] for name in (tricks.BASELINE, "truncated-1.6", "truncated-1.2")]
    assert noise[0] <= noise[1] < 1.05 * noise[0] < noise[2]


def test_the_public_stand_in_has_the_federations_noise_on_the_share_of_patients_too() -> None:
    """w = z C / sigma_b and the bit's noise over the expected patients both stay what they are."""
    stage = replace(instruction(), adaptive_clip=AdaptiveClipConfig(bit_noise=10.0))
    spec = scaled_stage(stage, 0.8, 0.1)
    assert spec.adaptive_clip is not None
    assert spec.noise_multiplier == pytest.approx(0.08) and spec.adaptive_clip.bit_noise == pytest.approx(1.0)
    without = scaled_stage(stage, None, 0.1)
    assert without.noise_multiplier == 0.0 and without.adaptive_clip is None


def cell(right: int, noise: float = 0.7) -> dict[str, Any]:
    return {"correct": [int(n < right) for n in range(10)], "patients_tested": [f"p{n}" for n in range(10)],
            "noise_multiplier": noise, "epsilon": 7.99, "delta": 1e-5, "rate": 5.0, "public_loss": 0.1, "seconds": 60.0}


def test_the_table_of_choices_compares_with_the_baseline_on_the_same_questions() -> None:
    rows = {"sgd": cell(5), "adamw": cell(8), "base": {"correct": [0] * 10, "patients_tested": ["p"] * 10}}
    text = tricks.summarise({0: rows, 1: rows}, rounds=6)
    baseline, adamw, base = [line.split(" | ") for line in text.splitlines() if line.startswith("|")][2:]
    assert baseline[1:5] == ["0.700", "7.99", "5", "0.1000"] and baseline[5].startswith("50.0 [")
    assert adamw[5].startswith("80.0 [") and adamw[6].startswith("+30.0 [")
    assert "0.0 [0.0, 0.0]" in " | ".join(base) and "-50.0 [" in " | ".join(base)
    assert all(line.count("|") == 8 for line in text.splitlines() if line.startswith("|"))
    assert "delta 1e-05" in text and "6 rounds of eight steps" in text
