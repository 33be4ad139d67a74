"""Sites with a disk: real session, admission, ledger, spool and memory of peers in a folder, without the training."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt

from configs.schema import PolicyConfig
from model.adapter import Selection
from model.server_optimizer import ServerOptimizer, ServerState, total_weight
from privacy.errors import MessageFormatError
from privacy.ledger import Ledger
from privacy.messages import (
    ErrorReply,
    Hello,
    HelloList,
    LedgerMark,
    Plan,
    RunManifest,
    SignedManifest,
    Witness,
    WitnessList,
)
from privacy.release import release_hash
from privacy.secagg.params import RingParams
from privacy.secagg.quantize import QuantizedVector, dequantize_sum, quantize
from privacy.statistics import WIRE_LANES
from simulations.adversaries.consortium import STEPS, Consortium, Refusal, Reply
from site_client.evidence_store import EvidenceStore
from site_client.ledger_approval import LedgerApproval
from site_client.peers import PeerMarks
from site_client.policy import planned_events, terms_of
from site_client.round_store import RoundStore
from site_client.round_terms import round_entry
from site_client.session import SiteSession
from site_client.spool import Spool

__all__ = [
    "Accomplice", "FakeClock", "KeepsNoEvidence", "KeepsNothing", "NoWitnesses", "SessionConsortium", "SessionMember",
    "UntrainedSession", "admit"]

_ADAPTER = np.linspace(-1, 1, 9, dtype="<f4")
_SIZE = 5


class FakeClock:
    """Seconds that pass only when somebody waits or works."""

    def __init__(self) -> None:
        self._seconds = 0.0

    def now(self) -> float:
        """The reading."""
        return self._seconds

    def wait(self, seconds: float) -> None:
        """Let time pass."""
        self._seconds += seconds


class SessionConsortium(Consortium):
    """The same federation with a manifest and plans that a whole session accepts."""

    def __init__(self, n: int = 5) -> None:
        super().__init__(n, dimension=_SIZE + WIRE_LANES)
        self.manifest = replace(self.manifest, release=release_hash())
        self.policy = PolicyConfig(max_epsilon=8.0, require_scheduled_replies=False)  # of every site
        self.clock = FakeClock()
        self.training_seconds: dict[str, float] = {}  # by site; what its draw makes the training last

    def plan(self, **changes: object) -> Plan:
        """See `Consortium`."""
        return super().plan(**{"num_lanes": WIRE_LANES, "model_hash": self.state.model_hash, **changes})

    @property
    def state(self) -> ServerState:
        """What round 1 begins from."""
        return ServerState.initial(_ADAPTER.astype(np.float64))

    def after(self, total: npt.NDArray[np.uint32], survivors: Iterable[str]) -> ServerState:
        """The state that a ring sum of round 1 leads to."""
        server = self.manifest.server
        return self.state.after(
            np.arange(_SIZE, dtype=np.int64), dequantize_sum(total, self.ring)[:_SIZE],
            total_weight(self.manifest.terms(site).weight for site in survivors),
            optimizer=ServerOptimizer(server.learning_rate, server.momentum), average_decay=server.average_decay)


@dataclass
class _Model:
    """Shapes only: what a session asks of an adapted model before and after training."""

    base: Any = field(default_factory=lambda: SimpleNamespace(content_hash=bytes(32)))

    @property
    def layout(self) -> Any:
        chosen = Selection(("x",), _SIZE, np.arange(_SIZE, dtype=np.int64))
        return SimpleNamespace(size=_ADAPTER.size, select=lambda groups, factor: chosen)

    @property
    def initial(self) -> npt.NDArray[np.float64]:
        """The adapter of round 1."""
        return _ADAPTER.astype(np.float64)


class _Folder:
    """Stands for an installation: its state folder is real."""

    engine = "own"

    def __init__(self, world: SessionConsortium, site_id: str, state: Path) -> None:
        self._world = world
        self.site_id, self.roster, self.key = site_id, world.roster, world.keys[site_id]
        self.config = SimpleNamespace(policy=world.policy)
        state.mkdir(parents=True, exist_ok=True)
        self.ledger = Ledger.open(state / "ledger.sqlite", signing_key=self.key, epsilon_cap=8.0)
        self.spool, self.approval = Spool(state), LedgerApproval(state)
        self.peers = PeerMarks(state / "peers.sqlite", world.roster.federation_id)
        self.rounds = RoundStore(state)
        self.evidence = EvidenceStore(state / "evidence.sqlite", world.roster)

    def model(self, lora: object) -> _Model:
        return _Model()

    def spends_time(self) -> None:
        """As long as this site's draw of patients takes."""
        self._world.clock.wait(self._world.training_seconds.get(self.site_id, 0.0))

    def check_max_patients(self) -> None:
        """It has no patients."""

    def close(self) -> None:
        """Release the files, so that they can be replaced."""
        self.ledger.close()
        self.peers.close()
        self.rounds.close()
        self.evidence.close()


class UntrainedSession(SiteSession):
    """A session whose training is a random vector, booked in the ledger like any other."""

    clear: npt.NDArray[np.uint32] = np.zeros(0, dtype=np.uint32)

    def _update(
        self, manifest: RunManifest, plan: Plan, adapter: npt.NDArray[np.float32], arrived_utc: str
    ) -> QuantizedVector:
        vector = super()._update(manifest, plan, adapter, arrived_utc)
        self.clear = vector.values.copy()
        return vector

    def _trained(
        self, manifest: RunManifest, plan: Plan, adapter: npt.NDArray[np.float32], adapted: object, selection: object,
        ring: RingParams, arrived_utc: str,
    ) -> QuantizedVector:
        terms, ledger = terms_of(manifest, self._site.site_id), self._site.ledger
        source = self._entropy("training")
        self._site.spends_time()  # type: ignore[attr-defined]
        ledger.reserve_run(manifest.run_id, manifest.hash().hex(), planned_events(manifest), terms.delta, arrived_utc)
        ledger.reserve(round_entry(manifest, plan, terms.delta, source, arrived_utc))
        drawn = 4.0 * (source.uniform64(plan.dimension).astype(np.float64) * 2.0**-64) - 2.0
        return quantize(terms.weight * drawn, ring)


