"""A coordinator's folder from `init` on: what is taken in, what is drafted, what is in force, who is shut out."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import coordinator.cli
from coordinator.authority import server_names
from coordinator.home import Home
from privacy.enrolment import Invitation, SiteRequest
from privacy.roster import SignedRoster
from tests.privacy.invited import key_of, node_key, request
from tests.privacy.officers import KEYS

Run = tuple[int, str, str]
BOTH = ("ann", "bob")
SECRET = ("keys/coordinator.key", "tls/ca.key", "tls/server.key", "coordinator.yaml")


class Desk:
    """The folder DIR and the officers' key files beside it; `run` is one command."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder, self.dir, self._capsys = folder, folder / "home", capsys
        for name, key in KEYS.items():
            (folder / f"{name}.key").write_bytes(key.private_bytes())
            (folder / f"{name}.key").chmod(0o600)

    def run(self, *words: object) -> Run:
        code = coordinator.cli.main([*map(str, words)])
        printed = self._capsys.readouterr()
        assert printed.err.count("\n") == (code == 2), printed.err
        return code, printed.out, printed.err

    def init(self, *more: str, officers: tuple[str, ...] = ("ann", "bob", "cleo")) -> Run:
        words = [word for name in officers for word in ("--officer", f"{name}:{KEYS[name].public_bytes().hex()}")]
        return self.run("init", self.dir, "--federation", "fed", "--address", "fl.example.org:8443", *words, *more)

    @property
    def home(self) -> Home:
        return Home.open(self.dir)

    def hand_in(self, *requests: SiteRequest) -> list[Path]:
        paths = [self.folder / f"{number}-{one.site_id}.request" for number, one in enumerate(requests)]
        for path, one in zip(paths, requests, strict=True):
            path.write_text(one.to_json())
        return paths

    def enroll(self, *names: str) -> Run:
        invitation = self.home.invitation()
        return self.run("enroll", self.dir, *self.hand_in(*(request(name, invitation) for name in names)))

    def sign(self, *names: str) -> None:
        for name in names:
            assert self.run("roster", "sign", self.dir, "--key", self.folder / f"{name}.key")[0] == 0

    def files(self) -> dict[Path, bytes]:
        return {path: path.read_bytes() for path in self.dir.rglob("*") if path.is_file()}


@pytest.fixture
def desk(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Desk:
    made = Desk(tmp_path, capsys)
    assert made.init()[0] == 0
    return made


@pytest.fixture
def running(desk: Desk) -> Desk:
    """With three sites on a roster in force."""
    desk.enroll("site-1", "site-2", "site-3")
    desk.sign("ann", "bob")
    return desk


# ------------------------------------------------------------------ init


def test_init_makes_everything_and_prints_the_fingerprint(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    desk = Desk(tmp_path, capsys)
    code, out, _ = desk.init()
    home = desk.home
    assert code == 0 and home.invitation().fingerprint() in out and "coordinator enroll" in out
    assert home.key().public_bytes() == home.invitation().coordinator_key
    assert home.invitation().ca_certificate.encode() == home.ca_certificate_file.read_bytes()
    assert (home.config.address, home.config.listen) == ("fl.example.org:8443", "0.0.0.0:8443")
    assert set(server_names(home.server_certificate_file.read_bytes())) == {"fl.example.org", "localhost", "127.0.0.1"}
    assert [path.name for path in tmp_path.iterdir() if path.suffix != ".key"] == ["home"]
    assert {(home.folder / name).stat().st_mode & 0o777 for name in SECRET} == {0o600}
    assert {path.stat().st_mode & 0o777 for path in (home.folder, *home.folder.iterdir()) if path.is_dir()} == {0o700}


@pytest.mark.parametrize(
    ("more", "officers", "words"),
    [
        ((), ("ann",), "between 2"), ((), ("ann", "ann"), "twice"), (("--address", "nowhere"), BOTH, "HOST:PORT"),
        (("--address", "300.1.1.1:1"), BOTH, "neither a host"), (("--officer", "dan"), BOTH, "NAME:HEX"),
        (("--federation", "a b"), BOTH, "federation_id"), (("--min-cohort", "2"), BOTH, "at least 3"),
        (("--min-fraction", "1.5"), BOTH, "must be 0 to 1"), (("--federation", "${x}"), BOTH, "coordinator.yaml"),
        (("--listen", "8443"), BOTH, "HOST:PORT"),
    ])
def test_init_with_bad_input_leaves_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], more: tuple[str, ...], officers: tuple[str, ...], words: str
) -> None:
    code, _, err = Desk(tmp_path, capsys).init(*more, officers=officers)
    assert code == 2 and words in err
    assert [path for path in tmp_path.iterdir() if path.suffix != ".key"] == []


