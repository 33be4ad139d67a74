"""One run of the whole mechanism, audited: every patient is a canary with its own coordinate.

Steinke, Nasr and Jagielski (NeurIPS 2023, arXiv 2305.08846) score canaries in one run; for this exactly Gaussian
mechanism two standard scores on the same run say more: a patient in the draw adds at most C on average, and
coordinates of those not drawn have variance (noise_multiplier C)**2.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import torch
from torch import nn

from privacy.dp.engine import PatientGradients
from privacy.dp.noise import noisy_sum
from privacy.dp.sampling import poisson_draw
from privacy.entropy import SystemEntropy

PATIENTS, STEPS, RATE, NOISE, C = 400, 12, 0.25, 2.0, 0.7


def audit(*, clip_by: float = 1.0, noise_by: float = 1.0, reuse: bool = False) -> dict[str, float]:
    """Standard scores of one run; the arguments break the mechanism."""
    torch.manual_seed(0)
    layer = nn.Linear(PATIENTS, 1, bias=False)
    engine = PatientGradients(layer, [("weight", layer.weight)], clip_norm=C * clip_by)
    entropy = SystemEntropy()
    inside, outside, previous = [], [], None
    for _ in range(STEPS):
        drawn = poisson_draw(entropy, PATIENTS, RATE)
        for part in np.array_split(drawn, 4):
            if len(part):
                # Two rows a patient, each far above the clip norm along the patient's own coordinate.
                rows = torch.arange(len(part)).repeat_interleave(2)
                canaries = 50 * torch.eye(PATIENTS)[part][rows].unsqueeze(1)
                with engine.microbatch(text_patients=rows, image_patients=rows[:0], num_patients=len(part)):
                    layer(canaries).sum().backward()
                engine.collect()
        total = dataclasses.replace(engine.finish(), l2_bound=C)
        released = noisy_sum(total, NOISE * noise_by, entropy)
        if reuse:
            noise = released - total.vector if previous is None else previous
            released, previous = total.vector + noise, noise
        mask = np.isin(np.arange(PATIENTS), drawn)
        inside.append(released[mask])
        outside.append(np.where(mask, np.nan, released))
    std, canary, rest = NOISE * C, np.concatenate(inside), np.array(outside)
    silent = rest[~np.isnan(rest)]
    pairs = (rest[:-1] * rest[1:])[~np.isnan(rest[:-1] * rest[1:])]
    return {
        "mean above C": (canary.mean() - C) / (std / np.sqrt(canary.size)),
        "noise variance": ((silent / std) ** 2 - 1).sum() / np.sqrt(2 * silent.size),
        "steps correlated": pairs.sum() / std**2 / np.sqrt(pairs.size),
    }


def test_the_mechanism_passes():
    scores = audit()
    assert scores["mean above C"] < 5
    assert abs(scores["noise variance"]) < 5
    assert abs(scores["steps correlated"]) < 5


def test_each_fault_is_caught():
    assert audit(clip_by=2.0)["mean above C"] > 5
    assert audit(noise_by=0.8)["noise variance"] < -5
    assert audit(reuse=True)["steps correlated"] > 20
