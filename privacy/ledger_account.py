"""What the ledger's rows add up to: spent, left, wasted, and what may be claimed.

*Guarantees.*
    * Epsilon is computed from the rows whenever it is asked for; no total is stored.
    * Across runs, composition "sum": each run's whole schedule is charged by PLD at its own delta before it begins,
      and epsilons and deltas add up. A later run's parameters may depend on earlier releases, since each run's
      (epsilon, delta) is fixed before it starts (Rogers, Roth, Ullman, Vadhan, NeurIPS 2016, arXiv 1605.08294,
      section 3, the filter of basic composition). A run that stops early keeps its whole reservation.
    * Composition "rdp": a Renyi filter at one order that the ledger fixes with its first run; each entry is charged
      when it is booked, so everything may be chosen adaptively (Feldman, Zrnic, NeurIPS 2021, arXiv 2008.11193,
      section 3). One delta, the site's largest.
    * One budget for the whole site: run, data folder, index and pseudonyms play no part in the sums.
    * Distributed noise is charged three times: `spent` counts the noise of the honest sites that the run states, and
      `guarantees` also that of all sites in a smallest sum and that of this site alone; each has its cap, and without
      stated caps nothing with distributed noise is reserved.
    * A step without noise makes epsilon infinite for good; a statement is refused over such a step and over noise
      from a simulated source.

*Assumes.* A run's schedule is fixed when it is reserved, and the trainer follows it.

*Does not cover.* Separate budgets for disjoint sets of patients: this release has none.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from privacy.dp.accounting import ReleaseEvent, epsilon, epsilon_at_order
from privacy.dp.guarantees import VIEWS, Guarantees, View, seen_by
from privacy.errors import BudgetExceededError
from privacy.ledger_entries import Composition, LedgerEntry, Reservation

__all__ = ["Account", "Limits", "NotPrivateError", "RunAccount", "Statement", "steps_left"]


class NotPrivateError(Exception):
    """No differential-privacy statement can be made over these entries; `str()` says why."""


@dataclass(frozen=True)
class Limits:
    """The site's own caps. `epsilon` and `delta` hold for the whole ledger; `renyi_order` is for "rdp" only.

    `allow_unnoised` lets steps without noise be booked, in simulations; it lifts no cap on those with noise.
    `shared` are the caps against each adversary, which a run with distributed noise needs; None = no such run.

    Raises ValueError for a cap that is not above 0, an order below 2, or an unknown composition.
    """

    epsilon: float
    delta: float = 1.0
    composition: Composition = "sum"
    renyi_order: int = 8
    allow_unnoised: bool = False
    shared: Guarantees | None = None

    def __post_init__(self) -> None:
        if not self.epsilon > 0:
            raise ValueError(f"epsilon_cap must be above 0, not {self.epsilon}")
        if not 0 < self.delta <= 1:
            raise ValueError(f"delta_cap must lie in (0, 1], not {self.delta}")
        if self.composition not in ("sum", "rdp"):
            raise ValueError(f'composition must be "sum" or "rdp", not {self.composition!r}')
        if self.renyi_order < 2:
            raise ValueError(f"renyi_order must be at least 2, not {self.renyi_order}")
        if self.composition == "rdp" and not self.delta < 1:
            raise ValueError('composition "rdp" needs a delta_cap below 1: its one statement is made at that delta')

    @property
    def order(self) -> int:
        """As a reservation records it: 0 where the order plays no part."""
        return self.renyi_order if self.composition == "rdp" else 0


@dataclass(frozen=True)
class Statement:
    """What a site may claim: (`epsilon`, `delta`)-DP for every patient over all of its `entries`.

    `epsilon` is what the ledger charged; `ran` is, for information, the PLD epsilon of what actually ran, at the
    smallest delta of any run, and no claim where runs were chosen by looking at earlier ones. `against` is there where
    noise was shared out among sites: then `epsilon` holds against as many colluding sites as the site states, or as a
    run assumed where that is more.
    """

    epsilon: float
    delta: float
    entries: int
    head: str
    ran: float
    against: Guarantees | None = None

    def __str__(self) -> str:
        return (
            f"({self.epsilon:.4g}, {self.delta:.3g})-differential privacy for each patient (add/remove one "
            f"patient, Poisson sampling, Gaussian noise, PLD accountant) over {self.entries} ledger entries, "
            f"head {self.head[:16]}{'' if self.against is None else f'; {shared_words(self.against)}'}"
        )


def shared_words(found: Guarantees) -> str:
    """Against whom an epsilon with shared noise holds, for a sentence."""
    return (f"noise was shared out among sites: epsilon {found.colluding:.4g} holds against the coordinator with the "
            f"stated number of colluding sites, {found.outside:.4g} against outsiders, {found.alone:.4g} of this "
            "site's share alone")


@dataclass(frozen=True)
class RunAccount:
    """One run's part. `reserved` is None for a run without a reservation (no noise); `rounds` counts reserved
    rounds, `finished` those whose sum the site helped to open, `wasted` reservations that came to nothing.
    `evaluations` counts releases on validation patients, `evaluation_epsilon` is PLD epsilon of those alone, for
    information: `reserved` and `ran` hold them already."""

    run_id: str
    reserved: float | None
    ran: float
    delta: float | None
    steps: int
    planned_steps: int
    rounds: int
    finished: int
    wasted: int
    evaluations: int = 0
    evaluation_epsilon: float = 0.0


@dataclass(frozen=True)
class Account:
    """The rows of one ledger, and the caps of its site (None when it was opened for reading).

    Args:
        reservations, entries: oldest first.
        finished: (run, round) whose unmask shares have left.
        limits: the caps; the composition is that of the first reservation, if there is one.
    """

    reservations: tuple[Reservation, ...] = ()
    entries: tuple[LedgerEntry, ...] = ()
    finished: frozenset[tuple[str, int]] = frozenset()
    limits: Limits | None = None

    @property
    def composition(self) -> Composition:
        """How runs compose here."""
        if self.reservations:
            return self.reservations[0].composition
        return self.limits.composition if self.limits else "sum"

    @property
    def order(self) -> int:
        """The Renyi order of composition "rdp", else 0."""
        if self.reservations:
            return self.reservations[0].renyi_order
        return self.limits.order if self.limits else 0

    def reservation(self, run_id: str) -> Reservation | None:
        """The run's reservation, None before its first training."""
        return next((r for r in self.reservations if r.run_id == run_id), None)

    def spent(self) -> float:
        """The site's epsilon; infinite as soon as one step had no noise.

        Where noise was shared out: against the coordinator with as many colluding sites as the site states now, or as a
        run assumed where that is more.
        """
        if self._is_bare():
            return math.inf
        if self.shares_noise():
            return self._seen_by("colluding").spent()
        if self.composition == "sum":
            return math.fsum(map(_charge, self.reservations))
        return self._filtered([entry.event() for entry in self.entries])

    def delta(self) -> float:
        """The delta that goes with `spent`; 0.0 while nothing is reserved."""
        if self.composition == "sum" or not self.reservations:
            return math.fsum(reservation.delta for reservation in self.reservations)
        return self._filter_delta()

    def guarantees(self) -> Guarantees:
        """`spent` against each adversary; the three are equal where no run had distributed noise.

        A run that assumed fewer colluders than the site states now is counted against so many.
        """
        return Guarantees.of(lambda view: self._seen_by(view).spent())

    def guarantees_with_run(self, events: Sequence[ReleaseEvent], delta: float) -> Guarantees:
        """`with_run` against each adversary."""
        return Guarantees.of(lambda view: self._seen_by(view).with_run(
            [seen_by(event, view, self._colluders()) for event in events], delta))

    def ran(self, delta: float | None = None) -> float:
        """PLD epsilon of what is booked as released, at `delta` or the smallest of any entry; for information."""
        return _ran(self.entries, delta)

    def with_run(self, events: Sequence[ReleaseEvent], delta: float) -> float:
        """Epsilon of the site if a run with the schedule `events` at `delta` were reserved now; see `spent`."""
        if self._is_bare():
            return math.inf
        if self.shares_noise() or any(event.levels for event in events):
            return self._seen_by("colluding").with_run(
                [seen_by(event, "colluding", self._colluders()) for event in events], delta)
        if self.composition == "sum":
            return math.fsum([*map(_charge, self.reservations), epsilon(events, delta)])
        return self._filtered([*(entry.event() for entry in self.entries), *events])

    def require_room(self, run_id: str, events: Sequence[ReleaseEvent], delta: float) -> None:
        """Refuse a run whose whole schedule does not fit under the caps; one that is reserved already fits.

        Raises:
            BudgetExceededError: P_BUDGET or P_DELTA, with the numbers.
            ValueError: no caps, or another composition than the one that this ledger began with.
        """
        limits = self._limits()
        self._require_composition(limits)
        held = self.reservation(run_id) is not None
        self._require_shared(limits, any(event.levels for event in events),
                             lambda: self.guarantees() if held else self.guarantees_with_run(events, delta))
        if held:
            self._require_spent(limits)
            return
        asked = self.with_run(events, delta)
        if not asked <= limits.epsilon:
            raise BudgetExceededError(self.spent(), asked, limits.epsilon)
        held_delta = self.delta()
        asked_delta = math.fsum([*(r.delta for r in self.reservations), delta]) if limits.order == 0 else delta
        if asked_delta > limits.delta:
            raise BudgetExceededError(held_delta, asked_delta, limits.delta, "P_DELTA")

    def require_fits(self, entry: LedgerEntry) -> None:
        """Refuse a round outside what is left of its run's reserved schedule, or past the caps.

        Raises:
            BudgetExceededError: its mechanism has too few steps left, or the site's caps are reached.
            ValueError: the run was not reserved, or reserved with another delta.
        """
        limits = self._limits()
        if entry.mechanism == "none":
            if not limits.allow_unnoised:
                raise BudgetExceededError(self.spent(), math.inf, limits.epsilon)
            return
        reservation = self.reservation(entry.run_id)
        if reservation is None:
            raise ValueError("nothing is reserved for this run: call reserve_run with its whole schedule first")
        if entry.delta != reservation.delta:
            raise ValueError("this entry's delta is not the one that its run was reserved with")
        event = entry.event()
        if steps_left(reservation, self.entries, event) < event.steps:
            mine = [e for e in self.entries if e.run_id == entry.run_id]
            raise BudgetExceededError(
                _ran(mine, entry.delta), _ran([*mine, entry], entry.delta), _charge(reservation))
        after = replace(self, entries=(*self.entries, entry))
        if not after.spent() <= limits.epsilon:
            raise BudgetExceededError(self.spent(), after.spent(), limits.epsilon)
        self._require_shared(limits, entry.levels > 0, after.guarantees)
        self._require_spent(limits)

    def wasted(self, *, next_round: bool = False) -> int:
        """Reservations that came to nothing: neither finished, nor the newest one, which may still be open.

        With `next_round`, as it would be once another round is reserved. Training that crashed counts, and so does
        a second training of the same round.
        """
        open_ones = self._unfinished()
        return len(open_ones) if next_round or not open_ones else len(open_ones) - (open_ones[-1] is self.entries[-1])

    def runs(self) -> tuple[RunAccount, ...]:
        """Every run, in the order of its first row."""
        names = dict.fromkeys([*(r.run_id for r in self.reservations), *(e.run_id for e in self.entries)])
        return tuple(self._run(name) for name in names)

    def objection(self) -> str | None:
        """Why no statement can be made, None when one can."""
        if self._is_bare():
            return "a step was released without noise, so no differential-privacy statement holds"
        if any(entry.entropy == "simulated" for entry in self.entries):
            return "noise came from a simulated source, so no differential-privacy statement holds"
        return None

    def _run(self, run_id: str) -> RunAccount:
        mine = [e for e in self.entries if e.run_id == run_id]
        measured = [e for e in mine if e.purpose == "evaluate"]
        reservation = self.reservation(run_id)
        unfinished = [e for e in self._unfinished() if e.run_id == run_id and e is not self.entries[-1]]
        return RunAccount(
            run_id=run_id, reserved=None if reservation is None else _charge(reservation),
            ran=_ran(mine, None), delta=None if reservation is None else reservation.delta,
            steps=sum(e.steps for e in mine),
            planned_steps=0 if reservation is None else sum(e.steps for e in reservation.events),
            rounds=len({e.round for e in mine}), finished=sum(run == run_id for run, _ in self.finished),
            wasted=len(unfinished), evaluations=len(measured), evaluation_epsilon=_ran(measured, None))

    def _unfinished(self) -> list[LedgerEntry]:
        last = {(e.run_id, e.round): e for e in self.entries}  # a finished round opened its last training only
        return [e for e in self.entries if e.mechanism != "none"
                and ((e.run_id, e.round) not in self.finished or last[e.run_id, e.round] is not e)]

    def _filtered(self, events: Sequence[ReleaseEvent]) -> float:
        return epsilon_at_order(events, self._filter_delta(), self.order) if events else 0.0

    def _filter_delta(self) -> float:
        if self.limits is not None and self.limits.delta < 1:
            return self.limits.delta
        return min(reservation.delta for reservation in self.reservations)

    def _limits(self) -> Limits:
        if self.limits is None:
            raise ValueError("this ledger was opened for reading: pass epsilon_cap to reserve")
        return self.limits

    def _require_composition(self, limits: Limits) -> None:
        first = self.reservations[0] if self.reservations else None
        if first is not None and (first.composition, first.renyi_order) != (limits.composition, limits.order):
            order = f" at order {first.renyi_order}" if first.renyi_order else ""
            raise ValueError(f'this ledger composes runs by "{first.composition}"{order} since its first run, and the '
                             "policy names another way: set policy.composition and policy.renyi_order back")

    def _require_shared(self, limits: Limits, shares: bool, asked: Callable[[], Guarantees]) -> None:
        """The site's caps against each adversary hold for what the ledger would then say; noise is shared only under
        stated caps."""
        caps = limits.shared
        if caps is None:
            if shares:
                raise BudgetExceededError(self.spent(), math.inf, limits.epsilon, "P_TRUST")
            return
        held, after = self.guarantees(), asked()
        for view in VIEWS:
            if not after.against(view) <= caps.against(view):
                raise BudgetExceededError(held.against(view), after.against(view), caps.against(view))

    def _seen_by(self, view: View) -> Account:
        """These rows as releases of the noise that `view` faces; itself where no noise is distributed."""
        if not self.shares_noise():
            return self
        colluders = self._colluders()
        return replace(
            self, entries=tuple(_entry_seen_by(entry, view, colluders) for entry in self.entries),
            reservations=tuple(replace(reservation, events=tuple(
                seen_by(event, view, colluders) for event in reservation.events)) for reservation in self.reservations))

    def shares_noise(self) -> bool:
        """Whether a run with distributed noise is reserved or booked."""
        return any(event.levels for event in self._booked())

    def _booked(self) -> Iterator[ReleaseEvent]:
        for reservation in self.reservations:
            yield from reservation.events
        yield from (entry.event() for entry in self.entries if entry.levels)

    def _colluders(self) -> int:
        """As the site states them now; 0 where it states none."""
        return 0 if self.limits is None or self.limits.shared is None else self.limits.shared.colluders

    def _require_spent(self, limits: Limits) -> None:
        spent = self.spent()
        if not spent <= limits.epsilon:
            raise BudgetExceededError(spent, spent, limits.epsilon)
        if self.delta() > limits.delta:
            raise BudgetExceededError(self.delta(), self.delta(), limits.delta, "P_DELTA")

    def _is_bare(self) -> bool:
        return any(entry.mechanism == "none" for entry in self.entries)


