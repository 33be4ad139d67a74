"""`coordinator console`, the key in coordinator.yaml, and the console as a child of `coordinator up`."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import ssl
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import ip_address
from pathlib import Path

import pytest

import coordinator.cli
from configs.coordination import HomeConfig, require_private
from configs.load import ConfigError, load_config
from coordinator.home import Home
from coordinator.up_command import _children
from privacy.transport.service import free_port
from privacy.transport.supervisor import Child, Supervisor
from tests.coordinator.finished_run import make_home


@pytest.fixture(scope="module")
def bare_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_home(tmp_path_factory.mktemp("bare"))


@pytest.fixture
def home(bare_home: Path, tmp_path: Path) -> Path:
    import shutil

    return Path(shutil.copytree(bare_home, tmp_path / "home"))


def set_key(home: Path, key: str, value: str) -> None:
    file = home / "coordinator.yaml"
    file.write_text(re.sub(rf"^{key}:.*\n", "", file.read_text(), flags=re.MULTILINE) + f"{key}: {value}\n")


def call(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str, str]:
    capsys.readouterr()
    code = coordinator.cli.main(["console", *map(str, words)])
    printed = capsys.readouterr()
    assert printed.err.count("\n") == (code != 0), printed.err
    return code, printed.out.strip(), printed.err.strip()


def test_a_new_folder_has_a_console_on_loopback(home: Path) -> None:
    assert Home.open(home).config.console == "127.0.0.1:8444"
    assert 'console: "127.0.0.1:8444"' in (home / "coordinator.yaml").read_text()


def test_the_url_carries_the_token_behind_the_hash(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = call(capsys, home, "--url")
    token = (home / "console" / "token").read_text().strip()
    assert (code, out) == (0, f"http://127.0.0.1:8444/login#{token}")
    assert call(capsys, home, "--url")[1] == out
    assert call(capsys, home, "--metrics-token")[1] not in ("", token)


def test_new_tokens_replace_both(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = [call(capsys, home, word)[1] for word in ("--url", "--metrics-token")]
    assert call(capsys, home, "--new-token")[0] == 0
    assert not set(before) & {call(capsys, home, word)[1] for word in ("--url", "--metrics-token")}


def test_switched_off_is_one_sentence(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    set_key(home, "console", "0")
    code, _, error = call(capsys, home)
    assert code == 2 and "switched off" in error and "--listen" in error


@pytest.mark.parametrize("address", ["0.0.0.0:8444", "8.8.8.8:8444", "[::]:8444", "example.org:8444", "127.0.0.1",
                                     "127.0.0.1:99999", ":8444", "127.0.0.1:x"])
def test_only_private_addresses_are_served(address: str, home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, error = call(capsys, home, "--listen", address)
    assert code == 2 and ("private network" in error or "HOST:PORT" in error)
    set_key(home, "console", json.dumps(address))
    with pytest.raises(ConfigError):
        load_config(HomeConfig, home / "coordinator.yaml")


@pytest.mark.parametrize("address", ["127.0.0.1:1", "10.0.0.5:8444", "192.168.1.1:65535", "[::1]:8444", "[fd00::1]:1",
                                     "0"])
def test_private_addresses_are_taken(address: str) -> None:
    require_private("coordinator", "console", address)


@pytest.mark.parametrize("store", ["mysql://x", "runs.sqlite", "postgresql://x"])
def test_an_unknown_store_is_one_sentence(store: str, home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    set_key(home, "run_store", json.dumps(store))
    code, _, error = call(capsys, home)
    assert code == 2 and "run_store" in error


def test_a_port_that_is_taken_is_one_sentence(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        code, _, error = call(capsys, home, "--listen", f"127.0.0.1:{taken.getsockname()[1]}")
    assert code == 2 and "in use" in error and "choose another address" in error


def test_up_starts_it_and_is_ready_without_it(home: Path) -> None:
    names = {child.name: child.vital for child in _children(Home.open(home))}
    assert names == {"superlink": True, "executor": True, "console": False}
    set_key(home, "console", "0")
    assert [child.name for child in _children(Home.open(home))] == ["superlink", "executor"]


def test_a_child_that_only_looks_on_keeps_nothing_from_being_ready(tmp_path: Path) -> None:
    ready: list[bool] = []
    children = [
        Child("vital", [sys.executable, "-c", "import time; time.sleep(60)"], tmp_path / "a.log"),
        Child("onlooker", [sys.executable, "-c", "raise SystemExit(3)"], tmp_path / "b.log", vital=False)]
    supervisor = Supervisor(children, tmp_path / "status.json", on_change=lambda up, why: ready.append(up),
                            longest_s=60.0, first_s=60.0)

    def stop_later() -> None:
        end = time.monotonic() + 30
        while time.monotonic() < end and (children[1].starts == 0 or children[1].process is not None):
            time.sleep(0.05)
        time.sleep(0.5)
        status.update(json.loads((tmp_path / "status.json").read_text()))
        supervisor.stop()

    import threading

    status: dict[str, object] = {}
    threading.Thread(target=stop_later, daemon=True).start()
    supervisor.run()
    assert status["ready"] is True and ready[-2] is True
    states = {one["name"]: one["state"] for one in status["children"]}  # type: ignore[attr-defined]
    assert states == {"vital": "running", "onlooker": "waiting"}


# ---------------------------------------------------------------- as a process


@contextmanager
def process(home: Path, address: str) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """`coordinator console HOME --listen ADDRESS`, and the address that it printed."""
    log = home.parent / "console.out"
    code = "import sys; from coordinator.cli import main; sys.exit(main())"
    with log.open("wb") as out:
        running = subprocess.Popen([sys.executable, "-c", code, "console", str(home), "--listen", address],
                                   stdout=out, stderr=subprocess.STDOUT, env={**os.environ, "OMP_NUM_THREADS": "1"})
    try:
        end = time.monotonic() + 90
        while not (found := re.search(r"https?://\S+", log.read_text())):
            assert running.poll() is None and time.monotonic() < end, log.read_text()
            time.sleep(0.1)
        yield running, found[0]
    finally:
        running.kill()
        running.wait()


@pytest.mark.slow
def test_it_serves_until_it_is_told_to_stop_and_holds_no_connection_up(home: Path) -> None:
    with process(home, "127.0.0.1:0") as (running, url):
        address, _, token = url.partition("login#")
        asked = urllib.request.Request(f"{address}login", data=f"token={token}".encode())
        opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor())
        assert "No run yet." in opener.open(asked, timeout=30).read().decode()
        stream = opener.open(f"{address}live", timeout=30)
        assert stream.readline().startswith(b"id: ")
        running.send_signal(signal.SIGTERM)
        assert running.wait(15) in (0, -signal.SIGTERM)
        stream.close()
    assert token not in (home.parent / "console.out").read_text().replace(url, "")


@pytest.mark.slow
def test_beyond_loopback_it_speaks_tls_with_the_servers_certificate(home: Path) -> None:
    address = private_address()
    if address is None:
        pytest.skip("this machine has no private address besides loopback")
    assert coordinator.cli.main(["renew-certificate", str(home), "--name", address]) == 0
    with process(home, f"{address}:{free_port()}") as (_, url):
        assert url.startswith(f"https://{address}:")
        trusted = ssl.create_default_context(cafile=str(home / "tls" / "ca.crt"))
        with urllib.request.urlopen(url.partition("#")[0], timeout=30, context=trusted) as answer:
            assert "strict-transport-security" in answer.headers and "Log in" in answer.read().decode()
        with pytest.raises(OSError):
            urllib.request.urlopen(url.replace("https:", "http:").partition("#")[0], timeout=30)


def private_address() -> str | None:
    """Of this machine, on its way to others; nothing is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("10.255.255.255", 9))
        except OSError:
            return None
        found = ip_address(probe.getsockname()[0])
    return str(found) if found.is_private and not found.is_loopback else None


