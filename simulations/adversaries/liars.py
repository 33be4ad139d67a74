"""A site that lies, against the real coordinator and honest peers; the coordinator tells the liar all it sees."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from privacy.errors import CohortTooSmallError, FaultySiteError, ProtocolError
from privacy.manifest import Suite
from privacy.messages import DealtShare, Envelope
from privacy.secagg.client import SiteRound
from privacy.secagg.server import CoordinatorRound
from privacy.secagg.shamir import Share
from simulations.adversaries.attack import Answer, Attack, Outcome
from simulations.adversaries.breaker import Breaker
from simulations.adversaries.consortium import STEPS, Consortium, Refusal, Reply
from simulations.adversaries.loot import Loot

__all__ = ["LIAR_ATTACKS"]

LIAR, VICTIM = "site-05", "site-01"


class LyingSite(Attack):
    """Plays one round with one liar; what the liar and the coordinator hold goes to the breaker.

    Class variables:
        lie: the liar's class.
        completes: whether the round ends with a sum nevertheless.
        liar, suite: who lies, and the run's key agreement.
    """

    lie: ClassVar[type[SiteRound]]
    completes: ClassVar[bool] = True
    liar: ClassVar[str] = LIAR
    suite: ClassVar[Suite] = "x25519"

    def play(self, *, defended: bool) -> Outcome:
        """See `Attack`."""
        world = Consortium(5)
        world.amend({"suites": (self.suite,)}, suite=self.suite)
        plan = world.plan()
        self._members = {member.site_id: member for member in world.members(SiteRound, {self.liar: self.lie})}
        self._loot, self._plan, self._answers = Loot((self.liar,)), plan, list[Answer]()
        to = CoordinatorRound(plan=plan, roster=world.roster, signing_key=world.coordinator_key, suite=self.suite)
        total = self._round(to, world)
        fooled = []
        if total is not None:
            true = sum(self._members[site].vector().astype(np.int64) for site in to.survivors) % world.ring.modulus
            if not np.array_equal(total.astype(np.int64), true):
                fooled.append("the sum is wrong and nobody noticed")
        if (total is not None) != self.completes:
            fooled.append("the round did not end as it should" if self.completes else "a sum came out")
        findings = Breaker(self._loot, world.roster, world.ring.bits).findings()
        end = "went on without the liar or its share" if self.completes else "was lost, with the liar named"
        return Outcome(self._answers, findings, tuple(fooled), (f"the round {end}",))

    def _round(self, to: CoordinatorRound, world: Consortium) -> npt.NDArray[np.uint32] | None:
        inbox = dict.fromkeys(world.ids, to.signed_plan())
        closings: list[Callable[[], dict[str, bytes]]] = [
            to.close_advertise, to.close_share, to.close_masked, to.close_confirm, dict]
        for step, close in enumerate(closings):
            for site, body in inbox.items():
                member = self._members[site]
                try:
                    reply = member.ask(step, body)
                except Refusal as refusal:
                    self._answers.append(Answer(site, STEPS[step], refusal.code, refusal.blamed))
                    continue
                self._loot.saw(member, step, self._plan, body, reply)
                self._note("coordinator", step, lambda: self._deliver(to, step, site, reply))  # noqa: B023
            try:
                inbox = close()
            except CohortTooSmallError:
                return None  # the round is lost
        self._answers += [Answer(site, STEPS[2], c.code, c.blamed) for site, c in to.complaints]
        totals: list[npt.NDArray[np.uint32]] = []
        self._note("coordinator", 4, lambda: totals.append(to.finish()))
        return totals[0] if totals else None

    def _note(self, who: str, step: int, work: Callable[[], None]) -> None:
        try:
            work()
        except ProtocolError as error:
            self._answers.append(Answer(who, STEPS[step], error.code, error.blamed))

    @staticmethod
    def _deliver(to: CoordinatorRound, step: int, site: str, reply: Reply) -> None:
        if step == 2:
            if reply.packed is None:
                raise FaultySiteError("E_UPLOAD", site)
            to.receive_masked(site, reply.body, reply.packed)
            return
        {0: to.receive_advertise, 1: to.receive_share, 3: to.receive_confirm, 4: to.receive_unmask}[step](
            site, reply.body)


def _resigned(site: SiteRound, envelope: Envelope, **changed: Any) -> Envelope:
    """The liar signs what it changed."""
    cohort = site._cohort
    if cohort is None:
        raise ValueError("an envelope is dealt after the announcements are known")
    values = {field.name: getattr(envelope, field.name) for field in fields(envelope) if field.name != "signature"}
    return Envelope.signed(site._signing_key, (cohort.ctx, cohort.h1), **{**values, **changed})


class _RevealsWrongShare(SiteRound):
    def _reveal(self) -> tuple[tuple[DealtShare, ...], tuple[DealtShare, ...]]:
        own, keys = super()._reveal()
        first = own[0]
        return (DealtShare(first.dealer, bytes(33)), *own[1:]), keys


class _CommitsWrongly(SiteRound):
    def _envelope(self, recipient: str, seed_share: Share, key_share: Share) -> Envelope:
        honest = super()._envelope(recipient, seed_share, key_share)
        return _resigned(self, honest, mask_key_share_commitment=bytes(32)) if recipient == VICTIM else honest


class _SealsWrongly(SiteRound):
    def _envelope(self, recipient: str, seed_share: Share, key_share: Share) -> Envelope:
        honest = super()._envelope(recipient, seed_share, key_share)
        garbled = bytes(len(honest.ciphertext))
        return _resigned(self, honest, ciphertext=garbled) if recipient == VICTIM else honest


class _DealsInconsistently(SiteRound):
    def _envelope(self, recipient: str, seed_share: Share, key_share: Share) -> Envelope:
        other = Share(seed_share.index, seed_share.value // 2 + seed_share.index)
        return super()._envelope(recipient, other, key_share)


class _TampersUpload(SiteRound):
    def mask(self, envelope_list: bytes) -> tuple[bytes, npt.NDArray[np.uint8]]:
        """See `SiteRound`."""
        header, packed = super().mask(envelope_list)
        changed = packed.copy()
        changed[0] ^= 1
        return header, changed


class _OffersWrongly(SiteRound):
    def _envelope(self, recipient: str, seed_share: Share, key_share: Share) -> Envelope:
        honest = super()._envelope(recipient, seed_share, key_share)
        offer = honest.pair_offer
        if recipient != "site-02" or offer is None:
            return honest
        return _resigned(self, honest, pair_offer=replace(offer, commitment=bytes(32)))


class _BacksUpWrongly(SiteRound):
    def _envelope(self, recipient: str, seed_share: Share, key_share: Share) -> Envelope:
        honest = super()._envelope(recipient, seed_share, key_share)
        offer = honest.pair_offer
        if offer is None:
            return honest
        return _resigned(self, honest, pair_offer=replace(offer, backup=bytes(len(offer.backup))))

    def mask(self, envelope_list: bytes) -> tuple[bytes, npt.NDArray[np.uint8]]:
        """It drops out, so that its backup is needed."""
        raise FaultySiteError("E_UPLOAD", self._id)


class WrongShare(LyingSite):
    """At unmasking."""

    name = "wrong-share"
    title = "A site reveals a share that it was not dealt."
    gain = "a wrong mask is taken off, so the sum is garbage and nobody knows whose fault it is"
    defence = "each share's commitment is signed by its dealer; the sum needs only t good shares"
    expected = ("E_UNMASK_SHARES", LIAR)
    lie = _RevealsWrongShare


class WrongCommitment(LyingSite):
    """At dealing."""

    name = "wrong-commitment"
    title = "A site deals a share that misses its own commitment."
    gain = "the receiver is blamed later for revealing a wrong share"
    defence = "the receiver checks the commitment when the envelope comes, and names the dealer in its signed header"
    expected = ("E_SHARE_COMMIT", LIAR)
    lie = _CommitsWrongly


class BadCiphertext(LyingSite):
    """At dealing."""

    name = "bad-ciphertext"
    title = "A site seals an envelope that its receiver cannot open."
    gain = "the receiver cannot help at unmasking and seems at fault"
    defence = "the receiver names the dealer in its signed header; t other shares are enough"
    expected = ("E_SHARE_DECRYPT", LIAR)
    lie = _SealsWrongly


class InconsistentDealing(LyingSite):
    """At dealing."""

    name = "inconsistent-dealing"
    title = "A site deals shares that rebuild no secret of its own, each with a correct commitment."
    gain = "a wrong mask is taken off, so the sum is garbage and nobody knows whose fault it is"
    defence = "what is rebuilt must match the dealer's signed commitment; the round is lost, the dealer named"
    expected = ("E_DEALER", LIAR)
    lie = _DealsInconsistently
    completes = False


class TamperedUpload(LyingSite):
    """At masking."""

    name = "tampered-upload"
    title = "A masked vector differs from the hash that its site signed, or was changed on its way."
    gain = "a sum that is off, with an honest site's signature under it"
    defence = "the signed header holds the hash of the masked vector; a vector that misses it is not added"
    expected = ("E_UPLOAD", LIAR)
    lie = _TampersUpload


class LyingPairOffer(LyingSite):
    """At dealing, in the hybrid suite."""

    name = "lying-pair-offer"
    title = "In the hybrid suite a site's pair offer misses its own commitment."
    gain = "two sites with different masks, so the sum is garbage and nobody knows whose fault it is"
    defence = ("the receiver checks the offer before it masks anything, and names the dealer; so does the coordinator, "
               "which cannot remove the mask of that pair and gives the round up")
    expected = ("E_SHARE_COMMIT", "site-01")
    lie = _OffersWrongly
    completes = False
    liar = "site-01"
    suite = "x25519-mlkem768"


class LyingPairBackup(LyingSite):
    """At dealing, in the hybrid suite."""

    name = "lying-pair-backup"
    title = "In the hybrid suite a site's backup of its pair secrets does not open, and the site drops out."
    gain = "a round that cannot be unmasked and nobody knows whose fault it is"
    defence = "the backup is signed by its dealer; whoever rebuilds the dealer's key finds it bad and names the dealer"
    expected = ("E_DEALER", "site-01")
    lie = _BacksUpWrongly
    completes = False
    liar = "site-01"
    suite = "x25519-mlkem768"


LIAR_ATTACKS = (WrongShare, WrongCommitment, BadCiphertext, InconsistentDealing, TamperedUpload, LyingPairOffer,
                LyingPairBackup)
