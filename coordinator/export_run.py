"""A run's newest checkpoint as a release: an adapter in PEFT layout or merged weights, and what proves its origin.

The base model's weights are hashed and, for `merged`, streamed; they are never loaded.
"""

from __future__ import annotations

import json
import shutil
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import safe_open
from safetensors.numpy import save_file

from configs.load import load_config
from configs.schema import CoordinatorConfig
from coordinator import checkpoint, release_facts
from coordinator.gate_report import open_gate
from coordinator.release_card import release_card
from coordinator.release_folder import (
    FORMAT,
    KINDS,
    MANIFEST_FILE,
    ROSTER_FILE,
    ROUNDS_FILE,
    STATE_FILE,
    present_files,
    sign_release,
)
from model.backbone import hash_model
from model.checkpoint import read_spec
from model.export import adapter_without_base, write_adapter
from model.merge import adapter_changes, merge_base
from model.server_optimizer import model_hash
from model.spec import LoraSpec, ModelSpec
from privacy.audit_claim import audit_claim, subject_of
from privacy.durable import new_folder, sync
from privacy.identity import SigningKey
from privacy.messages import Attest, Plan, RunManifest, SignedManifest, SignedResult
from privacy.release import release_hash
from privacy.roster import SignedRoster
from privacy.roster_facts import fingerprint

__all__ = ["export_run"]

_SPARE_BYTES = 100 * 10**6


@dataclass(frozen=True, eq=False)
class _Run:
    """What a run's folder holds, checked. `vector` is float64 (D,), rounded to float32 as it is written."""

    config: CoordinatorConfig
    roster: SignedRoster
    signed_manifest: bytes
    manifest: RunManifest
    state: checkpoint.Checkpoint
    spec: ModelSpec
    vector: npt.NDArray[np.float64]

    @property
    def lora(self) -> LoraSpec:
        return LoraSpec(
            rank=self.manifest.lora_rank, alpha=self.manifest.lora_alpha, groups=self.manifest.lora_groups)


def export_run(folder: Path, out: Path, key: SigningKey, kind: str = "peft", audit: Path | None = None) -> str:
    """Write the run in `folder` as a release of that kind into the new folder `out`; what was written, for people.

    Args:
        key: the coordinator's, which signs the release.
        audit: `audit.json` of `simulate audit`; None takes the run's own, if it names one.

    Raises:
        ValueError: `out` exists, the run has no checkpoint yet, its base model is gone or another, the key is not the
            roster's, or adapted experts are to be merged into packed ones. Nothing is left behind.
    """
    if kind not in KINDS:
        raise ValueError(f"there is no format {kind}; choose {' or '.join(KINDS)}")
    if out.exists() or out.is_symlink():
        raise ValueError(f"{out} exists; choose a new folder")
    run = _open(folder, key)
    out.parent.mkdir(parents=True, exist_ok=True)
    with new_folder(out.absolute()) as partial:
        loading = _write_weights(run, partial, kind)
        _write_provenance(run, partial)
        facts = _facts(run, kind, loading, key, audit)
        (partial / "README.md").write_text(release_card(facts), encoding="utf-8")
        sign_release(partial, facts, run.manifest.hash(), key)
        for path in present_files(partial).values():
            path.chmod(0o644)  # safetensors writes 0600, and all of it is to be given away
            sync(path)
        partial.chmod(0o755)
    return _sentence(run, out, kind, facts)


def _sentence(run: _Run, out: Path, kind: str, facts: dict[str, Any]) -> str:
    what = "adapter" if kind == "peft" else "merged model"
    text = f"{what} after round {run.state.round} of run {run.manifest.run_id} is in {out}"
    last = facts["attestation"]
    if len(last["attested_by"]) < last["needed"]:
        text += (f"\nNOT attested: {len(last['attested_by'])} sites signed this state and {last['needed']} are needed, "
                 "so `verify-release` refuses it")
    missing = open_gate(run.manifest, SignedResult.from_bytes(bytes.fromhex(run.state.result)).result.gates)
    if missing:
        text += f"\nNOT passed: {missing}, so `verify-release` refuses it"
    mark = fingerprint(bytes.fromhex(facts["coordinator_key"]))
    return text + f'\nothers check it offline: coordinator verify-release {out} --key "{mark}"'


