"""`coordinator doctor | status | backup | restore`: what is wrong is said, and no run goes on from an old copy."""

from __future__ import annotations

import io
import json
import socket
import tarfile
import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from configs.schema import RunConfig
from coordinator.authority import host_of, new_private_key
from coordinator.home import Home
from coordinator.run_queue import RunQueue
from coordinator.run_register import RunTakenError, claimed
from privacy.durable import write_whole
from privacy.state_version import STATE_VERSION
from tests.coordinator.test_home import Desk, desk, running
from tests.site_client.small_site import MANIFEST

__all__ = ["desk", "running"]  # fixtures


def doctor(desk: Desk) -> tuple[int, dict[str, tuple[str, str]]]:
    """(exit code, part -> (worst level, its text))."""
    code, out, _ = desk.run("doctor", desk.dir, "--json")
    found = json.loads(out)["findings"]
    lines: dict[str, tuple[str, str]] = {}
    for one in found:
        if one["name"] not in lines or lines[one["name"]][0] == "PASS":
            lines[one["name"]] = (one["level"], one["text"])
    return code, lines


def listen_on(desk: Desk, port: int) -> None:
    text = (desk.dir / "coordinator.yaml").read_text()
    (desk.dir / "coordinator.yaml").write_text(text.replace("0.0.0.0:8443", f"127.0.0.1:{port}"))


@pytest.fixture
def port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def console_on(desk: Desk, address: str) -> None:
    file = desk.dir / "coordinator.yaml"
    kept = [line for line in file.read_text().splitlines() if not line.startswith("console:")]
    file.write_text("\n".join([*kept, f"console: {address}", ""]))


def test_the_consoles_address_is_looked_at(running: Desk, port: int) -> None:
    console_on(running, f"127.0.0.1:{port}")
    assert doctor(running)[1]["console"] == ("PASS", f"127.0.0.1:{port} is free")
    with socket.socket() as other:
        other.bind(("127.0.0.1", port))
        other.listen()
        assert doctor(running)[1]["console"] == ("WARN", f"another program listens on 127.0.0.1:{port}")
    console_on(running, "0")
    assert doctor(running)[1]["console"][0] == "PASS"


def test_a_folder_that_is_whole_has_no_failure(running: Desk, port: int) -> None:
    listen_on(running, port)
    code, lines = doctor(running)
    assert code == 0 and lines["process"][0] == "WARN"
    passing = ("folder", "packages", "files", "keys", "port", "health", "certificate", "authority", "roster", "runs",
               "database", "flower")
    assert {name: lines[name][0] for name in passing} == dict.fromkeys(passing, "PASS")


def test_without_a_signed_roster_it_says_who_must_sign(desk: Desk) -> None:
    desk.enroll("site-1", "site-2", "site-3")
    code, lines = doctor(desk)
    assert code == 1 and lines["roster"][0] == "FAIL" and "needs 2 more of ann, bob, cleo" in lines["roster"][1]


def test_a_key_that_others_can_read_and_one_that_is_another_fail(running: Desk) -> None:
    running.home.key_file.chmod(0o644)
    assert "read by others" in doctor(running)[1]["keys"][1]
    running.home.key_file.chmod(0o600)
    running.home.key_file.write_bytes(bytes(32))
    code, lines = doctor(running)
    assert code == 1 and "not the key that the invitation names" in lines["keys"][1]


def test_a_certificate_that_ends_soon_warns_and_one_that_ended_fails(running: Desk) -> None:
    home = running.home
    for days, level in ((370, "WARN"), (400, "FAIL")):  # of the 397 that it is valid for
        made = home.authority().server_certificate(
            new_private_key(), [host_of(home.config.address)], datetime.fromtimestamp(time.time() - days * 86400, UTC))
        home.server_certificate_file.write_bytes(made)
        assert doctor(running)[1]["certificate"][0] == level


def test_another_program_on_the_port_is_found(running: Desk, port: int) -> None:
    listen_on(running, port)
    with socket.socket() as other:
        other.bind(("127.0.0.1", port))
        other.listen()
        code, lines = doctor(running)
    assert code == 1 and "another program listens" in lines["port"][1]


# ------------------------------------------------------------------ status


def add_run(home: Home, run_id: str, state: Any, events: list[dict[str, Any]]) -> None:
    queue = RunQueue(home.runs_folder)
    run = queue.add(RunConfig(run_id=run_id, curriculum="c", base_model="b", public_examples="p"))
    queue.put(replace(run, state=state, reason="too few sites" if state == "failed" else ""))
    if events:
        lines = "".join(json.dumps({"time": time.time(), **event}) + "\n" for event in events)
        write_whole(queue.folder(run_id) / "progress.jsonl", lines.encode())


EVENTS: list[dict[str, Any]] = [
    {"event": "cohort", "accepted": ["site-1", "site-2"], "refused": ["site-3 (hello: P_BUDGET)"], "floor": 2},
    {"event": "begin", "rounds_total": 4, "rounds_done": 0},
    {"event": "round", "round": 1, "summed": ["site-1"], "missing": {"site-2": "sa_mask: no-reply"}}]


def test_status_of_the_folder_shows_roster_sites_and_the_queue(running: Desk) -> None:
    add_run(running.home, "one", "failed", EVENTS)
    add_run(running.home, "two", "queued", [])
    code, out, _ = running.run("status", running.dir)
    assert code == 1 and "not running; start it: coordinator up" in out
    assert "site-1: run one, in the sum of round 1" in out and "missing in round 1: sa_mask: no-reply" in out
    assert "site-3: run one, refused (hello: P_BUDGET)" in out
    assert "one: failed, 1 of 4 rounds; too few sites" in out and "two: queued, 0 of ? rounds" in out
    facts = json.loads(running.run("status", running.dir, "--json")[1])
    assert facts["roster"]["version"] == 1 and [run["run_id"] for run in facts["runs"]] == ["one", "two"]


