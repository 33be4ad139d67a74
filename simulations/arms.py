"""The rows of the final table: each is one process that trains, evaluates on unseen patients and writes `arm.json`.

A finished row is kept: running the same simulation into the same folder again continues with the rows that are
missing, and inside a federated row with the round after the last checkpoint.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from configs.schema import SimulationConfig
from coordinator.manifest import planned_events
from model.adapted import AdaptedModel, open_adapted
from model.adapter import adapter_hash
from model.evaluate import answer, evaluate
from model.example_file import by_kind
from model.server_optimizer import ServerOptimizer
from model.spec import LoraSpec
from privacy.dp.accounting import epsilon
from privacy.dp.guarantees import guarantees
from privacy.ledger import Ledger
from simulations.central import train_centrally
from simulations.distributed_arm import DISTRIBUTED, curriculum_of, shared_out
from simulations.engines import SimulatedRun, run_engine
from simulations.federation import FederationFiles, lay_out
from simulations.materials import Materials
from simulations.plain_sums import train_by_plain_sums
from simulations.seeded import SeededEntropy
from site_client.installation import Installation

__all__ = ["ArmJob", "arm_names", "run_arm"]

Note = Callable[[dict[str, Any]], None]


@dataclass(frozen=True)
class ArmJob:
    """One row: its name (`base`, `alone:SITE`, `pooled`, `pooled-dp`, `federated`, `federated-dp`,
    `federated-distributed`, and in ablations `plain-sums-dp`) and its inputs.

    `audit` is the `audit.json` that the coordinator of a federated row is given, or None.
    """

    name: str
    config: SimulationConfig
    materials: Materials
    folder: Path
    engine: str
    audit: Path | None = None


def arm_names(config: SimulationConfig, sites: Sequence[str]) -> list[str]:
    """The configured rows, `alone` once for each site; the longest first so that two processes end together."""
    alone = (f"alone:{site}" for site in sites)
    order = ["federated-dp", DISTRIBUTED, "federated", "pooled-dp", "pooled", *alone, "base"]
    return [name for name in order if name.split(":")[0] in config.arms.names]


def run_arm(job: ArmJob) -> dict[str, Any]:
    """Train and evaluate one row; its result as plain values, also in `folder/arm.json`."""
    logging.getLogger("flwr").setLevel(logging.ERROR)
    result_file = job.folder / "arm.json"
    if result_file.is_file():
        return dict(json.loads(result_file.read_text()))
    job.folder.mkdir(parents=True, exist_ok=True)
    note = _journal(job.folder / "progress.jsonl")
    begin, begin_cpu = time.monotonic(), time.process_time()
    lora = LoraSpec(rank=job.config.lora.rank, alpha=job.config.lora.alpha, groups=tuple(job.config.lora.groups))
    adapted = open_adapted(str(job.materials.base_model), lora)
    facts: dict[str, Any] = {}
    if job.name == "base":
        adapter = adapted.initial
    elif job.name == DISTRIBUTED:
        adapter, facts = _federated(replace(job, config=shared_out(job.config)), adapted)
    elif job.name in ("federated", "federated-dp"):
        adapter, facts = _federated(job, adapted)
    elif job.name == "plain-sums-dp":
        adapter, facts = _plain_sums(job, adapted, note)
    else:
        adapter = _central(job, adapted, note)
    trained = time.monotonic() - begin
    adapted.write(adapter)
    result = {"name": job.name, "seconds": trained, "cpu_seconds": time.process_time() - begin_cpu, **facts,
              **_evaluated(job, adapted)}
    partial = result_file.with_suffix(".partial")
    partial.write_text(json.dumps(result, indent=1))
    partial.replace(result_file)
    note({"event": "finished", "time": time.time()})
    return result


def _journal(path: Path) -> Note:
    def note(values: dict[str, Any]) -> None:
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(values) + "\n")

    return note


def _layout_files(
    job: ArmJob, folder: Path, adapted: AdaptedModel, mode: Literal["patient-dp", "none"]
) -> FederationFiles:
    materials = job.materials
    return lay_out(
        folder, job.config, curriculum_of(job.config), hospitals=materials.hospitals,
        declared=materials.declared, base_model=materials.base_model, base_hash=materials.base_hash,
        adapter_hash=adapter_hash(adapted.initial), public_examples=materials.public_examples, mode=mode,
        audit=job.audit)


def _federated(job: ArmJob, adapted: AdaptedModel) -> tuple[npt.NDArray[np.float64], dict[str, Any]]:
    """Run the real ServerApp and ClientApps; the adapter is read back from the coordinator's last checkpoint."""
    from coordinator import checkpoint

    private = job.name in ("federated-dp", DISTRIBUTED)
    files = _layout_files(job, job.folder, adapted, "patient-dp" if private else "none")
    run = SimulatedRun(files.coordinator_file, files.site_files, job.config.seed, tuple(job.config.faults))
    traffic = run_engine(job.engine, run)
    state = checkpoint.latest(files.output / "checkpoints", files.manifest.hash().hex())
    if state is None:
        raise RuntimeError("the federation ended without a checkpoint")
    facts: dict[str, Any] = {"rounds": state.history, "manifest": _manifest_facts(files)}
    if traffic is not None:
        facts["serialised_bytes"] = {"to_sites": traffic.to_sites, "from_sites": traffic.from_sites}
    if private:
        facts["privacy"] = {terms.site_id: _spent(job.folder, terms.site_id, terms.delta)
                            for terms in files.manifest.sites}
    return state.average, facts


