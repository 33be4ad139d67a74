"""Training statistics as extra coordinates of each patient's clipped vector.

*Guarantees*: loss, accuracy and the number of drawn patients leave a site only as three coordinates ("lanes")
of the vector that is clipped to C and noised; the same noise and the same ledger entry cover them. The three
together never exceed the share L = lane_share * C of one patient, and both sides compute the same scale from
the manifest.

*Assumes*: the caller clips the joint vector (`privacy.dp.engine`) and the noise is that of the manifest.

*Does not cover*: any exact count or loss. An un-noised draw count has unbounded epsilon under add/remove.

One more lane tells the share of coordinates that saturation cut off. It is computed from the vector that is already
noised, so it is post-processing. That holds where each site adds all of its noise itself; with distributed noise
nothing is saturated and there is no such lane. The others are then coordinates of a rounded patient like the rest.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from privacy.messages import RunManifest

__all__ = [
    "LANES", "LOSS_CEILING", "WIRE_LANES", "LaneScale", "Statistics", "lane_scale", "mean_saturated", "with_saturated"]

LANES = ("loss", "correct", "drawn")
WIRE_LANES = len(LANES) + 1  # and the share of saturated coordinates, the last coordinate of an upload
LOSS_CEILING = 4.0  # nats; a patient's mean loss is bounded here before it becomes a lane


@dataclass(frozen=True, slots=True)
class Statistics:
    """Noised statistics of a round over all sites in the sum; None where too few patients stand out of the
    noise."""

    drawn: float
    mean_loss: float | None  # nats per answer token, bounded by LOSS_CEILING
    accuracy: float | None   # share of samples whose answer tokens were all the most likely


@dataclass(frozen=True, slots=True)
class LaneScale:
    """Scale of the lanes in one round, from manifest constants only.

    Args:
        unit: L / sqrt(3), the largest value of one lane for one patient in one step.
        gain: factor between a site's sum of noisy lanes and the coordinate that is quantised.
    """

    unit: float
    gain: float

    @staticmethod
    def of(
        *, clip_norm: float, lane_share: float, noise_multiplier: float, local_steps: int, sampling_rate: float,
        most_patients: int, saturation: float,
    ) -> LaneScale:
        """`most_patients`: the largest declared number of patients of any site; `saturation`: c of the
        ring."""
        unit = lane_share * clip_norm / math.sqrt(len(LANES))
        expected = unit * local_steps * sampling_rate * most_patients
        spread = clip_norm * noise_multiplier * math.sqrt(local_steps)
        return LaneScale(unit, saturation / (2.0 * expected + 8.0 * spread + 8.0 * unit))

    def patient(
        self, loss: npt.NDArray[np.float64], correct: npt.NDArray[np.float64]
    ) -> npt.NDArray[np.float64]:
        """Lanes float64[P, 3] of P patients from their mean loss (nats) and share of right answers."""
        bounded = np.clip(loss, 0.0, LOSS_CEILING) / LOSS_CEILING
        return self.unit * np.stack([bounded, np.clip(correct, 0.0, 1.0), np.ones_like(bounded)], axis=1)

    def decode(self, lanes: npt.NDArray[np.float64]) -> Statistics:
        """Statistics from the sum over sites of the transmitted lanes, float64[3]."""
        loss, correct, drawn = (lanes / self.gain / self.unit).tolist()
        if drawn < 1.0:
            return Statistics(max(drawn, 0.0), None, None)
        return Statistics(
            drawn, min(max(LOSS_CEILING * loss / drawn, 0.0), LOSS_CEILING), min(max(correct / drawn, 0.0), 1.0)
        )


def lane_scale(manifest: RunManifest, stage: int) -> LaneScale:
    """The lanes' scale in `stage`, from the manifest alone: both sides compute it, nobody sends it."""
    spec = manifest.stages[stage]
    if manifest.distributed_noise is not None:  # lanes are rounded and noised with the gradient, in its units
        return LaneScale(manifest.lane_share * manifest.clip_norm / math.sqrt(len(LANES)), 1.0)
    return LaneScale.of(
        clip_norm=manifest.clip_norm, lane_share=manifest.lane_share, noise_multiplier=spec.noise_multiplier,
        local_steps=spec.local_steps, sampling_rate=spec.sampling_rate, saturation=manifest.saturation,
        most_patients=max(terms.declared_patients for terms in manifest.sites),
    )


def with_saturated(noised: npt.NDArray[np.float64], saturation: float) -> npt.NDArray[np.float64]:
    """float64[d + 1]: a noised upload float64[d], and as last coordinate the share of its coordinates beyond
    +-saturation, times `saturation` so that it uses the ring's range."""
    share = np.count_nonzero(np.abs(noised) > saturation) / noised.size
    return np.append(noised, share * saturation)


def mean_saturated(lane: float, saturation: float, sites: int) -> float:
    """The mean share over `sites` uploads, from the sum of their last coordinates; 0 to 1."""
    return min(max(lane / saturation / sites, 0.0), 1.0)