def _open(folder: Path, key: SigningKey) -> _Run:
    if not (folder / "coordinator.yaml").is_file():
        raise ValueError(f"the run in {folder} has not begun; there is nothing to export")
    config = load_config(CoordinatorConfig, folder / "coordinator.yaml")
    roster = SignedRoster.parse(Path(config.roster).read_bytes())
    signed = Path(config.manifest).read_bytes()
    manifest = SignedManifest.open(signed, roster.require_signed())
    if key.public_bytes() != roster.roster.coordinator_key:
        raise ValueError("the coordinator's key is not the one on the run's roster, so nobody could check the release; "
                         "export with the key that signed the run")
    inner = folder / "coordinator" / "checkpoints"
    found = checkpoint.latest(inner if inner.is_dir() else folder / "checkpoints", manifest.hash().hex())
    if found is None or not found.result:
        raise ValueError(f"the run in {folder} has no finished round yet; there is nothing to export")
    base = Path(config.base_model)
    if hash_model(base) != manifest.base_model_hash:
        raise ValueError(f"base model {config.base_model} is not the one that the manifest names; put that one back")
    vector = found.average.astype(np.float32).astype(np.float64)
    return _Run(config, roster, signed, manifest, found, read_spec(base), vector)


def _write_weights(run: _Run, folder: Path, kind: str) -> list[str]:
    """The adapter or the merged model; how it is loaded, for the card."""
    base = Path(run.config.base_model)
    if kind == "merged":
        changes = adapter_changes(run.spec, run.lora, run.vector)
        _require_room(base, folder)
        merge_base(base, folder, changes)
        return release_facts.merged_loading(run.spec)
    write_adapter(
        adapter_without_base(run.spec, run.lora, run.vector), folder, base=run.manifest.base_model_hash.hex())
    with safe_open(str(folder / "adapter_model.safetensors"), framework="numpy") as file:
        names = list(file.keys())
    config = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
    return release_facts.peft_loading(names, config)


def _require_room(base: Path, folder: Path) -> None:
    needed = sum(path.stat().st_size for path in base.glob("*.safetensors")) + _SPARE_BYTES
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise ValueError(f"a merged model takes {needed / 1e9:.1f} GB and {free / 1e9:.1f} GB are free in "
                         f"{folder.parent}; make room, or export elsewhere")


def _write_provenance(run: _Run, folder: Path) -> None:
    (folder / MANIFEST_FILE).parent.mkdir(mode=0o755)
    (folder / MANIFEST_FILE).write_bytes(run.signed_manifest)
    (folder / ROSTER_FILE).write_bytes(run.roster.to_bytes())
    save_file({"velocity": run.state.velocity, "average": run.state.average}, folder / STATE_FILE)
    (folder / ROUNDS_FILE).write_text(json.dumps({
        "run_id": run.manifest.run_id, "manifest_hash": run.manifest.hash().hex(), "rounds": run.state.history},
        indent=1), encoding="utf-8")


def _facts(run: _Run, kind: str, loading: list[str], key: SigningKey, audit: Path | None) -> dict[str, Any]:
    """`release.json` but for its list of files."""
    manifest, state, roster = run.manifest, run.state, run.roster.roster
    facts = release_facts.manifest_facts(manifest)
    subject = replace(subject_of(manifest, run.config.data_hash), release=manifest.release)
    claim = audit_claim(audit or run.config.audit, subject, private=manifest.privacy != "none")
    attests = [Attest.from_bytes(bytes.fromhex(one)) for one in state.attests]
    plan = Plan.from_bytes(bytes.fromhex(state.plan)) if state.plan else None
    exported = model_hash(run.vector.astype(np.float32)).hex()
    facts["adapter"] = release_facts.adapter_facts(manifest, int(run.vector.size), exported)
    return {
        **facts, "format": FORMAT, "kind": kind, "created_utc": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "exporting_release": release_hash(), "coordinator_key": key.public_bytes().hex(),
        "roster_version": roster.version, "roster_signers": list(run.roster.signers(roster)),
        "stage_rounds": release_facts.stage_rounds(manifest, state.history),
        "attestation": release_facts.attestation_facts(
            SignedResult.from_bytes(bytes.fromhex(state.result)), attests, plan, roster),
        "privacy": release_facts.privacy_facts(manifest), "audit": {"audited": claim.audited, "text": claim.text},
        "licence": release_facts.LICENCE, "loading": loading,
    }
