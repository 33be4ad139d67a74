"""A suspended site in the meeting before a run: not greeted, not heard, and counted where it may have been."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from privacy.identity import Roster, RosterSite
from privacy.messages import HelloList, Ready, WitnessList
from site_client.admission import witnesses_needed
from tests.site_client.small_site import ROSTER, code, light  # noqa: F401  (a fixture that is used by name)
from tests.site_client.test_admission import PEERS, RUN, Case


@pytest.mark.parametrize(("suspended", "needed"), [(0, 6), (1, 6), (2, 6), (4, 5), (7, 2)])
def test_a_suspended_site_may_have_been_in_the_last_round_but_cannot_speak(suspended: int, needed: int) -> None:
    roster = Roster("fed", 1, bytes(32), tuple(
        RosterSite(f"site-{i}", bytes([i + 1] * 32), 100, "suspended" if i < suspended else "active")
        for i in range(10)), 5, 0.0)
    assert witnesses_needed(roster) == needed


def test_a_suspended_site_is_neither_greeted_nor_heard(tmp_path: Path) -> None:
    case = Case(tmp_path)
    idle = tuple(replace(one, status="suspended") if one.site_id == "site-4" else one for one in ROSTER.sites)
    site: Any = case.session._site
    site.roster = replace(ROSTER, sites=idle)
    assert code(case.witness()) == "E_UNKNOWN_SITE"
    case.listed = HelloList(RUN, tuple(case.hellos[:3]))
    WitnessList.from_bytes(case.witness(*case.hellos[:3]))
    heard = [case.says(peer) for peer in PEERS]
    assert code(case.restore(*heard)) == "E_UNKNOWN_SITE"
    Ready.from_bytes(case.restore(*heard[:2]))
