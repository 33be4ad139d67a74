"""Everything an adversary holds: each message that passed through its hands, and the private keys it got or made."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from privacy.messages import (
    Advertise,
    AdvertiseList,
    Envelope,
    EnvelopeList,
    Plan,
    UnmaskShares,
)
from privacy.secagg.hybrid import agreement
from privacy.secagg.keys import Agreement
from privacy.secagg.quantize import unpack
from simulations.adversaries.consortium import Member, Reply

__all__ = ["Loot", "Upload", "View"]


@dataclass
class View:
    """What one site was shown in one attempt: plan, key announcements and dealers."""

    site_id: str
    plan: Plan
    adverts: dict[str, Advertise] = field(default_factory=dict)
    dealers: tuple[str, ...] = ()


@dataclass(frozen=True)
class Upload:
    """One masked vector, uint32[d] below 2^bits, with the view under which it was masked.

    `truth` is the judge's: the clear vector. No computation of the adversary reads it.
    """

    view: View
    values: npt.NDArray[np.uint32]
    truth: npt.NDArray[np.uint32]


class Loot:
    """Filled by whoever drives a round.

    Args:
        colluding: sites whose secrets the coordinator gets.
    """

    def __init__(self, colluding: Collection[str] = ()) -> None:
        self.colluding = frozenset(colluding)
        self.privates: dict[bytes, Agreement] = {}  # public key -> pair
        self.uploads: list[Upload] = []
        self.envelopes: list[tuple[View, Envelope]] = []  # with the dealer's view
        self.revealed: list[tuple[View, UnmaskShares]] = []  # with the view of the site that revealed them
        self._views: dict[str, View] = {}

    def keep(self, private: bytes) -> Agreement:
        """Add an ephemeral private key, one's own or a colluding site's."""
        pair = Agreement(private)
        self.privates[pair.public_bytes()] = pair
        return pair

    def saw(self, member: Member, step: int, plan: Plan, request: bytes, reply: Reply) -> None:
        """Note one exchange that the site did not refuse."""
        site = member.site_id
        if step == 0:
            self._views[site] = View(site, plan)
            if site in self.colluding:
                suite = Advertise.from_bytes(reply.body).suite
                for private in member.loot():
                    pair = agreement(suite, private)
                    self.privates[pair.public_bytes()] = pair
            return
        view = self._views[site]
        if step == 1:
            view.adverts = {a.site_id: a for a in AdvertiseList.from_bytes(request).entries}
            self.envelopes += [(view, envelope) for envelope in EnvelopeList.from_bytes(reply.body).entries]
        elif step == 2 and reply.packed is not None:
            view.dealers = tuple(sorted({e.sender for e in EnvelopeList.from_bytes(request).entries}))
            if site not in self.colluding:
                values = unpack(reply.packed, plan.bits)
                self.uploads.append(Upload(view, values, member.vector()))
        elif step == 4:
            self.revealed.append((view, UnmaskShares.from_bytes(reply.body)))
