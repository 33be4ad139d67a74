"""Epsilon by Renyi differential privacy: fast, looser, for planning and for a filter at one fixed order.

*Guarantees.* Upper bounds. Poisson sampled Gaussian: Mironov et al., arXiv 1908.10530, section 3. Conversion to
epsilon: Canonne, Kamath and Steinke, arXiv 2004.00010, proposition 12. At one fixed order the sum of D_alpha may
also be compared with a limit between adaptively chosen steps (Feldman and Zrnic, arXiv 2008.11193, section 3).

*Assumes.* What `privacy.dp.events` assumes.

*Does not cover.* Tightness for truncated sampling: there the mixture over "this draw is cut" is bounded by joint
convexity of exp((alpha - 1) D_alpha), an f-divergence (Liese and Vajda, IEEE Trans. Inf. Theory 52(10), 2006, section
II), each half at its worst. It suffices to begin a search.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

from privacy.dp.events import ReleaseEvent, merge, require_delta

__all__ = ["COARSE_ORDERS", "epsilon_at_order", "renyi_epsilon"]

COARSE_ORDERS: tuple[float, ...] = (*range(2, 64), 128, 256, 512, 1024)


def renyi_epsilon(events: Sequence[ReleaseEvent], delta: float, orders: tuple[float, ...] | None = None) -> float:
    """Epsilon of all `events` at `delta`, at the best of `orders` (None: the library's list); 0.0 for none.

    Raises ValueError for delta outside (0, 1).
    """
    require_delta(delta)
    return _epsilon(merge(events), delta, orders)


def epsilon_at_order(events: Sequence[ReleaseEvent], delta: float, order: float) -> float:
    """Epsilon by the bound at one fixed `order` alone, as a filter needs it. Raises ValueError for an order below 2."""
    if not order >= 2:
        raise ValueError(f"the order of the Renyi bound must be at least 2, not {order}")
    return renyi_epsilon(events, delta, (float(order),))


@lru_cache(maxsize=1024)
def _epsilon(events: tuple[ReleaseEvent, ...], delta: float, orders: tuple[float, ...] | None) -> float:
    if not events:
        return 0.0
    from dp_accounting.rdp.rdp_privacy_accountant import compute_epsilon

    used = _orders(orders)
    total = sum(event.steps * _one_step(_mechanism(event), used) for event in events)
    with _quiet():
        return float(compute_epsilon(used, total, delta)[0])


def _mechanism(event: ReleaseEvent) -> tuple[float, float, int, int]:
    return event.sampling_rate, event.noise_multiplier, event.truncated_batch, event.most_patients


@lru_cache(maxsize=8)
def _orders(orders: tuple[float, ...] | None) -> tuple[float, ...]:
    from dp_accounting import rdp

    return tuple(float(order) for order in rdp.RdpAccountant(orders).orders)


@lru_cache(maxsize=1024)
def _one_step(mechanism: tuple[float, float, int, int], orders: tuple[float, ...]) -> Any:
    """D_alpha of one step at each order, float64 (orders,)."""
    import dp_accounting
    import numpy as np
    from dp_accounting import rdp
    from scipy.stats import binom

    rate, noise, cap, patients = mechanism
    accountant = rdp.RdpAccountant(orders, neighboring_relation=dp_accounting.NeighboringRelation.ADD_OR_REMOVE_ONE)
    with _quiet():
        gaussian = dp_accounting.GaussianDpEvent(noise)
        accountant.compose(dp_accounting.PoissonSampledDpEvent(rate, gaussian))
    plain = accountant.rdp
    cut = float(binom.sf(cap - 1, patients - 1, rate)) if cap else 0.0  # P(the draw is cut | this patient is in it)
    if cut == 0.0:
        return plain
    # The patient is in a cut draw and displaces another: means 4 / noise apart, as the library's own bound has it.
    chosen = float(binom.sf(cap, patients, rate)) * cap / cut / patients
    less = np.asarray(orders) - 1
    with np.errstate(divide="ignore"):
        displaced = np.logaddexp(np.log1p(-min(chosen, 1.0)), np.log(chosen) + less * (less + 1) * 8 / noise**2)
        return np.logaddexp(np.log1p(-cut) + less * plain, np.log(cut) + displaced) / less


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
