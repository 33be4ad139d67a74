"""A ledger's rows as anybody can check them: a chain of hashes, each signed by the site's key of that time.

*Guarantees.*
    * Row n's SHA-256 covers row n-1's, its own number, kind, text and signer; its Ed25519 signature (RFC 8032) covers
      that hash. `check_rows` finds an edited, removed, reordered or inserted row, and one signed by another key.
    * The first row's signer is the first key; a "rotate" row, signed by the old key and by the new one, hands over.

*Assumes.* SHA-256 and Ed25519. That the first key is the site's own is for the caller to compare.

*Does not cover.* Rows cut off the end of a copy: compare its head with one noted later. A holder of the site's key
can write another chain from the beginning: peers that keep heads see that (`holds`).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from privacy.identity import verify

__all__ = [
    "EXPORT_FORMAT", "GENESIS", "ROTATION_LABEL", "ROW_LABEL", "LedgerTamperedError", "Row", "check_export",
    "check_rows", "row_hash"]

GENESIS = bytes(32)
EXPORT_FORMAT = "ledger-export/2"
ROW_LABEL = "ledger-row"
ROTATION_LABEL = "ledger-rotation"


class LedgerTamperedError(Exception):
    """The ledger is not the one that was written; nothing is released until an operator restores it."""


@dataclass(frozen=True)
class Row:
    """One row: its number from 1, kind, JSON text, 32-byte hash, the signer's 32-byte public key, its signature."""

    seq: int
    kind: str
    body: str
    hash: bytes
    signer: bytes
    signature: bytes


@lru_cache(maxsize=65536)
def row_hash(previous: bytes, seq: int, kind: str, body: str, signer: bytes) -> bytes:
    """SHA-256 over the previous hash and a JSON array of the row: any auditor can redo it in a few lines."""
    row = json.dumps([seq, kind, body, signer.hex()], separators=(",", ":")).encode()
    return hashlib.sha256(b"ledger/2|" + previous + row).digest()


def check_rows(rows: Iterable[Row]) -> bytes:
    """The key that signs the next row (b"" for no rows), after every hash and signature was checked.

    Raises LedgerTamperedError naming the first row that does not hold.
    """
    previous, last, key = GENESIS, 0, b""
    for row in rows:
        key = key or row.signer
        expected = row_hash(previous, row.seq, row.kind, row.body, row.signer)
        if row.seq != last + 1 or row.hash != expected:
            raise LedgerTamperedError(f"ledger row {row.seq} was altered, or a row before it removed")
        if row.signer != key or not _is_signed(row.signer, row.hash, row.signature):
            raise LedgerTamperedError(f"ledger row {row.seq} is not signed by this site's key of that time")
        if row.kind == "rotate":
            key = _next_key(row, previous)
        previous, last = row.hash, row.seq
    return key


def _next_key(row: Row, previous: bytes) -> bytes:
    try:
        body = json.loads(row.body)
        key, proof = bytes.fromhex(body["public_key"]), bytes.fromhex(body["proof"])
    except (ValueError, KeyError, TypeError):
        raise LedgerTamperedError(f"ledger row {row.seq} names no key to rotate to") from None
    if not verify(key, proof, ROTATION_LABEL, previous):
        raise LedgerTamperedError(f"ledger row {row.seq} hands over to a key that did not agree")
    return key


@lru_cache(maxsize=65536)
def _is_signed(signer: bytes, digest: bytes, signature: bytes) -> bool:
    """Checked once a process for each (key, hash, signature), as `row_hash` is for each content that was read."""
    return verify(signer, signature, ROW_LABEL, digest)


def check_export(exported: dict[str, Any]) -> tuple[Row, ...]:
    """The rows of an exported ledger, checked without this site's files.

    Raises ValueError for something that is no export of this release, LedgerTamperedError when it does not hold.
    """
    if not isinstance(exported, dict) or exported.get("format") != EXPORT_FORMAT:
        raise ValueError(f'this is no ledger export of this release: its format is not "{EXPORT_FORMAT}"')
    try:
        rows = tuple(
            Row(int(row["seq"]), str(row["kind"]), str(row["body"]), bytes.fromhex(row["hash"]),
                bytes.fromhex(row["signer"]), bytes.fromhex(row["signature"]))
            for row in exported["rows"])
        keys = (bytes.fromhex(exported["first_key"]), bytes.fromhex(exported["current_key"]))
        sequence, head = int(exported["sequence"]), bytes.fromhex(exported["head"])
    except (ValueError, KeyError, TypeError):
        raise ValueError("this ledger export is damaged: ask the site to write it again") from None
    current = check_rows(rows)
    if (rows[-1].seq, rows[-1].hash) != (sequence, head) if rows else (sequence, head) != (0, GENESIS):
        raise LedgerTamperedError("the export's rows do not end at the head that it names")
    if keys != ((rows[0].signer if rows else b""), current):
        raise LedgerTamperedError("the export names other keys than those that signed its rows")
    return rows
