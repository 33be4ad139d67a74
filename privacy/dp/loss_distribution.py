"""Epsilon by privacy loss distributions: the tight bound that budgets are charged with.

*Guarantees.* An upper bound: losses are discretised pessimistically (Doroshenko et al., PoPETs 2022, arXiv 2207.04380)
at `DISCRETISATION`, composed by convolution (Koskela et al., AISTATS 2020). A spend too large for the grid is answered
with the Renyi bound. Caches are keyed by the events, so an answer is always that of the events asked about.

*Assumes.* A schedule fixed before its first release: this composition theorem is not an adaptive one.

*Does not cover.* Neighbours that replace a patient; the relation is add/remove one patient.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from privacy.dp.events import ReleaseEvent, merge, require_delta
from privacy.dp.renyi import renyi_epsilon

__all__ = ["DISCRETISATION", "pld_epsilon"]

# Spends beyond these (noise below 0.2, or a loss of 10^4) are answered by the Renyi bound.
_REACH_NOISE = 0.2
_REACH_LOSS = 2e4
# Width of a bucket of the privacy loss: epsilon at 1e-4 differs by under 0.1 %, and takes ten times as long.
DISCRETISATION = 1e-3


def pld_epsilon(events: Sequence[ReleaseEvent], delta: float) -> float:
    """Epsilon of all `events` together at `delta`; 0.0 for none. Raises ValueError for delta outside (0, 1)."""
    require_delta(delta)
    return _epsilon(merge(events), delta)


@lru_cache(maxsize=512)
def _epsilon(events: tuple[ReleaseEvent, ...], delta: float) -> float:
    if not events:
        return 0.0
    if _beyond_grid(events):
        return renyi_epsilon(events, delta)
    return float(_composed(events).get_epsilon_for_delta(delta))


def _beyond_grid(events: tuple[ReleaseEvent, ...]) -> bool:
    """Whether the loss is so large that its grid would fill the memory; such a spend protects nobody."""
    noise = [_smallest_noise(event) for event in events]
    loss = sum(e.steps * e.sampling_rate / s**2 for e, s in zip(events, noise, strict=True))
    return loss > _REACH_LOSS or min(noise) < _REACH_NOISE


def _smallest_noise(event: ReleaseEvent) -> float:
    """In units of the sensitivity, which doubles where one patient can displace another."""
    return event.noise_multiplier / (2 if event.is_truncated else 1)


@lru_cache(maxsize=32)
def _composed(events: tuple[ReleaseEvent, ...]) -> Any:
    """All but the last first: what a site adds to is then there already (immutable: `compose` returns another)."""
    last = _repeated(events[-1])
    return last if len(events) == 1 else _composed(events[:-1]).compose(last)


@lru_cache(maxsize=64)
def _repeated(event: ReleaseEvent) -> Any:
    step = _single_step(event.sampling_rate, event.noise_multiplier, event.truncated_batch, event.most_patients)
    return step.self_compose(event.steps)


@lru_cache(maxsize=64)
def _single_step(sampling_rate: float, noise_multiplier: float, truncated_batch: int, most_patients: int) -> Any:
    import dp_accounting
    from dp_accounting.pld import privacy_loss_distribution as pld

    relation = dp_accounting.NeighboringRelation.ADD_OR_REMOVE_ONE
    if 0 < truncated_batch < most_patients:
        return pld.from_truncated_subsampled_gaussian_mechanism(
            dataset_size=most_patients, sampling_probability=sampling_rate, truncated_batch_size=truncated_batch,
            noise_multiplier=noise_multiplier, value_discretization_interval=DISCRETISATION,
            neighboring_relation=relation)
    return pld.from_gaussian_mechanism(
        noise_multiplier, value_discretization_interval=DISCRETISATION, sampling_prob=sampling_rate,
        neighboring_relation=relation)
