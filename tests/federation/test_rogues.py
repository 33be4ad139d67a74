"""Whoever has no business here: a client without credentials on every open port, a coordinator with other code, a site
that answers garbage; and two runs at once."""

from __future__ import annotations

import http.client
import json
import re
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from privacy.transport.health import check_health
from simulations.network_lab import COORDINATOR
from simulations.real_checks import faults_of
from simulations.real_federation import COORDINATOR_KINDS, SITE_KINDS, RealFederation, until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

HERE = Path(__file__).parent
FLEET = ("activate-node", "deactivate-node", "send-node-heartbeat", "pull-messages", "push-messages", "get-run",
         "get-fab", "push-object", "pull-object", "confirm-message-received")
CLOSED = (
    "/v1/fleet/register-node", "/v1/fleet/unregister-node", "/v1/control/start-run", "/v1/control/stop-run",
    "/v1/control/list-runs", "/v1/control/list-nodes", "/v1/control/register-node", "/v1/control/pull-artifacts",
    "/v1/control/get-login-details", "/v1/runtime/acquire-task", "/v1/runtime/get-nodes", "/v1/runtime/push-messages",
    "/v1/runtime/pull-task-input", "/v1/runtime/send-task-heartbeat", "/docs", "/redoc", "/openapi.json", "/",
    "/metrics", "/v1/fleet/", "/v1/fleet/../control/list-runs", "//v1/control/list-runs",
    "/health/../v1/control/list-runs", "/v1/fleet/pull-messages/", "/%76%31/control/list-runs")


def _argument(pid: int, name: str) -> str:
    words = Path(f"/proc/{pid}/cmdline").read_text().split("\0")
    return words[words.index(name) + 1]


def _ask(connection: http.client.HTTPConnection, path: str, method: str = "POST", body: bytes = b"",
         headers: dict[str, str] | None = None) -> tuple[int, bytes]:
    with closing(connection):
        connection.request(method, path, body=body, headers={
            "content-type": "application/protobuf", **(headers or {})})
        answer = connection.getresponse()
        return answer.status, answer.read()


def _public(federation: RealFederation) -> http.client.HTTPSConnection:
    host, _, port = federation.address.rpartition(":")
    trust = ssl.create_default_context(cafile=str(federation.home / "tls" / "ca.crt"))
    return http.client.HTTPSConnection(host, int(port), timeout=20, context=trust)


def _private_port(federation: RealFederation) -> int:
    return int(_argument(federation.pid("superlink"), "--port"))


@pytest.mark.parametrize("path", CLOSED)
@pytest.mark.parametrize("method", ["POST", "GET"])
def test_the_public_port_has_nothing_but_the_fleets_routes(federation: RealFederation, path: str, method: str) -> None:
    assert _ask(_public(federation), path, method) == (404, b"")


@pytest.mark.parametrize("name", FLEET)
def test_the_fleets_routes_ask_for_an_enrolled_nodes_signature(federation: RealFederation, name: str) -> None:
    status, _ = _ask(_public(federation), f"/v1/fleet/{name}")
    assert status == 401


def test_the_public_port_speaks_tls_only_and_answers_its_health(federation: RealFederation) -> None:
    assert _ask(_public(federation), "/health", "GET")[0] == 200
    host, _, port = federation.address.rpartition(":")
    with pytest.raises((ConnectionError, http.client.HTTPException)):
        _ask(http.client.HTTPConnection(host, int(port), timeout=20), "/health", "GET")


def test_a_body_too_large_or_of_unknown_length_is_not_read(federation: RealFederation) -> None:
    assert _ask(_public(federation), "/v1/fleet/push-object", headers={"content-length": str(1 << 30)})[0] == 413


@pytest.mark.parametrize("path", [*CLOSED[2:11], "/health", *(f"/v1/fleet/{name}" for name in FLEET)])
def test_the_private_port_answers_nobody_without_its_secret(federation: RealFederation, path: str) -> None:
    port = _private_port(federation)
    for secret in ({}, {"x-coordinator-secret": "0" * 64}, {"x-coordinator-secret": ""}):
        assert _ask(http.client.HTTPConnection("127.0.0.1", port, timeout=20), path, headers=secret) == (401, b"")


def test_the_secrets_are_their_owners_alone(federation: RealFederation) -> None:
    secrets = [federation.home / "log" / "private.secret"]
    secrets += [federation.state(site) / "executor.secret" for site in federation.site_ids]
    assert {path.stat().st_mode & 0o777 for path in secrets} == {0o600}


def _node_port(federation: RealFederation, site: str) -> int:
    """Once it listens: a node that has just been started counts as running before it does."""
    port, end = int(_argument(federation.pid("node", site), "--port")), time.monotonic() + 120
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=5).close()
            return port
        except ConnectionRefusedError:
            assert time.monotonic() < end, f"the node of {site} does not listen"
            time.sleep(0.2)


def test_a_sites_port_gives_no_task_without_the_secret(federation: RealFederation) -> None:
    port = _node_port(federation, "site-1")
    for path in ("/v1/runtime/acquire-task", "/v1/runtime/pull-task-input", "/v1/runtime/push-messages"):
        status, _ = _ask(http.client.HTTPConnection("127.0.0.1", port, timeout=20), path)
        assert status in (401, 403), path


