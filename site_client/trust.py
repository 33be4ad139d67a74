"""Distributed noise before this site takes part in it: whose noise it counts on, and what each of the three guarantees
may cost. The policy states both in so many words; where it does not, every such run is refused.
"""

from __future__ import annotations

from collections.abc import Iterator

from configs.schema import PolicyConfig
from privacy.dp.guarantees import Guarantees
from privacy.messages import RunManifest

__all__ = ["shared_caps", "trust_rules"]


def shared_caps(policy: PolicyConfig) -> Guarantees | None:
    """The site's caps on epsilon against each adversary; None = it takes part in no run with distributed noise."""
    trust = policy.distributed_noise
    if trust is None:
        return None
    return Guarantees(trust.max_epsilon_outside, policy.max_epsilon, trust.max_epsilon_alone)


def trust_rules(manifest: RunManifest, policy: PolicyConfig) -> Iterator[tuple[bool, str]]:
    """Whether each rule is broken, with its code, as `site_client.policy` has them.

    The run may count on fewer honest sites than this policy does, never on more: a share is the larger the fewer there
    are, so a run that assumes fewer colluders than this site does adds too little noise for it.
    """
    noise, trust = manifest.distributed_noise, policy.distributed_noise
    if noise is None:
        return
    if trust is None:
        yield True, "P_TRUST"
        return
    yield noise.min_survivors < trust.min_survivors, "P_TRUST"
    yield noise.colluders < trust.colluders, "P_TRUST"
