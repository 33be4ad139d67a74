"""A consortium's officers for tests: three keys, and a roster signed by the first two."""

from __future__ import annotations

import hashlib
from dataclasses import replace

from privacy.identity import Officer, Roster, SigningKey
from privacy.roster import SignedRoster

KEYS = {name: SigningKey.from_private_bytes(hashlib.sha256(name.encode()).digest()) for name in ("ann", "bob", "cleo")}
OFFICERS = tuple(Officer(name, key.public_bytes()) for name, key in KEYS.items())


def signed(roster: Roster, *names: str) -> SignedRoster:
    """`roster` with the three officers on it, signed by those named (default: ann and bob)."""
    return SignedRoster.make(replace(roster, officers=OFFICERS), *(KEYS[name] for name in names or ("ann", "bob")))