def test_nothing_else_listens_and_only_the_hub_beyond_loopback(federation: RealFederation) -> None:
    nodes = {f"127.0.0.1:{_node_port(federation, site)}" for site in federation.site_ids}
    listening = subprocess.run(["ss", "-Htlnp"], capture_output=True, text=True, check=True).stdout.splitlines()
    pids = {str(federation.pid(kind)) for kind in COORDINATOR_KINDS}
    pids |= {str(federation.pid(kind, site)) for kind in SITE_KINDS for site in federation.site_ids}
    ours = {re.sub(r"\[::ffff:(.*)\]", r"\1", line.split()[3]) for line in listening
            if pids & set(re.findall(r"pid=(\d+)", line))}
    health = {f"127.0.0.1:{port}" for port in federation.health_ports.values()}
    assert ours == {federation.address, f"127.0.0.1:{_private_port(federation)}"} | nodes | health


def test_every_health_port_says_that_it_serves(federation: RealFederation) -> None:
    for port in federation.health_ports.values():
        assert check_health(port) == ("SERVING", "")


def _files(federation: RealFederation) -> set[Path]:
    return {path for site in federation.site_ids for path in federation.state(site).rglob("*") if path.is_file()}


def test_code_that_the_coordinator_sends_is_refused_and_never_written(federation: RealFederation) -> None:
    """Through the private port, with its secret: the strongest coordinator there is."""
    before, asked = _files(federation), {site: federation.booked(site) for site in federation.site_ids}
    done = subprocess.run(
        [sys.executable, str(HERE / "rogue_coordinator.py"), str(_private_port(federation)),
         str(federation.home / "log" / "private.secret"), str(federation.folder / "rogue-home")],
        env=federation.environment_of(), capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr[-1500:]
    answers = json.loads(done.stdout.splitlines()[-1])
    assert answers == [["P_RELEASE", "nobody"]] * 4
    for site in federation.site_ids:
        assert [message for number, _, message in federation.replies(site) if number > asked[site]] == ["ErrorReply"]
        assert not list(federation.state(site).rglob("apps"))
        assert not list(federation.state(site).rglob("*stolen*"))
    assert _files(federation) - before <= {
        federation.state(site) / name for site in federation.site_ids for name in ("transport.json", "flower/source")}


@contextmanager
def _garbage_site(federation: RealFederation, site: str, steps: str) -> Iterator[None]:
    """The site's executor answers `steps` with random bytes."""
    federation.end(site)
    federation.environment[site] = {"GARBAGE_STEPS": steps, "PYTHONPATH": str(HERE / "garbage")}
    federation.begin(site)
    federation.wait_until_ready(site)
    try:
        yield
    finally:
        federation.end(site)
        del federation.environment[site]
        federation.begin(site)
        federation.wait_until_ready(site)


@pytest.mark.parametrize(("steps", "reason"), [
    ("sa_mask", "sa_mask: E_FORMAT"),
    *(pytest.param(step, f"{step}: E_FORMAT", marks=pytest.mark.faults) for step in ("sa_train", "sa_result"))])
def test_a_site_that_answers_garbage_is_left_out_and_named(federation: RealFederation, steps: str, reason: str) -> None:
    with _garbage_site(federation, "site-4", steps):
        run = federation.launch(f"garbage-{steps.replace('_', '-')}", rounds=1)
        federation.wait(run, timeout_s=500)
        last = federation.history(run)[-1]
        assert last["missing"] == {"site-4": reason}
        assert last["attested"] == ["site-1", "site-2", "site-3"]
        assert not faults_of(federation, run, 1)


def test_garbage_at_the_door_is_named_as_well(federation: RealFederation) -> None:
    with _garbage_site(federation, "site-4", "hello"):
        run = federation.launch("garbage-hello", rounds=1)
        federation.wait(run, timeout_s=500)
        events = [json.loads(line) for line in (federation.queue.folder(run) / "progress.jsonl").open()]
        assert [event["refused"] for event in events if event["event"] == "cohort"][-1] == ["site-4 (hello: E_FORMAT)"]
        assert federation.history(run)[-1]["summed"] == ["site-1", "site-2", "site-3"]


def test_of_two_runs_the_second_waits_and_both_finish(federation: RealFederation) -> None:
    rounds = {"one": 4, "two": 2}
    first, second = (federation.launch(run, rounds=number, detach=True) for run, number in rounds.items())
    federation.wait(first, "running", timeout_s=60)
    assert federation.queue.get(second).state == "queued"
    federation.wait(first, timeout_s=600)
    federation.wait(second, timeout_s=600)
    for run, number in rounds.items():
        assert [entry["summed"] for entry in federation.history(run)] == [list(federation.site_ids)] * number
        assert not faults_of(federation, run, 0)


def test_a_second_process_of_one_folder_is_refused_in_a_sentence(federation: RealFederation) -> None:
    said = federation.command("coordinator", "up", "C", check=False)
    assert "runs already for" in said and "Traceback" not in said
    said = federation.command("site-client", "start", str(federation.site_file("site-1")), check=False)
    assert "runs already for site-1" in said and "Traceback" not in said
    assert federation.status(COORDINATOR)["ready"]
    until(lambda: "site-1 still ready", lambda: federation.status("site-1")["ready"], 10)
