"""A site in a run with distributed noise: what its policy must state, what is booked, what leaves, and a retry."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch

from configs.schema import ConfigError, PolicyConfig, TrustConfig
from model.server_optimizer import ServerState
from privacy.aggregation import share_of
from privacy.dp.accumulator import ClippedAccumulator
from privacy.dp.clipping import ClipBounds, ClippedSum
from privacy.dp.guarantees import Guarantees, guarantees
from privacy.errors import PolicyRefusalError
from privacy.ledger import Ledger
from privacy.ledger_account import Account
from privacy.messages import Advertise, DistributedNoise, RoundStart, RunManifest, SignedPlan
from privacy.secagg.rings import fits_alone, ring_of, wire_lanes
from privacy.secagg.server import CoordinatorRound
from privacy.statistics import LANES
from site_client.guarantees_report import guarantee_facts, guarantee_lines, with_run_facts
from site_client.mechanism import PatientMechanism
from site_client.policy import check_manifest, planned_events, refusals
from site_client.rank_messages import Begin, task_of
from site_client.trust import is_unstated, shared_caps, trust_rules
from site_client.upload import noised_share
from tests.site_client.small_site import (
    ADAPTER,
    COORDINATOR,
    IDS,
    MANIFEST,
    PLAN,
    ROSTER,
    SIZE,
    STAGE,
    Site,
    admit,
    code,
    hello,
    key_of,
    light,
    session_of,
    train,
)

__all__ = ["light"]

NOISE = DistributedNoise(3, 1, 1 << 16)
ONE_STEP = replace(STAGE, local_steps=1, noise_multiplier=2.0)
SHARED: RunManifest = replace(
    MANIFEST, bits=32, stages=(ONE_STEP, replace(ONE_STEP, name="two")), distributed_noise=NOISE,
    sites=tuple(replace(terms, weight=1.0) for terms in MANIFEST.sites))
DIMENSION = SIZE + len(LANES)
RING = ring_of(SHARED, 0, DIMENSION, len(ROSTER.sites))
TRUST = {"colluders": 1, "min_survivors": 3, "max_epsilon_outside": 8.0, "max_epsilon_alone": 80.0}


def policy(**changed: Any) -> PolicyConfig:
    stated = {**TRUST, **changed}
    return PolicyConfig(max_epsilon=8.0, require_scheduled_replies=False, distributed_noise=TrustConfig(**stated))


def broken(policy_: PolicyConfig, manifest: RunManifest = SHARED) -> list[str]:
    return [code_ for is_broken, code_ in trust_rules(manifest, policy_, ROSTER) if is_broken]


class Sharing(Site):
    """A hospital that states its trust; its ledger has the three caps."""

    def __init__(self, folder: Path, site_id: str = "site-1", **trust: Any) -> None:
        super().__init__(folder, site_id, distributed_noise=TrustConfig(**{**TRUST, **trust}))
        self.ledger.close()
        self.ledger = Ledger.open(
            folder / "ledger.sqlite", signing_key=self.key, epsilon_cap=8.0, shared=shared_caps(self.config.policy))


class Counting:
    """Stands for the mechanism: three patients of known gradients, and the noise that it really adds."""

    made: ClassVar[list[Any]] = []

    def __init__(self, adapted: object, selection: Any, task: Any, entropy: Any) -> None:
        self._task, self._entropy = task, entropy
        Counting.made.append(self)

    def draw(self, num_patients: int) -> range:
        return range(0)

    def samples_of(self, patient: Any) -> list[Any]:
        return []

    def clipped_sum(self, chosen: list[Any]) -> ClippedSum:
        to = ClippedAccumulator(
            SIZE, len(LANES), ClipBounds(1.0, 0.1), torch.device("cpu"), share=self._task.share)
        to.add(torch.ones(3, SIZE), torch.full((3, 3), 0.02, dtype=torch.float64))
        return to.finish()

    def noised_levels(self, clipped: ClippedSum) -> np.ndarray:
        return PatientMechanism.noised_levels(self, clipped)  # type: ignore[arg-type]

    def rehearse(self, public: object) -> None:
        """Nothing to rehearse."""

    def close(self) -> None:
        """Nothing to give back."""


@pytest.fixture(autouse=True)
def counted(monkeypatch: pytest.MonkeyPatch) -> None:
    Counting.made.clear()
    monkeypatch.setattr(
        "site_client.session.noised_share",
        lambda adapted, selection, patients, task, source: noised_share(
            adapted, selection, patients, task, source, Counting))  # type: ignore[arg-type]


def plan_of(**changed: Any) -> bytes:
    values = {"manifest_hash": SHARED.hash(), "dimension": DIMENSION, "num_lanes": len(LANES), "bits": 32,
              "scale": RING.scale, **changed}
    return RoundStart(SignedPlan.signed(COORDINATOR, (), plan=replace(PLAN, **values))).to_bytes()


# ------------------------------------------------------------------ what the policy states


def test_without_a_stated_trust_every_such_run_is_refused(tmp_path: Path) -> None:
    silent = PolicyConfig(max_epsilon=8.0)
    assert broken(silent) == ["P_TRUST"] and broken(silent, MANIFEST) == [] and shared_caps(silent) is None
    session = session_of(Site(tmp_path), None)
    assert code(hello(session, SHARED)) == "P_TRUST"


def test_a_run_may_assume_more_colluders_and_survivors_than_the_policy_never_fewer() -> None:
    assert broken(policy()) == []
    assert broken(policy(), replace(SHARED, distributed_noise=DistributedNoise(4, 1, 1 << 16))) == []
    assert broken(policy(), replace(SHARED, distributed_noise=DistributedNoise(3, 0, 1 << 16))) == ["P_TRUST"]
    assert broken(policy(min_survivors=4)) == ["P_TRUST"]
    assert broken(policy(colluders=2)) == ["P_TRUST"]
    # of four announced sites the threshold is three: two that collude could open two lists of survivors
    assert broken(policy(), replace(SHARED, distributed_noise=DistributedNoise(3, 2, 1 << 16))) == ["P_TRUST"]
    assert shared_caps(policy()) == Guarantees(8.0, 8.0, 80.0, colluders=1)


def test_tags_over_a_noised_sum_need_a_bound_on_the_sites_patients() -> None:
    """A tag adds up what each site put in: it would tell which site's numbers left the ring."""
    tagged = replace(SHARED, integrity_tags=1)
    assert broken(policy(), tagged) == ["P_TRUST"]
    assert broken(replace(policy(), max_patients=5000), tagged) == []
    assert broken(replace(policy(), max_patients=10**5), tagged) == ["P_TRUST"]
    assert broken(replace(policy(), max_patients=10**5)) == []
    levels = tagged.distributed_noise.levels if tagged.distributed_noise else 0
    assert fits_alone(tagged, 2**31 // levels - 200) and not fits_alone(tagged, 2**31 // levels)


@pytest.mark.parametrize("stated", [
    {"colluders": 3}, {"colluders": -1}, {"min_survivors": 1}, {"max_epsilon_alone": 0.0},
    {"max_epsilon_outside": -1.0}])
def test_a_trust_that_makes_no_sense_is_one_sentence(stated: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"policy\.distributed_noise"):
        policy(**stated)


def test_a_cap_on_the_own_share_refuses_the_run(tmp_path: Path) -> None:
    found = guarantees(planned_events(SHARED), 1e-5)
    session = session_of(Sharing(tmp_path / "a", max_epsilon_alone=0.99 * found.alone), None)
    assert code(hello(session, SHARED)) == "P_BUDGET"
    session = session_of(Sharing(tmp_path / "b", max_epsilon_outside=0.99 * found.outside), None)
    assert code(hello(session, SHARED)) == "P_BUDGET"
    admit(session_of(Sharing(tmp_path / "c", max_epsilon_alone=found.alone, max_epsilon_outside=found.outside), None),
          SHARED)


def test_caps_do_not_go_away_with_the_statement_while_shared_runs_are_booked(tmp_path: Path) -> None:
    """Else a later run with local noise could be booked on top with no cap on the other two guarantees."""
    site = Sharing(tmp_path)
    train(session_of(site, SHARED), plan_of())
    silent, account = PolicyConfig(max_epsilon=8.0, require_scheduled_replies=False), site.ledger.account()
    assert is_unstated(silent, account) and not is_unstated(policy(), account)
    assert not is_unstated(silent, Site(tmp_path / "other").ledger.account())
    asked = {"roster": ROSTER, "site_id": "site-1", "base_model_hash": MANIFEST.base_model_hash, "account": account}
    assert "P_TRUST" in refusals(replace(MANIFEST, run_id="later"), policy=silent, **asked)
    with pytest.raises(PolicyRefusalError) as refused:
        check_manifest(replace(MANIFEST, run_id="later"), policy=silent, **asked)
    assert refused.value.code == "P_TRUST"


# ------------------------------------------------------------------ several processes


def test_other_processes_round_to_the_same_levels() -> None:
    """A site's other ranks get what they need to round their patients, and no noise."""
    begin = Begin(
        bytes(16), "0", bytes(32), 8, 16, ("attention",), ("x",), ONE_STEP, 1.0, True, 0.05, 1.0, 0.1, 10.0, 8, 4096,
        "own", NOISE.levels, DIMENSION, NOISE.honest)
    assert task_of(Begin.from_bytes(begin.to_bytes())).share == share_of(SHARED, 0, DIMENSION)
    assert task_of(replace(begin, share_levels=0, share_dimension=0, share_honest=0)).share is None


# ------------------------------------------------------------------ a round


def test_what_is_booked_says_all_three_guarantees(tmp_path: Path) -> None:
    site = Sharing(tmp_path)
    Advertise.from_bytes(train(session_of(site, SHARED), plan_of()))
    entry = site.ledger.entries()[0]
    assert (entry.mechanism, entry.min_survivors, entry.colluders, entry.levels) == (
        "distributed-gaussian", 3, 1, 1 << 16)
    assert (entry.steps, entry.noise_multiplier, entry.sampling_rate) == (1, 2.0, 0.1)
    facts = guarantee_facts(site.ledger.account(), site.config.policy)
    assert facts is not None
    wanted = guarantees(planned_events(SHARED), 1e-5)
    assert [facts[view]["epsilon"] for view in ("outside", "colluding", "alone")] == [
        wanted.outside, wanted.colluding, wanted.alone]
    lines = guarantee_lines(facts)
    assert len(lines) == 3 and "1 colluding site " in lines[1]
    assert "policy.distributed_noise.max_epsilon_alone" in lines[2]
    assert guarantee_facts(Site(tmp_path / "other").ledger.account(), PolicyConfig(max_epsilon=8.0)) is None


def test_an_approval_says_against_how_many_colluders_its_number_holds_with_the_runs_before(tmp_path: Path) -> None:
    """A run that withstands two is added to one that withstands one: together they are counted against one."""
    site = Sharing(tmp_path)
    Advertise.from_bytes(train(session_of(site, SHARED), plan_of()))
    account, stricter = site.ledger.account(), replace(SHARED, distributed_noise=DistributedNoise(4, 2, 1 << 16))
    events = planned_events(stricter)
    facts = with_run_facts(account, site.config.policy, events, 1e-5, reserved=False)
    assert facts is not None and facts["colluders"] == 1
    first = with_run_facts(Account(limits=account.limits), site.config.policy, events, 1e-5, reserved=False)
    assert first is not None and first["colluders"] == 2
    assert facts["colluding"]["epsilon"] > first["colluding"]["epsilon"]


def test_a_retry_sends_the_very_same_vector_and_draws_nothing_again(tmp_path: Path) -> None:
    site = Sharing(tmp_path)
    Advertise.from_bytes(train(session_of(site, SHARED), plan_of()))
    kept = next((tmp_path / "spool").iterdir()).read_bytes()
    assert len(Counting.made) == 1 and len(kept) == 4 * DIMENSION
    restarted = session_of(site, SHARED)
    Advertise.from_bytes(train(restarted, plan_of(attempt=2)))
    assert restarted._open is not None
    vector = restarted._open.protocol._vector
    assert vector is not None and vector.values.tobytes() == kept
    assert len(Counting.made) == 1 and len(site.ledger.entries()) == 1


@pytest.mark.parametrize("changed", [
    {"num_lanes": 4, "dimension": SIZE + 4}, {"scale": 2.0**14}, {"dimension": DIMENSION - 1}])
def test_another_plan_is_refused_before_anything_is_spent(tmp_path: Path, changed: dict[str, Any]) -> None:
    site = Sharing(tmp_path)
    assert code(train(session_of(site, SHARED), plan_of(**changed))) == "E_PARAMS"
    assert not site.ledger.entries() and not Counting.made


def test_four_sites_sum_their_rounded_patients_and_their_noise(tmp_path: Path) -> None:
    """The coordinates of the gradient are turned round, the lanes are not; nothing was saturated."""
    sites = {name: Sharing(tmp_path / name, name) for name in IDS}
    sessions = {name: session_of(site, SHARED) for name, site in sites.items()}
    to = CoordinatorRound(
        plan=SignedPlan.from_bytes(RoundStart.from_bytes(plan_of()).plan.to_bytes()).plan, roster=ROSTER,
        signing_key=COORDINATOR, ring=RING, fewest=3)
    requests: dict[str, bytes] = dict.fromkeys(IDS, plan_of())
    steps: list[tuple[str, Any, Any]] = [
        ("sa_train", to.receive_advertise, to.close_advertise), ("sa_share", to.receive_share, to.close_share),
        ("sa_mask", to.receive_masked, to.close_masked), ("sa_confirm", to.receive_confirm, to.close_confirm),
        ("sa_unmask", to.receive_unmask, dict)]
    for step, receive, close in steps:
        for name, body in requests.items():
            reply, vector = sessions[name].answer(step, body, None)
            receive(name, reply, vector) if step == "sa_mask" else receive(name, reply)
        requests = close()
    total = to.finish().view(np.int32) / RING.scale
    one = ClippedAccumulator(SIZE, len(LANES), ClipBounds(1.0, 0.1), torch.device("cpu"))
    one.add(torch.ones(3, SIZE), torch.full((3, 3), 0.02, dtype=torch.float64))
    expected = 4 * one.finish().vector
    expected[:SIZE] *= -1
    deviation = 2.0 * math.sqrt(4 / 2)  # z C with all four shares in the sum, two of which make up the noise
    assert np.abs(total - expected).max() < 5.5 * deviation and np.abs(total - expected).max() > 0.05
    assert wire_lanes(SHARED) == len(LANES) and key_of("site-1") is not None
    assert ServerState.initial(ADAPTER.astype(np.float64)).finished == 0
