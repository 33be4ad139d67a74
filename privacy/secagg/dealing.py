"""What one dealer gives one site: sealed for it, with commitments for all, and opened against them.

*Guarantees.* What `open_envelope` returns decrypts under the two sites' channel key of this round and matches its
signed commitments, so what a dealer gave is what it committed to, or the recipient can name it.

*Assumes.* The envelope's signature and sizes were checked (`privacy.secagg.checks.open_envelopes`).

*Does not cover.* Shares of no common polynomial: that shows when a secret is rebuilt (`privacy.secagg.recovery`).
"""

from __future__ import annotations

from dataclasses import dataclass

from privacy.identity import SigningKey
from privacy.messages import Envelope, PairOffer
from privacy.secagg.cohort import Cohort
from privacy.secagg.keys import Agreement, commit, matches, open_sealed, seal
from privacy.secagg.shamir import SHARE_BYTES, Share

__all__ = ["Dealt", "open_envelope", "seal_envelope"]


@dataclass(frozen=True, repr=False)
class Dealt:
    """Two shares, 33 bytes each, and the dealer's contribution to the tags' key, 32 bytes or none."""

    seed_share: bytes
    key_share: bytes
    contribution: bytes


def seal_envelope(
    signing_key: SigningKey, own: Agreement, cohort: Cohort, sender: str, recipient: str, dealt: Dealt, seed: bytes,
    offer: PairOffer | None,
) -> Envelope:
    """A signed envelope.

    Args:
        own: the sender's channel key pair.
        dealt: for this recipient.
        seed: b, 32 bytes, to which all the sender's envelopes commit.
        offer: for the pair's mask key (`privacy.secagg.hybrid.make_offer`).
    """
    channel, to_all = cohort.channel(sender, recipient), cohort.channel(sender, sender)
    peer = cohort.adverts[recipient].channel_key
    plain = dealt.seed_share + dealt.key_share + dealt.contribution
    return Envelope.signed(
        signing_key,
        (cohort.ctx, cohort.h1),
        sender=sender,
        recipient=recipient,
        self_mask_commitment=commit("seed", to_all, seed),
        self_mask_share_commitment=commit("seed-share", channel, dealt.seed_share),
        mask_key_share_commitment=commit("key-share", channel, dealt.key_share),
        ciphertext=seal(own, peer, channel, plain),
        tag_commitment=commit("tag", to_all, dealt.contribution) if dealt.contribution else b"",
        pair_offer=offer,
    )


def open_envelope(own: Agreement, cohort: Cohort, envelope: Envelope) -> Dealt:
    """What is in an envelope for the site whose channel key pair is `own`.

    Raises:
        SealError: it does not open.
        ValueError: a part misses its commitment, or a share is not in the field.
    """
    channel = cohort.channel(envelope.sender, envelope.recipient)
    peer = cohort.adverts[envelope.sender].channel_key
    plain = open_sealed(own, peer, channel, envelope.ciphertext)
    dealt = Dealt(plain[:SHARE_BYTES], plain[SHARE_BYTES : 2 * SHARE_BYTES], plain[2 * SHARE_BYTES :])
    index = cohort.index(envelope.recipient)
    for share, kind, commitment in (
        (dealt.seed_share, "seed-share", envelope.self_mask_share_commitment),
        (dealt.key_share, "key-share", envelope.mask_key_share_commitment),
    ):
        Share.from_bytes(index, share)
        if not matches(commit(kind, channel, share), commitment):
            raise ValueError("a share does not match its commitment; name its dealer")
    if dealt.contribution:
        to_all = cohort.channel(envelope.sender, envelope.sender)
        if not matches(commit("tag", to_all, dealt.contribution), envelope.tag_commitment):
            raise ValueError("a contribution does not match its commitment; name its dealer")
    return dealt
