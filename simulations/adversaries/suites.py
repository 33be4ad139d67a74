"""Attacks on the key agreement: the weaker one in a hybrid run, or all X25519 keys broken years later."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from privacy.messages import Advertise
from privacy.secagg.hybrid import HybridAgreement, fresh_agreement
from privacy.secagg.keys import Agreement
from simulations.adversaries.attack import Outcome
from simulations.adversaries.consortium import RoundMember
from simulations.adversaries.relay import Relay
from simulations.adversaries.replays import SessionRelay

__all__ = ["SUITE_ATTACKS"]

HYBRID = "x25519-mlkem768"
_BOTH = ("x25519", HYBRID)


class _HybridRelay(Relay):
    """Against sites whose run has the hybrid suite; without the defence, X25519 alone."""

    suite_without: ClassVar[str] = HYBRID

    def begin(self, defended: bool) -> None:
        """See `Relay`."""
        super().begin(defended)
        self.world.amend({"suites": _BOTH}, suite=HYBRID if defended else self.suite_without)


class SuiteDowngrade(_HybridRelay):
    """An accomplice announces keys of the weaker suite."""

    name = "suite-downgrade"
    title = "In a run with the hybrid suite a colluding site announces X25519 keys alone."
    gain = "pair masks that a quantum computer opens later"
    defence = "the signed manifest names the suite; every announcement must be of that suite"
    expected = ("E_WEAK_KEY", "site-05")
    colluding = 1

    def adverts_for(self, site: str, adverts: Sequence[Advertise]) -> Sequence[Advertise]:
        """The accomplice signs keys of 32 bytes."""
        liar, source = self.accomplices[0], self.world.entropy("downgrade")
        keys = [fresh_agreement("x25519", source).public_bytes() for _ in range(2)]
        weak = Advertise.signed(
            self.world.keys[liar], (self.plan.context(),), site_id=liar, channel_key=keys[0], mask_key=keys[1],
            mark=self.adverts[liar].mark)
        return [weak if advert.site_id == liar and site != liar else advert for advert in adverts]


class SuiteNotAllowed(SessionRelay):
    """Signs a manifest with a suite that the roster does not allow."""

    name = "suite-not-allowed"
    title = "The coordinator signs a manifest with X25519 alone; the roster allows only the hybrid suite."
    gain = "a whole run that a quantum computer opens later"
    defence = "a site approves a run only with a suite of its pinned roster"
    expected = ("P_SUITE", "nobody")

    def readmit(self) -> None:
        """Ask every site for its approval."""
        self.world.amend({"suites": (HYBRID,)}, suite="x25519")
        self.restart()  # with the amended roster
        self.approved = self.approvals()

    def attack(self) -> None:
        """The manifest is all of it."""

    def outcome(self) -> Outcome:
        """No site may have approved."""
        return Outcome(self.answers, fooled=tuple(f"{site} approved the run" for site in self.approved))


class _X25519Only(HybridAgreement):
    """A hybrid pair of which only the X25519 half is known: what it agrees on lacks the KEM's secret."""

    def __init__(self, pair: Agreement) -> None:
        self._private, self._shared, self._public = pair._private, {}, pair.public_bytes()

    def public_bytes(self) -> bytes:
        """As announced."""
        return self._public

    def accept(self, peer: bytes, offered: bytes) -> bytes:
        """X25519 alone."""
        return self.exchange(peer)


class HarvestNow(_HybridRelay):
    """Records a round; later a quantum computer gives it every X25519 private key."""

    name = "harvest-now"
    title = "Record now, decrypt later: a finished round is recorded, then every X25519 private key becomes known."
    gain = "every envelope and every pair mask, so each site's own vector"
    defence = "hybrid suite: envelope and mask keys also need the ML-KEM-768 secret of each pair"
    weakness = "the run has the suite x25519, which is the default"
    suite_without = "x25519"

    def list_keys(self) -> None:
        """The judge hands over what a quantum computer would compute from the announcements."""
        for member in self.members.values():
            machine = member._machine if isinstance(member, RoundMember) else None
            for pair in () if machine is None else (machine._channel_pair, machine._mask_pair):
                if pair is not None:
                    known = _X25519Only(pair) if isinstance(pair, HybridAgreement) else pair
                    self.loot.privates[pair.public_bytes()] = known
        self.notes.append(f"simulated: the private X25519 keys behind {len(self.loot.privates)} announced keys")
        super().list_keys()


SUITE_ATTACKS = (SuiteDowngrade, SuiteNotAllowed, HarvestNow)
