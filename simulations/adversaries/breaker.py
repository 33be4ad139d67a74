"""The other half of an attack: whatever can be computed from what the adversary holds, computed.

It rebuilds each mask seed and each private key for which there are enough shares, takes every mask off that it then
knows, and looks for combinations of masked vectors in which the masks that are left cancel. Two ways, which check each
other: linear algebra over the unknown masks (every rational combination), and a blind search of all subsets against the
true vectors. A combination counts only if its numbers equal the true ones.

The judge then compares with what one round may tell: one sum over at least the floor of sites, of which the adversary
can always subtract what colluding sites put in.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import combinations
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from privacy.identity import Roster
from privacy.secagg.cohort import Cohort
from privacy.secagg.hybrid import agreement
from privacy.secagg.keys import (
    SealError,
    commit,
    matches,
    open_sealed,
    pair_mask_key,
    self_mask_key,
)
from privacy.secagg.masking import apply_masks
from privacy.secagg.shamir import SHARE_BYTES, Share, combine
from simulations.adversaries.linear import left_kernel, reduced
from simulations.adversaries.loot import Loot, Upload, View

__all__ = ["Breaker", "Findings"]

MOST_SUBSETS = 1 << 14
T = TypeVar("T")
Variable = tuple[int, str, bytes]  # round, site, the clear vector itself: the same vector twice is one unknown


@dataclass(frozen=True)
class Findings:
    """What became computable.

    Args:
        secrets: rebuilt, e.g. "round 1.1: mask seeds of site-01, site-02" (round.attempt).
        sums: sets of (round, site) whose sum is known; every other known combination is one of these.
        leaks: those that no rule allows; empty = nothing more than an allowed sum.
    """

    secrets: tuple[str, ...]
    sums: tuple[str, ...]
    leaks: tuple[str, ...]


@dataclass(frozen=True)
class _Row:
    """One upload after every known mask is off: what is left, and which unknown masks are in it."""

    variable: Variable
    values: npt.NDArray[np.uint32]
    truth: npt.NDArray[np.uint32]
    unknown: dict[bytes, int]


class Breaker:
    """Works on the loot of one attack, which may hold several attempts and rounds.

    Args:
        loot: what the adversary holds.
        roster: public; the pinned one.
        bits: width of the ring.
    """

    def __init__(self, loot: Loot, roster: Roster, bits: int) -> None:
        self._loot, self._roster, self._bits = loot, roster, bits
        self._seeds: dict[bytes, bytes] = {}  # commitment to b -> b
        self._secrets: dict[str, list[str]] = {}
        self._cohorts: dict[int, Cohort] = {}

    def findings(self) -> Findings:
        """Everything that can be computed, and which of it should not be."""
        self._rebuild()
        rows = [self._stripped(upload) for upload in self._loot.uploads]
        known = self._by_algebra(rows)
        known += [found for found in _by_search(rows, self._bits) if not _spans(known, found)]
        space = reduced(known, sorted({variable for row in known for variable in row}))
        secrets = tuple(f"{what} of {', '.join(sites)}" for what, sites in sorted(self._secrets.items()))
        return Findings(secrets, tuple(map(_text, space)), tuple(map(_text, self._leaks(space))))

    # ------------------------------------------------------------------ secrets

    def _cohort(self, view: View) -> Cohort:
        if id(view) not in self._cohorts:
            self._cohorts[id(view)] = Cohort(view.plan.context(), self._roster, view.adverts)
        return self._cohorts[id(view)]

    def _rebuild(self) -> None:
        """Open the envelopes whose recipient's key is known, add the revealed shares, and combine."""
        shares: dict[tuple[str, str, bytes], dict[int, Share]] = {}  # (kind, dealer, what it rebuilds) -> shares
        for view, envelope in self._loot.envelopes:
            pieces = [(site.self_mask_shares, site.mask_key_shares) for other, site in self._loot.revealed
                      if other.site_id == envelope.recipient and other.plan == view.plan]
            told = [("seed-share", d.share) for own, _ in pieces for d in own if d.dealer == envelope.sender]
            told += [("key-share", d.share) for _, keys in pieces for d in keys if d.dealer == envelope.sender]
            cohort = self._cohort(view)
            if envelope.sender not in cohort.adverts or envelope.recipient not in cohort.adverts:
                continue
            channel = cohort.channel(envelope.sender, envelope.recipient)
            told += self._opened(cohort, envelope.sender, envelope.recipient, envelope.ciphertext)
            for kind, share in told:
                seed = kind == "seed-share"
                wanted = envelope.self_mask_share_commitment if seed else envelope.mask_key_share_commitment
                if matches(commit(kind, channel, share), wanted):
                    goal = envelope.self_mask_commitment if seed else cohort.adverts[envelope.sender].mask_key
                    index = cohort.index(envelope.recipient)
                    shares.setdefault((kind, envelope.sender, goal), {})[index] = Share.from_bytes(index, share)
            self._try(shares, view, envelope.sender, envelope.self_mask_commitment)

    def _opened(self, cohort: Cohort, dealer: str, recipient: str, ciphertext: bytes) -> list[tuple[str, bytes]]:
        pair = self._loot.privates.get(cohort.adverts[recipient].channel_key)
        if pair is None:
            return []
        try:
            both = open_sealed(
                pair, cohort.adverts[dealer].channel_key, cohort.channel(dealer, recipient), ciphertext)
        except (SealError, ValueError):
            return []
        return [("seed-share", both[:SHARE_BYTES]), ("key-share", both[SHARE_BYTES: 2 * SHARE_BYTES])]

    def _try(self, shares: dict[tuple[str, str, bytes], dict[int, Share]], view: View, dealer: str,
             commitment: bytes) -> None:
        """Interpolate whatever there is; at least t shares give the secret, and the dealer's commitment says so."""
        cohort = self._cohort(view)
        seed = _combined(shares.get(("seed-share", dealer, commitment)))
        own = cohort.channel(dealer, dealer)
        if seed is not None and commitment not in self._seeds and matches(commit("seed", own, seed), commitment):
            self._seeds[commitment] = seed
            self._note("mask seeds", view, dealer)
        public = cohort.adverts[dealer].mask_key
        private = _combined(shares.get(("key-share", dealer, public)))
        pair = None if private is None else agreement(cohort.suite, private)
        if pair is not None and public not in self._loot.privates and pair.public_bytes() == public:
            self._loot.privates[public] = pair
            self._note("mask keys", view, dealer)

    def _note(self, what: str, view: View, dealer: str) -> None:
        self._secrets.setdefault(f"round {view.plan.round}.{view.plan.attempt}: {what}", []).append(dealer)

    # ------------------------------------------------------------------ masks

    def _stripped(self, upload: Upload) -> _Row:
        """Take off every mask whose key is known; the others are unknowns with a sign."""
        view, site = upload.view, upload.view.site_id
        cohort = self._cohort(view)
        h2 = cohort.h2(view.dealers)
        values, unknown = upload.values.copy(), {}
        commitment = next((e.self_mask_commitment for v, e in self._loot.envelopes if v is view), b"")
        if commitment in self._seeds:
            apply_masks(values, [], [self_mask_key(self._seeds[commitment], cohort.ctx, h2, site)])
        else:
            unknown[b"seed" + commitment + h2] = 1
        own = cohort.adverts[site].mask_key
        for peer in view.dealers:
            if peer == site:
                continue
            other = cohort.adverts[peer].mask_key
            key = self._pair_key(own, other, cohort.ctx, h2, site, peer)
            if key is None:
                unknown[b"pair" + b"".join(sorted((own, other))) + cohort.ctx + h2] = 1 if site < peer else -1
            elif site < peer:
                apply_masks(values, [], [key])
            else:
                apply_masks(values, [key], [])
        variable = (view.plan.round, site, upload.truth.tobytes())
        return _Row(variable, values, upload.truth, unknown)

    def _pair_key(self, own: bytes, other: bytes, ctx: bytes, h2: bytes, site: str, peer: str) -> bytes | None:
        privates = self._loot.privates
        if own in privates:
            return pair_mask_key(privates[own], other, ctx, h2, site, peer)
        return pair_mask_key(privates[other], own, ctx, h2, site, peer) if other in privates else None

    # ------------------------------------------------------------------ combinations

    def _by_algebra(self, rows: Sequence[_Row]) -> list[dict[Variable, Fraction]]:
        """Every combination in which the unknown masks cancel, kept if its numbers are right."""
        names = sorted({name for row in rows for name in row.unknown})
        matrix = [[row.unknown.get(name, 0) for name in names] for row in rows]
        known = []
        for weights in left_kernel(matrix):
            if not _agrees(weights, rows, self._bits):
                continue
            combined: dict[Variable, Fraction] = {}
            for weight, row in zip(weights, rows, strict=True):
                combined[row.variable] = combined.get(row.variable, Fraction(0)) + weight
            known.append({variable: value for variable, value in combined.items() if value})
        return [row for row in known if row]

    def _leaks(self, space: list[dict[Variable, Fraction]]) -> list[dict[Variable, Fraction]]:
        """What goes beyond one sum a round over at least the floor of sites, colluding ones counted in."""
        leaks, told = [], set()
        for row in space:
            rounds = {variable[0] for variable in row}
            announced = {v.site_id for v, _ in self._loot.envelopes if v.plan.round in rounds}
            enough = len(row) + len(self._loot.colluding) >= self._roster.floor(len(announced))
            if len(rounds) > 1 or rounds & told or set(row.values()) != {Fraction(1)} or not enough:
                leaks.append(row)
            told |= rounds
        return leaks


