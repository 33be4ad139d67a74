"""What a site does with the coordinator's messages: order of ledger and release, spent rounds, and what leaves."""

from __future__ import annotations

import logging
from dataclasses import replace
from datetime import datetime, tzinfo
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from model.server_optimizer import ServerState, model_hash
from privacy.dp.accounting import epsilon
from privacy.ledger import Ledger
from privacy.messages import (
    Advertise,
    ErrorReply,
    Hello,
)
from privacy.secagg.params import ring_params
from privacy.secagg.quantize import quantize
from privacy.statistics import LANES, WIRE_LANES, lane_scale
from site_client.policy import planned_events
from site_client.spool import Spool
from site_client.training import LocalTask, LocalUpdate
from tests.site_client.small_site import (  # noqa: F401  (fixtures are used by name)
    ADAPTER,
    INITIAL,
    MANIFEST,
    PLAN,
    RING,
    SIZE,
    STAGE,
    UPDATE,
    Round,
    Site,
    admit,
    attested,
    code,
    events,
    hello,
    light,
    manifest_of,
    plan_of,
    session_of,
    site,
    train,
)


def test_the_sum_of_four_sites_is_that_of_their_weighted_updates_and_lanes(tmp_path: Path) -> None:
    total = Round(tmp_path).run()
    assert total is not None
    gain = lane_scale(MANIFEST, 0).gain
    expected = np.concatenate([sum(t.weight for t in MANIFEST.sites) * UPDATE.delta, 4 * gain * UPDATE.lanes, [0.0]])
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


# ------------------------------------------------------------------ the ledger comes first


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
    site.ledger = Ledger.open(tmp_path / "ledger.sqlite", signing_key=site.key, epsilon_cap=1e-3)
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
    for other in federation.sites.values():
        other.spool.keep(PLAN, quantize(np.zeros(SIZE + WIRE_LANES), RING).values)
    federation.run(before="sa_mask")
    reply, vector = federation.sessions["site-1"].answer("sa_mask", federation.requests["sa_mask"]["site-1"], None)
    assert code(reply) == "E_SITE" and vector is None


def test_the_whole_run_is_reserved_at_its_first_training_and_not_by_saying_hello(site: Site) -> None:
    session = session_of(site)
    assert site.ledger.spent() == 0.0 and site.ledger.spent_delta() == 0.0
    Advertise.from_bytes(train(session, plan_of()))
    assert site.ledger.spent() == epsilon(planned_events(MANIFEST), 1e-5) > site.ledger.ran()


def test_a_round_is_finished_when_its_shares_leave_and_wasted_rounds_are_limited(tmp_path: Path) -> None:
    federation = Round(tmp_path / "a")
    federation.run(before="sa_unmask")
    assert all(site.ledger.wasted_rounds(next_round=True) == 1 for site in federation.sites.values())
    federation = Round(tmp_path / "b")
    federation.run()
    assert all(site.ledger.wasted_rounds(next_round=True) == 0 for site in federation.sites.values())
    site = Site(tmp_path / "c", max_wasted_rounds=0)
    session = session_of(site)
    Advertise.from_bytes(train(session, plan_of()))
    assert code(train(session, plan_of(round=2))) == "P_WASTED"
    assert events.count("train") == 9 and len(site.ledger.entries()) == 1


