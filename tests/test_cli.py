"""The three commands: light help, useful output, one sentence and exit code 2 for a user's mistake."""

from __future__ import annotations

import dataclasses
import json
import re
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import coordinator.cli
import simulations.cli
import site_client.cli
from coordinator.checkpoint import Checkpoint, save
from model.backbone import BASE_FILES, hash_model
from privacy.identity import Roster, RosterSite
from privacy.ledger import Ledger, LedgerEntry
from simulations.packages import load_pairs, load_reports
from simulations.site_folder import write_site_folder
from site_client.keystore import signing_key
from tests.privacy.officers import signed

ROOT = Path(__file__).resolve().parent.parent
MAINS: dict[str, Callable[[list[str]], int]] = {
    "simulations.cli": simulations.cli.main, "coordinator.cli": coordinator.cli.main,
    "site_client.cli": site_client.cli.main}
SUBCOMMANDS = {"simulations.cli": ["run", "audit", "ablate", "make-hospitals"],
               "coordinator.cli": ["noise", "status", "hash-model", "evidence", "init", "enroll",
                                   "renew-certificate", "roster", "up", "launch", "watch", "stop", "resume", "export",
                                   "doctor", "backup", "restore", "verify-release", "evaluate"],
               "site_client.cli": ["index", "ledger", "check", "evidence", "init", "roster", "approve", "audit",
                                   "start", "doctor", "status", "backup", "restore", "answer"]}
HEAVY = ["torch", "peft", "transformers", "flwr", "opacus", "pydicom", "dp_accounting", "matplotlib", "numpy",
         "omegaconf"]


@pytest.mark.parametrize("module", MAINS)
def test_help_imports_nothing_heavy(module: str) -> None:
    code = (f"import contextlib, io, sys\nfrom {module} import main\n"
            f"for arguments in {[['--help'], *([name, '--help'] for name in SUBCOMMANDS[module])]!r}:\n"
            "    with contextlib.suppress(SystemExit), contextlib.redirect_stdout(io.StringIO()) as out:\n"
            "        main(arguments)\n"
            "    assert 'usage:' in out.getvalue()\n"
            f"print([name for name in {HEAVY!r} if name in sys.modules])\n")
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip() == "[]"


@pytest.mark.parametrize("module", MAINS)
def test_a_command_is_required(module: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        MAINS[module]([])
    assert caught.value.code == 2 and "usage:" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("module", "arguments", "expected"),
    [
        ("simulations.cli", ["run", "configs/simulations/dmo.yaml"], "did you mean simulations/demo.yaml?"),
        ("simulations.cli", ["run", "configs/simulations/demo.yaml", "sed=3"], "did you mean seed?"),
        ("coordinator.cli", ["noise", "three-stage.yaml", "--patients", "9"], "curriculum/three-stage.yaml"),
        ("coordinator.cli", ["noise", "curriculum/three-stage.yaml", "--patients", "9", "--epsilon", "-1"],
         "target_epsilon must be a finite number above 0"),
        ("coordinator.cli", ["status", "/nowhere"], "no run in /nowhere"),
        ("coordinator.cli", ["hash-model", "/nowhere"], "config.json is missing"),
        ("site_client.cli", ["index", "nowhere.yaml"], "nowhere.yaml does not exist"),
        ("site_client.cli", ["ledger", "configs/simulations/demo.yaml"], "unknown key name"),
        ("site_client.cli", ["check", "nowhere.yaml"], "nowhere.yaml does not exist"),
    ])
