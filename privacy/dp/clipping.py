"""The bound on one patient, and the sum that carries it.

*Guarantees.*
    * `ClipBounds.factors` scales a patient's gradient and statistic lanes so that the joint vector has an L2
      norm of at most C (1 - SLACK); a patient with a non-finite entry gets factors of zero.
    * A `ClippedSum` states the bound that its vector keeps; noise is added to nothing else.

*Assumes.*
    * A patient's gradient and lanes are functions of that patient's data alone (no batch statistic, no
      batch-mean loss, no attention across patients). The trainer keeps this; tests measure it.
    * The norms handed in are those of the very numbers that are summed, taken in float64.

*Does not cover.*
    * Hiding how many patients were clipped or non-finite: the counts stay at the site.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

__all__ = ["SLACK", "ClippedSum", "ClipBounds"]

# What rounding may use up of a patient's share of C: that of float arithmetic here, and that of the release
# grid in `privacy.dp.noise`.
SLACK = 1e-5


@dataclass(frozen=True)
class ClippedSum:
    """A sum over patients of vectors, each of norm at most `l2_bound` (1 - SLACK).

    `vector` is float64[d]: the gradient's coordinates in layout order, then the statistic lanes. Adding or
    removing one patient changes it by at most `l2_bound` (1 - SLACK) in L2. The two counts are for the site's
    own screen; they are functions of the draw and never leave it. Raises ValueError for a vector that is not
    finite float64[d] or a bound that is not above 0.
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
    """How C is shared: the lanes keep within `lane_bound` L, the gradient within sqrt(C**2 - L**2).

    Abadi et al., CCS 2016, Algorithm 1 (flat clipping) on each part; Pythagoras joins them. The split is
    fixed in the manifest, so the gradient's room does not depend on the lanes' values.
    """

    clip_norm: float
    lane_bound: float

    def __post_init__(self) -> None:
        if not (np.isfinite(self.clip_norm) and self.clip_norm > 0):
            raise ValueError(f"clip_norm must be a finite number above 0, not {self.clip_norm}")
        if not 0 <= self.lane_bound < self.clip_norm:
            raise ValueError(f"lane_bound must lie in [0, clip_norm), not {self.lane_bound}")

    @property
    def gradient_bound(self) -> float:
        """What the gradient may take of C."""
        return float(np.sqrt(self.clip_norm**2 - self.lane_bound**2))

    def factors(self, gradient_norms: Tensor, lane_norms: Tensor) -> tuple[Tensor, Tensor]:
        """Factors (gradient float64[P], lanes float64[P]) for norms float64[P]; zero where not finite."""
        room = 1 - SLACK
        finite = torch.isfinite(gradient_norms) & torch.isfinite(lane_norms)
        gradient = _shrink(gradient_norms, self.gradient_bound * room)
        lanes = _shrink(lane_norms, self.lane_bound * room)
        joint = torch.hypot(gradient * gradient_norms, lanes * lane_norms)
        # The two bounds imply the joint one; this line is what holds if an edit ever breaks that.
        safety = _shrink(joint, self.clip_norm * room)
        zero = torch.zeros_like(gradient)
        return torch.where(finite, gradient * safety, zero), torch.where(finite, lanes * safety, zero)


def _shrink(norms: Tensor, bound: float) -> Tensor:
    """min(1, bound / norm), and 1 at norm 0."""
    return torch.where(norms > bound, bound / norms, torch.ones_like(norms))
