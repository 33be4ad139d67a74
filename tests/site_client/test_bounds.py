"""What a coordinator can neither learn nor make grow: the ledger's times, rows, attempts, runs in memory, stages."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, tzinfo
from typing import Any

import pytest

from privacy.messages import Advertise, Hello
from tests.site_client.small_site import (  # noqa: F401  (fixtures are used by name)
    MANIFEST,
    STAGE,
    Site,
    admit,
    code,
    hello,
    light,
    manifest_of,
    plan_of,
    session_of,
    site,
    train,
)


def test_the_ledgers_times_are_the_plans_arrival_however_long_the_patients_took(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rows' hash leaves in the mark, and every other field can be guessed: a later time would tell how long."""
    clock = [datetime.fromisoformat("2026-01-02T03:04:05+00:00")]

    class Frozen(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> datetime:  # type: ignore[override]
            return clock[0]

    def slow(_: object) -> list[Any]:
        clock[0] = datetime.fromisoformat("2026-01-02T03:59:59+00:00")
        return []

    monkeypatch.setattr("site_client.session.datetime", Frozen)
    monkeypatch.setattr("privacy.ledger.datetime", Frozen)
    monkeypatch.setattr(site, "patients", slow)
    Advertise.from_bytes(train(session_of(site), plan_of()))
    (entry,) = site.ledger.entries()
    (booked,) = site.ledger.account().reservations
    assert entry.created_utc == booked.created_utc == "2026-01-02T03:04:05+00:00"


def test_hellos_and_admissions_append_nothing_to_the_ledger(site: Site) -> None:
    """Else a coordinator grows it for ever, and past the row at which peers know a restored copy."""
    session = session_of(site, None)
    for number in range(40):
        Hello.from_bytes(hello(session, manifest_of(run_id=f"run-{number}")))
    admit(session)
    assert site.ledger.sequence == 0
    assert len(session._approved) <= 16 and len(session._admission._pending) <= 16


def test_a_round_is_tried_a_bounded_number_of_times(site: Site) -> None:
    assert code(train(session_of(site), plan_of(attempt=65))) == "E_MANIFEST"
    assert not site.ledger.entries()


def test_a_manifest_names_sites_of_the_roster_and_few_stages(site: Site) -> None:
    stranger = replace(MANIFEST.sites[1], site_id="stranger")
    session = session_of(site, None)
    assert code(hello(session, manifest_of(sites=(*MANIFEST.sites, stranger)))) == "P_TERMS"
    many = tuple(replace(STAGE, name=f"stage-{number}") for number in range(33))
    assert code(hello(session, manifest_of(stages=many))) == "P_STAGE"
