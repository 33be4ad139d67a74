"""The round loop: pick stage, send plan, relay keys and shares, fold masked uploads, unmask, update, checkpoint.

Nothing here knows Flower, torch or a site's data. A round that does not reach its quorum raises and names who was
missing; it never goes on with a smaller sum than the roster allows.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from coordinator.curriculum import Position, RoundSummary, position_after
from coordinator.exchange import Link, Outgoing, Reply
from coordinator.server_update import ServerOptimizer, moving_average
from privacy.errors import CohortTooSmallError, FaultySiteError, MessageFormatError, ProtocolError
from privacy.identity import Roster, SigningKey
from privacy.messages import ErrorReply, Plan, RunManifest
from privacy.secagg.params import RingParams, ring_params
from privacy.secagg.quantize import dequantize_sum
from privacy.secagg.server import CoordinatorRound
from privacy.statistics import LANES, Statistics, lane_scale

__all__ = ["Federation", "RoundFailedError", "RoundReport", "RunState", "lost_round", "report_fields", "run_rounds"]

Selector = Callable[[Sequence[str], str], npt.NDArray[np.int64]]


class RoundFailedError(RuntimeError):
    """A round that ended without a sum. The text names the step, the quorum and who was missing and why."""


@dataclass(frozen=True, slots=True)
class Federation:
    """What does not change during a run."""

    manifest: RunManifest
    roster: Roster
    signing_key: SigningKey
    link: Link
    select: Selector              # (groups, factor) -> indices of the trained coordinates
    optimizer: ServerOptimizer
    average_decay: float
    timeout_s: float
    participants: tuple[str, ...]  # sites that accepted the manifest
    on_masking: Callable[[int], None] = lambda number: None  # before uploads are asked for: the round is spent


@dataclass(frozen=True, slots=True)
class RunState:
    """What does: adapter float32[D], server momentum float64[D], and one record for each finished round.

    `average` float64[D] is the moving average of the adapters: what is evaluated and exported, never trained on.
    """

    adapter: npt.NDArray[np.float32]
    velocity: npt.NDArray[np.float64]
    average: npt.NDArray[np.float64]
    history: tuple[RoundReport, ...] = ()


@dataclass(frozen=True, slots=True)
class RoundReport:
    """Facts of one finished round, all of them public or noised."""

    round: int
    attempt: int
    stage: int
    stage_name: str
    factor: str
    invited: list[str]
    started: list[str]
    masked: list[str]
    summed: list[str]
    missing: dict[str, str]
    drawn: float
    mean_loss: float | None
    accuracy: float | None
    bytes_to_sites: dict[str, int]
    bytes_from_sites: dict[str, int]
    seconds: float
    public: dict[str, float] = field(default_factory=dict)  # metrics on public data, added by the caller


def run_rounds(
    federation: Federation, state: RunState, *, first_attempt: Callable[[int], int] = lambda number: 1
) -> Iterator[RunState]:
    """Run the rest of the curriculum, yielding the state after each round.

    Args:
        state: where to begin; a resumed run passes its checkpoint's state.
        first_attempt: round number -> attempt number never used before (a restart must not reuse one).

    Raises:
        RoundFailedError: a step fell below its quorum.
        NonFiniteUpdateError: see :class:`coordinator.server_update.ServerOptimizer`.
    """
    stages = federation.manifest.stages
    while True:
        summaries = [RoundSummary(entry.stage, entry.mean_loss) for entry in state.history]
        position = position_after(summaries, stages)
        if position is None:
            return
        number = len(state.history) + 1
        state = _one_round(federation, state, position, number, first_attempt(number))
        yield state


def _one_round(
    federation: Federation, state: RunState, position: Position, number: int, attempt: int
) -> RunState:
    begin = time.monotonic()
    manifest = federation.manifest
    stage = manifest.stages[position.stage]
    indices = federation.select(stage.groups, position.factor)
    ring = ring_params(manifest.bits, manifest.saturation, len(federation.roster.sites))
    plan = _plan(federation, state, position, number, attempt, ring, len(indices))
    protocol = _Exchange(federation, CoordinatorRound(
        plan=plan, roster=federation.roster, signing_key=federation.signing_key), number)
    total = dequantize_sum(protocol.run(state.adapter), ring)
    weights = {terms.site_id: terms.weight for terms in manifest.sites}
    adapter, velocity = federation.optimizer.step(
        state.adapter, state.velocity, indices, total[: len(indices)], sum(weights[s] for s in protocol.summed))
    statistics = lane_scale(manifest, position.stage).decode(total[len(indices):])
    report = _report(protocol, plan, stage.name, statistics, time.monotonic() - begin)
    average = moving_average(state.average, adapter, len(state.history), federation.average_decay)
    return RunState(adapter, velocity, average, (*state.history, report))


def _plan(
    federation: Federation, state: RunState, position: Position, number: int, attempt: int, ring: RingParams,
    size: int,
) -> Plan:
    manifest = federation.manifest
    return Plan(
        manifest_hash=manifest.hash(), round=number, attempt=attempt, stage=position.stage, factor=position.factor,
        model_hash=hashlib.sha256(state.adapter.astype("<f4").tobytes()).digest(),
        dimension=size + len(LANES), num_lanes=len(LANES), bits=manifest.bits, scale=ring.scale,
        saturation=manifest.saturation, roster_hash=federation.roster.hash(),
        federation_id=manifest.federation_id, run_id=manifest.run_id,
    )


def _report(
    protocol: _Exchange, plan: Plan, stage_name: str, statistics: Statistics, seconds: float
) -> RoundReport:
    return RoundReport(
        round=plan.round, attempt=plan.attempt, stage=plan.stage, stage_name=stage_name, factor=plan.factor,
        invited=sorted(protocol.federation.participants), started=sorted(protocol.started),
        masked=sorted(protocol.masked), summed=sorted(protocol.summed), missing=dict(protocol.missing),
        drawn=statistics.drawn, mean_loss=statistics.mean_loss, accuracy=statistics.accuracy,
        bytes_to_sites=dict(protocol.sent), bytes_from_sites=dict(protocol.received), seconds=seconds,
    )


class _Exchange:
    """Drives one :class:`CoordinatorRound` over the link and keeps count of who did what and how many bytes."""

    def __init__(self, federation: Federation, protocol: CoordinatorRound, number: int) -> None:
        self.federation, self.protocol, self.number = federation, protocol, number
        self.missing: dict[str, str] = {}
        self.sent: dict[str, int] = dict.fromkeys(federation.participants, 0)
        self.received: dict[str, int] = dict.fromkeys(federation.participants, 0)
        self.started: list[str] = []
        self.masked: list[str] = []
        self.summed: list[str] = []

    def run(self, adapter: npt.NDArray[np.float32]) -> npt.NDArray[np.uint32]:
        """All five steps; the ring sum uint32[d] over the surviving sites."""
        protocol = self.protocol
        plan = Outgoing(protocol.signed_plan(), adapter)
        self.started = self._step("sa_train", dict.fromkeys(self.federation.participants, plan),
                                  lambda reply: protocol.receive_advertise(reply.site_id, reply.body))
        shared = self._close("sa_train", protocol.close_advertise)
        self._step("sa_share", shared, lambda reply: protocol.receive_share(reply.site_id, reply.body))
        envelopes = self._close("sa_share", protocol.close_share)
        self.federation.on_masking(self.number)
        self.masked = self._step("sa_mask", envelopes, self._fold)
        survivors = self._close("sa_mask", protocol.close_masked)
        self._step("sa_confirm", survivors, lambda reply: protocol.receive_confirm(reply.site_id, reply.body))
        confirmed = self._close("sa_confirm", protocol.close_confirm)
        self._step("sa_unmask", confirmed, lambda reply: protocol.receive_unmask(reply.site_id, reply.body))
        try:
            total = protocol.finish()
        except ProtocolError as error:  # too few, or a dealer whose shares do not rebuild its secret
            raise self._failed("sa_unmask", error) from None
        self.summed = list(protocol.survivors)
        return total

    def _fold(self, reply: Reply) -> None:
        if reply.vector is None:
            raise FaultySiteError("E_FORMAT", reply.site_id)
        self.protocol.receive_masked(reply.site_id, reply.body, np.asarray(reply.vector, dtype=np.uint8))

    def _step(
        self, step: str, outgoing: Mapping[str, Outgoing], accept: Callable[[Reply], None]
    ) -> list[str]:
        """Send `step`, hand each good reply to `accept`, record the rest; the sites whose reply was accepted."""
        accepted = []
        for site, message in outgoing.items():
            self.sent[site] += message.size_bytes
        for reply in self.federation.link.exchange(step, outgoing, self.federation.timeout_s):
            self.received[reply.site_id] += reply.size_bytes
            reason = reply.failure or _refusal(reply)
            if reason is None:
                try:
                    accept(reply)
                    accepted.append(reply.site_id)
                except ProtocolError as error:
                    reason = error.code
                except MessageFormatError:
                    reason = "E_FORMAT"
            if reason is not None:
                self.missing[reply.site_id] = f"{step}: {reason}"
        return accepted

    def _close(self, step: str, close: Callable[[], Mapping[str, bytes]]) -> dict[str, Outgoing]:
        try:
            return {site: Outgoing(body) for site, body in close().items()}
        except CohortTooSmallError as error:
            raise self._failed(step, error) from None

    def _failed(self, step: str, error: ProtocolError) -> RoundFailedError:
        missing = "; ".join(f"{site} ({why})" for site, why in sorted(self.missing.items())) or "nobody"
        return RoundFailedError(
            f"round {self.number} stopped at {step} ({error.code}, blamed: {error.blamed}): no sum of the roster's "
            f"{len(self.federation.roster.sites)} sites; missing: {missing}")


def _refusal(reply: Reply) -> str | None:
    """The error code of a reply that is an :class:`ErrorReply`, else None."""
    try:
        return ErrorReply.from_bytes(reply.body).code
    except MessageFormatError:
        return None


def lost_round(manifest: RunManifest, state: RunState, participants: Sequence[str]) -> RunState:
    """`state` after a round that stopped once uploads had been asked for.

    Sites never mask a second update for the same round, so it stays in the history without a sum: the adapter is
    unchanged and the round counts towards its stage, as it does in every site's ledger.
    """
    summaries = [RoundSummary(entry.stage, entry.mean_loss) for entry in state.history]
    position = position_after(summaries, manifest.stages)
    if position is None:
        return state
    report = RoundReport(
        round=len(state.history) + 1, attempt=0, stage=position.stage,
        stage_name=manifest.stages[position.stage].name, factor=position.factor, invited=sorted(participants),
        started=[], masked=[], summed=[], missing=dict.fromkeys(participants, "lost: stopped after uploads began"),
        drawn=0.0, mean_loss=None, accuracy=None, bytes_to_sites={}, bytes_from_sites={}, seconds=0.0)
    return RunState(state.adapter, state.velocity, state.average, (*state.history, report))


def report_fields(report: RoundReport) -> dict[str, Any]:
    """A report as plain values for JSON."""
    return asdict(report)