def _combined(shares: dict[int, Share] | None) -> bytes | None:
    try:
        return combine(list((shares or {}).values()))
    except ValueError:
        return None


def _agrees(weights: Sequence[int], rows: Sequence[_Row], bits: int) -> bool:
    """Whether the combination of stripped vectors equals that of the clear ones, modulo 2^bits."""
    difference = sum(
        (w * (row.values.astype(np.int64) - row.truth.astype(np.int64)) for w, row in zip(weights, rows, strict=True)),
        start=np.zeros(1, dtype=np.int64))
    return bool((difference % (1 << bits) == 0).all())


def _by_search(rows: Sequence[_Row], bits: int) -> list[dict[Variable, Fraction]]:
    """Blind: the sums of all subsets of stripped vectors against the sums of all subsets of clear ones."""
    modulus = 1 << bits
    clear = {row.variable: row.truth.astype(np.int64) for row in rows}
    if 1 << len(rows) > MOST_SUBSETS:
        raise ValueError("too many uploads for a search of all subsets; play the attack with fewer sites")
    truths = {}
    for chosen in _subsets(sorted(clear)):
        truths[(sum(clear[name] for name in chosen) % modulus).tobytes()] = chosen  # type: ignore[attr-defined]
    found = []
    for some in _subsets(rows):
        total = sum(row.values.astype(np.int64) for row in some) % modulus
        names = truths.get(total.tobytes())  # type: ignore[attr-defined]
        if names is not None:
            found.append(dict.fromkeys(names, Fraction(1)))
    return found


def _subsets(items: Sequence[T]) -> Iterable[tuple[T, ...]]:
    return (chosen for size in range(1, len(items) + 1) for chosen in combinations(items, size))


def _spans(known: list[dict[Variable, Fraction]], row: dict[Variable, Fraction]) -> bool:
    columns = sorted({variable for other in (*known, row) for variable in other})
    return len(reduced(known, columns)) == len(reduced([*known, row], columns))


def _text(row: dict[Variable, Fraction]) -> str:
    rounds = sorted({variable[0] for variable in row})
    names = " + ".join(
        (variable[1] if value == 1 else f"{value} * {variable[1]}") for variable, value in sorted(row.items()))
    return f"round {', '.join(map(str, rounds))}: {names}"
