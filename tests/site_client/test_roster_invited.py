"""The first roster of a site that has only an invitation, and what a coordinator may offer afterwards."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import site_client.cli
from configs.load import load_config
from configs.schema import ConfigError, SiteConfig
from privacy.identity import Roster, RosterSite
from privacy.roster import RosterError, SignedRoster
from site_client.installation import Installation
from site_client.keystore import signing_key
from site_client.roster_pin import RosterPin
from tests.privacy.invited import INVITATION
from tests.privacy.officers import signed

OTHER = replace(INVITATION, address="fl.example.org:9000")


class Place:
    """A hospital's files as `site-client init` leaves them; `approve` is policy.approve_rosters."""

    def __init__(self, folder: Path, approve: str) -> None:
        self.folder, self.state, self.site_file = folder, folder / "state", folder / "site.yaml"
        (folder / "invitation.json").write_text(INVITATION.to_json())
        own = signing_key(self.state).public_bytes()
        sites = tuple(RosterSite(f"site-{i}", own if i == 1 else bytes([i] * 32), 100) for i in range(1, 5))
        self.first = signed(Roster("fed", 1, INVITATION.coordinator_key, sites, 3, 0.5))
        self.configure(policy={"max_epsilon": 8.0, "approve_rosters": approve})

    def configure(self, **changed: Any) -> None:
        old = json.loads(self.site_file.read_text()) if self.site_file.is_file() else {
            "site_id": "site-1", "data": "data", "state": str(self.state), "base_model": "base",
            "invitation": str(self.folder / "invitation.json")}
        self.site_file.write_text(json.dumps({**old, **changed}))

    @property
    def pin(self) -> RosterPin:
        return RosterPin(load_config(SiteConfig, self.site_file))

    def opened(self) -> Roster:
        site = Installation(load_config(SiteConfig, self.site_file))
        site.ledger.close()
        return site.roster

    def successor(self, *officers: str, **changes: Any) -> SignedRoster:
        return signed(replace(self.first.roster, **{"version": 2, **changes}), *officers)


@pytest.fixture
def auto(tmp_path: Path) -> Place:
    return Place(tmp_path, "auto")


@pytest.fixture
def by_hand(tmp_path: Path) -> Place:
    return Place(tmp_path, "by-hand")


# ------------------------------------------------------------------ the first roster


def test_before_a_roster_arrives_nothing_is_in_force(auto: Place) -> None:
    with pytest.raises(ConfigError, match="has not arrived yet"):
        auto.pin.current()
    with pytest.raises(ConfigError, match="has not arrived yet"):
        auto.opened()
    assert not auto.pin.path.exists() and not (auto.state / "ledger.sqlite").exists()


def test_the_first_roster_comes_into_force_by_itself(auto: Place) -> None:
    assert auto.pin.offer(auto.first)
    assert auto.opened() == auto.first.roster and not auto.pin.offered_path.exists()
    assert auto.pin.path.stat().st_mode & 0o777 == 0o600
    kept = auto.pin._kept()
    assert kept is not None and kept.file_hash == INVITATION.hash()
    assert auto.pin.offer(auto.first)  # in force already


def test_by_hand_it_waits_for_the_operator(by_hand: Place) -> None:
    assert not by_hand.pin.offer(by_hand.first)
    assert SignedRoster.parse(by_hand.pin.offered_path.read_bytes()) == by_hand.first
    assert by_hand.pin.offered_path.stat().st_mode & 0o777 == 0o600
    with pytest.raises(ConfigError, match="has not arrived yet"):
        by_hand.pin.current()
    assert by_hand.pin.approve(by_hand.first) and not by_hand.pin.offered_path.exists()
    assert by_hand.opened() == by_hand.first.roster and by_hand.pin.offer(by_hand.first)


def foreign_key(place: Place) -> SignedRoster:
    sites = (replace(place.first.roster.sites[0], public_key=bytes([7] * 32)), *place.first.roster.sites[1:])
    return signed(replace(place.first.roster, sites=sites))


@pytest.mark.parametrize(
    ("made", "words"),
    [
        (lambda place: place.successor("ann"), "signed by 1"),
        (lambda place: SignedRoster(place.first.roster), "signed by 0"),
        (lambda place: place.successor(federation_id="other"), "of the federation other"),
        (lambda place: place.successor(coordinator_key=bytes([8] * 32)), "another coordinator's key"),
        (lambda place: place.successor(sites=place.first.roster.sites[1:]), "site-1 is not on that roster"),
        (foreign_key, "another key for site-1"),
    ])
