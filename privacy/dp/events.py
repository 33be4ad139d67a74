"""What an accountant reads: how often something was released, of what sample, with how much noise.

*Guarantees.* A `ReleaseEvent` holds public constants of a schedule only, never a size of an index or of a draw; equal
mechanisms are merged, so epsilon is a function of the composition and not of its order.

*Assumes.* The trainer does what the event says: Poisson draws over patients, one clip a patient, Gaussian noise.

*Does not cover.* Sampling of a fixed size, shuffled batches.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

__all__ = ["ReleaseEvent", "charged", "merge", "require_delta", "scaled"]


@dataclass(frozen=True, order=True)
class ReleaseEvent:
    """`steps` releases, each a Poisson draw at `sampling_rate` with noise of `noise_multiplier` clip norms.

    With truncated Poisson sampling (VaultGemma, arXiv 2508.15089) a draw larger than `truncated_batch` patients is
    cut to a random subset of that size, and the charge depends on the number of patients: it must hold for every
    number up to `most_patients`, a public upper bound that the site enforces (see `charged`). 0 and 0 mean plain
    Poisson sampling.

    With distributed noise (`levels` above 0) the noise is that of `min_survivors` - `colluders` sites together, each
    with its share, on a sum of patients rounded to `levels` (`privacy.dp.shares`); `privacy.dp.guarantees` says
    what that is worth against others. 0, 0 and 0 mean that the site adds all of the noise itself.

    Raises ValueError for a rate outside [0, 1], noise not above 0, a negative number of steps, a truncation that names
    only one of its two numbers, or shares without an honest site.
    """

    sampling_rate: float
    noise_multiplier: float
    steps: int
    truncated_batch: int = 0
    most_patients: int = 0
    min_survivors: int = 0
    colluders: int = 0
    levels: int = 0

    def __post_init__(self) -> None:
        shared = (self.min_survivors, self.colluders, self.levels)
        if shared != (0, 0, 0) and not (self.levels > 0 and 0 <= self.colluders < self.min_survivors):
            raise ValueError("shared noise needs levels above 0 and more min_survivors than colluders, not "
                             f"{self.levels}, {self.min_survivors} and {self.colluders}")
        if not 0 <= self.sampling_rate <= 1:
            raise ValueError(f"sampling_rate must lie in [0, 1], not {self.sampling_rate}")
        if not (math.isfinite(self.noise_multiplier) and self.noise_multiplier > 0):
            raise ValueError(f"noise_multiplier must be a finite number above 0, not {self.noise_multiplier}")
        if self.steps < 0:
            raise ValueError(f"steps cannot be negative, there are {self.steps}")
        if min(self.truncated_batch, self.most_patients) < 0 or bool(self.truncated_batch) != bool(self.most_patients):
            raise ValueError("truncated_batch and most_patients must both be above 0, or both be 0 for plain Poisson "
                             f"sampling, not {self.truncated_batch} and {self.most_patients}")

    @property
    def is_truncated(self) -> bool:
        """Whether truncation can happen: a cap of at least the number of patients never cuts a draw."""
        return 0 < self.truncated_batch < self.most_patients

    @property
    def honest(self) -> int:
        """h: how many shares make up the noise; 0 where the site adds all of it."""
        return self.min_survivors - self.colluders


def charged(event: ReleaseEvent) -> ReleaseEvent:
    """The event whose cost covers `event` at every number of patients up to `most_patients`.

    The loss of a truncated draw grows with the number of patients only while the expected draw stays within the
    cap; beyond, each patient is kept less and less often, and a bound made at a large number would say almost
    nothing about a smaller one. There the charge is that of plain Poisson sampling with half the noise, which holds
    for any number: given the others' draw, a patient enters with probability q and then changes the sum by at most
    2 C, displacing another (joint convexity of the hockey-stick divergence). That the charge grows below the cap was
    checked on grids (tests), not proved.

    Shared noise is charged as what its h shares are together.
    """
    event = replace(event, min_survivors=0, colluders=0, levels=0)
    if not event.is_truncated:
        return event
    if event.sampling_rate * event.most_patients <= event.truncated_batch:
        return event
    return replace(event, noise_multiplier=event.noise_multiplier / 2, truncated_batch=0, most_patients=0)


def merge(events: Sequence[ReleaseEvent]) -> tuple[ReleaseEvent, ...]:
    """As they are `charged`: equal mechanisms added up, those that release nothing left out, sorted."""
    steps: dict[ReleaseEvent, int] = {}
    for event in map(charged, events):
        if event.steps and event.sampling_rate:
            mechanism = replace(event, steps=1)
            steps[mechanism] = steps.get(mechanism, 0) + event.steps
    return tuple(sorted(replace(mechanism, steps=count) for mechanism, count in steps.items()))


def scaled(events: Sequence[ReleaseEvent], scale: float) -> tuple[ReleaseEvent, ...]:
    """The same events with `scale` times the noise."""
    return tuple(replace(event, noise_multiplier=scale * event.noise_multiplier) for event in events)


def require_delta(delta: float) -> None:
    """Raises ValueError for a delta outside (0, 1)."""
    if not 0 < delta < 1:
        raise ValueError(f"delta must lie in (0, 1), not {delta}")
