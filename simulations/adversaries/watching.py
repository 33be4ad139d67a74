"""An observer with a clock, and a coordinator that signs two plans for one attempt before a site with a memory."""

from __future__ import annotations

from dataclasses import replace

from privacy.evidence import Evidence, proves
from privacy.identity import Roster
from simulations.adversaries.attack import Outcome
from simulations.adversaries.replays import SessionRelay

__all__ = ["WATCHING_ATTACKS"]

LIGHT_S, HEAVY_S, SCHEDULE_S, SHORT_S = 2.0, 7.0, 60.0, 0.001


class ReplyTime(SessionRelay):
    """Takes the time between a plan and its answer. Alone of all attacks it sends nothing wrong."""

    name = "reply-time"
    title = f"An observer times the answers: one site's draw takes {LIGHT_S:g} s to train on, another's {HEAVY_S:g} s."
    gain = "how many patients were drawn, which the accounting of epsilon takes for secret"
    defence = f"answers leave at scheduled times, here {SCHEDULE_S:g} s after the plan, or 2, 4, 8... times that"
    weakness = "the run has no schedule; a site's policy refuses such a run unless it says otherwise"

    def begin(self, defended: bool) -> None:
        """The stage has a schedule, or none."""
        self._period = SCHEDULE_S if defended else 0.0
        super().begin(defended)

    def readmit(self) -> None:
        """The sites approve that manifest."""
        (stage,) = self.world.manifest.stages
        self.world.amend(stages=(replace(stage, reply_after_s=self._period),))
        super().readmit()

    def attack(self) -> None:
        """R0 only."""
        from simulations.adversaries.sessions import SessionConsortium

        if not isinstance(self.world, SessionConsortium):
            raise TypeError("only whole sessions have a schedule")
        light, heavy = self.world.ids[:2]
        self.world.training_seconds = {light: LIGHT_S, heavy: HEAVY_S}
        self.plan, self.adverts, self.took = self.world.plan(), {}, dict[str, float]()
        for site in (light, heavy):
            started = self.world.clock.now()
            if self.ask(site, 0, self.plan_for(site)) is not None:
                self.took[site] = self.world.clock.now() - started

    def outcome(self) -> Outcome:
        """Different times tell the draws apart."""
        if len(self.took) < 2:
            raise RuntimeError("a site did not answer: nothing was timed")
        light, heavy = self.took.values()
        fooled = (f"the heavy draw took {heavy:g} s and the light one {light:g} s",) if light != heavy else ()
        return Outcome(self.answers, fooled=fooled, notes=(f"both are answered at {light:g} s",) if not fooled else ())


class ShortReplyTime(ReplyTime):
    """Gives the run a schedule that is none."""

    name = "reply-time-short"
    title = f"The manifest's schedule is {SHORT_S:g} s, so answers leave when they are ready; an observer times them."
    defence = f"a site's policy has a least schedule (min_reply_after_s, {SCHEDULE_S:g} s unless it says otherwise)"
    expected = ("P_TIMING", "nobody")
    weakness = f"the sites' policies allow schedules from {SHORT_S:g} s on"

    def begin(self, defended: bool) -> None:
        """The stage's schedule is the same either way; the policies differ."""
        self._least = SCHEDULE_S if defended else SHORT_S
        super().begin(defended)

    def readmit(self) -> None:
        """Ask every site for its approval."""
        from simulations.adversaries.sessions import SessionConsortium

        if not isinstance(self.world, SessionConsortium):
            raise TypeError("only whole sessions have a policy")
        (stage,) = self.world.manifest.stages
        self.world.amend(stages=(replace(stage, reply_after_s=SHORT_S),))
        self.world.policy = replace(
            self.world.policy, require_scheduled_replies=True, min_reply_after_s=self._least)
        self.restart()  # with that policy
        self.approved = self.approvals()
        if self.approved:
            SessionRelay.readmit(self)

    def attack(self) -> None:
        """R0, where a site approved the run."""
        if self.approved:
            super().attack()

    def outcome(self) -> Outcome:
        """No site may have approved, and none answers a run that it did not approve."""
        return super().outcome() if self.approved else Outcome(self.answers)


class TwoPlans(SessionRelay):
    """Signs two plans for one attempt."""

    name = "two-plans"
    title = "The coordinator signs two plans for one attempt, which name different models, and shows a site both."
    gain = "sites that work for different plans, and a coordinator that denies it afterwards"
    defence = "a plan is taken once; both signatures stay in the site's evidence, which a third party can verify"
    expected = ("E_REPLAY", "coordinator")
    weakness = "sites do not keep what others signed"
    weak_session = "KeepsNoEvidence"

    def attack(self) -> None:
        """R0 twice."""
        plan = self.world.plan()
        self.attempt(plan, until=1)
        self.attempt(replace(plan, model_hash=b"\x01" * 32), until=1)

    def outcome(self) -> Outcome:
        """A proof must have stayed, and convince somebody who has nothing but it and the roster."""
        proofs = {site: [kept.evidence.to_bytes() for kept in disk.evidence.list()]
                  for site, disk in self.disks.items()}
        roster = self.world.roster.to_bytes()
        without = [site for site, held in proofs.items() if not any(_convinces(proof, roster) for proof in held)]
        fooled = (f"{', '.join(without)} cannot prove it",) if without else ()
        notes = () if fooled else (f"{len(proofs)} sites hold a proof against the coordinator; a third party verified "
                                   "each with the roster alone",)
        return Outcome(self.answers, fooled=fooled, notes=notes)


def _convinces(proof: bytes, roster: bytes) -> bool:
    """What a third party does: the bytes of the evidence and of the roster, nothing else."""
    evidence = Evidence.from_bytes(proof)
    return evidence.blamed == "coordinator" and proves(evidence, Roster.from_bytes(roster))


WATCHING_ATTACKS = (ReplyTime, ShortReplyTime, TwoPlans)
