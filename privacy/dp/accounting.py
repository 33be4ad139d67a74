"""Epsilon of a list of releases, and the noise that meets a target: accountants behind one interface.

*Guarantees.*
    * `epsilon` is an upper bound by privacy loss distributions (`privacy.dp.loss_distribution`).
    * `epsilon_rdp` is an independent and looser bound (`privacy.dp.renyi`); a test keeps it above the first.
    * `calibrate` never returns noise whose `epsilon` is above the target.
    * An accountant that is known to under-report cannot be chosen.

*Assumes.*
    * Add/remove one patient; Poisson subsampling with each event's rate; noise of `noise_multiplier` times
      the clip norm; sensitivity at most the clip norm.
    * The schedule is fixed before the first release. Rounds that stop early spend less than was planned, but
      parameters chosen by looking at earlier releases are outside the composition theorem used here: the ledger
      composes across runs by a filter instead (`privacy.ledger_account`).

*Does not cover.*
    * Sampling of a fixed size, shuffled batches, replace-one neighbours (about twice the epsilon).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from privacy.dp.events import ReleaseEvent, merge, require_delta, scaled
from privacy.dp.loss_distribution import DISCRETISATION, pld_epsilon
from privacy.dp.renyi import COARSE_ORDERS, epsilon_at_order, renyi_epsilon

__all__ = [
    "DISCRETISATION", "PLD", "RDP", "Accountant", "ReleaseEvent", "accountant", "calibrate", "epsilon",
    "epsilon_at_order", "epsilon_rdp"]

_TOLERANCE = 1e-3
_SCALE_STEP = 1e-6
_SCALE_LIMIT = 1e6
_TOO_FINE = "this target epsilon is finer than the accountant's grid at this delta: raise it"


class Accountant(Protocol):
    """Turns releases into epsilon; never reports less than is true."""

    @property
    def name(self) -> str:
        """What a ledger entry records."""
        ...

    def epsilon(self, events: Sequence[ReleaseEvent], delta: float) -> float:
        """Epsilon of all `events` together at `delta`."""
        ...


@dataclass(frozen=True)
class PLD:
    """Privacy loss distributions on a grid of 1e-3: tight, and what budgets are charged with."""

    name: str = "dp-accounting PLD 1e-3"

    def epsilon(self, events: Sequence[ReleaseEvent], delta: float) -> float:
        """See `privacy.dp.loss_distribution.pld_epsilon`."""
        return pld_epsilon(events, delta)


@dataclass(frozen=True)
class RDP:
    """Renyi differential privacy: milliseconds, 5 to 15 per cent above `PLD`; for planning."""

    name: str = "dp-accounting RDP"

    def epsilon(self, events: Sequence[ReleaseEvent], delta: float) -> float:
        """See `privacy.dp.renyi.renyi_epsilon`."""
        return renyi_epsilon(events, delta)


def accountant(name: str = "pld") -> Accountant:
    """The accountant called "pld" or "rdp".

    Raises ValueError for another name, and for "gdp" with the reason: the central limit theorem behind it is an
    approximation from below (q = 0.01, sigma = 0.7, 1,000 steps, delta = 1e-5: 3.48 where 4.62 is true).
    """
    if name == "gdp":
        raise ValueError('accountant "gdp" is refused because it under-reports epsilon (3.48 where 4.62 is true): '
                         'choose "pld", or "rdp" for planning')
    known: dict[str, Accountant] = {"pld": PLD(), "rdp": RDP()}
    if name not in known:
        raise ValueError(f'there is no accountant "{name}": choose "pld", or "rdp" for planning')
    return known[name]


def epsilon(events: Sequence[ReleaseEvent], delta: float) -> float:
    """Epsilon of all `events` together at `delta`; 0.0 for none. Raises ValueError for delta outside (0, 1).

    The order of events does not matter, and equal ones are merged: the answer is a function of the
    composition, which is also the key under which it is cached.
    """
    return pld_epsilon(events, delta)


def epsilon_rdp(events: Sequence[ReleaseEvent], delta: float) -> float:
    """The second opinion: epsilon by Renyi differential privacy; at least `epsilon` up to its rounding."""
    return renyi_epsilon(events, delta)


def calibrate(
    events: Sequence[ReleaseEvent], target_epsilon: float, delta: float, fixed: Sequence[ReleaseEvent] = ()
) -> float:
    """The scale s for which `events` with noise s times theirs, and `fixed` as they are, meet `target_epsilon` from
    below.

    `events` carry relative multipliers (a stage with 1.5 gets half as much noise again as one with 1). The
    Renyi bound brackets the search from above; the PLD bound ends it within 0.1 per cent below the target.
    Raises ValueError for a target that is not above 0, no events, or a target beyond reach, as it is where `fixed`
    spend it alone.
    """
    require_delta(delta)
    if not (math.isfinite(target_epsilon) and target_epsilon > 0):
        raise ValueError(f"target_epsilon must be a finite number above 0, not {target_epsilon}")
    merged = merge(events)
    if not merged:
        raise ValueError("there is nothing to calibrate: give at least one event with steps and patients")
    if fixed and pld_epsilon(fixed, delta) >= target_epsilon:
        raise ValueError(f"evaluations spend target_epsilon {target_epsilon:g} alone: give them more noise, or fewer")

    def spend(scale: float) -> float:
        return pld_epsilon([*scaled(merged, scale), *fixed], delta)

    high = _renyi_scale(merged, target_epsilon, delta)
    # Discretisation can lift the PLD bound of a very small spend above the Renyi one, and what is fixed comes on top.
    while spend(high) > target_epsilon:
        high *= 1.25 if fixed else 1.05
        if high > _SCALE_LIMIT:
            raise ValueError(_TOO_FINE)
    low = 0.85 * high
    while spend(low) <= target_epsilon:
        low, high = 0.85 * low, low
    return _bisect(spend, target_epsilon, low, high)


def _renyi_scale(events: tuple[ReleaseEvent, ...], target: float, delta: float) -> float:
    """A scale of at least 1 at which a coarse Renyi bound meets the target: the bracket's upper end."""
    scale = 1.0
    while renyi_epsilon(scaled(events, scale), delta, COARSE_ORDERS) > target:
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
