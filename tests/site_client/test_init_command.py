"""`site-client init`: a folder with keys, a site file that explains itself, and a request that opens."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

import site_client.cli
from configs.load import load_config
from configs.schema import PolicyConfig, SiteConfig
from configs.site_data import ImagesConfig, PhiConfig
from privacy.enrolment import Invitation, SiteRequest
from site_client.keystore import KeyFileError, node_public_key, signing_key
from site_client.site_file import IMAGES_TEXTS, PHI_TEXTS, POLICY_TEXTS, site_file_text
from tests.privacy.invited import INVITATION

Run = tuple[int, str, str]


class Desk:
    """A place with the coordinator's invitation and the hospital's two folders."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder, self._capsys = folder, capsys
        for name in ("data", "model"):
            (folder / name).mkdir()
        (folder / "invitation.json").write_text(INVITATION.to_json())

    def init(self, *more: str, name: str = "site", **changed: str) -> Run:
        values = {"invitation": str(self.folder / "invitation.json"), "site-id": "site-1", "patients": "200",
                  "data": str(self.folder / "data"), "base-model": str(self.folder / "model"), **changed}
        words = [word for key, value in values.items() for word in (f"--{key}", value)]
        code = site_client.cli.main(["init", str(self.folder / name), *words, *more])
        printed = self._capsys.readouterr()
        return code, printed.out, printed.err

    @property
    def config(self) -> SiteConfig:
        return load_config(SiteConfig, self.folder / "site" / "site.yaml")


