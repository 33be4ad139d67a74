"""A launched run's files: signed manifest, roster and `coordinator.yaml`, made once from `run.json`."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from configs.load import load_config
from configs.schema import CoordinatorConfig, CurriculumConfig, RunConfig
from coordinator.home import Home
from coordinator.manifest import build_manifest
from privacy.durable import write_whole
from privacy.messages import SignedManifest

__all__ = ["prepare_run"]


def prepare_run(home: Home, run_id: str) -> Path:
    """Make what is missing in the run's folder; its `coordinator.yaml`.

    The manifest is signed once: whatever changes in the coordinator's folder later, the run is the one that it names.

    Raises:
        ValueError: no roster in force, a base model or curriculum that cannot be used; one sentence.
    """
    folder = home.run_folder(run_id)
    config = load_config(RunConfig, folder / "run.json")
    manifest_file, roster_file, file = folder / "manifest.bin", folder / "roster.bin", folder / "coordinator.yaml"
    if not manifest_file.is_file():
        _sign(home, config, manifest_file, roster_file)
    chosen = home.config
    write_whole(file, json.dumps(asdict(CoordinatorConfig(
        manifest=str(manifest_file), roster=str(roster_file), key=str(home.key_file), base_model=config.base_model,
        output=str(folder), public_examples=config.public_examples, timeout_s=config.federation.timeout_s,
        every_rounds=config.every_rounds, wait_for_sites_s=chosen.wait_for_sites_s, resend_s=chosen.resend_s,
        offer_roster=True)), indent=1).encode())
    return file


def _sign(home: Home, config: RunConfig, manifest_file: Path, roster_file: Path) -> None:
    from model.adapted import open_adapted
    from model.adapter import adapter_hash
    from model.spec import LoraSpec

    signed_roster = home.roster()
    lora = LoraSpec(rank=config.lora.rank, alpha=config.lora.alpha, groups=tuple(config.lora.groups))
    adapted = open_adapted(config.base_model, lora)
    manifest = build_manifest(
        run_id=config.run_id, curriculum=load_config(CurriculumConfig, config.curriculum), privacy=config.privacy,
        lora=config.lora, federation=config.federation, roster=signed_roster.roster,
        base_model_hash=adapted.base.content_hash, adapter_hash=adapter_hash(adapted.initial), mode="patient-dp")
    write_whole(roster_file, signed_roster.to_bytes())
    write_whole(manifest_file, SignedManifest.make(manifest, home.key()).to_bytes())
