"""A hospital with a stand-in model, so that the session's own rules can be tested in milliseconds."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from configs.schema import PolicyConfig
from model.adapter import Selection
from model.server_optimizer import ServerOptimizer, ServerState, model_hash, total_weight
from privacy.entropy import Entropy
from privacy.identity import Roster, RosterSite, SigningKey
from privacy.ledger import Ledger
from privacy.messages import (
    Attest,
    ErrorReply,
    Hello,
    HelloList,
    LedgerMark,
    Plan,
    Ready,
    Result,
    RoundStart,
    RunManifest,
    SignedManifest,
    SignedPlan,
    SignedResult,
    SiteTerms,
    SourceShare,
    StageSpec,
    Witness,
    WitnessList,
)
from privacy.release import release_hash
from privacy.secagg.params import ring_params
from privacy.secagg.quantize import dequantize_sum, pack
from privacy.secagg.server import CoordinatorRound
from privacy.statistics import WIRE_LANES
from site_client.evidence_store import EvidenceStore
from site_client.ledger_approval import LedgerApproval
from site_client.peers import PeerMarks
from site_client.round_store import RoundStore
from site_client.run_approval import RunApprovals
from site_client.session import SiteSession
from site_client.spool import Spool
from site_client.training import LocalUpdate

IDS = ("site-1", "site-2", "site-3", "site-4")
SIZE = 6
ADAPTER = np.linspace(-1, 1, 9, dtype=np.float32)


class Seeded(Entropy):
    """A repeatable source for one purpose."""

    def __init__(self, *purpose: str) -> None:
        super().__init__(hashlib.sha256("|".join(purpose).encode()).digest(), simulated=True)


def key_of(name: str) -> SigningKey:
    return SigningKey.from_private_bytes(hashlib.sha256(name.encode()).digest())


COORDINATOR = key_of("coordinator")
ROSTER = Roster(
    federation_id="fed", version=1, coordinator_key=COORDINATOR.public_bytes(),
    sites=tuple(RosterSite(site, key_of(site).public_bytes(), 100 * (i + 1)) for i, site in enumerate(IDS)),
    min_cohort=3, min_fraction=0.5)
STAGE = StageSpec(
    name="one", sources=(SourceShare("reports", 2),), groups=("attention",), schedule="alternate", learning_rate=0.1,
    momentum=0.0, local_steps=2, sampling_rate=0.1, noise_multiplier=2.0, max_rounds=2)
MANIFEST = RunManifest(
    federation_id="fed", run_id="run", release=release_hash(), roster_hash=ROSTER.hash(), base_model_hash=bytes(32),
    adapter_hash=bytes(32), lora_rank=8, lora_alpha=16, privacy="patient-dp", clip_norm=1.0, target_epsilon=8.0,
    lane_share=0.1, bits=24, saturation=2.0, stages=(STAGE, replace(STAGE, name="two")),
    sites=tuple(SiteTerms(site, 100 * (i + 1), 0.1 * (i + 1), 1e-5) for i, site in enumerate(IDS)))
RING = ring_params(24, 2.0, 4)
PLAN = Plan(
    federation_id="fed", run_id="run", roster_hash=ROSTER.hash(), manifest_hash=MANIFEST.hash(), round=1, attempt=1,
    stage=0, factor="B", model_hash=model_hash(ADAPTER), dimension=SIZE + WIRE_LANES, num_lanes=WIRE_LANES,
    bits=24, scale=RING.scale, saturation=2.0)


Attested = tuple[SignedResult | None, tuple[Attest, ...]]
INITIAL = ServerState.initial(ADAPTER.astype(np.float64))


def plan_of(manifest: RunManifest = MANIFEST, after: Attested = (None, ()), **changed: Any) -> bytes:
    """The first message of a round; `after` is the attested result that it goes on from."""
    plan = replace(PLAN, run_id=manifest.run_id, manifest_hash=manifest.hash(), **changed)
    return RoundStart(SignedPlan.signed(COORDINATOR, (), plan=plan), *after).to_bytes()


def attested(
    state: ServerState, signers: tuple[str, ...] = ("site-2", "site-3", "site-4"), **changed: Any
) -> Attested:
    """A result that leads to `state`, signed by the coordinator and by `signers`."""
    result = replace(
        Result("run", 0, bytes(32), bytes(32), 4, IDS, "B", bytes(32), state.model_hash, state.state_hash,
               max(1, state.finished)), **changed)
    return SignedResult.make(result, COORDINATOR), tuple(Attest.make(site, result, key_of(site)) for site in signers)


def manifest_of(**changed: Any) -> RunManifest:
    return replace(MANIFEST, **changed)


@dataclass
class Model:
    """Stands for the adapted model: shapes only, and what was written last."""

    base: Any = field(default_factory=lambda: SimpleNamespace(content_hash=bytes(32)))
    model: Any = None
    written: Any = None

    @property
    def layout(self) -> Any:
        return SimpleNamespace(
            size=ADAPTER.size,
            select=lambda groups, factor: Selection(("x",), SIZE, np.arange(SIZE, dtype=np.int64)))

    @property
    def initial(self) -> np.ndarray:
        return ADAPTER.astype(np.float64)

    def write(self, vector: np.ndarray) -> None:
        self.written = vector

    def encode(self, examples: Any) -> list[Any]:
        return list(examples)


class Site:
    """Stands for an installation: a real ledger and spool in a folder, everything else in memory."""

    engine = "own"

    def __init__(self, folder: Path, site_id: str = "site-1", **policy: Any) -> None:
        self.site_id, self.roster, self.key = site_id, ROSTER, key_of(site_id)
        self.config = SimpleNamespace(policy=PolicyConfig(
            **{"max_epsilon": 8.0, "require_scheduled_replies": False, **policy}))
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.ledger = Ledger.open(
            folder / "ledger.sqlite", signing_key=self.key, epsilon_cap=self.config.policy.max_epsilon,
            allow_unnoised=self.config.policy.allow_without_privacy)
        self.spool = Spool(folder)
        self.peers = PeerMarks(folder / "peers.sqlite", ROSTER.federation_id)
        self.evidence = EvidenceStore(folder / "evidence.sqlite", ROSTER)
        self.approval = LedgerApproval(folder)
        self.run_approvals = RunApprovals(folder)
        self.rounds = RoundStore(folder)

    def model(self, lora: object) -> Model:
        return Model()

    def check_max_patients(self) -> None:
        """Its folder is empty."""

    def microbatch_tokens(self, adapted: object) -> int:
        return 4096

    def patients(self, adapted: object) -> list[Any]:
        events.append("patients")
        return []


events: list[str] = []
UPDATE = LocalUpdate(np.linspace(-0.5, 0.5, SIZE), np.array([0.01, 0.02, 0.03]))


@pytest.fixture(autouse=True)
def light(monkeypatch: pytest.MonkeyPatch) -> None:
    """Training without a model; `events` says in which order things happened."""
    events.clear()

    def trains(*_: object) -> LocalUpdate:
        events.append("train")
        return UPDATE

    monkeypatch.setattr("site_client.session.run_local_steps", trains)
    monkeypatch.setattr("site_client.session.rehearse", lambda *_: events.append("rehearse"))
    monkeypatch.setattr("site_client.session.probe_is_finite", lambda *_: True)


def session_of(site: Site, manifest: RunManifest | None = MANIFEST) -> SiteSession:
    session = SiteSession(site, lambda purpose: Seeded(site.site_id, purpose))  # type: ignore[arg-type]
    if manifest is not None:
        admit(session, manifest)
    return session


def admit(session: SiteSession, manifest: RunManifest = MANIFEST) -> None:
    """Hello, witness, restore with three peers that have never seen this site's ledger."""
    own = Hello.from_bytes(hello(session, manifest))
    run = manifest.hash()
    peers = [site for site in IDS if site != own.site_id]
    hellos = [own]
    for peer in peers:
        mark = LedgerMark.empty(peer, ROSTER.federation_id, key_of(peer))
        hellos.append(Hello.make(mark, bytes(32), run, key_of(peer)))
    listed = HelloList(run, tuple(hellos))
    WitnessList.from_bytes(session.answer("witness", listed.to_bytes(), None)[0])
    statements = tuple(
        Witness.signed(key_of(peer), (run, listed.hash()), site_id=peer, subject=own.site_id, marks=())
        for peer in peers)
    Ready.from_bytes(session.answer("restore", WitnessList(run, statements).to_bytes(), None)[0])


