"""The sum of the sites' weighted updates -> the next adapter. Elementwise float64 arithmetic only; no crypto.

Each site multiplies its update by its manifest weight before it is quantised, so the coordinator divides the sum
by the total weight of the sites that are in it. Momentum is FedAvgM (Hsu et al., arXiv 1909.06335, section 4.3).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["NonFiniteUpdateError", "ServerOptimizer", "initial_velocity", "moving_average"]

Vector = npt.NDArray[np.float64]


class NonFiniteUpdateError(RuntimeError):
    """The sum or the adapter that it leads to is not finite; the run stops and the last checkpoint stays."""


def moving_average(average: Vector, adapter: npt.NDArray[np.float32], rounds: int, decay: float) -> Vector:
    """Average float64[D] of the adapters so far, exponential with `decay` once `rounds` (before this one) allow it.

    Post-processing of noised sums, so it costs no privacy; it takes out part of the noise of single rounds (De et al.,
    arXiv 2204.13650, section 3.4). With few rounds it is their plain mean; `decay` 0 is the last adapter.
    """
    weight = min(decay, rounds / (rounds + 1))
    return weight * average + (1.0 - weight) * adapter.astype(np.float64)


def initial_velocity(size: int) -> Vector:
    """Zero momentum for an adapter of `size` coordinates."""
    return np.zeros(size, dtype=np.float64)


@dataclass(frozen=True, slots=True)
class ServerOptimizer:
    """Heavy-ball momentum on the mean update: v <- momentum v + mean ; adapter <- adapter + learning_rate v."""

    learning_rate: float = 1.0
    momentum: float = 0.0

    def step(
        self, adapter: npt.NDArray[np.float32], velocity: Vector, indices: npt.NDArray[np.int64], update_sum: Vector,
        total_weight: float,
    ) -> tuple[npt.NDArray[np.float32], Vector]:
        """The next (adapter float32[D], velocity float64[D]).

        Args:
            adapter: all D adapter coordinates before the round.
            velocity: momentum of all D coordinates; only those of this round's factor change.
            indices: int64[d], which coordinates `update_sum` covers.
            update_sum: float64[d], sum over sites of weight times update.
            total_weight: sum of the weights of the sites in the sum.

        Raises:
            NonFiniteUpdateError: a coordinate of the sum or of the result is not finite.
        """
        if not (total_weight > 0 and np.isfinite(update_sum).all()):
            raise NonFiniteUpdateError("the aggregated update is not finite; the run stops at its last checkpoint")
        new_velocity = velocity.copy()
        new_velocity[indices] = self.momentum * velocity[indices] + update_sum / total_weight
        result = adapter.copy()
        moved = adapter[indices].astype(np.float64) + self.learning_rate * new_velocity[indices]
        result[indices] = moved.astype(np.float32)
        if not np.isfinite(result).all():
            raise NonFiniteUpdateError("the updated adapter is not finite; the run stops at its last checkpoint")
        return result, new_velocity
