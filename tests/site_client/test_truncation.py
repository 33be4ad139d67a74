"""Truncated Poisson draws from end to end: who may ask for them, what they cost, and who may not take part."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

import coordinator.cli
import site_client.cli
from configs.load import load_config
from configs.schema import ConfigError, CurriculumConfig, PolicyConfig, SiteConfig
from privacy.dp.accounting import ReleaseEvent, epsilon
from privacy.errors import PolicyRefusalError
from privacy.identity import Roster, RosterSite
from privacy.ledger_account import Account, Limits
from privacy.manifest import RunManifest, Truncation
from simulations.packages import load_reports
from simulations.site_folder import write_site_folder
from site_client.installation import Installation
from site_client.keystore import signing_key
from site_client.policy import check_manifest, planned_events, stage_event
from site_client.records import PatientRecord, SiteIndex
from site_client.session import SiteSession
from tests.privacy.officers import signed
from tests.site_client.small_site import (  # noqa: F401  (the fixture is used by name)
    MANIFEST,
    ROSTER,
    STAGE,
    Site,
    light,
    plan_of,
    session_of,
    train,
)

CUT = Truncation(batch_size=20, most_patients=200)
CUT_STAGE = replace(STAGE, truncation=CUT)


def truncated(cut: Truncation = CUT, **changed: Any) -> RunManifest:
    return replace(MANIFEST, stages=(replace(STAGE, truncation=cut, **changed), MANIFEST.stages[1]))


# ------------------------------------------------------------------ the site's own rule


def verdict(manifest: RunManifest, max_patients: int | None) -> str:
    """The refusal's code, or "" where the site takes part."""
    policy = PolicyConfig(max_epsilon=8.0, max_patients=max_patients, require_scheduled_replies=False)
    try:
        check_manifest(manifest, policy=policy, roster=ROSTER, site_id="site-1", base_model_hash=bytes(32),
                       account=Account((), (), limits=Limits(8.0, 1e-4)))
    except PolicyRefusalError as refusal:
        return refusal.code
    return ""


@pytest.mark.parametrize(("max_patients", "expected"), [
    (None, "P_SAMPLING"), (201, "P_SAMPLING"), (200, ""), (150, "")])
def test_a_site_cuts_draws_only_if_its_own_maximum_is_within_what_is_charged(
    max_patients: int | None, expected: str
) -> None:
    assert verdict(truncated(), max_patients) == expected
    assert verdict(MANIFEST, max_patients) == ""  # plain draws need no bound


def test_the_rule_holds_for_every_stage() -> None:
    second = replace(MANIFEST, stages=(STAGE, replace(MANIFEST.stages[1], truncation=CUT)))
    assert verdict(second, None) == "P_SAMPLING" and verdict(second, 200) == ""


# ------------------------------------------------------------------ what it costs


def test_a_truncated_stage_costs_more_than_a_plain_one_and_a_far_cap_nearly_nothing_more() -> None:
    plain, cut = epsilon(planned_events(MANIFEST), 1e-5), epsilon(planned_events(truncated()), 1e-5)
    assert cut > 1.2 * plain
    far = epsilon(planned_events(truncated(Truncation(100, 200))), 1e-5)
    assert far == pytest.approx(plain, rel=1e-3)


def test_one_entry_of_the_ledger_costs_what_the_truncated_release_costs(tmp_path: Path) -> None:
    site = Site(tmp_path, max_patients=150)
    manifest = truncated()
    train(session_of(site, manifest), plan_of(manifest))
    entry, = site.ledger.entries()
    assert entry.event() == ReleaseEvent(0.1, 2.0, 2, truncated_batch=20, most_patients=200)
    assert entry.event() == stage_event(CUT_STAGE, STAGE.local_steps)
    assert site.ledger.ran() == epsilon([entry.event()], 1e-5) > epsilon([ReleaseEvent(0.1, 2.0, 2)], 1e-5)
    assert site.ledger.spent() == epsilon(planned_events(manifest), 1e-5)