def test_init_never_replaces_a_folder(desk: Desk) -> None:
    before = desk.files()
    code, _, err = desk.init()
    assert code == 2 and "never replaced" in err and desk.files() == before


# ------------------------------------------------------------------ enroll


def test_three_sites_are_enrolled_signed_for_and_in_force(desk: Desk) -> None:
    code, out, _ = desk.enroll("site-1", "site-2")
    assert code == 0 and "needs 3 sites, 1 more must enrol" in out and desk.home.latest() is None
    with pytest.raises(ValueError, match="there is no roster yet"):
        desk.home.roster()
    code, out, _ = desk.enroll("site-3")
    assert code == 0 and "version 1 with 3 active sites" in out
    assert f"roster sign {desk.home.roster_file} --key KEY_FILE\n" in out
    with pytest.raises(ValueError, match="signed by nobody and needs 2 more of ann, bob, cleo"):
        desk.home.roster()
    desk.sign("ann")
    with pytest.raises(ValueError, match="signed by ann and needs 1 more of bob, cleo"):
        desk.home.node_keys()
    desk.sign("cleo")
    in_force = desk.home.roster()
    assert in_force.roster.site_ids == ("site-1", "site-2", "site-3") and in_force.roster.version == 1
    assert desk.home.node_keys() == {name: node_key(name) for name in in_force.roster.site_ids}
    assert {path.stat().st_mode & 0o777 for path in desk.home.requests_folder.iterdir()} == {0o600}


def test_a_repeated_request_changes_nothing(running: Desk) -> None:
    before = running.files()
    code, out, _ = running.enroll("site-2")
    assert code == 0 and "site-2: on the roster already; it is in force" in out and running.files() == before


def test_a_site_that_joins_later_is_in_the_next_version(running: Desk) -> None:
    first = running.home.roster()
    code, out, _ = running.enroll("site-4")
    assert code == 0 and "version 2 with 4 active sites" in out
    assert out.strip().endswith(f"--previous {running.home.kept_roster_file(1)}")
    assert SignedRoster.parse(running.home.kept_roster_file(1).read_bytes()) == first
    assert running.home.roster() == first and "site-4" not in running.home.node_keys()
    running.sign("ann", "bob")
    assert running.home.roster().roster.version == 2 and "site-4" in running.home.node_keys()
    code, out, _ = running.run("roster", "show", running.dir)
    assert code == 0 and "site added: site-4" in out


def test_an_unsigned_draft_keeps_its_version_and_a_signed_one_does_not(running: Desk) -> None:
    running.enroll("site-4")
    assert "version 2 with 5" in running.enroll("site-5")[1]
    running.sign("ann")
    assert "version 3 with 6" in running.enroll("site-6")[1]
    latest = running.home.latest()
    assert latest is not None and latest.signatures == () and running.home.roster().roster.version == 1
    running.sign("ann", "bob")
    assert running.home.roster().roster.version == 3 and len(running.home.node_keys()) == 6


def refused(desk: Desk, *requests: SiteRequest, text: str = "") -> str:
    paths, before = desk.hand_in(*requests), desk.files()
    if text:
        paths[-1].write_text(text)
    code, _, err = desk.run("enroll", desk.dir, *paths)
    assert code == 2 and desk.files() == before
    return err


def test_a_bad_request_is_refused_and_none_beside_it_is_stored(desk: Desk) -> None:
    invitation = desk.home.invitation()
    good, bad = request("site-1", invitation), request("site-2", invitation)
    edited = json.dumps({**json.loads(bad.to_json()), "declared_patients": 9})
    assert "signature on the request of site-2" in refused(desk, good, bad, text=edited)
    assert "not valid JSON" in refused(desk, good, bad, text="junk")
    assert "longer than" in refused(desk, good, bad, text=" " * 100_000)
    assert "answers another invitation" in refused(desk, good, request("site-2"))
    code, _, err = desk.run("enroll", desk.dir, desk.folder / "none")
    assert code == 2 and "does not exist" in err


