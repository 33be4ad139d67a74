"""The benchmark of distributed noise: that what it times is a real aggregation, with the noise that it should have."""

from __future__ import annotations

import math

from benchmarks.distributed_noise import Timings, aggregation, federation_of
from privacy.aggregation import DistributedNoise, share_of


def test_what_is_timed_is_a_real_aggregation():
    made = federation_of(4, 50_000, DistributedNoise(3, 1, 1 << 16))
    found, share = aggregation(made), share_of(made.manifest, 0, 50_003)
    score = float((found.total**2).sum() / share.noise_std(4) ** 2)
    assert abs(score - 50_003) < 5 * math.sqrt(2 * 50_003)
    assert found.vector_bytes == 4 * 50_003 and found.together > 0 and len(found.noise) == 4


def test_together_is_one_site_and_the_coordinator():
    assert Timings([0.1, 0.2, 0.3], [0.01, 0.01, 0.01], 0.2).together == 0.2 + 0.01 + 0.2
