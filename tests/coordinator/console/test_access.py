"""Tokens, sessions, the brake on guessing, and what the guard lets through."""

from __future__ import annotations

import logging
import stat
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from coordinator.console.app import Console
from privacy.web.access import SESSION_S, Brake, Sessions, new_token, same, token_in
from privacy.web.guard import CONTENT_POLICY, host_names
from tests.coordinator.console.homes import METRICS_TOKEN, TOKEN, URL, log_in, serving

PAGES = ("/", "/sites", "/releases", "/runs/demo", "/runs/demo/rounds/1", "/sites/site-1", "/releases/first/1")


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_a_token_is_made_once_and_is_its_users_alone(tmp_path: Path) -> None:
    path = tmp_path / "console" / "token"
    token = token_in(path)
    assert len(token) == 43 and token_in(path) == token
    assert stat.S_IMODE(path.stat().st_mode) == 0o600 and stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert new_token(path) != token and token_in(path) != token


def test_a_token_that_others_can_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "token"
    new_token(path)
    path.chmod(0o640)
    with pytest.raises(ValueError, match="chmod 600"):
        token_in(path)


@pytest.mark.parametrize("content", ["", "short", "x" * 42 + "!", "a" * 44, "\n\n"])
def test_a_file_that_holds_no_token_is_one_sentence(content: str, tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text(content)
    path.chmod(0o600)
    with pytest.raises(ValueError, match="holds no token"):
        token_in(path)


def test_tokens_are_compared_whatever_their_length() -> None:
    assert same(TOKEN, TOKEN)
    assert not any(same(given, TOKEN) for given in ("", TOKEN[:-1], TOKEN + "T", "t" * 43, "\ud800", "T" * 10**5))


def test_a_session_ends_by_time_by_logging_out_and_by_newer_ones() -> None:
    clock = Clock()
    sessions = Sessions(clock)
    first, second = sessions.begin(), sessions.begin()
    assert sessions.holds(first) and sessions.holds(second) and not sessions.holds("") and first != second
    sessions.end(first)
    assert not sessions.holds(first) and sessions.holds(second)
    clock.now += SESSION_S - 1
    assert sessions.holds(second)
    clock.now += 2
    assert not sessions.holds(second)
    oldest = sessions.begin()
    for _ in range(40):
        sessions.begin()
    assert not sessions.holds(oldest)


def test_the_brake_holds_one_address_and_then_all() -> None:
    clock = Clock()
    brake = Brake(clock=clock)
    for _ in range(5):
        assert brake.wait_s("a") == 0
        brake.failed("a")
    assert brake.wait_s("a") == 60 and brake.wait_s("b") == 0
    clock.now += 61
    assert brake.wait_s("a") == 0
    for number in range(50):
        brake.failed(f"address {number}")
    assert brake.wait_s("one that never failed") > 0


@pytest.mark.parametrize("path", [*PAGES, "/nowhere", "/runs/../../etc/passwd", "/live", "/metrics"])
def test_nothing_is_shown_without_a_session(path: str, stranger: TestClient) -> None:
    answer = stranger.get(path)
    assert answer.status_code in (303, 401), path
    assert "site-1" not in answer.text and "demo" not in answer.text
    if answer.status_code == 303:
        assert answer.headers["location"].startswith("/login")


def test_the_right_token_opens_a_session_that_scripts_and_other_sites_cannot_use(stranger: TestClient) -> None:
    answer = stranger.post("/login", data={"token": f" {TOKEN} ", "after": "/runs/demo"})
    assert (answer.status_code, answer.headers["location"]) == (303, "/runs/demo")
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie and "SameSite=strict" in cookie and "Path=/" in cookie and TOKEN not in cookie
    assert stranger.get("/runs/demo").status_code == 200


@pytest.mark.parametrize("token", ["", "wrong", METRICS_TOKEN, TOKEN[:-1], "<script>", "\0"])
def test_a_wrong_token_is_refused_and_not_repeated(token: str, served: tuple[Console, TestClient],
                                                  stranger: TestClient) -> None:
    served[0].brake._failed.clear()
    answer = stranger.post("/login", data={"token": token})
    assert answer.status_code == 403 and "set-cookie" not in answer.headers
    assert "not the console&#39;s token" in answer.text and (not token or f'value="{token}"' not in answer.text)
    served[0].brake._failed.clear()


def test_after_five_wrong_tokens_not_even_the_right_one_is_taken(served: tuple[Console, TestClient],
                                                                stranger: TestClient) -> None:
    served[0].brake._failed.clear()
    for _ in range(5):
        assert stranger.post("/login", data={"token": "wrong"}).status_code == 403
    answer = stranger.post("/login", data={"token": TOKEN})
    assert answer.status_code == 429 and 0 < int(answer.headers["retry-after"]) <= 60
    served[0].brake._failed.clear()
    log_in(stranger)


def test_logging_out_ends_the_session_at_the_server(client: TestClient) -> None:
    name, value = next(iter(client.cookies.items()))
    assert client.post("/logout").status_code == 303
    client.cookies.set(name, value, domain="127.0.0.1")
    assert client.get("/").status_code == 303


@pytest.mark.parametrize("after", ["//evil.example", "https://evil.example", "/\\evil.example", "/runs//evil",
                                   "javascript:alert(1)", "/login", "/runs/a\nb", "/runsé"])
def test_a_login_leads_nowhere_else(after: str, stranger: TestClient, served: tuple[Console, TestClient]) -> None:
    served[0].brake._failed.clear()
    assert stranger.post("/login", data={"token": TOKEN, "after": after}).headers["location"] in ("/", "/runs/a")
    assert f'value="{after}"' not in stranger.get("/login", params={"after": after}).text


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8444", "127.0.0.1", "127.0.0.1:80", "localhost:8445",
                                  "127.0.0.1.evil.example:8444", "", "127.0.0.1:8444, evil.example", "[::1]"])
