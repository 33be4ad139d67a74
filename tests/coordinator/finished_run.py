"""A coordinator's folder with a run that has one attested round, made through the real commands and messages.

Only the round itself is not played: its update is drawn here, and the sites' keys sign what the round would have given.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

import coordinator.cli
from configs.schema import FederationConfig, LoraConfig, PrivacyConfig, RunConfig
from coordinator import checkpoint
from coordinator.home import Home
from coordinator.run_files import prepare_run
from coordinator.run_queue import RunQueue
from coordinator.state_agreement import close_round
from model.adapter import AdapterLayout
from model.backbone import build, save_base
from model.server_optimizer import ServerOptimizer, ServerState
from model.spec import TINY, ModelSpec
from model.tokenizer import train_tokenizer
from privacy.evaluation import GateOutcome
from privacy.messages import Attest, Plan, RunManifest, SignedManifest
from privacy.results import RoundView
from privacy.roster import SignedRoster
from tests.privacy.invited import key_of, request
from tests.privacy.officers import KEYS

SITES = ("site-1", "site-2", "site-3")
MICRO = replace(
    TINY, name="micro", vocab_size=420, hidden_size=32, expert_size=32, num_heads=2, num_kv_heads=1, num_experts=3,
    sliding_window=16, vision_hidden_size=16, vision_mlp_size=16, vision_layers=1, vision_heads=2, patch_size=16,
    initializer_range=0.2)
CURRICULUM: dict[str, Any] = {"stages": [{
    "name": "instruction", "sources": {"reports": 1}, "groups": ["attention"], "learning_rate": 0.5,
    "learning_rate_without_privacy": 0.5, "local_steps": 2, "sampling_rate": 0.1, "rounds": 4, "reply_after_s": 0}]}
EVALUATION: dict[str, Any] = {"noise_multiplier": 8, "loss_cap": 4, "gate": {
    "threshold": 1.0, "min_patients": 5, "max_repeats": 0, "spare": 0}}


@dataclass(frozen=True)
class FinishedRun:
    """home: the coordinator's folder; base: the base model's; run_id: of the run in it."""

    home: Path
    base: Path
    run_id: str

    @property
    def folder(self) -> Path:
        return self.home / "runs" / self.run_id

    @property
    def roster(self) -> SignedRoster:
        return SignedRoster.parse((self.folder / "roster.bin").read_bytes())

    @property
    def manifest(self) -> RunManifest:
        return SignedManifest.open((self.folder / "manifest.bin").read_bytes(), self.roster.roster)

    def state(self) -> checkpoint.Checkpoint:
        found = checkpoint.latest(self.folder / "checkpoints", self.manifest.hash().hex())
        assert found is not None
        return found


def make_base(folder: Path, spec: ModelSpec = MICRO) -> Path:
    tokenizer = train_tokenizer(["The lungs are clear. The heart is large. Write the impression."], spec.vocab_size)
    save_base(build(spec, seed=3), tokenizer, spec, folder)
    return folder


def make_home(folder: Path) -> Path:
    """With three sites on a roster that two officers signed."""
    home = folder / "home"
    words = [word for name, key in KEYS.items() for word in ("--officer", f"{name}:{key.public_bytes().hex()}")]
    assert coordinator.cli.main(
        ["init", str(home), "--federation", "fed", "--address", "fl.example.org:8443", *words]) == 0
    for site in SITES:
        (folder / f"{site}.request").write_text(request(site, Home.open(home).invitation()).to_json())
    assert coordinator.cli.main(["enroll", str(home), *(str(folder / f"{site}.request") for site in SITES)]) == 0
    for name in ("ann", "bob"):
        (folder / f"{name}.key").write_bytes(KEYS[name].private_bytes())
        (folder / f"{name}.key").chmod(0o600)
        assert coordinator.cli.main(["roster", "sign", str(home), "--key", str(folder / f"{name}.key")]) == 0
    return home


def make_run(
    folder: Path, home: Path, base: Path, run_id: str = "first", *, groups: tuple[str, ...] = ("attention",),
    rank: int = 4, attesting: tuple[str, ...] = SITES, rounds: int = 2, average_decay: float = 0.7,
    gated: bool = False, gates: tuple[GateOutcome, ...] = ()
) -> FinishedRun:
    """A run of that many rounds, the last one attested by those sites, with these gate outcomes where it is `gated`."""
    stage = {**CURRICULUM["stages"][0], "groups": list(groups), **({"evaluation": EVALUATION} if gated else {})}
    (folder / "curriculum.yaml").write_text(json.dumps({"stages": [stage]}))
    (folder / "public.jsonl").touch()
    config = RunConfig(
        run_id=run_id, curriculum=str(folder / "curriculum.yaml"), base_model=str(base),
        public_examples=str(folder / "public.jsonl"), privacy=PrivacyConfig(target_epsilon=2.0),
        lora=LoraConfig(rank=rank, alpha=8, groups=list(groups)),
        federation=FederationConfig(average_decay=average_decay, integrity_tags=int(gated)))
    RunQueue(home / "runs").add(config)
    prepare_run(Home.open(home), run_id)
    run = FinishedRun(home, base, run_id)
    _play(run, rounds, attesting, gates)
    return run


def _play(run: FinishedRun, rounds: int, attesting: tuple[str, ...], gates: tuple[GateOutcome, ...]) -> None:
    from model.adapted import open_adapted
    from model.spec import LoraSpec

    manifest, roster, key = run.manifest, run.roster.roster, Home.open(run.home).key()
    adapted = open_adapted(str(run.base), LoraSpec(
        rank=manifest.lora_rank, alpha=manifest.lora_alpha, groups=manifest.lora_groups))
    layout: AdapterLayout = adapted.layout
    state, history = ServerState.initial(adapted.initial), []
    for number in range(1, rounds + 1):
        factor: Any = "B" if number % 2 else "A"
        chosen = layout.select(manifest.stages[0].groups, factor).indices
        plan = Plan(
            federation_id="fed", run_id=run.run_id, roster_hash=roster.hash(), manifest_hash=manifest.hash(),
            round=number, attempt=1, stage=0, factor=factor, model_hash=state.model_hash, dimension=len(chosen) + 4,
            num_lanes=4, bits=24, scale=1024.0, saturation=4.0)
        update = np.random.default_rng(number).normal(0, 0.05, len(chosen))
        state = state.after(chosen, update, 1.0, optimizer=ServerOptimizer(1.0, manifest.server.momentum),
                            average_decay=manifest.server.average_decay)
        view = RoundView(ctx=plan.context(), h3=bytes([number] * 32), announced=3, survivors=SITES)
        closing = close_round(plan, view, np.zeros(3, dtype=np.uint8), (), state, key, gates)
        history.append({"round": number, "stage": 0, "stage_name": "instruction", "summed": list(SITES)})
        attests = [Attest.make(site, closing.result.result, key_of(site)) for site in attesting]
        assert closing.plan is not None
        checkpoint.save(run.folder / "checkpoints", checkpoint.Checkpoint(
            round=number, adapter=state.adapter, velocity=state.velocity, average=state.average,
            manifest_hash=manifest.hash().hex(), history=list(history), packed_sum=closing.packed,
            result=closing.result.to_bytes().hex(), attests=[one.to_bytes().hex() for one in attests],
            plan=closing.plan.to_bytes().hex()))
