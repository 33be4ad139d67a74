"""Ephemeral keys, everything derived from them, and the hashes that chain a round together.

*Guarantees.* Every derived key is bound to the attempt (ctx), to the cohort as this party saw it (h1 or h2),
to both parties and to its purpose; two parties that saw different plans or lists derive different keys. An
envelope opens only for its recipient and only in its round. Commitments are compared in constant time.

*Assumes.* X25519 (RFC 7748), HKDF-SHA256 (RFC 5869), AES-256-GCM; SHA-256 commitments hide their 256-bit
uniform content in the random-oracle model. Ephemeral keys are fresh for each attempt, so a channel key seals
one envelope and the zero nonce is used once.

*Does not cover.* Post-quantum secrecy: X25519 falls to a quantum computer that recorded the traffic. The hybrid
suite (`privacy.secagg.hybrid`) covers that.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar, Protocol, TypeAlias

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from privacy.encoding import Item, digest, enc, transcript

__all__ = [
    "Agreement",
    "Channel",
    "RandomSource",
    "SealError",
    "announced_hash",
    "commit",
    "dealer_hash",
    "derive",
    "is_weak",
    "matches",
    "open_sealed",
    "pair_mask_key",
    "seal",
    "self_mask_key",
    "survivor_hash",
]

_NONCE = bytes(12)
Items: TypeAlias = "tuple[Item, ...]"


class RandomSource(Protocol):
    """Where secrets come from; `privacy.entropy.SystemEntropy` in production."""

    def random_bytes(self, n: int) -> bytes:
        """`n` uniform, unpredictable bytes."""


class SealError(Exception):
    """An envelope's ciphertext does not open."""


class Agreement:
    """An ephemeral X25519 key pair. Its `repr` shows nothing secret.

    `offer` and `accept` are how a channel's secret is agreed on; the hybrid suite adds a KEM to both.
    """

    OFFER_BYTES: ClassVar[int] = 0

    def __init__(self, private: bytes) -> None:
        self._private = X25519PrivateKey.from_private_bytes(private)
        self._shared: dict[bytes, bytes] = {}  # a channel's two directions share one exchange

    @classmethod
    def fresh(cls, entropy: RandomSource) -> Agreement:
        """A new pair from 32 random bytes."""
        return cls(entropy.random_bytes(32))

    def public_bytes(self) -> bytes:
        """The 32-byte public key."""
        return self._private.public_key().public_bytes_raw()

    def private_bytes(self) -> bytes:
        """The 32-byte private key, to be shared among the cohort; never sent whole."""
        return self._private.private_bytes_raw()

    def exchange(self, peer: bytes) -> bytes:
        """The 32-byte shared secret. Raises ValueError for a peer key of low order."""
        if peer not in self._shared:
            self._shared[peer] = self._private.exchange(X25519PublicKey.from_public_bytes(peer))
        return self._shared[peer]

    def offer(self, peer: bytes) -> tuple[bytes, bytes]:
        """The sender's side: secret, and the `OFFER_BYTES` that the recipient needs for it."""
        return self.exchange(peer), b""

    def accept(self, peer: bytes, offered: bytes) -> bytes:
        """The recipient's side: the secret that goes with the sender's `offered` bytes."""
        return self.exchange(peer)

    def __repr__(self) -> str:
        return "Agreement(...)"


def is_weak(public: bytes) -> bool:
    """Whether a public key has low order, so that every exchange with it gives zero (RFC 7748, section
    6.1)."""
    if len(public) != 32:
        return True
    return int.from_bytes(public, "little") % 2**255 in _LOW_ORDER  # X25519 ignores the top bit


_P = 2**255 - 19
# The points of order 1, 2, 4 and 8 of curve and twist, and the two of them that have a second form below 2^255.
# Source: Bernstein, "Curve25519: new Diffie-Hellman speed records", https://cr.yp.to/ecdh.html#validate.
_LOW_ORDER = frozenset((
    *(0, 1, _P - 1, _P, _P + 1),
    325606250916557431795983626356110631294008115727848805560023387167927233504,
    39382357235489614581723060781553021112529911719440698176882885853963445705823,
))


def announced_hash(ctx: bytes, adverts: Iterable[tuple[Item, ...]]) -> bytes:
    """h1 = H(U1): every key announcement with its signature, in ascending order of site."""
    return digest("U1", ctx, tuple(adverts))


