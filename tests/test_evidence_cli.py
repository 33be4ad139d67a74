"""`site-client evidence` and `coordinator evidence`: listed, shown, exported, and checked by somebody else."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path

import pytest

import coordinator.cli
import site_client.cli
from coordinator.evidence_folder import EvidenceFolder
from privacy.errors import FAULTS, POLICY_ACTIONS, POLICY_REFUSALS
from privacy.identity import Roster, RosterSite, SigningKey
from privacy.messages import LedgerMark, Plan, SignedPlan
from privacy.roster import SignedRoster
from site_client.evidence_store import EvidenceStore
from site_client.keystore import signing_key
from site_client.peers import PeerMarks
from tests.privacy.officers import signed

COORDINATOR = SigningKey.from_private_bytes(bytes([8] * 32))


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A site file with a roster and a state folder."""
    key = signing_key(tmp_path / "state").public_bytes()
    roster = Roster(
        federation_id="consortium", version=3, coordinator_key=bytes([7] * 32), min_cohort=3, min_fraction=0.5,
        sites=(RosterSite("site-1", key, 120), RosterSite("site-2", bytes([2] * 32), 90)))
    on_file = signed(roster)
    (tmp_path / "roster.bin").write_bytes(on_file.to_bytes())
    path = tmp_path / "site.yaml"
    path.write_text(json.dumps({
        "site_id": "site-1", "data": str(tmp_path), "state": str(tmp_path / "state"), "base_model": str(tmp_path),
        "roster": str(tmp_path / "roster.bin"), "roster_hash": on_file.roster.hash().hex(),
        "policy": {"max_epsilon": 8.0}}))
    return path


def evidence_of_two_plans(site: Path, run_id: str = "run-1") -> tuple[Roster, Path]:
    """A site whose coordinator signed two plans for one attempt, and the roster's path."""
    settings = json.loads(site.read_text())
    roster_path = Path(settings["roster"])
    on_file = signed(replace(
        SignedRoster.open(roster_path.read_bytes()), coordinator_key=COORDINATOR.public_bytes()))
    roster = on_file.roster
    roster_path.write_bytes(on_file.to_bytes())
    site.write_text(json.dumps({**settings, "roster_hash": roster.hash().hex()}))
    store = EvidenceStore(Path(settings["state"]) / "evidence.sqlite", roster)
    for number in (1, 2):
        plan = Plan(
            federation_id="consortium", run_id=run_id, roster_hash=roster.hash(), manifest_hash=bytes(32), round=3,
            attempt=1, stage=0, factor="B", model_hash=bytes([number] * 32), dimension=8, num_lanes=3, bits=24,
            scale=4096.0, saturation=2.0)
        store.saw_plan(SignedPlan.signed(COORDINATOR, (), plan=plan).to_bytes())
    store.close()
    return roster, roster_path


def site_main(*arguments: str | Path) -> int:
    return site_client.cli.main([str(argument) for argument in arguments])


