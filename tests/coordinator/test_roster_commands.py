"""Drafting, changing, signing and showing a roster, as the consortium's people do it on their own machines."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import coordinator.cli
from configs.schema import ConfigError, CoordinatorConfig
from coordinator.run import _require_patience
from privacy.identity import Roster, SigningKey
from privacy.roster import SignedRoster

Run = tuple[int, str, str]


class Desk:
    """A folder with two officers' keys; `run` is one command."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder, self._capsys = folder, capsys
        self.officers = {name: self.run("officer-key", f"{name}.key")[1].strip() for name in ("ann", "bob")}

    def run(self, action: str, *words: object) -> Run:
        paths = [self.folder / str(word) if str(word).endswith((".roster", ".key")) else str(word) for word in words]
        code = coordinator.cli.main(["roster", action, *map(str, paths)])
        printed = self._capsys.readouterr()
        assert printed.err.count("\n") == (code == 2)
        return code, printed.out, printed.err

    def draft(self, name: str = "one.roster", *more: str, sites: int = 3) -> Run:
        words = ["--federation", "fed", "--coordinator-key", "09" * 32]
        for i in range(1, sites + 1):
            words += ["--site", f"site-{i}:{i:02x}" + f"{i:02x}" * 31 + f":{100 * i}"]
        for officer, key in self.officers.items():
            words += ["--officer", f"{officer}:{key}"]
        return self.run("new", name, *words, *more)

    def both_sign(self, name: str, *more: str) -> None:
        for officer in self.officers:
            assert self.run("sign", name, "--key", f"{officer}.key", *more)[0] == 0

    def read(self, name: str) -> SignedRoster:
        return SignedRoster.parse((self.folder / name).read_bytes())

    def roster(self, name: str) -> Roster:
        return self.read(name).roster


@pytest.fixture
def desk(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Desk:
    return Desk(tmp_path, capsys)


def test_a_roster_is_drafted_signed_by_two_and_ready(desk: Desk) -> None:
    assert desk.draft()[0] == 0
    code, out, _ = desk.run("show", "one.roster", "--json")
    facts = json.loads(out)
    assert code == 1 and not facts["ready"] and facts["signed_by"] == []
    assert desk.run("sign", "one.roster", "--key", "ann.key")[0] == 0
    assert desk.run("show", "one.roster")[0] == 1
    assert desk.run("sign", "one.roster", "--key", "bob.key")[0] == 0
    code, out, _ = desk.run("show", "one.roster")
    assert code == 0 and "signed by enough officers" in out and desk.roster("one.roster").hash().hex() in out
    opened = SignedRoster.open((desk.folder / "one.roster").read_bytes())
    assert (opened.version, opened.site_ids, opened.min_cohort) == (1, ("site-1", "site-2", "site-3"), 3)


def test_an_officers_key_is_private_new_and_never_replaced(desk: Desk) -> None:
    path = desk.folder / "ann.key"
    assert path.stat().st_mode & 0o777 == 0o600
    assert SigningKey.from_private_bytes(path.read_bytes()).public_bytes().hex() == desk.officers["ann"]
    assert desk.officers["ann"] != desk.officers["bob"]
    before = path.read_bytes()
    code, _, err = desk.run("officer-key", "ann.key")
    assert code == 2 and "never replaced" in err and path.read_bytes() == before


def test_a_changed_roster_is_a_new_file_with_the_next_version_and_no_signatures(desk: Desk) -> None:
    desk.draft()
    desk.both_sign("one.roster")
    before = (desk.folder / "one.roster").read_bytes()
    assert desk.run("add-site", "one.roster", "two.roster", "--site", f"site-4:{'04' * 32}:50")[0] == 0
    assert (desk.folder / "one.roster").read_bytes() == before
    second = desk.read("two.roster")
    assert second.signatures == () and second.roster.version == 2
    assert second.roster.site("site-4").declared_patients == 50
    assert desk.run("suspend", "two.roster", "three.roster", "site-4")[0] == 0
    assert desk.roster("three.roster").active_ids == ("site-1", "site-2", "site-3")
    desk.both_sign("three.roster", "--previous", "one.roster")
    code, out, _ = desk.run("show", "three.roster", "--previous", "one.roster")
    assert code == 0 and "site added: site-4" in out and "version: 1 -> 3" in out
    code, out, _ = desk.run("show", "one.roster", "--previous", "three.roster")
    assert code == 1 and "never goes back" in out
    assert desk.run("suspend", "three.roster", "four.roster", "site-4", "--resume")[0] == 0
    assert "site-4" in desk.roster("four.roster").active_ids


def test_officers_of_the_old_roster_hand_over_to_new_ones(desk: Desk) -> None:
    desk.draft()
    old = dict(desk.officers)
    desk.officers = {name: desk.run("officer-key", f"{name}.key")[1].strip() for name in ("dan", "eve")}
    desk.draft("next.roster")
    code, _, err = desk.run("sign", "next.roster", "--key", "ann.key")
    assert code == 2 and "no officer of the roster" in err
    for name in old:
        assert desk.run("sign", "next.roster", "--key", f"{name}.key", "--previous", "one.roster")[0] == 0
    assert desk.read("next.roster").signers(desk.roster("one.roster")) == ("ann", "bob")
    assert desk.run("show", "next.roster")[0] == 1  # its own officers have not signed yet


def test_two_sites_need_their_flag_and_a_third_makes_an_ordinary_federation(desk: Desk) -> None:
    code, _, err = desk.draft("one.roster", "--min-cohort", "2", sites=2)
    assert code == 2 and "min_cohort" in err
    assert desk.draft("one.roster", "--min-cohort", "2", "--two-sites", sites=2)[0] == 0
    assert "hides from the coordinator only" in desk.run("show", "one.roster")[1]
    assert desk.run("add-site", "one.roster", "two.roster", "--site", f"site-3:{'03' * 32}:50")[0] == 0
    grown = desk.roster("two.roster")
    assert (grown.two_sites, grown.min_cohort, len(grown.active_ids)) == (False, 3, 3)


def test_suites_and_the_largest_vector_are_on_the_draft(desk: Desk) -> None:
    more = ("--suite", "x25519-mlkem768", "--suite", "x25519", "--max-dimension", "1000", "--min-fraction", "0.75")
    assert desk.draft("one.roster", *more)[0] == 0
    made = desk.roster("one.roster")
    assert (made.suites, made.max_dimension, made.min_fraction) == (("x25519", "x25519-mlkem768"), 1000, 0.75)
    assert desk.draft("other.roster", "--suite", "rsa")[0] == 2


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("sign", "one.roster", "--key", "open.key"), "chmod 600"),
        (("sign", "one.roster", "--key", "short.key"), "3 bytes instead of 32"),
        (("sign", "none.roster", "--key", "ann.key"), "does not exist"),
        (("sign", "junk.roster", "--key", "ann.key"), "not a signed roster"),
        (("show", "junk.roster"), "not a signed roster"),
        (("add-site", "one.roster", "junk.roster", "--site", f"x:{'05' * 32}:5"), "never replaced"),
        (("add-site", "one.roster", "two.roster", "--site", "x:05:5"), "not a public key"),
        (("add-site", "one.roster", "two.roster", "--site", f"x:{'05' * 32}"), "is not a site"),
        (("add-site", "one.roster", "two.roster", "--site", f"x:{'05' * 32}:many"), "is not a site"),
        (("add-site", "one.roster", "two.roster", "--site", f"site-1:{'05' * 32}:5"), "twice"),
        (("suspend", "one.roster", "two.roster", "site-9"), "is not on the roster; give one of site-1"),
        (("suspend", "one.roster", "two.roster", "site-1", "--resume"), "is active already"),
    ])
