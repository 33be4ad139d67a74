"""Whole rounds with distributed noise over the real protocol: the floor, one dropout more, a ring that would wrap."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from privacy.aggregation import DistributedNoise, ServerUpdate, fewest_survivors, share_of, sum_terms
from privacy.dp.noise_share import IntegerSum, add_share
from privacy.entropy import SystemEntropy
from privacy.errors import CohortTooSmallError, FaultyCoordinatorError
from privacy.messages import Confirm, MaskedList, RunManifest
from privacy.secagg.checks import check_plan
from privacy.secagg.client import SiteRound
from privacy.secagg.quantize import QuantizedVector, dequantize_sum
from privacy.secagg.rings import NoisyRing, fits_alone, most_drawn, ring_of, wire_lanes
from privacy.secagg.server import CoordinatorRound
from privacy.statistics import LANES, lane_scale
from tests.privacy.secagg.shared_noise import federation_of

SIZE = 20_000
NOISE = DistributedNoise(min_survivors=5, colluders=2, levels=1 << 14)
MADE = federation_of(6, SIZE, NOISE)
SHARE = share_of(MADE.manifest, 0, MADE.plan.dimension)
RING = ring_of(MADE.manifest, 0, MADE.plan.dimension, 6)


class Attempt:
    """Six sites and a coordinator; a site that is silent from a step on says nothing in it any more."""

    def __init__(self, fewest: int | None = None) -> None:
        assert SHARE is not None
        wanted = fewest_survivors(MADE.manifest) if fewest is None else fewest
        self.to = CoordinatorRound(
            plan=MADE.plan, roster=MADE.roster, signing_key=MADE.coordinator_key, ring=RING, fewest=wanted)
        self.sites = {name: SiteRound(
            site_id=name, signing_key=MADE.keys[name], roster=MADE.roster, manifest=MADE.manifest,
            entropy=SystemEntropy()) for name in MADE.roster.active_ids}
        empty = IntegerSum(np.zeros(MADE.plan.dimension), float(SHARE.levels), 0, 0)
        self.shares = {name: add_share(empty, SHARE, SystemEntropy()) for name in self.sites}

    def run(self, silent: dict[str, str]) -> np.ndarray:
        """`silent`: site -> the first step in which it says nothing."""
        steps = ["advertise", "share", "mask", "confirm", "unmask"]

        def speaks(name: str, step: str) -> bool:
            return name not in silent or steps.index(step) < steps.index(silent[name])

        for name, site in self.sites.items():
            if speaks(name, "advertise"):
                vector = QuantizedVector((self.shares[name] & 0xFFFFFFFF).astype(np.uint32), RING)
                self.to.receive_advertise(name, site.advertise(MADE.plan, vector))
        closes: list[tuple[str, Callable[[], dict[str, bytes]], Callable[..., None]]] = [
            ("share", self.to.close_advertise, self.to.receive_share),
            ("mask", self.to.close_share, self.to.receive_masked),
            ("confirm", self.to.close_masked, self.to.receive_confirm),
            ("unmask", self.to.close_confirm, self.to.receive_unmask)]
        for step, close, receive in closes:
            for name, body in close().items():
                if speaks(name, step):
                    answer: Any = getattr(self.sites[name], step)(body)
                    receive(name, *(answer if step == "mask" else (answer,)))
        return self.to.finish()


def test_survivors_at_the_floor_give_exactly_the_calibrated_variance() -> None:
    """Five of six sites are in the sum; two collude and take theirs off: what is left is three shares."""
    assert SHARE is not None and SHARE.honest == 3
    attempt = Attempt()
    total = attempt.run({"site-06": "mask"})
    lifted = total.view(np.int32).astype(np.int64)
    survivors = [name for name in attempt.sites if name != "site-06"]
    assert (lifted == sum(attempt.shares[name] for name in survivors)).all()  # every survivor's share, nothing else
    left = lifted - attempt.shares["site-01"] - attempt.shares["site-02"]
    calibrated = (1.0 * SHARE.levels) ** 2 + 16
    assert SHARE.honest * SHARE.variance == calibrated
    score = float((left.astype(float) ** 2).sum() / calibrated)
    assert abs(score - left.size) < 5 * math.sqrt(2 * left.size)
    outside = float((lifted.astype(float) ** 2).sum() / calibrated) * SHARE.honest / 5
    assert abs(outside - left.size) < 5 * math.sqrt(2 * left.size)


@pytest.mark.parametrize("step", ["advertise", "share", "mask"])
def test_one_dropout_more_than_the_floor_allows_ends_the_round(step: str) -> None:
    """The roster alone would go on with four: its floor of six sites is five, of five or four it is four."""
    with pytest.raises(CohortTooSmallError):
        Attempt().run({"site-05": step, "site-06": step})


@pytest.mark.parametrize("steps", [("confirm", "confirm"), ("unmask", "unmask")])
def test_a_site_that_falls_silent_after_its_upload_still_counts(steps: tuple[str, str]) -> None:
    attempt = Attempt()
    total = attempt.run({"site-06": steps[0]})
    assert (total.view(np.int32) == sum(attempt.shares.values())).all()


def test_the_sites_refuse_a_smaller_sum_even_if_the_coordinator_would_open_it() -> None:
    """What the run's noise needs is computed at each site, from its approved manifest."""
    made = federation_of(6, 100, NOISE)
    assert made.roster.floor(5) == 4 < NOISE.min_survivors  # so it is not the roster that refuses
    attempt = Attempt(fewest=0)
    for name, site in attempt.sites.items():
        if name != "site-06":
            vector = QuantizedVector((attempt.shares[name] & 0xFFFFFFFF).astype(np.uint32), RING)
            attempt.to.receive_advertise(name, site.advertise(MADE.plan, vector))
    for name, body in attempt.to.close_advertise().items():
        attempt.to.receive_share(name, attempt.sites[name].share(body))
    for name, body in attempt.to.close_share().items():
        if name != "site-05":
            attempt.to.receive_masked(name, *attempt.sites[name].mask(body))
    requests = attempt.to.close_masked()
    assert len(requests) == 4 == len(MaskedList.from_bytes(requests["site-01"]).entries)
    for name, body in requests.items():
        with pytest.raises(CohortTooSmallError):
            attempt.sites[name].confirm(body)
        assert attempt.sites[name].state == "aborted"


