"""The hospital's pages: what each shows of a state folder, an empty and a broken one too, and never a patient."""

from __future__ import annotations

import fcntl
import html
import json
import os
import re
import sqlite3
import threading
import time
from dataclasses import fields, replace
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from configs.schema import PolicyConfig
from privacy.errors import POLICY_REFUSALS
from privacy.ledger import Ledger
from privacy.web.guard import CONTENT_POLICY
from site_client.audit_chain import Event
from site_client.audit_log import AuditBrokenError, looked_at, site_log
from site_client.indexing.index_summary import summary_of
from site_client.keystore import signing_key
from site_client.policy_table import CODES, policy_rows
from site_client.records import Refusal, SiteIndex
from site_client.run_progress import run_progress
from tests.site_client.made_site import ENTRY, MadeSite
from tests.site_client.web.sites import PATIENT, RUN, TOKEN, UID, add_history, be_up, index, new_site, serving

PAGES = ("/", "/runs", "/left", "/policy", "/data", "/doctor")


@pytest.fixture
def site(tmp_path: Path) -> MadeSite:
    return new_site(tmp_path)


def text_of(client: TestClient, path: str) -> str:
    """The page's words, without markup."""
    answer = client.get(path)
    assert answer.status_code == 200, answer.text
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", html.unescape(answer.text.partition("<main")[2])))


def test_a_new_site_says_on_each_page_what_is_still_to_come(site: MadeSite) -> None:
    with serving(site) as (_, client):
        pages = {path: text_of(client, path) for path in PAGES}
    for path, words in {"/": "No run yet.", "/runs": "No run yet.", "/left": "Nothing has left.",
                        "/data": "Nothing is counted yet.", "/doctor": "Nobody has looked yet."}.items():
        assert words in pages[path]
    assert "This site is not started" in pages["/"] and "site-client start site.yaml" in pages["/"]
    assert "Nothing is spent." in pages["/"] and "epsilon 8 " in pages["/"]


def test_a_site_that_works_shows_its_run_budget_and_what_left(site: MadeSite) -> None:
    add_history(site)
    be_up(site)
    with serving(site) as (pages, client):
        overview, runs, left = (text_of(client, path) for path in ("/", "/runs", "/left"))
        facts = pages.readings.ledger().facts
    assert f"Run {RUN} going on" in overview and "Nothing is alarming." in overview and "Round 7" in overview
    assert "Stage 2" in overview and "14 of at most 24" in overview and "connected" in overview
    assert facts is not None and f"{facts['ran']:.4g}" in overview and f"{facts['left']:.4g} of 8" in overview
    assert f"charged, with what is reserved: {facts['epsilon']:.4g}" in overview
    assert "pilot" in runs and "6 of 6" in runs and "14 of 24" in runs and "2026-05-04T07:00:00Z" in runs
    assert "16 " in left and "MaskedHeader" in left and "upload masked updates" in left and "1.4 MB" in left
    assert "P_BUDGET : 1" in left and "push-message" in left and "pull-messages" in left


def test_long_tables_have_pages(site: MadeSite) -> None:
    add_history(site, rounds=60)
    with serving(site) as (_, client):
        first = client.get("/left").text
        assert first.count("<code>") > 50 and "Newest messages" not in first
        older = re.search(r'href="(/left\?upto=\d+)"', first)
        assert older is not None
        second = client.get(older[1]).text
        assert "Newest messages" in second and "Older messages" in second
        shown = [set(re.findall(r'<th scope="row">(\d+)</th>', page)) for page in (first, second)]
        assert len(shown[0]) == len(shown[1]) == 50 and not shown[0] & shown[1]
        assert len(re.findall(r'<th scope="row">\d+</th>', client.get("/runs").text)) == 50
        for strange in ("x", "-1", "9" * 30, "0"):
            assert client.get("/left", params={"upto": strange}).status_code == 200


def test_the_policy_is_shown_key_by_key_as_the_file_has_it(site: MadeSite) -> None:
    site.set("max_rounds: 1000", "max_rounds: 77")
    with serving(site) as (_, client):
        text = text_of(client, "/policy")
    assert set(CODES.values()) <= set(POLICY_REFUSALS) and set(CODES) <= {one.name for one in fields(PolicyConfig)}
    assert all(row["key"] in text and row["meaning"] in text
               for row in policy_rows(site.config.policy))
    assert "max_rounds 77 of one run, all its stages together; refused with P_ROUNDS" in text and "(default)" in text


