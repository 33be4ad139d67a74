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
from privacy.secagg.rings import fits_alone

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

    `colluders` is a number of sites, however many take part: a run that assumes fewer than this site does adds too
    little noise for it. With more survivors than the policy asks for each share is smaller; what the own share is worth
    then is bounded by `max_epsilon_alone` only. And no more colluders may be assumed than the secure aggregation
    withstands: beyond that nobody is sure to see sums only.

    Integrity tags are sums over what each site put in, before the ring: with them no coordinate of one site's upload
    may leave the ring, so the site must state how many patients it has at most.
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
    yield manifest.integrity_tags > 0 and not (
        policy.max_patients is not None and fits_alone(manifest, policy.max_patients)), "P_TRUST"