def test_a_mistake_is_one_sentence_and_exit_code_2(
    module: str, arguments: list[str], expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert MAINS[module](arguments) == 2
    printed = capsys.readouterr()
    assert expected in printed.err and printed.err.count("\n") == 1 and printed.out == ""


@pytest.mark.parametrize("patients", ["0", "-3", "many", "1.5", "²"])
def test_a_number_of_patients_must_be_one(patients: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        coordinator.cli.main(["noise", "curriculum/three-stage.yaml", "--patients", patients])
    assert caught.value.code == 2 and "is not a number of patients" in capsys.readouterr().err


# coordinator


def test_noise_prints_stages_and_what_they_cost(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["noise", "curriculum/smoke.yaml", "--patients", "20000", "--epsilon", "4"]
    assert coordinator.cli.main([*arguments, "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["delta"] == 1 / 200_000 and 3.9 < facts["epsilon"] <= 4
    assert [stage["name"] for stage in facts["stages"]] == ["alignment", "multi-image", "instruction"]
    so_far = [stage["epsilon_so_far"] for stage in facts["stages"]]
    assert so_far == sorted(so_far) and so_far[-1] == facts["epsilon"]
    assert coordinator.cli.main(arguments) == 0
    text = capsys.readouterr().out
    assert f"{facts['stages'][2]['noise_multiplier']:.4f}" in text and "at delta 5e-06" in text


def round_report(number: int) -> dict[str, Any]:
    return {"round": number, "stage_name": "alignment", "summed": ["site-1", "site-2", "site-3"],
            "saturated": 0.032, "missing": {"site-4": "sa_mask: timeout"}, "public": {"accuracy_normal": 0.875}}


def write_run(folder: Path, *events: dict[str, Any], rounds: int = 2) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    lines = [json.dumps({"time": time.time(), **event}) for event in events]
    (folder / "progress.jsonl").write_text("\n".join([*lines, '{"event": "rou']), encoding="utf-8")
    for number in range(1, rounds + 1):
        history = [round_report(n) for n in range(1, number + 1)]
        zeros = np.zeros(2)
        save(folder / "checkpoints", Checkpoint(number, np.zeros(2, np.float32), zeros, zeros, "ab", history))


BEGIN = {"event": "begin", "rounds_total": 10, "rounds_done": 0}
COHORT = {"event": "cohort", "accepted": ["site-1", "site-2", "site-3", "site-4"], "refused": ["P_FLOOR"], "floor": 4}


def test_status_of_a_run_under_way(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_run(tmp_path / "coordinator", COHORT, BEGIN, {"event": "round", **round_report(2)})
    assert coordinator.cli.main(["status", str(tmp_path)]) == 0  # the folder around it will do
    text = capsys.readouterr().out
    for expected in ("running", "2 of 10, stage alignment", "site-1, site-2, site-3\n", "site-4: sa_mask: timeout",
                     "P_FLOOR", "at least 4 needed", "3.2% of an upload's", "accuracy_normal 0.875"):
        assert expected in text
    assert coordinator.cli.main(["status", str(tmp_path / "coordinator"), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert (facts["state"], facts["rounds_done"], facts["rounds_total"]) == ("running", 2, 10)
    assert facts["missing"] == {"site-4": "sa_mask: timeout"} and facts["public"] == {"accuracy_normal": 0.875}


def test_status_of_a_failed_run_says_why_and_exits_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_run(tmp_path, BEGIN, {"event": "failed", "kind": "RoundFailedError", "text": "round 3 stopped"})
    assert coordinator.cli.main(["status", str(tmp_path)]) == 1
    assert "round 3 stopped" in capsys.readouterr().out
    write_run(tmp_path, BEGIN, {"event": "failed", "text": "round 3 stopped"}, BEGIN, {"event": "end"})
    assert coordinator.cli.main(["status", str(tmp_path)]) == 0  # resumed since
    text = capsys.readouterr().out
    assert "finished" in text and "round 3 stopped" not in text


def test_status_before_the_first_round_and_with_a_damaged_checkpoint(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_run(tmp_path, BEGIN, rounds=0)
    assert coordinator.cli.main(["status", str(tmp_path)]) == 0
    assert "0 of 10" in capsys.readouterr().out
    write_run(tmp_path, BEGIN, rounds=1)
    (tmp_path / "checkpoints" / "round-00001" / "state.json").write_text("{")
    assert coordinator.cli.main(["status", str(tmp_path)]) == 2
    assert "cannot be read" in capsys.readouterr().err


# site-client


@pytest.fixture(scope="module")
def hospital(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder of real reports and images, one image damaged."""
    folder = tmp_path_factory.mktemp("hospital") / "data"
    reports, pairs = load_reports(), load_pairs()
    write_site_folder(folder, reports[:5], [pairs[:10]], public=reports[50:90], seed=0)
    next((folder / "dicom").rglob("*.dcm")).write_bytes(b"not DICOM")
    return folder


@pytest.fixture
def site(tmp_path: Path, hospital: Path) -> Path:
    """A site file whose parts are all in place."""
    base = tmp_path / "base"
    base.mkdir()
    for name in BASE_FILES:
        (base / name).write_text(name)
    key = signing_key(tmp_path / "state").public_bytes()
    roster = Roster(
        federation_id="consortium", version=3, coordinator_key=bytes([7] * 32), min_cohort=3, min_fraction=0.5,
        sites=(RosterSite("site-1", key, 120), RosterSite("site-2", bytes([2] * 32), 90)))
    file = signed(roster)
    (tmp_path / "roster.bin").write_bytes(file.to_bytes())
    path = tmp_path / "site.yaml"
    path.write_text(json.dumps({
        "site_id": "site-1", "data": str(hospital), "state": str(tmp_path / "state"), "base_model": str(base),
        "roster": str(tmp_path / "roster.bin"), "roster_hash": file.roster.hash().hex(),
        "policy": {"max_epsilon": 8.0, "allowed_base_models": [hash_model(base).hex()]}}))
    return path


def change(site: Path, **values: Any) -> None:
    settings = json.loads(site.read_text())
    policy = {**settings["policy"], **values.pop("policy", {})}
    site.write_text(json.dumps({**settings, **values, "policy": policy}))


def book(site: Path, **changed: Any) -> None:
    values: dict[str, Any] = {
        "run_id": "run-1", "round": 1, "attempt": 1, "stage": 0, "mechanism": "poisson-gaussian", "sampling_rate": 0.1,
        "noise_multiplier": 1.0, "steps": 10, "clip_norm": 1.0, "delta": 1e-5, "entropy": "system",
        "created_utc": "2026-01-01T00:00:00Z", **changed}
    state = site.parent / "state"
    ledger = Ledger.open(
        state / "ledger.sqlite", signing_key=signing_key(state), epsilon_cap=float("inf"), allow_unnoised=True)
    entry = LedgerEntry(**values)
    if entry.mechanism != "none":
        planned = dataclasses.replace(entry.event(), steps=max(20, entry.steps))
        ledger.reserve_run(entry.run_id, "ab", [planned], entry.delta)
    ledger.reserve(entry)
    ledger.close()


def tamper(site: Path) -> None:
    with sqlite3.connect(site.parent / "state" / "ledger.sqlite") as connection:
        connection.execute("DROP TRIGGER events_no_update")
        connection.execute("""UPDATE events SET body = replace(body, '"steps":10', '"steps":1')""")
    connection.close()


def test_index_counts_patients_samples_and_refusals(
    site: Path, hospital: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert site_client.cli.main(["index", str(site), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["patients"] == 6
    assert facts["sources"] == {
        "impressions": {"patients": 5, "samples": 5}, "patches": {"patients": 1, "samples": 9},
        "reports": {"patients": 5, "samples": 5}}
    assert facts["refused_by_reason"] == {"dicom-unreadable": 1, "image-unknown": 1} and facts["refused"] == 2
    assert site_client.cli.main(["index", str(site)]) == 0
    text = capsys.readouterr().out
    assert "6 patients" in text and "The file is not a readable DICOM file." in text
    assert "DERM" not in text and "CXR" not in text  # no patient of the archive by name


def test_index_lists_refused_items_only_when_asked(site: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert site_client.cli.main(["index", str(site), "--refused"]) == 0
    assert re.search(r"dicom-unreadable +dicom/DERM\d+/\S+\.dcm", capsys.readouterr().out)


def test_a_folder_without_its_table_is_a_sentence(
    site: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    change(site, data=str(tmp_path))
    assert site_client.cli.main(["index", str(site)]) == 2
    assert "questions.csv" in capsys.readouterr().err


def test_ledger_says_what_is_spent_of_what_cap(site: Path, capsys: pytest.CaptureFixture[str]) -> None:
    book(site)
    book(site, round=2)
    assert site_client.cli.main(["ledger", str(site), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert (facts["entries"], facts["steps"], facts["runs"], facts["delta"]) == (2, 20, ["run-1"], 1e-5)
    assert 0 < facts["epsilon"] < facts["max_epsilon"] == 8.0 and facts["chain_intact"] and facts["private"]
    assert site_client.cli.main(["ledger", str(site)]) == 0
    text = capsys.readouterr().out
    assert f"epsilon {facts['epsilon']:.4g} at delta 1e-05" in text and "intact" in text and "NOT PRIVATE" not in text


@pytest.mark.parametrize("changed", [{"entropy": "simulated"}, {"mechanism": "none", "noise_multiplier": 0.0}])
def test_ledger_never_calls_a_simulation_private(
    site: Path, changed: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    book(site, **changed)
    assert site_client.cli.main(["ledger", str(site)]) == 0
    text = capsys.readouterr().out
    assert "NOT PRIVATE" in text and ("unlimited" in text) == ("mechanism" in changed)
    assert site_client.cli.main(["ledger", str(site), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["private"] is False


def test_a_broken_chain_is_exit_code_1(site: Path, capsys: pytest.CaptureFixture[str]) -> None:
    book(site)
    tamper(site)
    assert site_client.cli.main(["ledger", str(site)]) == 1
    assert "BROKEN" in capsys.readouterr().out
    assert site_client.cli.main(["ledger", str(site), "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["chain_intact"] is False


def test_ledger_verify_and_export(site: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    book(site)
    book(site, round=2)
    assert site_client.cli.main(["ledger", "export", str(site)]) == 0
    export = tmp_path / "export.json"
    export.write_text(capsys.readouterr().out)
    head = json.loads(export.read_text())["head"]
    assert site_client.cli.main(["ledger", "verify", str(site), "--head", head]) == 0
    assert site_client.cli.main(["ledger", "verify", str(site), "--head", "00" * 31 + "01"]) == 1
    assert site_client.cli.main(["ledger", "verify", str(site), "--head", "abc"]) == 2
    assert site_client.cli.main(["ledger", "verify", "--file", str(export), "--head", head]) == 0
    assert "3 rows intact and signed, 2 entries" in capsys.readouterr().out
    export.write_text(export.read_text().replace('\\"steps\\":10', '\\"steps\\":1'))
    assert site_client.cli.main(["ledger", "verify", "--file", str(export)]) == 1
    assert "row 2 was altered" in capsys.readouterr().out


def test_ledger_show_has_a_line_for_each_run(site: Path, capsys: pytest.CaptureFixture[str]) -> None:
    book(site)
    book(site, run_id="run-2", steps=20)
    assert site_client.cli.main(["ledger", "show", str(site)]) == 0
    text = capsys.readouterr().out
    assert re.search(r"run-1 .* 10/20 ", text) and re.search(r"run-2 .* 20/20 ", text) and "% spent" in text


def test_a_lost_mark_is_accepted_on_the_operators_word(site: Path, capsys: pytest.CaptureFixture[str]) -> None:
    book(site)
    site_client.cli.main(["ledger", str(site), "--json"])
    head = json.loads(capsys.readouterr().out)["head"]
    (site.parent / "state" / "ledger.sqlite.mark").unlink()
    assert site_client.cli.main(["ledger", "verify", str(site)]) == 1
    assert site_client.cli.main(["ledger", "verify", str(site), "--accept-head", head]) == 0
    assert site_client.cli.main(["ledger", "verify", str(site)]) == 0


def test_a_missing_ledger_is_not_replaced_by_an_empty_one(site: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert site_client.cli.main(["ledger", str(site)]) == 2
    assert "restore it from backup" in capsys.readouterr().err
    assert not (site.parent / "state" / "ledger.sqlite").exists()


def lines(site: Path, capsys: pytest.CaptureFixture[str]) -> tuple[int, dict[str, str]]:
    """Exit code and {part: line} of `check`."""
    code = site_client.cli.main(["check", str(site)])
    printed = capsys.readouterr()
    assert printed.err == ""
    return code, {re.split(r"\s{2,}", line)[1]: line for line in printed.out.splitlines()}


def test_check_passes_when_everything_is_in_place(site: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, found = lines(site, capsys)
    assert code == 0 and list(found) == ["keys", "roster", "ledger", "base model", "data"]
    assert all(line.startswith("PASS") for line in found.values())
    assert not (site.parent / "state" / "ledger.sqlite").exists()
    book(site)
    assert "chain intact" in lines(site, capsys)[1]["ledger"]


def break_key(site: Path) -> None:
    (site.parent / "state" / "identity.key").chmod(0o644)


def break_ledger(site: Path) -> None:
    book(site)
    tamper(site)


def spend_all(site: Path) -> None:
    book(site, steps=5000)


def break_model(site: Path) -> None:
    (site.parent / "base" / "spec.json").write_text("other")


def lose_model(site: Path) -> None:
    (site.parent / "base" / "spec.json").unlink()


def new_key(site: Path) -> None:
    (site.parent / "state" / "identity.key").unlink()


@pytest.mark.parametrize(
    ("damage", "parts", "fix"),
    [
        (break_key, {"keys", "roster"}, "chmod 600"),
        (new_key, {"roster"}, "restore identity.key from backup"),
        (lambda site: change(site, roster_hash="00"), {"roster"}, "before you change roster_hash"),
        (lambda site: change(site, roster="/nowhere"), {"roster"}, "ask the consortium"),
        (lambda site: change(site, site_id="site-9"), {"roster"}, "ask the consortium to enrol"),
        (lambda site: (site.parent / "roster.bin").write_bytes(b"x"), {"roster"}, "get the file again"),
        (lambda site: change(site, policy={"min_patients": 121}), {"roster"}, "policy.min_patients is 121"),
        (break_ledger, {"ledger"}, "altered"),
        (spend_all, {"ledger"}, "no further run will be accepted"),
        (break_model, {"base model"}, "allowed_base_models"),
        (lose_model, {"base model"}, "spec.json is missing"),
        (lambda site: change(site, data="/nowhere"), {"data"}, "questions.csv"),
    ])
def test_check_fails_the_broken_part_only_and_names_the_fix(
    site: Path, damage: Callable[[Path], None], parts: set[str], fix: str, capsys: pytest.CaptureFixture[str]
) -> None:
    damage(site)
    code, found = lines(site, capsys)
    assert code == 1
    assert {part for part, line in found.items() if line.startswith("FAIL")} == parts
    assert any(fix in found[part] for part in parts)