def test_status_of_a_run_by_name_and_by_folder(running: Desk) -> None:
    add_run(running.home, "one", "failed", EVENTS)
    add_run(running.home, "two", "queued", [])
    code, out, _ = running.run("status", running.dir, "one")
    assert code == 1 and "state      failed" in out and "too few sites" in out
    code, out, _ = running.run("status", running.home.runs_folder / "one")  # the form without the folder: its journal
    assert code == 0 and "state      running" in out
    assert running.run("status", running.dir, "two")[1] == "state      queued, not begun\n"
    assert "known runs: one, two" in running.run("status", running.dir, "three")[2]
    assert "is not a coordinator's folder" in running.run("status", running.home.runs_folder / "one", "one")[2]


# ------------------------------------------------------------------ backup and restore


def restored(desk: Desk) -> Desk:
    out = desk.folder / "out.tar"
    assert desk.run("backup", desk.dir, out)[0] == 0 and out.stat().st_mode & 0o777 == 0o600
    code, text, _ = desk.run("restore", out, desk.folder / "new")
    assert code == 0 and "never used" in text
    desk.dir = desk.folder / "new"
    return desk


def test_a_restored_folder_has_the_same_keys_and_roster(running: Desk) -> None:
    before = running.files()
    root = running.dir
    (running.dir / "log" / "executor.log").write_text("x")
    new = restored(running)
    after = {path.relative_to(new.dir): content for path, content in new.files().items()}
    assert {path.relative_to(root): content for path, content in before.items()}.items() <= after.items()
    assert not (new.dir / "log" / "executor.log").exists() and new.dir.stat().st_mode & 0o777 == 0o700
    assert new.home.roster().roster.version == 1 and new.home.key() and doctor(new)[1]["keys"][0] == "PASS"
    assert (new.dir / "invitation.json").stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize("begun_before_the_backup", [True, False])
def test_no_run_goes_on_from_a_restored_folder(running: Desk, begun_before_the_backup: bool) -> None:
    home = running.home
    add_run(home, "run", "running" if begun_before_the_backup else "queued", EVENTS)
    if begun_before_the_backup:
        with claimed(home.key_file, home.run_folder("run"), MANIFEST):
            pass
    new = restored(running).home
    assert RunQueue(new.runs_folder).get("run").state == "failed"
    assert "never goes on from an old copy" in RunQueue(new.runs_folder).get("run").reason
    RunQueue(new.runs_folder).resume("run")  # what an operator may try; the executor then claims the run
    with pytest.raises(RunTakenError), claimed(new.key_file, new.run_folder("run"), MANIFEST):
        pass
    with claimed(new.key_file, new.run_folder("later"), replace(MANIFEST, run_id="later")):
        pass
    if begun_before_the_backup:  # the old folder itself is untouched
        with claimed(home.key_file, home.run_folder("run"), MANIFEST):
            pass


def test_the_newest_checkpoint_comes_along_and_the_older_ones_do_not(running: Desk) -> None:
    add_run(running.home, "run", "finished", EVENTS)
    for number in (1, 2, 3):
        folder = running.home.run_folder("run") / "checkpoints" / f"round-{number:05}"
        folder.mkdir(parents=True)
        (folder / "state.json").write_text(str(number))
    (running.home.run_folder("run") / "checkpoints" / "round-00004").mkdir()  # not whole
    new = restored(running).home.run_folder("run")
    assert [path.name for path in (new / "checkpoints").iterdir()] == ["round-00003"]
    assert RunQueue(new.parent).get("run").state == "finished"


def refused(desk: Desk, backup: Path) -> str:
    code, _, error = desk.run("restore", backup, desk.folder / "new")
    assert code == 2 and not (desk.folder / "new").exists()
    return error


def test_what_must_not_be_restored_is_refused(running: Desk) -> None:
    out, changed = running.folder / "out.tar", running.folder / "changed.tar"
    running.run("backup", running.dir, out)
    assert "never replaced" in running.run("restore", out, running.dir)[2]
    assert "never replaced" in running.run("backup", running.dir, out)[2]
    for old, new, says in ((f'"state_version": {STATE_VERSION}', '"state_version": 99', "newer release"),
                           ('"kind": "coordinator"', '"kind": "site"', "is needed")):
        with tarfile.open(out) as before, tarfile.open(changed, "w") as after:
            for member in before:
                content = before.extractfile(member).read()  # type: ignore[union-attr]
                content = content.replace(old.encode(), new.encode()) if member.name == "backup.json" else content
                member.size = len(content)
                after.addfile(member, io.BytesIO(content))
        assert says in refused(running, changed)
    running.home.key_file.write_bytes(bytes(32))
    code, _, error = running.run("backup", running.dir, running.folder / "two.tar")
    assert code == 2 and "invitation names" in error and not (running.folder / "two.tar").exists()


def test_a_folder_of_a_newer_release_is_left_alone(running: Desk) -> None:
    (running.dir / "version").write_text(f"{STATE_VERSION + 1}\n")
    for words in (("up", running.dir), ("backup", running.dir, running.folder / "out.tar"), ("doctor", running.dir)):
        code, _, error = running.run(*words)
        assert code == 2 and "newer release" in error
