"""What `privacy.transport.flower_internals` assumes of the pinned Flower, and one run with the real timings."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from simulations.materials import Materials
from simulations.real_checks import faults_of
from simulations.real_federation import RealFederation

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

ROOT = Path(__file__).resolve().parent.parent.parent


def _facts(timing: str) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("flower_facts.py")), timing], check=False, capture_output=True,
        text=True, timeout=120, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stderr[-2000:]
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.fixture(scope="module")
def facts() -> dict[str, Any]:
    """With the default timings."""
    return _facts("default")


@pytest.fixture(scope="module")
def short() -> dict[str, Any]:
    """With a heartbeat of two seconds."""
    return _facts("short")


def test_the_release_is_the_one_that_this_was_written_against(facts: dict[str, Any]) -> None:
    assert facts["version"]


def test_the_defaults_are_flowers_own(facts: dict[str, Any]) -> None:
    assert (facts["default"], facts["least"], facts["call"], facts["patience"]) == (30, 10, 5, 2)
    assert facts["everywhere"] == [30]


def test_a_heartbeat_set_before_the_import_is_in_every_module(short: dict[str, Any]) -> None:
    """Hub, node and heartbeat threads each copy the constant when they are imported."""
    assert short["everywhere"] == [2]
    assert (short["least"], short["call"]) == (2, 1)


@pytest.mark.parametrize(("function", "parameters"), [
    ("pull_task_input", ["client"]),
    ("push_message", ["client", "message", "context"]),
    ("push_task_output", ["client", "context", "sub_status", "details"]),
    ("grid", ["self", "runtime_api_address", "insecure", "root_certificates", "token"]),
    ("create_app", ["config", "superlink_lifespan_class"]),
    ("create_node", ["self", "owner_aid", "owner_name", "public_key", "heartbeat_interval", "location", "name"]),
    ("delete_node", ["self", "owner_aid", "node_id"]),
    ("get_node_info", ["self", "node_ids", "owner_aids", "statuses"]),
    ("activate_node", ["self", "node_id", "heartbeat_interval"]),
    ("deactivate_node", ["self", "node_id"]),
    ("send", ["self", "path", "rpc_method", "request", "response_type", "timeout"]),
    ("config", [
        "control_address", "health_server_address", "host", "port", "insecure", "certificates",
        "superexec_auth_secret", "authn_plugin", "event_log_plugin", "fleet_event_log_plugin", "enable_event_log",
        "artifact_provider", "enable_supernode_auth", "fleet_api_type", "fleet_api_address", "simulation",
        "ssl_ca_certfile", "ssl_certfile", "ssl_keyfile", "database", "isolation", "runtime_dependency_install"]),
])
def test_signatures(facts: dict[str, Any], function: str, parameters: list[str]) -> None:
    assert facts[function] == parameters


def test_retries_take_a_wait_and_the_errors_to_retry(facts: dict[str, Any]) -> None:
    assert {"wait_gen_factory", "recoverable_exceptions", "max_tries", "max_time"} <= set(facts["retry"])


def test_the_sender_of_messages_is_the_processes(facts: dict[str, Any]) -> None:
    assert facts["identity"] == [7, 8, 9]
    assert facts["hub"] == 1


def test_the_public_routes_are_the_fleets_without_registration(facts: dict[str, Any]) -> None:
    own = {"/v1/fleet/register-node", "/v1/fleet/unregister-node"}
    assert own <= set(facts["fleet"])  # nobody registers by himself: only enrolled keys are admitted
    assert set(facts["ours"]) == set(facts["fleet"]) - own | {"/health"}


def test_flower_refuses_a_node_that_still_counts_as_online(facts: dict[str, Any]) -> None:
    assert facts["plain"] == [True, False]


def test_with_us_it_is_offline_first_and_admitted_at_the_next_try(facts: dict[str, Any]) -> None:
    assert facts["coming_back"] == [False, True]


def test_only_enrolled_keys_are_admitted_under_their_sites_names(facts: dict[str, Any]) -> None:
    assert facts["admitted"] == ["site-1", "site-2"]
    assert facts["still_in"] == ["site-2", "site-3"]  # a key that is revoked goes, and keeps nobody else out
    assert facts["back"]  # one that is wanted again is in again, as the same node


def test_the_nodes_loop_has_the_waits_that_are_shortened(facts: dict[str, Any]) -> None:
    assert facts["waits"] == ["time.sleep(0.5)", "time.sleep(0.5)", "time.sleep(3)"]
    assert facts["slept"] == pytest.approx([0.05, 0.0575, 0.3, 2.0, 0.5])  # growing; busy: up to 0.3; idle: 2, or less
    assert facts["wrapped"]


def test_a_hot_route_says_what_flowers_own_would(facts: dict[str, Any]) -> None:
    """To a node, to strangers, to another content type, to bytes that are no message, to tokens of no task."""
    assert facts["hot"] == 10
    assert [flowers for flowers, _ in facts["direct"]] == [ours for _, ours in facts["direct"]]
    assert [ours[0] for _, ours in facts["direct"]] == [200, 401, 401, 415, 401, 400, 500, 500] + [401] * 10


def test_the_database_is_spared_what_need_not_be_asked(facts: dict[str, Any]) -> None:
    assert facts["spared"] == {"clean": 1, "running": 1, "finished": 10}  # only "running" is believed for a moment
    assert facts["traffic"]
    assert facts["spares"] == [["self"], ["self", "run_ids"]]


def test_a_reply_is_handed_on_when_all_of_it_has_come(facts: dict[str, Any]) -> None:
    """Found by killing an executor: its node had sent the head of a reply, and the run stood still for minutes."""
    before, flowers, ours, away, whole = facts["parts"]
    assert (before, flowers) == ([], [False])
    assert (ours, away, whole) == ([], [True], [False])  # True: the error that says that the node is gone


def test_no_reply_is_left_behind_and_no_message_of_a_run_that_ended(facts: dict[str, Any]) -> None:
    """Found by killing `up`: a site's replies came one message too late from then on, and the last one never."""
    nothing, failed, replied, sent = facts["left"]  # of each: the run, messages and objects that are held
    assert (nothing, failed) == ([7, 0, 0], [None, 0, 0])
    assert replied[:2] == [5, 1] and sent[:2] == [None, 1]
    assert (facts["takes"], facts["pushes"], facts["by_name"]) == ("state", "state", True)


