"""How far the engine is from a loop over patients in float64."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks._arms import Ours
from benchmarks._grid import Point
from benchmarks._workload import Batch, build, make_batch, patient_losses, replica, trainable
from privacy.dp.clipping import SLACK

__all__ = ["Deviation", "deviations"]

_UNBOUNDED = 1e9  # a clip norm that no patient reaches


@dataclass(frozen=True)
class Deviation:
    """Largest relative errors at one point: of a patient's gradient norm, and of the clipped sum (L2)."""

    point: Point
    arm: str
    dtype: str
    norm: float
    clipped_sum: float

    @property
    def worst(self) -> float:
        """The larger of the two."""
        return max(self.norm, self.clipped_sum)


def deviations(point: Point, arms: Sequence[type[Ours]], device: str, attention: str) -> list[Deviation]:
    """Each arm's error in float32 and in float64 against the float64 loop, with the same weights.

    The clip norm is the median of the patients' norms, so that some are clipped and some are not.
    """
    single = build(point, device, "float32", attention)
    double = build(point, device, "float64", attention)
    double.load_state_dict(single.state_dict())
    batch = make_batch(point, device)
    reference = _loop(double, batch)
    norms = reference.norm(dim=1)
    bound = float(norms.median())
    # The engine clips to C (1 - SLACK), which leaves room for rounding; so does the reference.
    expected = (reference * torch.clamp(bound * (1 - SLACK) / norms, max=1)[:, None]).sum(dim=0).numpy()
    found = []
    for arm in arms:
        for dtype, adapted in (("float32", single), ("float64", double)):
            total = _attached(arm, adapted, point, batch, bound).clipped_sum().vector
            own = _norms(_attached(arm, adapted, point, batch, _UNBOUNDED))
            norm_error = float(np.abs(own / norms.numpy() - 1).max())
            sum_error = float(np.linalg.norm(total - expected) / np.linalg.norm(expected))
            found.append(Deviation(point, arm.name, dtype, norm_error, sum_error))
    return found


def _loop(adapted: nn.Module, batch: Batch) -> Tensor:
    """float64 (P, D) on the CPU: each patient alone through plain autograd."""
    own = replica(adapted)
    rows = []
    for patient in range(batch.num_patients):
        own.zero_grad(set_to_none=True)
        patient_losses(own, batch.alone(patient)).sum().backward()
        rows.append(torch.cat([p.grad.flatten() for _, p in trainable(own) if p.grad is not None]).cpu())
    return torch.stack(rows)


def _attached(arm: type[Ours], adapted: nn.Module, point: Point, batch: Batch, clip_norm: float) -> Ours:
    ours = arm(adapted, point, batch)
    ours.clip_norm = clip_norm
    ours.attach()
    return ours


def _norms(ours: Ours) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """The norm of each patient's gradient in the full batch: only that patient's loss has weight."""
    weights = torch.eye(ours.batch.num_patients, device=ours.batch.ids.device)
    return np.array([np.linalg.norm(ours.clipped_sum(row).vector) for row in weights])