def test_the_data_page_counts_exactly_and_names_nobody(site: MadeSite) -> None:
    index(site)
    with serving(site) as (_, client):
        page = client.get("/data").text
        text = text_of(client, "/data")
    assert "Patients who opted out 2" in text and "Patients with samples 1" in text
    assert "dicom-unreadable 1 The file is not a readable DICOM file." in text and "reports 1 1" in text
    for hidden in (PATIENT, UID, ".dcm", str(site.folder)):
        assert hidden not in page


def test_what_a_file_says_of_itself_is_named_only_where_dicom_knows_it() -> None:
    facts = json.loads(summary_of(SiteIndex(
        (), (Refusal("dicom/SMITH^JOHN.dcm", "sop-class"),),
        files={"modalities": {"CT": 3, "SMITH^JOHN": 1, "P4711": 2},
               "syntaxes": {"1.2.840.10008.1.2.1": 5, UID: 1}})))
    assert facts["modalities"] == {"CT": 3, "another modality": 3}
    assert facts["syntaxes"] == {"Explicit VR Little Endian": 5, "another transfer syntax": 1}
    assert facts["refused_by_reason"] == {"sop-class": 1} and "SMITH" not in json.dumps(facts)


# ---------------------------------------------------------------- beside a running site


def test_pages_are_read_while_every_lock_of_the_site_is_held(site: MadeSite) -> None:
    add_history(site)
    index(site)
    locks = [os.open(path, os.O_RDWR | os.O_CREAT) for path in (
        site.state / "start.lock", site.state / "index" / "index.lock", site.state / "approved-runs.lock")]
    for lock in locks:
        fcntl.flock(lock, fcntl.LOCK_EX)
    writers = [sqlite3.connect(site.state / name, isolation_level=None) for name in ("ledger.sqlite", "audit.sqlite")]
    for writer in writers:
        writer.execute("BEGIN IMMEDIATE")  # as a round that books itself: a second writer would wait
    try:
        begin = time.monotonic()
        with serving(site) as (_, client):
            pages = [text_of(client, path) for path in PAGES]
        assert time.monotonic() - begin < 20 and not any("does not hold" in page for page in pages)
        assert "14 of 24" in pages[1]
    finally:
        for writer in writers:
            writer.execute("ROLLBACK")
            writer.close()
        for lock in locks:
            os.close(lock)


def test_looking_writes_nothing(site: MadeSite) -> None:
    add_history(site)
    index(site)
    before = snapshot(site.state)
    with serving(site) as (_, client):
        for path in PAGES:
            text_of(client, path)
    assert snapshot(site.state) == before


def snapshot(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*"))
            if path.is_file() and not path.name.endswith(("-shm", "-wal"))}


def test_a_new_message_reaches_open_pages(site: MadeSite) -> None:
    from privacy.messages import Confirm

    add_history(site, rounds=2)
    with serving(site) as (pages, client):
        before = pages.changes.version
        with site_log(site.state) as log:
            body = Confirm.signed(signing_key(site.state), (), site_id="site-1").to_bytes()
            log.egress(step="sa_confirm", body=body, vector=None, run_id=RUN, round=3)
        end = time.monotonic() + 20
        while not pages.changes.said.endswith("round 3"):
            assert time.monotonic() < end, pages.changes.said
            time.sleep(0.05)
        assert pages.changes.version > before and "7 messages have left; last: Confirm" in pages.changes.said
        assert "Round 3" in text_of(client, "/")


# ---------------------------------------------------------------- what is broken


def test_a_ledger_that_was_cut_is_an_alarm_and_shows_no_number(site: MadeSite) -> None:
    add_history(site)
    mark = site.state / "ledger.sqlite.mark"
    mark.write_text(mark.read_text().replace('"head": "', '"head": "00')[:-4] + '"}')
    with serving(site) as (_, client):
        overview, runs = text_of(client, "/"), text_of(client, "/runs")
    assert "Alarm: The ledger cannot be relied on" in overview and "It cannot be told." in overview
    assert "does not hold, so nothing of it is shown" in runs and "pilot" not in runs


def test_an_audit_log_that_was_altered_is_an_alarm_and_shows_no_message(site: MadeSite) -> None:
    add_history(site)
    database = sqlite3.connect(site.state / "audit.sqlite")
    database.executescript("DROP TRIGGER events_no_update; UPDATE events SET body = '{}' WHERE seq = 3;")
    database.commit()
    database.close()
    with serving(site) as (_, client):
        overview, left = text_of(client, "/"), text_of(client, "/left")
    assert "The record of what left cannot be relied on: event 3 of the audit log was altered" in overview
    assert "nothing of it is shown" in left and "MaskedHeader" not in left