def test_the_numbers_of_a_refusal_stay_in_this_sites_log(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        reply = hello(session_of(Site(tmp_path, max_epsilon=0.5), None), MANIFEST)
    assert vars(ErrorReply.from_bytes(reply)) == {"code": "P_BUDGET", "blamed": "nobody"}
    assert "budget spent=0 asked=" in caplog.text and "left=0.5" in caplog.text


def test_neither_the_task_nor_the_ledger_knows_how_many_patients_the_index_holds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rate, steps and divisor are the manifest's; an empty index is booked like a full one."""
    seen: list[tuple[int, LocalTask]] = []

    def trains(adapted: Any, selection: Any, patients: list[Any], task: LocalTask, source: Any) -> LocalUpdate:
        seen.append((len(patients), task))
        return UPDATE

    monkeypatch.setattr("site_client.session.run_local_steps", trains)
    entries, charges = [], []
    for size in (0, 1, 5000):
        site = Site(tmp_path / str(size))
        monkeypatch.setattr(site, "patients", lambda adapted, size=size: [{}] * size)
        Advertise.from_bytes(train(session_of(site), plan_of()))
        entries += [replace(entry, created_utc="") for entry in site.ledger.entries()]
        charges.append((site.ledger.ran(), site.ledger.spent()))
    assert [size for size, _ in seen] == [0, 1, 5000]
    assert all(task == seen[0][1] for _, task in seen)
    assert seen[0][1].expected_patients == STAGE.sampling_rate * MANIFEST.terms("site-1").declared_patients
    assert len(entries) == 3 and all(entry == entries[0] for entry in entries)
    assert (entries[0].steps, entries[0].sampling_rate) == (STAGE.local_steps, STAGE.sampling_rate)
    assert len(set(charges)) == 1 and charges[0][0] == epsilon([entries[0].event()], 1e-5) > 0


# ------------------------------------------------------------------ the manifest binds the coordinator


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
    tight = Site(tmp_path, max_epsilon=1.01 * epsilon(planned_events(MANIFEST), 1e-5))
    Hello.from_bytes(hello(session_of(tight, None), MANIFEST))  # its own entries are part of its plan
    assert code(hello(session_of(tight, None), manifest_of(run_id="second"))) == "P_BUDGET"


def test_a_run_may_not_plan_more_than_the_epsilon_it_names(site: Site) -> None:
    assert code(hello(session_of(site, None), manifest_of(target_epsilon=0.1))) == "P_BUDGET"


def test_a_stage_has_no_more_rounds_than_the_manifest_says(site: Site) -> None:
    """Not by more rounds, and not by another attempt at one of them from another model."""
    session = session_of(site)
    other = ServerState.initial(ADAPTER.astype(np.float64) + 1)
    Advertise.from_bytes(train(session, plan_of()))
    later: dict[str, Any] = {"after": attested(other), "model_hash": other.model_hash}
    Advertise.from_bytes(train(session, plan_of(attempt=2, **later), other.packed()))
    events.clear()
    assert code(train(session, plan_of(round=2, **later), other.packed())) == "P_BUDGET"
    assert events == [] and len(site.ledger.entries()) == 2
    Advertise.from_bytes(train(session, plan_of(round=3, stage=1, **later), other.packed()))


def test_the_last_round_of_a_stage_may_be_tried_again_with_its_waiting_update(site: Site) -> None:
    session = session_of(site)
    for number, attempt in ((1, 1), (2, 1), (2, 2)):
        Advertise.from_bytes(train(session, plan_of(round=number, attempt=attempt)))
    assert len(site.ledger.entries()) == 2


@pytest.mark.parametrize("changed", [{"round": 0}, {"round": 3}, {"round": 2, "stage": 1}, {"round": 5, "stage": 1}])
def test_a_round_that_the_schedule_cannot_have_is_refused(site: Site, changed: dict[str, int]) -> None:
    assert code(train(session_of(site), plan_of(**changed))) == "E_MANIFEST"
    assert events == [] and site.ledger.entries() == ()


def test_a_stage_does_not_come_back(site: Site) -> None:
    session = session_of(site, manifest := manifest_of(
        stages=(replace(STAGE, max_rounds=3, stop=None), replace(STAGE, name="two", max_rounds=3))))
    Advertise.from_bytes(train(session, plan_of(manifest, round=4, stage=1)))
    assert code(train(session, plan_of(manifest, round=5, stage=0))) == "E_MANIFEST"


@pytest.mark.parametrize(
    "changed",
    [{"dimension": SIZE + 2}, {"num_lanes": 2}, {"scale": RING.scale / 2}, {"stage": 2}, {"factor": "AB"},
     {"saturation": 4.0}, {"bits": 32}])
def test_a_plan_of_another_shape_is_refused_before_anything_is_spent(site: Site, changed: dict[str, Any]) -> None:
    reply = ErrorReply.from_bytes(train(session_of(site), plan_of(**changed)))
    assert (reply.code, reply.blamed) == ("E_PARAMS", "coordinator")
    assert events == [] and site.ledger.entries() == ()


def test_a_first_model_other_than_the_one_built_here_is_refused(site: Site) -> None:
    session = session_of(site)
    assert code(train(session, plan_of(model_hash=model_hash(ADAPTER + np.float32(1))))) == "E_MODEL_HASH"
    assert code(train(session, plan_of(), INITIAL.packed())) == "E_PARAMS"  # nor is one accepted beside the plan
    assert events == [] and site.ledger.entries() == ()


def test_without_an_approved_manifest_there_is_no_training(site: Site) -> None:
    assert code(train(session_of(site, None), plan_of())) == "P_NOT_APPROVED"


def test_an_update_without_noise_needs_the_sites_own_consent(site: Site) -> None:
    bare = manifest_of(
        privacy="none", target_epsilon=0.0,
        stages=tuple(replace(stage, noise_multiplier=0.0) for stage in MANIFEST.stages))
    session = session_of(site, None)
    assert code(hello(session, bare)) == "P_PRIVACY"
    assert code(train(session, plan_of(bare))) == "P_NOT_APPROVED"


# ------------------------------------------------------------------ what leaves


def test_the_same_bytes_get_the_same_reply_and_no_second_training(site: Site) -> None:
    session = session_of(site)
    assert train(session, plan_of()) == train(session, plan_of())
    assert events.count("train") == 1


def test_the_first_reply_says_nothing_about_the_update(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("site_client.session", "privacy.ledger"):  # the ledger's head covers the times of its rows
        monkeypatch.setattr(f"{module}.datetime", _Still)
    first = train(session_of(Site(tmp_path / "a")), plan_of())
    monkeypatch.setattr(
        "site_client.session.run_local_steps", lambda *_: LocalUpdate(np.full(SIZE, 1e9), np.zeros(len(LANES))))
    assert train(session_of(Site(tmp_path / "b")), plan_of()) == first


class _Still:
    """A clock that stands."""

    @staticmethod
    def now(zone: tzinfo) -> datetime:
        return datetime(2026, 1, 1, tzinfo=zone)


def test_messages_belong_to_the_newest_round(tmp_path: Path) -> None:
    """Also when its run was opened before another one."""
    federation = Round(tmp_path)
    federation.run(before="sa_share")
    session = federation.sessions["site-1"]
    second = manifest_of(run_id="second")
    admit(session, second)
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
    bad = ServerState.initial(np.full(ADAPTER.size, np.nan))
    plan = plan_of(after=attested(bad), model_hash=bad.model_hash)
    assert code(train(session_of(site), plan, bad.packed())) == "P_NOT_FINITE"
    site = Site(site.folder.with_name("other"))
    monkeypatch.setattr("site_client.session.probe_is_finite", lambda *_: False)
    assert code(train(session_of(site), plan_of())) == "P_NOT_FINITE"
    assert events == [] and site.ledger.entries() == ()


@pytest.mark.parametrize(("step", "expected"), [("sa_share", "E_STAGE"), ("hello", "E_FORMAT"), ("reset", "E_SITE")])
def test_a_message_out_of_place_is_refused_with_a_code(site: Site, step: str, expected: str) -> None:
    assert code(session_of(site, None).answer(step, b"\x00", None)[0]) == expected


@pytest.mark.parametrize(("bits", "private"), [(16, False), (16, True), (24, False), (24, True)])
def test_only_sixteen_bits_without_noise_are_rounded_stochastically(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bits: int, private: bool
) -> None:
    noise = 2.0 if private else 0.0
    manifest = manifest_of(
        privacy="patient-dp" if private else "none", target_epsilon=8.0 if private else 0.0, bits=bits,
        stages=tuple(replace(stage, noise_multiplier=noise) for stage in MANIFEST.stages))
    ring = ring_params(bits, 2.0, 4)
    kept: list[Any] = []
    monkeypatch.setattr(Spool, "keep", lambda _, plan, values: kept.append(values.view(np.int32).copy()))
    session = session_of(Site(tmp_path / "site-1", allow_without_privacy=True), manifest)
    Advertise.from_bytes(train(session, plan_of(manifest, bits=bits, scale=ring.scale)))
    exact = 0.1 * UPDATE.delta * ring.scale
    levels = kept[0][:SIZE]
    assert np.abs(levels - exact).max() < 1
    assert (np.abs(levels - exact).max() > 0.5) == (bits == 16 and not private)