def test_a_reply_of_which_a_part_was_lost_is_not_waited_for_without_an_end(facts: dict[str, Any]) -> None:
    """Found by freezing a site for longer than a request may take: its node waited for ever, and counted as online."""
    flowers, ours = facts["lost_rest"]  # what is sent (True: an error): with the head, with the rest, at the task's end
    assert flowers == [[False], [], [False]]  # the head: whoever sends it waits for a rest that never comes
    assert ours == [[], [False], [True]]


def test_a_message_that_was_lost_on_its_way_to_the_executor_is_answered_with_an_error(facts: dict[str, Any]) -> None:
    flowers, ours = facts["lost_message"]  # before and after the task's end; and while another task may yet take it
    assert flowers == [[], [], []]
    assert ours == [[], [True], []]


def test_flower_can_read_the_bundle(facts: dict[str, Any]) -> None:
    assert facts["bundle"]["components"] == {"serverapp": "coordinator.app:app", "clientapp": "site_client.app:app"}
    assert facts["bundle_hash"]


def test_nothing_is_told_to_flowers_makers(facts: dict[str, Any]) -> None:
    assert facts["telemetry"] == "0"
    assert facts["sent"] == [] and facts["updates"] == []
    assert facts["home"]  # nothing is read from the user's folder, or left there


def test_a_run_with_the_real_heartbeat_and_polling(materials: Materials, tmp_path: Path) -> None:
    """Every other test here shortens them."""
    with RealFederation(tmp_path / "federation", materials, timing={}) as federation:
        run = federation.launch("unhurried", rounds=2)
        federation.wait(run, "finished", "failed", timeout_s=600)
        assert federation.queue.get(run).state == "finished"
        assert [entry["summed"] for entry in federation.history(run)] == [list(federation.site_ids)] * 2
        assert not faults_of(federation, run, 0)


def test_requests_follow_no_redirect_and_use_no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Found in a review: a hub could send a site's node to any address inside the hospital."""
    code = ("from privacy.transport.flower_internals.process import prepare\n"
            "from privacy.transport.timing import Timing\nprepare(Timing())\n"
            "from flwr.supercore.runtime import RuntimeHttpClient as C\n"
            "c = C.from_server_address(server_address='127.0.0.1:1', insecure=True, root_certificates=None, "
            "interceptors=[])\nprint(c._client.follow_redirects, c._client.trust_env)")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout.strip() == "False False"