@pytest.mark.parametrize("lost", ["ledger.sqlite", "audit.sqlite", "identity.key"])
def test_a_file_that_is_gone_is_said_and_never_made_again(lost: str, site: MadeSite) -> None:
    add_history(site)
    (site.state / lost).unlink()
    with serving(site) as (_, client):
        overview = text_of(client, "/")
        for path in PAGES:
            text_of(client, path)
    assert "Alarm:" in overview and not (site.state / lost).exists()


def test_a_damaged_index_and_opt_out_list_are_said(site: MadeSite) -> None:
    index(site)
    (site.state / "index" / "index.sqlite").write_bytes(b"x" * 5000)
    (site.state / "opt-out.txt").write_text("no pseudonym\n")
    with serving(site) as (_, client):
        text = text_of(client, "/data")
        assert "The index cannot be read." in text and "The opt-out list is damaged" in text
        assert "Alarm: The opt-out list is damaged" in text_of(client, "/")


def test_processes_that_are_lost_or_wait_are_alarms_with_their_reason(site: MadeSite) -> None:
    be_up(site, "lost", "the coordinator does not answer any more")
    with serving(site) as (_, client):
        text = text_of(client, "/")
    assert "The process node is lost: the coordinator does not answer any more." in text
    assert "not ready" in text and "started 2 times" in text


def test_a_spent_budget_and_noise_that_is_none_are_alarms(site: MadeSite) -> None:
    add_history(site)
    site.set("max_epsilon: 8.0", "max_epsilon: 0.05")
    with serving(site) as (_, client):
        assert "The budget is spent" in text_of(client, "/")
    ledger = Ledger.open(site.state / "ledger.sqlite", signing_key=signing_key(site.state), epsilon_cap=8.0,
                         allow_unnoised=True)
    ledger.reserve(replace(ENTRY, run_id="bare", mechanism="none"))
    ledger.close()
    with serving(site) as (_, client):
        assert "A step was booked without noise" in text_of(client, "/")
        assert "no noise" in text_of(client, "/runs")


def test_a_page_that_fails_says_so_and_nothing_else(site: MadeSite, monkeypatch: pytest.MonkeyPatch,
                                                    caplog: pytest.LogCaptureFixture) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError(f"in {PATIENT}")

    monkeypatch.setattr("site_client.web.views.policy_page", fail)
    with serving(site) as (_, client):
        answer = client.get("/policy")
    assert answer.status_code == 500 and "cannot be shown" in answer.text and PATIENT not in answer.text


# ---------------------------------------------------------------- who may look


@pytest.mark.parametrize("path", [*PAGES, "/live", "/nowhere"])
def test_nothing_is_shown_without_a_session(path: str, site: MadeSite) -> None:
    with serving(site) as (_, client):
        client.cookies.clear()
        answer = client.get(path)
        assert answer.status_code in (303, 401) and "site.yaml" not in answer.text
        assert answer.headers["content-security-policy"] == CONTENT_POLICY
        assert client.get(path, headers={"host": "evil.example:8445"}).status_code == 421


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
@pytest.mark.parametrize("path", ["/", "/runs", "/left", "/policy", "/data", "/live", "/static/console.css"])
def test_nothing_can_be_changed(method: str, path: str, site: MadeSite) -> None:
    with serving(site) as (_, client):
        assert client.request(method, path).status_code == 405


