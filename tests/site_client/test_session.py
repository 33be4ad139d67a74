"""What a site does with the coordinator's messages: order of ledger and release, spent rounds, and what leaves."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from configs.schema import PolicyConfig
from model.adapter import Selection
from privacy.dp.accounting import epsilon
from privacy.entropy import Entropy
from privacy.identity import Roster, RosterSite, SigningKey
from privacy.ledger import Ledger
from privacy.manifest import Plan, RunManifest, SiteTerms, SourceShare, StageSpec
from privacy.messages import Advertise, ErrorReply, Hello, SignedManifest, SignedPlan
from privacy.release import release_hash
from privacy.secagg.params import ring_params
from privacy.secagg.quantize import dequantize_sum, quantize
from privacy.secagg.server import CoordinatorRound
from privacy.statistics import LANES, lane_scale
from site_client.policy import planned_events
from site_client.session import SiteSession
from site_client.spool import Spool
from site_client.training import LocalUpdate

IDS = ("site-1", "site-2", "site-3", "site-4")
SIZE = 6
ADAPTER = np.linspace(-1, 1, 9, dtype=np.float32)


class Seeded(Entropy):
    """A repeatable source for one purpose."""

    def __init__(self, *purpose: str) -> None:
        super().__init__(hashlib.sha256("|".join(purpose).encode()).digest(), simulated=True)


def key_of(name: str) -> SigningKey:
    return SigningKey.from_private_bytes(hashlib.sha256(name.encode()).digest())


COORDINATOR = key_of("coordinator")
ROSTER = Roster(
    federation_id="fed", version=1, coordinator_key=COORDINATOR.public_bytes(),
    sites=tuple(RosterSite(site, key_of(site).public_bytes(), 100 * (i + 1)) for i, site in enumerate(IDS)),
    min_cohort=3, min_fraction=0.5)
STAGE = StageSpec(
    name="one", sources=(SourceShare("reports", 2),), groups=("attention",), schedule="alternate", learning_rate=0.1,
    momentum=0.0, local_steps=2, sampling_rate=0.1, noise_multiplier=2.0, max_rounds=2)
MANIFEST = RunManifest(
    federation_id="fed", run_id="run", release=release_hash(), roster_hash=ROSTER.hash(), base_model_hash=bytes(32),
    adapter_hash=bytes(32), lora_rank=8, lora_alpha=16, privacy="patient-dp", clip_norm=1.0, target_epsilon=8.0,
    lane_share=0.1, bits=24, saturation=2.0, stages=(STAGE, replace(STAGE, name="two")),
    sites=tuple(SiteTerms(site, 100 * (i + 1), 0.1 * (i + 1), 1e-5) for i, site in enumerate(IDS)))
RING = ring_params(24, 2.0, 4)
PLAN = Plan(
    federation_id="fed", run_id="run", roster_hash=ROSTER.hash(), manifest_hash=MANIFEST.hash(), round=1, attempt=1,
    stage=0, factor="B", model_hash=hashlib.sha256(ADAPTER.tobytes()).digest(), dimension=SIZE + 3, num_lanes=3,
    bits=24, scale=RING.scale, saturation=2.0)


def plan_of(manifest: RunManifest = MANIFEST, **changed: Any) -> bytes:
    plan = replace(PLAN, run_id=manifest.run_id, manifest_hash=manifest.hash(), **changed)
    return SignedPlan.signed(COORDINATOR, (), plan=plan).to_bytes()


def manifest_of(**changed: Any) -> RunManifest:
    return replace(MANIFEST, **changed)


#: Stands for the adapted model: shapes only.
MODEL = SimpleNamespace(
    base=SimpleNamespace(content_hash=bytes(32)), model=None, encode=list, write=lambda vector: None,
    layout=SimpleNamespace(size=ADAPTER.size, select=lambda groups, factor: Selection(("x",), SIZE, np.arange(SIZE))))


class Site:
    """Stands for an installation: a real ledger and spool in a folder, everything else in memory."""

    def __init__(self, folder: Path, site_id: str = "site-1", **policy: Any) -> None:
        self.site_id, self.roster, self.key = site_id, ROSTER, key_of(site_id)
        self.config = SimpleNamespace(policy=PolicyConfig(**{"max_epsilon": 8.0, **policy}))
        folder.mkdir(parents=True, exist_ok=True)
        self.ledger = Ledger.open(folder / "ledger.sqlite", epsilon_cap=8.0)
        self.spool = Spool(folder)

    def model(self, lora: object) -> Any:
        return MODEL

    def patients(self, adapted: object) -> list[Any]:
        events.append("patients")
        return []


events: list[str] = []
UPDATE = LocalUpdate(np.linspace(-0.5, 0.5, SIZE), np.array([0.01, 0.02, 0.03]))


@pytest.fixture(autouse=True)
def light(monkeypatch: pytest.MonkeyPatch) -> None:
    """Training without a model; `events` says in which order things happened."""
    events.clear()

    def trains(*_: object) -> LocalUpdate:
        events.append("train")
        return UPDATE

    monkeypatch.setattr("site_client.session.run_local_steps", trains)
    monkeypatch.setattr("site_client.session.rehearse", lambda *_: events.append("rehearse"))
    monkeypatch.setattr("site_client.session.probe_is_finite", lambda *_: True)


def session_of(site: Site, manifest: RunManifest | None = MANIFEST) -> SiteSession:
    session = SiteSession(site, lambda purpose: Seeded(site.site_id, purpose))  # type: ignore[arg-type]
    if manifest is not None:
        Hello.from_bytes(hello(session, manifest))
    return session


def hello(session: SiteSession, manifest: RunManifest) -> bytes:
    return session.answer("hello", SignedManifest.make(manifest, COORDINATOR).to_bytes(), None)[0]


def train(session: SiteSession, signed: bytes, adapter: np.ndarray = ADAPTER) -> bytes:
    return session.answer("sa_train", signed, adapter)[0]


def code(reply: bytes) -> str:
    return ErrorReply.from_bytes(reply).code


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path / "site-1")


class Round:
    """A coordinator and four sessions; `run` stops before the named step."""

    def __init__(self, folder: Path) -> None:
        self.sites = {site: Site(folder / site, site) for site in IDS}
        self.sessions = {name: session_of(site) for name, site in self.sites.items()}
        self.requests: dict[str, dict[str, bytes]] = {}

    def run(self, before: str = "", **plan: Any) -> np.ndarray | None:
        to = CoordinatorRound(plan=replace(PLAN, **plan), roster=ROSTER, signing_key=COORDINATOR)
        requests = dict.fromkeys(IDS, to.signed_plan())
        steps: list[tuple[str, Callable[..., None], Callable[[], dict[str, bytes]]]] = [
            ("sa_train", to.receive_advertise, to.close_advertise), ("sa_share", to.receive_share, to.close_share),
            ("sa_mask", to.receive_masked, to.close_masked), ("sa_confirm", to.receive_confirm, to.close_confirm),
            ("sa_unmask", to.receive_unmask, dict)]
        for step, receive, close in steps:
            self.requests[step] = requests
            if step == before:
                return None
            for name, body in requests.items():
                reply, vector = self.sessions[name].answer(step, body, ADAPTER if step == "sa_train" else None)
                receive(name, reply, vector) if step == "sa_mask" else receive(name, reply)
            requests = close()
        return dequantize_sum(to.finish(), RING)


def test_the_sum_of_four_sites_is_that_of_their_weighted_updates_and_lanes(tmp_path: Path) -> None:
    total = Round(tmp_path).run()
    assert total is not None
    gain = lane_scale(MANIFEST, 0).gain
    expected = np.concatenate([sum(t.weight for t in MANIFEST.sites) * UPDATE.delta, 4 * gain * UPDATE.lanes])
    assert np.abs(total - expected).max() <= 4 / (2 * RING.scale)


def test_a_finished_round_is_spent_and_nothing_of_it_stays(tmp_path: Path) -> None:
    federation = Round(tmp_path)
    federation.run()
    site = federation.sites["site-1"]
    assert site.ledger.is_masked("run", 1) and len(site.ledger.entries()) == 1
    assert not list((tmp_path / "site-1" / "spool").iterdir())
    assert code(train(federation.sessions["site-1"], plan_of(attempt=2))) == "E_SPENT"
    assert code(train(session_of(site), plan_of(attempt=2))) == "E_SPENT"  # nor after a restart
    assert len(site.ledger.entries()) == 1


def test_two_processes_of_one_site_cannot_both_upload_the_round(tmp_path: Path) -> None:
    """The same update in two cohorts would give their difference away."""
    federation = Round(tmp_path)
    federation.run(before="sa_mask")
    body = federation.requests["sa_mask"]["site-1"]
    stale = federation.sessions["site-1"]
    federation.sessions["site-1"] = session_of(federation.sites["site-1"])
    assert federation.run(attempt=2) is not None
    reply, vector = stale.answer("sa_mask", body, None)
    assert (code(reply), vector) == ("E_SPENT", None)


def test_a_round_that_stopped_goes_on_with_the_same_update_and_spends_nothing(tmp_path: Path) -> None:
    federation = Round(tmp_path)
    federation.run(before="sa_mask")
    federation.sessions = {name: session_of(site) for name, site in federation.sites.items()}
    assert federation.run(attempt=2) is not None
    assert events.count("train") == 4
    assert all(len(site.ledger.entries()) == 1 for site in federation.sites.values())
    assert {site.ledger.last_attempt("run") for site in federation.sites.values()} == {(1, 2)}


def test_public_checks_then_the_index_then_the_ledger_then_training(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    reserve = site.ledger.reserve
    monkeypatch.setattr(site.ledger, "reserve", lambda entry: events.append("reserve") or reserve(entry))
    Advertise.from_bytes(train(session_of(site), plan_of()))
    assert events == ["rehearse", "patients", "reserve", "train"]


@pytest.mark.parametrize("failure", [OSError("disk full"), ValueError("no")])
def test_nothing_is_trained_or_released_when_the_ledger_cannot_be_written(
    site: Site, monkeypatch: pytest.MonkeyPatch, failure: Exception
) -> None:
    def fails(_: object) -> int:
        raise failure

    monkeypatch.setattr(site.ledger, "reserve", fails)
    session = session_of(site)
    assert code(train(session, plan_of())) == "E_SITE"
    assert "train" not in events
    assert code(session.answer("sa_share", b"", None)[0]) == "E_STAGE"


def test_a_step_beyond_the_cap_is_refused_before_training(tmp_path: Path) -> None:
    site = Site(tmp_path)
    session = session_of(site)
    site.ledger = Ledger.open(tmp_path / "ledger.sqlite", epsilon_cap=1e-3)
    assert code(train(session, plan_of())) == "P_BUDGET"
    assert "train" not in events and site.ledger.entries() == ()


def test_a_crash_in_training_is_booked_and_the_next_attempt_is_booked_again(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr("site_client.session.run_local_steps", _crash)
        assert code(train(session_of(site), plan_of())) == "E_SITE"
    Advertise.from_bytes(train(session_of(site), plan_of(attempt=2)))
    assert [(entry.round, entry.attempt) for entry in site.ledger.entries()] == [(1, 1), (1, 2)]


def _crash(*_: object) -> LocalUpdate:
    raise RuntimeError("/data/Smith^John.dcm")


def test_no_upload_without_a_reservation_even_if_the_spool_holds_one(tmp_path: Path) -> None:
    """A spool restored without its ledger."""
    federation = Round(tmp_path)
    for site in federation.sites.values():
        site.spool.keep(PLAN, quantize(np.zeros(SIZE + 3), RING).values)
    federation.run(before="sa_mask")
    reply, vector = federation.sessions["site-1"].answer("sa_mask", federation.requests["sa_mask"]["site-1"], None)
    assert code(reply) == "E_SITE" and vector is None


def test_a_run_identifier_stands_for_one_manifest(site: Site) -> None:
    session = session_of(site)
    longer = manifest_of(stages=(replace(STAGE, max_rounds=9), MANIFEST.stages[1]))
    Hello.from_bytes(hello(session, longer))  # nothing was trained yet: the coordinator may correct itself
    Hello.from_bytes(hello(session, MANIFEST))
    Advertise.from_bytes(train(session, plan_of()))
    assert code(hello(session, longer)) == "P_RUN_ID"
    assert code(hello(session_of(site, None), longer)) == "P_RUN_ID"  # nor after a restart
    Hello.from_bytes(hello(session, MANIFEST))
    assert code(train(session, plan_of(longer, round=2))) == "E_MANIFEST"


def test_what_another_run_spent_counts_against_this_one(tmp_path: Path) -> None:
    Advertise.from_bytes(train(session_of(Site(tmp_path)), plan_of()))
    planned = epsilon(planned_events(MANIFEST), 1e-5)
    tight = Site(tmp_path, max_epsilon=1.01 * planned)
    Hello.from_bytes(hello(session_of(tight, None), MANIFEST))  # its own entries are part of its plan
    assert code(hello(session_of(tight, None), manifest_of(run_id="second"))) == "P_BUDGET"


def test_a_run_may_not_plan_more_than_the_epsilon_it_names(site: Site) -> None:
    assert code(hello(session_of(site, None), manifest_of(target_epsilon=0.1))) == "P_BUDGET"


def test_a_stage_has_no_more_rounds_than_the_manifest_says(site: Site) -> None:
    """Not by more rounds, and not by another attempt at one of them from another model."""
    session = session_of(site)
    other = ADAPTER + np.float32(1)
    Advertise.from_bytes(train(session, plan_of()))
    changed = plan_of(attempt=2, model_hash=hashlib.sha256(other.tobytes()).digest())
    Advertise.from_bytes(train(session, changed, other))
    events.clear()
    assert code(train(session, plan_of(round=2))) == "P_BUDGET"
    assert events == [] and len(site.ledger.entries()) == 2
    Advertise.from_bytes(train(session, plan_of(round=3, stage=1)))


def test_the_last_round_of_a_stage_may_be_tried_again_with_its_waiting_update(site: Site) -> None:
    session = session_of(site)
    for number, attempt in ((1, 1), (2, 1), (2, 2)):
        Advertise.from_bytes(train(session, plan_of(round=number, attempt=attempt)))
    assert len(site.ledger.entries()) == 2


def test_a_round_that_the_schedule_cannot_have_is_refused(site: Site) -> None:
    session = session_of(site)
    assert code(train(session, plan_of(round=3))) == "E_MANIFEST"
    assert events == [] and site.ledger.entries() == ()
    Advertise.from_bytes(train(session, plan_of(round=3, stage=1)))


@pytest.mark.parametrize(
    "changed",
    [{"dimension": SIZE + 2}, {"num_lanes": 2}, {"scale": RING.scale / 2}, {"stage": 2}, {"factor": "AB"},
     {"saturation": 4.0}, {"bits": 32}])
def test_a_plan_of_another_shape_is_refused_before_anything_is_spent(site: Site, changed: dict[str, Any]) -> None:
    reply = ErrorReply.from_bytes(train(session_of(site), plan_of(**changed)))
    assert (reply.code, reply.blamed) == ("E_PARAMS", "coordinator")
    assert events == [] and site.ledger.entries() == ()


def test_an_adapter_other_than_the_plans_is_refused(site: Site) -> None:
    assert code(train(session_of(site), plan_of(), ADAPTER + np.float32(1))) == "E_MODEL_HASH"
    short = ADAPTER[:-1]
    plan = plan_of(model_hash=hashlib.sha256(short.tobytes()).digest())
    assert code(train(session_of(site), plan, short)) == "E_PARAMS"


def test_without_an_approved_manifest_there_is_no_training(site: Site) -> None:
    assert code(train(session_of(site, None), plan_of())) == "P_NOT_APPROVED"


def test_an_update_without_noise_needs_the_sites_own_consent(site: Site) -> None:
    bare = manifest_of(
        privacy="none", target_epsilon=0.0,
        stages=tuple(replace(stage, noise_multiplier=0.0) for stage in MANIFEST.stages))
    session = session_of(site, None)
    assert code(hello(session, bare)) == "P_PRIVACY"
    assert code(train(session, plan_of(bare))) == "P_NOT_APPROVED"


def test_the_same_bytes_get_the_same_reply_and_no_second_training(site: Site) -> None:
    session = session_of(site)
    assert train(session, plan_of()) == train(session, plan_of())
    assert events.count("train") == 1


def test_the_first_reply_says_nothing_about_the_update(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = train(session_of(Site(tmp_path / "a")), plan_of())
    monkeypatch.setattr(
        "site_client.session.run_local_steps", lambda *_: LocalUpdate(np.full(SIZE, 1e9), np.zeros(len(LANES))))
    assert train(session_of(Site(tmp_path / "b")), plan_of()) == first


def test_messages_belong_to_the_newest_round(tmp_path: Path) -> None:
    """Also when its run was opened before another one."""
    federation = Round(tmp_path)
    federation.run(before="sa_share")
    session = federation.sessions["site-1"]
    second = manifest_of(run_id="second")
    hello(session, second)
    Advertise.from_bytes(train(session, plan_of(second)))
    assert federation.run(attempt=2) is not None


def test_neither_reply_nor_log_holds_what_an_exception_says(
    site: Site, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("site_client.session.run_local_steps", _crash)
    session = session_of(site)
    with caplog.at_level(logging.DEBUG):
        reply = train(session, plan_of())
    assert vars(ErrorReply.from_bytes(reply)) == {"code": "E_SITE", "blamed": "site-1"}
    assert "Smith" not in caplog.text
    assert "kind=RuntimeError at=test_session.py:" in caplog.text


def test_a_broken_adapter_is_refused_before_the_index_is_read(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    bad = np.full_like(ADAPTER, np.nan)
    plan = plan_of(model_hash=hashlib.sha256(bad.tobytes()).digest())
    assert code(train(session_of(site), plan, bad)) == "P_NOT_FINITE"
    monkeypatch.setattr("site_client.session.probe_is_finite", lambda *_: False)
    assert code(train(session_of(site), plan_of())) == "P_NOT_FINITE"
    assert events == [] and site.ledger.entries() == ()


@pytest.mark.parametrize(("step", "expected"), [("sa_share", "E_STAGE"), ("hello", "E_FORMAT"), ("reset", "E_SITE")])
def test_a_message_out_of_place_is_refused_with_a_code(site: Site, step: str, expected: str) -> None:
    assert code(session_of(site, None).answer(step, b"\x00", None)[0]) == expected
