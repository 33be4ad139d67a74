"""A roster with the signatures of the consortium's officers, and when one may replace the pinned one.

*Guarantees.* `SignedRoster.open` returns a roster only if two different officers that it names signed exactly it. Where
it replaces a pinned one, two officers of the pinned roster signed it too, the federation is the same and the version is
higher: whoever controls one officer's key, or the coordinator's, cannot change who takes part.

*Assumes.* Officers sign what they have read, on their own machines. The first roster's hash reached each site out of
band.

*Does not cover.* Two officers who work together, and a site whose operator approves what should not be approved.
Versions may be skipped, so two different rosters of one version can both be signed; the hash tells them apart.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Self

from privacy.errors import MessageFormatError
from privacy.identity import Officer, Roster, SigningKey, verify
from privacy.signed import SIGNATURE_BYTES
from privacy.wire import Message, check_hash, check_size

__all__ = ["OFFICERS_NEEDED", "OfficerSignature", "RosterError", "SignedRoster"]

OFFICERS_NEEDED = 2
_LABEL = "roster"


class RosterError(ValueError):
    """A roster file that must not be used; the text is one sentence that says why and what to do."""


@dataclass(frozen=True)
class OfficerSignature(Message):
    """An officer's signature of a whole roster: the officer's 32-byte key and 64 bytes."""

    public_key: bytes
    signature: bytes

    def check(self) -> None:
        check_hash("an officer's public_key", self.public_key)
        check_size("an officer's signature", self.signature, SIGNATURE_BYTES)


@dataclass(frozen=True)
class SignedRoster(Message):
    """A roster file. It may hold any number of signatures while it goes round; `open` says when they are enough.

    Signatures are kept in ascending order of their keys, one a key.
    """

    roster: Roster
    signatures: tuple[OfficerSignature, ...] = ()

    def check(self) -> None:
        keys = [signature.public_key for signature in self.signatures]
        if len(set(keys)) < len(keys):
            raise ValueError("an officer signs a roster once; remove the second signature")
        object.__setattr__(self, "signatures", tuple(sorted(self.signatures, key=lambda one: one.public_key)))

    @classmethod
    def make(cls, roster: Roster, *keys: SigningKey) -> Self:
        """A roster signed by those keys. Raises RosterError for a key that is no officer's."""
        made = cls(roster)
        for key in keys:
            made = made.sign(key)
        return made

    def sign(self, key: SigningKey, pinned: Roster | None = None) -> Self:
        """With `key`'s signature added; the same when it has signed already.

        Args:
            pinned: the roster that this one replaces; its officers sign as well.

        Raises:
            RosterError: `key` belongs to no officer of either roster.
        """
        public = key.public_bytes()
        if public not in _officer_keys(self.roster) | (_officer_keys(pinned) if pinned else set()):
            raise RosterError("this key belongs to no officer of the roster; sign with an officer's key, and name the "
                              "roster that is replaced where its officers sign")
        if any(one.public_key == public for one in self.signatures):
            return self
        signature = OfficerSignature(public, key.sign(_LABEL, *self.roster.items()))
        return replace(self, signatures=(*self.signatures, signature))

    def signers(self, roster: Roster) -> tuple[str, ...]:
        """Names of `roster`'s officers whose signatures are here and good, ascending."""
        return self.signers_among(roster.officers)

    def signers_among(self, officers: tuple[Officer, ...]) -> tuple[str, ...]:
        """Names of those `officers` whose signatures are here and good, in their order."""
        good = self._good_keys()
        return tuple(officer.name for officer in officers if officer.public_key in good)

    def _good_keys(self) -> set[bytes]:
        items = self.roster.items()
        return {one.public_key for one in self.signatures if verify(one.public_key, one.signature, _LABEL, *items)}

    def require_signed(self, pinned: Roster | None = None) -> Roster:
        """The roster, if it may be pinned, in place of `pinned` where that is given.

        Raises:
            RosterError: a bad signature, too few officers, another federation, or no higher version.
        """
        if len(self._good_keys()) < len(self.signatures):
            raise RosterError("a signature on the roster is not good; get the file again from the consortium")
        if len(self.signers(self.roster)) < OFFICERS_NEEDED:
            raise RosterError(f"the roster is signed by {len(self.signers(self.roster))} of its own officers and "
                              f"{OFFICERS_NEEDED} are needed; ask the consortium for the signed file")
        if pinned is not None:
            self._require_successor(pinned)
        return self.roster

    def _require_successor(self, pinned: Roster) -> None:
        if self.roster.federation_id != pinned.federation_id:
            raise RosterError(f"the roster is of the federation {self.roster.federation_id} and the pinned one of "
                              f"{pinned.federation_id}; one never replaces the other")
        if self.roster.version <= pinned.version:
            raise RosterError(f"the roster has version {self.roster.version} and version {pinned.version} is pinned; a "
                              "roster never goes back, ask the consortium for a higher version")
        if len(self.signers(pinned)) < OFFICERS_NEEDED:
            raise RosterError(f"the roster is signed by {len(self.signers(pinned))} of the officers of the pinned "
                              f"version {pinned.version} and {OFFICERS_NEEDED} of them are needed; ask the consortium")

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """A roster file, its signatures not yet checked. Raises RosterError when it is none of this release."""
        try:
            return cls.from_bytes(data)
        except MessageFormatError:
            raise RosterError("the file is not a signed roster of this release; get the file again from the "
                              "consortium") from None

    @classmethod
    def open(cls, data: bytes, *, pinned: Roster | None = None) -> Roster:
        """The roster in a file, if its officers signed it.

        Args:
            data: a roster file's bytes.
            pinned: the roster that it is to replace; None for a first one, whose hash the caller compares.

        Raises:
            RosterError: see `parse` and `require_signed`.
        """
        return cls.parse(data).require_signed(pinned)


def _officer_keys(roster: Roster) -> set[bytes]:
    return {officer.public_key for officer in roster.officers}
