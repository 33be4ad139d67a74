"""What passes between sites before a run's first round: who is there, and how far each one's ledger was seen to be.

*Guarantees.* A `LedgerMark` is signed by the site whose ledger it describes, so nobody can make up one that
contradicts an honest site. A `Witness` is bound to the hash of a `HelloList` that holds the subject's fresh nonce, so
an older one, from before a peer saw more, does not pass for it.

*Assumes.* Receivers check signatures; peers keep the highest mark that they have seen of each site.

*Does not cover.* Peers that keep silent about what they saw, and a peer that was itself restored: the number of
witnesses that a site asks for is against both.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Self

from privacy.identity import Roster, SigningKey
from privacy.signed import SignedMessage
from privacy.wire import Message, check_hash, check_id, check_range

__all__ = ["Hello", "HelloList", "LedgerMark", "Ready", "RosterInForce", "Witness", "WitnessList"]

MAX_SEQUENCE = 2**31


@dataclass(frozen=True)
class LedgerMark(SignedMessage):
    """How far a site's ledger is. Bound to (federation_id,), so a copy proves what the site once stated.

    Args:
        site_id: whose ledger.
        sequence: number of its rows, 0 for an empty ledger.
        head: the 32-byte hash of the last of them, which covers all before it.
    """

    LABEL: ClassVar[str] = "ledger"
    site_id: str
    sequence: int
    head: bytes
    signature: bytes

    def check(self) -> None:
        super().check()
        check_id("site_id", self.site_id)
        check_range("a ledger's sequence", self.sequence, 0, MAX_SEQUENCE)
        check_hash("a ledger's head", self.head)

    @classmethod
    def make(cls, site_id: str, sequence: int, head: bytes, federation_id: str, key: SigningKey) -> Self:
        """Sign as `site_id`."""
        return cls.signed(key, (federation_id,), site_id=site_id, sequence=sequence, head=head)

    @classmethod
    def empty(cls, site_id: str, federation_id: str, key: SigningKey) -> Self:
        """The mark of a ledger without rows."""
        return cls.make(site_id, 0, bytes(32), federation_id, key)

    def is_signed_for(self, roster: Roster) -> bool:
        """Whether the named site is on the roster and signed this mark."""
        try:
            key = roster.site(self.site_id).public_key
        except KeyError:
            return False
        return self.is_signed_by(key, (roster.federation_id,))


@dataclass(frozen=True)
class RosterInForce(Message):
    """A site's answer to the roster that the coordinator offers: the 32-byte hash of the one in force there."""

    roster_hash: bytes

    def check(self) -> None:
        check_hash("roster_hash", self.roster_hash)


@dataclass(frozen=True)
class Hello(SignedMessage):
    """A site accepts a manifest, and shows that it holds its roster key. Bound to (manifest_hash,).

    Args:
        site_id: of the sender.
        mark: how far its ledger is.
        nonce: 32 fresh bytes; what answers this hello cannot have been made before it.
    """

    LABEL: ClassVar[str] = "hello"
    site_id: str
    mark: LedgerMark
    nonce: bytes
    signature: bytes

    def check(self) -> None:
        super().check()
        check_id("site_id", self.site_id)
        check_hash("nonce", self.nonce)
        if self.mark.site_id != self.site_id:
            raise ValueError("the mark of the ledger must be the sender's own")

    @classmethod
    def make(cls, mark: LedgerMark, nonce: bytes, manifest_hash: bytes, key: SigningKey) -> Self:
        """Sign as the site that `mark` names."""
        return cls.signed(key, (manifest_hash,), site_id=mark.site_id, mark=mark, nonce=nonce)

    def proves(self, roster: Roster, manifest_hash: bytes) -> bool:
        """Whether the named site is active on the roster, and signed for this manifest and its ledger's mark."""
        if self.site_id not in roster.active_ids or not self.mark.is_signed_for(roster):
            return False
        return self.is_signed_by(roster.site(self.site_id).public_key, (manifest_hash,))


@dataclass(frozen=True)
class HelloList(Message):
    """Coordinator to site, step `witness`: the sites that accepted the manifest."""

    manifest_hash: bytes
    entries: tuple[Hello, ...]

    def check(self) -> None:
        check_hash("manifest_hash", self.manifest_hash)


@dataclass(frozen=True)
class Witness(SignedMessage):
    """What one site has seen of another's ledger. Bound to (manifest_hash, hash of the HelloList).

    Args:
        site_id: of the witness.
        subject: the site whose ledger it is.
        marks: the highest mark seen before that list; empty when the witness has seen none.
    """

    LABEL: ClassVar[str] = "witness"
    site_id: str
    subject: str
    marks: tuple[LedgerMark, ...]
    signature: bytes

    def check(self) -> None:
        super().check()
        check_id("site_id", self.site_id)
        check_id("subject", self.subject)
        if self.site_id == self.subject:
            raise ValueError("a site is no witness of its own ledger")
        if len(self.marks) > 1 or any(mark.site_id != self.subject for mark in self.marks):
            raise ValueError("a witness states at most one mark, and of its subject's ledger")


@dataclass(frozen=True)
class WitnessList(Message):
    """Site to coordinator: its statements on all others. Coordinator to site, step `restore`: all others' on it."""

    manifest_hash: bytes
    entries: tuple[Witness, ...]

    def check(self) -> None:
        check_hash("manifest_hash", self.manifest_hash)


@dataclass(frozen=True)
class Ready(SignedMessage):
    """Enough peers confirmed this site's ledger. Bound to (manifest_hash, hash of the HelloList)."""

    LABEL: ClassVar[str] = "ready"
    site_id: str
    signature: bytes

    def check(self) -> None:
        super().check()
        check_id("site_id", self.site_id)