def test_coordinator_noise_solves_for_the_truncated_schedule(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    curriculum = asdict(load_config(CurriculumConfig, "curriculum/smoke.yaml"))
    rate = curriculum["stages"][-1]["sampling_rate"]
    solved = []
    for cut in (None, {"batch_size": round(1.1 * rate * 1000), "most_patients": 1000}):
        curriculum["stages"][-1]["truncation"] = cut
        path = tmp_path / "curriculum.yaml"
        path.write_text(json.dumps(curriculum))
        assert coordinator.cli.main(["noise", str(path), "--patients", "900", "--epsilon", "4", "--json"]) == 0
        solved.append(json.loads(capsys.readouterr().out))
    plain, cut_down = solved
    assert 3.9 < cut_down["epsilon"] <= 4
    assert cut_down["stages"][-1]["noise_multiplier"] > 1.2 * plain["stages"][-1]["noise_multiplier"]


# ------------------------------------------------------------------ more patients than the site's maximum


def site_file(folder: Path, **policy: Any) -> Path:
    """A site's file for a roster with three sites; this folder's key is that of site-1."""
    keys = [signing_key(folder / "state").public_bytes(), bytes([2] * 32), bytes([3] * 32)]
    roster = Roster(
        federation_id="fed", version=1, coordinator_key=bytes([9] * 32), min_cohort=3, min_fraction=0.0,
        sites=tuple(RosterSite(f"site-{i}", key, 100) for i, key in enumerate(keys, start=1)))
    file = signed(roster)
    (folder / "roster.bin").write_bytes(file.to_bytes())
    path = folder / "site.yaml"
    path.write_text(json.dumps({
        "site_id": "site-1", "data": str(folder / "data"), "state": str(folder / "state"),
        "base_model": str(folder / "base"), "roster": str(folder / "roster.bin"),
        "roster_hash": file.roster.hash().hex(), "policy": {"max_epsilon": 8.0, "min_patients": 1, **policy}}))
    return path


def indexed(site: Installation, patients: int, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The folder holds that many patients; the returned list grows with every reading of it."""
    reads: list[int] = []

    def index() -> SiteIndex:
        reads.append(1)
        return SiteIndex(tuple(PatientRecord(f"p{i}", {}) for i in range(patients)))

    monkeypatch.setattr(site, "index", index)
    return reads


def test_a_folder_with_more_patients_stops_the_session_before_it_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = Installation(load_config(SiteConfig, site_file(tmp_path, max_patients=4)))
    indexed(site, 5, monkeypatch)
    with pytest.raises(ConfigError) as refusal:
        SiteSession(site, lambda purpose: pytest.fail("no randomness is needed to refuse"))
    assert str(refusal.value) == (
        "the data folder holds more patients than policy.max_patients=4; raise it, and take part only in runs whose "
        "truncation.most_patients is at least as large")  # not how many there are


@pytest.mark.parametrize(("max_patients", "reads"), [(5, 1), (None, 0)])
def test_a_folder_within_the_bound_opens_and_without_a_bound_it_is_not_read(
    max_patients: int | None, reads: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = Installation(load_config(SiteConfig, site_file(tmp_path, max_patients=max_patients)))
    counted = indexed(site, 5, monkeypatch)
    SiteSession(site, lambda purpose: pytest.fail("nothing is drawn when a session opens"))
    assert len(counted) == reads


def test_check_says_so_and_makes_no_ledger(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    reports, found = load_reports(), {}
    for most in (1, 50):
        folder = tmp_path / str(most)
        folder.mkdir()
        write_site_folder(folder / "data", reports[:3], [], public=reports[50:90], seed=0)
        site_client.cli.main(["check", str(site_file(folder, max_patients=most))])
        found[most] = next(line for line in capsys.readouterr().out.splitlines() if " data " in line)
        assert not (folder / "state" / "ledger.sqlite").exists()
    assert found[1].startswith("FAIL") and "more patients than policy.max_patients=1; raise it" in found[1]
    assert found[50].startswith("PASS")
