"""The three guarantees of a ledger for its operator: against outsiders, colluding sites, and of the own share alone."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from configs.schema import PolicyConfig
from privacy.dp.accounting import ReleaseEvent
from privacy.dp.guarantees import VIEWS, Guarantees
from privacy.ledger_account import Account
from site_client.trust import shared_caps

__all__ = ["guarantee_facts", "guarantee_lines", "with_run_facts"]

_WORDS = {
    "outside": "against outsiders, who see the whole noise",
    "colluding": "against the coordinator with {} colluding site{}",
    "alone": "of this site's share alone, should secure aggregation fail",
}
_SETTINGS = {"outside": "policy.distributed_noise.max_epsilon_outside", "colluding": "policy.max_epsilon",
             "alone": "policy.distributed_noise.max_epsilon_alone"}


def guarantee_facts(account: Account, policy: PolicyConfig) -> dict[str, Any] | None:
    """Epsilon so far and its cap, for each adversary; None for a site that never shared noise and states no trust."""
    stated = policy.distributed_noise is not None
    if not stated and not any(event.levels for reserved in account.reservations for event in reserved.events):
        return None
    return _facts(account.guarantees(), policy, _fewest_colluders(account, policy))


def with_run_facts(
    account: Account, policy: PolicyConfig, events: Sequence[ReleaseEvent], delta: float, *, reserved: bool
) -> dict[str, Any] | None:
    """The same with a run of schedule `events` in it; None where that run shares no noise."""
    if not any(event.levels for event in events):
        return None
    after = account.guarantees() if reserved else account.guarantees_with_run(events, delta)
    return _facts(after, policy, _fewest_colluders(account, policy, events))


def _facts(found: Guarantees, policy: PolicyConfig, colluders: int) -> dict[str, Any]:
    caps = shared_caps(policy)
    return {"colluders": colluders, **{
        view: {"epsilon": found.against(view) if math.isfinite(found.against(view)) else None,
               "max_epsilon": None if caps is None else caps.against(view), "setting": _SETTINGS[view]}
        for view in VIEWS}}


def _fewest_colluders(account: Account, policy: PolicyConfig, more: Sequence[ReleaseEvent] = ()) -> int:
    """What the number holds for: the fewest that any booked run assumed, or as many as the policy states now, against
    which every run is counted."""
    booked = (event for reserved in account.reservations for event in reserved.events)
    shared = [event.colluders for event in (*booked, *more) if event.levels]
    return max(min(shared, default=0), policy.distributed_noise.colluders if policy.distributed_noise else 0)


def guarantee_lines(facts: dict[str, Any] | None) -> list[str]:
    """The facts for a screen, a line for each adversary."""
    if facts is None:
        return []
    count = facts["colluders"]
    lines = []
    for view in VIEWS:
        one, words = facts[view], _WORDS[view].format(count, "" if count == 1 else "s")
        shown = "unlimited" if one["epsilon"] is None else f"{one['epsilon']:.4g}"
        cap = "no cap stated" if one["max_epsilon"] is None else f"cap {one['max_epsilon']:g}, {one['setting']}"
        lines.append(f"    epsilon {shown:>8} {words} ({cap})")
    return lines
