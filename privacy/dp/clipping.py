"""The bound on one patient, and the sum that carries it.

*Guarantees.*
    * `ClipBounds.factors` scales a patient's gradient and statistic lanes so that the joint vector, with the
      bit of an adaptive clip, has an L2 norm of at most C (1 - SLACK), whatever the rule and the threshold; a
      patient with a non-finite entry gets factors of zero and no bit.
    * The factors are float64 and so is the sum they are applied in: the joint norm of what is summed exceeds
      C (1 - SLACK) by less than 1e-7 C.
    * A `ClippedSum` states the bound that its vector keeps; noise is added to nothing else.

*Assumes.*
    * A patient's gradient and lanes are functions of that patient's data alone (no batch statistic, no
      batch-mean loss, no attention across patients). The trainer keeps this; tests measure it.
    * The norms handed in are those of the very numbers that are summed, taken in float64.

*Does not cover.*
    * How rounding moves the other patients when one is added: a float32 kernel may round a patient's gradient
      otherwise in another batch, about 1e-7 of it. SLACK / 2 covers some 100 patients moved all the same way.
    * Hiding how many patients were clipped or non-finite: the counts stay at the site.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from privacy.manifest import Clipping

__all__ = ["AUTO_S_GAMMA", "SLACK", "ClipBounds", "ClippedSum"]

# What rounding may use up of a patient's share of C: half is the release grid's (`privacy.dp.noise`), half that of
# float arithmetic.
SLACK = 2e-5
# An adaptive threshold stays within this factor of the gradient's room (`privacy.dp.adaptive_clip`: of 1024).
_THRESHOLD_REACH = 2.0**20
# Bu et al., NeurIPS 2023 (arXiv 2206.07136): the default of AUTO-S' stability constant.
AUTO_S_GAMMA = 0.01


@dataclass(frozen=True)
class ClippedSum:
    """A sum over patients of vectors, each of norm at most `l2_bound` (1 - SLACK).

    `vector` is float64[d]: the gradient's coordinates in layout order, then the statistic lanes, then the bit
    where the clip is adaptive. Adding or removing one patient changes it by at most `l2_bound` (1 - SLACK) in
    L2. The two counts are for the site's own screen; they are functions of the draw and never leave it.
    Raises ValueError for a vector that is not finite float64[d] or a bound that is not above 0.
    """

    vector: npt.NDArray[np.float64] = field(repr=False)
    l2_bound: float
    num_patients_local: int = field(repr=False)
    num_nonfinite_local: int = field(repr=False)

    def __post_init__(self) -> None:
        if self.vector.dtype != np.float64 or self.vector.ndim != 1:
            raise ValueError("a clipped sum is a one-dimensional float64 vector")
        if not np.isfinite(self.vector).all():
            raise ValueError("a clipped sum must be finite: non-finite patients contribute zero")
        if not (np.isfinite(self.l2_bound) and self.l2_bound > 0):
            raise ValueError(f"the L2 bound of a clipped sum must be above 0, not {self.l2_bound}")


@dataclass(frozen=True)
class ClipBounds:
    """How C is shared: the lanes keep within L, the bit within w / 2, the gradient within the room that is left.

    The room is sqrt(C**2 - L**2 - (w/2)**2). Pythagoras joins the parts. All are fixed in the manifest, so the
    gradient's room does not depend on the values of the others.

    Args:
        clip_norm: C. lane_bound: L.
        rule: "flat" scales a gradient g by min(1, R / |g|) (Abadi et al., CCS 2016, algorithm 1); "auto-s" by
            R / (|g| + 0.01) (Bu et al., NeurIPS 2023, arXiv 2206.07136, the rule AUTO-S): below R for every g,
            and there is no threshold to choose.
        bit_weight: w, above 0 where the threshold of the flat clip adapts (`privacy.dp.adaptive_clip`).

    Raises ValueError for bounds that leave the gradient no room, or a bit with "auto-s".
    """

    clip_norm: float
    lane_bound: float
    rule: Clipping = "flat"
    bit_weight: float = 0.0

    def __post_init__(self) -> None:
        if not (np.isfinite(self.clip_norm) and self.clip_norm > 0):
            raise ValueError(f"clip_norm must be a finite number above 0, not {self.clip_norm}")
        if not 0 <= self.lane_bound < self.clip_norm:
            raise ValueError(f"lane_bound must lie in [0, clip_norm), not {self.lane_bound}")
        if self.rule not in ("flat", "auto-s"):
            raise ValueError(f"the clip rule must be flat or auto-s, not {self.rule!r}")
        room = math.sqrt(self.clip_norm**2 - self.lane_bound**2)
        if not 0 <= self.bit_weight / 2 < room:
            raise ValueError("bit_weight must be at least 0 and leave the gradient room: raise bit_noise")
        if self.bit_weight and self.rule != "flat":
            raise ValueError('an adaptive threshold needs the rule "flat"')

    @property
    def gradient_bound(self) -> float:
        """R, what the gradient may take of C."""
        return float(np.sqrt(self.clip_norm**2 - self.lane_bound**2 - (self.bit_weight / 2) ** 2))

    @property
    def num_bits(self) -> int:
        """Coordinates after the statistic lanes: 1 where the threshold adapts."""
        return int(self.bit_weight > 0)

    def require_threshold(self, threshold: float) -> None:
        """Raise ValueError for a threshold without a bit, or not within a factor of 2**20 of the room."""
        reach = _THRESHOLD_REACH
        room = self.gradient_bound
        if not self.num_bits or not (math.isfinite(threshold) and room / reach <= threshold <= room * reach):
            raise ValueError(
                "a threshold is a finite number above 0 and within a factor of 2**20 of the gradient's room, and "
                "only an adaptive clip has one: raise the clip norm or lower the threshold's learning rate"
            )

    def factors(
        self, gradient_norms: Tensor, lane_norms: Tensor, threshold: float | None = None
    ) -> tuple[Tensor, Tensor]:
        """Factors (gradient float64[P], lanes float64[P]) for norms float64[P]; zero where not finite.

        With a `threshold` G the gradient is clipped to G and then scaled by R / G, so that the noise, which is
        relative to R, is relative to G once both are scaled back. ValueError as `require_threshold`.
        """
        if threshold is not None:
            self.require_threshold(threshold)
        room = 1 - SLACK
        finite = torch.isfinite(gradient_norms) & torch.isfinite(lane_norms)
        gradient = self._gradient_factors(gradient_norms, threshold)
        lanes = _shrink(lane_norms, self.lane_bound * room)
        bit = torch.full_like(gradient, self.bit_weight / 2 * room)
        joint = torch.hypot(torch.hypot(gradient * gradient_norms, lanes * lane_norms), bit)
        # The bounds imply the joint one; this line is what holds if an edit ever breaks that.
        safety = _shrink(joint, self.clip_norm * room)
        zero = torch.zeros_like(gradient)
        return torch.where(finite, gradient * safety, zero), torch.where(finite, lanes * safety, zero)

    def bits(self, gradient_norms: Tensor, lane_norms: Tensor, threshold: float) -> Tensor:
        """float64[P]: +w/2 for a gradient norm of at most `threshold`, -w/2 above it, 0 where not finite.

        Centred at zero, a patient's bit weighs w / 2 and not w (Andrew et al., arXiv 1905.03871, proof of theorem 1).
        """
        half = self.bit_weight / 2 * (1 - SLACK)
        signed = half * torch.where(gradient_norms <= threshold, 1.0, -1.0).double()
        finite = torch.isfinite(gradient_norms) & torch.isfinite(lane_norms)
        return torch.where(finite, signed, torch.zeros_like(signed))

    def _gradient_factors(self, norms: Tensor, threshold: float | None) -> Tensor:
        bound = self.gradient_bound * (1 - SLACK)
        if self.rule == "auto-s":
            return bound / (norms + AUTO_S_GAMMA)
        if threshold is None:
            return _shrink(norms, bound)
        scale = self.gradient_bound / threshold
        return scale * _shrink(scale * norms, bound)


def _shrink(norms: Tensor, bound: float) -> Tensor:
    """min(1, bound / norm), and 1 at norm 0."""
    return torch.where(norms > bound, bound / norms, torch.ones_like(norms))
