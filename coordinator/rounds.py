"""The round loop: pick stage, send plan, relay keys and shares, fold masked uploads, unmask, update, attest.

Nothing here knows Flower, torch or a site's data. A round that does not reach its quorum raises and names who was
missing; it never goes on with a smaller sum than the roster allows.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from coordinator.conversation import Conversation, RoundFailedError, StepObserver, nobody_watches
from coordinator.curriculum import Position, RoundSummary, position_after
from coordinator.exchange import Link, Outgoing, Reply
from coordinator.state_agreement import NOT_ADMITTED, Attestation, Closing, close_round, round_starts
from model.server_optimizer import ServerOptimizer, ServerState, model_hash
from privacy.aggregation import fewest_survivors, sum_terms
from privacy.errors import CohortTooSmallError, FaultySiteError, ProtocolError
from privacy.evidence import Evidence
from privacy.identity import Roster, SigningKey
from privacy.messages import Plan, RunManifest
from privacy.secagg.params import RingParams
from privacy.secagg.quantize import dequantize_sum, pack
from privacy.secagg.rings import ring_of, wire_lanes
from privacy.secagg.server import CoordinatorRound
from privacy.statistics import LANES, Statistics, lane_scale, mean_saturated

__all__ = ["Federation", "Journal", "RoundFailedError", "RoundReport", "RunState", "report_fields", "run_rounds"]

Selector = Callable[[Sequence[str], str], npt.NDArray[np.int64]]


class Journal(Protocol):
    """What must be on disk before a round goes on, so that a restart asks no site for what it must refuse."""

    def next_attempt(self, number: int) -> int:
        """An attempt at round `number` that was never used before."""
        ...

    def will_mask(self, number: int, stage: int) -> None:
        """Sites are about to upload for this round; should it end without a sum, its number is spent."""
        ...

    def keep(self, state: RunState) -> None:
        """A result was signed, or attested; no site may see what a restarted coordinator would not know."""
        ...


def _not_kept(_: Evidence) -> None:
    """The default of `Federation.keep_evidence`."""


@dataclass(frozen=True, slots=True)
class Federation:
    """What does not change during a run."""

    manifest: RunManifest
    roster: Roster
    signing_key: SigningKey
    link: Link
    select: Selector              # (groups, factor) -> indices of the trained coordinates
    timeout_s: float
    participants: tuple[str, ...]  # sites that are ready for the run
    admit: Callable[[], tuple[str, ...]] = tuple  # admits sites again; the ones that are ready
    newcomers: Callable[[], bool] = bool  # whether a site may have come that is not a participant
    keep_evidence: Callable[[Evidence], None] = _not_kept  # durably, before the site that it is against is left out
    observe_step: StepObserver = nobody_watches


@dataclass(frozen=True, slots=True)
class RunState:
    """What does: adapter float32[D], server momentum float64[D], and one record for each finished round.

    `average` float64[D] is the moving average of the adapters: what is evaluated and exported, never trained on.

    `lost` holds the stage of each round that ended without a sum after its uploads had begun. The sites have paid
    for it and will not upload it again, so it counts as a round of its stage and its number is not used again.

    `closing` is the signed result of the newest finished round with its attestations, None before the first.
    """

    adapter: npt.NDArray[np.float32]
    velocity: npt.NDArray[np.float64]
    average: npt.NDArray[np.float64]
    history: tuple[RoundReport, ...] = ()
    lost: tuple[int, ...] = ()
    closing: Closing | None = None

    def server(self) -> ServerState:
        """What the next round is computed from."""
        return ServerState(self.adapter, self.velocity, self.average, len(self.history))


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
    saturated: float = 0.0  # mean share of an upload's coordinates that saturation cut off; of the noised vectors
    attested: list[str] = field(default_factory=list)       # who computed the same model and state
    public: dict[str, float] = field(default_factory=dict)  # metrics on public data, added by the caller


def run_rounds(federation: Federation, state: RunState, journal: Journal) -> Iterator[RunState]:
    """Run the rest of the curriculum, yielding the state after each round, its result attested by a quorum.

    Args:
        state: where to begin; a resumed run passes its checkpoint's state, and a round whose result was signed and
            not yet attested is closed first.
        journal: attempt numbers, spent rounds and signed results, kept over a restart.

    Raises:
        RoundFailedError: a step fell below its quorum.
        NonFiniteUpdateError: see :class:`model.server_optimizer.ServerOptimizer`.
    """
    stages = federation.manifest.stages
    while True:
        if state.closing is not None and not state.closing.is_attested(federation.roster):
            state = _attested(federation, state, state.closing, journal)
            yield state
            federation = _with_restarted(federation, state.history[-1])
        summaries = [RoundSummary(entry.stage, entry.mean_loss) for entry in state.history]
        summaries += [RoundSummary(stage, None) for stage in state.lost]
        position = position_after(summaries, stages)
        if position is None:
            return
        state = _one_round(federation, state, position, journal)


def _one_round(federation: Federation, state: RunState, position: Position, journal: Journal) -> RunState:
    """Up to the signed result, which the journal holds when this returns; no site has seen it yet."""
    begin = time.monotonic()
    manifest = federation.manifest
    stage = manifest.stages[position.stage]
    indices = federation.select(stage.groups, position.factor)
    lanes = wire_lanes(manifest)
    dimension = len(indices) + lanes
    ring = ring_of(manifest, position.stage, dimension, len(federation.roster.sites))
    number = len(state.history) + len(state.lost) + 1
    plan = _plan(federation, state, position, number, journal.next_attempt(number), ring, dimension)
    protocol = _Exchange(
        federation, CoordinatorRound(
            plan=plan, roster=federation.roster, signing_key=federation.signing_key, suite=manifest.suite,
            integrity_tags=manifest.integrity_tags, on_evidence=federation.keep_evidence, ring=ring,
            fewest=fewest_survivors(manifest)), number,
        before_masking=lambda: journal.will_mask(number, position.stage))
    total = protocol.run(state)
    real = dequantize_sum(total, ring)
    server, terms = manifest.server, sum_terms(manifest, position.stage, dimension, protocol.summed)
    optimizer = ServerOptimizer(
        terms.learning_rate, server.momentum, server.optimizer, server.second_decay, terms.noise_variance)
    after = state.server().after(
        indices, real[: len(indices)], terms.divisor, optimizer=optimizer, average_decay=server.average_decay)
    statistics = lane_scale(manifest, position.stage).decode(real[len(indices) : len(indices) + len(LANES)])
    saturated = 0.0 if lanes == len(LANES) else mean_saturated(
        float(real[-1]), manifest.saturation, len(protocol.summed))
    report = _report(protocol, plan, stage.name, statistics, saturated, time.monotonic() - begin)
    closing = close_round(
        plan, protocol.protocol.view, pack(total, ring.bits), protocol.protocol.tags, after, federation.signing_key)
    state = replace(state, adapter=after.adapter, velocity=after.velocity, average=after.average,
                    history=(*state.history, report), closing=closing)
    journal.keep(state)
    return state


def _attested(federation: Federation, state: RunState, closing: Closing, journal: Journal) -> RunState:
    """`state` with a quorum of attestations of its last result. Raises RoundFailedError."""
    begin = time.monotonic()
    last = state.history[-1]
    talk = Attestation(
        federation.link, federation.roster, federation.timeout_s, federation.participants, closing.result.result.round,
        federation.observe_step)
    closing = talk.collect(closing, federation.admit)
    last = replace(
        last, attested=list(closing.attested), missing=_why(last.missing, talk.missing),
        bytes_to_sites=_added(last.bytes_to_sites, talk.sent),
        bytes_from_sites=_added(last.bytes_from_sites, talk.received),
        seconds=last.seconds + time.monotonic() - begin)
    state = replace(state, history=(*state.history[:-1], last), closing=closing)
    journal.keep(state)
    if not closing.is_attested(federation.roster):
        raise talk.shortfall(closing)
    return state


def _why(before: Mapping[str, str], now: Mapping[str, str]) -> dict[str, str]:
    """The first cause stays, unless the site now says that it must be admitted again."""
    return {**now, **before, **{site: reason for site, reason in now.items() if reason.endswith(NOT_ADMITTED)}}


def _added(first: Mapping[str, int], more: Mapping[str, int]) -> dict[str, int]:
    return {site: first.get(site, 0) + more.get(site, 0) for site in sorted({*first, *more})}


def _with_restarted(federation: Federation, last: RoundReport) -> Federation:
    """Before the next round: a site whose process was restarted, or that came later, must be admitted to the run."""
    if not (any(reason.endswith(NOT_ADMITTED) for reason in last.missing.values()) or federation.newcomers()):
        return federation
    try:
        ready = federation.admit()
    except RoundFailedError:  # the others need no admission, and the round itself counts who answers
        return federation
    return replace(federation, participants=tuple(sorted({*federation.participants, *ready})))


def _plan(
    federation: Federation, state: RunState, position: Position, number: int, attempt: int, ring: RingParams,
    dimension: int,
) -> Plan:
    manifest = federation.manifest
    return Plan(
        manifest_hash=manifest.hash(), round=number, attempt=attempt, stage=position.stage, factor=position.factor,
        model_hash=model_hash(state.adapter),
        dimension=dimension, num_lanes=wire_lanes(manifest), bits=manifest.bits, scale=ring.scale,
        saturation=manifest.saturation, roster_hash=federation.roster.hash(),
        federation_id=manifest.federation_id, run_id=manifest.run_id,
    )


def _report(
    protocol: _Exchange, plan: Plan, stage_name: str, statistics: Statistics, saturated: float, seconds: float
) -> RoundReport:
    return RoundReport(
        round=plan.round, attempt=plan.attempt, stage=plan.stage, stage_name=stage_name, factor=plan.factor,
        invited=sorted(protocol.participants), started=sorted(protocol.started),
        masked=sorted(protocol.masked), summed=sorted(protocol.summed), missing=dict(protocol.missing),
        drawn=statistics.drawn, mean_loss=statistics.mean_loss, accuracy=statistics.accuracy,
        bytes_to_sites=dict(protocol.sent), bytes_from_sites=dict(protocol.received), seconds=seconds,
        saturated=saturated)


class _Exchange(Conversation):
    """Drives one :class:`CoordinatorRound` over the link and keeps count of who did what."""

    def __init__(
        self, federation: Federation, protocol: CoordinatorRound, number: int, *, before_masking: Callable[[], None]
    ) -> None:
        super().__init__(
            federation.link, federation.roster, federation.timeout_s, federation.participants, number,
            federation.observe_step)
        self.protocol = protocol
        self._before_masking = before_masking
        self._fewest = fewest_survivors(federation.manifest)
        self.started: list[str] = []
        self.masked: list[str] = []
        self.summed: list[str] = []

    def run(self, state: RunState) -> npt.NDArray[np.uint32]:
        """The steps from the plan to the sum; the ring sum uint32[d] over the surviving sites."""
        protocol = self.protocol
        self.started = self._start(state)
        roster, count = self.roster, len(self.started)
        floor, threshold = max(roster.floor(count), self._fewest), roster.threshold(count)
        shared = self._close("sa_train", protocol.close_advertise, count, floor)
        dealt = self._step("sa_share", shared, lambda reply: protocol.receive_share(reply.site_id, reply.body))
        envelopes = self._close("sa_share", protocol.close_share, len(dealt), floor)
        self._before_masking()
        self.masked = self._step("sa_mask", envelopes, self._fold)
        survivors = self._close("sa_mask", protocol.close_masked, len(self.masked), floor)
        agreed = self._step("sa_confirm", survivors, lambda reply: protocol.receive_confirm(reply.site_id, reply.body))
        confirmed = self._close("sa_confirm", protocol.close_confirm, len(agreed), threshold)
        opened = self._step("sa_unmask", confirmed, lambda reply: protocol.receive_unmask(reply.site_id, reply.body))
        try:
            total = protocol.finish()
        except ProtocolError as error:  # too few, or a dealer whose shares do not rebuild its secret
            raise self._failed("sa_unmask", error, len(opened), threshold) from None
        self.summed = list(protocol.survivors)
        return total

    def _start(self, state: RunState) -> list[str]:
        """The plan to all; a site that attested and has lost its state since asks for it and is sent it once."""
        starts, whole = round_starts(
            self.protocol.signed_plan(), state.closing, lambda: state.server().packed(), self.participants)

        def accept(reply: Reply) -> None:
            self.protocol.receive_advertise(reply.site_id, reply.body)

        started = self._step("sa_train", starts, accept)
        lacking = [site for site, why in self.missing.items() if why == "sa_train: P_STATE"]
        return started + (self._step("sa_train", {site: whole() for site in lacking}, accept) if lacking else [])

    def _fold(self, reply: Reply) -> None:
        if reply.vector is None or reply.vector.dtype != np.uint8:
            raise FaultySiteError("E_FORMAT", reply.site_id)
        self.protocol.receive_masked(reply.site_id, reply.body, np.asarray(reply.vector, dtype=np.uint8))

    def _close(
        self, step: str, close: Callable[[], Mapping[str, bytes]], answered: int, needed: int
    ) -> dict[str, Outgoing]:
        try:
            return {site: Outgoing(body) for site, body in close().items()}
        except CohortTooSmallError as error:
            raise self._failed(step, error, answered, needed) from None


def report_fields(report: RoundReport) -> dict[str, Any]:
    """A report as plain values for JSON."""
    return asdict(report)
