"""`site-client doctor` and `status`: each thing that can be wrong is one line with its fix, and no patient is named."""

from __future__ import annotations

import fcntl
import json
import os
import re
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import MPEG2MPML, JPEGBaseline8Bit, JPEGExtended12Bit, JPEGLosslessSV1

import site_client.connection_probe
from configs.site_data import ImagesConfig
from privacy.identity import SigningKey
from privacy.ledger import Ledger
from site_client.connection_probe import Connection
from site_client.imaging import decoders
from site_client.keystore import signing_key
from site_client.sources.dicom_syntaxes import count_syntaxes
from tests.privacy.invited import INVITATION
from tests.site_client.made_site import MadeSite


@pytest.fixture
def site(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> MadeSite:
    monkeypatch.setattr(site_client.connection_probe, "probe", lambda *_, **__: Connection(
        "", "", 0.2, datetime.now(UTC) + timedelta(days=90)))
    return MadeSite(tmp_path, capsys)


def doctor(site: MadeSite) -> tuple[int, dict[str, tuple[str, str]]]:
    """(exit code, part -> (worst level, its text))."""
    code, out, _ = site.run("doctor", site.file, "--json")
    found = json.loads(out)
    assert found["ok"] == (code == 0) and all((one["level"] == "PASS") == (not one["fix"]) for one in found["findings"])
    lines: dict[str, tuple[str, str]] = {}
    for one in found["findings"]:
        if one["name"] not in lines or lines[one["name"]][0] == "PASS":
            lines[one["name"]] = (one["level"], one["text"])
    return code, lines


def test_a_new_site_has_no_failure_and_says_what_is_still_missing(site: MadeSite) -> None:
    code, lines = doctor(site)
    assert code == 0 and lines["roster"][0] == lines["process"][0] == "WARN"
    passing = ("site file", "packages", "state", "keys", "ledger", "audit log", "approvals", "base model", "data",
               "invitation", "authority", "connection", "clock", "certificate", "health", "flower", "hours")
    assert {name: lines[name][0] for name in passing} == dict.fromkeys(passing, "PASS")
    _, out, _ = site.run("doctor", site.file)
    assert "P4711" not in out and "-> start it" in out


def test_a_site_that_worked_is_whole(site: MadeSite) -> None:
    site.has_worked()
    code, lines = doctor(site)
    assert code == 0 and lines["roster"] == ("PASS", "version 1, 3 sites, 200 patients declared here")
    assert lines["ledger"][0] == lines["audit log"][0] == "PASS"


def chmod_key(site: MadeSite) -> None:
    (site.state / "node.key").chmod(0o644)


def lose_key(site: MadeSite) -> None:
    (site.state / "identity.key").unlink()


def open_state(site: MadeSite) -> None:
    site.state.chmod(0o755)


def other_key(site: MadeSite) -> None:
    (site.state / "identity.key").write_bytes(SigningKey.generate(os.urandom).private_bytes())


def cut_ledger(site: MadeSite) -> None:
    (site.state / "ledger.sqlite.mark").write_text('{"sequence": 9, "head": "' + "ab" * 32 + '"}')


def lose_ledger(site: MadeSite) -> None:
    (site.state / "ledger.sqlite").unlink()


def lose_log_head(site: MadeSite) -> None:
    (site.state / "audit.sqlite.head").unlink()


def other_invitation(site: MadeSite) -> None:
    other = replace(INVITATION, address="fl2.example.org:8443")
    (site.folder / "site" / "invitation.json").write_text(other.to_json())


def spend(site: MadeSite) -> None:
    site.set("max_epsilon: 8.0", "max_epsilon: 0.5")


def refuse_model(site: MadeSite) -> None:
    site.set("allowed_base_models: []", f'allowed_base_models: ["{"ab" * 32}"]')


def lose_data(site: MadeSite) -> None:
    (site.folder / "data").rename(site.folder / "elsewhere")


def newer(site: MadeSite) -> None:
    (site.state / "version").write_text("2\n")


@pytest.mark.parametrize(("damage", "part", "says"), [
    (chmod_key, "keys", "read by others"), (lose_key, "keys", "missing"), (open_state, "state", "entered by others"),
    (other_key, "roster", "another key"), (cut_ledger, "ledger", "older than its mark"),
    (lose_ledger, "ledger", "gone"), (lose_log_head, "audit log", "missing"),
    (other_invitation, "roster", "not the invitation"), (spend, "ledger", "is spent"),
    (refuse_model, "base model", "does not list"), (lose_data, "data", "does not exist"),
    (newer, "state", "newer release"),
])
def test_each_fault_is_a_failure_of_its_own_part(
        site: MadeSite, damage: Callable[[MadeSite], None], part: str, says: str) -> None:
    site.has_worked()
    damage(site)
    code, lines = doctor(site)
    assert code == 1 and lines[part][0] == "FAIL" and says in lines[part][1]


def test_a_lost_key_is_not_made_anew(site: MadeSite) -> None:
    site.has_worked()
    lose_key(site)
    doctor(site)
    assert not (site.state / "identity.key").exists()


def test_a_site_file_with_a_typo_is_a_failure_that_names_the_key(site: MadeSite) -> None:
    site.set("max_epsilon", "max_epsilom")
    code, lines = doctor(site)
    assert code == 1 and lines["site file"][0] == "FAIL" and "did you mean max_epsilon?" in lines["site file"][1]


def test_little_budget_a_soon_certificate_and_a_waiting_roster_are_warnings(
        site: MadeSite, monkeypatch: pytest.MonkeyPatch) -> None:
    site.has_worked()
    ledger = Ledger.open(site.state / "ledger.sqlite", signing_key=signing_key(site.state), epsilon_cap=8.0)
    spent = ledger.spent()
    ledger.close()
    site.set("max_epsilon: 8.0", f"max_epsilon: {spent * 1.05}")
    (site.state / "roster.offered").write_bytes(site.roster().to_bytes())
    monkeypatch.setattr(site_client.connection_probe, "probe", lambda *_, **__: Connection(
        "", "", 4.0, datetime.now(UTC) + timedelta(days=9)))
    code, lines = doctor(site)
    assert code == 0
    assert {name: lines[name][0] for name in ("ledger", "certificate", "clock", "approvals")} == dict.fromkeys(
        ("ledger", "certificate", "clock", "approvals"), "WARN")


def test_a_coordinator_out_of_reach_is_a_failure_with_the_probes_fix(
        site: MadeSite, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        site_client.connection_probe, "probe", lambda *_, **__: Connection("nothing answers", "see the VPN"))
    code, out, _ = site.run("doctor", site.file)
    assert code == 1 and "nothing answers" in out and "-> see the VPN" in out


def test_working_hours_and_a_dead_health_service_are_warnings(site: MadeSite) -> None:
    hour = time.localtime().tm_hour
    site.set("working_hours: []", f'working_hours: ["{(hour + 2) % 24:02}:00-{(hour + 3) % 24:02}:00"]')
    site.set("health_port: 0", "health_port: 1")
    code, lines = doctor(site)
    assert code == 0 and lines["hours"][0] == lines["health"][0] == "WARN" and "UNREACHABLE" in lines["health"][1]


def save_compressed(folder: Path, syntax: str, number: int, **elements: object) -> None:
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = syntax
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = "1.2.840.10008.5.1.4.1.1.77.1.4", "1.2.3"
    compressed = Dataset()
    compressed.file_meta, compressed.PatientID = meta, "P4711"
    for keyword, value in elements.items():
        setattr(compressed, keyword, value)
    for one in range(number):
        compressed.save_as(folder / f"P4711-{syntax}-{one}.dcm", enforce_file_format=True)


def test_compressed_files_are_counted_by_syntax_without_a_name_of_a_file(site: MadeSite) -> None:
    folder = site.folder / "data" / "dicom"
    folder.mkdir()
    save_compressed(folder, JPEGBaseline8Bit, 3)
    (folder / "notes.txt").write_text("P4711")
    assert count_syntaxes([folder], ImagesConfig()) == ({"JPEG Baseline": 3, "no DICOM file": 1}, {})
    code, lines = doctor(site)
    assert code == 0 and lines["decoders"][0] == "PASS" and "3 JPEG Baseline" in lines["decoders"][1]
    assert "P4711" not in str(lines)


def test_a_syntax_without_a_decoder_comes_with_the_extra_to_install(
    site: MadeSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decoders, "installed", lambda plugin: plugin not in ("gdcm", "libjpeg"))
    folder = site.folder / "data" / "dicom"
    folder.mkdir()
    save_compressed(folder, JPEGLosslessSV1, 2)
    save_compressed(folder, JPEGExtended12Bit, 3, BitsStored=12)
    save_compressed(folder, MPEG2MPML, 5)
    code, out, _ = site.run("doctor", site.file, "--json")
    (finding,) = (one for one in json.loads(out)["findings"] if one["name"] == "decoders")
    assert code == 0 and finding["level"] == "WARN" and "3 JPEG Extended" in finding["text"]
    assert re.search(r"2 files JPEG Lossless SV1: install .*\[dicom-gdcm\].* or .*\[dicom-gpl\]", finding["fix"])
    assert re.search(r"3 files JPEG Extended: install [^;]*\[dicom-gpl\]", finding["fix"])
    assert "5 files another transfer syntax: convert them" in finding["fix"] and "P4711" not in out


# ------------------------------------------------------------------ status


def test_status_of_a_site_that_does_not_run(site: MadeSite) -> None:
    site.has_worked()
    code, out, _ = site.run("status", site.file, "--json")
    facts = json.loads(out)
    assert code == 1 and facts["processes"]["state"] == "not running" and facts["waiting"] == []
    assert facts["budget"]["runs"] == [{"run_id": "run-1", "rounds": 1, "steps": 2, "planned_steps": 2, "wasted": 0}]
    assert facts["roster"]["active"] == ["site-1", "site-2", "site-3"] and facts["egress"]["messages"] == 0
    assert 0 < facts["budget"]["left"] < 8
    code, out, _ = site.run("status", site.file)
    assert code == 1 and "start it: site-client start" in out and "run-1: 1 rounds" in out


def test_status_shows_each_process_and_why_it_waits(site: MadeSite, monkeypatch: pytest.MonkeyPatch) -> None:
    children = [{"name": "node", "state": "waiting", "pid": None, "starts": 3, "last_reason": "nothing answers"},
                {"name": "executor", "state": "running", "pid": 77, "starts": 1, "last_reason": ""}]
    status = {"pid": os.getpid(), "updated": time.time(), "ready": False, "children": children}
    (site.state / "start.json").write_text(json.dumps(status))
    code, out, _ = site.run("status", site.file)
    assert code == 1 and "not ready" in out and "waiting, started 3 times; nothing answers" in out
    (site.state / "start.json").write_text(json.dumps({**status, "ready": True}))
    assert site.run("status", site.file)[0] == 0
    monkeypatch.setattr(site_client.connection_probe, "probe", lambda *_, **__: Connection("no answer", "see the VPN"))
    code, out, _ = site.run("status", site.file)  # the node tries again and again, and calls that ready
    assert code == 1 and "reach      no answer; see the VPN" in out
    (site.state / "start.json").write_text(json.dumps({**status, "ready": True, "pid": 2**22 + 1}))
    assert site.run("status", site.file)[0] == 1  # that process is gone, whatever the file says


def test_a_broken_ledger_does_not_hide_the_rest_of_the_status(site: MadeSite) -> None:
    site.has_worked()
    cut_ledger(site)
    code, out, _ = site.run("status", site.file, "--json")
    facts = json.loads(out)
    assert code == 1 and "older than its mark" in facts["budget"]["fault"] and facts["roster"]["version"] == 1


def test_start_refuses_a_state_folder_of_a_newer_release(site: MadeSite) -> None:
    newer(site)
    code, _, error = site.run("start", site.file)
    assert code == 2 and "newer release" in error and (site.state / "version").read_text() == "2\n"


def test_a_second_start_is_refused(site: MadeSite) -> None:
    with (site.state / "start.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        code, _, error = site.run("start", site.file)
    assert code == 2 and "runs already" in error
