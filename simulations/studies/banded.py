"""Correlated noise for local noise: a banded matrix instead of independent draws, at equal epsilon. A study only.

Choquette-Choo, Ganesh, McKenna, McMahan, Rush, Thakurta and Xu, (Amplified) banded matrix factorization, NeurIPS 2023,
arXiv 2306.08153: step t is released with the noise (C^-1 Z)_t, where C is lower triangular with `bands` bands and
columns of norm at most one and Z is independent. Patients are cut into as many groups as there are bands, by something
that is not their data; step t draws from group t modulo `bands` alone, at `bands` times the sampling rate. Each patient
then meets columns that overlap nowhere, and the whole is worth steps / bands Poisson-subsampled Gaussian steps of that
rate (their section 4). C is Toeplitz here, with coefficients that minimise the mean squared error of the iterates.

Each LoRA factor has coordinates, steps and noise of its own; a factor's rounds go on with its site's earlier noise.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize

from model.adapted import AdaptedModel
from model.adapter import Selection
from privacy.dp.accounting import ReleaseEvent, calibrate
from privacy.dp.clipping import ClippedSum
from privacy.dp.noise import noisy_sum
from privacy.dp.sampling import poisson_draw
from privacy.entropy import Entropy
from simulations.studies.batched import BatchedMechanism
from site_client.mechanism import LocalTask

__all__ = ["BandedSites", "coefficients", "error", "event_of", "matched", "response"]

Vector = npt.NDArray[np.float64]


def response(steps: int, momentum: float) -> Vector:
    """float64[steps]: how far a unit of gradient has moved the iterate so many steps later, with momentum."""
    return (1 - momentum ** np.arange(1, steps + 1)) / (1 - momentum)


def error(bands: Sequence[float] | Vector, moved: Vector) -> float:
    """Root of the summed squared error of all iterates for noise of multiplier 1, with columns of norm 1."""
    wide = np.asarray(bands, dtype=np.float64)
    wide = wide / np.linalg.norm(wide)
    noise = np.convolve(moved, _inverse(wide, moved.size))[: moved.size]
    return math.sqrt(float(np.dot(moved.size - np.arange(moved.size), noise * noise)))


@lru_cache(maxsize=64)
def coefficients(bands: int, steps: int, momentum: float) -> tuple[float, ...]:
    """The first column of C, of norm 1, for `steps` steps of one factor; (1.0,) is independent noise."""
    if not 1 <= bands <= steps:
        raise ValueError(f"bands must lie between 1 and the {steps} steps, not {bands}")
    moved = response(steps, momentum)
    begin = np.array([0.5 * math.comb(2 * j, j) / 4**j for j in range(1, bands)])
    found = np.r_[1.0, minimize(lambda rest: math.log(error(np.r_[1.0, rest], moved)), begin, method="L-BFGS-B",
                                bounds=[(-0.99, 2.0)] * (bands - 1)).x] if bands > 1 else np.ones(1)
    return tuple((found / np.linalg.norm(found)).tolist())


def event_of(bands: int, rate: float, steps: int, noise_multiplier: float = 1.0) -> ReleaseEvent:
    """What `steps` steps with that many bands cost each patient."""
    if steps % bands or bands * rate > 1:
        raise ValueError(f"{bands} bands need a multiple of so many steps, and a rate of at most 1 in {bands}")
    return ReleaseEvent(bands * rate, noise_multiplier, steps // bands)


def matched(bands: int, rate: float, steps: int, epsilon: float, delta: float) -> float:
    """The noise multiplier that meets `epsilon` at `delta`."""
    return calibrate([event_of(bands, rate, steps)], epsilon, delta)


def _inverse(bands: Vector, size: int) -> Vector:
    """First column of the inverse of the Toeplitz matrix, float64[size]."""
    found = np.zeros(size)
    found[0] = 1.0 / bands[0]
    for row in range(1, size):
        reach = min(row, bands.size - 1)
        found[row] = -float(np.dot(bands[1 : reach + 1], found[row - reach : row][::-1])) / bands[0]
    return found


@dataclass
class _Memory:
    """Of one site: steps so far, and each factor's newest noise, the latest first."""

    steps: int = 0
    noise: dict[tuple[int, int], list[Vector]] = field(default_factory=dict)


class BandedSites:
    """Makes the mechanisms of `sites` sites that are asked in the same order in every round.

    Args:
        column: first column of C, see `coefficients`.
    """

    def __init__(self, sites: int, column: Sequence[float]) -> None:
        self._memories, self._column, self._calls = [_Memory() for _ in range(sites)], tuple(column), 0

    def __call__(self, adapted: AdaptedModel, selection: Selection, task: LocalTask, entropy: Entropy) -> Any:
        """The next site's mechanism for one round."""
        memory = self._memories[self._calls % len(self._memories)]
        self._calls += 1
        return _Banded(adapted, selection, task, entropy, memory, self._column)


class _Banded(BatchedMechanism):
    def __init__(self, adapted: AdaptedModel, selection: Selection, task: LocalTask, entropy: Entropy,
                 memory: _Memory, column: tuple[float, ...]) -> None:
        super().__init__(adapted, selection, task, entropy)
        self._memory, self._column = memory, column
        self._past = memory.noise.setdefault((selection.size, int(selection.indices[0])), [])

    def draw(self, num_patients: int) -> npt.NDArray[np.int64]:
        """From the step's group only; patients are in an order that is not from their data."""
        bands = len(self._column)
        group = np.arange(self._memory.steps % bands, num_patients, bands, dtype=np.int64)
        self._memory.steps += 1
        return group[poisson_draw(self._entropy, group.size, bands * self._task.stage.sampling_rate)]

    def release(self, clipped: ClippedSum) -> Vector:
        """The sum with this step's row of C^-1 Z."""
        fresh = noisy_sum(clipped, self._task.stage.noise_multiplier, self._entropy) - clipped.vector
        for coefficient, earlier in zip(self._column[1:], self._past, strict=False):
            fresh -= coefficient * earlier
        fresh /= self._column[0]
        self._past.insert(0, fresh)
        del self._past[len(self._column) - 1 :]
        return clipped.vector + fresh
