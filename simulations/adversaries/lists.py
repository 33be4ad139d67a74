"""A coordinator that lies in a list: of keys, of dealers, of survivors, or in a plan."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import ClassVar

from privacy.identity import SigningKey
from privacy.messages import (
    Advertise,
    Confirm,
    Envelope,
    LedgerMark,
    MaskedHeader,
    Plan,
    SignedPlan,
)
from simulations.adversaries.relay import Relay
from simulations.adversaries.weakened import AnswersAgain, NoFloor, NoQuorum, NoSignatures, ThresholdOne

__all__ = ["LIST_ATTACKS"]

VICTIM = "site-01"


class AliveAndDead(Relay):
    """Lists the victim as alive, then as dead."""

    name = "alive-and-dead"
    title = "After the sum is unmasked, the same sites are asked again with a list in which one survivor is dead."
    gain = "both the mask seed and the mask key of the victim, so its own vector"
    defence = "one survivor list a round: a site answers once and then forgets the shares"
    expected = ("E_STAGE", "coordinator")
    weakness = "sites answer a second survivor list"
    weak = AnswersAgain
    absent = ""

    def attack(self) -> None:
        """One honest attempt, then the second list."""
        super().attack()
        self.absent = VICTIM
        self.confirms = {}
        self.close()
        self.unmask()

    def survivors_for(self, site: str, headers: Sequence[MaskedHeader]) -> Sequence[MaskedHeader] | None:
        """Without the victim, and without telling it."""
        return None if site == self.absent else [head for head in headers if head.site_id != self.absent]


class LateVector(AliveAndDead):
    """The victim's masked vector arrives after the list was closed without it."""

    name = "late-vector"
    title = "A masked vector comes after its site was declared dropped; then its mask seed is asked for."
    gain = "the late site's own vector: its mask key is rebuilt already, only its own mask is left"
    defence = "each masked vector also carries its own mask, whose shares a dropped site's peers never reveal"

    def attack(self) -> None:
        """Close without the victim, whose vector is kept; then ask for its seed too."""
        self.absent = VICTIM
        self.attempt(self.world.plan())
        self.absent = ""
        self.confirms = {}
        self.close()
        self.unmask()


class KeySubstitution(Relay):
    """Puts its own keys in place of the peers' in what the victim is told."""

    name = "key-substitution"
    title = "The victim is given keys of the coordinator's instead of its peers'."
    gain = "every pair mask of the victim and every share that it deals, so its own vector"
    defence = "each key announcement is signed with the site's roster key, for this plan"
    expected = ("E_SIG", "coordinator")
    weakness = "the victim does not check signatures"
    weak = NoSignatures

    def adverts_for(self, site: str, adverts: Sequence[Advertise]) -> Sequence[Advertise]:
        """The victim's own announcement is left as it is, or it would notice."""
        if site != VICTIM:
            return adverts
        return [advert if advert.site_id == VICTIM else self._fake(advert) for advert in adverts]

    def _fake(self, advert: Advertise) -> Advertise:
        source = self.world.entropy("adversary", advert.site_id)
        keys = [self.loot.keep(source.random_bytes(32)).public_bytes() for _ in range(2)]
        return replace(advert, channel_key=keys[0], mask_key=keys[1])


class Sybil(Relay):
    """Adds sites of its own."""

    name = "sybil"
    title = "Sites that are on no roster are added to the cohort, until they outnumber the real ones."
    gain = "the sum of few real sites, or one, as the others' vectors are its own"
    defence = "only sites of the pinned roster and the approved manifest take part"
    expected = ("E_UNKNOWN_SITE", "coordinator")

    def adverts_for(self, site: str, adverts: Sequence[Advertise]) -> Sequence[Advertise]:
        """The receiver and four made-up sites, with correct signatures of their own keys."""
        own = [advert for advert in adverts if advert.site_id == site]
        return sorted([*own, *(self._made_up(i) for i in range(4))], key=lambda advert: advert.site_id)

    def _made_up(self, number: int) -> Advertise:
        site, source = f"sybil-{number}", self.world.entropy("sybil", str(number))
        key = SigningKey.generate(source.random_bytes)
        keys = [self.loot.keep(source.random_bytes(32)).public_bytes() for _ in range(2)]
        return Advertise.signed(
            key, (self.plan.context(),), site_id=site, channel_key=keys[0], mask_key=keys[1],
            mark=LedgerMark.empty(site, "fed", key))


