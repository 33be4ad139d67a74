"""Epsilon of a list of releases, and the noise that meets a target.

*Guarantees.*
    * `epsilon` is an upper bound: privacy loss distributions are discretised pessimistically (Doroshenko et
      al., PoPETs 2022, arXiv 2207.04380) at 1e-3, composed by convolution (Koskela et al., AISTATS 2020).
    * `epsilon_rdp` is an independent and looser bound (Mironov et al., arXiv 1908.10530); a test keeps it
      above the first. A spend too large for the grid is answered with it.
    * `calibrate` never returns noise whose `epsilon` is above the target.

*Assumes.*
    * Add/remove one patient; Poisson subsampling with each event's rate; noise of `noise_multiplier` times
      the clip norm; sensitivity at most the clip norm.
    * The schedule is fixed before the first release. Rounds that stop early spend less than was planned, but
      parameters chosen by looking at earlier releases are outside the composition theorem used here.

*Does not cover.*
    * Sampling of a fixed size, shuffled batches, replace-one neighbours (about twice the epsilon).
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

__all__ = ["DISCRETISATION", "ReleaseEvent", "calibrate", "epsilon", "epsilon_rdp"]

# Spends beyond these (noise below 0.2, or a loss of 10^4) are answered by the Renyi bound.
_REACH_NOISE = 0.2
_REACH_LOSS = 2e4
# Width of a bucket of the privacy loss: epsilon at 1e-4 differs by under 0.1 %, and takes ten times as long.
DISCRETISATION = 1e-3
_TOLERANCE = 1e-3
_SCALE_STEP = 1e-6
_COARSE_ORDERS = (*range(2, 64), 128, 256, 512, 1024)
_SCALE_LIMIT = 1e6
_TOO_FINE = "this target epsilon is finer than the accountant's grid at this delta: raise it"


@dataclass(frozen=True, order=True)
class ReleaseEvent:
    """`steps` releases, each a Poisson draw at `sampling_rate` with noise of `noise_multiplier` clip norms.

    Raises ValueError for a rate outside [0, 1], noise not above 0, or a negative number of steps.
    """

    sampling_rate: float
    noise_multiplier: float
    steps: int

    def __post_init__(self) -> None:
        if not 0 <= self.sampling_rate <= 1:
            raise ValueError(f"sampling_rate must lie in [0, 1], not {self.sampling_rate}")
        if not (math.isfinite(self.noise_multiplier) and self.noise_multiplier > 0):
            raise ValueError(f"noise_multiplier must be a finite number above 0, not {self.noise_multiplier}")
        if self.steps < 0:
            raise ValueError(f"steps cannot be negative, there are {self.steps}")


def epsilon(events: Sequence[ReleaseEvent], delta: float) -> float:
    """Epsilon of all `events` together at `delta`; 0.0 for none. Raises ValueError for delta outside (0, 1).

    The order of events does not matter, and equal ones are merged: the answer is a function of the
    composition, which is also the key under which it is cached.
    """
    _require_delta(delta)
    return _epsilon(_merge(events), delta)


def epsilon_rdp(events: Sequence[ReleaseEvent], delta: float) -> float:
    """The second opinion: epsilon by Renyi differential privacy; at least `epsilon` up to its rounding."""
    _require_delta(delta)
    return _epsilon_rdp(_merge(events), delta)


def calibrate(events: Sequence[ReleaseEvent], target_epsilon: float, delta: float) -> float:
    """The scale s for which `events` with noise s times theirs meet `target_epsilon` from below.

    `events` carry relative multipliers (a stage with 1.5 gets half as much noise again as one with 1). The
    Renyi bound brackets the search from above; the PLD bound ends it within 0.1 per cent below the target.
    Raises ValueError for a target that is not above 0, no events, or a target beyond reach.
    """
    _require_delta(delta)
    if not (math.isfinite(target_epsilon) and target_epsilon > 0):
        raise ValueError(f"target_epsilon must be a finite number above 0, not {target_epsilon}")
    merged = _merge(events)
    if not merged:
        raise ValueError("there is nothing to calibrate: give at least one event with steps and patients")
    high = _renyi_scale(merged, target_epsilon, delta)
    # Discretisation can lift the PLD bound of a very small spend above the Renyi one.
    while _epsilon(_scaled(merged, high), delta) > target_epsilon:
        high *= 1.05
        if high > _SCALE_LIMIT:
            raise ValueError(_TOO_FINE)
    low = 0.85 * high
    while _epsilon(_scaled(merged, low), delta) <= target_epsilon:
        low, high = 0.85 * low, low
    return _bisect(lambda scale: _epsilon(_scaled(merged, scale), delta), target_epsilon, low, high)


def _renyi_scale(events: tuple[ReleaseEvent, ...], target: float, delta: float) -> float:
    """A scale of at least 1 at which a coarse Renyi bound meets the target: the bracket's upper end."""
    scale = 1.0
    while _epsilon_rdp(_scaled(events, scale), delta, _COARSE_ORDERS) > target:
        scale *= 1.25
        if scale > _SCALE_LIMIT:
            raise ValueError("no noise meets this target epsilon: raise it, or delta, or take fewer steps")
    return scale


