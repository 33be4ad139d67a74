"""`site-client status SITE_FILE --web`: what its options take and refuse, and the pages as a process."""

from __future__ import annotations

import os
import re
import signal
import stat
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from tests.site_client.made_site import MadeSite


@pytest.fixture
def site(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> MadeSite:
    return MadeSite(tmp_path, capsys)


def test_the_address_holds_the_token_behind_the_hash(site: MadeSite) -> None:
    code, out, _ = site.run("status", site.file, "--web", "--url")
    found = re.fullmatch(r"http://127\.0\.0\.1:8445/login#([A-Za-z0-9_-]{43})\n", out)
    assert code == 0 and found is not None
    token = site.state / "web" / "token"
    assert token.read_text().strip() == found[1] and stat.S_IMODE(token.stat().st_mode) == 0o600
    assert site.run("status", site.file, "--web", "--port", "9000", "--url")[1].startswith("http://127.0.0.1:9000/")
    assert site.run("status", site.file, "--web", "--new-token")[0] == 0
    assert token.read_text().strip() != found[1]


@pytest.mark.parametrize(("words", "said"), [
    (("--port", "9"), "--port goes with --web"), (("--url",), "--url goes with --web"),
    (("--beyond-this-machine",), "--beyond-this-machine goes with --web"),
    (("--web", "--json"), "choose one"), (("--web", "--port", "70000"), "must be 0 to 65535"),
    (("--web", "--listen", "0.0.0.0:1"), "private network"), (("--web", "--listen", "8.8.8.8:1"), "private network"),
    (("--web", "--listen", "localhost:1"), "private network"), (("--web", "--listen", "0"), "takes IP:PORT"),
    (("--web", "--listen", "127.0.0.1:1", "--port", "2"), "leave --port out"),
    (("--web", "--listen", "10.1.2.3:8445"), "add --beyond-this-machine"),
    (("--web", "--listen", "10.1.2.3:8445", "--beyond-this-machine"), "over TLS only"),
    (("--web", "--certificate", "x.pem"), "go together"),
    (("--web", "--certificate", "x.pem", "--key", "x.pem"), "no PEM certificate")])
def test_what_cannot_be_meant_is_one_sentence(words: tuple[str, ...], said: str, site: MadeSite) -> None:
    code, out, error = site.run("status", site.file, *words)
    assert code == 2 and said in error and out == ""


def test_an_address_that_is_taken_is_one_sentence(site: MadeSite) -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as taken:
        code, _, error = site.run("status", site.file, "--web", "--port", taken.getsockname()[1])
    assert code == 2 and "cannot be served" in error and "--port" in error


def test_a_token_that_others_can_read_is_refused(site: MadeSite) -> None:
    site.run("status", site.file, "--web", "--url")
    (site.state / "web" / "token").chmod(0o644)
    code, _, error = site.run("status", site.file, "--web", "--url")
    assert code == 2 and "chmod 600" in error


def test_without_a_state_folder_nothing_is_made(site: MadeSite) -> None:
    site.state.rename(site.folder / "elsewhere")
    code, _, error = site.run("status", site.file, "--web", "--url")
    assert code == 2 and "does not exist" in error and not site.state.exists()


@pytest.mark.slow
def test_it_serves_until_it_is_told_to_stop_and_logs_no_token(site: MadeSite) -> None:
    log = site.folder / "pages.out"
    code = "import sys; from site_client.cli import main; sys.exit(main())"
    with log.open("wb") as out:
        running = subprocess.Popen([sys.executable, "-c", code, "status", str(site.file), "--web", "--port", "0"],
                                   stdout=out, stderr=subprocess.STDOUT,
                                   env={**os.environ, "MEDGPT_LOG_FORMAT": "json"})
    try:
        end = time.monotonic() + 60
        while not (found := re.search(r"https?://\S+", log.read_text())):
            assert running.poll() is None and time.monotonic() < end, log.read_text()
            time.sleep(0.1)
        address, _, token = found[0].partition("login#")
        opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor())
        with pytest.raises(urllib.error.HTTPError):
            opener.open(urllib.request.Request(f"{address}login", data=b"token=wrong"), timeout=30)
        asked = urllib.request.Request(f"{address}login", data=f"token={token}".encode())
        assert "Nothing is spent." in opener.open(asked, timeout=30).read().decode()
        stream = opener.open(f"{address}live", timeout=30)
        assert stream.readline().startswith(b"id: ")
        running.send_signal(signal.SIGINT)
        assert running.wait(15) in (0, 130, -signal.SIGINT)
        stream.close()
    finally:
        running.kill()
        running.wait()
    said = log.read_text()
    assert '"message": "login refused"' in said and "Traceback" not in said
    assert token not in said.replace(found[0], "") and "wrong" not in said