class DuplicateSite(Relay):
    """Counts one site twice."""

    name = "duplicate-site"
    title = "One site is listed several times, so that a small cohort looks large."
    gain = "a sum of fewer sites than the floor"
    defence = "each identifier may stand in a list once"
    expected = ("E_DUP_SITE", "coordinator")

    def adverts_for(self, site: str, adverts: Sequence[Advertise]) -> Sequence[Advertise]:
        """The receiver and one peer, the peer as often as it takes."""
        own = next(advert for advert in adverts if advert.site_id == site)
        peer = next(advert for advert in adverts if advert.site_id != site)
        return [own, *[peer] * (len(adverts) - 1)]


class DuplicateKey(Relay):
    """A colluding site announces another site's keys."""

    name = "duplicate-key"
    title = "A colluding site announces the victim's keys as its own, so that two pair masks are the same."
    gain = "masks that cancel out between two sites, and envelopes that can be sent back to their dealer"
    defence = "all ephemeral keys of a round differ"
    expected = ("E_DUP_KEY", "coordinator")
    colluding = 1

    def adverts_for(self, site: str, adverts: Sequence[Advertise]) -> Sequence[Advertise]:
        """The accomplice signs the copy itself."""
        liar = self.accomplices[0]
        victim = next(advert for advert in adverts if advert.site_id == VICTIM)
        copy = Advertise.signed(
            self.world.keys[liar], (self.plan.context(),), site_id=liar, channel_key=victim.channel_key,
            mask_key=victim.mask_key, mark=self.adverts[liar].mark)
        return [copy if advert.site_id == liar and site != liar else advert for advert in adverts]


class OneSiteCohort(Relay):
    """Runs a round with one site."""

    name = "one-site-cohort"
    title = "A round with the victim alone: the sum over one site is that site's vector."
    gain = "the victim's own vector"
    defence = "the site computes the cohort floor itself, from its pinned roster; at least three sites"
    expected = ("E_COHORT_SMALL", "nobody")
    weakness = "the victim takes part in a cohort of any size"
    weak = NoFloor

    def invited(self) -> Iterable[str]:
        """Only the victim."""
        return (VICTIM,)


class ThresholdChosen(Relay):
    """Names a threshold of its own in the plan."""

    name = "threshold-one"
    title = "The plan carries a threshold of 1, with one colluding site that receives shares of everybody."
    gain = "every site's vector: one share rebuilds both of its secrets"
    defence = "no message has a threshold; each site computes it from the number of announcements"
    expected = ("E_FORMAT", "coordinator")
    weakness = "sites deal with threshold 1"
    weak = ThresholdOne
    colluding = 1

    def begin(self, defended: bool) -> None:
        """A weak site takes the threshold from elsewhere; the message would not say it."""
        self._asks = defended
        super().begin(defended)

    def plan_for(self, site: str) -> bytes:
        """The signed plan with one more field, which our format has no place for."""
        honest = super().plan_for(site)
        if not self._asks or site in self.accomplices:
            return honest
        from privacy.encoding import dec, enc

        name, fields, signature = dec(honest[1:])
        return honest[:1] + enc(name, (*_tuple(fields), 1), signature)

    def plan_of(self, body: bytes) -> Plan:
        """The plan without the extra field."""
        return self.plan