def dealer_hash(h1: bytes, dealers: Iterable[str]) -> bytes:
    """h2 = H(U2): who dealt shares, chained to h1."""
    return digest("U2", h1, tuple(sorted(dealers)))


def survivor_hash(h2: bytes, uploads: Mapping[str, tuple[bytes, bytes]]) -> bytes:
    """h3 = H(U3): each survivor with its upload's hash and signature, chained to h2."""
    return digest("U3", h2, tuple((site, *uploads[site]) for site in sorted(uploads)))


def derive(secret: bytes, salt: bytes, info: bytes, length: int = 32) -> bytes:
    """HKDF-SHA256 (RFC 5869): `length` bytes; `info` is a `transcript`, so no two purposes share a key."""
    return HKDF(algorithm=SHA256(), length=length, salt=salt, info=info).derive(secret)


@dataclass(frozen=True)
class Channel:
    """One direction between two sites in one round; what its key and its ciphertext are bound to."""

    ctx: bytes
    h1: bytes
    sender: str
    recipient: str

    def items(self) -> tuple[Item, ...]:
        """As encodable items."""
        return (self.ctx, self.h1, self.sender, self.recipient)


def seal(own: Agreement, peer: bytes, channel: Channel, plaintext: bytes) -> bytes:
    """AES-256-GCM under HKDF(secret, ctx, h1, sender -> recipient); what was offered + plaintext + 16 bytes."""
    secret, offered = own.offer(peer)
    key = _channel_key(secret, channel, own.public_bytes(), peer, offered)
    return offered + AESGCM(key).encrypt(_NONCE, plaintext, transcript("envelope-aad", *channel.items()))


def open_sealed(own: Agreement, peer: bytes, channel: Channel, ciphertext: bytes) -> bytes:
    """The inverse of `seal`. Raises SealError when it does not authenticate."""
    offered, sealed = ciphertext[: own.OFFER_BYTES], ciphertext[own.OFFER_BYTES :]
    key = _channel_key(own.accept(peer, offered), channel, peer, own.public_bytes(), offered)
    try:
        return AESGCM(key).decrypt(_NONCE, sealed, transcript("envelope-aad", *channel.items()))
    except InvalidTag as error:
        raise SealError from error


def _channel_key(secret: bytes, channel: Channel, sender: bytes, recipient: bytes, offered: bytes) -> bytes:
    """Bound to both public keys and the offer where there is one; DH alone has both keys in h1."""
    bound = (sender, recipient, offered) if offered else ()
    return derive(secret, channel.ctx, transcript("channel-key", *channel.items(), *bound))


def pair_mask_key(
    own: Agreement, peer: bytes, ctx: bytes, h2: bytes, a: str, b: str, *, offered: bytes = b"", bound: Items = ()
) -> bytes:
    """The mask key of two sites, the same on both sides: HKDF(DH(s, s') || offered, ctx, h2, lower id, higher id).

    Args:
        offered: in the hybrid suite the pair's 32-byte KEM secret, behind the DH secret.
        bound: what else the key is bound to; the KEM's part is (`privacy.secagg.hybrid.pair_key`).
    """
    low, high = min(a, b), max(a, b)
    return derive(own.exchange(peer) + offered, ctx, transcript("pair-mask-key", ctx, h2, low, high, *bound))


def self_mask_key(seed: bytes, ctx: bytes, h2: bytes, site_id: str) -> bytes:
    """The key of a site's own mask, from its 32-byte seed b."""
    return derive(seed, ctx, transcript("self-mask-key", ctx, h2, site_id))


def commit(kind: str, channel: Channel, secret: bytes) -> bytes:
    """A 32-byte commitment to a share (per recipient), or to b (with the dealer as its own recipient)."""
    state = _begun_commitment(kind, channel.ctx, channel.h1).copy()
    state.update(enc(channel.sender, channel.recipient, secret))
    return state.digest()


@lru_cache(maxsize=16)
def _begun_commitment(kind: str, ctx: bytes, h1: bytes) -> hashlib._Hash:
    """SHA-256 of what all commitments of one kind in one round begin with: enc() puts items one after the other."""
    return hashlib.sha256(transcript("commit", kind, ctx, h1))


def matches(commitment: bytes, other: bytes) -> bool:
    """Whether two commitments are equal, in constant time."""
    return hmac.compare_digest(commitment, other)
