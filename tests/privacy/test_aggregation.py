"""What a manifest may say of distributed noise, and the numbers that both sides compute from it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from privacy.aggregation import (
    DistributedNoise,
    ServerUpdate,
    fewest_survivors,
    most_colluders,
    share_of,
    sum_terms,
)
from privacy.audit_claim import configuration_hash
from privacy.messages import AdaptiveClip, RunManifest, Truncation
from tests.privacy.secagg.shared_noise import federation_of

NOISE = DistributedNoise(4, 1, 1 << 16)
MANIFEST = federation_of(5, 1000, NOISE).manifest


def with_stage(**changed: Any) -> dict[str, Any]:
    return {"stages": (replace(MANIFEST.stages[0], **changed),)}


@pytest.mark.parametrize(("changed", "words"), [
    ({"privacy": "none", "target_epsilon": 0.0, **with_stage(noise_multiplier=0.0)}, "no noise to distribute"),
    ({"bits": 24}, "a ring of 32 bits"),
    ({"sites": tuple(replace(terms, weight=0.2) for terms in MANIFEST.sites)}, "every site has weight 1"),
    ({"distributed_noise": replace(NOISE, min_survivors=6)}, "more than the run's 5 sites"),
    (with_stage(local_steps=2), "set local_steps to 1"),
    (with_stage(momentum=0.5), "optimiser at the sites"),
    (with_stage(optimizer="adamw"), "optimiser at the sites"),
    (with_stage(adaptive_clip=AdaptiveClip(0.5, 0.2, 10.0)), "an adaptive clip"),
    ({"distributed_noise": None}, "Adam needs distributed noise"),
])
def test_what_does_not_go_with_distributed_noise_is_refused(changed: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        replace(MANIFEST, **changed)


def test_truncated_draws_and_automatic_clipping_do() -> None:
    for changed in (with_stage(truncation=Truncation(64, 2000)), with_stage(clipping="auto-s")):
        assert isinstance(replace(MANIFEST, **changed), RunManifest)


@pytest.mark.parametrize("values", [(1, 0, 1 << 16), (4, 4, 1 << 16), (4, -1, 1 << 16), (4, 1, 100), (4, 1, 1 << 25)])
def test_noise_without_an_honest_site_or_with_odd_levels_is_refused(values: tuple[int, int, int]) -> None:
    with pytest.raises(ValueError, match="distributed_noise"):
        DistributedNoise(*values)


def test_a_share_is_that_of_the_honest_sites_in_a_smallest_sum() -> None:
    share = share_of(MANIFEST, 0, 1003)
    assert share is not None and (share.honest, share.levels, share.clip_norm) == (3, 1 << 16, 0.1)
    assert fewest_survivors(MANIFEST) == 4
    plain = replace(MANIFEST, distributed_noise=None, server=ServerUpdate())
    assert share_of(plain, 0, 1003) is None and fewest_survivors(plain) == 0


@pytest.mark.parametrize(
    ("sites", "fewest", "most"), [(5, 5, 2), (5, 4, 1), (4, 3, 1), (8, 6, 2), (8, 8, 3), (3, 3, 2)])
def test_no_more_colluders_than_secure_aggregation_withstands(sites: int, fewest: int, most: int) -> None:
    """2 t - n - 1 with t = floor(2 n / 3) + 1, at its least over the cohorts that may announce themselves."""
    made = federation_of(sites, 10, DistributedNoise(fewest, 0, 1 << 16))
    assert most_colluders(made.roster, made.manifest) == most


def test_local_noise_keeps_its_weights_and_rate() -> None:
    sites = tuple(replace(terms, weight=0.1 * (n + 1)) for n, terms in enumerate(MANIFEST.sites))
    plain = replace(MANIFEST, distributed_noise=None, server=ServerUpdate(0.7), sites=sites)
    found = sum_terms(plain, 0, 1003, plain.site_ids[:2])
    assert (found.divisor, found.learning_rate, found.noise_variance) == (0.1 + 0.2, 0.7, 0.0)


def test_an_audit_of_one_mode_is_not_one_of_the_other() -> None:
    local = replace(MANIFEST, distributed_noise=None, server=replace(MANIFEST.server, optimizer="momentum"))
    other = replace(MANIFEST, distributed_noise=replace(NOISE, colluders=2))
    assert len({configuration_hash(one) for one in (MANIFEST, local, other)}) == 3
