"""Repeatable randomness for simulations only: a seeded stream is marked simulated and never called private."""

from __future__ import annotations

import hashlib

from privacy.entropy import Entropy

__all__ = ["SeededEntropy", "derived_secret"]


def derived_secret(seed: int, *labels: str) -> bytes:
    """32 bytes that depend on `seed` and `labels` only."""
    text = "\x1f".join((str(seed), *labels)).encode()
    return hashlib.sha256(b"simulation only\x1f" + text).digest()


class SeededEntropy(Entropy):
    """A stream that repeats for the same seed and labels. The ledger records it as simulated."""

    def __init__(self, seed: int, *labels: str) -> None:
        super().__init__(derived_secret(seed, "entropy", *labels), simulated=True)
