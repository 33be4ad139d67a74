"""`site-client approve` and `audit`: what an operator reads, types, and what that changes."""

from __future__ import annotations

import io
import json
import sqlite3
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import site_client.cli
from configs.load import load_config
from configs.schema import SiteConfig
from model.adapter import AdapterLayout, attach
from model.backbone import BASE_FILES, build, hash_model
from model.spec import FACTORS, GROUPS, TINY, LoraSpec
from privacy.dp.accounting import epsilon
from privacy.errors import POLICY_REFUSALS
from privacy.identity import Roster, RosterSite
from privacy.ledger import Ledger
from privacy.ledger_chain import LedgerTamperedError
from privacy.messages import Confirm, ErrorReply, RunManifest, SignedManifest, SiteTerms
from privacy.roster import SignedRoster
from privacy.statistics import WIRE_LANES
from site_client.audit_log import site_log
from site_client.keystore import signing_key
from site_client.policy import planned_events
from site_client.roster_pin import RosterPin
from site_client.run_approval import RunApprovals
from site_client.run_preview import account_of_site, dry_run_text, run_facts, run_text
from site_client.upload_size import adapter_numbers
from tests.privacy.officers import signed
from tests.site_client.small_site import COORDINATOR, MANIFEST, STAGE


class Place:
    """A hospital's files, a roster that is pinned by its hash, and a base model that is a spec only."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.site_file, self.state = folder, folder / "site.yaml", folder / "state"
        own = signing_key(self.state)
        sites = tuple(RosterSite(f"site-{i}", own.public_bytes() if i == 1 else bytes([i] * 32), 100 * i)
                      for i in range(1, 5))
        self.first = signed(Roster("fed", 1, COORDINATOR.public_bytes(), sites, 3, 0.5))
        (folder / "one.roster").write_bytes(self.first.to_bytes())
        (folder / "base").mkdir()
        for name in BASE_FILES:
            (folder / "base" / name).write_text(TINY.to_json() if name == "spec.json" else name)
        self.configure()
        self.manifest = self.run()

    def configure(self, **policy: Any) -> None:
        self.site_file.write_text(json.dumps({
            "site_id": "site-1", "data": "data", "state": str(self.state), "base_model": str(self.folder / "base"),
            "roster": str(self.folder / "one.roster"), "roster_hash": self.first.roster.hash().hex(),
            "policy": {"max_epsilon": 8.0, "approve_runs": "by-hand", "require_scheduled_replies": False, **policy}}))

    def run(self, **changed: Any) -> RunManifest:
        terms = tuple(SiteTerms(site.site_id, site.declared_patients, 0.1, 1e-5) for site in self.first.roster.sites)
        return replace(MANIFEST, **{"roster_hash": self.first.roster.hash(), "sites": terms,
                                    "base_model_hash": hash_model(self.folder / "base"), **changed})

    @property
    def config(self) -> SiteConfig:
        return load_config(SiteConfig, self.site_file)

    def write(self, name: str, content: bytes) -> Path:
        (self.folder / name).write_bytes(content)
        return self.folder / name

    def offer(self, manifest: RunManifest) -> str:
        with pytest.raises(Exception, match="by hand"):
            RunApprovals(self.state).require(SignedManifest.make(manifest, COORDINATOR).to_bytes(), manifest)
        return manifest.hash().hex()

    def approved(self) -> set[str]:
        return set(RunApprovals(self.state).approved())

    def facts(self, manifest: RunManifest) -> dict[str, Any]:
        return run_facts(manifest, self.first.roster, self.config, account_of_site(self.config, self.first.roster),
                         hash_model(self.folder / "base"))


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def command(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str, str]:
    code = site_client.cli.main([str(word) for word in words])
    printed = capsys.readouterr()
    return code, printed.out, printed.err


# ------------------------------------------------------------------ what is shown


def test_the_sizes_from_the_spec_are_those_of_the_adapter() -> None:
    for spec in (TINY, replace(TINY, head_dim=8, vision_hidden_size=32, expert_size=48)):
        layout = AdapterLayout(attach(build(spec, 0), LoraSpec(rank=4, groups=tuple(GROUPS)), 0))
        for groups in (("attention",), ("projector",), ("experts",), tuple(GROUPS)):
            for factor in FACTORS:
                assert adapter_numbers(spec, 4, groups, factor) == layout.select(groups, factor).size > 0


def test_the_facts_say_what_would_run_what_it_costs_and_what_would_leave(place: Place) -> None:
    facts = place.facts(place.manifest)
    planned = epsilon(planned_events(place.manifest), 1e-5)
    assert facts["budget"]["planned_epsilon"] == planned and facts["budget"]["left_after"] == 8.0 - planned
    assert (facts["rounds"], facts["steps"]) == (4, 8) and facts["hash"] == place.manifest.hash().hex()
    assert facts["release_installed"] and facts["base_model_here"] and facts["refused_by"] == {}
    sizes = {factor: 3 * (adapter_numbers(TINY, 8, ("attention",), factor) + WIRE_LANES) for factor in "AB"}
    assert facts["largest_upload_bytes"] == max(sizes.values())
    assert facts["uploads_in_all_bytes"] == 2 * sum(sizes.values())  # two stages of one round B and one round A
    assert [stage["largest_upload_bytes"] for stage in facts["stages"]] == 2 * [max(sizes.values())]
    odd = place.facts(place.run(stages=(replace(STAGE, max_rounds=3),), integrity_tags=2))
    assert odd["uploads_in_all_bytes"] == 2 * sizes["B"] + sizes["A"] + 3 * 16


def test_what_was_spent_counts_and_so_does_a_reservation_of_this_run(place: Place) -> None:
    events = planned_events(place.manifest)
    cost = epsilon(events, 1e-5)
    ledger = Ledger.open(place.state / "ledger.sqlite", signing_key=signing_key(place.state), epsilon_cap=8.0)
    ledger.reserve_run("earlier", "aa", events, 1e-5)
    assert place.facts(place.manifest)["budget"]["left_after"] == pytest.approx(8.0 - 2 * cost)
    ledger.reserve_run("run", place.manifest.hash().hex(), events, 1e-5)
    ledger.close()
    budget = place.facts(place.manifest)["budget"]
    assert budget["reserved_already"] and budget["left_after"] == pytest.approx(8.0 - 2 * cost)


def test_every_rule_that_refuses_is_named_with_its_sentence(place: Place) -> None:
    place.configure(max_rounds=3, allowed_groups=["projector"], max_upload_mb=0.001)
    wrong = place.run(release="other", base_model_hash=bytes(32))
    facts = place.facts(wrong)
    assert list(facts["refused_by"]) == ["P_RELEASE", "P_BASE_MODEL", "P_ROUNDS", "P_GROUP", "P_BYTES"]
    assert facts["refused_by"]["P_GROUP"] == POLICY_REFUSALS["P_GROUP"]
    assert not facts["release_installed"] and facts["base_model_here"] is False
    place.configure(max_epsilon=0.1)
    facts = place.facts(place.manifest)
    assert list(facts["refused_by"]) == ["P_BUDGET"] and facts["budget"]["left_after"] < 0


def test_without_a_spec_the_sizes_are_unknown_and_nothing_else(place: Place) -> None:
    (place.folder / "base" / "spec.json").write_text("{")
    facts = place.facts(replace(place.manifest, base_model_hash=hash_model(place.folder / "base")))
    assert facts["largest_upload_bytes"] is facts["uploads_in_all_bytes"] is None
    assert facts["stages"][0]["largest_upload_bytes"] is None and facts["refused_by"] == {}
    assert "how large is not known" in run_text(facts)


def test_a_run_without_noise_is_called_what_it_is(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    bare = place.run(privacy="none", target_epsilon=0.0, stages=(replace(STAGE, noise_multiplier=0.0),))
    place.offer(bare)
    _, out, _ = command(capsys, "approve", place.site_file, bare.hash().hex()[:8], "--yes")
    assert "privacy: NONE" in out and "P_PRIVACY" in out


def test_a_dry_run_says_what_could_leave_and_what_waits(place: Place) -> None:
    place.configure(working_hours=["22:00-06:00"])
    digest = place.offer(place.manifest)
    text = dry_run_text(place.config)
    for words in ("epsilon 0 of 8 spent, 8 left", "22:00-06:00", "only after `site-client approve`", "MaskedHeader",
                  "complaints", "sealed for another site: ciphertext", digest[:16], "nothing was sent"):
        assert words in text
    assert not (place.state / "ledger.sqlite").exists() and not (place.state / "roster.pin").exists()


def test_a_dry_run_needs_no_roster(place: Place) -> None:
    (place.folder / "one.roster").unlink()
    text = dry_run_text(place.config)
    assert "no roster in force" in text and "8 left" in text and "ErrorReply" in text


def test_a_broken_ledger_is_not_shown_as_an_empty_one(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    (place.state / "ledger.sqlite").write_bytes(b"junk" * 300)
    with pytest.raises(LedgerTamperedError):
        dry_run_text(place.config)
    place.offer(place.manifest)
    code, _, err = command(capsys, "approve", place.site_file, place.manifest.hash().hex(), "--yes")
    assert code == 2 and "no run can be approved on a broken ledger" in err and place.approved() == set()


# ------------------------------------------------------------------ approve


def test_a_run_that_waits_is_listed_shown_and_approved_by_its_hash(
    place: Place, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    code, out, _ = command(capsys, "approve", place.site_file)
    assert code == 0 and out == "no run waits for approval\nno roster waits for approval\n"
    digest = place.offer(place.manifest)
    assert digest[:16] in command(capsys, "approve", place.site_file)[1]
    for typed in ("", "yes\n", digest[:7] + "\n", digest[1:9] + "\n"):
        monkeypatch.setattr("sys.stdin", io.StringIO(typed))
        code, out, err = command(capsys, "approve", place.site_file, digest[:8])
        assert code == 1 and "stage one: 2 rounds of 2 steps" in out and "nothing was changed" in err
        assert place.approved() == set() and "the policy refuses nothing of it" in out
    monkeypatch.setattr("sys.stdin", io.StringIO(digest[:8].upper() + "\n"))
    code, out, _ = command(capsys, "approve", place.site_file, digest[:12])
    assert code == 0 and out.endswith("approved run run\n") and place.approved() == {digest}
    assert "no run waits" in command(capsys, "approve", place.site_file)[1]
    with site_log(place.state) as log:
        assert [(event.kind, event.fields) for event in log.verify()] == [
            ("approval", {"what": "manifest", "hash": digest, "run_id": "run"})]


def test_a_manifest_file_can_be_approved_before_the_coordinator_asks(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    file = place.write("run.manifest", SignedManifest.make(place.manifest, COORDINATOR).to_bytes())
    code, out, _ = command(capsys, "approve", place.site_file, file, "--yes", "--json")
    assert code == 0 and json.loads(out)["run_id"] == "run" and place.approved() == {place.manifest.hash().hex()}


def test_an_approval_overrides_no_rule_and_says_so(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    place.configure(max_rounds=3)
    file = place.write("run.manifest", SignedManifest.make(place.manifest, COORDINATOR).to_bytes())
    code, out, err = command(capsys, "approve", place.site_file, file, "--yes")
    assert code == 0 and "refused by the policy: P_ROUNDS" in out and "still refuses it (P_ROUNDS)" in err


def test_what_cannot_be_approved_changes_nothing(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    other = place.first.roster.sites[0]
    files = {
        "stranger": SignedManifest.make(place.manifest, signing_key(place.state)).to_bytes(),
        "old": SignedManifest.make(place.run(roster_hash=bytes(32)), COORDINATOR).to_bytes(),
        "junk": b"junk", "key": other.public_key, "empty": b""}
    words = {"stranger": "lacks the pinned coordinator's signature", "old": "names another roster",
             **dict.fromkeys(("junk", "key", "empty"), "neither a signed manifest nor a signed roster")}
    for name, content in files.items():
        code, _, err = command(capsys, "approve", place.site_file, place.write(name, content), "--yes")
        assert code == 2 and words[name] in err and err.count("\n") == 1
    for what in ("deadbee", "nowhere.bin", "deadbeef"):
        assert command(capsys, "approve", place.site_file, what, "--yes")[0] == 2
    assert place.approved() == set() and not (place.state / "approved-runs").exists()


def test_a_log_that_does_not_hold_stops_an_approval(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    digest = place.offer(place.manifest)
    site_log(place.state).close()
    (place.state / "audit.sqlite").unlink()
    code, _, err = command(capsys, "approve", place.site_file, digest, "--yes")
    assert code == 2 and "audit.sqlite is gone" in err and place.approved() == set()


@pytest.mark.parametrize("by", ["file", "hash"])
def test_a_roster_is_approved_like_by_its_own_command(
    place: Place, capsys: pytest.CaptureFixture[str], by: str
) -> None:
    second = signed(replace(place.first.roster, version=2, min_cohort=4))
    digest = second.roster.hash().hex()
    offered = place.write("state/roster.offered", second.to_bytes())
    assert digest[:16] in command(capsys, "approve", place.site_file)[1]
    code, out, _ = command(capsys, "approve", place.site_file, offered if by == "file" else digest[:10], "--yes")
    assert code == 0 and "min_cohort: 3 -> 4" in out and RosterPin(place.config).roster().version == 2
    assert not offered.exists() and "no roster waits" in command(capsys, "approve", place.site_file)[1]
    with site_log(place.state) as log:
        assert [event.fields for event in log.verify()] == [{"what": "roster", "hash": digest}]


def test_a_roster_that_may_not_replace_the_pinned_one_is_refused(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    second = replace(place.first.roster, version=2)
    file = place.write("two.roster", SignedRoster.make(second).to_bytes())
    code, _, err = command(capsys, "approve", place.site_file, file, "--yes")
    assert code == 2 and "signed by 0" in err and not (place.state / "roster.pin").exists()


# ------------------------------------------------------------------ audit


def noted(place: Place) -> None:
    confirm = Confirm.signed(signing_key(place.state), (), site_id="site-1").to_bytes()
    with site_log(place.state) as log:
        log.note("start", release="ab" * 32)
        for number in (1, 2):
            log.egress(step="sa_confirm", body=confirm, vector=None, run_id="run", round=number)
        log.egress(step="hello", body=ErrorReply("P_HOURS", "nobody").to_bytes(), vector=None)
        log.note("transport", request="/v1/fleet/pull-messages", count=7, bytes_out=700, bytes_in=90)


def test_show_adds_up_what_left(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = command(capsys, "audit", place.site_file)
    assert code == 2 and "no audit log at" in err
    noted(place)
    facts = json.loads(command(capsys, "audit", "show", place.site_file, "--json")[1])
    kinds = {row["message"]: row for row in facts["egress"]}
    assert kinds["Confirm"]["count"] == 2 and kinds["ErrorReply"]["count"] == 1
    assert facts["bytes_that_left"] == sum(row["body_bytes"] for row in kinds.values()) > 0
    assert facts["refusals"] == {"P_HOURS": 1} and facts["events"] == facts["signed_up_to"] == 6
    assert facts["transport"] == [
        {"request": "/v1/fleet/pull-messages", "count": 7, "bytes_out": 700, "bytes_in": 90}]
    code, out, _ = command(capsys, "audit", place.site_file)
    assert code == 0 and f"in all {facts['bytes_that_left']:,} bytes" in out and "refused: P_HOURS 1" in out
    later = json.loads(command(capsys, "audit", place.site_file, "--since", 3, "--json")[1])
    assert [row["message"] for row in later["egress"]] == ["ErrorReply"] and later["last"][0]["seq"] == 4


def test_an_export_is_verified_anywhere_and_a_changed_one_is_not(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    noted(place)
    _, text, _ = command(capsys, "audit", "export", place.site_file, "--since", 1)
    file = place.write("export.jsonl", text.encode())
    code, out, _ = command(capsys, "audit", "verify", "--file", file)
    assert code == 0 and "5 events after number 1 intact" in out
    assert signing_key(place.state).public_bytes().hex() in out
    file.write_text(text.replace('\\"round\\": 2', '\\"round\\": 9').replace('\\"round\\":2', '\\"round\\":9'))
    code, out, _ = command(capsys, "audit", "verify", "--file", file, "--json")
    assert code == 1 and json.loads(out)["chain_intact"] is False
    for bad in (place.write("junk", b"\xff\xfe"), place.folder / "nowhere"):
        assert command(capsys, "audit", "verify", "--file", bad)[0] == 2


def test_verify_says_broken_in_one_sentence(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    noted(place)
    code, out, _ = command(capsys, "audit", "verify", place.site_file)
    assert code == 0 and "6 events intact, signed up to event 6" in out
    database = sqlite3.connect(place.state / "audit.sqlite")
    database.executescript("DROP TRIGGER events_no_update; UPDATE events SET kind = 'stop' WHERE seq = 2")
    database.close()
    for action in ("show", "verify", "export"):
        code, out, _ = command(capsys, "audit", action, place.site_file)
        assert code == 1 and out == "BROKEN: event 2 of the audit log was altered, or one before it removed\n"


@pytest.mark.parametrize("words", [("audit",), ("audit", "verify"), ("audit", "show", "a", "b"), ("audit", "x", "y")])
def test_bad_words_are_one_sentence(capsys: pytest.CaptureFixture[str], words: tuple[str, ...]) -> None:
    code, _, err = command(capsys, *words)
    assert code == 2 and err.count("\n") == 1


def test_a_negative_since_is_refused(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = command(capsys, "audit", place.site_file, "--since", "-1")
    assert code == 2 and "--since" in err
