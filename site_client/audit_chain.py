"""The audit log's events as anybody can check them: a chain of hashes with signed heads, and its export.

Event n's SHA-256 covers event n-1's, its own number, time, kind and text, so an edited, removed, reordered or inserted
event is found. A head signs one event's hash with the site's identity key (Ed25519) and so everything before it. Events
after the newest head are only chained: whoever can write the file could replace those.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from privacy.identity import SigningKey, verify

__all__ = [
    "EXPORT_FORMAT", "GENESIS", "AuditBrokenError", "Event", "Head", "check_events", "check_heads", "event_hash",
    "export_lines", "read_export"]

GENESIS = bytes(32)
EXPORT_FORMAT = "audit-export/1"
_HEAD_LABEL = "audit-head"


class AuditBrokenError(Exception):
    """The log is not the one that was written; `str()` is one sentence."""


@dataclass(frozen=True)
class Event:
    """One row: number from 1 on, UTC time, kind, its fields as JSON text, and its hash (32 bytes)."""

    seq: int
    utc: str
    kind: str
    body: str
    hash: bytes

    @property
    def fields(self) -> dict[str, Any]:
        """The fields; only of an event whose hash was checked."""
        return dict(json.loads(self.body))


@dataclass(frozen=True)
class Head:
    """The site's signature of everything up to event `sequence`, whose hash is `hash`; 0 and zeros before the first."""

    sequence: int
    hash: bytes
    signer: bytes
    signature: bytes

    @classmethod
    def make(cls, sequence: int, digest: bytes, key: SigningKey) -> Head:
        """Sign with the site's identity key."""
        return cls(sequence, digest, key.public_bytes(), key.sign(_HEAD_LABEL, sequence, digest))

    def is_signed_by(self, public: bytes) -> bool:
        """Whether `public` (32 bytes) signed exactly this."""
        return self.signer == public and verify(public, self.signature, _HEAD_LABEL, self.sequence, self.hash)

    def values(self) -> dict[str, Any]:
        """As JSON values."""
        return {"sequence": self.sequence, "hash": self.hash.hex(), "signer": self.signer.hex(),
                "signature": self.signature.hex()}

    @classmethod
    def of(cls, values: Any) -> Head:
        """The inverse of `values`. Raises ValueError, KeyError or TypeError for anything else."""
        return cls(int(values["sequence"]), *(bytes.fromhex(values[name]) for name in ("hash", "signer", "signature")))


def event_hash(previous: bytes, seq: int, utc: str, kind: str, body: str) -> bytes:
    """SHA-256 of "audit/1|", the hash before and the event's values as compact JSON."""
    return hashlib.sha256(
        b"audit/1|" + previous + json.dumps([seq, utc, kind, body], separators=(",", ":")).encode()).digest()


def check_events(events: Iterable[Event], after: int = 0, previous: bytes = GENESIS) -> None:
    """Check numbers and hashes of the events that follow on number `after`, whose hash is `previous`.

    Raises:
        AuditBrokenError: naming the first event that does not hold.
    """
    for event in events:
        after += 1
        if event.seq != after or event.hash != event_hash(previous, event.seq, event.utc, event.kind, event.body):
            raise AuditBrokenError(f"event {event.seq} of the audit log was altered, or one before it removed")
        previous = event.hash


def check_heads(heads: Sequence[Head], events: Sequence[Event], public: bytes) -> None:
    """Check that `public` signed each head, and that each is of these events.

    Raises:
        AuditBrokenError: naming the first head that does not hold.
    """
    known = {event.seq: event.hash for event in events}
    for head in heads:
        if not head.is_signed_by(public):
            raise AuditBrokenError(f"the audit log's head at event {head.sequence} is not signed by this site's "
                                   "identity key")
        if known.get(head.sequence, GENESIS if head.sequence == 0 else b"") != head.hash:
            raise AuditBrokenError(f"the audit log does not hold event {head.sequence} as it was signed: events were "
                                   "removed or replaced")


def export_lines(events: Sequence[Event], head: Head, site_id: str, since: int = 0) -> list[str]:
    """JSON lines: a first one with the site and its public key, the events after number `since`, and the head."""
    since = min(max(since, 0), len(events))
    first = {"format": EXPORT_FORMAT, "site_id": site_id, "public_key": head.signer.hex(), "after": since,
             "previous": (events[since - 1].hash if since else GENESIS).hex()}
    rows = [{"seq": event.seq, "utc": event.utc, "kind": event.kind, "body": event.body, "hash": event.hash.hex()}
            for event in events[since:]]
    return [json.dumps(line) for line in (first, *rows, head.values())]


def read_export(text: str) -> tuple[dict[str, Any], tuple[Event, ...], Head]:
    """The first line's values, the events and the head of an export, checked with nothing but what is in it.

    Raises:
        ValueError: not an export of this release.
        AuditBrokenError: it does not hold.
    """
    try:
        first, *rows, last = [json.loads(line) for line in text.splitlines()]
        if first["format"] != EXPORT_FORMAT:
            raise ValueError("another format")
        events = tuple(Event(int(row["seq"]), str(row["utc"]), str(row["kind"]), str(row["body"]),
                             bytes.fromhex(row["hash"])) for row in rows)
        after, previous = int(first["after"]), bytes.fromhex(first["previous"])
        public, head = bytes.fromhex(first["public_key"]), Head.of(last)
    except (ValueError, KeyError, TypeError):
        raise ValueError(f'this is no audit export of this release ("{EXPORT_FORMAT}"), or a part of it is missing: '
                         "ask the site to write it again") from None
    check_events(events, after, previous)
    end = (events[-1].seq, events[-1].hash) if events else (after, previous)
    if (head.sequence, head.hash) != end:
        raise AuditBrokenError("the export's events do not end at the head that it names: some were removed")
    if not head.is_signed_by(public):
        raise AuditBrokenError("the export's head is not signed by the key that it names")
    return dict(first), events, head
