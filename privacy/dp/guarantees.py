"""Against whom a release is private: the outside, colluding sites with the coordinator, and the site's share alone.

*Guarantees.*
    * `seen_by` turns a release with distributed noise into the release of the noise that one adversary cannot take
      off: all `min_survivors` shares for somebody outside, those of the h = min_survivors - colluders honest sites for
      the colluding ones with the coordinator, the site's own for whoever sees this site's upload unmasked. Each is a
      Poisson-subsampled Gaussian of the multiplier that `privacy.dp.shares` proves, never a larger one.
    * A release whose noise the site added itself is the same against everybody.

*Assumes.*
    * The sites in the sum add their shares (`privacy.dp.shares`); outsiders hold no share. A single curious site
      takes its own share off the sum, so it counts as one colluder.
    * More survivors than the floor only add noise.
    * Sums stay closed up to the number of colluders that secure aggregation withstands, the least 2 t(n) - n - 1 of
      any cohort of n >= min_survivors sites, t(n) = floor(2 n / 3) + 1 (`privacy.identity.Roster.threshold`). A run
      never assumes more; a site may state more later.

*Does not cover.*
    * More colluders than are stated. A site that states more than a run was calibrated to counts that run against so
      many: c' leave noise of z sqrt((min_survivors - c') / h) while secure aggregation withstands them. Beyond that
      they may open single uploads, and only the own share counts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from privacy.dp.accounting import epsilon
from privacy.dp.events import ReleaseEvent
from privacy.dp.shares import counted_multiplier

__all__ = ["VIEWS", "Guarantees", "View", "guarantees", "honest_sites", "seen_by", "withstood"]

View = Literal["outside", "colluding", "alone"]
VIEWS: tuple[View, ...] = ("outside", "colluding", "alone")


@dataclass(frozen=True)
class Guarantees:
    """Epsilon against each adversary, at one delta.

    Args:
        outside: who sees the sum, or a model made from it, and holds no share.
        colluding: the stated number of colluding sites, with the coordinator: what the noise is calibrated to.
        alone: who sees this site's own upload, should secure aggregation fail.
        colluders: of a site's caps, the number that it states; the runs' own number where that is larger.
    """

    outside: float
    colluding: float
    alone: float
    colluders: int = 0

    @staticmethod
    def of(value: Callable[[View], float]) -> Guarantees:
        """One number for each view."""
        return Guarantees(value("outside"), value("colluding"), value("alone"))

    def against(self, view: View) -> float:
        """The number of that view."""
        return float(getattr(self, view))


def withstood(min_survivors: int) -> int:
    """How many colluding sites secure aggregation withstands whatever the roster: the least 2 t(n) - n - 1 over
    n >= `min_survivors` (Bonawitz et al. 2017, section 6.2, for two lists of survivors)."""
    return (min_survivors + 1) // 3


def honest_sites(event: ReleaseEvent, colluders: int = 0) -> int:
    """Whose shares count against `colluders` sites, or the release's own number of them where that is larger.

    One where so many may open this site's upload: its own share nobody else knows.
    """
    most = max(event.colluders, colluders)
    if most > max(event.colluders, withstood(event.min_survivors)):
        return 1
    return event.min_survivors - most


def seen_by(event: ReleaseEvent, view: View, colluders: int = 0) -> ReleaseEvent:
    """`event` as the release of what noise the adversary `view` faces.

    Raises ValueError for a share lost in rounding.
    """
    if not event.levels:
        return event
    shares = {"outside": event.min_survivors, "colluding": honest_sites(event, colluders), "alone": 1}[view]
    worth = counted_multiplier(event.noise_multiplier, event.levels, event.honest, shares)
    return replace(event, noise_multiplier=worth, min_survivors=0, colluders=0, levels=0)


def guarantees(events: Sequence[ReleaseEvent], delta: float) -> Guarantees:
    """Epsilon of all `events` together at `delta`, for each view. Raises ValueError for delta outside (0, 1)."""
    return Guarantees.of(lambda view: epsilon([seen_by(event, view) for event in events], delta))
