"""The round loop: pick stage, send plan, relay keys and shares, fold masked uploads, unmask, update, checkpoint.

Nothing here knows Flower, torch or a site's data. A round that does not reach its quorum raises and names who was
missing; it never goes on with a smaller sum than the roster allows.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from coordinator.curriculum import Position, RoundSummary, position_after
from coordinator.exchange import Link, Outgoing, Reply
from coordinator.server_update import ServerOptimizer, moving_average
from privacy.errors import FAULTS, CohortTooSmallError, FaultySiteError, MessageFormatError, ProtocolError
from privacy.evidence import Evidence
from privacy.identity import Roster, SigningKey
from privacy.messages import ErrorReply, Plan, RunManifest
from privacy.secagg.params import RingParams, ring_params
from privacy.secagg.quantize import dequantize_sum
from privacy.secagg.server import CoordinatorRound
from privacy.statistics import LANES, Statistics, lane_scale

__all__ = ["Federation", "Journal", "RoundFailedError", "RoundReport", "RunState", "report_fields", "run_rounds"]

_NOT_ADMITTED = ("P_NOT_APPROVED", "P_WITNESS")  # what a process says that was not admitted
Selector = Callable[[Sequence[str], str], npt.NDArray[np.int64]]


class Journal(Protocol):
    """What must be on disk before a round goes on, so that a restart asks no site for what it must refuse."""

    def next_attempt(self, number: int) -> int:
        """An attempt at round `number` that was never used before."""
        ...

    def will_mask(self, number: int, stage: int) -> None:
        """Sites are about to upload for this round; should it end without a sum, its number is spent."""
        ...


class RoundFailedError(RuntimeError):
    """A round that ended without a sum. The text names the step, the quorum, who was missing and why, and what to do.
    """


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
    optimizer: ServerOptimizer
    average_decay: float
    timeout_s: float
    participants: tuple[str, ...]  # sites that are ready for the run
    admit: Callable[[], tuple[str, ...]] = tuple  # admits sites again; the ones that are ready
    keep_evidence: Callable[[Evidence], None] = _not_kept  # durably, before the site that it is against is left out


@dataclass(frozen=True, slots=True)
class RunState:
    """What does: adapter float32[D], server momentum float64[D], and one record for each finished round.

    `average` float64[D] is the moving average of the adapters: what is evaluated and exported, never trained on.

    `lost` holds the stage of each round that ended without a sum after its uploads had begun. The sites have paid
    for it and will not upload it again, so it counts as a round of its stage and its number is not used again.
    """

    adapter: npt.NDArray[np.float32]
    velocity: npt.NDArray[np.float64]
    average: npt.NDArray[np.float64]
    history: tuple[RoundReport, ...] = ()
    lost: tuple[int, ...] = ()


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


def run_rounds(federation: Federation, state: RunState, journal: Journal) -> Iterator[RunState]:
    """Run the rest of the curriculum, yielding the state after each round.

    Args:
        state: where to begin; a resumed run passes its checkpoint's state.
        journal: attempt numbers and spent rounds, kept over a restart.

    Raises:
        RoundFailedError: a step fell below its quorum.
        NonFiniteUpdateError: see :class:`coordinator.server_update.ServerOptimizer`.
    """
    stages = federation.manifest.stages
    while True:
        summaries = [RoundSummary(entry.stage, entry.mean_loss) for entry in state.history]
        summaries += [RoundSummary(stage, None) for stage in state.lost]
        position = position_after(summaries, stages)
        if position is None:
            return
        state = _one_round(federation, state, position, journal)
        yield state
        federation = _with_restarted(federation, state.history[-1])


def _one_round(federation: Federation, state: RunState, position: Position, journal: Journal) -> RunState:
    begin = time.monotonic()
    manifest = federation.manifest
    stage = manifest.stages[position.stage]
    indices = federation.select(stage.groups, position.factor)
    ring = ring_params(manifest.bits, manifest.saturation, len(federation.roster.sites))
    number = len(state.history) + len(state.lost) + 1
    plan = _plan(federation, state, position, number, journal.next_attempt(number), ring, len(indices))
    protocol = _Exchange(
        federation, CoordinatorRound(plan=plan, roster=federation.roster, signing_key=federation.signing_key,
                                     on_evidence=federation.keep_evidence), number,
        before_masking=lambda: journal.will_mask(number, position.stage))
    total = dequantize_sum(protocol.run(state.adapter), ring)
    weights = {terms.site_id: terms.weight for terms in manifest.sites}
    adapter, velocity = federation.optimizer.step(
        state.adapter, state.velocity, indices, total[: len(indices)], sum(weights[s] for s in protocol.summed))
    statistics = lane_scale(manifest, position.stage).decode(total[len(indices):])
    report = _report(protocol, plan, stage.name, statistics, time.monotonic() - begin)
    average = moving_average(state.average, adapter, len(state.history), federation.average_decay)
    return replace(state, adapter=adapter, velocity=velocity, average=average, history=(*state.history, report))


def _with_restarted(federation: Federation, last: RoundReport) -> Federation:
    """Before the next round: a site whose process was restarted must be admitted to the run again."""
    if not any(reason.endswith(_NOT_ADMITTED) for reason in last.missing.values()):
        return federation
    try:
        ready = federation.admit()
    except RoundFailedError:  # the others need no admission, and the round itself counts who answers
        return federation
    return replace(federation, participants=tuple(sorted({*federation.participants, *ready})))


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

    def __init__(
        self, federation: Federation, protocol: CoordinatorRound, number: int, *, before_masking: Callable[[], None]
    ) -> None:
        self.federation, self.protocol, self.number = federation, protocol, number
        self._before_masking = before_masking
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
        roster, count = self.federation.roster, len(self.started)
        floor, threshold = roster.floor(count), roster.threshold(count)
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

    def _fold(self, reply: Reply) -> None:
        if reply.vector is None or reply.vector.dtype != np.uint8:
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

    def _close(
        self, step: str, close: Callable[[], Mapping[str, bytes]], answered: int, needed: int
    ) -> dict[str, Outgoing]:
        try:
            return {site: Outgoing(body) for site, body in close().items()}
        except CohortTooSmallError as error:
            raise self._failed(step, error, answered, needed) from None

    def _failed(self, step: str, error: ProtocolError, answered: int, needed: int) -> RoundFailedError:
        absent = set(self.federation.roster.site_ids) - set(self.federation.participants)
        why = {**dict.fromkeys(absent, "did not accept the run"), **self.missing}
        missing = "; ".join(f"{site} ({reason})" for site, reason in sorted(why.items())) or "nobody"
        return RoundFailedError(
            f"round {self.number} stopped at {step} ({error.code}, blamed: {error.blamed}): {answered} of the roster's "
            f"{len(self.federation.roster.sites)} sites answered well and {needed} are needed; missing: {missing}. "
            f"{FAULTS[error.code].sentence} {FAULTS[error.code].action}")


def _refusal(reply: Reply) -> str | None:
    """The error code of a reply that is an :class:`ErrorReply`, else None."""
    try:
        return ErrorReply.from_bytes(reply.body).code
    except MessageFormatError:
        return None


def report_fields(report: RoundReport) -> dict[str, Any]:
    """A report as plain values for JSON."""
    return asdict(report)
