"""Optimisers of the local steps: pure functions of noised sums, so what they keep costs no privacy.

Numbers are float64. State lives for one round: the next round starts from the aggregate, and with alternating factors
it trains other coordinates. A site that was away needs nothing from earlier rounds.

What is known about the choices. A stage has no weight decay, so "adamw" is DP-Adam and "adamw-bc" is DP-AdamBC. Tang
et al. (AAAI 2024) report up to 3.5 points of accuracy for DP-AdamBC over DP-Adam. With decay, DP-AdamW was ahead of
both and the correction consistently lowered its accuracy (DP-AdamW-BC; Chooi et al., arXiv 2511.07843). Try both on
public data before a private run, and expect learning rates far below those of SGD: an Adam step has the size of its
rate.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
import numpy.typing as npt

from privacy.messages import StageSpec

__all__ = ["AdamW", "LocalOptimizer", "MomentumSgd", "local_optimizer"]

Vector = npt.NDArray[np.float64]


class LocalOptimizer(Protocol):
    """One round's optimiser at one site."""

    def step(self, position: Vector, gradient: Vector, noise_std: float) -> Vector:
        """The next position float64[d] from a noised mean gradient whose noise has `noise_std` a coordinate."""


class MomentumSgd:
    """v <- m v + g, x <- x - lr v (Polyak, 1964); with m = 0 the step of Abadi et al., CCS 2016, algorithm 1."""

    def __init__(self, size: int, learning_rate: float, momentum: float) -> None:
        self._rate = learning_rate
        self._momentum = momentum
        self._velocity = np.zeros(size)

    def step(self, position: Vector, gradient: Vector, noise_std: float) -> Vector:
        """As `LocalOptimizer.step`; the noise level is not used."""
        self._velocity = self._momentum * self._velocity + gradient
        return position - self._rate * self._velocity


class AdamW:
    """DP-AdamW: Adam on noised gradients (Kingma and Ba, ICLR 2015, algorithm 1), decay apart from the gradient
    (Loshchilov and Hutter, ICLR 2019, algorithm 2).

    With `correct_noise` it is DP-AdamBC (Tang, Shpilevskiy and Lecuyer, AAAI 2024, arXiv 2312.14334, algorithm 1),
    DP-AdamW-BC with decay: noise adds its variance Phi = (sigma C / B)**2 to the second moment, which is known and
    taken off again, x <- x - lr m^ / sqrt(max(v^ - Phi, gamma')). B is the expected number of patients here.

    Args:
        size: d. learning_rate: lr. weight_decay: lambda of x <- x - lr lambda x.
        correct_noise: subtract Phi.
    """

    BETAS = (0.9, 0.999)
    EPSILON = 1e-8
    FLOOR = 0.01
    """gamma' as a share of Phi. The paper's gamma' is an absolute number that is tuned; ours has no unit."""

    def __init__(
        self, size: int, learning_rate: float, *, weight_decay: float = 0.0, correct_noise: bool = False
    ) -> None:
        self._rate = learning_rate
        self._decay = weight_decay
        self._correct = correct_noise
        self._first, self._second = np.zeros(size), np.zeros(size)
        self._noise = 0.0  # the part of the second moment that is noise; an average, for its level may change
        self._steps = 0

    def step(self, position: Vector, gradient: Vector, noise_std: float) -> Vector:
        """As `LocalOptimizer.step`."""
        one, two = self.BETAS
        self._steps += 1
        self._first = one * self._first + (1 - one) * gradient
        self._second = two * self._second + (1 - two) * gradient**2
        self._noise = two * self._noise + (1 - two) * noise_std**2
        debias = 1 - two**self._steps
        mean, square = self._first / (1 - one**self._steps), self._second / debias
        change = mean / self._spread(square, self._noise / debias)
        return position - self._rate * (change + self._decay * position)

    def _spread(self, square: Vector, noise: float) -> Vector:
        if not self._correct:
            return np.sqrt(square) + self.EPSILON
        return np.sqrt(np.maximum(square - noise, max(self.FLOOR * noise, self.EPSILON**2)))


def local_optimizer(stage: StageSpec, size: int) -> LocalOptimizer:
    """The optimiser that the manifest's stage names, for `size` coordinates, at rest."""
    if stage.optimizer == "sgd":
        return MomentumSgd(size, stage.learning_rate, stage.momentum)
    return AdamW(size, stage.learning_rate, correct_noise=stage.optimizer == "adamw-bc")
