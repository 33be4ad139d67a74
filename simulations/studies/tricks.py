"""What each choice of a private stage is worth at equal privacy, on the demonstration data.

Every cell is one change to a baseline (momentum SGD, flat clip, alternating factors). Equal in all cells: the noise is
solved so that the schedule costs a patient epsilon 8 at the demo's delta (`coordinator.manifest.build_manifest`),
the number of steps, the sampling rate, the public base, the stream of draws and noise, and how rates are chosen.

Two things keep a cell short, and both differ from a demo run. Only the stage `instruction` is trained, for `--rounds`
rounds instead of its own twelve. And all hospitals' patients are pooled as one site, through the mechanism that a site
uses (`simulations.central`): secure aggregation and several noises in one sum are left out. A site's share of the
noise is larger than the pooled one, so accuracies here are above those of a federation; only differences are meant.

Each cell tries two learning rates on public patients alone (`simulations.studies.tuning`), keeps the one with the
lower loss on held-out public patients, trains once with it and answers the test reports. Finished cells are kept.

    python -m simulations.studies.tricks --out runs/tricks --seeds 0
    python -m simulations.studies.tricks --out runs/tricks --only sgd adamw
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from configs.load import load_config
from configs.schema import AdaptiveClipConfig, CurriculumConfig, SimulationConfig, StageConfig, TruncationConfig
from model.adapted import AdaptedModel, open_adapted
from model.adapter import adapter_hash
from model.evaluate import evaluate
from model.example_file import by_kind, load_examples
from model.server_optimizer import ServerOptimizer
from model.spec import LoraSpec
from privacy.dp.accounting import epsilon
from privacy.messages import RunManifest
from simulations.central import train_centrally
from simulations.federation import FederationFiles, lay_out
from simulations.intervals import mean_interval, paired_interval
from simulations.materials import Materials, prepare, public_split
from simulations.seeded import SeededEntropy
from simulations.studies.tuning import StandIn, stand_in, try_rate
from site_client.installation import Installation
from site_client.policy import planned_events
from site_client.training import EncodedPatient

__all__ = ["CELLS", "Cell", "cell_inputs", "main", "summarise"]

BASELINE = "sgd"
STAGE = "instruction"
KIND = "normal"
SECONDS = 90.0
"""Of one cell on one core with six rounds: what the first estimate is made from."""


@dataclass(frozen=True)
class Cell:
    """One choice.

    Args:
        title: for the table.
        rates: the two learning rates that are tried.
        changes: of the stage's fields. clip_norm: C. rank: of the adapters, whose scaling stays 2.
        cap: of a truncated draw, over the expected draw; 0 is plain Poisson.
    """

    title: str
    rates: tuple[float, float]
    changes: Mapping[str, Any]
    clip_norm: float = 0.1
    rank: int = 8
    cap: float = 0.0


# Both rates of a family are the best two of a coarse grid on public patients: for momentum SGD 2.5, 5, 10 and 20.
_SGD = (5.0, 10.0)
_ADAM: dict[str, Any] = {"momentum": 0.0}
CELLS: dict[str, Cell] = {
    BASELINE: Cell("baseline: momentum SGD, flat clip 0.1, alternate, rank 8", _SGD, {}),
    "auto-s": Cell("automatic clipping", _SGD, {"clipping": "auto-s"}),
    "adaptive": Cell("adaptive clip, quantile 0.5", _SGD, {"adaptive_clip": AdaptiveClipConfig()}),
    "adamw": Cell("DP-AdamW", (0.003, 0.01), {**_ADAM, "optimizer": "adamw"}),
    "adamw-bc": Cell("DP-AdamW, noise-bias correction", (0.001, 0.003), {**_ADAM, "optimizer": "adamw-bc"}),
    "no-momentum": Cell("SGD without momentum", (10.0, 20.0), {"momentum": 0.0}),
    "b-only": Cell("only B trains", _SGD, {"schedule": "b-only"}),
    "both": Cell("A and B train together", _SGD, {"schedule": "both"}),
    "truncated-1.6": Cell("truncated Poisson, cap 1.6 times the expected draw", _SGD, {}, cap=1.6),
    "truncated-1.2": Cell("truncated Poisson, cap 1.2 times the expected draw", _SGD, {}, cap=1.2),
    # A step is in units of C: rates move against it.
    "clip-0.03": Cell("flat clip 0.03", (17.0, 33.0), {}, clip_norm=0.03),
    "clip-0.3": Cell("flat clip 0.3", (1.7, 3.3), {}, clip_norm=0.3),
    "rank-4": Cell("rank 4", _SGD, {}, rank=4),
    "rank-16": Cell("rank 16", _SGD, {}, rank=16),
}


@dataclass
class _Seed:
    """What the cells of one seed share; patients are encoded once, by the first cell that trains."""

    number: int
    folder: Path
    config: SimulationConfig
    stage: StageConfig
    materials: Materials
    patients: list[EncodedPatient]


def main(argv: Sequence[str] | None = None) -> int:
    """Run what is missing and print the table, which is also in `tricks.md`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/tricks"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--only", nargs="+", choices=list(CELLS), default=list(CELLS), metavar="NAME",
                        help=f"cells to run: {', '.join(CELLS)}")
    parser.add_argument("--rounds", type=int, default=6, help="of eight steps")
    parser.add_argument("--config", default="configs/simulations/demo.yaml")
    arguments = parser.parse_args(argv)
    names = [name for name in CELLS if name in arguments.only]
    wanted = [(seed, name) for seed in arguments.seeds for name in (*names, "base")]
    missing = [pair for pair in wanted if not _file(arguments.out, arguments.rounds, *pair).is_file()]
    guess = SECONDS * arguments.rounds / 6 * sum(name != "base" for _, name in missing)
    print(f"{len(missing)} of {len(wanted)} rows to run, about {guess / 60:.0f} min on one core; "
          "stop at any time, finished rows are kept", flush=True)
    begin, seeds = time.monotonic(), dict[int, _Seed]()
    for done, (number, name) in enumerate(missing):
        if number not in seeds:
            seeds[number] = _open_seed(arguments.config, arguments.out, number, arguments.rounds)
        facts = _base(seeds[number]) if name == "base" else _run(seeds[number], name, CELLS[name])
        _save(_file(arguments.out, arguments.rounds, number, name), facts)
        spent, left = time.monotonic() - begin, len(missing) - done - 1
        print(f"seed {number} {name}: {100 * float(np.mean(facts['correct'])):.1f} % in {facts['seconds']:.0f} s; "
              f"{left} rows left, about {spent / (done + 1) * left / 60:.0f} min", flush=True)
    results = {seed: {name: json.loads(_file(arguments.out, arguments.rounds, seed, name).read_text())
                      for name in (*names, "base")} for seed in arguments.seeds}
    text = summarise(results, arguments.rounds)
    (arguments.out / "tricks.md").write_text(text, encoding="utf-8")
    print(text)
    return 0


