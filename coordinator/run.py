"""A whole run at the coordinator: open its files, meet the sites, run the rounds, evaluate, checkpoint, export."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from configs.schema import ConfigError, CoordinatorConfig
from coordinator import checkpoint
from coordinator.admission import Door
from coordinator.evaluation import PublicEvaluation
from coordinator.evidence_folder import EvidenceFolder
from coordinator.exchange import Link
from coordinator.gate_report import GateNotPassedError
from coordinator.rounds import (
    Federation,
    RoundFailedError,
    RoundReport,
    RunState,
    report_fields,
    run_rounds,
)
from coordinator.run_register import claimed
from coordinator.state_agreement import Closing
from model.adapter import adapter_hash
from model.export import save_adapter
from model.server_optimizer import ServerState
from privacy.audit_claim import audit_claim, subject_of
from privacy.durable import write_whole
from privacy.gates import total_rounds
from privacy.identity import Roster, SigningKey
from privacy.manifest import FACTORS
from privacy.messages import Attest, Plan, RunManifest, SignedManifest, SignedResult
from privacy.roster import SignedRoster
from privacy.secagg.rings import ring_of, wire_lanes

__all__ = ["RunObserver", "describe_origin", "run_federation"]

PublicMetrics = Mapping[int, Mapping[str, float]]  # round -> metric -> value
RunObserver = Callable[[str, dict[str, Any]], None]  # (event name, plain values)


@dataclass(frozen=True, slots=True)
class _Opened:
    """The files of a :class:`CoordinatorConfig`, read and checked against each other."""

    manifest: RunManifest
    signed: bytes
    roster: Roster
    key: SigningKey
    evaluation: PublicEvaluation
    output: Path


def run_federation(config: CoordinatorConfig, link: Link, observe: RunObserver) -> RunState:
    """Run `config`'s manifest to its end, or on from its last checkpoint.

    Raises:
        RoundFailedError: too few sites accepted the run, or a round fell below its quorum.
        GateNotPassedError: a gate was not passed with all its repeats; no adapter is written.
        RunTakenError: see :func:`coordinator.run_register.claimed`.
    """
    manifest = SignedManifest.from_bytes(Path(config.manifest).read_bytes()).manifest
    with claimed(Path(config.key), Path(config.output), manifest):
        return _run(config, link, observe)


def _run(config: CoordinatorConfig, link: Link, observe: RunObserver) -> RunState:
    opened = _open(config)
    public: dict[int, Mapping[str, float]] = {}
    journal = _Journal(opened.output / "journal.json", opened.manifest.hash().hex(),
                       keep=lambda state: _save(opened, state, public))
    state = journal.with_lost_rounds(_resume(opened) or _fresh(opened))
    public.update({report.round: report.public for report in state.history})
    door = Door(opened.manifest, opened.signed, opened.roster, link, config.timeout_s, observe,
                wait_s=config.wait_for_sites_s,
                offered=Path(config.roster).read_bytes() if config.offer_roster else b"")
    participants = door.admit_first()
    federation = Federation(
        manifest=opened.manifest, roster=opened.roster, signing_key=opened.key, link=link,
        select=lambda groups, factor: opened.evaluation.adapted.layout.select(groups, factor).indices,
        timeout_s=config.timeout_s, participants=participants, admit=door.admit,
        newcomers=link.newcomers if config.offer_roster else bool,
        keep_evidence=EvidenceFolder(opened.output / "evidence", opened.roster).keep,
        observe_step=lambda values: observe("step", values))
    observe("begin", {"rounds_total": total_rounds(opened.manifest),
                      "rounds_done": len(state.history)})
    _save(opened, state, public)
    try:
        for finished in run_rounds(federation, state, journal):
            state = finished  # saved by the journal, before the result was sent and after it was attested
            last = state.history[-1]
            if last.round % config.every_rounds == 0 and last.evaluation is None:
                public[last.round] = opened.evaluation.measure(state.average)
                _save(opened, state, public)
            observe("round", _records(state, public)[-1])
    except GateNotPassedError as error:
        _write_rounds(opened, state, public, config, str(error))
        raise
    _write_result(opened, state, public, config)
    observe("end", {"rounds_done": len(state.history)})
    return state


def _open(config: CoordinatorConfig) -> _Opened:
    roster = SignedRoster.open(Path(config.roster).read_bytes())
    signed = Path(config.manifest).read_bytes()
    manifest = SignedManifest.open(signed, roster)
    _require_patience(config, manifest)
    evaluation = PublicEvaluation.open(
        Path(config.base_model), manifest, Path(config.public_examples))
    _require_ring(manifest, roster, evaluation)
    return _Opened(manifest, signed, roster, SigningKey.from_private_bytes(Path(config.key).read_bytes()),
                   evaluation, Path(config.output))


def _require_patience(config: CoordinatorConfig, manifest: RunManifest) -> None:
    longest = max(stage.reply_after_s for stage in manifest.stages)
    if config.timeout_s <= longest:
        raise ConfigError(f"coordinator.timeout_s={config.timeout_s:g} must be longer than the run's reply_after_s of "
                          f"{longest:g} s, or every site counts as silent")


def _require_ring(manifest: RunManifest, roster: Roster, evaluation: PublicEvaluation) -> None:
    """Every round's sum fits the ring: else each site would refuse its plan (E_PARAMS)."""
    for number, stage in enumerate(manifest.stages):
        for factor in FACTORS[stage.schedule]:
            size = evaluation.adapted.layout.select(stage.groups, factor).size
            try:
                ring_of(manifest, number, size + wire_lanes(manifest), len(roster.sites))
            except ValueError as error:
                raise ConfigError(
                    f"stage {stage.name} does not fit the run's ring: {error}; make a new manifest") from None


