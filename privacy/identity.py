"""Who the parties are: signing keys and the roster that every site pins.

*Guarantees.* A signature is over `transcript(label, ...)`, so it is never valid for another kind of
statement. A `Roster` has one hash, whatever order its sites, officers and suites were given in; thresholds are
computed from it, never received.

*Assumes.* The roster reaches each site out of band and is pinned there by its hash; Ed25519 (RFC 8032) is
unforgeable; each private key stays with its owner.

*Does not cover.* How a roster is agreed on (`privacy.roster` has the officers' signatures). A roster whose keys the
coordinator controls protects nobody. Python cannot promise that a private key is wiped from memory. The nodes'
transport keys are a separate matter.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import Literal

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from nacl.exceptions import CryptoError
from nacl.signing import VerifyKey

from privacy.encoding import Item, enc, transcript
from privacy.wire import Message, check_hash, check_id, check_range

__all__ = [
    "MAX_DIMENSION", "MIN_COHORT", "SUITES", "Officer", "Roster", "RosterSite", "SigningKey", "verify",
    "verify_encoded"]

MIN_COHORT = 3  # below three sites a sum is a difference of two inputs, one of them one's own
MAX_DIMENSION = 1 << 28
SUITES = ("x25519", "x25519-mlkem768")


class SigningKey:
    """An Ed25519 private key. Its `repr` shows the public half only."""

    def __init__(self, private: Ed25519PrivateKey) -> None:
        self._private = private

    @classmethod
    def generate(cls, random_bytes: Callable[[int], bytes]) -> SigningKey:
        """A new key from 32 bytes of `random_bytes`, e.g. `entropy.random_bytes`."""
        return cls.from_private_bytes(random_bytes(32))

    @classmethod
    def from_private_bytes(cls, private: bytes) -> SigningKey:
        """The key of a 32-byte seed. Raises ValueError for another length."""
        check_hash("a private signing key", private)
        return cls(Ed25519PrivateKey.from_private_bytes(private))

    def private_bytes(self) -> bytes:
        """The 32-byte seed; the caller keeps it secret."""
        return self._private.private_bytes_raw()

    def public_bytes(self) -> bytes:
        """The 32-byte public key that goes on the roster."""
        return self._private.public_key().public_bytes_raw()

    def sign(self, label: str, *items: Item) -> bytes:
        """A 64-byte signature of one labelled statement."""
        return self.sign_encoded(label, enc(*items))

    def sign_encoded(self, label: str, encoded: bytes) -> bytes:
        """As `sign`, of items that are already encoded: `encoded` = enc(*items)."""
        return self._private.sign(_opening(label) + encoded)

    def __repr__(self) -> str:
        return f"SigningKey(public={self.public_bytes().hex()})"


def verify(public: bytes, signature: bytes, label: str, *items: Item) -> bool:
    """Whether `signature` is `public`'s (32 bytes) over that statement; malformed input is just False."""
    try:
        encoded = enc(*items)
    except ValueError:
        return False
    return verify_encoded(public, signature, label, encoded)


def verify_encoded(public: bytes, signature: bytes, label: str, encoded: bytes) -> bool:
    """As `verify`, of items that are already encoded: `encoded` = enc(*items)."""
    try:
        _public_key(public).verify(_opening(label) + encoded, signature)
    except (CryptoError, ValueError):
        return False
    return True


@lru_cache(maxsize=64)
def _opening(label: str) -> bytes:
    """How every signed statement of one kind begins."""
    return transcript(f"sign/{label}")


@lru_cache(maxsize=1024)
def _public_key(public: bytes) -> VerifyKey:
    """libsodium's verifier: 2.6 times as fast as OpenSSL's, and it refuses keys and points of low order as well.

    Raises ValueError for another length.
    """
    return VerifyKey(public)


@dataclass(frozen=True)
class RosterSite(Message):
    """One hospital: its identifier, 32-byte Ed25519 public key, and declared patient count (a constant).

    A `suspended` site stays listed and takes part in nothing.
    """

    site_id: str
    public_key: bytes
    declared_patients: int
    status: Literal["active", "suspended"] = "active"

    def check(self) -> None:
        check_id("a roster's site_id", self.site_id)
        check_hash("a roster's public_key", self.public_key)
        check_range("declared_patients", self.declared_patients, 1, 10**9)


@dataclass(frozen=True)
class Officer(Message):
    """Somebody who signs rosters for the consortium: a name for people, and a 32-byte Ed25519 public key."""

    name: str
    public_key: bytes

    def check(self) -> None:
        check_id("an officer's name", self.name)
        check_hash("an officer's public_key", self.public_key)


