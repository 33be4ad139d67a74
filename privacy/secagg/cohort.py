"""U1 as one party saw it: who takes part, with which ephemeral keys, and the numbers that follow.

*Guarantees.* Threshold and floor are computed here from |U1| and the pinned roster, never received.

*Assumes.* The announcements were checked (`privacy.secagg.checks.open_adverts` at a site, `receive_advertise`
at the coordinator).

*Does not cover.* Whether others saw the same U1: h1, bound into every later signature and key, settles that.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from privacy.identity import Roster
from privacy.manifest import Suite
from privacy.messages import Advertise, MaskedHeader
from privacy.secagg.keys import Channel, announced_hash, dealer_hash, survivor_hash

__all__ = ["Cohort"]


class Cohort:
    """The sites of one attempt, in ascending order of their identifiers.

    Args:
        ctx: the plan's context, 32 bytes.
        roster: the pinned roster.
        adverts: site identifier -> checked announcement.
        fewest: sites that the run's noise needs in a sum, where that is more than the roster asks for.
    """

    def __init__(self, ctx: bytes, roster: Roster, adverts: Mapping[str, Advertise], fewest: int = 0) -> None:
        self.ctx, self.roster = ctx, roster
        self.adverts = {site: adverts[site] for site in sorted(adverts)}
        self.h1 = announced_hash(ctx, (advert.items() for advert in self.adverts.values()))
        self.threshold = roster.threshold(len(adverts))
        self.floor = max(roster.floor(len(adverts)), fewest)
        self._keys = {site: roster.site(site).public_key for site in adverts}
        self._places = {site: place for place, site in enumerate(self.adverts, start=1)}

    @property
    def ids(self) -> tuple[str, ...]:
        """The sites, ascending."""
        return tuple(self.adverts)

    @property
    def suite(self) -> Suite:
        """The key agreement that all announcements are for."""
        return next(iter(self.adverts.values())).suite

    def signing_key(self, site_id: str) -> bytes:
        """A member's 32-byte roster key."""
        return self._keys[site_id]

    def index(self, site_id: str) -> int:
        """A member's share index: its place in the cohort, from 1."""
        return self._places[site_id]

    def channel(self, sender: str, recipient: str) -> Channel:
        """What an envelope between two members is bound to."""
        return Channel(self.ctx, self.h1, sender, recipient)

    def pair(self, a: str, b: str) -> Channel:
        """What the pair secret of two members is bound to: from the lower to the higher identifier."""
        return self.channel(min(a, b), max(a, b))

    def h2(self, dealers: Iterable[str]) -> bytes:
        """The hash of U2."""
        return dealer_hash(self.h1, dealers)

    def h3(self, h2: bytes, headers: Mapping[str, MaskedHeader]) -> bytes:
        """The hash of U3."""
        return survivor_hash(h2, {site: (head.upload_hash, head.signature) for site, head in headers.items()})
