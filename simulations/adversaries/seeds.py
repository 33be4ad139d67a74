"""Searching the seed of a pair mask: Flower's own masks on a reduced copy, and the same search against ours.

Source: `flwr.common.secure_aggregation` as installed folds a 32-byte seed, which is base64 text, by exclusive or into
four bytes for numpy's MT19937. Every byte of the text has bit 7 clear, so 28 bits are left. Ours are AES-256 keys.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from time import process_time

import numpy as np
import numpy.typing as npt

from privacy.secagg.keys import Agreement, pair_mask_key
from privacy.secagg.masking import apply_masks
from simulations.adversaries.attack import Attack, Outcome
from simulations.adversaries.breaker import Findings
from simulations.adversaries.consortium import Consortium

__all__ = ["SEED_ATTACKS", "SeedSearch"]

BITS, GUESSED_BITS, DIMENSION = 24, 13, 64
FOLDED_BITS = 28
_YEAR_S = 365.25 * 86400
Words = npt.NDArray[np.int64]
Guess = Callable[[int, int], Words]  # guess, number of words -> the mask


class SeedSearch(Attack):
    """One pair mask between the attacker and the vector; one coordinate of the vector is public, as a weight is."""

    name = "seed-search"
    title = "Every seed of the last unknown pair mask is tried against one known coordinate."
    gain = "one site's whole vector, from its upload alone, without a lie and without a trace"
    defence = "masks are AES-256 keystreams under keys of 256 bits"
    weakness = f"masks as Flower makes them, {FOLDED_BITS} bits of seed, of which all but {GUESSED_BITS} are given"

    def play(self, *, defended: bool) -> Outcome:
        """The same number of guesses against ours or against Flower's."""
        source = Consortium().entropy("search")
        clear = (source.uniform64(DIMENSION) % np.uint64(1 << BITS)).astype(np.int64)
        mask, guess = _ours() if defended else _flowers()
        upload = (clear + mask) % (1 << BITS)
        started = process_time()
        found, tried = _search(upload, int(clear[0]), guess)
        seconds = max(process_time() - started, 1e-6)
        leaks = () if found is None or not np.array_equal(found, clear) else (
            f"all {DIMENSION} coordinates of the victim's vector",)
        rate = tried / seconds
        full = FOLDED_BITS if not defended else 256
        notes = (
            "reduced: every other mask is off already (two sites, or peers that collude or dropped out), one "
            f"coordinate is public, and there are at most {1 << GUESSED_BITS} guesses; {tried} took {seconds:.2f} s",
            f"extrapolated to all {full} bits, on this core in this Python: {_duration((1 << full) / rate)}",
            *(_control(clear) if defended else ()))
        return Outcome(findings=Findings((), leaks, leaks), notes=notes)


def _search(upload: Words, known: int, guess: Guess) -> tuple[Words | None, int]:
    """Try every guess against coordinate 0; the whole vector under the first that fits, and how many were tried."""
    wanted = (int(upload[0]) - known) % (1 << BITS)
    for number in range(1 << GUESSED_BITS):
        if int(guess(number, 1)[0]) == wanted:
            clear: Words = (upload - guess(number, upload.size)) % (1 << BITS)
            return clear, number + 1
    return None, 1 << GUESSED_BITS


def _flowers() -> tuple[Words, Guess]:
    """A mask from Flower's own key agreement and generator, and guesses at the low bits of its folded seed."""
    from cryptography.hazmat.primitives.asymmetric import ec
    from flwr.common.secure_aggregation.crypto.symmetric_encryption import generate_shared_key
    from flwr.common.secure_aggregation.secaggplus_utils import pseudo_rand_gen

    one, other = (ec.derive_private_key(_number(name), ec.SECP384R1()) for name in ("one", "other"))
    seed = generate_shared_key(one, other.public_key())
    folded = 0
    for start in range(0, len(seed), 4):
        folded ^= int.from_bytes(seed[start: start + 4], "little")
    if folded & 0x80808080:
        raise RuntimeError("the installed Flower folds its seeds differently; look at this attack again")
    low = (1 << GUESSED_BITS) - 1
    given = _packed_bits(folded) & ~low

    def mask(seed32: int, words: int) -> Words:
        return np.asarray(pseudo_rand_gen(seed32.to_bytes(4, "little"), 1 << BITS, [(words,)])[0], dtype=np.int64)

    real = np.asarray(pseudo_rand_gen(seed, 1 << BITS, [(DIMENSION,)])[0], dtype=np.int64)
    return real, lambda number, words: mask(_spread_bits(given | number), words)


def _ours() -> tuple[Words, Guess]:
    """A mask of our own, and as many guesses at its key as at a folded seed: nothing about the key is known."""
    one, other = (Agreement(_number(name).to_bytes(32, "big")) for name in ("one", "other"))
    key = pair_mask_key(one, other.public_bytes(), bytes(32), bytes(32), "site-01", "site-02")
    return _keystream(key, DIMENSION), lambda number, words: _keystream(number.to_bytes(32, "little"), words)


def _control(clear: Words) -> tuple[str, ...]:
    """The search itself works: with all but the guessed bits of a key of ours given, it finds the key."""
    key = hashlib.sha256(b"control").digest()
    given = int.from_bytes(key, "little") & ~((1 << GUESSED_BITS) - 1)
    found, _ = _search((clear + _keystream(key, clear.size)) % (1 << BITS), int(clear[0]),
                    lambda number, words: _keystream((given | number).to_bytes(32, "little"), words))
    works = found is not None and np.array_equal(found, clear)
    return (f"control: with {256 - GUESSED_BITS} of the 256 bits given, the same search "
            f"{'finds' if works else 'DOES NOT FIND'} the vector",)


def _keystream(key: bytes, words: int) -> Words:
    mask = np.zeros(words, dtype=np.uint32)
    apply_masks(mask, [key], [])
    return mask.astype(np.int64) % (1 << BITS)


def _number(name: str) -> int:
    return int.from_bytes(hashlib.sha256(name.encode()).digest(), "big") >> 1


def _spread_bits(value: int) -> int:
    """28 bits into four bytes of seven."""
    return sum((value >> 7 * i & 0x7F) << 8 * i for i in range(4))


def _packed_bits(value: int) -> int:
    """The inverse of `_spread_bits`."""
    return sum((value >> 8 * i & 0x7F) << 7 * i for i in range(4))


def _duration(seconds: float) -> str:
    if seconds < 3600 * 48:
        return f"{seconds / 60:,.0f} minutes"
    years = seconds / _YEAR_S
    return f"{years:,.1f} years" if years < 1e6 else f"about 10^{len(str(int(years))) - 1} years"


SEED_ATTACKS = (SeedSearch,)