def test_a_first_list_below_what_the_noise_needs_is_not_sent_and_the_step_stays_open() -> None:
    attempt = Attempt()
    with pytest.raises(CohortTooSmallError):
        attempt.run({"site-05": "advertise", "site-06": "advertise"})
    assert attempt.to.step == "advertise" and attempt.to.waiting == ("site-05", "site-06")


def test_a_local_run_of_the_same_roster_goes_on_with_four() -> None:
    plain = replace(MADE.manifest, distributed_noise=None, server=replace(MADE.manifest.server, optimizer="momentum"))
    assert fewest_survivors(plain) == 0 and MADE.roster.floor(5) == 4


# ------------------------------------------------------------------ the ring


@pytest.mark.parametrize("other", [
    NoisyRing(32, RING.scale * 2, 4.0, 6, reach=1.0), NoisyRing(24, RING.scale, 4.0, 6, reach=1.0)])
def test_a_coordinator_with_another_ring_than_its_plans_does_not_start(other: NoisyRing) -> None:
    with pytest.raises(ValueError, match="not the plan's"):
        CoordinatorRound(plan=MADE.plan, roster=MADE.roster, signing_key=MADE.coordinator_key, ring=other, fewest=5)


@pytest.mark.parametrize(("scale", "summands"), [(0.0, 6), (-1.0, 6), (math.inf, 6), (1.0, 0)])
def test_a_ring_without_a_scale_or_summands_is_refused(scale: float, summands: int) -> None:
    with pytest.raises(ValueError, match="must be positive and finite"):
        NoisyRing(32, scale, 1.0, summands, reach=1.0)


def test_the_ring_is_refused_where_draws_and_noise_could_wrap_it() -> None:
    with pytest.raises(ValueError, match="would wrap"):
        NoisyRing(32, 1.0, 1.0, 8, reach=2.0**31)
    crowd = tuple(replace(terms, declared_patients=10**6, delta=1e-8) for terms in MADE.manifest.sites)
    crowded = replace(MADE.manifest, sites=crowd, distributed_noise=replace(NOISE, levels=1 << 20))
    with pytest.raises(ValueError, match="would wrap"):
        ring_of(crowded, 0, MADE.plan.dimension, 6)
    signed = plan_of(crowded)
    with pytest.raises(FaultyCoordinatorError) as refused:
        check_plan(signed, roster=MADE.roster, manifest=crowded, last=None)
    assert refused.value.code == "E_PARAMS"


