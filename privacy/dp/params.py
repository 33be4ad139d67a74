"""The three numbers that fix one private step.

*Guarantees.*
    * A `DPParams` that exists is one the accountant can book: positive clip norm, positive noise, 0 < q <= 1.

*Assumes.*
    * The unit is the patient; neighbouring data sets differ by adding or removing one patient; patients are
      drawn independently with probability `sampling_rate` (Abadi et al., CCS 2016, section 3.1).

*Does not cover.*
    * A run without noise: it has no `DPParams`, its ledger entries say mechanism "none".
"""

from __future__ import annotations

import math
from dataclasses import dataclass

__all__ = ["DPParams"]


@dataclass(frozen=True)
class DPParams:
    """Parameters of one Poisson-subsampled Gaussian step.

    `clip_norm` C is the L2 bound on one patient's joint vector [gradient, statistic lanes];
    `noise_multiplier` is the noise's standard deviation per coordinate divided by C;
    `sampling_rate` q is each patient's probability of being drawn. Raises ValueError outside their ranges.
    """

    clip_norm: float
    noise_multiplier: float
    sampling_rate: float

    def __post_init__(self) -> None:
        for name in ("clip_norm", "noise_multiplier"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0):
                raise ValueError(f"{name} must be a finite number above 0, not {value}")
        if not 0 < self.sampling_rate <= 1:
            raise ValueError(f"sampling_rate must lie in (0, 1], not {self.sampling_rate}")

    @property
    def noise_std(self) -> float:
        """Standard deviation of the noise on one coordinate of the summed vector, in units of the vector."""
        return self.clip_norm * self.noise_multiplier
