"""docs/deploy: units that systemd takes, commands that exist, containers that stay offline and ask the real health."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import coordinator.cli
import site_client.cli
from privacy.transport.health import HealthService

ROOT = Path(__file__).resolve().parent.parent
DEPLOY = ROOT / "docs" / "deploy"
PARSERS: dict[str, Callable[..., object]] = {"site-client": site_client.cli._parser,
                                             "coordinator": coordinator.cli._parser}
UNITS = {"site-client": "site-client.service", "coordinator": "coordinator.service"}
CONTAINERS = {"site-client": "Containerfile.site", "coordinator": "Containerfile.coordinator"}


def command_exists(program: str, words: list[str]) -> bool:
    """True if the program's own parser takes these words."""
    try:
        PARSERS[program]().parse_args(words)  # type: ignore[attr-defined]
    except SystemExit:
        return False
    return True


def settings(unit: str) -> dict[str, list[str]]:
    """{name: values} of a unit's lines, comments left out."""
    found: dict[str, list[str]] = {}
    for line in (DEPLOY / unit).read_text("utf-8").splitlines():
        if line and line[0] not in "#[":
            name, _, value = line.partition("=")
            found.setdefault(name, []).append(value)
    return found


def instructions(container: str) -> list[tuple[str, str]]:
    """(instruction, rest) of a container file, continued lines joined."""
    text = re.sub(r"\\\n\s*", " ", (DEPLOY / container).read_text("utf-8"))
    return [(line.split(" ", 1)[0], line.split(" ", 1)[1]) for line in text.splitlines() if line and line[0] != "#"]


def test_a_command_that_does_not_exist_would_be_seen() -> None:
    assert not command_exists("site-client", ["begin", "/x"]) and not command_exists("coordinator", ["up"])


@pytest.mark.parametrize(("program", "unit"), UNITS.items())
def test_units_start_a_command_that_exists_and_are_hardened(program: str, unit: str) -> None:
    unit_settings = settings(unit)
    (start,) = unit_settings["ExecStart"]
    path, *words = start.split()
    assert path == f"/opt/federated-medgpt/bin/{program}" and command_exists(program, words)
    state = f"/var/lib/{program}"
    assert words[-1].startswith(state) and unit_settings["ReadWritePaths"] == [state]
    for line in ("DynamicUser=no", f"User={program}", "ProtectSystem=strict", "NoNewPrivileges=yes", "PrivateTmp=yes",
                 "MemoryDenyWriteExecute=no", "CapabilityBoundingSet=", "Restart=always", "RestartSec=10",
                 "RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX AF_NETLINK", "UMask=0077", "KillMode=mixed",
                 "TimeoutStopSec=120", "StartLimitIntervalSec=0"):
        name, _, value = line.partition("=")
        assert unit_settings[name] == [value], name
    assert "#IPAddressAllow=" in (DEPLOY / unit).read_text("utf-8")


@pytest.mark.parametrize("unit", UNITS.values())
def test_systemd_takes_the_units_and_finds_little_exposed(unit: str, tmp_path: Path) -> None:
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("systemd-analyze is not installed")
    # program and user of the installed release are not on this machine
    text = re.sub(r"(?m)^ExecStart=.*", "ExecStart=/bin/true", (DEPLOY / unit).read_text("utf-8"))
    (tmp_path / unit).write_text(re.sub(r"(?m)^(User|Group)=.*", r"\1=root", text))
    done = subprocess.run([analyze, "verify", tmp_path / unit], capture_output=True, text=True, check=False, timeout=60)
    said = [line for line in done.stderr.splitlines() if unit in line]
    assert done.returncode == 0 and said == []
    (tmp_path / unit).write_text(text.replace("[Service]", "[Service]\nNoSuchSetting=1"))
    planted = subprocess.run([analyze, "verify", tmp_path / unit], capture_output=True, text=True, check=False)
    assert "NoSuchSetting" in planted.stderr
    exposed = subprocess.run([analyze, "security", "--offline=true", "--threshold=25", DEPLOY / unit],
                             capture_output=True, text=True, check=False, timeout=60)
    assert exposed.returncode == 0, exposed.stdout[-300:]


@pytest.mark.parametrize(("program", "container"), CONTAINERS.items())
def test_containers_install_offline_by_hash_and_run_unprivileged(program: str, container: str) -> None:
    lines = instructions(container)
    named = dict(lines)
    words = [*json.loads(named["ENTRYPOINT"]), *json.loads(named["CMD"])]
    assert words[0] == program and command_exists(program, words[1:])
    assert named["FROM"].startswith("python:3.11-slim") and named["USER"] == "10001:10001"
    order = [name for name, _ in lines]
    assert order.index("USER") < order.index("ENTRYPOINT") and named["VOLUME"] == f"/var/lib/{program}"
    installs = [rest for name, rest in lines if name == "RUN" and "pip install" in rest]
    assert len(installs) == 1 and "--no-index --require-hashes" in installs[0] and "sha256sum" in installs[0]
    assert not re.search(r"\b(curl|wget|apt-get|apk|git clone)\b|https?://", " ".join(rest for _, rest in lines))
    assert not [name for name, _ in lines if name == "ADD"]


@pytest.mark.parametrize("container", CONTAINERS.values())
def test_the_health_check_follows_the_health_service(container: str) -> None:
    (check,) = [rest for name, rest in instructions(container) if name == "HEALTHCHECK"]
    python, option, code = json.loads(check[check.index("["):])
    assert (python, option) == ("python", "-c") and "check_health(9180)" in code
    assert "health_port: 9180" in (DEPLOY / container).read_text("utf-8")

    def exit_code(port: int) -> int:
        here = code.replace("9180", str(port))
        return subprocess.run([sys.executable, "-c", here], cwd=ROOT, check=False, timeout=60).returncode

    service = HealthService(0)
    try:
        assert exit_code(service.port) == 1  # starting
        service.set(True)
        assert exit_code(service.port) == 0
        service.set(False, "draining")
        assert exit_code(service.port) == 1
    finally:
        service.stop()
    assert exit_code(service.port) == 1


def test_the_guide_names_files_and_commands_that_exist() -> None:
    text = (DEPLOY / "README.md").read_text("utf-8")
    for name in {*UNITS.values(), *CONTAINERS.values()}:
        assert name in text and (DEPLOY / name).is_file()
    for program, action in set(re.findall(r"\b(site-client|coordinator) (init|release|up|start)\b", text)):
        with pytest.raises(SystemExit) as end:
            PARSERS[program]().parse_args([action, "--help"])  # type: ignore[attr-defined]
        assert end.value.code == 0
