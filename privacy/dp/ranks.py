"""One step over several processes of one site: whole patients are shared out, clipped sums are added once.

Rank 0 draws, shares out, adds and noises. The others get samples and give back one clipped sum; they hold no random
source and never see a draw's noise. What crosses between ranks is un-noised and stays on the site's host.

*Guarantees.*
    * A patient is in exactly one share, so it is clipped once; a share list that leaves one out or names one twice is
      refused by the rank that sends it and by the rank that gets it.
    * `joined` adds the ranks' sums in float64 in the order of their ranks, once, and only when every rank has answered
      for this very step: same shares, adapter, base, release and threshold (`StepFacts.digest`), as many patients as
      its share has, the agreed bound and length, and no longer than that many patients can make it. Else
      `RankError`, and there is no sum. A sum of fewer ranks does not exist, so none is released.
    * The sum is a `ClippedSum` of the same bound as one process': C is per patient, whoever clipped.

*Assumes.*
    * Ranks are this site's own installed code on one host. They may fail, be late or be out of step; a rank that
      computes something else on purpose, within its patients' reach, is not found.
    * Each rank computes a patient as the others would, up to the rounding of its device.

*Does not cover.*
    * How ranks reach each other and who may listen (`site_client.rank_channel`); hiding how long a share takes.
"""

from __future__ import annotations

import hmac
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from privacy.dp.clipping import SLACK, ClippedSum
from privacy.wire import Message, check_hash

__all__ = ["RankError", "RankSum", "StepFacts", "joined", "require_partition", "share_out"]

# Rounding of a rank's sum beyond its patients' bounds (`privacy.dp.clipping`: less than 1e-7 C each).
_ROUNDING = 1e-6


class RankError(Exception):
    """A rank ended, came too late or disagrees: the step is lost, and nothing of it is released."""


@dataclass(frozen=True)
class StepFacts(Message):
    """What all ranks must agree on before their sums are added; each fills it in from what it holds itself.

    Args:
        session: 16 random bytes of this mechanism, so that nothing of another round fits.
        number: of the step, from 1.
        release, base_model, adapter: hashes of installed code, base model and the adapter as each rank reads it back.
        shares: for each rank, the positions of its patients in the step's draw.
        threshold: of an adaptive clip, None without one.
    """

    session: bytes
    number: int
    release: str
    base_model: bytes
    adapter: bytes
    shares: tuple[tuple[int, ...], ...]
    threshold: float | None = None

    def check(self) -> None:
        check_hash("base_model", self.base_model)
        check_hash("adapter", self.adapter)
        require_partition(self.shares, sum(map(len, self.shares)))

    def digest(self) -> bytes:
        """SHA-256 of these facts; equal on every rank, or there is no sum."""
        return self.hash()


@dataclass(frozen=True)
class RankSum:
    """One rank's answer: the digest of the facts that it holds, and its share's sum."""

    rank: int
    digest: bytes
    clipped: ClippedSum


def share_out(costs: Sequence[int], num_ranks: int) -> tuple[tuple[int, ...], ...]:
    """Positions 0..len(costs)-1 as one ascending share a rank: whole patients, the costliest first to whom has least.

    `costs` are any numbers that grow with a patient's work. Shares may be empty. The rule is longest processing time
    first (Graham, SIAM J. Appl. Math. 17(2), 1969, section 5); ties go to the lower position and rank. ValueError for
    no rank.
    """
    if num_ranks < 1:
        raise ValueError(f"a step needs at least one rank, not {num_ranks}")
    shares: list[list[int]] = [[] for _ in range(num_ranks)]
    loads = [0] * num_ranks
    for position in sorted(range(len(costs)), key=lambda i: (-costs[i], i)):
        rank = loads.index(min(loads))
        shares[rank].append(position)
        loads[rank] += max(1, costs[position])
    return tuple(tuple(sorted(share)) for share in shares)


def require_partition(shares: Sequence[Sequence[int]], num_patients: int) -> None:
    """Raise ValueError unless every patient 0..num_patients-1 is in exactly one share."""
    named = sorted(position for share in shares for position in share)
    if named != list(range(num_patients)):
        raise ValueError("the shares must name every patient of the draw exactly once: a patient is never split")


def joined(
    parts: Sequence[RankSum], facts: StepFacts, clip_norm: float, size: int, *, slack: float = SLACK
) -> ClippedSum:
    """The step's sum float64[size] over all ranks, or RankError: every part is checked before one is added.

    `parts` are in the order of the ranks, `facts` rank 0's own, `clip_norm` is C. A patient's vector is at most
    C (1 - `slack`) long: 0 where it was rounded, which may take up all of C (`privacy.dp.noise_share`).
    """
    if len(parts) != len(facts.shares):
        raise RankError(f"{len(parts)} of {len(facts.shares)} ranks answered")
    digest = facts.digest()
    for rank, (part, share) in enumerate(zip(parts, facts.shares, strict=True)):
        _require(part, rank, digest, len(share), clip_norm, size, slack)
    total = np.zeros(size)
    for part in parts:
        total += part.clipped.vector
    return ClippedSum(
        total, clip_norm, sum(part.clipped.num_patients_local for part in parts),
        sum(part.clipped.num_nonfinite_local for part in parts))


def _require(
    part: RankSum, rank: int, digest: bytes, patients: int, clip_norm: float, size: int, slack: float
) -> None:
    clipped = part.clipped
    if part.rank != rank or not hmac.compare_digest(part.digest, digest):
        raise RankError(f"rank {rank} is out of step: another draw, adapter, base model, threshold or release")
    if clipped.num_patients_local != patients or not 0 <= clipped.num_nonfinite_local <= patients:
        raise RankError(f"rank {rank} answers for another number of patients than its share has")
    if clipped.l2_bound != clip_norm or clipped.vector.shape != (size,):
        raise RankError(f"rank {rank} clipped to another bound or sums another vector")
    reach = (patients - clipped.num_nonfinite_local) * clip_norm * (1 - slack) * (1 + _ROUNDING)
    # Not `>`: a length that is no number must not pass.
    if not math.sqrt(float(clipped.vector @ clipped.vector)) <= reach:
        raise RankError(f"rank {rank} gives a sum that its patients cannot make")
