"""`simulate ablate`: the private federation of a simulation file, and the same without one of its parts at a time.

Each row is an arm of `simulations.arms`, with its own curriculum file where that differs; a finished row is kept, so a
stopped ablation goes on. What a row leaves out:

- vision: the base's patch embedding is zero in training and test (`simulations.blind_vision`).
- projector: no LoRA on the projector; a stage that trains nothing else is left out.
- stage NAME: that stage, each in a row of its own. The noise is solved again for the rounds that remain.
- privacy: no noise, with the curriculum's learning rates without privacy; clipping stays.
- secure aggregation: plain sums of the same noised updates (`simulations.plain_sums`).
- alternation: both LoRA factors in every round.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console

from configs.ablation import AblationConfig
from configs.load import load_config
from configs.schema import CurriculumConfig, SimulationConfig, StageConfig
from simulations.arms import ArmJob, run_arm
from simulations.materials import Materials, prepare
from simulations.run import SimulationFailedError

__all__ = ["BASE", "FULL", "QUICK_SETTINGS", "Variant", "ablation_rows", "run_ablation", "variants"]

FULL, BASE = "full", "base"
_QUICK_DATA = (
    "data.max_reports=120", "data.max_images=16", "data.num_public_reports=60", "data.num_public_images=8",
    "data.num_test_reports=30", "data.num_test_images=4", "evaluation.public_questions=10",
    "base.epochs={normal: 1, impression: 0, alike: 1, free: 0}", "site_min_patients=10",
)
QUICK_SETTINGS = ("name=ablate-quick", "simulation=simulations/smoke.yaml", "seeds=[0]",
                  "settings=" + json.dumps(list(_QUICK_DATA)))
"""Settings of `--quick`: seconds a row, to see that everything works; its numbers say nothing."""


@dataclass(frozen=True)
class Variant:
    """One row: its name, what is left out (in words), the arm that trains it, and its stages and LoRA groups."""

    name: str
    dropped: str
    arm: str
    stages: tuple[StageConfig, ...]
    groups: tuple[str, ...]
    blind: bool = False


def variants(config: SimulationConfig, curriculum: CurriculumConfig, drop: Sequence[str]) -> list[Variant]:
    """The rows in the order of the table: the public base, everything, then each part left out.

    Raises ValueError when nothing would be left to train.
    """
    full = Variant(FULL, "nothing", "federated-dp", tuple(curriculum.stages), tuple(config.lora.groups))
    rows = [Variant(BASE, "all training", "base", full.stages, full.groups), full]
    for part in drop:
        rows += _without(part, full)
    for row in rows:
        if not row.stages or not row.groups:
            raise ValueError(f"without {row.dropped} nothing is left to train; remove it from `drop`")
    return rows


def _without(part: str, full: Variant) -> list[Variant]:
    if part == "stages":
        return [replace(full, name=f"no-stage-{stage.name}", dropped=f"stage {stage.name}",
                        stages=tuple(other for other in full.stages if other is not stage)) for stage in full.stages]
    name, dropped = f"no-{part}", part.replace("-", " ")
    if part == "vision":
        return [replace(full, name=name, dropped=dropped, blind=True)]
    if part == "projector":
        return [replace(full, name=name, dropped=dropped, stages=_without_group(full.stages, part),
                        groups=tuple(group for group in full.groups if group != part))]
    if part == "privacy":
        return [replace(full, name=name, dropped=dropped, arm="federated")]
    if part == "secure-aggregation":
        return [replace(full, name=name, dropped=dropped, arm="plain-sums-dp")]
    both = tuple(replace(stage, schedule="both") for stage in full.stages)
    return [replace(full, name=name, dropped=dropped, stages=both)]


def _without_group(stages: Sequence[StageConfig], group: str) -> tuple[StageConfig, ...]:
    kept = [(stage, [name for name in stage.groups if name != group]) for stage in stages]
    return tuple(replace(stage, groups=groups) for stage, groups in kept if groups)


def ablation_rows(config: AblationConfig) -> list[Variant]:
    """:func:`variants` of the simulation that `config` names, the same for every seed."""
    simulation = _simulation(config, config.seeds[0])
    return variants(simulation, load_config(CurriculumConfig, simulation.curriculum), config.drop)


def run_ablation(config: AblationConfig, out: Path, console: Console) -> dict[int, dict[str, dict[str, Any]]]:
    """Train every row of every seed into `out`, or find it there: seed -> row -> the arm's result.

    Raises:
        ValueError: the folder belongs to another ablation, or the data cannot be made.
        SimulationFailedError: a row failed; finished ones are kept.
    """
    rows = ablation_rows(config)  # refused before any work
    _claim(out, config)
    jobs: dict[tuple[int, str], ArmJob] = {}
    for seed in config.seeds:
        simulation = _simulation(config, seed)
        console.print(f"seed {seed}: preparing hospitals and public base")
        materials = prepare(simulation, lambda what, done, total: None)
        for row in rows:
            folder = out / f"seed-{seed}" / row.name
            jobs[seed, row.name] = _job(row, simulation, materials, folder)
    finished = _run_all(jobs, config.processes, console)
    return {seed: {row.name: finished[seed, row.name] for row in rows} for seed in config.seeds}


def _simulation(config: AblationConfig, seed: int) -> SimulationConfig:
    settings = [*config.settings, f"seed={seed}", f"data.seed={seed}", f"base.seed={seed}"]
    return replace(load_config(SimulationConfig, config.simulation, settings), faults=[])


def _job(row: Variant, config: SimulationConfig, materials: Materials, folder: Path) -> ArmJob:
    from simulations.blind_vision import blinded

    folder.mkdir(parents=True, exist_ok=True)
    curriculum = folder / "curriculum.yaml"
    partial = curriculum.with_suffix(".partial")
    partial.write_text(json.dumps(asdict(CurriculumConfig(stages=list(row.stages))), indent=1), encoding="utf-8")
    partial.replace(curriculum)
    changed = replace(config, curriculum=str(curriculum), lora=replace(config.lora, groups=list(row.groups)))
    return ArmJob(row.arm, changed, blinded(materials) if row.blind else materials, folder, "in-process")


def _claim(out: Path, config: AblationConfig) -> None:
    """Remember what `out` is for; refuse to mix two ablations in one folder. More seeds may be added."""
    out.mkdir(parents=True, exist_ok=True)
    facts = {name: value for name, value in asdict(config).items() if name not in ("seeds", "processes")}
    text, mark = json.dumps(facts, indent=1, sort_keys=True), out / "ablation.json"
    if mark.is_file() and mark.read_text(encoding="utf-8") != text:
        raise ValueError(f"{out} holds another ablation; choose another --out or remove that folder")
    mark.write_text(text, encoding="utf-8")


def _run_all(
    jobs: dict[tuple[int, str], ArmJob], processes: int, console: Console
) -> dict[tuple[int, str], dict[str, Any]]:
    """Every row over fresh processes of one thread each."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    results: dict[tuple[int, str], dict[str, Any]] = {}
    begin, kept = time.monotonic(), sum((job.folder / "arm.json").is_file() for job in jobs.values())
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(processes, len(jobs)), mp_context=context) as pool:
        futures = {pool.submit(run_arm, job): key for key, job in jobs.items()}
        try:
            for future in as_completed(futures):
                seed, name = futures[future]
                if (error := future.exception()) is not None:
                    raise SimulationFailedError(f"row {name} of seed {seed} failed: {error}") from error
                results[seed, name] = future.result()
                console.print(_progress(len(results), len(jobs), kept, time.monotonic() - begin, name, seed))
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise
    return results


def _progress(done: int, total: int, kept: int, seconds: float, name: str, seed: int) -> str:
    left = seconds / (done - kept) * (total - done) if done > kept else 0.0
    note = f", about {left / 60:.0f} min left" if left >= 30 else ""
    return f"{done} of {total} rows done ({name}, seed {seed}){note}"