@dataclass(frozen=True)
class Roster(Message):
    """The consortium as every site pins it. Sites and officers are kept in ascending order of their names.

    Args:
        federation_id: name of the consortium.
        version: counts up with every change.
        coordinator_key: 32-byte Ed25519 public key.
        sites: the hospitals; identifiers and keys are unique.
        min_cohort: the smallest cohort a round may end with, at least 3 (2 where `two_sites` is set).
        min_fraction: the smallest fraction of the active sites a round may end with, 0 to 1.
        officers: who may sign rosters; their keys belong to no other party.
        suites: key agreements that a run may use, from `SUITES`.
        max_dimension: the most coordinates that a plan may ask for.
        two_sites: a federation of exactly two active sites with min_cohort 2. Each sees the other's update, noise
            included, as the sum less its own: such a sum hides from the coordinator only.
    """

    federation_id: str
    version: int
    coordinator_key: bytes
    sites: tuple[RosterSite, ...]
    min_cohort: int
    min_fraction: float
    officers: tuple[Officer, ...] = ()
    suites: tuple[str, ...] = ("x25519",)
    max_dimension: int = MAX_DIMENSION
    two_sites: bool = False

    def check(self) -> None:
        check_id("federation_id", self.federation_id)
        check_hash("coordinator_key", self.coordinator_key)
        check_range("roster version", self.version, 0, 2**31)
        check_range("min_cohort", self.min_cohort, 2 if self.two_sites else MIN_COHORT, 10**4)
        check_range("min_fraction", self.min_fraction, 0.0, 1.0)
        check_range("max_dimension", self.max_dimension, 1, MAX_DIMENSION)
        if not self.suites or len(set(self.suites)) < len(self.suites) or not set(self.suites) <= set(SUITES):
            raise ValueError(f"suites must name at least one of {', '.join(SUITES)}, each once")
        self._check_parties()
        object.__setattr__(self, "sites", tuple(sorted(self.sites, key=lambda site: site.site_id)))
        object.__setattr__(self, "officers", tuple(sorted(self.officers, key=lambda officer: officer.name)))
        object.__setattr__(self, "suites", tuple(sorted(self.suites)))

    def _check_parties(self) -> None:
        ids = [site.site_id for site in self.sites]
        keys = [site.public_key for site in self.sites]
        if len(set(ids)) < len(ids) or len({*keys, self.coordinator_key}) < len(keys) + 1:
            raise ValueError("a roster lists a site or key twice; each party needs its own identifier and key")
        names = {officer.name for officer in self.officers}
        everybody = {*keys, self.coordinator_key, *(officer.public_key for officer in self.officers)}
        if len(names) < len(self.officers) or len(everybody) < len(keys) + 1 + len(self.officers):
            raise ValueError("an officer's name or key is taken; each officer needs a key that no site, coordinator or "
                             "other officer has")
        if self.two_sites and (len(self.active_ids), self.min_cohort) != (2, 2):
            raise ValueError("two_sites is for exactly two active sites and min_cohort 2; leave it out for any other")

    @property
    def site_ids(self) -> tuple[str, ...]:
        """All identifiers, ascending, suspended sites included."""
        return tuple(site.site_id for site in self.sites)

    @property
    def active_ids(self) -> tuple[str, ...]:
        """The sites that may take part, ascending. Rings are sized for `site_ids`, which is never fewer."""
        return tuple(site.site_id for site in self.sites if site.status == "active")

    def site(self, site_id: str) -> RosterSite:
        """That hospital's entry. Raises KeyError when it is not on the roster."""
        return self._by_id[site_id]

    @cached_property
    def _by_id(self) -> dict[str, RosterSite]:
        return {site.site_id: site for site in self.sites}

    def with_site(self, site: RosterSite) -> Roster:
        """A new version of the roster with one more hospital."""
        return replace(self, version=self.version + 1, sites=(*self.sites, site))

    def threshold(self, n: int) -> int:
        """t = floor(2n/3) + 1 of n dealers; 2t > n, so no two survivor lists can both be unmasked.

        Source: Bonawitz et al. 2017, section 6.2 (active adversary).
        """
        return 2 * n // 3 + 1

    def floor(self, n1: int) -> int:
        """The smallest cohort once `n1` sites announced keys: max(min_cohort, t(n1), ceil(fraction * N)).

        N is the number of active sites. Where the fraction is a half or more, a cohort is more than half of them: two
        cohorts of one round then share a site, and a site gives its update once.
        """
        active = len(self.active_ids)
        majority = active // 2 + 1 if self.min_fraction >= 0.5 else 0
        return max(self.min_cohort, self.threshold(n1), math.ceil(self.min_fraction * active), majority)