def _bisect(spend: Callable[[float], float], target: float, low: float, high: float) -> float:
    """The upper end of a bracket, narrowed until its spend is within 0.1 per cent below the target.

    Steps alternate between the middle and the point where a power law through both ends meets the target.
    """
    at_low, at_high = spend(low), spend(high)
    by_middle = False
    while at_high < target * (1 - _TOLERANCE) and high / low > 1 + _SCALE_STEP:
        # Where the grid rounds a spend to nothing there is no power law: halve the bracket.
        slope = math.log(at_low / at_high) / math.log(high / low) if at_high > 0 else 0.0
        aim = low * (at_low / (target * (1 - _TOLERANCE / 2))) ** (1 / slope) if slope > 0 else low
        middle = aim if low < aim < high and not by_middle else math.sqrt(low * high)
        by_middle = not by_middle
        at_middle = spend(middle)
        if at_middle <= target:
            high, at_high = middle, at_middle
        else:
            low, at_low = middle, at_middle
    if at_high == 0:
        raise ValueError(_TOO_FINE)
    return high


def _scaled(events: tuple[ReleaseEvent, ...], scale: float) -> tuple[ReleaseEvent, ...]:
    return tuple(ReleaseEvent(e.sampling_rate, scale * e.noise_multiplier, e.steps) for e in events)


def _require_delta(delta: float) -> None:
    if not 0 < delta < 1:
        raise ValueError(f"delta must lie in (0, 1), not {delta}")


def _merge(events: Sequence[ReleaseEvent]) -> tuple[ReleaseEvent, ...]:
    """Equal mechanisms added up, those that release nothing about anybody left out, sorted."""
    steps: dict[tuple[float, float], int] = {}
    for event in events:
        if event.steps and event.sampling_rate:
            key = (event.sampling_rate, event.noise_multiplier)
            steps[key] = steps.get(key, 0) + event.steps
    return tuple(sorted(ReleaseEvent(rate, noise, count) for (rate, noise), count in steps.items()))


@lru_cache(maxsize=256)
def _epsilon(events: tuple[ReleaseEvent, ...], delta: float) -> float:
    if not events:
        return 0.0
    if _beyond_grid(events):
        return _epsilon_rdp(events, delta)
    total = _loss_distribution(events[0])
    for event in events[1:]:
        total = total.compose(_loss_distribution(event))
    return float(total.get_epsilon_for_delta(delta))


def _beyond_grid(events: tuple[ReleaseEvent, ...]) -> bool:
    """Whether the loss is so large that its grid would fill the memory; such a spend protects nobody."""
    loss = sum(e.steps * e.sampling_rate / e.noise_multiplier**2 for e in events)
    return loss > _REACH_LOSS or min(e.noise_multiplier for e in events) < _REACH_NOISE


@lru_cache(maxsize=64)
def _loss_distribution(event: ReleaseEvent) -> Any:
    """The composed privacy loss distribution of one event (immutable: `compose` returns another)."""
    return _single_step(event.sampling_rate, event.noise_multiplier).self_compose(event.steps)


@lru_cache(maxsize=64)
def _single_step(sampling_rate: float, noise_multiplier: float) -> Any:
    from dp_accounting.pld import privacy_loss_distribution

    return privacy_loss_distribution.from_gaussian_mechanism(
        noise_multiplier,
        value_discretization_interval=DISCRETISATION,
        sampling_prob=sampling_rate,
        neighboring_relation=_add_or_remove(),
    )


@lru_cache(maxsize=256)
def _epsilon_rdp(
    events: tuple[ReleaseEvent, ...], delta: float, orders: tuple[float, ...] | None = None
) -> float:
    if not events:
        return 0.0
    import dp_accounting
    from dp_accounting import rdp

    accountant = rdp.RdpAccountant(orders, neighboring_relation=_add_or_remove())
    with _quiet():
        for event in events:
            gaussian = dp_accounting.GaussianDpEvent(event.noise_multiplier)
            sampled = dp_accounting.PoissonSampledDpEvent(event.sampling_rate, gaussian)
            accountant.compose(dp_accounting.SelfComposedDpEvent(sampled, event.steps))
        return float(accountant.get_epsilon(delta))


def _add_or_remove() -> Any:
    import dp_accounting

    return dp_accounting.NeighboringRelation.ADD_OR_REMOVE_ONE


@contextmanager
def _quiet() -> Iterator[None]:
    """The library warns about every Renyi order that it leaves out, which only loosens the bound."""
    logger = logging.getLogger("absl")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
