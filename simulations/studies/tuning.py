"""Learning rates from public data alone: a stand-in federation whose noise is that of the real one.

The public split plays the private sites: part of its patients train, the rest is scored. The stand-in has far fewer
patients than the sites, so its noise multiplier is scaled until the noise on the *mean* gradient equals the
federation's: sites that each add sigma C to their own sum give the weighted mean a noise of sigma C sqrt(S) / (q N)
(S sites, N declared patients). No private or test patient is read.

    python -m simulations.studies.tuning configs/simulations/demo.yaml --stage instruction --rates 1 2 4
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from configs.load import load_config
from configs.schema import CurriculumConfig, SimulationConfig, StageConfig
from coordinator.curriculum import RoundSummary, position_after
from coordinator.manifest import solve_noise, stage_spec
from model.adapted import AdaptedModel, open_adapted
from model.evaluate import evaluate
from model.example_file import KINDS, load_examples
from model.inputs import Example
from model.server_optimizer import moving_average
from model.spec import LoraSpec
from privacy.manifest import StageSpec, standard_delta
from privacy.statistics import LANES, LaneScale
from simulations.materials import Materials, prepare, public_split
from simulations.seeded import SeededEntropy
from site_client.training import EncodedPatient, LocalTask, run_local_steps

__all__ = ["Outcome", "StandIn", "main", "scaled_stage", "stand_in", "try_rate"]

SOURCE_OF = {"normal": "reports", "impression": "impressions", "alike": "patches"}


@dataclass(frozen=True)
class Outcome:
    """Accuracy and loss on public patients that the stand-in did not train on, by question kind."""

    rate: float
    private: bool
    accuracy: dict[str, float]
    loss: dict[str, float]


@dataclass(frozen=True)
class StandIn:
    """Encoded public patients, cut into a part that trains and a part that is scored (by question kind)."""

    train: list[EncodedPatient]
    held_out: dict[str, list[Example]]


def stand_in(adapted: AdaptedModel, examples: Sequence[Example], sources: Sequence[str], part: int) -> StandIn:
    """Every fourth patient (shifted by `part`) is held out; patients without the stage's sources are left out."""
    patients: dict[str, list[Example]] = {}
    for example in examples:
        if SOURCE_OF[_kind(example)] in sources:
            patients.setdefault(example.key, []).append(example)
    train: list[EncodedPatient] = []
    held_out: dict[str, list[Example]] = {}
    for number, key in enumerate(sorted(patients)):
        for example in patients[key] if number % 4 == part else []:
            held_out.setdefault(_kind(example), []).append(example)
        if number % 4 != part:
            groups: dict[str, list[Example]] = {}
            for example in patients[key]:
                groups.setdefault(SOURCE_OF[_kind(example)], []).append(example)
            train.append({source: adapted.encode(group) for source, group in groups.items()})
    return StandIn(train, held_out)


def _kind(example: Example) -> str:
    return KINDS[tuple(sorted(example.choices))]


def try_rate(
    adapted: AdaptedModel, data: StandIn, stage: StageConfig, config: SimulationConfig, *, noise: float | None,
    patients_with_source: int, sites: int, seed: int,
) -> Outcome:
    """Run `stage` on the stand-in from the base; `noise` is the federation's multiplier (None: no privacy).

    Args:
        patients_with_source: how many patients of all sites have a source of the stage.
    """
    adapted.write(adapted.initial)
    clip = config.privacy.clip_norm
    spec = scaled_stage(stage, noise, math.sqrt(sites) * len(data.train) / patients_with_source)
    unit = config.privacy.lane_share * clip / math.sqrt(len(LANES))
    average = adapted.initial
    for number in range(stage.rounds):
        position = position_after([RoundSummary(0, None)] * number, (spec,))
        if position is None:
            break
        selection = adapted.layout.select(stage.groups, position.factor)
        task = LocalTask(
            stage=spec, clip_norm=clip, private=noise is not None, lanes=LaneScale(unit, 1.0),
            lane_bound=config.privacy.lane_share * clip, expected_patients=stage.sampling_rate * len(data.train))
        run_local_steps(adapted, selection, data.train, task, SeededEntropy(seed, stage.name, str(number)))
        average = moving_average(average, adapted.read().astype(np.float32), number, config.federation.average_decay)
    adapted.write(average)
    scores = {kind: evaluate(adapted.model, adapted.encode(group)) for kind, group in data.held_out.items()}
    return Outcome(stage.learning_rate, noise is not None, {k: s.accuracy for k, s in scores.items()},
                   {k: s.loss for k, s in scores.items()})


