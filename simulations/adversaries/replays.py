"""A coordinator that sends again: a plan, an announcement, an envelope, a whole round; and one with old disks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, ClassVar

from privacy.identity import Roster
from privacy.messages import Advertise, Envelope, Plan, RoundStart, RunManifest, SignedManifest, SignedPlan, Witness
from privacy.secagg.client import SiteRound
from simulations.adversaries.attack import Answer, Outcome
from simulations.adversaries.consortium import Refusal
from simulations.adversaries.relay import Relay

if TYPE_CHECKING:
    from simulations.adversaries.sessions import SessionMember, UntrainedSession

__all__ = ["REPLAY_ATTACKS", "SessionRelay"]

VICTIM = "site-01"


class _Forgetful(SiteRound):
    """Does not know which plans it has seen."""

    @staticmethod
    def check_plan(signed_plan: bytes, *, roster: Roster, manifest: RunManifest, last: object) -> Plan:
        """See `SiteRound`."""
        return SiteRound.check_plan(signed_plan, roster=roster, manifest=manifest, last=None)


class PlanReplay(Relay):
    """Sends the plan of a finished attempt again, to fewer sites."""

    name = "replay-plan"
    title = "The plan of a finished attempt is sent again, to all sites but one."
    gain = "the same vectors in a second cohort; the difference of both sums is the missing site's vector"
    defence = "a plan must be newer than the newest (round, attempt) in the site's ledger"
    expected = ("E_REPLAY", "coordinator")
    weakness = "sites do not know which plans they have seen"
    weak = _Forgetful
    again = False

    def attack(self) -> None:
        """Twice the same plan."""
        super().attack()
        self.again = True
        super().attack()

    def invited(self) -> Iterable[str]:
        """The second time without the victim."""
        return [site for site in super().invited() if not (self.again and site == VICTIM)]


class AdvertReplay(Relay):
    """Puts an announcement of an older attempt into the list."""

    name = "replay-advertisement"
    title = "A key announcement of an earlier attempt stands in the list of a later one."
    gain = "a member of the cohort that is not there, and keys that were used before"
    defence = "an announcement's signature covers the plan, and so the attempt"
    expected = ("E_SIG", "coordinator")

    def attack(self) -> None:
        """An attempt that stops early, then another."""
        self.attempt(self.world.plan(), until=1)
        self.old = self.adverts[VICTIM]
        self.attempt(self.world.plan(attempt=2))

    def adverts_for(self, site: str, adverts: Sequence[Advertise]) -> Sequence[Advertise]:
        """The others get the victim's old announcement."""
        if self.plan.attempt == 1 or site == VICTIM:
            return adverts
        return [self.old if advert.site_id == VICTIM else advert for advert in adverts]


class EnvelopeReplay(Relay):
    """Delivers an envelope of an older attempt."""

    name = "replay-envelope"
    title = "Envelopes of an earlier attempt are delivered in a later one."
    gain = "shares of one secret under the commitments of another, so that nobody can be blamed"
    defence = "an envelope's signature and key cover the plan and the list of announcements"
    expected = ("E_SIG", "coordinator")

    def attack(self) -> None:
        """An attempt that stops after the envelopes, then another."""
        self.attempt(self.world.plan(), until=2)
        self.old = self.envelopes[VICTIM]
        self.attempt(self.world.plan(attempt=2))

    def envelopes_for(self, site: str, envelopes: Sequence[Envelope]) -> Sequence[Envelope]:
        """The victim's envelopes to its peers are old ones."""
        if self.plan.attempt == 1 or site == VICTIM:
            return envelopes
        return [self.old[site] if envelope.sender == VICTIM else envelope for envelope in envelopes]


class SessionRelay(Relay):
    """Plays against whole sessions with ledgers and state folders.

    Class variables:
        weak_session: name, in `simulations.adversaries.sessions`, of the session without the defence.
    """

    weak_session: ClassVar[str] = ""

    def play(self, *, defended: bool) -> Outcome:
        """See `Attack`; the folders are temporary."""
        with TemporaryDirectory(prefix="attack-") as folder:
            self._root = folder
            return super().play(defended=defended)

    def begin(self, defended: bool) -> None:
        """Every site with its own folder, admitted to the run by its peers."""
        from pathlib import Path

        from simulations.adversaries import sessions

        world = sessions.SessionConsortium(self.sites)
        kind: type[UntrainedSession] = sessions.UntrainedSession
        if not defended and self.weak_session:
            kind = getattr(sessions, self.weak_session)
        self.world = world
        self.colluding_sites = world.ids[len(world.ids) - self.colluding:]
        self.disks: dict[str, SessionMember] = {
            site: sessions.SessionMember(
                world, site, Path(self._root) / site, sessions.Accomplice if site in self.colluding_sites else kind)
            for site in world.ids}
        self.use(self.disks)
        self.readmit()

    def plan_for(self, site: str) -> bytes:
        """A session gets the plan inside the round's first message; no result goes before round 1."""
        return RoundStart(SignedPlan.from_bytes(super().plan_for(site))).to_bytes()

    def plan_of(self, body: bytes) -> Plan:
        """See `Relay`."""
        return RoundStart.from_bytes(body).plan.plan

    def readmit(self) -> None:
        """The steps before a run; refusals are noted."""
        from simulations.adversaries.sessions import SessionConsortium, admit

        if isinstance(self.world, SessionConsortium):
            for site, refusal in admit(self.world, self.disks, self.witnesses_for, self.colluding_sites).items():
                self.answers.append(Answer(site, "restore", refusal.code, refusal.blamed))

    def restart(self) -> None:
        """Every site's process starts again, with the papers and the policy as they are now."""
        for disk in self.disks.values():
            disk.restart()

    def approvals(self) -> list[str]:
        """Ask every site for its approval of the manifest; who gives it. Refusals are noted."""
        signed = SignedManifest.make(self.world.manifest, self.world.coordinator_key).to_bytes()
        approved = []
        for site, disk in self.disks.items():
            try:
                disk.answer("hello", signed)
                approved.append(site)
            except Refusal as refusal:
                self.answers.append(Answer(site, "hello", refusal.code, refusal.blamed))
        return approved

    def witnesses_for(self, site: str, statements: list[Witness]) -> list[Witness]:
        """What one site is shown of its peers' statements about its ledger."""
        return statements


