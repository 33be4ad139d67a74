"""The round loop over a link in memory: real sites' protocol, lost messages, and what the error says."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from coordinator.exchange import Outgoing, Reply
from coordinator.rounds import Federation, RoundFailedError, RunState, report_fields, run_rounds
from coordinator.run import _Journal
from model.server_optimizer import (
    NonFiniteUpdateError,
    ServerOptimizer,
    ServerState,
    initial_velocity,
    total_weight,
)
from privacy.errors import FAULTS, ProtocolError
from privacy.identity import Roster, RosterSite, SigningKey
from privacy.messages import Attest, ErrorReply, Plan, RunManifest, SiteTerms, SourceShare, StageSpec, StopRule
from privacy.results import check_result, check_round_start, open_result, open_round_start
from privacy.secagg.client import SiteRound
from privacy.secagg.params import ring_params
from privacy.secagg.quantize import dequantize_sum, quantize, unpack
from privacy.statistics import lane_scale, with_saturated

IDS = ("site-1", "site-2", "site-3", "site-4")
TRAINED = np.array([0, 2, 3], dtype=np.int64)
SIZE = 5


def key_of(name: str) -> SigningKey:
    return SigningKey.from_private_bytes(hashlib.sha256(name.encode()).digest())


ROSTER = Roster(
    federation_id="fed", version=1, coordinator_key=key_of("coordinator").public_bytes(),
    sites=tuple(RosterSite(site, key_of(site).public_bytes(), 100) for site in IDS), min_cohort=3, min_fraction=0.5)
STAGE = StageSpec(
    name="one", sources=(SourceShare("reports", 2),), groups=("attention",), schedule="alternate", learning_rate=0.1,
    momentum=0.0, local_steps=2, sampling_rate=0.1, noise_multiplier=2.0, max_rounds=2)
MANIFEST = RunManifest(
    federation_id="fed", run_id="run", release="0", roster_hash=ROSTER.hash(), base_model_hash=bytes(32),
    adapter_hash=bytes(32), lora_rank=8, lora_alpha=16, privacy="patient-dp", clip_norm=1.0, target_epsilon=8.0,
    lane_share=0.1, bits=24, saturation=2.0, stages=(STAGE, replace(STAGE, name="two")),
    sites=tuple(SiteTerms(site, 100, 0.1 * (i + 1), 1e-5) for i, site in enumerate(IDS)))
RING = ring_params(24, 2.0, len(IDS))
SCALE = lane_scale(MANIFEST, 0)
Answer = Callable[[str, int, str, Reply], Reply]


class Bytes:
    """Repeatable bytes."""

    def __init__(self, name: str) -> None:
        self._name, self._count = name, 0

    def random_bytes(self, n: int) -> bytes:
        self._count += 1
        return hashlib.shake_256(f"{self._name}|{self._count}".encode()).digest(n)


def update_of(site: str, number: int) -> np.ndarray:
    """What a site trained in a round: an update of three coordinates."""
    return np.array([0.1, -0.2, 0.3]) * (IDS.index(site) + 1) / number


class Sites:
    """Four honest sites behind a link that may change or lose replies: `tamper(site, round, step, reply)`."""

    def __init__(self, tamper: Answer = lambda site, number, step, reply: reply) -> None:
        self.tamper = tamper
        self.rounds: dict[str, SiteRound] = {}
        self.plans: list[tuple[int, int, int, str]] = []  # (round, attempt, stage, factor), as the first site saw them
        self.masked: set[tuple[str, int]] = set()
        self.number = 0
        self.states = dict.fromkeys(IDS, ServerState.initial(np.zeros(SIZE)))  # as each site computed it itself
        self.started: dict[str, Plan] = {}
        self.downloads: list[tuple[str, int]] = []  # (site, round) that were sent the whole state

    def meet(self, body: bytes, timeout_s: float) -> Iterator[Reply]:
        raise NotImplementedError

    def bind(self, reply_index: int, site_id: str) -> None:
        raise NotImplementedError

    def exchange(self, step: str, outgoing: Mapping[str, Outgoing], timeout_s: float) -> Iterator[Reply]:
        for site in sorted(outgoing):
            try:
                reply = self._answer(step, site, outgoing[site])
            except ProtocolError as error:
                reply = Reply(site, ErrorReply.of(error).to_bytes())
            yield self.tamper(site, self.number, step, reply)

    def _answer(self, step: str, site: str, message: Outgoing) -> Reply:
        if step == "sa_train":
            return Reply(site, self._train(site, message))
        if step == "sa_mask":
            header, packed = self.rounds[site].mask(message.body)
            self.masked.add((site, self.number))
            return Reply(site, header, packed)
        if step == "sa_result":
            return Reply(site, self._result(site, message))
        return Reply(site, getattr(self.rounds[site], step.removeprefix("sa_"))(message.body))

    def _train(self, site: str, message: Outgoing) -> bytes:
        start = open_round_start(message.body)
        plan = SiteRound.check_plan(start.plan.to_bytes(), roster=ROSTER, manifest=MANIFEST, last=None)
        check_round_start(start, ROSTER, None)
        if message.vector is not None:
            assert start.result is not None
            self.downloads.append((site, plan.round))
            self.states[site] = ServerState.unpacked(message.vector, SIZE, start.result.result.finished)  # type: ignore[arg-type]
        assert self.states[site].model_hash == plan.model_hash
        self.started[site] = plan
        self.number = plan.round
        if (site, plan.round) in self.masked:
            return ErrorReply("E_SPENT", "coordinator").to_bytes()
        if site == "site-1":
            self.plans.append((plan.round, plan.attempt, plan.stage, plan.factor))
        weight = MANIFEST.terms(site).weight
        lanes = SCALE.gain * SCALE.patient(np.full(5, 1.0), np.full(5, 0.8)).sum(axis=0)
        vector = with_saturated(np.concatenate([weight * update_of(site, plan.round), lanes]), MANIFEST.saturation)
        entropy = Bytes(f"{site}|{plan.round}|{plan.attempt}")
        self.rounds[site] = SiteRound(
            site_id=site, signing_key=key_of(site), roster=ROSTER, manifest=MANIFEST, entropy=entropy)
        return self.rounds[site].advertise(plan, quantize(vector, RING))

    def _result(self, site: str, message: Outgoing) -> bytes:
        signed = open_result(message.body, ROSTER)
        result = signed.result
        check_result(result, self.rounds[site].view, self.started[site].factor)
        assert message.vector is not None and hashlib.sha256(message.vector.tobytes()).digest() == result.sum_hash
        if self.states[site].finished < result.finished:  # else it is asked again
            total = dequantize_sum(unpack(message.vector, 24), RING)  # type: ignore[arg-type]
            self.states[site] = self.states[site].after(
                TRAINED, total[:3], total_weight(MANIFEST.terms(s).weight for s in result.survivors),
                optimizer=ServerOptimizer(MANIFEST.server.learning_rate, MANIFEST.server.momentum),
                average_decay=MANIFEST.server.average_decay)
        state = self.states[site]
        assert (state.model_hash, state.state_hash) == (result.model_hash, result.state_hash)
        return Attest.make(site, result, key_of(site)).to_bytes()


class Memory:
    """A journal without a disk."""

    def __init__(self) -> None:
        self.used: list[int] = []
        self.masking: list[tuple[int, int]] = []
        self.kept: list[RunState] = []

    def next_attempt(self, number: int) -> int:
        self.used.append(number)
        return self.used.count(number)

    def will_mask(self, number: int, stage: int) -> None:
        self.masking.append((number, stage))

    def keep(self, state: RunState) -> None:
        self.kept.append(state)


def federation(link: Sites, **changed: Any) -> Federation:
    values: dict[str, Any] = {
        "manifest": MANIFEST, "roster": ROSTER, "signing_key": key_of("coordinator"), "link": link,
        "select": lambda groups, factor: TRAINED, "timeout_s": 1.0, "participants": IDS, **changed}
    return Federation(**values)


def fresh() -> RunState:
    return RunState(np.zeros(SIZE, dtype=np.float32), initial_velocity(SIZE), np.zeros(SIZE))


def run(link: Sites, **changed: Any) -> list[RunState]:
    return list(run_rounds(federation(link, **changed), fresh(), Memory()))


def losing(*lost: tuple[str, int, str]) -> Answer:
    """These messages fail on the way, as Flower reports it."""
    return lambda site, number, step, reply: (
        Reply(site, failure="transport") if (site, number, step) in lost else reply)


def replying(where: tuple[str, str], body: bytes | None = None, vector: Any = None) -> Answer:
    """One site answers something else in the first round."""
    def tamper(site: str, number: int, step: str, reply: Reply) -> Reply:
        if (site, step) != where or number != 1:
            return reply
        return Reply(site, reply.body if body is None else body, vector)

    return tamper


def mean_update(number: int, sites: tuple[str, ...] = IDS) -> np.ndarray:
    weights = {site: MANIFEST.terms(site).weight for site in sites}
    return sum(weights[s] * update_of(s, number) for s in sites) / sum(weights.values())


def test_the_whole_curriculum_adds_the_weighted_means(tmp_path: Path) -> None:
    link = Sites()
    states = run(link)
    assert link.plans == [(1, 1, 0, "B"), (2, 1, 0, "A"), (3, 1, 1, "B"), (4, 1, 1, "A")]
    expected = np.zeros(SIZE)
    expected[TRAINED] = sum(mean_update(number) for number in (1, 2, 3, 4))
    assert np.abs(states[-1].adapter - expected).max() < 1e-4
    report = states[0].history[0]
    assert (report.drawn, report.mean_loss, report.accuracy) == pytest.approx((20.0, 1.0, 0.8), abs=0.02)
    assert report.invited == report.started == report.masked == report.summed == sorted(IDS)
    assert report.missing == {} and min(report.bytes_from_sites.values()) > 0
    json.dumps(report_fields(states[-1].history[-1]))


def test_a_site_that_drops_before_its_upload_is_left_out_of_sum_and_weights() -> None:
    states = run(Sites(losing(("site-4", 1, "sa_mask"))))
    report = states[0].history[0]
    assert report.summed == list(IDS[:3]) and report.missing == {"site-4": "sa_mask: transport"}
    assert np.abs(states[0].adapter[TRAINED] - mean_update(1, IDS[:3])).max() < 1e-4
    assert states[1].history[1].summed == sorted(IDS)


def test_a_site_that_drops_after_its_upload_stays_in_the_sum() -> None:
    report = run(Sites(losing(("site-4", 1, "sa_confirm"))))[0].history[0]
    assert report.summed == sorted(IDS) and report.missing == {"site-4": "sa_confirm: transport"}


@pytest.mark.parametrize(
    ("tamper", "reason"),
    [
        (replying(("site-2", "sa_train"), ErrorReply("P_BUDGET", "nobody").to_bytes()), "sa_train: P_BUDGET"),
        (replying(("site-2", "sa_train"), b"no message"), "sa_train: E_FORMAT"),
        (replying(("site-2", "sa_share"), b""), "sa_share: E_FORMAT"),
        (replying(("site-2", "sa_mask")), "sa_mask: E_FORMAT"),
        (replying(("site-2", "sa_mask"), vector=np.zeros(4, dtype=np.uint8)), "sa_mask: E_UPLOAD"),
        (replying(("site-2", "sa_mask"), vector=np.zeros(18, dtype=np.float64)), "sa_mask: E_FORMAT"),
        (replying(("site-2", "sa_mask"), vector=np.array(["not", "a number"])), "sa_mask: E_FORMAT"),
        (replying(("site-2", "sa_unmask"), b"\xff"), "sa_unmask: E_FORMAT"),
    ])
def test_one_faulty_site_is_named_and_does_not_stop_the_round(tamper: Answer, reason: str) -> None:
    states = run(Sites(tamper))
    assert states[0].history[0].missing == {"site-2": reason}
    assert len(states) == 4


@pytest.mark.parametrize(
    ("step", "needed"), [("sa_train", 3), ("sa_share", 3), ("sa_mask", 3), ("sa_confirm", 3), ("sa_unmask", 3)])
def test_below_the_quorum_the_error_says_step_count_quorum_and_who(step: str, needed: int) -> None:
    link = Sites(losing(("site-2", 1, step), ("site-4", 1, step)))
    with pytest.raises(RoundFailedError) as failure:
        run(link)
    assert str(failure.value) == (
        f"round 1 stopped at {step} (E_COHORT_SMALL, blamed: nobody): 2 of the roster's 4 sites answered well and "
        f"{needed} are needed; missing: site-2 ({step}: transport); site-4 ({step}: transport). "
        f"{FAULTS['E_COHORT_SMALL'].sentence} {FAULTS['E_COHORT_SMALL'].action}")


def test_a_site_that_never_joined_is_named_too() -> None:
    with pytest.raises(RoundFailedError, match=r"missing: site-2 \(sa_share: transport\); site-3 \(did not accept"):
        run(Sites(losing(("site-2", 1, "sa_share"))), participants=("site-1", "site-2", "site-4"))


def test_a_restart_before_the_uploads_tries_the_same_round_again(tmp_path: Path) -> None:
    link = Sites(losing(("site-1", 1, "sa_share"), ("site-2", 1, "sa_share")))
    journal = _Journal(tmp_path / "journal.json", "aa")
    with pytest.raises(RoundFailedError):
        next(run_rounds(federation(link), fresh(), journal))
    link.tamper = losing()
    again = _Journal(tmp_path / "journal.json", "aa")
    state = again.with_lost_rounds(fresh())
    assert state.lost == ()
    done = next(run_rounds(federation(link), state, again))
    assert [(r.round, r.attempt) for r in done.history] == [(1, 2)]


@pytest.mark.parametrize("step", ["sa_mask", "sa_confirm", "sa_unmask"])
def test_a_restart_after_the_uploads_began_passes_that_round_over(tmp_path: Path, step: str) -> None:
    """The sites that uploaded have spent the round and refuse it for ever."""
    link = Sites(losing(("site-1", 2, step), ("site-2", 2, step)))
    journal = _Journal(tmp_path / "journal.json", "aa")
    rounds = run_rounds(federation(link), fresh(), journal)
    state = next(rounds)
    with pytest.raises(RoundFailedError):
        next(rounds)
    again = _Journal(tmp_path / "journal.json", "aa")
    state = again.with_lost_rounds(state)
    assert state.lost == (0,)
    states = list(run_rounds(federation(link), state, again))
    # Its sites have paid for it, so it counts as one of its stage's two rounds.
    assert [(r.round, r.stage) for r in states[-1].history] == [(1, 0), (3, 1), (4, 1)]


def test_a_journal_belongs_to_one_manifest_and_is_there_before_the_number_is_used(tmp_path: Path) -> None:
    path = tmp_path / "new" / "journal.json"
    journal = _Journal(path, "aa")
    assert [journal.next_attempt(1), journal.next_attempt(1), journal.next_attempt(2)] == [1, 2, 1]
    journal.will_mask(2, 1)
    assert _Journal(path, "aa").next_attempt(1) == 3
    assert _Journal(path, "aa").with_lost_rounds(fresh()).lost == (1,)
    assert _Journal(path, "bb").next_attempt(1) == 1
    assert _Journal(path, "bb").with_lost_rounds(fresh()).lost == ()


def test_a_stop_rule_ends_a_stage_on_the_noised_loss_alone() -> None:
    stage = replace(STAGE, max_rounds=5, stop=StopRule(1, 0.5))  # the loss here never falls
    link = Sites()
    manifest = replace(MANIFEST, stages=(stage, MANIFEST.stages[1]))
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(f"{__name__}.MANIFEST", manifest)
        states = run(link, manifest=manifest)
    assert [report.stage for report in states[-1].history] == [0, 0, 1, 1]


def test_a_sum_that_is_not_finite_stops_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("coordinator.rounds.dequantize_sum", lambda total, ring: np.full(total.size, np.nan))
    with pytest.raises(NonFiniteUpdateError, match="last checkpoint"):
        run(Sites())


def test_a_restarted_site_is_admitted_again_before_the_next_round() -> None:
    asked: list[int] = []
    link = Sites(replying(("site-2", "sa_train"), ErrorReply("P_NOT_APPROVED", "nobody").to_bytes()))

    def admit() -> tuple[str, ...]:
        asked.append(link.number)
        return IDS

    states = run(link, participants=IDS, admit=admit)
    assert asked == [1]
    assert [report.summed for report in states[-1].history[:2]] == [["site-1", "site-3", "site-4"], sorted(IDS)]


def test_a_failed_admission_between_rounds_does_not_end_the_run() -> None:
    def admit() -> tuple[str, ...]:
        raise RoundFailedError("only 1 of 4 sites accepted the run")

    link = Sites(replying(("site-2", "sa_train"), ErrorReply("P_WITNESS", "nobody").to_bytes()))
    assert len(run(link, admit=admit)) == 4