def scaled_stage(stage: StageConfig, noise: float | None, share: float) -> StageSpec:
    """The stage with `share` of the federation's noise, on the bit of an adaptive clip too, and of a draw's cap."""
    adaptive, cut = stage.adaptive_clip, stage.truncation
    smaller = replace(
        stage, learning_rate_without_privacy=stage.learning_rate,
        adaptive_clip=adaptive and replace(adaptive, bit_noise=adaptive.bit_noise * share),
        truncation=cut and replace(cut, batch_size=max(1, round(cut.batch_size * share))))
    return stage_spec(smaller, 0.0 if noise is None else noise * share, noise is not None)


def main(argv: list[str] | None = None) -> None:
    """Print one JSON line a rate and mode: means over the parts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config")
    parser.add_argument("overrides", nargs="*")
    parser.add_argument("--stage", required=True)
    parser.add_argument("--rates", nargs="+", type=float, required=True, help="step per patient of the source, in C")
    parser.add_argument("--modes", nargs="+", choices=("dp", "none"), default=["dp", "none"])
    parser.add_argument("--parts", type=int, default=2)
    arguments = parser.parse_args(argv)
    config = load_config(SimulationConfig, arguments.config, arguments.overrides)
    curriculum = load_config(CurriculumConfig, config.curriculum)
    materials = prepare(config, lambda what, done, total: None)
    lora = LoraSpec(rank=config.lora.rank, alpha=config.lora.alpha, groups=tuple(config.lora.groups))
    adapted = open_adapted(str(materials.base_model), lora)
    noise = _noise_of(curriculum, config, materials, arguments.stage)
    stage = next(stage for stage in curriculum.stages if stage.name == arguments.stage)
    having = _patients_with(materials, set(stage.sources))
    total = sum(materials.declared.values())
    print(json.dumps({"stage": stage.name, "noise_multiplier": noise, "patients_with_source": having,
                      "declared": total}))
    for mode in arguments.modes:
        for rate in arguments.rates:
            outcomes = []
            for part in range(arguments.parts):
                data = stand_in(adapted, load_examples(public_split(config)), list(stage.sources), part)
                outcomes.append(try_rate(
                    adapted, data, replace(stage, learning_rate=rate), config,
                    noise=noise if mode == "dp" else None, patients_with_source=having,
                    sites=len(materials.declared), seed=part))
            print(json.dumps({
                "mode": mode, "rate": rate, "learning_rate_in_file": rate * total / having,
                "accuracy": {k: float(np.mean([o.accuracy[k] for o in outcomes])) for k in outcomes[0].accuracy},
                "loss": {k: float(np.mean([o.loss[k] for o in outcomes])) for k in outcomes[0].loss}}), flush=True)


def _noise_of(
    curriculum: CurriculumConfig, config: SimulationConfig, materials: Materials, stage: str
) -> float:
    delta = min(standard_delta(count) for count in materials.declared.values())
    multipliers = solve_noise(curriculum, config.privacy.target_epsilon, delta)
    return dict(zip([s.name for s in curriculum.stages], multipliers, strict=True))[stage]


def _patients_with(materials: Materials, sources: set[str]) -> int:
    """From the simulated hospitals' own public facts: how many patients of all sites have one of `sources`."""
    counts = json.loads((Path(materials.hospitals) / "manifest.json").read_text())["counts"]
    sites = [counts[site] for site in materials.declared]
    reports = sum(site["reports"] for site in sites) if sources & {"reports", "impressions"} else 0
    return reports + (sum(site["images"] for site in sites) if "patches" in sources else 0)


if __name__ == "__main__":
    main()