def hello(session: SiteSession, manifest: RunManifest) -> bytes:
    return session.answer("hello", SignedManifest.make(manifest, COORDINATOR).to_bytes(), None)[0]


def train(session: SiteSession, start: bytes, state: np.ndarray | None = None) -> bytes:
    return session.answer("sa_train", start, state)[0]


def code(reply: bytes) -> str:
    return ErrorReply.from_bytes(reply).code


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path / "site-1")


# ------------------------------------------------------------------ a whole round


class Round:
    """A coordinator and four sessions; `run` stops before the named step. Rounds go on from each other."""

    def __init__(self, folder: Path) -> None:
        self.sites = {site: Site(folder / site, site) for site in IDS}
        self.sessions = {name: session_of(site) for name, site in self.sites.items()}
        self.requests: dict[str, dict[str, bytes]] = {}
        self.state = INITIAL
        self.after: Attested = (None, ())
        self.signed: SignedResult | None = None
        self.packed = np.zeros(0, dtype=np.uint8)
        self.next = INITIAL
        self.silent_at_unmask: tuple[str, ...] = ()

    def run(self, before: str = "", **plan: Any) -> np.ndarray | None:
        to = CoordinatorRound(
            plan=replace(PLAN, **{"model_hash": self.state.model_hash, **plan}), roster=ROSTER, signing_key=COORDINATOR)
        start = RoundStart(SignedPlan.from_bytes(to.signed_plan()), *self.after)
        requests = dict.fromkeys(IDS, start.to_bytes())
        steps: list[tuple[str, Callable[..., None], Callable[[], dict[str, bytes]]]] = [
            ("sa_train", to.receive_advertise, to.close_advertise), ("sa_share", to.receive_share, to.close_share),
            ("sa_mask", to.receive_masked, to.close_masked), ("sa_confirm", to.receive_confirm, to.close_confirm),
            ("sa_unmask", to.receive_unmask, dict)]
        for step, receive, close in steps:
            self.requests[step] = requests
            if step == before:
                return None
            for name, body in requests.items():
                if step == "sa_unmask" and name in self.silent_at_unmask:
                    continue
                reply, vector = self.sessions[name].answer(step, body, self.whole(name) if step == "sa_train" else None)
                receive(name, reply, vector) if step == "sa_mask" else receive(name, reply)
            requests = close()
        total = to.finish()
        self._close(start.plan.plan, to, total)
        if before != "sa_result":
            self.attest()
        return dequantize_sum(total, RING)

    def whole(self, name: str) -> np.ndarray | None:
        """What `name` is sent beside the plan: the state, unless it attested it."""
        up_to_date = self.after[0] is None or name in {attest.site_id for attest in self.after[1]}
        return None if up_to_date else self.state.packed()

    def _close(self, plan: Plan, to: CoordinatorRound, total: np.ndarray) -> None:
        view, self.packed = to.view, pack(total, 24)
        self.next = self.state.after(
            np.arange(SIZE), dequantize_sum(total, RING)[:SIZE],
            total_weight(MANIFEST.terms(site).weight for site in view.survivors),
            optimizer=ServerOptimizer(), average_decay=MANIFEST.server.average_decay)
        self.signed = SignedResult.make(Result(
            plan.run_id, plan.round, view.ctx, view.h3, view.announced, view.survivors, plan.factor,
            hashlib.sha256(self.packed.tobytes()).digest(), self.next.model_hash, self.next.state_hash,
            self.next.finished), COORDINATOR)

    def attest(self, names: tuple[str, ...] = IDS) -> None:
        """Show the result to these sites and go on from it."""
        assert self.signed is not None
        replies = [self.ask(name) for name in names]
        self.after = (self.signed, tuple(Attest.from_bytes(reply) for reply in replies))
        self.state = self.next

    def ask(self, name: str, **changed: Any) -> bytes:
        """One site's answer to the result, or to a version of it that the coordinator signed as well."""
        assert self.signed is not None
        packed = changed.pop("packed", self.packed)
        signed = SignedResult.make(replace(self.signed.result, **changed), COORDINATOR)
        return self.sessions[name].answer("sa_result", signed.to_bytes(), packed)[0]
