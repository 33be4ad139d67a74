"""A run's newest checkpoint as an adapter that others load: PEFT layout, with the facts of its rounds."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from configs.load import load_config
from configs.schema import CoordinatorConfig
from coordinator import checkpoint
from coordinator.run import describe_origin
from model.adapted import open_adapted
from model.export import save_adapter
from model.spec import LoraSpec
from privacy.messages import SignedManifest
from privacy.roster import SignedRoster

__all__ = ["export_run"]


def export_run(folder: Path, out: Path) -> str:
    """Write the adapter of the run in `folder` into the new folder `out`; one sentence on what was written.

    Raises:
        ValueError: `out` exists, the run has no checkpoint yet, or its base model is gone or another.
    """
    if out.exists():
        raise ValueError(f"{out} exists; choose a new folder")
    if not (folder / "coordinator.yaml").is_file():
        raise ValueError(f"the run in {folder} has not begun; there is nothing to export")
    config = load_config(CoordinatorConfig, folder / "coordinator.yaml")
    roster = SignedRoster.open(Path(config.roster).read_bytes())
    manifest = SignedManifest.open(Path(config.manifest).read_bytes(), roster)
    found = checkpoint.latest(folder / "checkpoints", manifest.hash().hex())
    if found is None:
        raise ValueError(f"the run in {folder} has no finished round yet; there is nothing to export")
    adapted = open_adapted(config.base_model, LoraSpec(
        rank=manifest.lora_rank, alpha=manifest.lora_alpha, groups=manifest.lora_groups))
    if adapted.base.content_hash != manifest.base_model_hash:
        raise ValueError(f"base model {config.base_model} is not the one that the manifest names; put that one back")
    partial = out.with_name(f".{out.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.parent.mkdir(parents=True, exist_ok=True)
    adapted.write(found.average)
    save_adapter(adapted.model, partial, base=manifest.base_model_hash.hex(), description=describe_origin(manifest))
    (partial / "rounds.json").write_text(json.dumps({
        "run_id": manifest.run_id, "manifest_hash": manifest.hash().hex(), "rounds": found.history}, indent=1),
        encoding="utf-8")
    partial.rename(out)
    return f"adapter after round {found.round} of run {manifest.run_id} is in {out}"
