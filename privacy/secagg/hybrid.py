"""The hybrid suite: X25519 and ML-KEM-768 together, so that a key falls only if both do.

*Guarantees.* A channel key and a pair mask key are HKDF-SHA256 over DH secret || KEM secret, with both public keys,
the KEM's ciphertext, the round and the parties as context. That is the concatenation combiner of NIST SP 800-56C
rev. 2 (section 2, a hybrid shared secret Z || T) and draft-ietf-tls-hybrid-design (section 3.3). A pair key is the
same on both sides or the lower site is named: the secret has a signed commitment.

*Assumes.* ML-KEM-768 (FIPS 203) or X25519 is secure. The library encapsulates with its own generator (OpenSSL's) and
takes no randomness from outside, so `RandomSource` makes every secret of this suite but those in encapsulations.

*Does not cover.* Post-quantum signatures: identities are Ed25519, so the suite protects recorded traffic from a later
quantum computer, not a round from one that exists while it runs. A site that publishes its own secrets, or chooses
a bad KEM key, gives away its own pairs only.

One root. Each key pair is made from 32 random bytes: the X25519 private key and the KEM's seed d || z (FIPS 203,
algorithm 16) are two HKDF outputs of it. What is shared among the cohort stays 32 bytes.

Recovery. Of two sites the lower identifier encapsulates to the higher one's mask key. If the higher one drops out, its
rebuilt root gives the decapsulation key. If the lower one does, its root must give the secret too; a derandomised
encapsulation would do that, but the library has none. So the secret is also sealed under a key from the lower site's
own root, and both ways are held against one commitment. The backup is public but opens with that root alone, and the
root is rebuilt only for a site whose pair keys are to be computed anyway.
"""

from __future__ import annotations

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey, MLKEM768PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from privacy.encoding import transcript
from privacy.messages import KEM_BYTES, Advertise, PairOffer
from privacy.secagg.keys import (
    Agreement,
    Channel,
    RandomSource,
    SealError,
    commit,
    derive,
    is_weak,
    matches,
    pair_mask_key,
)

__all__ = [
    "HybridAgreement", "agreement", "encapsulate", "fresh_agreement", "is_usable", "key_parts", "make_offer",
    "offered_secret", "pair_key"]

_X25519_BYTES = 32
_NONCE = bytes(12)


class HybridAgreement(Agreement):
    """An X25519 and an ML-KEM-768 key pair of one 32-byte root."""

    OFFER_BYTES = KEM_BYTES

    def __init__(self, root: bytes) -> None:
        super().__init__(derive(root, b"", transcript("hybrid-x25519")))
        self._root = root
        self._kem = MLKEM768PrivateKey.from_seed_bytes(derive(root, b"", transcript("hybrid-mlkem768"), 64))
        self._public = super().public_bytes() + self._kem.public_key().public_bytes_raw()

    def public_bytes(self) -> bytes:
        """The X25519 public key and the KEM's encapsulation key, 32 + 1184 bytes."""
        return self._public

    def private_bytes(self) -> bytes:
        """The 32-byte root, to be shared among the cohort; never sent whole."""
        return self._root

    def exchange(self, peer: bytes) -> bytes:
        """The 32-byte DH secret with a peer's 1216-byte key. Raises ValueError for a key of low order."""
        return super().exchange(peer[:_X25519_BYTES])

    def offer(self, peer: bytes) -> tuple[bytes, bytes]:
        """DH secret || KEM secret, and the KEM's ciphertext, 1088 bytes."""
        secret, ciphertext = encapsulate(peer)
        return self.exchange(peer) + secret, ciphertext

    def accept(self, peer: bytes, offered: bytes) -> bytes:
        """DH secret || KEM secret. A wrong ciphertext gives another secret (FIPS 203, implicit rejection)."""
        return self.exchange(peer) + self.decapsulate(offered)

    def decapsulate(self, ciphertext: bytes) -> bytes:
        """The 32-byte KEM secret. Raises ValueError for another length."""
        return self._kem.decapsulate(ciphertext)


