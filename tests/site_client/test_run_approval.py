"""Runs by hand: nothing begins before the operator's word, and what waits for it is bounded and private."""

from __future__ import annotations

import os
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import pytest

from privacy.errors import PolicyRefusalError
from privacy.messages import Advertise, ErrorReply, Hello, RunManifest, SignedManifest
from privacy.secagg.quantize import packed_size
from privacy.statistics import WIRE_LANES
from site_client.run_approval import MOST_PENDING, RunApprovals
from site_client.session import SiteSession
from tests.site_client.small_site import (  # noqa: F401  (fixtures are used by name)
    COORDINATOR,
    MANIFEST,
    SIZE,
    STAGE,
    Round,
    Seeded,
    Site,
    admit,
    code,
    events,
    hello,
    light,
    plan_of,
    session_of,
    train,
)


def signed(manifest: RunManifest) -> bytes:
    return SignedManifest.make(manifest, COORDINATOR).to_bytes()


def test_by_hand_a_run_waits_until_it_is_approved_and_the_process_need_not_restart(tmp_path: Path) -> None:
    site = Site(tmp_path, approve_runs="by-hand")
    session = session_of(site, None)
    for _ in range(2):
        assert vars(ErrorReply.from_bytes(hello(session, MANIFEST))) == {"code": "P_APPROVAL", "blamed": "nobody"}
    assert code(train(session, plan_of())) == "P_NOT_APPROVED" and events == []
    waiting = site.run_approvals.pending()
    assert [(run.manifest, run.signed) for run in waiting] == [(MANIFEST, signed(MANIFEST))]
    kept = tmp_path / "pending" / f"{MANIFEST.hash().hex()}.manifest"
    assert kept.stat().st_mode & 0o777 == 0o600 and kept.parent.stat().st_mode & 0o077 == 0
    assert RunApprovals(tmp_path).approve(MANIFEST)  # another process: the command
    assert not RunApprovals(tmp_path).approve(MANIFEST)
    assert (tmp_path / "approved-runs").stat().st_mode & 0o777 == 0o600
    admit(session)
    Advertise.from_bytes(train(session, plan_of()))
    assert site.run_approvals.pending() == []


def test_an_approval_is_of_one_manifest_and_outlives_a_restart(tmp_path: Path) -> None:
    site = Site(tmp_path, approve_runs="by-hand")
    site.run_approvals.approve(MANIFEST)
    Hello.from_bytes(hello(session_of(site, None), MANIFEST))
    longer = replace(MANIFEST, stages=(replace(STAGE, max_rounds=3), MANIFEST.stages[1]))
    assert code(hello(session_of(site, None), longer)) == "P_APPROVAL"


def test_what_the_policy_refuses_does_not_reach_the_operator(tmp_path: Path) -> None:
    site = Site(tmp_path, approve_runs="by-hand", max_rounds=3)
    assert code(hello(session_of(site, None), MANIFEST)) == "P_ROUNDS"
    assert site.run_approvals.pending() == [] and not (tmp_path / "pending").exists()


def test_under_auto_nothing_waits(tmp_path: Path) -> None:
    site = Site(tmp_path)
    Hello.from_bytes(hello(session_of(site, None), MANIFEST))
    assert not (tmp_path / "pending").exists()


def test_at_most_sixteen_manifests_wait_and_the_oldest_go(tmp_path: Path) -> None:
    approvals = RunApprovals(tmp_path)
    runs = [replace(MANIFEST, run_id=f"run-{number}") for number in range(MOST_PENDING + 3)]
    for number, run in enumerate(runs):
        with pytest.raises(PolicyRefusalError):
            approvals.require(signed(run), run)
        os.utime(tmp_path / "pending" / f"{run.hash().hex()}.manifest", (number, number))
        if number == MOST_PENDING - 1:
            with pytest.raises(PolicyRefusalError):
                approvals.require(signed(runs[0]), runs[0])  # asked again: it does not become younger
    assert [run.manifest.run_id for run in approvals.pending()] == [f"run-{number}" for number in range(3, 19)]
    assert len(list((tmp_path / "pending").iterdir())) == MOST_PENDING


def test_a_file_that_is_not_what_its_name_says_does_not_wait(tmp_path: Path) -> None:
    approvals = RunApprovals(tmp_path)
    with pytest.raises(PolicyRefusalError):
        approvals.require(signed(MANIFEST), MANIFEST)
    (tmp_path / "pending" / ("ab" * 32 + ".manifest")).write_bytes(signed(MANIFEST))
    (tmp_path / "pending" / ("cd" * 32 + ".manifest")).write_bytes(b"junk")
    assert [run.digest for run in approvals.pending()] == [MANIFEST.hash().hex()]


@pytest.mark.parametrize("content", ["", "[]", "{"])
def test_damaged_approvals_approve_nothing(tmp_path: Path, content: str) -> None:
    site = Site(tmp_path, approve_runs="by-hand")
    (tmp_path / "approved-runs").write_text(content)
    assert code(hello(session_of(site, None), MANIFEST)) == "E_SITE"
    with pytest.raises(ValueError, match=r"approved-runs is damaged; restore it"):
        site.run_approvals.approve(MANIFEST)


# ------------------------------------------------------------------ bytes and hours, in the session


def test_an_upload_that_is_too_large_is_refused_at_hello_and_at_the_plan(tmp_path: Path) -> None:
    size = packed_size(SIZE + WIRE_LANES, 24)
    Hello.from_bytes(hello(session_of(Site(tmp_path / "a", max_upload_mb=size / 1e6), None), MANIFEST))
    small = Site(tmp_path / "b", max_upload_mb=(size - 1) / 1e6)
    assert code(hello(session_of(small, None), MANIFEST)) == "P_BYTES"
    session = session_of(Site(tmp_path / "c", max_upload_mb=size / 1e6))
    assert code(train(session, plan_of(dimension=SIZE + WIRE_LANES + 1))) == "P_BYTES"
    assert events == []


def test_outside_its_hours_a_site_trains_nothing_and_books_nothing(tmp_path: Path) -> None:
    site = Site(tmp_path, working_hours=["22:00-06:00"])
    times = [datetime(2026, 1, 1, 21, 59), datetime(2026, 1, 1, 22, 0)]
    session = SiteSession(site, lambda purpose: Seeded("site-1", purpose), local_time=lambda: times[0])  # type: ignore
    admit(session)
    assert code(train(session, plan_of())) == "P_HOURS"
    assert events == [] and site.ledger.entries() == ()
    times.pop(0)
    Advertise.from_bytes(train(session, plan_of()))
    assert len(site.ledger.entries()) == 1


def test_an_update_that_waits_goes_out_at_any_hour(tmp_path: Path) -> None:
    """It was trained in time; another night would only cost another training."""
    federation = Round(tmp_path)
    federation.run(before="sa_mask")
    for name, site in federation.sites.items():
        site.config.policy = replace(site.config.policy, working_hours=["22:00-06:00"])
        federation.sessions[name] = SiteSession(
            site, lambda purpose, name=name: Seeded(name, purpose),  # type: ignore
            local_time=lambda: datetime(2026, 1, 1, 12, 0))
        admit(federation.sessions[name])
    assert federation.run(attempt=2) is not None
    assert events.count("train") == 4
