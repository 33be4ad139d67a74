"""From the drawn patients to the ring vector that is masked: one round's training, in either mode of noise.

Local noise: DP-SGD steps, the weighted update, saturation, rounding. Distributed noise: one sum of rounded patients and
this site's share of the noise, and nothing after it: the vector is neither clipped again nor saturated.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from model.adapted import AdaptedModel
from model.adapter import Selection
from privacy.entropy import Entropy
from privacy.messages import RunManifest
from privacy.secagg.params import RingParams
from privacy.secagg.quantize import QuantizedVector, quantize
from privacy.statistics import with_saturated
from site_client.mechanism import EncodedPatient, LocalTask, PatientMechanism
from site_client.training import Mechanism, run_local_steps

__all__ = ["noised_share", "trained_vector"]


def trained_vector(
    adapted: AdaptedModel, selection: Selection, patients: Sequence[EncodedPatient], task: LocalTask,
    manifest: RunManifest, weight: float, ring: RingParams, source: Entropy, rounding: Entropy | None,
    mechanism: Mechanism = PatientMechanism,
) -> QuantizedVector:
    """This round's vector, its budget reserved already.

    Args:
        weight: this site's, of local noise; with distributed noise every site has weight 1.
        source: of draw and noise. rounding: of stochastic rounding, None = to nearest.
    """
    if task.share is not None:
        return QuantizedVector(noised_share(adapted, selection, patients, task, source, mechanism), ring)
    update = run_local_steps(adapted, selection, patients, task, source, mechanism)
    noised = with_saturated(
        np.concatenate([weight * update.delta, task.lanes.gain * update.lanes]), manifest.saturation)
    if rounding is None:
        return quantize(noised, ring)
    return quantize(noised, ring, rounding="stochastic", entropy=rounding)


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
        released = step.release(step.clipped_sum([samples for samples in chosen if samples]))
    finally:
        step.close()
    levels = released.astype(np.int64)
    np.negative(levels[: selection.size], out=levels[: selection.size])
    return (levels & np.int64(2**32 - 1)).astype(np.uint32)