def cell_inputs(
    cell: Cell, stage: StageConfig, config: SimulationConfig, declared: int
) -> tuple[StageConfig, SimulationConfig]:
    """The stage and the simulation of one cell; the target epsilon is untouched.

    Args:
        declared: patients of all sites. The public bound that a truncated draw is charged for is a tenth above.
    """
    changed = replace(stage, **cell.changes)
    if cell.cap:
        changed = replace(changed, truncation=TruncationConfig(
            batch_size=round(cell.cap * stage.sampling_rate * declared), most_patients=-(-11 * declared // 10)))
    lora = replace(config.lora, rank=cell.rank, alpha=2 * cell.rank)
    return changed, replace(config, lora=lora, privacy=replace(config.privacy, clip_norm=cell.clip_norm))


def _file(out: Path, rounds: int, seed: int, name: str) -> Path:
    return out / f"seed-{seed}" / f"{name}-{rounds}.json"


def _save(path: Path, facts: Mapping[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(facts, indent=1))
    partial.replace(path)


def _open_seed(path: str, out: Path, number: int, rounds: int) -> _Seed:
    config = load_config(SimulationConfig, path, [f"data.seed={number}"])
    materials = prepare(config, lambda what, done, total: None)
    curriculum = load_config(CurriculumConfig, config.curriculum)
    stage = next(stage for stage in curriculum.stages if stage.name == STAGE)
    return _Seed(number, out / f"seed-{number}", config, replace(stage, rounds=rounds), materials, [])


def _adapted(seed: _Seed, config: SimulationConfig) -> AdaptedModel:
    lora = LoraSpec(rank=config.lora.rank, alpha=config.lora.alpha, groups=tuple(config.lora.groups))
    return open_adapted(str(seed.materials.base_model), lora)


def _layout(seed: _Seed, name: str, stage: StageConfig, config: SimulationConfig, adapted: AdaptedModel) -> (
        FederationFiles):
    materials = seed.materials
    return lay_out(
        seed.folder / "installations" / name, config, CurriculumConfig(stages=[stage]), hospitals=materials.hospitals,
        declared=materials.declared, base_model=materials.base_model, base_hash=materials.base_hash,
        adapter_hash=adapter_hash(adapted.initial), public_examples=materials.public_examples, mode="patient-dp")


def _base(seed: _Seed) -> dict[str, Any]:
    """The public base without an adapter."""
    begin, adapted = time.monotonic(), _adapted(seed, seed.config)
    adapted.write(adapted.initial)
    return {**_answers(seed, adapted), "seconds": time.monotonic() - begin}


def _run(seed: _Seed, name: str, cell: Cell) -> dict[str, Any]:
    """Choose the rate on public patients, train once on the pooled private ones, answer the test reports."""
    begin = time.monotonic()
    stage, config = cell_inputs(cell, seed.stage, seed.config, sum(seed.materials.declared.values()))
    adapted = _adapted(seed, config)
    noise = _layout(seed, name, stage, config, adapted).manifest.stages[0].noise_multiplier
    public = stand_in(adapted, load_examples(public_split(config)), list(stage.sources), part=0)
    losses = {rate: _public_loss(seed, adapted, public, replace(stage, learning_rate=rate), config, noise)
              for rate in cell.rates}
    rate = min(losses, key=lambda tried: losses[tried])
    chosen = time.monotonic() - begin
    files = _layout(seed, name, replace(stage, learning_rate=rate), config, adapted)
    if not seed.patients:
        for path in files.site_files:
            seed.patients += list(Installation.open(path).patients(adapted))
    _train(seed, adapted, files.manifest, config)
    return {
        **_answers(seed, adapted), "noise_multiplier": noise, "rate": rate, "public_loss": losses[rate],
        "public_losses": {str(tried): loss for tried, loss in losses.items()}, "patients": len(seed.patients),
        "delta": min(terms.delta for terms in files.manifest.sites),
        "epsilon": max(epsilon(planned_events(files.manifest), terms.delta) for terms in files.manifest.sites),
        "seconds": time.monotonic() - begin, "seconds_choosing": chosen}


def _public_loss(
    seed: _Seed, adapted: AdaptedModel, public: StandIn, stage: StageConfig, config: SimulationConfig, noise: float
) -> float:
    """Mean over the question kinds; the stand-in's noise is that of one site with all patients."""
    outcome = try_rate(adapted, public, stage, config, noise=noise, sites=1, seed=seed.number,
                       patients_with_source=sum(seed.materials.declared.values()))
    return float(np.mean(list(outcome.loss.values())))


def _train(seed: _Seed, adapted: AdaptedModel, manifest: RunManifest, config: SimulationConfig) -> None:
    """Leave the model at the averaged adapter, as a federation would export it."""
    federation = config.federation
    adapted.write(train_centrally(
        adapted, seed.patients, manifest,
        ServerOptimizer(federation.server_learning_rate, federation.server_momentum), federation.average_decay,
        lambda purpose: SeededEntropy(seed.number, "tricks", purpose), on_round=lambda done, total: None))


def _answers(seed: _Seed, adapted: AdaptedModel) -> dict[str, Any]:
    questions = by_kind(seed.materials.test())[KIND]
    outcome = evaluate(adapted.model, adapted.encode(questions))
    return {"correct": [int(right) for right in outcome.correct], "patients_tested": [q.key for q in questions],
            "test_loss": float(outcome.loss)}


def summarise(results: Mapping[int, Mapping[str, Mapping[str, Any]]], rounds: int) -> str:
    """The table as Markdown: seed -> cell -> facts, pooled over the seeds; the bootstrap draws whole patients."""
    seeds = list(results)
    names = list(results[seeds[0]])
    lines = ["| choice | noise | epsilon | rate | public loss | test accuracy, % | minus baseline, points |",
             "|---|---|---|---|---|---|---|"]
    for name in names:
        rows = [results[seed][name] for seed in seeds]
        patients = [f"{seed}/{key}" for seed in seeds for key in results[seed][name]["patients_tested"]]
        correct = _joined(rows)
        accuracy = _points(mean_interval(correct, patients))
        gap = ""
        if name != BASELINE and BASELINE in names:
            first = _joined([results[seed][BASELINE] for seed in seeds])
            gap = _points(paired_interval(correct, first, patients), sign="+")
        title = CELLS[name].title if name in CELLS else "the public base, untrained"
        facts = " | | | " if name not in CELLS else (
            f"{_mean(rows, 'noise_multiplier'):.3f} | {_mean(rows, 'epsilon'):.2f} | "
            f"{'/'.join(dict.fromkeys(format(row['rate'], 'g') for row in rows))} | "
            f"{_mean(rows, 'public_loss'):.4f}")
        lines.append(f"| {title} | {facts} | {accuracy} | {gap} |")
    return "\n".join([*lines, "", _held_equal(results, rounds), ""])


def _held_equal(results: Mapping[int, Mapping[str, Mapping[str, Any]]], rounds: int) -> str:
    seeds = list(results)
    trained = [row for rows in results.values() for name, row in rows.items() if name in CELLS]
    delta = ", ".join(sorted({f"{row['delta']:g}" for row in trained}))
    seconds = float(np.mean([row["seconds"] for row in trained])) if trained else 0.0
    return (
        f"Held equal: epsilon 8 at delta {delta} for a patient (noise solved for each row), {rounds} rounds of eight "
        f"steps, sampling rate, public base, the stream of draws and noise, two rates a row tried on public patients "
        f"alone. Stage {STAGE} only, all hospitals' patients as one site. Accuracy: question \"{KIND}\", seeds "
        f"{', '.join(map(str, seeds))}, 95 % bootstrap over patients of one training a seed, which does not cover the "
        f"spread between trainings. {seconds:.0f} s a row on one core. Randomness is seeded: not private.")


def _joined(rows: Sequence[Mapping[str, Any]]) -> list[int]:
    return [right for row in rows for right in row["correct"]]


def _mean(rows: Sequence[Mapping[str, Any]], key: str) -> float:
    return float(np.mean([row[key] for row in rows]))


def _points(interval: tuple[float, float, float], sign: str = "") -> str:
    estimate, low, high = (format(100 * value, f"{sign}.1f") for value in interval)
    return f"{estimate} [{low}, {high}]"


if __name__ == "__main__":
    raise SystemExit(main())