class KeepsNoEvidence(UntrainedSession):
    """Forgets what others signed."""

    def _watch(self, step: str, body: bytes) -> None:
        """Nothing is kept."""


class KeepsNothing(UntrainedSession):
    """Does not book that a masked vector leaves, and keeps the update."""

    def _spend(self, *_: object) -> LedgerMark:
        """Nothing is written."""
        return self._admission.mark()

    def _confirm(self, body: bytes, _: object) -> tuple[bytes, None]:
        """Nothing is written."""
        return self._current().protocol.confirm(body), None

    def _finish(self, plan: Plan) -> None:
        """Nothing is written."""


class NoWitnesses(UntrainedSession):
    """Works without being admitted by its peers."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._admission.require_ready = lambda manifest: None  # type: ignore[method-assign]


class Accomplice(NoWitnesses, KeepsNothing):
    """A colluding site: it goes along with anything."""


class SessionMember:
    """A site as a coordinator reaches it, with a state folder that an attacker may copy and put back.

    Args:
        world: the federation.
        site_id: which of its sites.
        state: its folder; made when missing.
        kind: the class of its sessions.
    """

    def __init__(self, world: SessionConsortium, site_id: str, state: Path, kind: type[UntrainedSession]) -> None:
        self.site_id, self._world, self._state, self._kind = site_id, world, state, kind
        self._starts = 0
        self._open()

    def ask(self, step: int, body: bytes) -> Reply:
        """See `Member`."""
        return self.answer(STEPS[step], body)

    def answer(self, step: str, body: bytes, vector: npt.NDArray[np.generic] | None = None) -> Reply:
        """The reply to any step. Raises Refusal, and RuntimeError where an exception of the site stands behind it."""
        reply, packed = self._session.answer(step, body, vector)
        try:
            refused = ErrorReply.from_bytes(reply)
        except MessageFormatError:
            return Reply(reply, None if packed is None else packed.astype(np.uint8, copy=False))
        if refused.code == "E_SITE":  # a site that crashes leaks nothing either: that is no answer to an attack
            raise RuntimeError(f"{self.site_id} crashed at {step}; its log says where")
        raise Refusal(refused.code, refused.blamed)

    def vector(self) -> npt.NDArray[np.uint32]:
        """See `Member`."""
        return self._session.clear

    def loot(self) -> tuple[bytes, ...]:
        """See `Member`."""
        current = self._session._open
        pairs = () if current is None else (current.protocol._channel_pair, current.protocol._mask_pair)
        return tuple(pair.private_bytes() for pair in pairs if pair is not None)

    @property
    def evidence(self) -> EvidenceStore:
        """What it can prove against others."""
        return self._folder.evidence

    def backup(self) -> None:
        """Copy the state folder, as a backup of a running machine would."""
        shutil.copytree(self._state, self._copy, dirs_exist_ok=True)

    def restart(self, *, restored: bool = False) -> None:
        """Stop the process and start it again, on the folder as it is or as the backup has it."""
        self._folder.close()
        if restored:
            shutil.rmtree(self._state)
            shutil.copytree(self._copy, self._state)
        self._open()

    @property
    def _copy(self) -> Path:
        return self._state.with_name(f"{self._state.name}-backup")

    def _open(self) -> None:
        self._starts += 1
        start = str(self._starts)
        self._folder = _Folder(self._world, self.site_id, self._state)
        self._session = self._kind(
            self._folder, lambda purpose: self._world.entropy(self.site_id, start, purpose),  # type: ignore[arg-type]
            clock=self._world.clock.now, sleep=self._world.clock.wait)


def admit(
    world: SessionConsortium, members: dict[str, SessionMember],
    shown: Callable[[str, list[Witness]], list[Witness]], forgetful: Collection[str],
) -> dict[str, Refusal]:
    """The three steps before a run among `members`; who refused, and how.

    Args:
        shown: (site, statements about it) -> those that it is shown.
        forgetful: colluding sites, which say that they have never seen anybody's ledger.
    """
    signed = SignedManifest.make(world.manifest, world.coordinator_key).to_bytes()
    refused: dict[str, Refusal] = {}

    def told(step: str, body: bytes, site: str) -> list[bytes]:
        try:
            return [members[site].answer(step, body).body]
        except Refusal as refusal:
            refused[site] = refusal
            return []

    run = world.manifest.hash()
    hellos = [Hello.from_bytes(reply) for site in members for reply in told("hello", signed, site)]
    everybody = HelloList(run, tuple(hellos))
    listed = everybody.to_bytes()
    present = [hello.site_id for hello in hellos]
    statements: list[Witness] = []
    for site in present:
        for reply in told("witness", listed, site):
            entries = WitnessList.from_bytes(reply).entries
            statements += [_forgotten(world, everybody, e) for e in entries] if site in forgetful else entries
    for site in present:
        about = shown(site, [statement for statement in statements if statement.subject == site])
        told("restore", WitnessList(run, tuple(about)).to_bytes(), site)
    return refused


def _forgotten(world: SessionConsortium, listed: HelloList, witness: Witness) -> Witness:
    """The same witness, who says that it has seen nothing."""
    return Witness.signed(
        world.keys[witness.site_id], (listed.manifest_hash, listed.hash()), site_id=witness.site_id,
        subject=witness.subject, marks=())
