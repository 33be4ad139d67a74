"""The ring vector that is masked, in either mode of noise.

Local noise: what DP-SGD steps led to, weighted, saturated, rounded. Distributed noise: one sum of rounded patients and
this site's share of the noise, and nothing after it: the vector is neither clipped again nor saturated.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from model.adapted import AdaptedModel
from model.adapter import Selection
from privacy.dp.noise_share import ring_elements
from privacy.entropy import Entropy
from privacy.messages import RunManifest
from privacy.secagg.params import RingParams
from privacy.secagg.quantize import QuantizedVector, quantize
from privacy.statistics import with_saturated
from site_client.mechanism import EncodedPatient, LocalTask, PatientMechanism
from site_client.training import LocalUpdate, Mechanism

__all__ = ["local_vector", "noised_share", "rounded"]


def local_vector(
    update: LocalUpdate, task: LocalTask, manifest: RunManifest, weight: float, ring: RingParams,
    rounding: Entropy | None,
) -> QuantizedVector:
    """What local steps led to, weighted, with the statistic lanes behind it, saturated and rounded.

    Args:
        rounding: of stochastic rounding; None = to nearest.
    """
    noised = np.concatenate([weight * update.delta, task.lanes.gain * update.lanes])
    return rounded(with_saturated(noised, manifest.saturation), ring, rounding)


def rounded(values: npt.NDArray[np.float64], ring: RingParams, rounding: Entropy | None) -> QuantizedVector:
    """`values` as ring elements; `rounding` as in `local_vector`."""
    if rounding is None:
        return quantize(values, ring)
    return quantize(values, ring, rounding="stochastic", entropy=rounding)


def noised_share(
    adapted: AdaptedModel, selection: Selection, patients: Sequence[EncodedPatient], task: LocalTask, source: Entropy,
    mechanism: Mechanism = PatientMechanism,
) -> npt.NDArray[np.uint32]:
    """uint32[d]: one draw's rounded patients and this site's share of the noise, modulo 2**32, in levels.

    The gradient's coordinates are turned round, so that the sum over sites is a direction of descent; a discrete
    Gaussian is symmetric. The statistic lanes behind them are not.
    """
    step = mechanism(adapted, selection, task, source)
    try:
        chosen = [step.samples_of(patients[index]) for index in step.draw(len(patients))]
        levels = step.noised_levels(step.clipped_sum([samples for samples in chosen if samples]))
    finally:
        step.close()
    np.negative(levels[: selection.size], out=levels[: selection.size])
    return ring_elements(levels)
