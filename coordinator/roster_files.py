"""Roster files and officers' keys on disk, parties as a command line names them, and how a next roster is made."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Literal

from model.limited_read import read_limited
from privacy.durable import sync
from privacy.entropy import SystemEntropy
from privacy.identity import Officer, Roster, RosterSite, SigningKey
from privacy.roster import SignedRoster

__all__ = [
    "key_of", "new_signing_key", "officer_of", "read_roster", "read_signing_key", "site_of", "with_sites",
    "with_status", "write_draft"]


def with_sites(roster: Roster, sites: Iterable[RosterSite]) -> Roster:
    """The next version, with those hospitals as well; a federation of two becomes an ordinary one."""
    grown = replace(roster, two_sites=False, min_cohort=3) if roster.two_sites else roster
    for site in sites:
        grown = grown.with_site(site)
    return replace(grown, version=roster.version + 1)


def with_status(roster: Roster, site_id: str, status: Literal["active", "suspended"]) -> Roster:
    """The next version, in which that hospital has that status. Raises ValueError when it has it, or is not listed."""
    if site_id not in roster.site_ids:
        raise ValueError(f"{site_id} is not on the roster; give one of {', '.join(roster.site_ids)}")
    if roster.site(site_id).status == status:
        raise ValueError(f"{site_id} is {status} already; nothing was written")
    sites = tuple(replace(site, status=status) if site.site_id == site_id else site for site in roster.sites)
    return replace(roster, version=roster.version + 1, sites=sites)


def read_roster(path: Path) -> SignedRoster:
    """A roster file, its signatures not yet checked. Raises ValueError when it is none."""
    if not path.is_file():
        raise ValueError(f"roster file {path} does not exist; `coordinator roster new` drafts one")
    return SignedRoster.parse(read_limited(path, SignedRoster.LIMIT_BYTES))


def write_draft(path: Path, roster: Roster, *, as_json: bool = False) -> int:
    """Write an unsigned draft to a new file and print what it is; the command's exit code."""
    if path.exists():
        raise ValueError(f"{path} exists; a roster file is never replaced by a draft, choose another name")
    path.write_bytes(SignedRoster(roster).to_bytes())
    version, found = roster.version, roster.hash().hex()
    print(json.dumps({"file": str(path), "version": version, "hash": found, "signatures": 0}) if as_json
          else f"version {version}, hash {found}: a draft, for its officers to sign")
    return 0


def new_signing_key(path: Path) -> SigningKey:
    """A new key, in a new file (0600). Raises ValueError when the file exists."""
    key = SigningKey.generate(SystemEntropy().random_bytes)
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    except FileExistsError:
        raise ValueError(f"{path} exists; a key is never replaced, choose another name") from None
    with os.fdopen(descriptor, "wb") as file:
        file.write(key.private_bytes())
        file.flush()
        os.fsync(file.fileno())
    sync(path.parent)
    return key


def read_signing_key(path: Path) -> SigningKey:
    """The key in a file. Raises ValueError when others can read the file, or it is no key."""
    if path.stat().st_mode & 0o077:
        raise ValueError(f"key file {path} is readable by others; run: chmod 600 {path}")
    secret = path.read_bytes()
    if len(secret) != 32:
        raise ValueError(f"key file {path} has {len(secret)} bytes instead of 32; restore it from backup")
    return SigningKey.from_private_bytes(secret)


def key_of(text: str) -> bytes:
    """A public key of 64 hexadecimal digits, 32 bytes. Raises ValueError."""
    try:
        key = bytes.fromhex(text)
    except ValueError:
        key = b""
    if len(key) != 32:
        raise ValueError(f"{text[:70]!r} is not a public key; give 64 hexadecimal digits")
    return key


def site_of(text: str) -> RosterSite:
    """A hospital of ID:HEX:PATIENTS. Raises ValueError."""
    parts = text.split(":")
    if len(parts) != 3 or not (parts[2].isascii() and parts[2].isdigit()):
        raise ValueError(f"{text!r} is not a site; give ID:HEX:PATIENTS with the 64 digits of its public key")
    return RosterSite(parts[0], key_of(parts[1]), int(parts[2]))


def officer_of(text: str) -> Officer:
    """An officer of NAME:HEX. Raises ValueError."""
    name, colon, key = text.partition(":")
    if not colon:
        raise ValueError(f"{text!r} is not an officer; give NAME:HEX with the 64 digits of the public key")
    return Officer(name, key_of(key))
