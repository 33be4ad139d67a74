"""A doctor's lines: what is wrong with files, processes and the machine is found, and nothing else is said of it."""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from privacy.transport import diagnosis
from privacy.transport.diagnosis import (
    Finding,
    exit_code,
    failed,
    folder_findings,
    key_findings,
    machine_findings,
    package_findings,
    passed,
    process_findings,
    report,
    until,
    warned,
    watch,
)


def levels(findings: list[Finding]) -> list[str]:
    return [one.level for one in findings]


def test_a_warning_is_no_failure_and_json_says_the_same() -> None:
    findings = [passed("a", "fine"), warned("b", "soon", "do this")]
    assert exit_code(findings) == 0 and exit_code([*findings, failed("c", "no", "do that")]) == 1
    text = report(findings, as_json=False)
    assert "-> do this" in text and "1 PASS, 1 WARN, 0 FAIL" in text
    assert json.loads(report(findings, as_json=True)) == {"ok": True, "findings": [
        {"level": "PASS", "name": "a", "text": "fine", "fix": ""},
        {"level": "WARN", "name": "b", "text": "soon", "fix": "do this"}]}


def test_an_unforeseen_error_shows_its_kind_and_no_word_of_its_text() -> None:
    def broken() -> list[Finding]:
        raise KeyError("patient 4711")

    (found,) = watch("part", broken, "look there")
    assert found.level == "FAIL" and found.fix == "look there" and "4711" not in found.text and "KeyError" in found.text

    def known() -> list[Finding]:
        raise ValueError("it is gone; restore it")

    assert watch("part", known, "") == [failed("part", "it is gone", "restore it")]


def test_a_certificate_warns_for_thirty_days() -> None:
    now = datetime.now(UTC)
    found = [until("c", "it", now + timedelta(days=days), "renew", now).level for days in (-1, 29, 31)]
    assert found == ["FAIL", "WARN", "PASS"]


def test_folders_and_keys_that_others_can_read_fail(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    key = tmp_path / "identity.key"
    key.write_bytes(bytes(32))
    key.chmod(0o600)
    assert levels(folder_findings("state", tmp_path)) == levels(key_findings("keys", {key: 32})) == ["PASS"]
    key.chmod(0o640)
    tmp_path.chmod(0o750)
    assert f"chmod 600 {key}" in key_findings("keys", {key: 32})[0].fix
    assert folder_findings("state", tmp_path)[0].fix == f"chmod 700 {tmp_path}"
    key.chmod(0o600)
    for wrong in ({key: 31}, {tmp_path / "none.key": 32}):
        assert levels(key_findings("keys", wrong)) == ["FAIL"]
    (tmp_path / "link.key").symlink_to(key)
    assert levels(key_findings("keys", {tmp_path / "link.key": 32})) == ["FAIL"]


@pytest.mark.parametrize(("kind", "level"), [("ext4", "PASS"), ("nfs4", "WARN"), ("fuse.sshfs", "WARN"),
                                             ("tmpfs", "WARN")])
def test_sqlite_needs_a_local_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, level: str) -> None:
    tmp_path.chmod(0o700)
    monkeypatch.setattr(diagnosis, "file_system", lambda path: kind)
    assert levels(folder_findings("state", tmp_path)) == [level]


def test_the_innermost_mount_counts() -> None:
    assert diagnosis.file_system(Path("/proc/self")) == "proc"


@contextmanager
def child(module: Path, argument: str) -> Iterator[int]:
    """A process `python -m NAME ... argument` that waits."""
    module.write_text("import time\ntime.sleep(60)\n")
    process = subprocess.Popen([sys.executable, "-m", module.stem, argument], cwd=module.parent)
    try:
        deadline = time.monotonic() + 20
        while process.pid not in diagnosis.processes_with(argument).get(module.stem, []):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        yield process.pid
    finally:
        process.kill()
        process.wait()


def test_one_owner_of_a_folder(tmp_path: Path) -> None:
    lock, argument = tmp_path / "start.lock", str(tmp_path / "executor.secret")

    def found() -> Finding:
        (one,) = process_findings("process", lock, argument, ["waiting_one"], "site-client start x")
        return one

    assert found().level == "WARN"  # nothing runs
    with child(tmp_path / "waiting_one.py", argument) as first:
        assert found().level == "FAIL" and str(first) in found().text  # left over from a service that is gone
        held = os.open(lock, os.O_RDWR | os.O_CREAT, 0o600)
        fcntl.flock(held, fcntl.LOCK_EX)
        assert found().level == "PASS"
        with child(tmp_path / "waiting_one.py", argument):
            assert found().level == "FAIL" and "2 processes" in found().text
    assert found().level == "WARN" and "started again" in found().text
    os.close(held)


def test_a_full_disk_fails_and_a_filling_one_warns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Usage:
        free = 0

    monkeypatch.setattr(diagnosis.shutil, "disk_usage", lambda path: Usage)

    def disk(free: float, upload: float) -> str:
        Usage.free = int(free)
        return {one.name: one.level for one in machine_findings(tmp_path, int(upload), 0, "x")}["disk"]

    assert (disk(0.9e9, 0), disk(2e9, 0), disk(20e9, 0), disk(2e9, 1e9)) == ("FAIL", "WARN", "PASS", "FAIL")


def test_another_flower_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def flower() -> Finding:
        return next(one for one in machine_findings(tmp_path, 0, 0, "x") if one.name == "flower")

    assert flower().level == "PASS"
    monkeypatch.setenv("FLWR_TELEMETRY_ENABLED", "1")
    assert flower().level == "WARN"
    monkeypatch.setattr(diagnosis.metadata, "version", lambda name: "1.42.0")
    assert flower().level == "FAIL" and "1.41.0" in flower().text


def test_a_second_copy_of_a_package_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "privacy").mkdir()
    (tmp_path / "privacy" / "__init__.py").touch()
    before = levels(package_findings())
    monkeypatch.syspath_prepend(str(tmp_path))
    sys.path.remove(str(tmp_path))
    sys.path.append(str(tmp_path))
    assert "WARN" in levels(package_findings()) and "FAIL" not in before
    monkeypatch.chdir(tmp_path)  # `python -m` looks in the working folder first
    assert any(one.level == "FAIL" and "working folder" in one.text for one in package_findings())
