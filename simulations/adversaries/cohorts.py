"""A coordinator that keeps to the protocol's steps and chooses whom they are about: weights, cohorts, results."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import numpy as np

from model.server_optimizer import ServerState
from privacy.messages import Attest, Result
from simulations.adversaries.attack import Answer, Outcome
from simulations.adversaries.consortium import Refusal
from simulations.adversaries.replays import VICTIM, SessionRelay
from simulations.adversaries.results import AfterRound

__all__ = ["COHORT_ATTACKS"]


class LopsidedWeights(SessionRelay):
    """Weighs one site in the manifest and the others hardly at all."""

    name = "lopsided-weights"
    title = "The manifest gives one site weight 1 and all others 1e-9, which the rounding to the ring makes zero."
    gain = "a sum over the whole cohort that is the victim's own vector, in a run that looks like any other"
    defence = "weights follow the roster's declared patients, or are all the same; each site computes that itself"
    expected = ("P_TERMS", "nobody")

    def readmit(self) -> None:
        """Ask for approval of that manifest."""
        self.world.amend(sites=tuple(
            replace(terms, weight=1.0 if terms.site_id == VICTIM else 1e-9) for terms in self.world.manifest.sites))
        super().readmit()

    def attack(self) -> None:
        """An ordinary round, if anybody approved."""
        self.confirms = {}
        if not self.answers:
            super().attack()

    def outcome(self) -> Outcome:
        """The sum may not be the victim's vector but for the last digit."""
        if len(self.confirms) < len(self.disks):
            return Outcome(self.answers)
        total = sum(disk.vector().astype(np.int64) for disk in self.disks.values())
        off = (total - self.disks[VICTIM].vector()) % self.world.ring.modulus
        off = np.minimum(off, self.world.ring.modulus - off)
        fooled = (f"the sum is {VICTIM}'s own vector, to {off.max()} units of the ring",) if off.max() < 10 else ()
        return Outcome(self.answers, fooled=fooled)


class _OfMostSites(SessionRelay):
    """Six sites, of which a cohort needs at least half, the default of a roster."""

    sites = 6

    def readmit(self) -> None:
        """The sites start with that roster."""
        self.world.amend({"min_fraction": 0.5})
        self.restart()
        super().readmit()


class TwoCohorts(_OfMostSites):
    """Makes two cohorts of one round."""

    name = "two-cohorts"
    title = "One plan goes to two halves of the sites, each of which makes a sum; one of them is used."
    gain = "two sums of one round, and a choice between two outcomes of it"
    defence = "a cohort is more than half of the active sites, and a site gives its update of a round once"
    expected = ("E_COHORT_SMALL", "nobody")
    second = False

    def attack(self) -> None:
        """The first half, then the second."""
        super().attack()
        self.second = True
        super().attack()

    def invited(self) -> Iterable[str]:
        """One half."""
        return self.world.ids[3:] if self.second else self.world.ids[:3]


class WithheldResults(SessionRelay):
    """Opens one sum after the other of the same model."""

    name = "withheld-results"
    title = "No result is ever shown: every round begins from the first model again, now and then without one site."
    gain = "sums over different subsets of the same model's updates, to be compared, and the best of them to be used"
    defence = "rounds that were opened and not shown count as wasted, and the site's policy bounds those, here by 2"
    expected = ("P_WASTED", "nobody")

    def readmit(self) -> None:
        """The sites start with that policy."""
        from simulations.adversaries.sessions import SessionConsortium

        if isinstance(self.world, SessionConsortium):
            self.world.policy = replace(self.world.policy, max_wasted_rounds=2)
        self.restart()
        super().readmit()

    def attack(self) -> None:
        """All rounds of the stage, until a site has enough."""
        self.opened = 0
        for number in range(1, self.world.manifest.stages[0].max_rounds + 1):
            self.attempt(self.world.plan(round=number))
            if self.answers:
                break
            self.opened = number

    def invited(self) -> Iterable[str]:
        """Every other round without the victim."""
        return [site for site in super().invited() if self.plan.round % 2 or site != VICTIM]

    def outcome(self) -> Outcome:
        """The stage may not be spent on it."""
        spent = self.opened == self.world.manifest.stages[0].max_rounds
        fooled = (f"{self.opened} sums of one model were opened",) if spent else ()
        return Outcome(self.answers, fooled=fooled, notes=(f"{self.opened} sums were opened before that",))


class ForgedByFew(_OfMostSites, AfterRound):
    """Lets colluding sites attest a round that never was."""

    name = "forged-by-few"
    title = "As many sites as the secure aggregation withstands attest a made-up round over the smallest cohort."
    gain = "a model of the coordinator's choice at every honest site, and gates that were never passed"
    defence = "a result needs more attestations than that, however small the cohort is said to have been"
    expected = ("E_ATTEST", "coordinator")
    colluding = 3  # 2 t - n - 1 of six
    next_round = 3

    def announce(self) -> None:
        """To begin the next round the honest sites need the made-up state, which is sent along."""
        if self.plan.round == 1:
            super().announce()
            return
        self.forge()
        for site in self.world.ids[: -self.colluding]:
            try:
                self.disks[site].answer("sa_train", self.plan_for(site), self.evil.packed())
                self.adverts[site] = self.first_adverts[site]
            except Refusal as refusal:
                self.answers.append(Answer(site, "sa_train", refusal.code, refusal.blamed))

    def unmask(self) -> None:
        """Keep who announced, then as always."""
        self.first_adverts = dict(self.adverts)
        super().unmask()

    def forge(self) -> None:
        """Round 2, over the three and one honest site, which was not asked."""
        state = self.world.state
        self.evil = ServerState(state.adapter + np.float32(7), state.velocity, state.average + 7, 2)
        announced = self.world.roster.floor(3)
        self.forged = Result(
            self.plan.run_id, 2, b"\x01" * 32, b"\x02" * 32, announced,
            tuple(self.world.ids[-announced:]), "B", b"\x03" * 32, self.evil.model_hash, self.evil.state_hash, 2)

    def next_for(self, site: str) -> Result:
        """The made-up one."""
        return self.forged

    def attests_for(self, site: str) -> tuple[Attest, ...]:
        """Of the three."""
        return tuple(Attest.make(site, self.forged, self.world.keys[site]) for site in self.colluding_sites)


COHORT_ATTACKS = (LopsidedWeights, TwoCohorts, WithheldResults, ForgedByFew)
