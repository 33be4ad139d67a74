"""Which ring a run's vectors live in, and how many coordinates they have beside the adapter's.

*Guarantees.* Site and coordinator compute ring and lanes here, from the manifest and the plan's dimension alone. Local
noise: a `RingParams` that cannot wrap. Distributed noise: a `NoisyRing`, whose sum wraps in some coordinate with a
probability of at most 1e-9 a round for what its inputs add up to; a ring narrower than that is refused.

*Assumes.* Patients are drawn as the manifest says, from no more of them than each site declared: more make a wrap
likelier, which spoils a sum and tells nothing. With integrity tags it would tell: a tag adds up what each site put in,
not what the ring made of it, and so depends on which site left the ring. `fits_alone` says when none does.

*Does not cover.* Privacy: without tags a wrap is post-processing of the noised sum (`privacy.dp.noise_share`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from privacy.aggregation import share_of
from privacy.dp.shares import share_variance
from privacy.manifest import RunManifest
from privacy.secagg.params import RingParams, ring_params
from privacy.statistics import LANES, WIRE_LANES

__all__ = ["NoisyRing", "fits_alone", "most_drawn", "ring_of", "wire_lanes"]

_WRAP = 1e-9  # probability that anything wraps, per round
_LONGEST = 1 << 40  # coordinates: more than any vector has
_CROWD = 1e-9  # probability that more patients are drawn than the ring is made for, per round


@dataclass(frozen=True)
class NoisyRing(RingParams):
    """The ring of distributed noise, where nothing is saturated: coordinates may lie anywhere in it.

    Args (beside those of `RingParams`, where `saturation` says nothing here):
        reach: what a coordinate of the sum stays within, in levels, with all the noise in it.

    Raises ValueError where the sum would not fit: 2**(bits - 1) must be above `reach`.
    """

    reach: float = math.inf

    def __post_init__(self) -> None:
        if not (0 < self.scale < math.inf and self.max_summands >= 1):
            raise ValueError("scale and max_summands must be positive and finite")
        if not self.reach < 2.0 ** (self.bits - 1):
            raise ValueError(
                f"sums of up to {self.reach:.3g} levels would wrap in a ring of {self.bits} bits; lower "
                "distributed_noise.levels or the sampling rate")

    @property
    def max_level(self) -> int:
        """The largest magnitude of a coordinate: every ring element is allowed."""
        return 1 << (self.bits - 1)


def wire_lanes(manifest: RunManifest) -> int:
    """Statistic lanes of an upload: with distributed noise no share of saturated coordinates, which no noise covers."""
    return WIRE_LANES if manifest.distributed_noise is None else len(LANES)


def ring_of(manifest: RunManifest, stage: int, dimension: int, roster_size: int) -> RingParams:
    """The ring of a round of `stage` whose vectors have `dimension` coordinates, lanes included.

    Raises ValueError where the sum could wrap, or would with distributed noise, and where its levels are too few.
    """
    share = share_of(manifest, stage, dimension)
    if share is None:
        return ring_params(manifest.bits, manifest.saturation, roster_size)
    # b >= 1 + log2(B_max (S + 1) + kappa sigma), kappa = sqrt(2 ln(2 d / beta)): a union bound over coordinates.
    kappa = math.sqrt(2 * math.log(2 * dimension / _WRAP))
    noise = kappa * math.sqrt(roster_size * share.variance)
    reach = most_drawn(manifest, stage) * (share.levels + 1) + noise
    return NoisyRing(manifest.bits, share.scale, manifest.saturation, roster_size, reach)


def fits_alone(manifest: RunManifest, patients: int) -> bool:
    """Whether one site's own upload of distributed noise stays within the ring, but with a probability of 1e-9 a round,
    whatever patients it draws and whatever the length of the vector, if it has at most `patients`."""
    noise = manifest.distributed_noise
    if noise is None:
        return True
    kappa = math.sqrt(2 * math.log(2 * _LONGEST / _WRAP))
    return all(
        patients * (noise.levels + 1) + kappa * math.sqrt(share_variance(
            stage.noise_multiplier, noise.levels, noise.honest)) < 2.0 ** (manifest.bits - 1)
        for stage in manifest.stages)


def most_drawn(manifest: RunManifest, stage: int) -> int:
    """B_max: patients in one sum over all sites, exceeded with probability below 1e-9 (Bernstein's inequality)."""
    spec = manifest.stages[stage]
    patients = sum(terms.declared_patients for terms in manifest.sites)
    mean, slack = spec.sampling_rate * patients, math.log(1 / _CROWD)
    return min(patients, math.ceil(mean + slack / 3 + math.sqrt((slack / 3) ** 2 + 2 * mean * slack)))