def _manifest_facts(files: FederationFiles) -> dict[str, Any]:
    manifest = files.manifest
    return {
        "hash": manifest.hash().hex(), "clip_norm": manifest.clip_norm, "bits": manifest.bits,
        "declared_patients": {terms.site_id: terms.declared_patients for terms in manifest.sites},
        "stages": [{"name": s.name, "rounds": s.max_rounds, "local_steps": s.local_steps,
                    "sampling_rate": s.sampling_rate, "noise_multiplier": s.noise_multiplier,
                    "groups": list(s.groups)} for s in manifest.stages],
    }


def _spent(folder: Path, site: str, delta: float) -> dict[str, Any]:
    """Epsilon from the site's own ledger, after each round: what the plots and the table show."""
    ledger = Ledger.open(folder / site / "state" / "ledger.sqlite", must_exist=True)
    events, private = [entry.event() for entry in ledger.entries()], ledger.is_private()
    ledger.close()
    facts = {"delta": delta, "epsilon": epsilon(events, delta), "private": private,
             "curve": [epsilon(events[:number], delta) for number in _curve_points(len(events))],
             "curve_rounds": _curve_points(len(events))}
    if any(event.levels for event in events):
        facts["guarantees"] = asdict(guarantees(events, delta))
    return facts


def _curve_points(rounds: int) -> list[int]:
    """Numbers of rounds after which epsilon is computed: each up to 60 of them, then 60 in even steps."""
    most = 60
    return list(range(1, rounds + 1)) if rounds <= most else [round(rounds * k / most) for k in range(1, most + 1)]


def _central(job: ArmJob, adapted: AdaptedModel, note: Note) -> npt.NDArray[np.float64]:
    """Pooled data, or one site's, with the manifest of the federation."""
    mode: Literal["patient-dp", "none"] = "patient-dp" if job.name == "pooled-dp" else "none"
    files = _layout_files(job, job.folder / "installations", adapted, mode)
    wanted = [job.name.split(":")[1]] if ":" in job.name else list(files.site_ids)
    patients = []
    for site, path in zip(files.site_ids, files.site_files, strict=True):
        if site in wanted:
            patients += list(Installation.open(path).patients(adapted))
    note({"event": "begin", "rounds_total": sum(s.max_rounds for s in files.manifest.stages), "rounds_done": 0})
    federation = job.config.federation
    return train_centrally(
        adapted, patients, files.manifest,
        ServerOptimizer(federation.server_learning_rate, federation.server_momentum), federation.average_decay,
        lambda purpose: SeededEntropy(job.config.seed, job.name, purpose),
        on_round=lambda done, total: note({"event": "round", "round": done, "rounds_total": total}))


def _plain_sums(
    job: ArmJob, adapted: AdaptedModel, note: Note
) -> tuple[npt.NDArray[np.float64], dict[str, Any]]:
    """The federation with privacy, its sites' updates added in the clear (of an ablation); no ledger is written, so
    epsilon is the manifest's plan."""
    files = _layout_files(job, job.folder / "installations", adapted, "patient-dp")
    sites = {site: Installation.open(path).patients(adapted)
             for site, path in zip(files.site_ids, files.site_files, strict=True)}
    adapter = train_by_plain_sums(
        adapted, sites, files.manifest, lambda site, purpose: SeededEntropy(job.config.seed, site, purpose),
        on_round=lambda done, total: note({"event": "round", "round": done, "rounds_total": total}))
    events = planned_events(files.manifest)
    return adapter, {"privacy": {
        terms.site_id: {"delta": terms.delta, "epsilon": epsilon(events, terms.delta), "private": False}
        for terms in files.manifest.sites}}


def _evaluated(job: ArmJob, adapted: AdaptedModel) -> dict[str, Any]:
    """Every test question: right or wrong in a fixed order (for paired comparisons), and a few answers in words."""
    kinds: dict[str, Any] = {}
    samples: list[dict[str, str]] = []
    for kind, questions in by_kind(job.materials.test()).items():
        outcome = evaluate(adapted.model, adapted.encode(questions))
        kinds[kind] = {"correct": np.asarray(outcome.correct, dtype=int).tolist(), "loss": float(outcome.loss),
                       "patients": [question.key for question in questions]}
        for question in questions[: job.config.evaluation.samples]:
            samples.append({"kind": kind, "question": question.question, "truth": question.answer,
                            "answer": answer(adapted.model, question, adapted.base.tokenizer, adapted.base.spec)})
    return {"test": kinds, "samples": samples}
