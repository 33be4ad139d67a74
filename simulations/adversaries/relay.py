"""A coordinator that checks nothing, forwards everything and keeps everything; adversaries change one method of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import ClassVar

from privacy.messages import (
    Advertise,
    AdvertiseList,
    Confirm,
    ConfirmList,
    Envelope,
    EnvelopeList,
    MaskedHeader,
    MaskedList,
    Plan,
    SignedPlan,
)
from privacy.secagg.client import SiteRound
from privacy.secagg.cohort import Cohort
from simulations.adversaries.attack import Answer, Attack, Outcome
from simulations.adversaries.breaker import Breaker
from simulations.adversaries.consortium import STEPS, Consortium, Member, Refusal, Reply
from simulations.adversaries.loot import Loot

__all__ = ["Relay"]


class Relay(Attack):
    """Runs attempts against `members`; what it was sent is in `adverts`, `envelopes`, `headers` and `confirms`.

    Class variables:
        sites: size of the consortium.
        colluding: how many of the sites, from the last one, give the coordinator everything they hold.
        weak: the class of sites without the defence.
    """

    sites: ClassVar[int] = 5
    colluding: ClassVar[int] = 0
    weak: ClassVar[type[SiteRound] | None] = None

    def play(self, *, defended: bool) -> Outcome:
        """See `Attack`."""
        self.begin(defended)
        self.attack()
        return self.outcome()

    def begin(self, defended: bool) -> None:
        """Make the world and its sites."""
        self.world = Consortium(self.sites)
        kind = SiteRound if defended or self.weak is None else self.weak
        self.use({member.site_id: member for member in self.world.members(kind)})

    def use(self, members: Mapping[str, Member]) -> None:
        """Play against these sites."""
        self.members = dict(members)
        ids = sorted(self.members)
        self.accomplices = tuple(ids[len(ids) - self.colluding:])
        self.loot = Loot(self.accomplices)
        self.answers: list[Answer] = []
        self.notes: list[str] = []

    def attack(self) -> None:
        """The whole attack: one attempt at round 1 unless a subclass does more."""
        self.attempt(self.world.plan())

    def outcome(self) -> Outcome:
        """What was answered, and what the loot is worth."""
        breaker = Breaker(self.loot, self.world.roster, self.world.ring.bits)
        return Outcome(self.answers, breaker.findings(), notes=tuple(self.notes))

    # ------------------------------------------------------------------ one attempt

    def attempt(self, plan: Plan, until: int = 5) -> None:
        """All steps below `until` of one attempt."""
        self.plan = plan
        self.adverts: dict[str, Advertise] = {}
        self.envelopes: dict[str, dict[str, Envelope]] = {}  # dealer -> recipient -> envelope
        self.headers: dict[str, MaskedHeader] = {}
        self.confirms: dict[str, Confirm] = {}
        steps: list[Callable[[], None]] = [self.announce, self.list_keys, self.deliver, self.close, self.unmask]
        for step in steps[:until]:
            step()

    def announce(self) -> None:
        """R0."""
        for site in self.invited():
            reply = self.ask(site, 0, self.plan_for(site))
            if reply is not None:
                self.adverts[site] = Advertise.from_bytes(reply.body)

    def list_keys(self) -> None:
        """R1."""
        for site in list(self.adverts):
            listed = self.adverts_for(site, [self.adverts[other] for other in sorted(self.adverts)])
            reply = self.ask(site, 1, AdvertiseList(tuple(listed)).to_bytes())
            if reply is not None:
                entries = EnvelopeList.from_bytes(reply.body).entries
                self.envelopes[site] = {envelope.recipient: envelope for envelope in entries}

    def deliver(self) -> None:
        """R2."""
        for site in list(self.envelopes):
            dealt = [self.envelopes[d][site] for d in sorted(self.envelopes) if site in self.envelopes[d]]
            reply = self.ask(site, 2, EnvelopeList(tuple(self.envelopes_for(site, dealt))).to_bytes())
            if reply is not None:
                self.headers[site] = MaskedHeader.from_bytes(reply.body)

    def close(self) -> None:
        """R3."""
        for site in list(self.headers):
            listed = self.survivors_for(site, [self.headers[other] for other in sorted(self.headers)])
            if listed is not None:
                reply = self.ask(site, 3, MaskedList(tuple(listed)).to_bytes())
                if reply is not None:
                    self.confirms[site] = Confirm.from_bytes(reply.body)

    def unmask(self) -> None:
        """R4."""
        for site in list(self.confirms):
            listed = self.confirms_for(site, [self.confirms[other] for other in sorted(self.confirms)])
            self.ask(site, 4, ConfirmList(tuple(listed)).to_bytes())

    def ask(self, site: str, step: int, body: bytes) -> Reply | None:
        """Send, note what comes back; None and a noted answer when the site refuses."""
        member = self.members[site]
        try:
            reply = member.ask(step, body)
        except Refusal as refusal:
            if site not in self.accomplices:
                self.answers.append(Answer(site, STEPS[step], refusal.code, refusal.blamed))
            return None
        self.loot.saw(member, step, self.plan_of(body) if step == 0 else self.plan, body, reply)
        return reply

    def cohort(self) -> Cohort:
        """U1 as the honest list has it."""
        return Cohort(self.plan.context(), self.world.roster, self.adverts)

    # ------------------------------------------------------------------ where subclasses lie

    def invited(self) -> Iterable[str]:
        """Who gets the plan."""
        return sorted(self.members)

    def plan_for(self, site: str) -> bytes:
        """R0: the signed plan for one site."""
        return SignedPlan.signed(self.world.coordinator_key, (), plan=self.plan).to_bytes()

    def plan_of(self, body: bytes) -> Plan:
        """The plan inside the message of R0."""
        return SignedPlan.from_bytes(body).plan

    def adverts_for(self, site: str, adverts: Sequence[Advertise]) -> Sequence[Advertise]:
        """R1: U1 as one site is told it."""
        return adverts

    def envelopes_for(self, site: str, envelopes: Sequence[Envelope]) -> Sequence[Envelope]:
        """R2: U2 as one site is told it."""
        return envelopes

    def survivors_for(self, site: str, headers: Sequence[MaskedHeader]) -> Sequence[MaskedHeader] | None:
        """R3: U3 as one site is told it; None = the site is not asked."""
        return headers

    def confirms_for(self, site: str, confirms: Sequence[Confirm]) -> Sequence[Confirm]:
        """R4: the confirmations shown to one site."""
        return confirms
