"""The commands of README and quickstart are run as they are printed there, by a shell, with real processes."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
QUICKSTART = ROOT / "docs" / "quickstart.md"
README = ROOT / "README.md"
# What each prints that a reader is promised; a command that is not here has only to succeed.
PROMISED = {
    "coordinator enroll north": "a draft", "coordinator launch north": "finished",
    "coordinator status north first": "rounds     3 of 3", "site-client ledger show": "chain   intact",
    "site-client audit show": "chain intact", "coordinator verify-release": "release",
    "site-client dpia": "data protection officer"}


def blocks(path: Path, kind: str) -> list[str]:
    """Fenced blocks of that info string, in order."""
    return re.findall(rf"^```{kind}\n(.*?)^```$", path.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def shown_commands(path: Path) -> list[str]:
    """Lines that begin with `$ ` inside fenced blocks, continued lines joined."""
    text = "\n".join(re.findall(r"^```\n(.*?)^```$", path.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL))
    return [found.replace("\\\n", " ") for found in re.findall(r"^\$ ((?:.*\\\n)*.*)$", text, re.MULTILINE)]


def environment() -> dict[str, str]:
    """The commands of this interpreter's environment first on the path."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return {**os.environ, "PATH": path, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "COLUMNS": "100"}


def shell(command: str, folder: Path, timeout_s: float = 280) -> str:
    """Run by bash with `set -e`; standard output. Fails the test with what was printed."""
    done = subprocess.run(["bash", "-euc", command], cwd=folder, env=environment(), capture_output=True, text=True,
                          check=False, timeout=timeout_s, stdin=subprocess.DEVNULL)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture
def background(tmp_path) -> Iterator[list[subprocess.Popen[bytes]]]:
    started: list[subprocess.Popen[bytes]] = []
    yield started
    for process in started:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
    for process in started:
        process.wait(60)


def start(command: str, folder: Path, name: str) -> subprocess.Popen[bytes]:
    with (folder / f"{name}.out").open("wb") as out:
        return subprocess.Popen(["bash", "-c", f"exec {command}"], cwd=folder, env=environment(), stdout=out,
                                stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL)


def wait_until_ready(processes: list[subprocess.Popen[bytes]], folder: Path, timeout_s: float = 240) -> None:
    end = time.monotonic() + timeout_s
    for number, process in enumerate(processes):
        said = folder / f"{number}.out"
        while not re.search(r"^\S+ ready", said.read_text(), re.MULTILINE):
            assert process.poll() is None, f"ended: {said.read_text()}"
            assert time.monotonic() < end, f"not ready: {said.read_text()}"
            time.sleep(0.3)


def quickstart_parts() -> list[tuple[str, str]]:
    """(info string, text) of every bash block, in the order of the page."""
    return re.findall(r"^```(bash|bash background)\n(.*?)^```$", QUICKSTART.read_text(encoding="utf-8"),
                      re.MULTILINE | re.DOTALL)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_quickstart_works_as_it_is_printed(tmp_path, background):
    printed = ""
    for kind, text in quickstart_parts():
        if kind == "bash background":
            background += [start(line, tmp_path, str(number)) for number, line in enumerate(text.splitlines())]
            wait_until_ready(background, tmp_path)
        else:
            printed += "".join(f"\n$ {text}") + shell(text, tmp_path)
    for command, promised in PROMISED.items():
        assert command in printed and promised in printed, (command, promised, printed[-3000:])
    assert (tmp_path / "release" / "adapter_model.safetensors").is_file()


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_readmes_commands_work_and_name_what_is_there(tmp_path):
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    commands = shown_commands(README)
    assert len(commands) >= 6
    for command in commands:
        shell(command, tmp_path)


def test_every_command_in_the_pages_exists():
    """A command that a page shows is one of the parsers', so that a renamed one cannot stay in a page."""
    names = {program: known_actions(program) for program in ("coordinator", "site-client", "simulate")}
    for page in (README, *sorted((ROOT / "docs").rglob("*.md"))):
        text = page.read_text(encoding="utf-8")
        fenced = "\n".join(re.findall(r"^```.*?\n(.*?)^```$", text, re.MULTILINE | re.DOTALL))
        quoted = "\n".join(re.findall(r"`([^`\n]+)`", text))
        for program, action in re.findall(r"(?:^|\$ |; |\| )(coordinator|site-client|simulate) ([a-z][a-z-]+)",
                                          f"{fenced}\n{quoted}", re.MULTILINE):
            assert action in names[program], f"{page.name}: {program} {action}"


def known_actions(program: str) -> set[str]:
    import importlib

    parser = importlib.import_module(f"{program.replace('-', '_').replace('simulate', 'simulations')}.cli")._parser()
    return {name for action in parser._actions if isinstance(getattr(action, "choices", None), dict)
            for name in action.choices}


def test_every_link_in_the_pages_leads_somewhere():
    for page in (README, *sorted((ROOT / "docs").rglob("*.md"))):
        for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
            if not re.match(r"[a-z]+:", target):
                assert (page.parent / target).exists(), f"{page.relative_to(ROOT)}: {target}"