@pytest.fixture
def desk(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Desk:
    return Desk(tmp_path, capsys)


def names(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*")}


def test_init_makes_a_folder_that_is_ready_to_start(desk: Desk) -> None:
    code, out, err = desk.init()
    folder = desk.folder / "site"
    assert (code, err) == (0, "") and INVITATION.fingerprint() in out and "site-1.request" in out
    assert names(folder) == {"site.yaml", "invitation.json", "site-1.request", "state", "state/identity.key",
                             "state/pseudonym.key", "state/node.key", "state/version"}
    assert {path.stat().st_mode & 0o777 for path in (folder, folder / "state")} == {0o700}
    assert {path.stat().st_mode & 0o777 for path in folder.rglob("*.*") if path.is_file()} == {0o600}
    assert (folder / "state" / "identity.key").read_bytes() != (folder / "state" / "pseudonym.key").read_bytes()
    config = desk.config
    assert (config.data, config.base_model, config.state) == tuple(
        str(path) for path in (desk.folder / "data", desk.folder / "model", folder / "state"))
    assert config.policy == PolicyConfig(max_epsilon=8.0) and config.roster_hash == ""
    assert Invitation.from_json(Path(config.invitation).read_bytes()) == INVITATION


def test_the_request_opens_at_the_coordinator_and_names_the_keys_in_the_folder(desk: Desk) -> None:
    desk.init()
    folder = desk.folder / "site"
    request = SiteRequest.open((folder / "site-1.request").read_bytes(), INVITATION)
    assert (request.site_id, request.declared_patients) == ("site-1", 200)
    assert request.public_key == signing_key(folder / "state").public_bytes()
    private = serialization.load_ssh_private_key((folder / "state" / "node.key").read_bytes(), password=None)
    assert isinstance(private, ec.EllipticCurvePrivateKey) and private.curve.name == "secp384r1"
    public = serialization.load_ssh_public_key(request.node_key.encode())
    assert isinstance(public, ec.EllipticCurvePublicKey)
    assert public.public_numbers() == private.public_key().public_numbers()
    assert b"PRIVATE" not in (folder / "site-1.request").read_bytes()


def test_paths_are_absolute_whatever_was_typed(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(desk.folder)
    assert desk.init(**{"data": "data", "base-model": "./model", "invitation": "invitation.json"})[0] == 0
    config = desk.config
    assert all(Path(path).is_absolute() and Path(path).exists()
               for path in (config.data, config.base_model, config.state, config.invitation))


def test_odd_paths_survive_the_site_file(desk: Desk) -> None:
    odd = desk.folder / 'Klinik "Süd" #1: \U0001f3e5 \x07'
    odd.mkdir()
    assert desk.init(data=str(odd))[0] == 0 and desk.config.data == str(odd)


def test_the_policy_is_what_was_asked_for(desk: Desk) -> None:
    code, _, _ = desk.init("--max-epsilon", "3", "--auto-approve", "--policy", "min_patients=50",
                           "--policy", "allowed_sources=[reports,patches]", "--policy", "working_hours=['22:00-06:00']")
    policy = desk.config.policy
    assert code == 0 and (policy.max_epsilon, policy.approve_rosters, policy.approve_runs) == (3.0, "auto", "auto")
    assert (policy.min_patients, policy.allowed_sources) == (50, ["reports", "patches"])
    assert policy.working_hours == ["22:00-06:00"]
    assert PolicyConfig(max_epsilon=1.0).approve_rosters == "by-hand"  # so that the option makes the difference


def test_every_rule_is_in_the_file_with_a_comment_above() -> None:
    assert list(POLICY_TEXTS) == [field.name for field in fields(PolicyConfig)]
    assert list(IMAGES_TEXTS) == [field.name for field in fields(ImagesConfig)]
    assert list(PHI_TEXTS) == [field.name for field in fields(PhiConfig)]
    lines = site_file_text(site_id="a", folder=Path("/f"), data=Path("/d"), base_model=Path("/m"),
                           policy=PolicyConfig(max_epsilon=1.0)).splitlines()
    for name in POLICY_TEXTS:
        at = next(i for i, line in enumerate(lines) if line.startswith(f"  {name}: "))
        assert lines[at - 1].startswith("  # ")
    assert max(map(len, lines)) <= 120


def test_a_folder_that_is_missing_yet_is_a_warning(desk: Desk) -> None:
    code, _, err = desk.init(data=str(desk.folder / "later"))
    assert code == 0 and err.count("\n") == 1 and f"data folder {desk.folder / 'later'} does not exist yet" in err


def test_too_few_patients_for_the_policy_is_a_warning(desk: Desk) -> None:
    code, _, err = desk.init(patients="99")
    assert code == 0 and err.count("\n") == 1 and "policy.min_patients is 100" in err


def test_an_existing_folder_is_never_replaced(desk: Desk) -> None:
    desk.init()
    before = {path: path.read_bytes() for path in (desk.folder / "site").rglob("*") if path.is_file()}
    code, _, err = desk.init()
    assert code == 2 and "never replaced" in err
    assert {path: path.read_bytes() for path in (desk.folder / "site").rglob("*") if path.is_file()} == before


@pytest.mark.parametrize(
    ("more", "changed", "words"),
    [
        ((), {"site-id": "../up"}, "site_id"), ((), {"site-id": ""}, "site_id"),
        ((), {"patients": "0"}, "declared_patients"),
        ((), {"invitation": "/nowhere"}, "does not exist"), (("--max-epsilon", "-1"), {}, "max_epsilon"),
        (("--max-epsilon", "nan"), {}, "max_epsilon"), (("--policy", "min_cohort=2"), {}, "min_cohort"),
        (("--policy", "min_patient=2"), {}, "did you mean min_patients"), (("--policy", "nonsense"), {}, "KEY=VALUE"),
        ((), {"data": "/tmp/${oc.env:HOME}"}, "characters"), ((), {"data": "/tmp/${x}"}, "site.yaml"),
    ])
def test_bad_input_is_one_sentence_and_leaves_nothing(
    desk: Desk, more: tuple[str, ...], changed: dict[str, str], words: str
) -> None:
    code, _, err = desk.init(*more, **changed)
    assert code == 2 and words in err and err.count("\n") == 1
    assert names(desk.folder) == {"data", "model", "invitation.json"}


@pytest.mark.parametrize("text", ["", "junk", INVITATION.to_json().replace("fl.example.org", "evil.example.org")])
def test_a_damaged_invitation_is_refused(desk: Desk, text: str) -> None:
    (desk.folder / "invitation.json").write_text(text)
    code, _, err = desk.init()
    assert code == 2 and "invitation" in err and names(desk.folder) == {"data", "model", "invitation.json"}


# ------------------------------------------------------------------ the transport's key


def test_the_transports_key_is_made_once(tmp_path: Path) -> None:
    first = node_public_key(tmp_path / "state")
    assert node_public_key(tmp_path / "state") == first != node_public_key(tmp_path / "other")
    assert (tmp_path / "state" / "node.key").stat().st_mode & 0o777 == 0o600


def test_a_transports_key_that_must_not_be_used(tmp_path: Path) -> None:
    node_public_key(tmp_path)
    path = tmp_path / "node.key"
    path.chmod(0o644)
    with pytest.raises(KeyFileError, match="chmod 600"):
        node_public_key(tmp_path)
    path.chmod(0o600)
    other = ec.generate_private_key(ec.SECP256R1()).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption())
    for content in (b"", b"junk", other):
        path.write_bytes(content)
        with pytest.raises(KeyFileError, match="not an EC P-384 private key"):
            node_public_key(tmp_path)
