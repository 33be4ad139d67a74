"""Distributed noise before this site takes part in it: whose noise it counts on, and what each of the three guarantees
may cost. The policy states both in so many words; where it does not, every such run is refused.
"""

from __future__ import annotations

from collections.abc import Iterator

from configs.schema import PolicyConfig
from privacy.aggregation import most_colluders
from privacy.dp.guarantees import Guarantees
from privacy.identity import Roster
from privacy.ledger_account import Account
from privacy.messages import RunManifest

__all__ = ["is_unstated", "shared_caps", "trust_rules"]


def shared_caps(policy: PolicyConfig) -> Guarantees | None:
    """The site's caps on epsilon against each adversary; None = it takes part in no run with distributed noise."""
    trust = policy.distributed_noise
    if trust is None:
        return None
    return Guarantees(trust.max_epsilon_outside, policy.max_epsilon, trust.max_epsilon_alone, trust.colluders)


def is_unstated(policy: PolicyConfig, account: Account) -> bool:
    """Whether the ledger holds a run with distributed noise and the policy no longer says what its three guarantees may
    cost: the caps on two of them would be gone, so no run is booked on top until it does."""
    return policy.distributed_noise is None and any(
        event.levels for reserved in account.reservations for event in reserved.events)


def trust_rules(manifest: RunManifest, policy: PolicyConfig, roster: Roster) -> Iterator[tuple[bool, str]]:
    """Whether each rule is broken, with its code, as `site_client.policy` has them.

    The run may count on fewer honest sites than this policy does, never on more: a share is the larger the fewer there
    are, so a run that assumes fewer colluders than this site does adds too little noise for it. And no more colluders
    may be assumed than the secure aggregation withstands: beyond that nobody is sure to see sums only.
    """
    noise, trust = manifest.distributed_noise, policy.distributed_noise
    if noise is None:
        return
    if trust is None:
        yield True, "P_TRUST"
        return
    yield noise.min_survivors < trust.min_survivors, "P_TRUST"
    yield noise.colluders < trust.colluders, "P_TRUST"
    yield noise.colluders > most_colluders(roster, manifest), "P_TRUST"
