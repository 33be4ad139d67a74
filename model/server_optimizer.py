"""The sum of the sites' weighted updates -> the next adapter and optimiser state. numpy only, no torch, no crypto.

The coordinator computes it and every site computes it again, and both compare hashes, so every machine must get the
same bits. Therefore: elementwise float64 + - * / only (IEEE 754 binary64, rounded to nearest, each operation by
itself), then one rounding to float32. No reduction over an array, no BLAS, no fused operation; the few weights are
added one by one in the order of the site identifiers, because `sum` of Python 3.12 and later compensates and earlier
ones do not. It assumes that the process keeps subnormal numbers (no library may switch on flush-to-zero).

Each site multiplies its update by its manifest weight before it is quantised, so the sum is divided by the total
weight of the sites that are in it. Momentum is FedAvgM (Hsu et al., arXiv 1909.06335, section 4.3).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = [
    "STATE_BYTES", "NonFiniteUpdateError", "ServerOptimizer", "ServerState", "initial_velocity", "model_hash",
    "moving_average", "state_hash", "total_weight",
]

Vector = npt.NDArray[np.float64]
STATE_BYTES = 4 + 8 + 8  # a coordinate of the whole state: adapter, velocity, average


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


def total_weight(weights: Iterable[float]) -> float:
    """The weights added one by one in the order given, each addition rounded."""
    total = 0.0
    for weight in weights:
        total += weight
    return total


def model_hash(adapter: npt.NDArray[np.float32]) -> bytes:
    """SHA-256 (32 bytes) of an adapter float32[D]: a label, then its little-endian bytes."""
    return _hash(b"fedsecagg/1|model|", adapter.astype("<f4", copy=False))


def state_hash(velocity: Vector, average: Vector) -> bytes:
    """SHA-256 (32 bytes) of the optimiser's state, float64[D] each: a label, then their little-endian bytes."""
    return _hash(b"fedsecagg/1|state|", velocity.astype("<f8", copy=False), average.astype("<f8", copy=False))


def _hash(label: bytes, *arrays: npt.NDArray[np.floating]) -> bytes:
    digest = hashlib.sha256(label)
    for array in arrays:
        digest.update(array.size.to_bytes(8, "little"))
        digest.update(np.ascontiguousarray(array).data)
    return digest.digest()


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
        with np.errstate(over="ignore"):  # the next line says it
            result[indices] = moved.astype(np.float32)
        if not np.isfinite(result).all():
            raise NonFiniteUpdateError("the updated adapter is not finite; the run stops at its last checkpoint")
        return result, new_velocity


@dataclass(frozen=True, slots=True, eq=False)
class ServerState:
    """Everything that the next round is computed from.

    Args:
        adapter: float32[D], what is trained.
        velocity: float64[D], the server's momentum.
        average: float64[D], moving average of the adapters: what is evaluated and exported, never trained on.
        finished: how many rounds ended with a sum so far.
    """

    adapter: npt.NDArray[np.float32]
    velocity: Vector
    average: Vector
    finished: int

    @classmethod
    def initial(cls, adapter: Vector) -> ServerState:
        """Before the first round: the adapter as attached (float64[D]), no momentum, itself as the average."""
        return cls(adapter.astype(np.float32), initial_velocity(adapter.size), adapter, 0)

    @property
    def model_hash(self) -> bytes:
        """See :func:`model_hash`."""
        return model_hash(self.adapter)

    @property
    def state_hash(self) -> bytes:
        """See :func:`state_hash`."""
        return state_hash(self.velocity, self.average)

    def after(
        self, indices: npt.NDArray[np.int64], update_sum: Vector, weight: float, *, optimizer: ServerOptimizer,
        average_decay: float,
    ) -> ServerState:
        """The state after one more round; arguments as in :meth:`ServerOptimizer.step`. Raises NonFiniteUpdateError."""
        adapter, velocity = optimizer.step(self.adapter, self.velocity, indices, update_sum, weight)
        average = moving_average(self.average, adapter, self.finished, average_decay)
        return ServerState(adapter, velocity, average, self.finished + 1)

    def packed(self) -> npt.NDArray[np.uint8]:
        """uint8[20 D]: adapter, velocity and average one after the other, little-endian."""
        parts = (self.adapter.astype("<f4", copy=False), self.velocity.astype("<f8", copy=False),
                 self.average.astype("<f8", copy=False))
        return np.concatenate([np.ascontiguousarray(part).view(np.uint8) for part in parts])

    @classmethod
    def unpacked(cls, data: npt.NDArray[np.uint8], size: int, finished: int) -> ServerState:
        """The inverse of `packed` for D = `size`. Raises ValueError for another type or length."""
        if data.dtype != np.uint8 or data.shape != (STATE_BYTES * size,):
            raise ValueError(f"a packed state of {size} coordinates must be uint8[{STATE_BYTES * size}]")
        data = np.ascontiguousarray(data)
        first, second = 4 * size, 12 * size
        return cls(
            np.frombuffer(data[:first].tobytes(), "<f4").astype(np.float32),
            np.frombuffer(data[first:second].tobytes(), "<f8").astype(np.float64),
            np.frombuffer(data[second:].tobytes(), "<f8").astype(np.float64), finished)
