"""R5: the coordinator signs what a round gave, the sites that computed the same sign that, and the next plan shows it.

*Guarantees.* `check_round_start` returns only for a plan that goes on from a result which a quorum of the last round's
survivors signed and which is not older than, nor another one than, the newest that this site knows. An attestation is
bound to the round's context, its survivor list and every field of the result, so it holds for nothing else. Quorums
are computed from the pinned roster and |U1|, never received.

*Assumes.* A site attests only what it computed itself from a state that it holds (`site_client.state_agreement`), and
keeps the newest result durably. Of the survivors, fewer than the quorum collude with the coordinator.

*Does not cover.* Whether the sum is right: everybody computes with the sum that the coordinator shows, so this proves
that all sites go on from one model and one optimiser state, nothing more. Sites that never saw a result of the run can
be told that there was none; they then plan another context than the others, and no common sum comes of it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar, Self

from privacy.errors import FaultyCoordinatorError, MessageFormatError
from privacy.evaluation import GateOutcome, check_outcomes
from privacy.identity import Roster, SigningKey
from privacy.manifest import MOST_TAGS, Factor, SignedPlan
from privacy.signed import SignedMessage
from privacy.wire import Message, check_hash, check_id, check_range, check_size

__all__ = [
    "Attest", "Result", "RoundStart", "RoundView", "SignedResult", "check_attests", "check_result", "check_round_start",
    "open_result", "open_round_start", "quorum",
]


@dataclass(frozen=True)
class RoundView:
    """What one site saw of an attempt; hashes of steps that it did not reach are empty.

    Args:
        ctx, h1, h2, h3: 32 bytes each: the plan, U1, U2, U3.
        announced: |U1|.
        survivors: U3, ascending.
    """

    ctx: bytes
    h1: bytes = b""
    h2: bytes = b""
    h3: bytes = b""
    announced: int = 0
    survivors: tuple[str, ...] = ()


@dataclass(frozen=True)
class Result(Message):
    """What a finished round gave.

    Args:
        run_id, round: one round has one result.
        ctx, h3: the plan's context and the hash of the survivor list that the survivors confirmed.
        announced: |U1|, from which the quorum follows.
        survivors: U3, ascending.
        factor: which LoRA factor was trained.
        sum_hash: SHA-256 of the packed ring sum.
        model_hash, state_hash: of the next adapter, and of momentum and average (`model.server_optimizer`).
        finished: how many training rounds of the run ended with a sum, this one among them.
        tags: the sum's integrity tags, 8 bytes each, as many as the manifest asks for (`privacy.secagg.tags`).
        gates: the outcome of every gate so far, this round's among them (`privacy.gates`).
    """

    run_id: str
    round: int
    ctx: bytes
    h3: bytes
    announced: int
    survivors: tuple[str, ...]
    factor: Factor
    sum_hash: bytes
    model_hash: bytes
    state_hash: bytes
    finished: int
    tags: tuple[bytes, ...] = ()
    gates: tuple[GateOutcome, ...] = ()

    def check(self) -> None:
        check_id("run_id", self.run_id)
        check_range("round", self.round, 0, 2**31)
        for name in ("ctx", "h3", "sum_hash", "model_hash", "state_hash"):
            check_hash(name, getattr(self, name))
        check_range("finished", self.finished, 1, 2**31)
        for site in self.survivors:
            check_id("a survivor", site)
        if list(self.survivors) != sorted(set(self.survivors)):
            raise ValueError("a result's survivors must be ascending, each listed once")
        check_range("announced", self.announced, len(self.survivors), 2**16)
        check_range("the number of tags", len(self.tags), 0, MOST_TAGS)
        for tag in self.tags:
            check_size("a tag", tag, 8)
        check_outcomes(self.gates)


@dataclass(frozen=True)
class SignedResult(SignedMessage):
    """R5, coordinator to the survivors; the packed sum travels beside it."""

    LABEL: ClassVar[str] = "result"
    result: Result
    signature: bytes

    @classmethod
    def make(cls, result: Result, key: SigningKey) -> Self:
        """Sign a result with the coordinator's key."""
        return cls.signed(key, (), result=result)


@dataclass(frozen=True)
class Attest(SignedMessage):
    """R5, site to all: it computed the same model and state. Bound to (ctx, h3, hash of the result)."""

    LABEL: ClassVar[str] = "attest"
    site_id: str
    signature: bytes

    def check(self) -> None:
        super().check()
        check_id("site_id", self.site_id)

    @classmethod
    def make(cls, site_id: str, result: Result, key: SigningKey) -> Self:
        """Sign `result` as this site."""
        return cls.signed(key, _binding(result), site_id=site_id)

    def holds_for(self, result: Result, roster: Roster) -> bool:
        """Whether it is the statement of a survivor of `result`, signed with that site's roster key."""
        known = self.site_id in result.survivors and self.site_id in roster.active_ids
        return known and self.is_signed_by(roster.site(self.site_id).public_key, _binding(result))