def agreement(suite: str, root: bytes) -> Agreement:
    """The key pair of a 32-byte root in `suite`; without a KEM the root is the X25519 private key."""
    return HybridAgreement(root) if suite == "x25519-mlkem768" else Agreement(root)


def fresh_agreement(suite: str, entropy: RandomSource) -> Agreement:
    """A new key pair from 32 random bytes."""
    return agreement(suite, entropy.random_bytes(32))


def encapsulate(peer: bytes) -> tuple[bytes, bytes]:
    """A fresh KEM secret for a peer's 1216-byte public key, and its ciphertext: 32 and 1088 bytes."""
    return MLKEM768PublicKey.from_public_bytes(peer[_X25519_BYTES:]).encapsulate()


def key_parts(advert: Advertise) -> tuple[bytes, ...]:
    """The single keys in an announcement: X25519, and KEM where there is one. All of a round must be distinct."""
    keys = (advert.channel_key, advert.mask_key)
    return tuple(part for key in keys for part in (key[:_X25519_BYTES], key[_X25519_BYTES:]) if part)


def is_usable(advert: Advertise, suite: str) -> bool:
    """Whether both keys are of `suite`, not of low order, and well-formed (FIPS 203, section 7.2, modulus check)."""
    return advert.suite == suite and not any(map(_is_bad, key_parts(advert)))


def _is_bad(part: bytes) -> bool:
    if len(part) == _X25519_BYTES:
        return is_weak(part)
    try:
        MLKEM768PublicKey.from_public_bytes(part)
    except ValueError:
        return True
    return False


def make_offer(own: Agreement, peer: bytes, channel: Channel) -> PairOffer | None:
    """What the channel's sender adds to the pair's mask key; None where the suite or the order of names has it not."""
    if not isinstance(own, HybridAgreement) or channel.sender >= channel.recipient:
        return None
    secret, ciphertext = encapsulate(peer)
    backup = AESGCM(_backup_key(own, channel, ciphertext)).encrypt(_NONCE, secret, None)
    return PairOffer(ciphertext, backup, commit("pair-secret", channel, secret))


def offered_secret(own: HybridAgreement, own_id: str, offer: PairOffer, channel: Channel) -> bytes:
    """The KEM secret of an offer, 32 bytes, as either of its two sites (or whoever rebuilt that site's root) finds it.

    Raises:
        SealError: the backup does not open.
        ValueError: the secret misses its commitment. In both cases the channel's sender made a bad offer.
    """
    if own_id == channel.sender:
        try:
            key = _backup_key(own, channel, offer.kem_ciphertext)
            secret = AESGCM(key).decrypt(_NONCE, offer.backup, None)
        except InvalidTag as error:
            raise SealError from error
    else:
        secret = own.decapsulate(offer.kem_ciphertext)
    if not matches(commit("pair-secret", channel, secret), offer.commitment):
        raise ValueError("a pair's secret does not match its commitment; name the lower site")
    return secret


def pair_key(
    own: Agreement, own_id: str, peer: bytes, h2: bytes, channel: Channel, offer: PairOffer | None
) -> bytes:
    """The mask key of the channel's two sites; the channel leads from the lower to the higher identifier.

    Raises:
        SealError, ValueError: see `offered_secret`.
    """
    low, high = channel.sender, channel.recipient
    if not isinstance(own, HybridAgreement):
        return pair_mask_key(own, peer, channel.ctx, h2, low, high)
    if offer is None:  # never fall back to DH alone
        raise ValueError("a pair of the hybrid suite has no offer; name the lower site")
    keys = (own.public_bytes(), peer) if own_id == low else (peer, own.public_bytes())
    secret = offered_secret(own, own_id, offer, channel)
    return pair_mask_key(
        own, peer, channel.ctx, h2, low, high, offered=secret, bound=(*keys, offer.kem_ciphertext))


def _backup_key(own: HybridAgreement, channel: Channel, ciphertext: bytes) -> bytes:
    """Bound to the ciphertext, which is fresh each time: one key seals one secret."""
    return derive(own.private_bytes(), channel.ctx, transcript("kem-backup", *channel.items(), ciphertext))
