"""A clip threshold that follows a quantile of the patients' gradient norms, learnt from a noised bit.

Each patient says with one bit whether its gradient norm is below the threshold G. The bit, b = +1/2 or -1/2, is one
more coordinate of the patient's clipped vector with weight w = z C / sigma_b, so that the stage's noise z C on it is
noise sigma_b on the number of patients. What is left for the gradient is R = sqrt(C**2 - L**2 - (w/2)**2). Seen from
the gradient, its noise multiplier is z C / R >= z: at L = 0 this is z = (z_R**-2 + (2 sigma_b)**-2)**(-1/2), the joint
multiplier of Andrew et al., NeurIPS 2021, arXiv 1905.03871, theorem 1.

*Guarantees.*
    * The bit costs nothing beyond the step's own ledger entry: it is inside the vector that is clipped to C.
    * The threshold is a function of constants and of noised bits (post-processing), and of this round alone.

*Assumes.*
    * The bit is formed from the same norms that are clipped (`privacy.dp.accumulator`).
    * The caller never sends the bit or the threshold: neither belongs to the update.

*Does not cover.*
    * Patients without samples for the stage. The number of patients is a constant, and who gives no bit counts as
      half below: a quantile of 0.5 is unbiased, others lean towards it where few of the declared patients take part.
"""

from __future__ import annotations

import math

from privacy.dp.clipping import SLACK, ClipBounds
from privacy.manifest import AdaptiveClip

__all__ = ["REACH", "AdaptiveThreshold", "bit_weight"]

#: The threshold stays within this factor of its start, so that noise cannot carry it to zero or to infinity.
REACH = 1024.0


def bit_weight(noise_multiplier: float, clip_norm: float, bit_noise: float) -> float:
    """w = z C / sigma_b: noise z C on w times the sum of bits is noise sigma_b on the sum of bits."""
    return noise_multiplier * clip_norm / bit_noise


class AdaptiveThreshold:
    """The threshold G of one round; it starts at R, the gradient's room, a public constant.

    Args:
        spec: quantile gamma, rate eta and noise of the bit.
        bounds: with the bit's weight.
        expected_patients: q times the declared number of patients, a constant.
    """

    def __init__(self, spec: AdaptiveClip, bounds: ClipBounds, expected_patients: float) -> None:
        if not bounds.num_bits:
            raise ValueError("an adaptive threshold needs bounds with a bit_weight above 0")
        self._spec = spec
        self._bounds = bounds
        self._expected = expected_patients
        self._value = bounds.gradient_bound

    @property
    def value(self) -> float:
        """G, in the gradient's own units."""
        return self._value

    @property
    def scale(self) -> float:
        """G / R: what a released gradient is multiplied with to be in its own units again."""
        return self._value / self._bounds.gradient_bound

    def follow(self, released_bit: float) -> None:
        """G <- G exp(-eta (b - gamma)) with b the noised share of patients below G (algorithm 1, last line)."""
        weight = self._bounds.bit_weight * (1 - SLACK)
        below = released_bit / weight / self._expected + 0.5
        step = -self._spec.learning_rate * (below - self._spec.quantile)
        start = self._bounds.gradient_bound
        # Bounded before exp: far-out noise must not overflow.
        step = max(-2 * math.log(REACH), min(2 * math.log(REACH), step))
        self._value = min(max(self._value * math.exp(step), start / REACH), start * REACH)
