"""Three guarantees from one ledger, each under its own cap."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from privacy.dp.accounting import ReleaseEvent, epsilon
from privacy.dp.guarantees import Guarantees, guarantees, honest_sites, withstood
from privacy.errors import BudgetExceededError
from privacy.identity import Roster, RosterSite, SigningKey
from privacy.ledger import Ledger, LedgerEntry, account_of
from privacy.ledger_chain import check_export
from tests.privacy.test_ledger import DELTA, KEY, entry

SHARED = ReleaseEvent(0.1, 1.0, 10, min_survivors=4, colluders=1, levels=1 << 18)
FOUND = guarantees([SHARED], DELTA)
ROOM = Guarantees(100.0, 100.0, 100.0)


def opened(path: Path, shared: Guarantees | None = ROOM, cap: float = 100.0, **options: Any) -> Ledger:
    return Ledger.open(path, signing_key=KEY, epsilon_cap=cap, shared=shared, **options)


def booked(number: int, **changed: Any) -> LedgerEntry:
    values: dict[str, Any] = {"round": number, "mechanism": "distributed-gaussian", "steps": 1, "min_survivors": 4,
                              "colluders": 1, "levels": 1 << 18, **changed}
    return entry(**values)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.sqlite"


def test_the_ledger_says_all_three_and_so_does_its_export(path: Path) -> None:
    ledger = opened(path)
    ledger.reserve_run("run", "aa", [SHARED], DELTA)
    for number in range(10):
        ledger.reserve(booked(number))
    assert ledger.account().guarantees() == FOUND and ledger.spent() == FOUND.colluding
    assert FOUND.outside < FOUND.colluding < FOUND.alone
    exported = json.loads(json.dumps(ledger.export()))
    assert account_of(check_export(exported)).guarantees() == FOUND
    ledger.close()
    assert Ledger.open(path).account().guarantees() == FOUND


def test_a_run_with_shared_noise_needs_stated_caps(path: Path) -> None:
    ledger = opened(path, shared=None)
    with pytest.raises(BudgetExceededError) as refused:
        ledger.reserve_run("run", "aa", [SHARED], DELTA)
    assert refused.value.code == "P_TRUST" and not ledger.account().reservations
    ledger.reserve_run("run", "aa", [replace(SHARED, min_survivors=0, colluders=0, levels=0)], DELTA)


@pytest.mark.parametrize("view", ["outside", "colluding", "alone"])
def test_each_guarantee_has_its_own_cap(path: Path, view: str) -> None:
    caps = replace(ROOM, **{view: 0.999 * FOUND.against(view)})  # type: ignore[arg-type]
    ledger = opened(path, caps)
    with pytest.raises(BudgetExceededError) as refused:
        ledger.reserve_run("run", "aa", [SHARED], DELTA)
    assert (refused.value.code, refused.value.requested) == ("P_BUDGET", FOUND.against(view))  # type: ignore[arg-type]
    ledger.close()
    opened(path, replace(ROOM, **{view: FOUND.against(view)})).reserve_run(  # type: ignore[arg-type]
        "run", "aa", [SHARED], DELTA)


def test_caps_hold_for_everything_in_the_ledger_local_runs_included(path: Path) -> None:
    local = ReleaseEvent(0.1, 2.0, 10)
    extra = epsilon([local], DELTA)
    ledger = opened(path, replace(ROOM, alone=FOUND.alone + 0.9 * extra))
    ledger.reserve_run("run", "aa", [SHARED], DELTA)
    with pytest.raises(BudgetExceededError):
        ledger.reserve_run("second", "bb", [local], DELTA)
    ledger.close()
    wider = opened(path, replace(ROOM, alone=FOUND.alone + extra))
    wider.reserve_run("second", "bb", [local], DELTA)
    found = wider.account().guarantees()
    assert (found.outside, found.alone) == pytest.approx((FOUND.outside + extra, FOUND.alone + extra))


def test_a_cap_that_was_lowered_since_stops_the_next_round(path: Path) -> None:
    ledger = opened(path)
    ledger.reserve_run("run", "aa", [SHARED], DELTA)
    ledger.reserve(booked(0))
    ledger.close()
    for tighter in (replace(ROOM, alone=0.5 * FOUND.alone), None):
        again = opened(path, tighter)
        with pytest.raises(BudgetExceededError):
            again.reserve(booked(1))
        again.close()


def test_secure_aggregation_withstands_so_many_colluders_whatever_the_roster() -> None:
    """The least 2 t - n - 1 over every number of sites that may announce keys, t being the roster's threshold."""
    keys = [SigningKey.from_private_bytes(bytes([number]) * 32).public_bytes() for number in range(1, 5)]
    sites = tuple(RosterSite(f"site-{number}", key, 10) for number, key in enumerate(keys[1:]))
    roster = Roster("one", 1, keys[0], sites, 3, 0.5)
    for fewest in range(1, 200):
        assert withstood(fewest) == min(2 * roster.threshold(n) - n - 1 for n in range(fewest, fewest + 50))