def test_a_site_without_evidence_says_so(site: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert site_main("evidence", site) == 0
    assert "no evidence is kept" in capsys.readouterr().out
    assert site_main("evidence", site, "--json") == 0
    assert json.loads(capsys.readouterr().out) == []


def test_evidence_is_listed_shown_exported_and_checked_elsewhere(
    site: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, roster = evidence_of_two_plans(site)
    assert site_main("evidence", site) == 0
    listed = capsys.readouterr().out
    for expected in ("PROVED", "The coordinator signed two different plans", "round 3, attempt 1", "model_hash",
                     "who      coordinator", "E_REPLAY", FAULTS["E_REPLAY"].action, "noted    20"):
        assert expected in listed
    assert site_main("evidence", site, "list", "--json") == 0
    (facts,) = json.loads(capsys.readouterr().out)
    assert facts["proved"] and facts["blamed"] == "coordinator" and len(facts["messages"]) == 2
    assert site_main("evidence", site, "show", facts["id"][:8]) == 0
    assert facts["messages"][0] in capsys.readouterr().out
    file = tmp_path / "for-the-others.bin"
    assert site_main("evidence", site, "export", facts["id"], file) == 0
    assert "coordinator evidence" in capsys.readouterr().out and file.stat().st_mode & 0o777 == 0o600
    for main in (site_client.cli.main, coordinator.cli.main):  # no site file, no run
        assert main(["evidence", "--verify", str(file), "--roster", str(roster)]) == 0
        assert "PROVED" in capsys.readouterr().out
        assert main(["evidence", "--verify", str(file), "--roster", str(roster), "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["id"] == facts["id"]


def test_evidence_against_another_roster_is_not_proved_and_exits_1(
    site: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    roster, _ = evidence_of_two_plans(site)
    assert site_main("evidence", site, "--json") == 0
    (facts,) = json.loads(capsys.readouterr().out)
    assert site_main("evidence", site, "export", facts["id"], tmp_path / "e.bin") == 0
    (tmp_path / "other.bin").write_bytes(replace(roster, version=9).to_bytes())
    for main in (site_client.cli.main, coordinator.cli.main):
        capsys.readouterr()
        assert main(["evidence", "--verify", str(tmp_path / "e.bin"), "--roster", str(tmp_path / "other.bin")]) == 1
        printed = capsys.readouterr().out
        assert "NOT PROVED" in printed and "do now" not in printed


def test_forks_that_peers_marks_hold_are_evidence_too(site: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = json.loads(site.read_text())
    roster = SignedRoster.open(Path(settings["roster"]).read_bytes())
    key = signing_key(Path(settings["state"]))
    peers = PeerMarks(Path(settings["state"]) / "peers.sqlite", roster.federation_id)
    peers.note(LedgerMark.make("site-1", 5, bytes([n] * 32), roster.federation_id, key) for n in (1, 2))
    peers.close()
    assert site_main("evidence", site) == 0
    printed = capsys.readouterr().out
    assert "two different heads for one row" in printed and "number 5" in printed and "E_LEDGER_FORK" in printed


@pytest.mark.parametrize(("words", "expected"), [
    ([], "evidence takes a SITE_FILE"), (["SITE", "shout"], "evidence takes `list`"),
    (["SITE", "show"], "takes `list`"),
    (["SITE", "show", "abcd"], "0 pieces of evidence"), (["SITE", "export", "abcd", "x"], "0 pieces of evidence"),
    (["SITE", "list", "twice"], "takes `list`"), (["--verify", "SITE"], "takes `--roster ROSTER`"),
    (["SITE", "--roster", "SITE"], "--roster goes with"),
    (["--verify", "SITE", "--roster", "SITE"], "is not evidence")])
def test_a_mistake_with_evidence_is_one_sentence(
    site: Path, words: list[str], expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert site_main("evidence", *(site if word == "SITE" else word for word in words)) == 2
    printed = capsys.readouterr()
    assert expected in printed.err and printed.err.count("\n") == 1 and printed.out == ""


def test_an_export_overwrites_nothing(site: Path, capsys: pytest.CaptureFixture[str]) -> None:
    evidence_of_two_plans(site)
    site_main("evidence", site, "--json")
    (facts,) = json.loads(capsys.readouterr().out)
    assert site_main("evidence", site, "export", facts["id"], site) == 2
    assert "exists already" in capsys.readouterr().err and json.loads(site.read_text())["site_id"] == "site-1"


def test_a_run_lists_its_evidence_and_status_points_to_it(
    site: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    roster, _ = evidence_of_two_plans(site)
    store = EvidenceStore(Path(json.loads(site.read_text())["state"]) / "evidence.sqlite", roster)
    (kept,) = store.list()
    run = tmp_path / "run"
    (run / "coordinator").mkdir(parents=True)
    events = [{"event": "cohort", "accepted": ["site-1"], "refused": ["P_FLOOR"], "floor": 3, "time": time.time()}]
    (run / "coordinator" / "progress.jsonl").write_text("".join(json.dumps(event) + "\n" for event in events))
    assert coordinator.cli.main(["evidence", str(run)]) == 0
    assert "no evidence is kept" in capsys.readouterr().out
    folder = EvidenceFolder(run / "coordinator" / "evidence", roster)
    folder.keep(kept.evidence)
    folder.keep(kept.evidence)
    assert coordinator.cli.main(["evidence", str(run)]) == 0
    printed = capsys.readouterr().out
    assert printed.count("PROVED") == 1 and "round 3, attempt 1" in printed
    assert coordinator.cli.main(["evidence", str(run), "export", kept.evidence.hash().hex()[:16], str(run / "e")]) == 0
    assert (run / "e").read_bytes() == kept.evidence.to_bytes()
    capsys.readouterr()
    assert coordinator.cli.main(["status", str(run)]) == 0
    status = capsys.readouterr().out
    assert "evidence   1 kept" in status
    assert f"P_FLOOR: {POLICY_REFUSALS['P_FLOOR']} {POLICY_ACTIONS['P_FLOOR']}" in status
    (run / "coordinator" / "evidence" / "damaged.bin").write_bytes(b"no")
    assert coordinator.cli.main(["evidence", str(run)]) == 2
    assert "damaged.bin is not evidence" in capsys.readouterr().err
    assert coordinator.cli.main(["evidence", str(tmp_path / "nowhere")]) == 2