def _fresh(opened: _Opened) -> RunState:
    initial = opened.evaluation.adapted.initial
    if adapter_hash(initial) != opened.manifest.adapter_hash:
        raise RoundFailedError("the initial adapter is not the one that the manifest names; "
                               "make the manifest again from this base model")
    server = ServerState.initial(initial)
    return RunState(server.adapter, server.velocity, server.average)


def _resume(opened: _Opened) -> RunState | None:
    found = checkpoint.latest(opened.output / "checkpoints", opened.manifest.hash().hex())
    if found is None:
        return None
    reports = tuple(RoundReport(**entry) for entry in found.history)
    closing = Closing(
        SignedResult.from_bytes(bytes.fromhex(found.result)), found.packed_sum,
        tuple(Attest.from_bytes(bytes.fromhex(attest)) for attest in found.attests),
        Plan.from_bytes(bytes.fromhex(found.plan)) if found.plan else None) if found.result else None
    return RunState(found.adapter, found.velocity, found.average, reports, closing=closing)


_ORIGIN = {
    "patient-dp": "Trained by several sites on secure sums of noised updates. This card is no privacy statement: "
                  "epsilon is what each site's own ledger says.",
    "none": "Trained by several sites on secure sums WITHOUT differential privacy (comparison in a simulation).",
}


def describe_origin(manifest: RunManifest) -> str:
    """The sentence that an exported adapter's card says of how it was trained."""
    return _ORIGIN[manifest.privacy]


def _save(opened: _Opened, state: RunState, public: PublicMetrics) -> None:
    closing = state.closing
    if closing is not None:
        checkpoint.save(opened.output / "checkpoints", checkpoint.Checkpoint(
            round=len(state.history), adapter=state.adapter, velocity=state.velocity, average=state.average,
            manifest_hash=opened.manifest.hash().hex(), history=_records(state, public),
            packed_sum=closing.packed, result=closing.result.to_bytes().hex(),
            attests=[attest.to_bytes().hex() for attest in closing.attests],
            plan=closing.plan.to_bytes().hex() if closing.plan is not None else ""))


def _records(state: RunState, public: PublicMetrics) -> list[dict[str, Any]]:
    """The history as plain values, each round with what was measured on public data after it."""
    return [{**report_fields(report), "public": dict(public.get(report.round, {}))} for report in state.history]


class _Journal:
    """A manifest's attempt numbers and begun uploads, on disk before they are used (`coordinator.rounds.Journal`).

    `keep` saves the state, with the result that is about to be sent.
    """

    def __init__(
        self, path: Path, manifest_hash: str, keep: Callable[[RunState], None] = lambda state: None
    ) -> None:
        self._path, self._manifest_hash, self.keep = path, manifest_hash, keep
        facts = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        ours = facts.get("manifest_hash") == manifest_hash
        self._attempts: dict[str, int] = facts["attempts"] if ours else {}
        self._masked: dict[str, int] = facts["masked"] if ours else {}  # round -> stage

    def next_attempt(self, number: int) -> int:
        self._attempts[str(number)] = self._attempts.get(str(number), 0) + 1
        self._write()
        return self._attempts[str(number)]

    def will_mask(self, number: int, stage: int) -> None:
        self._masked[str(number)] = stage
        self._write()

    def with_lost_rounds(self, state: RunState) -> RunState:
        """`state` with the rounds whose uploads began and which it does not hold as finished."""
        finished = {report.round for report in state.history}
        return replace(state, lost=tuple(
            stage for number, stage in sorted(self._masked.items()) if int(number) not in finished))

    def _write(self) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        facts = {"manifest_hash": self._manifest_hash, "attempts": self._attempts, "masked": self._masked}
        write_whole(self._path, json.dumps(facts).encode())


def _write_result(opened: _Opened, state: RunState, public: PublicMetrics, config: CoordinatorConfig) -> None:
    """The adapter in PEFT layout and `rounds.json` beside it."""
    adapted = opened.evaluation.adapted
    adapted.write(state.average)
    claim = audit_claim(config.audit, subject_of(opened.manifest, config.data_hash),
                        private=opened.manifest.privacy != "none")
    save_adapter(adapted.model, opened.output / "adapter", base=opened.manifest.base_model_hash.hex(),
                 description=describe_origin(opened.manifest), audit=claim.text)
    _write_rounds(opened, state, public, config, "complete")


def _write_rounds(
    opened: _Opened, state: RunState, public: PublicMetrics, config: CoordinatorConfig, ended: str
) -> None:
    """`rounds.json`: the history, and how the run ended."""
    claim = audit_claim(config.audit, subject_of(opened.manifest, config.data_hash),
                        private=opened.manifest.privacy != "none")
    facts = {"written_utc": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
             "manifest_hash": opened.manifest.hash().hex(), "ended": ended,
             "audited": claim.audited, "audit": claim.text, "rounds": _records(state, public)}
    partial = opened.output / "rounds.json.partial"
    partial.write_text(json.dumps(facts, indent=1), encoding="utf-8")
    partial.replace(opened.output / "rounds.json")