def remade(name: str, invitation: Invitation, key: str, node: str, patients: int = 200) -> SiteRequest:
    return SiteRequest.make(
        key_of(key), invitation, site_id=name, declared_patients=patients, node_key=node_key(node))


def test_an_identifier_or_a_key_belongs_to_one_site(running: Desk) -> None:
    invitation = running.home.invitation()
    assert "enrolled with another request" in refused(running, remade("site-1", invitation, "new", "new"))
    assert "enrolled with another request" in refused(running, remade("site-1", invitation, "site-1", "site-1", 201))
    assert "enrolled with another request" in refused(running, remade("site-1", invitation, "site-1", "new"))
    assert "has a key of site-2" in refused(running, remade("site-9", invitation, "site-2", "new"))
    assert "has a key of site-2" in refused(running, remade("site-9", invitation, "new", "site-2"))
    twins = (remade("site-8", invitation, "a", "a"), remade("site-9", invitation, "b", "a"))
    assert "has a key of site-8" in refused(running, *twins)
    officer = SiteRequest.make(KEYS["ann"], invitation, site_id="site-9", declared_patients=9, node_key=node_key("z"))
    assert "name or key is taken" in refused(running, officer)


def test_a_federation_of_two_and_how_it_grows(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    desk = Desk(tmp_path, capsys)
    assert desk.init("--two-sites")[0] == 0
    assert "needs 2 sites, 1 more" in desk.enroll("site-1")[1]
    assert "version 1 with 2 active sites" in desk.enroll("site-2")[1]
    desk.sign("ann", "bob")
    assert desk.home.roster().roster.two_sites
    desk.enroll("site-3")
    desk.sign("ann", "bob")
    grown = desk.home.roster().roster
    assert (grown.version, grown.two_sites, grown.min_cohort, len(grown.active_ids)) == (2, False, 3, 3)


def test_the_rules_of_the_first_roster_are_those_of_init(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    desk = Desk(tmp_path, capsys)
    desk.init("--min-cohort", "4", "--min-fraction", "0.75")
    assert "needs 4 sites, 1 more" in desk.enroll("site-1", "site-2", "site-3")[1]
    desk.enroll("site-4")
    latest = desk.home.latest()
    assert latest is not None and (latest.roster.min_cohort, latest.roster.min_fraction) == (4, 0.75)


# ------------------------------------------------------------------ revoke


def test_a_revoked_site_is_shut_out_once_two_officers_have_signed(running: Desk) -> None:
    code, out, _ = running.run("roster", "revoke", running.dir, "site-2")
    assert code == 0 and "version 2 with 2 active sites" in out
    running.sign("ann")
    assert "site-2" in running.home.node_keys()
    running.sign("bob")
    assert set(running.home.node_keys()) == {"site-1", "site-3"}
    assert running.home.roster().roster.site_ids == ("site-1", "site-2", "site-3")
    assert "is suspended already" in running.run("roster", "revoke", running.dir, "site-2")[2]
    assert "on the roster already" in running.enroll("site-2")[1] and "site-2" not in running.home.node_keys()


def test_revoke_works_on_a_file_as_well_and_says_what_is_missing(running: Desk) -> None:
    file, new, before = running.home.roster_file, running.folder / "next.bin", running.files()
    assert running.run("roster", "revoke", file, new, "site-1")[0] == 0
    made = SignedRoster.parse(new.read_bytes())
    assert made.roster.active_ids == ("site-2", "site-3") and made.signatures == () and running.files() == before
    code, _, err = running.run("roster", "revoke", file, "site-1")
    assert code == 2 and "name the NEW_FILE" in err
    code, _, err = running.run("roster", "revoke", running.dir, "site-9")
    assert code == 2 and "is not on the roster" in err and running.files() == before


def test_revoke_needs_a_roster(desk: Desk) -> None:
    code, _, err = desk.run("roster", "revoke", desk.dir, "site-1")
    assert code == 2 and "`coordinator enroll` drafts the first one" in err


# ------------------------------------------------------------------ what is in force


def test_a_forged_roster_is_never_in_force(running: Desk) -> None:
    good = running.home.roster()
    for number, keys in enumerate((("site-1", "site-2"), ("ann", "site-1"))):
        officers = tuple((KEYS.get(name) or key_of(f"officer {name}")) for name in keys)
        fields: Any = {**vars(good.roster), "version": 2 + number}
        fields["officers"] = tuple(type(good.roster.officers[0])(f"o{i}", key.public_bytes())
                                   for i, key in enumerate(officers))
        fields = {name: value for name, value in fields.items() if name in type(good.roster).__dataclass_fields__}
        forged = SignedRoster.make(type(good.roster)(**fields), *officers)
        running.home.roster_file.write_bytes(forged.to_bytes())
        running.home.kept_roster_file(1).write_bytes(good.to_bytes())
        assert running.home.roster() == good
        assert "of the pinned version 1" in running.home.still_needed(forged)
    running.home.kept_roster_file(1).unlink()
    with pytest.raises(ValueError, match="officers that the invitation names"):
        running.home.roster()


def test_what_is_missing_or_damaged_is_named(running: Desk) -> None:
    home = running.home
    with pytest.raises(ValueError, match="is not a coordinator's folder"):
        Home.open(running.folder)
    home.request_file("site-2").rename(home.request_file("site-9"))
    with pytest.raises(ValueError, match=r"name the file site-2\.request"):
        home.requests()
    home.request_file("site-9").unlink()
    with pytest.raises(ValueError, match=r"site-2\.request is not the request of the site-2"):
        home.node_keys()
    home.request_file("site-2").write_text(remade("site-2", home.invitation(), "new", "new").to_json())
    with pytest.raises(ValueError, match=r"site-2\.request is not the request of the site-2"):
        home.node_keys()
    home.request_file("site-2").write_text("junk")
    with pytest.raises(ValueError, match=r"site-2\.request cannot be used"):
        home.node_keys()
    home.key_file.write_bytes(key_of("x").private_bytes())
    with pytest.raises(ValueError, match="not the key that the invitation names"):
        home.key()
    home.invitation_file.unlink()
    with pytest.raises(ValueError, match=r"invitation\.json is missing; restore"):
        home.roster()


@pytest.mark.parametrize("name", ["keys/coordinator.key", "tls/ca.key"])
def test_a_key_that_others_can_read_is_refused(desk: Desk, name: str) -> None:
    (desk.dir / name).chmod(0o640)
    with pytest.raises(ValueError, match="chmod 600"):
        desk.home.key() if name.startswith("keys") else desk.home.authority()
    if name.startswith("tls"):
        assert desk.run("renew-certificate", desk.dir)[0] == 2


# ------------------------------------------------------------------ renew-certificate


def test_a_renewed_certificate_has_the_same_authority_key_and_names(desk: Desk) -> None:
    before = desk.files()
    code, out, _ = desk.run("renew-certificate", desk.dir, "--name", "10.0.0.1", "--name", "fl")
    after = desk.files()
    changed = [path.name for path in after if after[path] != before[path]]
    assert code == 0 and changed == ["server.crt"] and "10.0.0.1" in out
    names = {"fl.example.org", "localhost", "127.0.0.1", "10.0.0.1", "fl"}
    assert set(server_names(desk.home.server_certificate_file.read_bytes())) == names
    assert desk.run("renew-certificate", desk.dir)[0] == 0
    assert set(server_names(desk.home.server_certificate_file.read_bytes())) == names
    assert desk.files()[desk.home.server_certificate_file] != after[desk.home.server_certificate_file]


def test_a_removed_server_key_is_made_anew(desk: Desk) -> None:
    before = desk.home.server_key_file.read_bytes()
    desk.home.server_key_file.unlink()
    assert desk.run("renew-certificate", desk.dir)[0] == 0
    assert desk.home.server_key_file.read_bytes() != before
    assert desk.home.server_key_file.stat().st_mode & 0o777 == 0o600
    code, _, err = desk.run("renew-certificate", desk.dir, "--name", "a b")
    assert code == 2 and "neither a host name" in err


def test_opening_the_folder_needs_neither_torch_nor_flower() -> None:
    code = ("import sys, coordinator.home, coordinator.roster_drafts, coordinator.authority\n"
            "print([name for name in ('torch', 'transformers', 'peft', 'flwr') if name in sys.modules])")
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