@dataclass(frozen=True)
class RoundStart(Message):
    """R0, coordinator to site: the plan, the newest result and who attested it; no result before the first one."""

    plan: SignedPlan
    result: SignedResult | None = None
    attests: tuple[Attest, ...] = ()


def _binding(result: Result) -> tuple[bytes, bytes, bytes]:
    return (result.ctx, result.h3, result.hash())


def _refuse(condition: bool, code: str) -> None:
    if condition:
        raise FaultyCoordinatorError(code)


def quorum(result: Result, roster: Roster) -> int:
    """How many survivors must attest: t of the sites that announced keys, and never so few that as many colluding
    sites as the secure aggregation of the whole roster withstands could do it alone (where a cohort may be so small
    that it has no more than that, all of its floor).
    """
    active = len(roster.active_ids)
    beyond = 2 * roster.threshold(active) - active  # one more than 2 t - N - 1
    return max(roster.threshold(result.announced), min(beyond, roster.floor(result.announced)))


def open_result(data: bytes, roster: Roster) -> SignedResult:
    """A result that the pinned coordinator signed. Raises FaultyCoordinatorError: E_FORMAT, E_SIG."""
    try:
        signed = SignedResult.from_bytes(data)
    except MessageFormatError as error:
        raise FaultyCoordinatorError("E_FORMAT") from error
    _refuse(not signed.is_signed_by(roster.coordinator_key, ()), "E_SIG")
    return signed


def open_round_start(data: bytes) -> RoundStart:
    """Decode only; its plan goes to `privacy.secagg.checks.check_plan` and the whole to `check_round_start`.

    Raises:
        FaultyCoordinatorError: E_FORMAT.
    """
    try:
        return RoundStart.from_bytes(data)
    except MessageFormatError as error:
        raise FaultyCoordinatorError("E_FORMAT") from error


def check_result(result: Result, view: RoundView, factor: str) -> None:
    """A result is of the round that this site confirmed: same context, survivor list and factor.

    Args:
        view: of the attempt in which this site masked; it must hold the h3 that the site signed.
        factor: of that attempt's plan.

    Raises:
        FaultyCoordinatorError: E_STAGE (this site confirmed no survivor list), E_RESULT_MISMATCH.
    """
    _refuse(not view.h3, "E_STAGE")
    seen = (view.ctx, view.h3, view.announced, view.survivors, factor)
    shown = (result.ctx, result.h3, result.announced, result.survivors, result.factor)
    _refuse(seen != shown, "E_RESULT_MISMATCH")


def check_attests(result: Result, attests: Iterable[Attest], roster: Roster) -> None:
    """At least t(|U1|) distinct survivors attested, and the cohort could have been one. The rest counts for nothing.

    The coordinator names |U1|. A smaller one than the truth lowers the quorum, but every attester compared it with its
    own, and `quorum` bounds it from below: it takes that many colluding sites to forge a result for sites that were
    not in the round.

    Raises:
        FaultyCoordinatorError: E_ATTEST.
    """
    floor = roster.floor(result.announced)
    _refuse(not floor <= len(result.survivors) <= result.announced <= len(roster.active_ids), "E_ATTEST")
    signers = {attest.site_id for attest in attests if attest.holds_for(result, roster)}
    _refuse(len(signers) < quorum(result, roster), "E_ATTEST")


def check_round_start(
    start: RoundStart, roster: Roster, newest: Result | None, view: RoundView | None = None
) -> None:
    """The plan goes on from the run's newest attested result. `check_plan` has accepted the plan already.

    Args:
        newest: the newest result of the run that this site attested or accepted, None before the first.
        view: what this site saw of the result's round, None where it was not asked.

    Raises:
        FaultyCoordinatorError: E_SIG (the result is not the coordinator's), E_ATTEST (no quorum),
            E_RESULT_MISMATCH (older than, or another than, the one this site knows, or of another survivor list of
            the attempt than the one it confirmed), E_MODEL_HASH.
    """
    plan = start.plan.plan
    if start.result is None:
        _refuse(newest is not None, "E_RESULT_MISMATCH")
        return
    result = start.result.result
    _refuse(not start.result.is_signed_by(roster.coordinator_key, ()), "E_SIG")
    _refuse(result.run_id != plan.run_id or result.round >= plan.round, "E_RESULT_MISMATCH")
    if newest is not None:
        _refuse(result.round < newest.round, "E_RESULT_MISMATCH")
        _refuse(result.round == newest.round and result != newest, "E_RESULT_MISMATCH")
    if view is not None and view.h3 and view.ctx == result.ctx:
        _refuse(view.h3 != result.h3, "E_RESULT_MISMATCH")
    check_attests(result, start.attests, roster)
    _refuse(plan.model_hash != result.model_hash, "E_MODEL_HASH")