def plan_of(manifest: RunManifest, **changed: Any) -> bytes:
    from privacy.messages import SignedPlan

    plan = replace(MADE.plan, manifest_hash=manifest.hash(), **changed)
    return SignedPlan.signed(MADE.coordinator_key, (), plan=plan).to_bytes()


@pytest.mark.parametrize("changed", [
    {"scale": RING.scale * 2}, {"scale": RING.scale * (1 + 1e-12)}, {"dimension": MADE.plan.dimension + 1},
    {"bits": 24}, {"saturation": 1.0}])
def test_a_plan_with_another_scale_or_length_is_refused(changed: dict[str, Any]) -> None:
    check_plan(plan_of(MADE.manifest), roster=MADE.roster, manifest=MADE.manifest, last=None)
    with pytest.raises(FaultyCoordinatorError) as refused:
        check_plan(plan_of(MADE.manifest, **changed), roster=MADE.roster, manifest=MADE.manifest, last=None)
    assert refused.value.code == "E_PARAMS"


def test_levels_that_are_too_few_for_the_adapter_are_refused() -> None:
    with pytest.raises(ValueError, match="levels are too few"):
        ring_of(MADE.manifest, 0, 1 << 29, 6)


def test_the_number_of_patients_in_a_sum_is_bounded_as_bernstein_says() -> None:
    from scipy import stats

    most = most_drawn(MADE.manifest, 0)  # 6 sites of 200 patients, 5 % each
    assert stats.binom.sf(most, 1200, 0.05) < 1e-9 and most < 150
    all_in = replace(MADE.manifest, stages=(replace(MADE.manifest.stages[0], sampling_rate=1.0),))
    assert most_drawn(all_in, 0) == 1200


def test_the_number_of_patients_whose_sum_stays_in_the_ring_at_one_site() -> None:
    """S a patient, and what the share of the noise exceeds once in 1e9 rounds; whose noise is local saturates."""
    assert SHARE is not None
    most = (2**31 - 15 * float(SHARE.variance) ** 0.5) / (NOISE.levels + 1)
    assert fits_alone(MADE.manifest, int(most))
    assert not fits_alone(MADE.manifest, 2**31 // NOISE.levels)
    noisier = replace(MADE.manifest, stages=(replace(MADE.manifest.stages[0], noise_multiplier=1e4),))
    assert fits_alone(MADE.manifest, 100_000) and not fits_alone(noisier, 100_000)
    local = replace(MADE.manifest, distributed_noise=None, server=ServerUpdate())
    assert fits_alone(local, 10**9)


def test_lanes_ride_in_the_vector_and_there_is_none_for_saturation() -> None:
    assert wire_lanes(MADE.manifest) == len(LANES)
    scale = lane_scale(MADE.manifest, 0)
    assert scale.gain == 1.0 and scale.unit == pytest.approx(0.01 / math.sqrt(3))
    lanes = 40 * scale.unit * np.array([0.5, 0.25, 1.0])
    found = scale.decode(lanes)
    assert (found.drawn, found.mean_loss, found.accuracy) == pytest.approx((40, 2.0, 0.25))


# ------------------------------------------------------------------ the sum's terms


def test_the_mean_is_over_the_patients_that_the_sites_in_the_sum_draw() -> None:
    assert SHARE is not None
    five = sum_terms(MADE.manifest, 0, MADE.plan.dimension, MADE.roster.active_ids[:5])
    assert five.divisor == pytest.approx(0.05 * 200 * 5)
    assert five.learning_rate == MADE.manifest.server.learning_rate * 0.1
    assert math.sqrt(five.noise_variance) == pytest.approx(SHARE.noise_std(5) / 50)


def test_the_lift_turns_the_rings_upper_half_negative() -> None:
    total = np.array([5, 2**32 - 5, 2**31], dtype=np.uint32)
    assert (dequantize_sum(total, RING) * RING.scale == pytest.approx(np.array([5, -5, -(2.0**31)])))


def test_confirmations_are_still_a_quorum_of_those_who_announced() -> None:
    """Fewer confirmations than t open nothing, whatever the noise needs."""
    attempt = Attempt()
    with pytest.raises(CohortTooSmallError):
        attempt.run(dict.fromkeys(("site-04", "site-05", "site-06"), "confirm"))
    assert Confirm.LABEL == "confirm"