class RoundReplay(SessionRelay):
    """Makes another attempt at a finished round."""

    name = "replay-round"
    title = "A finished round is asked for again as a new attempt, with all sites but one: same updates, other cohort."
    gain = "the difference of both sums: the missing site's vector"
    defence = "a round is spent, on the disk, before its masked vector exists; a spent update is gone"
    expected = ("E_SPENT", "coordinator")
    weakness = "sites do not book that a masked vector leaves, and keep the update"
    weak_session = "KeepsNothing"
    again = False

    def attack(self) -> None:
        """Attempt 1 to the end, then attempt 2."""
        super().attack()
        self.again = True
        self.attempt(self.world.plan(attempt=2))

    def invited(self) -> Iterable[str]:
        """The second time without the victim."""
        return [site for site in super().invited() if not (self.again and site == VICTIM)]


class RoundReplayAfterRestart(RoundReplay):
    """The same, after every site's process was restarted."""

    name = "replay-round-after-restart"
    title = "The same after a restart of all sites, when nothing is left in memory."

    def attack(self) -> None:
        """Attempt 1 to the end, restart, then attempt 2."""
        self.attempt(self.world.plan())
        self.restart()
        self.readmit()
        self.again = True
        self.attempt(self.world.plan(attempt=2))


class Rollback(SessionRelay):
    """Repeats a round after two sites' disks were put back, with a colluding third; hides what witnesses it can."""

    name = "rollback"
    title = "Two sites get their disks back from before the round; with a colluding third the round is repeated."
    gain = "a second sum of the round over a part of its sites, and the first one's cost forgotten"
    defence = "peers keep the highest signed mark of each ledger; a restarted site needs statements of enough of them"
    expected = ("P_LEDGER", "nobody")
    weakness = "sites work without being admitted by their peers"
    weak_session = "NoWitnesses"
    colluding = 1
    old = ("site-02", "site-03")
    again = False

    def attack(self) -> None:
        """Backup, round, restore, round."""
        self.backup()
        self.attempt(self.world.plan())
        self.restore()
        self.attempt(self.world.plan(attempt=2))

    def backup(self) -> None:
        """Of the two sites."""
        for site in self.old:
            self.disks[site].backup()

    def restore(self) -> None:
        """The two sites' disks are old, all others current; the accomplice forgets what it likes to."""
        for site, disk in self.disks.items():
            disk.restart(restored=site in self.old)
        self.again = True
        self.readmit()

    def witnesses_for(self, site: str, statements: list[Witness]) -> list[Witness]:
        """As few as will do: the other old one's, one that the accomplice signs now, and an honest one's."""
        if not self.again or site not in self.old:
            return statements
        bad = [s for s in statements if s.site_id in (*self.old, *self.accomplices)]
        honest = [s for s in statements if s not in bad]
        return [*bad, *honest[:1]]

    def invited(self) -> Iterable[str]:
        """The second time the two sites and the accomplice."""
        return [*self.old, *self.accomplices] if self.again else super().invited()


class RollbackInRound(Rollback):
    """The backup is from the middle of the round, when the updates were waiting for their masks."""

    name = "rollback-in-round"
    title = "The same with a backup from the middle of the round: trained, announced, not yet masked."
    gain = "the same updates in a second cohort; the difference of both sums is the sum over the others"

    def attack(self) -> None:
        """R0 and R1, backup, the rest; restore, another attempt."""
        self.attempt(self.world.plan(), until=2)
        self.backup()
        self.deliver()
        self.close()
        self.unmask()
        self.restore()
        self.attempt(self.world.plan(attempt=2))


REPLAY_ATTACKS = (
    PlanReplay, AdvertReplay, EnvelopeReplay, RoundReplay, RoundReplayAfterRestart, Rollback, RollbackInRound)
