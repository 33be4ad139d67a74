"""Whether 16 bits are enough: the rounding of the compact ring must vanish in the noise that a site adds anyway.

*Guarantees.* Where `too_narrow` is False, the rounding adds at most 1 % to the noise variance of every uploaded
coordinate, in every stage: (1/6) / s^2 <= u^2 / 100, that is s u >= 4.08, with s the ring's power-of-two scale and u
the standard deviation of the noise. As n c s < 2^15 in a 16-bit ring, this implies n * 4.08 * c / u <= 2^15. It is
computed from the manifest alone, so site and coordinator find the same. (1/6 is the mean variance of stochastic
rounding; that of rounding to nearest is 1/12.)

*Assumes.* The site trains as `site_client.training` does: plain or momentum SGD on sums with a fixed clip.

*Does not cover.* An adaptive clip and Adam, whose noise per coordinate the manifest does not fix: 16 bits count as too
few for them. Privacy: rounding comes after the noise and changes no epsilon. Saturation.
"""

from __future__ import annotations

import math

from privacy.gates import evaluation_scale, expected_patients
from privacy.manifest import RunManifest, StageSpec
from privacy.secagg.params import ring_params
from privacy.statistics import lane_scale

__all__ = ["coordinate_noise", "too_narrow"]

_STEPS_PER_NOISE = math.sqrt(100 / 6)


def coordinate_noise(manifest: RunManifest, stage: int, site_id: str) -> float:
    """u: the smallest standard deviation of the noise on a coordinate that the site uploads in this stage.

    Of a coordinate of the adapter u = w lr z C / (q n) sqrt(sum_{i=1..T} ((1 - m^i) / (1 - m))^2), for the noise of
    the i-th last of T steps with momentum m is added 1 + m + ... + m^(i-1) times; of a statistic g z C sqrt(T); of an
    evaluation g z, with that round's gain and noise (its fail bit is exact in any ring). 0 where the manifest does not
    fix it.
    """
    spec, terms = manifest.stages[stage], manifest.terms(site_id)
    if spec.optimizer != "sgd" or spec.adaptive_clip is not None:
        return 0.0
    noise = spec.noise_multiplier * manifest.clip_norm
    mean = noise / expected_patients(manifest, spec, terms)
    delta = terms.weight * spec.learning_rate * mean * _momentum_gain(spec)
    lanes = [lane_scale(manifest, stage).gain * noise * math.sqrt(spec.local_steps)]
    if spec.evaluation is not None:
        lanes.append(evaluation_scale(manifest, stage).gain * spec.evaluation.noise_multiplier)
    return min(delta, *lanes)


def _momentum_gain(spec: StageSpec) -> float:
    total = reach = 0.0
    for _ in range(spec.local_steps):
        reach = 1 + spec.momentum * reach
        total += reach * reach
    return math.sqrt(total)


def too_narrow(manifest: RunManifest, max_summands: int, site_id: str) -> bool:
    """Whether this run's ring is too narrow for the site's noise. Only a private run on 16 bits can be.

    Args:
        max_summands: the size of the roster.
    """
    if manifest.bits != 16 or manifest.privacy == "none":
        return False
    try:
        scale = ring_params(manifest.bits, manifest.saturation, max_summands).scale
    except ValueError:  # the roster is too large for this ring
        return True
    noise = min(coordinate_noise(manifest, stage, site_id) for stage in range(len(manifest.stages)))
    return scale * noise < _STEPS_PER_NOISE
