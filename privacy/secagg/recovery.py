"""The coordinator's last step: check revealed shares, rebuild the masks that remain in the sum, take them
off.

*Guarantees.* A share counts only if it matches the commitment its dealer signed, so a false share is
attributed to the site that revealed it. A rebuilt secret counts only if it matches what its dealer announced.

*Assumes.* The envelopes were checked when they arrived (`privacy.secagg.server`).

*Does not cover.* False complaints: a site that claims a good share was bad withholds one share and blames its
dealer; t shares from others still rebuild the secret.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from privacy.errors import FaultySiteError
from privacy.messages import DealtShare, Envelope, MaskedHeader, UnmaskShares
from privacy.secagg.cohort import Cohort
from privacy.secagg.hybrid import agreement, pair_key
from privacy.secagg.keys import Agreement, SealError, commit, matches, self_mask_key
from privacy.secagg.masking import apply_masks
from privacy.secagg.shamir import Share, combine
from privacy.secagg.tags import mask_tags

__all__ = ["Recovery"]

Envelopes = Mapping[str, Mapping[str, Envelope]]  # dealer -> recipient -> envelope


class Recovery:
    """Collects the shares of one round.

    Args:
        cohort: U1.
        envelopes: of every dealer in U2.
        headers: of every survivor in U3.
        h2: the hash of U2.
    """

    def __init__(
        self, cohort: Cohort, envelopes: Envelopes, headers: Mapping[str, MaskedHeader], h2: bytes
    ) -> None:
        self._cohort, self._envelopes, self._h2 = cohort, envelopes, h2
        self._survivors = tuple(sorted(headers))
        self._dropped = tuple(sorted(set(envelopes) - set(headers)))
        self._complained = {
            site: {complaint.blamed for complaint in header.complaints} for site, header in headers.items()
        }
        self._shares: dict[str, list[Share]] = {dealer: [] for dealer in envelopes}

    def add(self, message: UnmaskShares) -> None:
        """Count one site's shares, all or none.

        Raises:
            FaultySiteError: E_UNMASK_SHARES, blaming the site that revealed them.
        """
        site = message.site_id
        good = self._checked(site, message.self_mask_shares, self._survivors, "seed-share")
        good |= self._checked(site, message.mask_key_shares, self._dropped, "key-share")
        for dealer, share in good.items():
            self._shares[dealer].append(share)

    def _checked(
        self, site: str, dealt: Sequence[DealtShare], wanted: Sequence[str], kind: str
    ) -> dict[str, Share]:
        if {share.dealer for share in dealt} != set(wanted) - self._complained[site]:
            raise FaultySiteError("E_UNMASK_SHARES", site)
        return {share.dealer: self._matching(site, share, kind) for share in dealt}

    def _matching(self, site: str, dealt: DealtShare, kind: str) -> Share:
        envelope = self._envelopes[dealt.dealer][site]
        seed = kind == "seed-share"
        wanted = envelope.self_mask_share_commitment if seed else envelope.mask_key_share_commitment
        if not matches(commit(kind, self._cohort.channel(dealt.dealer, site), dealt.share), wanted):
            raise FaultySiteError("E_UNMASK_SHARES", site)
        try:
            return Share.from_bytes(self._cohort.index(site), dealt.share)
        except ValueError:
            raise FaultySiteError("E_UNMASK_SHARES", site) from None

    def unmask(self, total: npt.NDArray[np.uint32], tags: list[int]) -> None:
        """Take every remaining mask off the sum uint32[d] and its tags, in place. Both are untouched
        when a secret cannot be rebuilt.

        Raises:
            FaultySiteError: E_DEALER, blaming the site whose shares are too few or rebuild something else.
        """
        add: list[bytes] = []
        subtract = [self._seed_key(site) for site in self._survivors]
        for gone in self._dropped:
            pair = self._mask_pair(gone)
            for site in self._survivors:
                key = self._pair_key(pair, gone, site)
                (subtract if site < gone else add).append(key)  # a survivor added what it shared upwards
        apply_masks(total, add, subtract)
        mask_tags(tags, add, subtract)

    def _pair_key(self, pair: Agreement, gone: str, site: str) -> bytes:
        """The mask key of a dropped site and a survivor, from the dropped one's rebuilt key pair."""
        channel = self._cohort.pair(gone, site)
        offer = self._envelopes[channel.sender][channel.recipient].pair_offer
        try:
            return pair_key(pair, gone, self._cohort.adverts[site].mask_key, self._h2, channel, offer)
        except (SealError, ValueError):
            raise FaultySiteError("E_DEALER", channel.sender) from None

    def _seed_key(self, dealer: str) -> bytes:
        seed = self._rebuilt(dealer)
        wanted = self._envelopes[dealer][dealer].self_mask_commitment
        if not matches(commit("seed", self._cohort.channel(dealer, dealer), seed), wanted):
            raise FaultySiteError("E_DEALER", dealer)
        return self_mask_key(seed, self._cohort.ctx, self._h2, dealer)

    def _mask_pair(self, dealer: str) -> Agreement:
        pair = agreement(self._cohort.suite, self._rebuilt(dealer))
        if not matches(pair.public_bytes(), self._cohort.adverts[dealer].mask_key):
            raise FaultySiteError("E_DEALER", dealer)
        return pair

    def _rebuilt(self, dealer: str) -> bytes:
        """The dealer's secret from the t shares with the lowest indices."""
        shares = sorted(self._shares[dealer], key=lambda share: share.index)[: self._cohort.threshold]
        if len(shares) < self._cohort.threshold:
            raise FaultySiteError("E_DEALER", dealer)
        try:
            return combine(shares)
        except ValueError:
            raise FaultySiteError("E_DEALER", dealer) from None