def steps_left(reservation: Reservation, entries: Sequence[LedgerEntry], event: ReleaseEvent) -> int:
    """Steps of the mechanism of `event` that `reservation` still has after `entries`; every entry counts."""
    mechanism = replace(event, steps=1)
    planned = sum(e.steps for e in reservation.events if replace(e, steps=1) == mechanism)
    mine = (e for e in entries if e.run_id == reservation.run_id and e.mechanism != "none")
    return planned - sum(e.steps for e in mine if replace(e.event(), steps=1) == mechanism)


def _entry_seen_by(entry: LedgerEntry, view: View, colluders: int) -> LedgerEntry:
    if not entry.levels:
        return entry
    worth = seen_by(entry.event(), view, colluders).noise_multiplier
    return replace(entry, mechanism="poisson-gaussian", noise_multiplier=worth, min_survivors=0, colluders=0, levels=0)


def _charge(reservation: Reservation) -> float:
    return epsilon(reservation.events, reservation.delta)


def _ran(entries: Sequence[LedgerEntry], delta: float | None) -> float:
    """PLD epsilon of `entries`; infinite as soon as one has no noise."""
    if any(entry.mechanism == "none" for entry in entries):
        return math.inf
    if not entries:
        return 0.0
    smallest = min(entry.delta for entry in entries) if delta is None else delta
    return epsilon([entry.event() for entry in entries], smallest)