def test_another_host_name_is_refused_before_anything_else(host: str, client: TestClient) -> None:
    for path in ("/", "/login", "/static/console.css", "/metrics", "/live"):
        answer = client.get(path, headers={"host": host})
        assert answer.status_code == 421 and "demo" not in answer.text
        assert answer.headers["content-security-policy"] == CONTENT_POLICY


@pytest.mark.parametrize("host", ["127.0.0.1:8444", "localhost:8444", "LOCALHOST:8444", "[::1]:8444"])
def test_its_own_names_are_answered(host: str, stranger: TestClient) -> None:
    assert stranger.get("/login", headers={"host": host}).status_code == 200


def test_the_names_of_an_address() -> None:
    assert host_names("10.1.2.3", 9, ["Console.Example:443"]) == {"10.1.2.3:9", "console.example:443"}
    assert host_names("fd00::1", 9) == {"[fd00::1]:9"}


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "CONNECT"])
@pytest.mark.parametrize("path", [*PAGES, "/metrics", "/live", "/static/console.css"])
def test_nothing_can_be_changed(method: str, path: str, client: TestClient) -> None:
    answer = client.request(method, path)
    assert answer.status_code == 405 and answer.headers["allow"] == "GET, HEAD"


@pytest.mark.parametrize("headers", [{"origin": "https://evil.example"}, {"origin": "null"},
                                     {"origin": "http://127.0.0.1:9999"}, {"sec-fetch-site": "cross-site"},
                                     {"sec-fetch-site": "same-site"}])
def test_a_form_of_another_page_is_refused(headers: dict[str, str], stranger: TestClient) -> None:
    answer = stranger.post("/login", data={"token": TOKEN}, headers=headers)
    assert answer.status_code == 403 and "set-cookie" not in answer.headers


def test_our_own_form_is_taken(stranger: TestClient, served: tuple[Console, TestClient]) -> None:
    served[0].brake._failed.clear()
    answer = stranger.post("/login", data={"token": TOKEN}, headers={"origin": URL, "sec-fetch-site": "same-origin"})
    assert answer.status_code == 303


def test_a_long_body_is_refused_unread(stranger: TestClient) -> None:
    assert stranger.post("/login", content=b"token=" + b"x" * 5000).status_code == 413


@pytest.mark.parametrize("path", [*PAGES, "/login", "/nowhere", "/static/console.js", "/static/nothing", "/metrics"])
def test_every_answer_carries_the_headers(path: str, client: TestClient) -> None:
    headers = client.get(path).headers
    assert headers["content-security-policy"] == CONTENT_POLICY and "unsafe" not in CONTENT_POLICY
    assert CONTENT_POLICY.startswith("default-src 'none'") and "frame-ancestors 'none'" in CONTENT_POLICY
    assert (headers["x-content-type-options"], headers["x-frame-options"]) == ("nosniff", "DENY")
    assert "server" not in headers
    if not path.startswith("/static/"):
        assert headers["cache-control"] == "no-store"


@pytest.mark.parametrize("path", ["/static/../app.py", "/static/%2e%2e/app.py", "/static/..%2fapp.py", "/static/"])
def test_only_static_files_are_served_as_files(path: str, client: TestClient) -> None:
    assert client.get(path).status_code in (303, 404)
    assert "Starlette" not in client.get(path).text


def test_over_tls_the_cookie_is_bound_to_the_host_and_to_tls(recorded_home: Path, tmp_path: Path) -> None:
    with serving(recorded_home, tmp_path, imported=False, secure=True) as (_, client):
        answer = client.post("/login", data={"token": TOKEN}, headers={"origin": "https://127.0.0.1:8444"})
        assert answer.headers["set-cookie"].startswith("__Host-coordinator-console=")
        assert "Secure" in answer.headers["set-cookie"] and "strict-transport-security" in answer.headers
        refused = client.post("/login", data={"token": TOKEN}, headers={"origin": "http://127.0.0.1:8444"})
        assert refused.status_code == 403


def test_no_token_and_no_cookie_is_logged(stranger: TestClient, served: tuple[Console, TestClient],
                                          caplog: pytest.LogCaptureFixture) -> None:
    served[0].brake._failed.clear()
    with caplog.at_level(logging.DEBUG):
        stranger.post("/login", data={"token": "wrong-" + TOKEN})
        log_in(stranger)
        stranger.get("/", params={"token": TOKEN})
        stranger.get("/metrics", headers={"authorization": f"Bearer {METRICS_TOKEN}"})
    cookie = next(iter(stranger.cookies.values()))
    said = [record.getMessage() for record in caplog.records if record.name.startswith("coordinator")]
    assert "login refused" in said and "login" in said
    assert not any(secret in text for text in said for secret in (TOKEN, METRICS_TOKEN, cookie))
    served[0].brake._failed.clear()
