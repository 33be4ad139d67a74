"""A coordinator that announces another sum than the one it unmasked, with a result that follows from it."""

from __future__ import annotations

import hashlib
from typing import ClassVar
from unittest.mock import patch

import numpy as np
import numpy.typing as npt

from privacy.messages import Result, RoundStart, SignedPlan, SignedResult
from privacy.secagg.quantize import pack
from privacy.secagg.server import CoordinatorRound
from simulations.adversaries.attack import Answer, Outcome
from simulations.adversaries.consortium import STEPS, Refusal
from simulations.adversaries.replays import SessionRelay

__all__ = ["SUM_ATTACKS"]

Sum = npt.NDArray[np.uint32]
_MASK = (1 << 64) - 1


class _WrongSum(SessionRelay):
    """An honest round by the real coordinator, then a wrong sum; model and state follow from the wrong one.

    Class variables:
        pad_off: without the defence the tags stay and lose their pads; otherwise there are no tags.
    """

    expected = ("E_TAG", "nobody")
    pad_off: ClassVar[bool] = False

    def begin(self, defended: bool) -> None:
        """One tag of 64 bits, or none."""
        self._tagged = int(defended or self.pad_off)
        super().begin(defended)

    def readmit(self) -> None:
        """The sites approve a manifest with tags."""
        self.world.amend(integrity_tags=self._tagged)
        super().readmit()

    def play(self, *, defended: bool) -> Outcome:
        """See `Attack`."""
        if defended or not self.pad_off:
            return super().play(defended=defended)
        with patch("privacy.secagg.tags._pad", lambda key, site, lanes: [0] * lanes):
            return super().play(defended=defended)

    def attack(self) -> None:
        """The round, then the lie to every survivor."""
        plan = self.world.plan()
        to = CoordinatorRound(plan=plan, roster=self.world.roster, signing_key=self.world.coordinator_key,
                              integrity_tags=self._tagged)
        total = self._round(to, plan_body=RoundStart(SignedPlan.from_bytes(to.signed_plan())).to_bytes())
        wrong, tags = self.lie(total.copy(), [int.from_bytes(tag, "little") for tag in to.tags])
        self.attested: list[str] = []
        self.changed = not np.array_equal(wrong, total)
        signed = self._result(to, wrong, tags).to_bytes()
        for site in to.survivors:
            try:
                self.disks[site].answer("sa_result", signed, pack(wrong, self.world.ring.bits))
                self.attested.append(site)
            except Refusal as refusal:
                self.answers.append(Answer(site, "sa_result", refusal.code, refusal.blamed))

    def outcome(self) -> Outcome:
        """Nobody may have attested it."""
        if not self.changed:
            raise RuntimeError("the announced sum is the right one: the attack did nothing")
        fooled = (f"{', '.join(self.attested)} attested a wrong sum",) if self.attested else ()
        return Outcome(self.answers, fooled=fooled)

    def _round(self, to: CoordinatorRound, plan_body: bytes) -> Sum:
        inbox = dict.fromkeys(self.world.ids, plan_body)
        receive = (to.receive_advertise, to.receive_share, None, to.receive_confirm, to.receive_unmask)
        closings = (to.close_advertise, to.close_share, to.close_masked, to.close_confirm, dict[str, bytes])
        for step, close in enumerate(closings):
            for site, body in inbox.items():
                reply = self.disks[site].answer(STEPS[step], body)
                take = receive[step]
                if take is not None:
                    take(site, reply.body)
                elif reply.packed is not None:
                    to.receive_masked(site, reply.body, reply.packed)
            inbox = close()
        return to.finish()

    def _result(self, to: CoordinatorRound, total: Sum, tags: list[int]) -> SignedResult:
        from simulations.adversaries.sessions import SessionConsortium

        if not isinstance(self.world, SessionConsortium):
            raise TypeError("sums are attested by whole sessions only")
        plan, state = self.world.plan(), self.world.after(total, to.survivors)
        sum_hash = hashlib.sha256(pack(total, self.world.ring.bits).tobytes()).digest()
        return SignedResult.make(Result(
            plan.run_id, plan.round, plan.context(), to.h3, len(to.cohort.ids), tuple(to.survivors), plan.factor,
            sum_hash, state.model_hash, state.state_hash, state.finished,
            tuple((tag & _MASK).to_bytes(8, "little") for tag in tags)), self.world.coordinator_key)

    # ------------------------------------------------------------------ where subclasses lie

    def lie(self, total: Sum, tags: list[int]) -> tuple[Sum, list[int]]:
        """The sum and the tags that are announced."""
        raise NotImplementedError

    def _lifted(self, total: Sum) -> npt.NDArray[np.int64]:
        half, modulus = self.world.ring.modulus // 2, self.world.ring.modulus
        return (total.astype(np.int64) + half) % modulus - half


class AddedConstant(_WrongSum):
    """Adds to one coordinate."""

    name = "sum-plus-constant"
    title = "The coordinator adds a constant to the sum; the model that it names follows from the wrong sum."
    gain = "a model of its choice that every honest site attests"
    defence = "an integrity tag: a one-time authenticator of the sum, under a key that only the sites have"
    weakness = "the run has no integrity tags, which is the default: sites attest what follows from the sum shown"

    def lie(self, total: Sum, tags: list[int]) -> tuple[Sum, list[int]]:
        """4096 steps more."""
        total[0] = (int(total[0]) + 4096) % self.world.ring.modulus
        return total, tags


class DoubledSum(_WrongSum):
    """Doubles the sum and its tags."""

    name = "sum-doubled"
    title = "The coordinator doubles the sum and its integrity tags alike."
    gain = "a step twice as long that every honest site attests"
    defence = "each site's tag has a one-time pad, so twice a tag is the tag of nothing"
    weakness = "the tags have no pads; they are linear, so twice the tag is the tag of twice the sum"
    pad_off = True

    def lie(self, total: Sum, tags: list[int]) -> tuple[Sum, list[int]]:
        """Twice both, where no coordinate wraps."""
        doubled = 2 * self._lifted(total)
        if np.abs(doubled).max() >= self.world.ring.modulus // 2:
            raise RuntimeError("a coordinate wraps; play this with smaller vectors")
        return (doubled % self.world.ring.modulus).astype(np.uint32), [2 * tag for tag in tags]


class ZeroedSum(_WrongSum):
    """Zeroes the sum and its tags."""

    name = "sum-zeroed"
    title = "The coordinator announces zero for the sum and zero for its integrity tags."
    gain = "a round without effect that every honest site attests"
    defence = "each site's tag has a one-time pad, so zero is not the tag of zero"
    weakness = "the tags have no pads, so zero is the tag of zero"
    pad_off = True

    def lie(self, total: Sum, tags: list[int]) -> tuple[Sum, list[int]]:
        """Nothing but zeros."""
        return np.zeros_like(total), [0] * len(tags)


SUM_ATTACKS = (AddedConstant, DoubledSum, ZeroedSum)
