"""The sum of the sites' weighted updates -> the next adapter and optimiser state. numpy only, no torch, no crypto.

The coordinator computes it and every site computes it again, and both compare hashes, so every machine must get the
same bits. Therefore: elementwise float64 + - * / only (IEEE 754 binary64, rounded to nearest, each operation by
itself), then one rounding to float32. No reduction over an array, no BLAS, no fused operation; the few weights are
added one by one in the order of the site identifiers, because `sum` of Python 3.12 and later compensates and earlier
ones do not. It assumes that the process keeps subnormal numbers (no library may switch on flush-to-zero).

Each site multiplies its update by its manifest weight before it is quantised, so the sum is divided by the total
weight of the sites that are in it. Momentum is FedAvgM (Hsu et al., arXiv 1909.06335, section 4.3). Adam (Kingma and
Ba, ICLR 2015, algorithm 1) is for sums of gradients with distributed noise: one step a sum, with the bias correction of
a coordinate's own number of steps, since alternating factors are updated in different rounds.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

__all__ = [
    "STATE_BYTES", "NonFiniteUpdateError", "Rule", "ServerOptimizer", "ServerState", "initial_velocity", "model_hash",
    "moving_average", "state_hash", "total_weight",
]

Vector = npt.NDArray[np.float64]
Rule = Literal["momentum", "adam", "adam-bc"]
STATE_BYTES = 4 + 8 + 8  # a coordinate of the whole state: adapter, velocity, average
_ADAM_BYTES = STATE_BYTES + 8 + 8  # for Adam the velocity is first moment, second moment and number of steps
_ADAM_EPSILON = 1e-8
_MOST_STEPS = 10**7
_BLOCK = 1 << 15  # coordinates of Adam's step at a time: what it computes them from stays in the processor's cache
_BC_FLOOR = 0.01  # of the noise's variance, under the corrected second moment


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
    """One step on the mean update u: heavy-ball momentum, v <- momentum v + u ; adapter <- adapter + learning_rate v;
    or Adam, m <- momentum m + (1 - momentum) u ; s <- second_decay s + (1 - second_decay) u**2 ;
    adapter <- adapter + learning_rate m^ / (sqrt(s^) + 1e-8), m^ and s^ being corrected for their start at zero.

    Args:
        rule: "momentum", "adam", or "adam-bc" (DP-AdamBC: Tang, Shpilevskiy and Lecuyer, AAAI 2024, arXiv 2312.14334,
            algorithm 1), where s adds up u**2 - `noise_variance` and sqrt(max(s^, 0.01 noise_variance)) divides.
        noise_variance: of a coordinate of this mean update; known beforehand.
    """

    learning_rate: float = 1.0
    momentum: float = 0.0
    rule: Rule = "momentum"
    second_decay: float = 0.999
    noise_variance: float = 0.0

    def step(
        self, adapter: npt.NDArray[np.float32], velocity: Vector, indices: npt.NDArray[np.int64], update_sum: Vector,
        total_weight: float,
    ) -> tuple[npt.NDArray[np.float32], Vector]:
        """The next (adapter float32[D], velocity float64[D], or float64[3 D] for Adam).

        Args:
            adapter: all D adapter coordinates before the round.
            velocity: the optimiser's memory of all D coordinates; only those of this round's factor change. Adam's may
                be the D zeros of `initial_velocity` before the first step.
            indices: int64[d], which coordinates `update_sum` covers.
            update_sum: float64[d], sum over sites of weight times update.
            total_weight: what the sum is divided by.

        Raises:
            NonFiniteUpdateError: a coordinate of the sum or of the result is not finite.
            ValueError: a memory of another length.
        """
        if not (total_weight > 0 and np.isfinite(update_sum).all()):
            raise NonFiniteUpdateError("the aggregated update is not finite; the run stops at its last checkpoint")
        mean = update_sum / total_weight
        if self.rule == "momentum":
            new_velocity, moved = self._heavy_ball(velocity, indices, mean)
        else:
            new_velocity, moved = self._adam(velocity, adapter.size, indices, mean)
        result = adapter.copy()
        moved = adapter[indices].astype(np.float64) + self.learning_rate * moved
        with np.errstate(over="ignore"):  # the next line says it
            result[indices] = moved.astype(np.float32)
        if not np.isfinite(result).all():
            raise NonFiniteUpdateError("the updated adapter is not finite; the run stops at its last checkpoint")
        return result, new_velocity

    def _heavy_ball(self, velocity: Vector, indices: npt.NDArray[np.int64], mean: Vector) -> tuple[Vector, Vector]:
        new = velocity.copy()
        new[indices] = self.momentum * velocity[indices] + mean
        return new, new[indices]

    def _adam(
        self, memory: Vector, size: int, indices: npt.NDArray[np.int64], mean: Vector
    ) -> tuple[Vector, Vector]:
        """The next memory float64[3 D], and the step float64[d] for a learning rate of 1."""
        if memory.size == size and not memory.any():
            memory = np.zeros(3 * size)
        if memory.size != 3 * size:
            raise ValueError(f"Adam's memory of {size} coordinates has {3 * size} numbers, not {memory.size}")
        new, moved = memory.copy(), np.empty(indices.size)
        steps = memory[2 * size + indices] + 1.0
        if not 1 <= steps.min(initial=1.0) <= steps.max(initial=1.0) <= _MOST_STEPS:
            raise ValueError("Adam's memory counts steps that no run can have")
        most = int(steps.max(initial=0.0))
        first_parts, second_parts = _debias(self.momentum, most), _debias(self.second_decay, most)
        for begin in range(0, indices.size, _BLOCK):
            here = slice(begin, begin + _BLOCK)
            moved[here] = self._adam_block(new, size, indices[here], mean[here], steps[here], first_parts, second_parts)
        return new, moved

    def _adam_block(
        self, new: Vector, size: int, indices: npt.NDArray[np.int64], mean: Vector, steps: Vector, first_parts: Vector,
        second_parts: Vector,
    ) -> Vector:
        """The step float64[b] of some coordinates, whose memory in `new` moves on; few enough to stay in a cache."""
        noise = self.noise_variance if self.rule == "adam-bc" else 0.0
        first = self.momentum * new[indices] + (1.0 - self.momentum) * mean
        second = self.second_decay * new[size + indices] + (1.0 - self.second_decay) * (mean * mean - noise)
        new[indices], new[size + indices], new[2 * size + indices] = first, second, steps
        number = steps.astype(np.int64)
        direction, square = first / first_parts[number], second / second_parts[number]
        if self.rule == "adam":
            return direction / (np.sqrt(square) + _ADAM_EPSILON)
        return direction / np.sqrt(np.maximum(square, max(_BC_FLOOR * noise, _ADAM_EPSILON * _ADAM_EPSILON)))


def _debias(decay: float, most: int) -> Vector:
    """1 - decay**t for t = 0..`most`, float64[most + 1], from products that are alike on every machine."""
    powers = [1.0]
    for _ in range(most):
        powers.append(powers[-1] * decay)
    return 1.0 - np.array(powers)


@dataclass(frozen=True, slots=True, eq=False)
class ServerState:
    """Everything that the next round is computed from.

    Args:
        adapter: float32[D], what is trained.
        velocity: float64[D], the server's momentum; float64[3 D] for Adam after its first step.
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
        """uint8[20 D], or uint8[36 D] with Adam: adapter, velocity and average one after the other, little-endian."""
        parts = (self.adapter.astype("<f4", copy=False), self.velocity.astype("<f8", copy=False),
                 self.average.astype("<f8", copy=False))
        return np.concatenate([np.ascontiguousarray(part).view(np.uint8) for part in parts])

    @classmethod
    def unpacked(cls, data: npt.NDArray[np.uint8], size: int, finished: int) -> ServerState:
        """The inverse of `packed` for D = `size`. Raises ValueError for another type or length."""
        if data.dtype != np.uint8 or data.shape not in ((STATE_BYTES * size,), (_ADAM_BYTES * size,)):
            raise ValueError(f"a packed state of {size} coordinates must be uint8[{STATE_BYTES * size}], or "
                             f"uint8[{_ADAM_BYTES * size}] with Adam")
        data = np.ascontiguousarray(data)
        first, second = 4 * size, data.size - 8 * size
        return cls(
            np.frombuffer(data[:first].tobytes(), "<f4").astype(np.float32),
            np.frombuffer(data[first:second].tobytes(), "<f8").astype(np.float64),
            np.frombuffer(data[second:].tobytes(), "<f8").astype(np.float64), finished)
