"""One evaluation of a model on a site's validation patients, with the noise that it is charged for.

*Guarantees.*
    * A patient is two numbers, its centred mean loss and a one, scaled so that their L2 norm is at most 1 - SLACK. So
      adding or removing one patient moves the sum by at most 1, and `released` adds noise of `noise_multiplier` times
      that: a Gaussian release at sampling rate 1 (`privacy.gates.evaluation_events`).
    * A patient whose loss is not finite counts with the largest loss there is, so it is bounded and cannot make a bad
      model look good.

*Assumes.* Each loss is a function of one patient and the model alone. The release is booked before a patient is read,
and each call's output is released at most once.

*Does not cover.* Who is a validation patient (`site_client.validation`).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from privacy.dp.clipping import ClippedSum
from privacy.dp.noise import noisy_sum
from privacy.entropy import Entropy
from privacy.gates import UNIT

__all__ = ["patient_vectors", "released", "validation_sum"]

Vector = npt.NDArray[np.float64]


def patient_vectors(losses: Vector, loss_cap: float) -> Vector:
    """float64[P, 2] of P patients from their mean losses in nats, float64[P]: (2 min(l, cap) / cap - 1, 1) each."""
    bounded = np.clip(np.where(np.isfinite(losses), losses, loss_cap), 0.0, loss_cap)
    return UNIT * np.stack([2.0 * bounded / loss_cap - 1.0, np.ones_like(bounded)], axis=1)


def validation_sum(losses: Vector, loss_cap: float) -> ClippedSum:
    """The sum over all patients, with its bound of 1; the zero sum for none."""
    vectors = patient_vectors(losses, loss_cap)
    return ClippedSum(vectors.sum(axis=0), 1.0, len(losses), int(np.count_nonzero(~np.isfinite(losses))))


def released(total: ClippedSum, noise_multiplier: float, entropy: Entropy) -> Vector:
    """float64[2] with the noise. Raises ValueError for noise that is not above 0: nothing is released without."""
    return noisy_sum(total, noise_multiplier, entropy)
