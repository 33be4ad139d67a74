"""`simulate audit`: run the site's private steps on canaries beside real patients and try to refute what is claimed.

Sampling, clipping, noise and model are those of a run; randomness is the system's. `--fault` plants a fault in the
mechanism, to show that it would be found. A pass is failure to refute, never a proof of epsilon.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from configs.schema import SimulationConfig
from model.adapted import AdaptedModel, open_adapted
from model.adapter import adapter_hash
from model.spec import LoraSpec
from privacy.audit_claim import AUDIT_FORMAT, subject_of
from privacy.dp.audit import decide
from privacy.entropy import Entropy, SystemEntropy
from privacy.messages import RunManifest
from simulations.audit_stage import AuditSettings, audit_stage
from simulations.distributed_arm import curriculum_of
from simulations.faulty_mechanisms import FAULTS, fault_named
from simulations.federation import lay_out
from simulations.hospitals import read_manifest
from simulations.materials import Materials, prepare
from simulations.seeded import SeededEntropy, derived_secret
from site_client.mechanism import EncodedPatient, PatientMechanism
from site_client.sources.folder import read_folder

__all__ = ["CORRECT", "AuditedRun", "open_audited_run", "refuse_unknown", "run_audit", "run_audits", "wanted_audits"]

CORRECT = "correct"
_PRIVATE_ROWS = ("federated-dp", "pooled-dp")
Show = Callable[[str, int, int], None]


@dataclass(frozen=True)
class AuditedRun:
    """What every audit of one configuration shares: the manifest, the model, some real patients, the data's hash."""

    name: str
    manifest: RunManifest
    adapted: AdaptedModel
    patients: Sequence[EncodedPatient]
    data: str


def wanted_audits(fault: str | None) -> list[str]:
    """`correct`, one fault, or all of them after `correct`; ValueError, naming the nearest, for an unknown fault."""
    if fault is None:
        return [CORRECT]
    if fault == "all":
        return [CORRECT, *FAULTS]
    fault_named(fault)
    return [fault]


def open_audited_run(config: SimulationConfig, settings: AuditSettings, progress: Show) -> AuditedRun:
    """Prepare (or find) data and base model, and make the manifest that `simulate run` would make.

    Raises ValueError for a configuration without privacy or with a mechanism that this audit does not know.
    """
    if not set(_PRIVATE_ROWS) & set(config.arms.names):
        raise ValueError(f"{config.name} trains no row with privacy, so there is nothing to audit; "
                         "add federated-dp to arms.names")
    materials = prepare(config, progress)
    lora = LoraSpec(rank=config.lora.rank, alpha=config.lora.alpha, groups=tuple(config.lora.groups))
    adapted = open_adapted(str(materials.base_model), lora)
    with TemporaryDirectory() as folder:
        manifest = lay_out(
            Path(folder), config, curriculum_of(config), hospitals=materials.hospitals,
            declared=materials.declared, base_model=materials.base_model, base_hash=materials.base_hash,
            adapter_hash=adapter_hash(adapted.initial), public_examples=materials.public_examples,
            mode="patient-dp").manifest
    refuse_unknown(manifest)
    data = str(read_manifest(materials.hospitals)["files_sha256"])
    return AuditedRun(config.name, manifest, adapted, _patients(materials, adapted, settings), data)


def refuse_unknown(manifest: RunManifest) -> None:
    """ValueError, naming stage and feature, for a mechanism whose claim the tests would misread."""
    for stage in manifest.stages:
        for feature in ("adaptive_clip", "truncation"):
            if getattr(stage, feature, None) is not None:
                raise ValueError(f"stage {stage.name} uses {feature}, which the audit does not know yet; "
                                 "audit the stage without it")


def _patients(materials: Materials, adapted: AdaptedModel, settings: AuditSettings) -> list[EncodedPatient]:
    """Real patients of the first hospital, those with images and those without in turn."""
    site = min(materials.declared)
    index = read_folder(materials.hospitals / site, pseudonym_key=derived_secret(0, site, "audit"))
    ordered = sorted(index.patients, key=lambda patient: patient.pseudonym)
    pictured = [patient for patient in ordered if "patches" in patient.examples]
    plain = [patient for patient in ordered if "patches" not in patient.examples]
    half = settings.num_patients // 2
    chosen = pictured[:half] + plain[: settings.num_patients - min(half, len(pictured))]
    return [{source: adapted.encode(examples[:8]) for source, examples in patient.examples.items()}
            for patient in chosen]


def run_audit(
    run: AuditedRun, name: str, settings: AuditSettings, progress: Show, *, seed: int | None = None
) -> dict[str, Any]:
    """One audit as plain values (the content of `audit.json`): of the real mechanism, or of the fault `name`."""
    mechanism = PatientMechanism if name == CORRECT else fault_named(name)
    entropy: Entropy = SystemEntropy() if seed is None else SeededEntropy(seed, "audit", name)
    begin, begin_cpu = time.monotonic(), time.process_time()
    total, done = 2 * len(run.manifest.stages) * settings.rounds * settings.steps, 0

    def tick() -> None:
        nonlocal done
        done += 1
        progress(name, done, total)

    progress(name, 0, total)
    stages = [audit_stage(run.adapted, run.manifest, number, run.patients, mechanism, settings, entropy, tick)
              for number in range(len(run.manifest.stages))]
    named = [(stage.facts["stage"], test) for stage in stages for test in stage.tests]
    decision = decide([test for _, test in named], settings.false_alarm_rate)
    return {
        "format": AUDIT_FORMAT, "name": run.name, "fault": None if name == CORRECT else name,
        "passed": decision.passed, "meaning": _meaning(decision.passed, settings.false_alarm_rate),
        "false_alarm_rate": settings.false_alarm_rate, "level": decision.level, "delta": settings.delta,
        "simulated_entropy": entropy.simulated, "subject": asdict(subject_of(run.manifest, run.data)),
        "settings": asdict(settings), "stages": [stage.facts for stage in stages],
        "tests": [{"stage": stage, "name": test.name, "value": test.value, "unit": test.unit, "p_value": test.p_value,
                   "only_above": test.only_above, "rejects": rejects}
                  for (stage, test), rejects in zip(named, decision.rejected, strict=True)],
        "seconds": time.monotonic() - begin, "cpu_seconds": time.process_time() - begin_cpu,
    }


def _meaning(passed: bool, rate: float) -> str:
    if passed:
        return (f"Nothing was refuted at a false-alarm rate of {rate:g} over all tests. This is failure to refute, "
                "not a proof of epsilon.")
    return f"The claim is refuted: a correct mechanism fails like this in at most {rate:g} of all audits."


def run_audits(
    config: SimulationConfig, names: Sequence[str], console: Console, *, seed: int | None = None,
    settings: AuditSettings | None = None,
) -> list[dict[str, Any]]:
    """Every audit in `names`, with bars and time left on `console` (lines where it is no terminal)."""
    torch.set_num_threads(1)
    settings = settings or AuditSettings()
    columns = (TextColumn("{task.description:<22}"), BarColumn(bar_width=28), MofNCompleteColumn(),
               TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as bars:
        tasks: dict[str, TaskID] = {}

        def show(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = bars.add_task(what, total=total)
                if not console.is_terminal:
                    console.print(f"audit: {what}")
            bars.update(tasks[what], completed=done, total=total)

        run = open_audited_run(config, settings, show)
        return [run_audit(run, name, settings, show, seed=seed) for name in names]