@pytest.mark.parametrize(("survivors", "colluders", "shares"), [
    (4, 0, 3), (4, 1, 3), (4, 2, 1), (4, 9, 1),  # of four announced sites two may open an upload: 2 t - n - 1 = 1
    (6, 1, 5), (6, 2, 4), (6, 3, 1), (8, 3, 5), (8, 4, 1)])
def test_colluders_beyond_what_secure_aggregation_withstands_leave_the_own_share(
    survivors: int, colluders: int, shares: int
) -> None:
    assert honest_sites(replace(SHARED, min_survivors=survivors), colluders) == shares
    assert honest_sites(replace(SHARED, min_survivors=3, colluders=2), 2) == 1  # as the run's own rules allowed it


def test_a_site_that_fears_more_colluders_since_counts_its_old_runs_against_so_many(path: Path) -> None:
    six = replace(SHARED, min_survivors=6, noise_multiplier=SHARED.noise_multiplier)
    found_of_six = guarantees([six], DELTA)
    ledger = opened(path)
    ledger.reserve_run("run", "aa", [six], DELTA)
    ledger.reserve(booked(0, min_survivors=6))
    ledger.close()
    less = replace(six, noise_multiplier=six.noise_multiplier * (4 / 5) ** 0.5, colluders=2)
    by_two = guarantees([less], DELTA)
    for colluders, colluding in ((0, found_of_six.colluding), (1, found_of_six.colluding), (2, by_two.colluding),
                                 (3, found_of_six.alone), (6, found_of_six.alone)):
        again = opened(path, replace(ROOM, colluders=colluders))
        account = again.account()
        found = account.guarantees()
        assert found.colluding == pytest.approx(colluding, rel=1e-3) == account.spent() == again.statement().epsilon
        assert (found.outside, found.alone) == (found_of_six.outside, found_of_six.alone)
        local = replace(six, min_survivors=0, colluders=0, levels=0)  # a run of local noise is booked on top of it
        assert account.with_run([local], DELTA) == account.guarantees_with_run([local], DELTA).colluding
        assert account.with_run([local], DELTA) > found.colluding
        again.close()
    assert found_of_six.alone > by_two.colluding > found_of_six.colluding
    tight = opened(path, replace(ROOM, colluding=(found_of_six.colluding + by_two.colluding) / 2, colluders=2))
    with pytest.raises(BudgetExceededError) as refused:
        tight.reserve(booked(1, min_survivors=6))
    assert refused.value.code == "P_BUDGET"
    tight.close()
    opened(path, replace(ROOM, colluding=by_two.colluding + 1, colluders=2)).reserve(booked(1, min_survivors=6))


def test_the_claim_of_a_ledger_with_shared_noise_says_against_whom(path: Path) -> None:
    ledger = opened(path)
    ledger.reserve_run("run", "aa", [SHARED], DELTA)
    assert ledger.statement().against == FOUND
    assert f"{FOUND.outside:.4g} against outsiders" in str(ledger.statement())
    ledger.close()
    local = opened(path.with_name("local.sqlite"))
    local.reserve_run("run", "aa", [ReleaseEvent(0.1, 2.0, 10)], DELTA)
    assert local.statement().against is None and "colluding" not in str(local.statement())


def test_a_round_must_be_of_the_shares_that_were_reserved(path: Path) -> None:
    ledger = opened(path)
    ledger.reserve_run("run", "aa", [SHARED], DELTA)
    for other in (booked(0, colluders=0), booked(0, min_survivors=5), booked(0, levels=1 << 17),
                  entry(round=0, steps=1)):
        with pytest.raises(BudgetExceededError):
            ledger.reserve(other)
    ledger.reserve(booked(0))


def test_the_renyi_filter_counts_all_three_as_well(path: Path) -> None:
    ledger = opened(path, composition="rdp", renyi_order=8, delta_cap=1e-4)
    ledger.reserve_run("run", "aa", [SHARED], DELTA)
    ledger.reserve(booked(0))
    one = ledger.account().guarantees()
    ledger.close()
    tight = opened(path, replace(ROOM, alone=1.5 * one.alone), composition="rdp", renyi_order=8, delta_cap=1e-4)
    with pytest.raises(BudgetExceededError) as refused:  # of which the other two guarantees are far away
        tight.reserve(booked(1))
    assert refused.value.spent == one.alone < refused.value.limit == 1.5 * one.alone < refused.value.requested
    tight.close()
    opened(path, composition="rdp", renyi_order=8, delta_cap=1e-4).reserve(booked(1))


@pytest.mark.parametrize("changed", [
    {"mechanism": "poisson-gaussian"}, {"levels": 0}, {"colluders": 4}, {"mechanism": "none"}])
def test_an_entry_names_its_mechanism_as_it_is(changed: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"distributed-gaussian|shared noise needs"):
        booked(0, **changed)


def test_a_local_ledger_has_one_guarantee(path: Path) -> None:
    ledger = opened(path, shared=None)
    ledger.reserve_run("run", "aa", [ReleaseEvent(0.1, 1.0, 4)], DELTA)
    found = ledger.account().guarantees()
    assert found.outside == found.colluding == found.alone == ledger.spent()
