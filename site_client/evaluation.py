"""One evaluation at a site: the current model's loss on its validation patients, noised before anything else is done.

The ledger has the release before a patient is read. Each patient is computed alone, so that a patient's loss is a
function of that patient and the model; one whose samples fail counts with the largest loss. Everything after the noise
(mean, comparison with the gate's threshold, fail bit) is post-processing.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch

from model.adapted import AdaptedModel
from model.inputs import Encoded, collate
from model.loss import answer_losses
from privacy.dp.validation import released, validation_sum
from privacy.entropy import Entropy
from privacy.gates import EvaluationScale
from privacy.manifest import StageSpec
from site_client.mechanism import EncodedPatient, require_devices

__all__ = ["evaluate_patients", "patient_losses"]

_log = logging.getLogger(__name__)
Vector = npt.NDArray[np.float64]


def evaluate_patients(
    adapted: AdaptedModel, patients: Sequence[EncodedPatient], stage: StageSpec, scale: EvaluationScale,
    entropy: Entropy, *, private: bool,
) -> Vector:
    """The evaluation's lanes, float64[3] (`privacy.gates`), of the model as it is.

    Args:
        patients: the validation patients; their release is booked already.
        private: False only in runs without privacy: the same bounds, no noise.
    """
    total = validation_sum(patient_losses(adapted, patients, stage), scale.terms.loss_cap)
    if total.num_nonfinite_local:
        _log.warning("patients that counted with the largest loss=%d", total.num_nonfinite_local)
    noised = released(total, scale.terms.noise_multiplier, entropy) if private else total.vector
    return scale.lanes(noised)


def patient_losses(adapted: AdaptedModel, patients: Sequence[EncodedPatient], stage: StageSpec) -> Vector:
    """Mean loss of each patient's samples in nats, float64[P]; NaN where they fail. Who has no sample is left out.

    Of each source the stage's number of samples, the first ones: the same at every evaluation.
    """
    chosen = ([sample for share in stage.sources for sample in patient.get(share.source, ())[: share.max_samples]]
              for patient in patients)
    return np.array([_loss(adapted, samples) for samples in chosen if samples], dtype=np.float64)


def _loss(adapted: AdaptedModel, samples: Sequence[Encoded]) -> float:
    """One patient's; its samples one by one, so that its length decides nothing for others."""
    try:
        with torch.no_grad():
            losses = [float(answer_losses(adapted.model, collate([one]).to(adapted.device)).loss) for one in samples]
        return math.fsum(losses) / len(losses)
    except Exception as error:  # it must not leave the site
        kind = type(error).__name__
    _log.warning("a validation patient failed kind=%s", kind)
    require_devices(adapted)
    return math.nan