def test_what_may_not_be_the_first_is_kept_for_a_look_and_not_in_force(auto: Place, made: Any, words: str) -> None:
    roster = made(auto)
    assert not auto.pin.offer(roster)
    assert auto.pin.offered_path.read_bytes() == roster.to_bytes() and not auto.pin.path.exists()
    with pytest.raises(RosterError, match=words):
        auto.pin.approve(roster)
    assert not auto.pin.path.exists()


# ------------------------------------------------------------------ later rosters


def test_a_later_roster_follows_on_the_pinned_one(auto: Place) -> None:
    auto.pin.offer(auto.first)
    assert auto.pin.offer(auto.successor(min_cohort=4)) and auto.opened().min_cohort == 4
    assert not auto.pin.offer(auto.first)  # never back, though two invited officers signed it
    assert not auto.pin.offer(auto.successor("ann", version=3))
    assert auto.pin.roster().version == 2


def test_by_hand_a_later_roster_waits_too(by_hand: Place) -> None:
    by_hand.pin.approve(by_hand.first)
    assert not by_hand.pin.offer(by_hand.successor()) and by_hand.pin.roster().version == 1
    by_hand.pin.approve(by_hand.successor())
    assert by_hand.pin.offer(by_hand.successor())


def test_a_lost_pin_is_never_replaced_by_what_the_coordinator_sends(auto: Place) -> None:
    auto.pin.offer(auto.first)
    auto.opened()
    auto.pin.path.unlink()
    assert not auto.pin.offer(auto.first)
    with pytest.raises(ConfigError, match=r"roster\.pin is gone; restore it from backup"):
        auto.pin.current()
    assert auto.pin.approve(auto.first) and auto.opened() == auto.first.roster  # the operator's word


def test_a_changed_invitation_is_refused_after_the_first_pin(auto: Place) -> None:
    auto.pin.offer(auto.first)
    (auto.folder / "invitation.json").write_text(OTHER.to_json())
    for use in (lambda: auto.pin.current(), lambda: auto.pin.offer(auto.successor())):
        with pytest.raises(ConfigError, match="is not the invitation by which"):
            use()
    (auto.folder / "invitation.json").write_text("junk")
    with pytest.raises(ConfigError, match=r"invitation\.json cannot be used"):
        auto.pin.current()
    (auto.folder / "invitation.json").unlink()
    with pytest.raises(ConfigError, match="does not exist; put back"):
        auto.pin.current()


def test_a_site_file_with_a_roster_keeps_its_own_rule(by_hand: Place) -> None:
    (by_hand.folder / "one.roster").write_bytes(by_hand.first.to_bytes())
    by_hand.configure(roster=str(by_hand.folder / "one.roster"), roster_hash=by_hand.first.roster.hash().hex())
    assert by_hand.pin.offer(by_hand.first)  # what the site file names is in force
    assert by_hand.opened() == by_hand.first.roster
    by_hand.configure(roster="", roster_hash="")
    with pytest.raises(ConfigError, match="is not the invitation by which"):
        by_hand.opened()


def test_an_invited_site_may_name_its_approved_roster_later(auto: Place) -> None:
    auto.pin.offer(auto.first)
    auto.configure(roster="gone", roster_hash=auto.first.roster.hash().hex())
    assert auto.opened() == auto.first.roster


# ------------------------------------------------------------------ the commands


def test_the_commands_show_and_approve_a_first_roster(
    by_hand: Place, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    by_hand.pin.offer(by_hand.first)
    words = [str(by_hand.site_file), str(by_hand.pin.offered_path)]
    assert site_client.cli.main(["roster", "show", *words]) == 0
    out = capsys.readouterr().out
    assert "nothing is in force here yet" in out and "site-4" in out and out.endswith("may be approved\n")
    assert site_client.cli.main(["roster", "show", *words[:1]]) == 2
    assert "has not arrived yet" in capsys.readouterr().err
    monkeypatch.setattr("sys.stdin", io.StringIO("no\n"))
    assert site_client.cli.main(["roster", "approve", *words]) == 1
    out = capsys.readouterr().out
    assert "the first roster of this site" in out and "site-4" in out and not by_hand.pin.path.exists()
    monkeypatch.setattr("sys.stdin", io.StringIO(by_hand.first.roster.hash().hex()[:8] + "\n"))
    assert site_client.cli.main(["roster", "approve", *words]) == 0
    assert by_hand.opened() == by_hand.first.roster
