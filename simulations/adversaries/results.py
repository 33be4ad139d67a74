"""A coordinator that lies about a finished round: its result, or who attested it."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from privacy.messages import Attest, Plan, Result, RoundStart, SignedPlan, SignedResult
from privacy.secagg.quantize import pack
from simulations.adversaries.attack import Answer, Outcome
from simulations.adversaries.consortium import Refusal
from simulations.adversaries.replays import SessionRelay

__all__ = ["RESULT_ATTACKS", "AfterRound"]

_FORGED = b"\x01" * 32


class AfterRound(SessionRelay):
    """Round 1 to the end, then its result to every survivor, then the first message of round 2.

    The lie is in `result_for`, `attests_for` or `next_for`. A site that begins round 2 was fooled.

    Class variables:
        next_round: the number of the round that they are asked to begin.
    """

    next_round: ClassVar[int] = 2

    def attack(self) -> None:
        """All three parts."""
        self.started: tuple[Result, tuple[Attest, ...]] | None = None
        super().attack()
        self.survivors = sorted(self.headers)
        self.attests: dict[str, Attest] = {}
        self.shown: dict[str, Result] = {}
        for site in self.survivors:
            result, total = self.result_for(site)
            self.shown[site] = result
            signed = SignedResult.make(result, self.world.coordinator_key).to_bytes()
            try:
                reply = self.disks[site].answer("sa_result", signed, pack(total, self.world.ring.bits))
                self.attests[site] = Attest.from_bytes(reply.body)
            except Refusal as refusal:
                self.answers.append(Answer(site, "sa_result", refusal.code, refusal.blamed))
        self.plan, self.adverts = self.world.plan(round=self.next_round), {}
        self.announce()

    def outcome(self) -> Outcome:
        """Nobody may have begun round 2."""
        outcome = super().outcome()
        if self.adverts:
            outcome.fooled = (f"{', '.join(self.adverts)} went on to the next round",)
        return outcome

    def plan_for(self, site: str) -> bytes:
        """Round 2 begins from the result that the site is shown."""
        if self.plan.round == 1:
            return super().plan_for(site)
        result = self.next_for(site)
        plan = replace(self.plan, model_hash=result.model_hash)
        return RoundStart(
            SignedPlan.signed(self.world.coordinator_key, (), plan=plan),
            SignedResult.make(result, self.world.coordinator_key), self.attests_for(site)).to_bytes()

    def honest(self, shift: int = 0) -> tuple[Result, npt.NDArray[np.uint32]]:
        """The result of the round, and its ring sum with `shift` added to the first coordinate."""
        from simulations.adversaries.sessions import SessionConsortium

        if not isinstance(self.world, SessionConsortium):
            raise TypeError("results are attested by whole sessions only")
        total = sum(self.disks[site].vector().astype(np.int64) for site in self.survivors) % self.world.ring.modulus
        total = total.astype(np.uint32)
        total[0] = (int(total[0]) + shift) % self.world.ring.modulus
        plan, cohort = self._first, self._cohort_of_first
        state = self.world.after(total, self.survivors)
        sum_hash = hashlib.sha256(pack(total, self.world.ring.bits).tobytes()).digest()
        h3 = cohort.h3(cohort.h2(sorted(self.envelopes)), self.headers)
        return Result(
            plan.run_id, plan.round, plan.context(), h3, len(cohort.ids), tuple(self.survivors), plan.factor, sum_hash,
            state.model_hash, state.state_hash, state.finished), total

    def unmask(self) -> None:
        """Keep what the round was, then as always."""
        self._first: Plan = self.plan
        self._cohort_of_first = self.cohort()
        super().unmask()

    # ------------------------------------------------------------------ where subclasses lie

    def result_for(self, site: str) -> tuple[Result, npt.NDArray[np.uint32]]:
        """R5: result and sum for one survivor."""
        return self.honest()

    def next_for(self, site: str) -> Result:
        """The result that one site's next round begins from."""
        return self.shown[site]

    def attests_for(self, site: str) -> tuple[Attest, ...]:
        """The attestations shown to one site."""
        return tuple(self.attests.values())


class FalsifiedResult(AfterRound):
    """Names a model that does not follow from the sum."""

    name = "falsified-result"
    title = "The result names a crafted model instead of the one that follows from the sum."
    gain = "sites that train a model of the coordinator's choice (Pasquini et al. 2022)"
    defence = "each survivor recomputes model and optimiser state from its own state and the sum before it signs"
    expected = ("E_RESULT_MISMATCH", "coordinator")

    def result_for(self, site: str) -> tuple[Result, npt.NDArray[np.uint32]]:
        """The sum is the right one."""
        result, total = self.honest()
        return replace(result, model_hash=_FORGED), total


class TwoResults(AfterRound):
    """Shows two groups two results."""

    name = "two-results"
    title = "Half of the survivors get the result of the sum, the others that of another sum; each is consistent."
    gain = "two models in one federation, told apart in the next sum"
    defence = "the next round needs t attestations of one result, and 2t > n"
    expected = ("E_ATTEST", "coordinator")

    def result_for(self, site: str) -> tuple[Result, npt.NDArray[np.uint32]]:
        """The lower half gets the other sum."""
        return self.honest(shift=4096 if site < self.survivors[len(self.survivors) // 2] else 0)


class MissingQuorum(AfterRound):
    """Goes on with too few attestations."""

    name = "missing-quorum"
    title = "The next round begins with the attestations of two sites, one of them shown several times."
    gain = "a next round from a result that most survivors have not seen"
    defence = "t attestations by distinct survivors, counted by the site"
    expected = ("E_ATTEST", "coordinator")

    def attests_for(self, site: str) -> tuple[Attest, ...]:
        """Two of five, in five places."""
        first, second = list(self.attests.values())[:2]
        return (first, first, first, first, second)


RESULT_ATTACKS = (FalsifiedResult, TwoResults, MissingQuorum)
