"""New rosters that should not replace the pinned one, and a site that the pinned one suspends."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import ClassVar
from unittest.mock import patch

from configs.schema import PolicyConfig, SiteConfig
from privacy.identity import Officer, Roster, SigningKey
from privacy.messages import Advertise, LedgerMark
from privacy.roster import RosterError, SignedRoster
from simulations.adversaries.attack import Answer, Attack, Outcome
from simulations.adversaries.consortium import Consortium
from simulations.adversaries.relay import Relay
from site_client.roster_pin import RosterPin

__all__ = ["ROSTER_ATTACKS"]

NAMES = ("anna", "ben", "carl")


class _NewRoster(Attack):
    """A site with version 2 pinned is given another roster, and its operator approves it.

    Class variables:
        reason: part of the sentence that the operator must see; another sentence is another answer.
    """

    gain = "sites, or a coordinator, of the attacker's choice in the next run"
    expected = ("RosterError", "nobody")
    weakness = "the site takes any roster file that can be read"
    reason: ClassVar[str]

    def play(self, *, defended: bool) -> Outcome:
        """See `Attack`."""
        self.world = Consortium(5)
        self.officers = {name: self._key(name) for name in NAMES}
        self.world.amend({"version": 2, "officers": tuple(
            Officer(name, key.public_bytes()) for name, key in self.officers.items())})
        with TemporaryDirectory(prefix="attack-") as folder:
            pin = self._pinned(Path(folder))
            bad = SignedRoster.parse(self.bad().to_bytes())
            answers = []
            try:
                if defended:
                    pin.approve(bad)
                else:
                    with patch.object(SignedRoster, "require_signed", lambda signed, pinned=None: signed.roster):
                        pin.approve(bad)
            except RosterError as error:
                same = "RosterError" if self.reason in str(error) else "RosterError for another reason"
                answers.append(Answer("site-01", "roster approve", same, "nobody"))
            in_force = bad.roster if not answers else pin.roster()
        fooled = ("the attacker's roster is in force at site-01",) if in_force != self.world.roster else ()
        return Outcome(answers, fooled=fooled, notes=("the operator of site-01 approved the file",))

    def _pinned(self, folder: Path) -> RosterPin:
        signed = self.signed(self.world.roster, "anna", "ben")
        (folder / "roster").write_bytes(signed.to_bytes())
        (folder / "state").mkdir()
        pin = RosterPin(SiteConfig(
            site_id="site-01", data=str(folder), state=str(folder / "state"), base_model="base",
            roster=str(folder / "roster"), roster_hash=signed.roster.hash().hex(),
            policy=PolicyConfig(max_epsilon=8.0)))
        pin.keep()
        return pin

    def _key(self, name: str) -> SigningKey:
        return SigningKey.generate(self.world.entropy("officer", name).random_bytes)

    def signed(self, roster: Roster, *names: str) -> SignedRoster:
        """Signed by those officers."""
        return SignedRoster.make(roster, *(self.officers[name] for name in names))

    def bad(self) -> SignedRoster:
        """The attacker's roster."""
        raise NotImplementedError


class OneOfficer(_NewRoster):
    """Has one officer's key."""

    name = "roster-one-officer"
    title = "One officer alone signs a new roster."
    defence = "two different officers must sign"
    reason = "signed by 1 of its own officers"

    def bad(self) -> SignedRoster:
        """A higher version, otherwise well made."""
        return self.signed(replace(self.world.roster, version=3, max_dimension=1 << 20), "anna")


class OwnOfficers(_NewRoster):
    """Makes officers of its own."""

    name = "roster-own-officers"
    title = "A roster names new officers, who sign it themselves."
    defence = "two officers of the pinned roster must sign its successor"
    reason = "signed by 0 of the officers of the pinned"

    def bad(self) -> SignedRoster:
        """Correctly signed, by strangers."""
        mine = {name: self._key(name) for name in ("dora", "emil")}
        self.officers.update(mine)
        named = tuple(Officer(name, key.public_bytes()) for name, key in mine.items())
        return self.signed(replace(self.world.roster, version=3, officers=named), *mine)


class OlderRoster(_NewRoster):
    """Brings back an old roster."""

    name = "roster-older"
    title = "An earlier version of the roster, properly signed at its time, is handed out again."
    gain = "a site that was removed or suspended since takes part again"
    defence = "the version must be higher than the pinned one"
    reason = "a roster never goes back"

    def bad(self) -> SignedRoster:
        """Version 1, by two officers."""
        return self.signed(replace(self.world.roster, version=1), "anna", "ben")


class CoordinatorSwapped(_NewRoster):
    """Puts its own key in the coordinator's place."""

    name = "roster-coordinator-swapped"
    title = "The key of the coordinator is replaced in a signed roster, under the signatures as they were."
    gain = "an attacker who speaks as the coordinator to every site"
    defence = "officers sign the whole roster"
    reason = "a signature on the roster is not good"

    def bad(self) -> SignedRoster:
        """The honest successor's signatures under another roster."""
        honest = self.signed(replace(self.world.roster, version=3), "anna", "ben")
        return replace(honest, roster=replace(honest.roster, coordinator_key=self._key("attacker").public_bytes()))


class SuspendedSite(Relay):
    """Lists a site that the roster suspends."""

    name = "suspended-site"
    title = "A suspended site announces keys all the same, and the coordinator lists it."
    gain = "a cohort that reaches its floor with a site that the consortium has shut out"
    defence = "only active sites of the pinned roster count"
    expected = ("E_UNKNOWN_SITE", "coordinator")
    colluding = 1

    def begin(self, defended: bool) -> None:
        """The last site is suspended."""
        super().begin(defended)
        sites = tuple(replace(site, status="suspended") if site.site_id == "site-05" else site
                      for site in self.world.roster.sites)
        self.world.amend({"sites": sites})

    def invited(self) -> Iterable[str]:
        """The active sites; the suspended one needs no plan of its own."""
        return self.world.roster.active_ids

    def adverts_for(self, site: str, adverts: Sequence[Advertise]) -> Sequence[Advertise]:
        """And a fifth, whose key is on the roster."""
        key, source = self.world.keys["site-05"], self.world.entropy("suspended")
        keys = [self.loot.keep(source.random_bytes(32)).public_bytes() for _ in range(2)]
        return [*adverts, Advertise.signed(
            key, (self.plan.context(),), site_id="site-05", channel_key=keys[0], mask_key=keys[1],
            mark=LedgerMark.empty("site-05", "fed", key))]


ROSTER_ATTACKS = (OneOfficer, OwnOfficers, OlderRoster, CoordinatorSwapped, SuspendedSite)