def test_help_imports_neither_the_server_nor_the_store() -> None:
    code = ("import sys; from coordinator.cli import main\n"
            "try: main(['console', '--help'])\nexcept SystemExit: pass\n"
            "print([name for name in ('torch', 'peft', 'sqlalchemy', 'starlette', 'uvicorn', 'jinja2') "
            "if name in sys.modules])")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_the_process_loads_neither_torch_nor_flower() -> None:
    code = ("import sys, coordinator.console.process, coordinator.console.app\n"
            "print([name for name in ('torch', 'transformers', 'peft', 'flwr', 'grpc') if name in sys.modules])")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.slow
def test_a_wheel_brings_templates_styles_scripts_and_migrations(tmp_path: Path) -> None:
    import zipfile

    root = Path(coordinator.cli.__file__).parent.parent
    subprocess.run([sys.executable, "-m", "pip", "--disable-pip-version-check", "wheel", "--quiet", "--no-deps",
                    "--wheel-dir", str(tmp_path), str(root)], check=True, timeout=280)
    (built,) = tmp_path.glob("*.whl")
    names = set(zipfile.ZipFile(built).namelist())
    folders = ("coordinator/console", "coordinator/run_store", "privacy/web", "site_client/web")
    wanted = [path.relative_to(root).as_posix() for folder in folders for path in (root / folder).rglob("*")
              if path.is_file() and path.suffix != ".pyc"]
    assert {".html", ".css", ".js", ".svg", ".py"} == {Path(name).suffix for name in wanted}
    assert set(wanted) <= names