def test_bad_input_is_one_sentence_and_writes_nothing(desk: Desk, words: tuple[str, ...], expected: str) -> None:
    desk.draft()
    (desk.folder / "junk.roster").write_bytes(b"junk")
    (desk.folder / "open.key").write_bytes(bytes(32))
    (desk.folder / "open.key").chmod(0o644)
    (desk.folder / "short.key").write_bytes(b"abc")
    (desk.folder / "short.key").chmod(0o600)
    before = {path: path.read_bytes() for path in desk.folder.iterdir()}
    code, _, err = desk.run(words[0], *words[1:])
    assert code == 2 and expected in err
    assert {path: path.read_bytes() for path in desk.folder.iterdir()} == before


def test_an_officer_is_a_name_and_a_key_of_its_own(desk: Desk) -> None:
    assert "is not an officer" in desk.draft("one.roster", "--officer", "ann")[2]
    assert "name or key is taken" in desk.draft("one.roster", "--officer", f"zoe:{desk.officers['ann']}")[2]
    assert not (desk.folder / "one.roster").exists()


@pytest.mark.parametrize(("timeout", "refused"), [(60.0, True), (59.0, True), (61.0, False)])
def test_a_coordinator_waits_longer_than_the_replies_are_held_back(timeout: float, refused: bool) -> None:
    config = CoordinatorConfig(
        manifest="m", roster="r", key="k", base_model="b", output="o", public_examples="p", timeout_s=timeout)
    manifest: Any = SimpleNamespace(stages=[SimpleNamespace(reply_after_s=0.0), SimpleNamespace(reply_after_s=60.0)])
    if not refused:
        return _require_patience(config, manifest)
    with pytest.raises(ConfigError, match="must be longer than the run's reply_after_s of 60 s"):
        _require_patience(config, manifest)
    return None