def test_a_check_is_asked_for_by_our_own_form_alone(site: MadeSite, monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[int] = []
    monkeypatch.setattr("site_client.web.checkup.Checkup.begin", lambda self: begun.append(1))
    with serving(site) as (_, client):
        assert client.post("/doctor", headers={"origin": "https://evil.example"}).status_code == 403
        assert client.post("/doctor", headers={"sec-fetch-site": "cross-site"}).status_code == 403
        assert begun == []
        answer = client.post("/doctor", headers={"origin": "http://127.0.0.1:8445"})
        assert (answer.status_code, answer.headers["location"], begun) == (303, "/doctor", [1])
        client.cookies.clear()
        assert client.post("/doctor").headers["location"].startswith("/login") and begun == [1]


def test_the_coordinators_cookie_is_another_one(site: MadeSite) -> None:
    with serving(site) as (pages, client):
        assert set(client.cookies) == {"site-client-status"}
        assert pages.entrance.front.doors.cookie(True) == "__Host-site-client-status"
        assert TOKEN not in client.get("/").text


@pytest.mark.slow
def test_the_doctor_runs_in_a_process_of_its_own_once_and_is_kept(site: MadeSite) -> None:
    with serving(site, str(site.file)) as (pages, client):
        client.post("/doctor")
        client.post("/doctor")
        assert "The doctor is looking" in text_of(client, "/doctor")
        threads = [one for one in threading.enumerate() if one.name == "doctor"]
        assert len(threads) == 1
        threads[0].join(120)
        text = text_of(client, "/doctor")
        assert re.search(r"FAIL, \d+ WARN, \d+ PASS", text) and "site file" in text and "took" in text
        assert pages.changes.said.startswith("the doctor has ended")
        assert re.search(r"WARN +roster.*PASS +site file", text), text
        assert PATIENT not in text
        client.post("/doctor")  # within ten seconds: the outcome stands
        assert not [one for one in threading.enumerate() if one.name == "doctor"]


# ---------------------------------------------------------------- readers and progress


def test_a_reader_of_the_audit_log_finds_what_the_log_itself_finds(site: MadeSite) -> None:
    add_history(site, rounds=3)
    path, key = site.state / "audit.sqlite", signing_key(site.state)
    with site_log(site.state) as log:
        assert looked_at(path, key.public_bytes()) == log.verify()
    with pytest.raises(AuditBrokenError, match="identity key"):
        looked_at(path, bytes(32))
    path.unlink()
    with pytest.raises(AuditBrokenError, match="is gone"):
        looked_at(path, key.public_bytes())


def event(number: int, when: float, step: str, run_id: str, round: int | None) -> Event:
    from datetime import UTC, datetime

    body = json.dumps({"step": step, "message": "Confirm", "run_id": run_id, "round": round, "body_bytes": 1,
                       "vector_bytes": 0, "sha256": ""})
    return Event(number, datetime.fromtimestamp(when, UTC).isoformat(timespec="seconds"), "egress", body, b"")


def test_the_time_left_is_the_usual_time_of_a_round_for_the_steps_that_are_left() -> None:
    entries = [replace(ENTRY, run_id="r", round=number) for number in (1, 2, 3)]
    facts = [{"run_id": "r", "steps": 6, "planned_steps": 20, "rounds": 3}]
    events = [event(number, 1000.0 + 100 * number, "sa_train", "r", number) for number in (1, 2, 3)]
    found = run_progress(entries, facts, events, 1300.0)
    assert found is not None and found.going_on and found.left_s == pytest.approx(100 * 7 + 100)
    later = run_progress(entries, facts, events, 1350.0)
    assert later is not None and later.left_s == pytest.approx(750)
    quiet = run_progress(entries, facts, events, 9999.0)
    assert quiet is not None and not quiet.going_on and quiet.left_s is None
    assert run_progress((), (), (), 0.0) is None


def test_a_schedule_that_has_run_is_over_with_its_last_result() -> None:
    entries = [replace(ENTRY, run_id="r", round=1)]
    facts = [{"run_id": "r", "steps": 2, "planned_steps": 2, "rounds": 1}]
    found = run_progress(entries, facts, [event(1, 1000.0, "sa_result", "r", 1)], 1001.0)
    assert found is not None and not found.going_on


def test_the_pages_load_neither_torch_nor_flower_nor_pydicom() -> None:
    import subprocess
    import sys

    heavy = ("torch", "transformers", "peft", "flwr", "pydicom", "grpc")
    code = f"import sys, site_client.web.serve\nprint([name for name in {heavy!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_the_shared_readings_are_made_again_only_when_a_file_changed(site: MadeSite,
                                                                     monkeypatch: pytest.MonkeyPatch) -> None:
    add_history(site, rounds=2)
    with serving(site) as (pages, client):
        count: list[int] = []
        read = pages.readings._read_ledger
        monkeypatch.setattr(pages.readings, "_read_ledger", lambda: (count.append(1), read())[1])
        for _ in range(3):
            text_of(client, "/runs")
        before = len(count)
        assert before <= 1
        os.utime(site.state / "ledger.sqlite")
        text_of(client, "/runs")
        text_of(client, "/")
        assert len(count) == before + 1
