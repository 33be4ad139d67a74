"""Which roster a site works with: the first pin, approval of a new version, and no way back."""

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
from privacy.identity import Officer, Roster, RosterSite
from privacy.roster import RosterError, SignedRoster
from site_client.installation import Installation
from site_client.keystore import signing_key
from site_client.roster_pin import RosterPin
from tests.privacy.officers import KEYS, signed
from tests.site_client.small_site import key_of


class Place:
    """A hospital's files, with roster version 1 pinned by its hash in the site file."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.site_file = folder, folder / "site.yaml"
        own = signing_key(folder / "state").public_bytes()
        sites = tuple(RosterSite(f"site-{i}", own if i == 1 else bytes([i] * 32), 100) for i in range(1, 5))
        self.first = signed(Roster("fed", 1, bytes([9] * 32), sites, 3, 0.5))
        self.write("one.roster", self.first)
        self.configure(roster=str(folder / "one.roster"), roster_hash=self.first.roster.hash().hex())

    def write(self, name: str, file: SignedRoster) -> Path:
        (self.folder / name).write_bytes(file.to_bytes())
        return self.folder / name

    def configure(self, **changed: Any) -> None:
        old = json.loads(self.site_file.read_text()) if self.site_file.is_file() else {
            "site_id": "site-1", "data": "data", "state": str(self.folder / "state"), "base_model": "base",
            "policy": {"max_epsilon": 8.0}}
        self.site_file.write_text(json.dumps({**old, **changed}))

    @property
    def config(self) -> SiteConfig:
        return load_config(SiteConfig, self.site_file)

    @property
    def pin(self) -> RosterPin:
        return RosterPin(self.config)

    def opened(self) -> Roster:
        site = Installation(self.config)
        site.ledger.close()
        return site.roster

    def successor(self, *officers: str, **changes: Any) -> SignedRoster:
        return signed(replace(self.first.roster, **{"version": 2, **changes}), *officers)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def refused(place: Place) -> str:
    with pytest.raises(ConfigError) as error:
        place.opened()
    assert not (place.folder / "state" / "ledger.sqlite").exists()
    return str(error.value)


# ------------------------------------------------------------------ the first pin


def test_the_first_start_pins_the_roster_of_the_site_file(place: Place) -> None:
    assert place.pin.roster() == place.first.roster and not place.pin.path.exists()  # looking pins nothing
    assert place.opened() == place.first.roster
    assert place.pin.path.stat().st_mode & 0o777 == 0o600
    (place.folder / "one.roster").unlink()
    assert place.opened() == place.first.roster


def test_a_file_that_two_officers_have_not_signed_is_refused(place: Place) -> None:
    place.write("one.roster", SignedRoster(place.first.roster, place.first.signatures[:1]))
    assert "signed by 1 of its own officers and 2 are needed" in refused(place)
    place.write("one.roster", SignedRoster(place.first.roster))
    assert "signed by 0" in refused(place)


def test_a_file_other_than_the_pinned_one_is_refused(place: Place) -> None:
    place.write("one.roster", place.successor())
    assert "not the pinned one; compare it with the consortium" in refused(place)
    (place.folder / "one.roster").write_bytes(place.first.roster.to_bytes())
    assert "not a signed roster of this release" in refused(place)
    (place.folder / "one.roster").unlink()
    assert "does not exist" in refused(place)


def test_a_suspended_site_takes_part_in_nothing(place: Place) -> None:
    idle = (replace(place.first.roster.sites[0], status="suspended"), *place.first.roster.sites[1:])
    place.pin.approve(place.successor(sites=idle))
    assert "site-1 is suspended on the roster's version 2" in refused(place)


# ------------------------------------------------------------------ a new version


def test_an_approved_version_holds_from_the_next_start_and_only_then(place: Place) -> None:
    running = Installation(place.config)
    assert place.pin.approve(place.successor(min_cohort=4))
    assert running.roster == place.first.roster
    running.ledger.close()
    assert place.opened().min_cohort == 4
    assert place.pin.path.stat().st_mode & 0o777 == 0o600
    assert not place.pin.approve(place.successor(min_cohort=4))  # in force already


@pytest.mark.parametrize(
    ("changes", "officers", "words"),
    [
        ({"version": 1, "min_cohort": 4}, (), "never goes back"), ({"version": 0}, (), "never goes back"),
        ({"federation_id": "other"}, (), "of the federation other"), ({}, ("ann",), "signed by 1 of its own"),
    ])
def test_what_may_not_be_approved_changes_nothing(
    place: Place, changes: dict[str, Any], officers: tuple[str, ...], words: str
) -> None:
    place.opened()
    before = place.pin.path.read_bytes()
    with pytest.raises(RosterError, match=words):
        place.pin.approve(place.successor(*officers, **changes))
    assert place.pin.path.read_bytes() == before


def test_a_roster_without_this_site_is_not_approved(place: Place) -> None:
    with pytest.raises(RosterError, match="site-1 is not on that roster"):
        place.pin.approve(place.successor(sites=place.first.roster.sites[1:]))


def test_officers_of_the_version_in_force_decide_not_those_of_the_first(place: Place) -> None:
    new = {name: key_of(name) for name in ("dan", "eve")}
    officers = tuple(Officer(name, key.public_bytes()) for name, key in new.items())
    second = SignedRoster.make(replace(place.first.roster, version=2, officers=officers), *new.values())
    for name in ("ann", "bob"):
        second = second.sign(KEYS[name], pinned=place.first.roster)
    place.pin.approve(second)
    with pytest.raises(RosterError, match="signed by 0 of the officers of the pinned version 2"):
        place.pin.approve(signed(replace(second.roster, version=3)))


def test_the_older_version_does_not_come_back_by_the_site_file(place: Place) -> None:
    second = place.successor()
    place.pin.approve(second)
    assert place.opened().version == 2  # the site file still names the first pin
    place.configure(roster_hash=second.roster.hash().hex())  # an operator may keep it up to date
    assert place.opened().version == 2
    third = place.successor(version=3)
    place.pin.approve(third)
    assert place.opened().version == 3
    place.configure(roster_hash=place.first.roster.hash().hex())
    with pytest.raises(ConfigError, match="roster_hash was changed in the site file"):
        place.opened()
    with pytest.raises(RosterError, match="never goes back"):
        place.configure(roster_hash=second.roster.hash().hex())
        place.pin.approve(second)


def test_a_lost_pin_is_not_replaced_silently(place: Place) -> None:
    place.opened()
    place.pin.path.unlink()
    with pytest.raises(ConfigError, match=r"roster\.pin is gone; restore it from backup"):
        place.opened()
    assert place.pin.approve(place.first)  # the operator's word, by the same command
    assert place.opened() == place.first.roster


@pytest.mark.parametrize("content", [b"", b"junk"])
def test_a_damaged_pin_is_refused(place: Place, content: bytes) -> None:
    place.opened()
    place.pin.path.write_bytes(content)
    with pytest.raises(ConfigError, match="is damaged"):
        place.opened()


def test_a_pin_whose_signatures_were_stripped_is_refused(place: Place) -> None:
    place.opened()
    whole = place.pin._kept()
    assert whole is not None
    place.pin.path.write_bytes(replace(whole, approved=SignedRoster(whole.approved.roster)).to_bytes())
    with pytest.raises(ConfigError, match="is damaged"):
        place.opened()


# ------------------------------------------------------------------ the commands


def command(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str, str]:
    code = site_client.cli.main(["roster", *map(str, words)])
    printed = capsys.readouterr()
    return code, printed.out, printed.err


def test_show_prints_what_is_in_force_and_writes_nothing(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = command(capsys, "show", place.site_file)
    assert code == 0 and "the site file; pinned at the first start" in out and "fed version 1" in out
    assert not place.pin.path.exists()
    place.opened()
    code, out, _ = command(capsys, "show", place.site_file, "--json")
    facts = json.loads(out)
    assert code == 0 and facts["approved_here"] and len(facts["in_force"]["sites"]) == 4


def test_show_says_what_a_new_file_changes_and_whether_it_may_be_approved(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    good = place.write("two.roster", place.successor(min_cohort=4))
    code, out, _ = command(capsys, "show", place.site_file, good)
    assert code == 0 and "min_cohort: 3 -> 4" in out and out.endswith("may be approved\n")
    bad = place.write("bad.roster", place.successor("ann"))
    code, out, _ = command(capsys, "show", place.site_file, bad, "--json")
    facts = json.loads(out)
    assert code == 1 and not facts["may_be_approved"] and "2 are needed" in facts["reason"]
    code, out, _ = command(capsys, "show", place.site_file, place.folder / "one.roster")
    assert code == 0 and "nothing changes" in out


def test_approve_asks_for_the_hash(
    place: Place, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    second = place.successor(sites=place.first.roster.sites[:3])
    file = place.write("two.roster", second)
    digits = second.roster.hash().hex()
    for typed in ("", "yes\n", digits[:7] + "\n", digits[1:9] + "\n"):
        monkeypatch.setattr("sys.stdin", io.StringIO(typed))
        code, out, err = command(capsys, "approve", place.site_file, file)
        assert code == 1 and "site removed: site-4" in out and "nothing was changed" in err
        assert not place.pin.path.exists()
    monkeypatch.setattr("sys.stdin", io.StringIO(digits[:8].upper() + "\n"))
    assert command(capsys, "approve", place.site_file, file)[0] == 0
    assert place.opened().version == 2
    code, out, _ = command(capsys, "approve", place.site_file, file)
    assert code == 0 and "in force here already" in out


def test_approve_with_yes_does_not_ask_but_refuses_all_the_same(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = place.write("bad.roster", place.successor("ann"))
    code, _, err = command(capsys, "approve", place.site_file, bad, "--yes")
    assert code == 2 and "2 are needed" in err and err.count("\n") == 1
    code, _, err = command(capsys, "approve", place.site_file, place.folder / "none", "--yes")
    assert code == 2 and "does not exist" in err
    good = place.write("two.roster", place.successor())
    code, out, _ = command(capsys, "approve", place.site_file, good, "--yes")
    assert code == 0 and "from the next start" in out and place.pin.roster().version == 2


def test_a_lost_pin_can_be_approved_again_by_the_command(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    place.opened()
    place.pin.path.unlink()
    code, _, err = command(capsys, "show", place.site_file)
    assert code == 2 and "restore it from backup" in err
    assert command(capsys, "approve", place.site_file, place.folder / "one.roster", "--yes")[0] == 0
    assert place.opened() == place.first.roster