class SplitSurvivors(Relay):
    """Shows half of the sites a survivor list without the victim."""

    name = "split-survivors"
    title = "Half of the sites are told that the victim survived, the other half that it dropped out."
    gain = "shares of both of the victim's secrets, so its own vector"
    defence = "a site reveals shares only for a list that t sites signed, and 2t > n"
    expected = ("E_QUORUM", "coordinator")

    def survivors_for(self, site: str, headers: Sequence[MaskedHeader]) -> Sequence[MaskedHeader] | None:
        """The upper half is told that the victim is dead."""
        alive = site <= sorted(self.members)[len(self.members) // 2]
        return headers if alive else [head for head in headers if head.site_id != VICTIM]


class SplitSurvivorsColluding(Relay):
    """Shows each honest site a survivor list of its own, with as many colluding sites as the threshold bears."""

    name = "split-survivors-colluding"
    title = "Nine sites, four of which collude (the most that 2t - n - 1 allows); each honest site gets its own list."
    gain = "the mask keys of three honest sites, so a sum over two where the floor promises three"
    defence = "a site reveals shares only for a list that t sites signed"
    expected = ("E_QUORUM", "coordinator")
    weakness = "sites reveal shares without a quorum on their list"
    weak = NoQuorum
    sites = 9
    colluding = 4
    # Each of the five honest sites is told that two others are dead; sites 3, 4 and 5 are told dead by three each.
    dead: ClassVar[dict[str, tuple[int, ...]]] = {
        "site-01": (3, 4), "site-02": (4, 5), "site-03": (4, 5), "site-04": (3, 5), "site-05": (3,)}

    def survivors_for(self, site: str, headers: Sequence[MaskedHeader]) -> Sequence[MaskedHeader] | None:
        """Every list has at least the floor of seven sites; the receiver is alive in its own."""
        dead = {f"site-{number:02d}" for number in self.dead.get(site, ())}
        return None if site in self.accomplices else [head for head in headers if head.site_id not in dead]

    def confirms_for(self, site: str, confirms: Sequence[Confirm]) -> Sequence[Confirm]:
        """The four accomplices sign whatever list the receiver was shown."""
        listed = self.survivors_for(site, [self.headers[other] for other in sorted(self.headers)]) or ()
        cohort, dealers = self.cohort(), sorted(self.headers)
        h3 = cohort.h3(cohort.h2(dealers), {head.site_id: head for head in listed})
        signed = [Confirm.signed(self.world.keys[liar], (cohort.ctx, h3), site_id=liar) for liar in self.accomplices]
        return [*(confirm for confirm in confirms if confirm.site_id == site), *signed]


class SplitKeys(Relay):
    """Shows two groups of sites two sets of keys."""

    name = "split-announcements"
    title = "Two groups of sites are shown different sets of key announcements, each large enough."
    gain = "two cohorts in one round, with different floors and thresholds"
    defence = "the hash of the announcements is in every envelope's signature and key"
    expected = ("E_SIG", "coordinator")

    def adverts_for(self, site: str, adverts: Sequence[Advertise]) -> Sequence[Advertise]:
        """The first site is not told of the last one."""
        return adverts if site != VICTIM else adverts[:-1]


class SplitDealers(Relay):
    """Shows two groups of sites two sets of dealers."""

    name = "split-dealers"
    title = "One site is told that another one dealt no shares, the others that it did."
    gain = "masked vectors whose masks do not cancel, and survivor lists that fit neither"
    defence = "the hash of the dealers is in every masked vector's keys and signature"
    expected = ("E_SIG", "coordinator")

    def envelopes_for(self, site: str, envelopes: Sequence[Envelope]) -> Sequence[Envelope]:
        """The victim gets no envelope of the last site."""
        return envelopes if site != VICTIM else envelopes[:-1]


class TwoModels(Relay):
    """Gives the victim another plan than the others."""

    name = "two-models"
    title = "The victim gets a plan that names a crafted model, all others the honest one."
    gain = "an update of the victim that tells more, recognisable inside the sum (Pasquini et al. 2022)"
    defence = "the model's hash is in the plan, and the plan's hash in every signature and key of the round"
    expected = ("E_SIG", "coordinator")

    def plan_for(self, site: str) -> bytes:
        """Both plans are correctly signed."""
        plan = self.plan if site != VICTIM else replace(self.plan, model_hash=b"\x01" * 32)
        return SignedPlan.signed(self.world.coordinator_key, (), plan=plan).to_bytes()


class ForgedSurvivor(Relay):
    """Invents a survivor."""

    name = "forged-survivor"
    title = "Two sites are dropped; one of them is listed as a survivor with a signature of the coordinator's."
    gain = "a cohort below the floor that looks large enough"
    defence = "a survivor is one whose signature stands under its masked vector's hash"
    expected = ("E_SIG", "coordinator")

    def survivors_for(self, site: str, headers: Sequence[MaskedHeader]) -> Sequence[MaskedHeader] | None:
        """The last two are gone; one of them is replaced by a forgery."""
        binding = (self.plan.context(), bytes(32))
        forged = MaskedHeader.signed(
            self.world.coordinator_key, binding, site_id=headers[-1].site_id, upload_hash=bytes(32), complaints=())
        gone = {head.site_id for head in headers[-2:]}
        return None if site in gone else [*headers[:-2], forged]


def _tuple(value: object) -> tuple[object, ...]:
    return value if isinstance(value, tuple) else ()


LIST_ATTACKS = (
    AliveAndDead, KeySubstitution, Sybil, DuplicateSite, DuplicateKey, OneSiteCohort, ThresholdChosen, SplitSurvivors,
    SplitSurvivorsColluding, SplitKeys, SplitDealers, ForgedSurvivor, TwoModels, LateVector,
)
