"""Prints, as JSON, what the installed Flower is like where `privacy.transport.flower_internals` relies on it.

A process of its own, because Flower must be imported after `prepare`, with its timing.
"""

from __future__ import annotations

import asyncio
import inspect
import json
import sys
import tempfile
import time
from base64 import b64encode
from hashlib import sha256
from pathlib import Path
from typing import Any

from privacy.transport.app_bundle import app_bundle, bundle_hash
from privacy.transport.flower_internals import hub, process
from privacy.transport.flower_internals.process import prepare
from privacy.transport.listeners import PrivateListener, PublicListener
from privacy.transport.timing import Pace, Timing
from tests.federation.node_facts import contents, node_facts, of, parameters, stored


def main() -> None:
    home = Path(tempfile.mkdtemp())
    timing = Timing() if sys.argv[1] == "default" else Timing(heartbeat_s=2.0)
    prepare(timing, home)
    print(json.dumps({
        **_constants(), **_names(), **_node_state(home), **_node_loop(timing), **_bundle(), **_routes(home),
        **_direct(home), **_spared(home), **_parts(home), **node_facts(),
        **_quiet(home)}))


def _constants() -> dict[str, Any]:
    constant, heartbeat = of("flwr.common.constant"), of("flwr.supercore.heartbeat")
    state, connection = of("flwr.supercore.corestate.sql_corestate"), of("flwr.supernode.fleet_http_connection")
    return {
        "default": constant.HEARTBEAT_DEFAULT_INTERVAL, "least": constant.HEARTBEAT_MIN_INTERVAL,
        "call": constant.HEARTBEAT_CALL_TIMEOUT, "patience": constant.HEARTBEAT_PATIENCE,
        "everywhere": sorted({heartbeat.HEARTBEAT_DEFAULT_INTERVAL, state.HEARTBEAT_DEFAULT_INTERVAL,
                              connection.HEARTBEAT_DEFAULT_INTERVAL}),
        "hub": constant.SUPERLINK_NODE_ID, "account": constant.NOOP_FLWR_AID}


def _names() -> dict[str, Any]:
    """Everything that `flower_internals` imports or calls, with the parameters that it passes."""
    node, link = of("flwr.supernode.runtime.run_clientapp"), of("flwr.superlink.grid").HttpGrid
    state = of("flwr.server.superlink.linkstate.sql_linkstate").SqlLinkState
    return {
        "pull_task_input": parameters(node.pull_task_input), "push_message": parameters(node.push_message),
        "push_task_output": parameters(node.push_task_output), "grid": parameters(link.__init__),
        "create_app": parameters(of("flwr.superlink.main").create_app),
        "lifespan": callable(of("flwr.superlink.cli.flower_superlink").SuperLinkLifespan),
        "config": parameters(of("flwr.superlink.config_loader").SuperLinkLifespanConfig),
        "create_node": parameters(state.create_node), "delete_node": parameters(state.delete_node),
        "get_node_info": parameters(state.get_node_info), "activate_node": parameters(state.activate_node),
        "deactivate_node": parameters(state.deactivate_node),
        "send": parameters(of("flwr.supernode.fleet_http_client").FleetHttpClient._unary_unary),
        "retry": parameters(of("flwr.supercore.retry").RetryInvoker.__init__),
        "identity": _identity(),
        "version": of("flwr.supercore.version").package_version == process.FLOWER_VERSION}


def _identity() -> list[int]:
    process.be_in_process(7, 8, 9)
    identity = of("flwr.supercore.task_identity").TaskIdentity
    return [identity.run_id, identity.task_id, identity.node_id]


def _node_state(home: Path) -> dict[str, Any]:
    """A node that is online and comes again: refused and marked offline at first, admitted at the next try."""
    factory = of("flwr.server.superlink.linkstate.linkstate_factory").LinkStateFactory
    lifespan = of("flwr.superlink.cli.flower_superlink").SuperLinkLifespan
    app = of("flwr.superlink.main").create_app(_config(home), lifespan)
    state = app.state.linkstate_factory.state()
    assert isinstance(app.state.linkstate_factory, factory)
    original = type(state).activate_node
    wanted = {"site-1": b"key one", "site-2": b"key two"}
    find = type(state).get_node_id_by_public_key
    door = hub._doorkeeper(state, lambda: dict(wanted))
    door.look()
    node = {bytes(one.public_key): one.node_id for one in state.get_node_info()}
    plain = [state.activate_node(node[b"key one"], 30), state.activate_node(node[b"key one"], 30)]
    hub._let_nodes_come_back(type(state))
    ours = [state.activate_node(node[b"key one"], 30), state.activate_node(node[b"key one"], 30)]
    type(state).activate_node = original
    names = sorted(one.name for one in state.get_node_info(statuses=["registered", "online", "offline"]))
    revoked = wanted.pop("site-1")
    wanted["site-3"] = b"key three"
    door.look()
    left = [name for name, key in (("site-1", revoked), ("site-2", b"key two"), ("site-3", b"key three"))
            if state.get_node_id_by_public_key(key) is not None]
    wanted["site-1"] = revoked
    door.look()
    back = state.get_node_id_by_public_key(revoked) == node[revoked]
    type(state).get_node_id_by_public_key = find
    return {"plain": plain, "coming_back": ours, "admitted": names, "still_in": left, "back": back}


def _config(home: Path) -> Any:
    return hub._hub_config(
        PrivateListener(1, "00" * 32),
        PublicListener("127.0.0.1", 2, home / "c", home / "k", hub.FLEET_ROUTES), home / "hub.sqlite")


def _node_loop(timing: Timing) -> dict[str, Any]:
    """The waits of the SuperNode's loop, as the source has them, and that they go through the module's `time`."""
    loop = of("flwr.supernode.start_client_internal")
    source = inspect.getsource(loop)
    waits = sorted(line.strip() for line in source.splitlines() if "time.sleep(" in line)
    slept: list[float] = []
    time.sleep = slept.append  # type: ignore[assignment]
    pace = Pace(timing)
    for _ in range(40):
        pace.sleep(3)
    pace._last -= timing.busy_s + 1
    pace.sleep(3)
    pace.sleep(0.5)
    slept = [slept[0], slept[1], slept[39], slept[40], slept[41]]
    asked = source.split("def start_client_internal", 1)[1]
    return {"waits": waits, "slept": slept, "wrapped": "_push_messages(" in asked,
            "arguments": "argv" in inspect.getsource(of("flwr.supernode.cli.flower_supernode"))}


def _bundle() -> dict[str, Any]:
    release = "ab" * 32
    data = app_bundle(release)
    read = of("flwr.common.config").get_fab_config(data)
    return {"bundle": read["tool"]["flwr"]["app"], "bundle_hash": bundle_hash(release) == sha256(data).hexdigest()}


def _routes(home: Path) -> dict[str, Any]:
    router = of("flwr.superlink.routers.fleet.router").router
    return {"fleet": sorted(route.path for route in router.routes), "ours": sorted(hub.FLEET_ROUTES)}


def _direct(home: Path) -> dict[str, Any]:
    """What Flower's own application and ours say to the same requests, of a node and of strangers."""
    folder = home / "direct"
    folder.mkdir()
    app = of("flwr.superlink.main").create_app(
        _config(folder), of("flwr.superlink.cli.flower_superlink").SuperLinkLifespan)
    state = app.state.linkstate_factory.state()
    node = Node(state)
    ours = hub._directly(app, state)
    proto, objects = of("flwr.proto.fleet_pb2"), of("flwr.proto.message_pb2")
    pull = proto.PullMessagesRequest(node=node.proto)
    lacking = objects.PullObjectRequest(node=node.proto, run_id=5, object_id="ab" * 32)
    said = []
    for name, message, headers in (
            ("pull-messages", pull, node.signed()), ("pull-messages", pull, {}),
            ("pull-messages", pull, Node(state, known=False).signed()),
            ("pull-messages", pull, {**node.signed(), "content-type": "text/plain"}),
            ("pull-messages", proto.PullMessagesRequest(), node.signed()), ("pull-messages", b"\xff", node.signed()),
            ("pull-object", lacking, node.signed()), ("push-messages", proto.PushMessagesRequest(node=node.proto),
                                                      node.signed())):
        body = message if isinstance(message, bytes) else message.SerializeToString()
        said.append([asyncio.run(ask(one, f"/v1/fleet/{name}", body, headers)) for one in (app, ours)])
    said += [[asyncio.run(ask(one, f"/v1/runtime/{name}", b"", headers)) for one in (app, ours)]
             for name in hub._HOT for headers in ({}, {"flwr-task-token": "00" * 16})]
    return {"direct": said, "hot": len(ours._routes)}


class Node:
    """A site's node: a key that the hub knows, or does not, and the headers that it signs."""

    def __init__(self, state: Any, known: bool = True) -> None:
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric import ec

        self.key = ec.generate_private_key(ec.SECP384R1())
        self.public = self.key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
        number = state.create_node("", "", self.public, 30, name="site") if known else 7
        if known:
            state.activate_node(number, 30)
        self.proto = of("flwr.proto.node_pb2").Node(node_id=number)

    def signed(self) -> dict[str, str]:
        constant = of("flwr.supercore.constant")
        stamp = of("flwr.supercore.date").now().isoformat()
        signature = of("flwr.supercore.primitives.asymmetric").sign_message(self.key, stamp.encode())
        return {constant.FLEET_HTTP_PUBLIC_KEY_HEADER: b64encode(self.public).decode(),
                constant.FLEET_HTTP_SIGNATURE_HEADER: b64encode(signature).decode(),
                of("flwr.common.constant").TIMESTAMP_HEADER: stamp}


async def ask(app: Any, path: str, body: bytes, headers: dict[str, str]) -> list[Any]:
    """Status, content type and body (hex) of the answer to a POST."""
    sent: list[dict[str, Any]] = []
    parts = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive() -> dict[str, Any]:
        return parts.pop() if parts else {"type": "http.disconnect"}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    named = {"content-type": of("flwr.supercore.protobuf.constants").PROTOBUF_MEDIA_TYPE, **headers}
    await app({"type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "POST", "path": path,
               "raw_path": path.encode(), "query_string": b"", "root_path": "", "scheme": "http", "state": {},
               "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 2),
               "headers": [(key.lower().encode(), value.encode()) for key, value in named.items()]}, receive, send)
    kind = dict(sent[0]["headers"]).get(b"content-type", b"").decode()
    return [sent[0]["status"], kind, b"".join(one.get("body", b"") for one in sent[1:]).hex()]


def _spared(home: Path) -> dict[str, Any]:
    """How often the database is asked, of ten times, when `_spare_the_database` holds; what is not running is asked."""
    status = of("flwr.supercore.run").RunStatus
    asked = {"clean": 0, "running": 0, "finished": 0}

    class State:
        def _cleanup_expired_task_tokens(self) -> None:
            asked["clean"] += 1

        def get_run_status(self, run_ids: set[int]) -> dict[int, Any]:
            (run,) = run_ids
            name = "running" if run == 1 else "finished"
            asked[name] += 1
            return {run: status(name, "", "")}

        store_traffic = None

    real = of("flwr.server.superlink.linkstate.sql_linkstate").SqlLinkState
    hub._spare_the_database(State)
    for _ in range(10):
        State()._cleanup_expired_task_tokens()
        assert State().get_run_status({1})[1].status == "running"
        State().get_run_status({2})
    return {"spared": asked, "traffic": parameters(real.store_traffic) == parameters(State.store_traffic),
            "spares": [parameters(getattr(real, name)) for name in ("_cleanup_expired_task_tokens", "get_run_status")]}


def _parts(home: Path) -> dict[str, Any]:
    """What is handed on, and whether as an error: before the reply's head came; with it alone, by Flower and by us;
    with its node away; when all of it is there."""
    folder = home / "parts"
    folder.mkdir()
    state = of("flwr.superlink.main").create_app(
        _config(folder), of("flwr.superlink.cli.flower_superlink").SuperLinkLifespan).state.linkstate_factory.state()
    original = type(state).get_message_res
    node, constant = Node(state), of("flwr.supercore.constant")
    run = state.create_run("a/b", "1", "", {}, constant.NOOP_FEDERATION_ID, None, "", "flwr-serverapp")
    task = state.get_run_info(run_ids=[run])[0].primary_task_id
    process.be_in_process(run, task)
    app = of("flwr.app")
    asked = app.Message(app.RecordDict(), dst_node_id=node.proto.node_id, message_type="query")
    stored(state, run, asked, whole=True)
    process.be_in_process(run, task, node.proto.node_id)
    reply = app.Message(app.RecordDict({"m": app.ConfigRecord({"body": b"1"})}), reply_to=asked)

    def handed() -> list[bool]:
        return [one.has_error() for one in state.get_message_res({asked.metadata.message_id}, run)]

    def looked_at(get: Any) -> list[bool]:
        with state.session() as session:  # and not taken
            found = [one.has_error() for one in get(state, {asked.metadata.message_id}, run)]
            session.rollback()
        return found

    hub._hold_back_parts(type(state))
    said = [handed()]
    session = stored(state, run, reply, whole=False)
    said += [looked_at(original), handed()]
    state.deactivate_node(node.proto.node_id)
    said.append(looked_at(type(state).get_message_res))
    state.activate_node(node.proto.node_id, 30)
    for name, content in contents(reply).items():
        state.store_object(run, session, name, content)
    said.append(handed())
    type(state).get_message_res = original
    return {"parts": said}


def _quiet(home: Path) -> dict[str, Any]:
    telemetry = of("flwr.supercore.telemetry")
    sent: list[str] = []
    telemetry.urllib.request.urlopen = lambda *given, **named: sent.append("telemetry")
    telemetry.event(telemetry.EventType.PING).result(timeout=10)
    updates, asked = of("flwr.supercore.update_check"), []
    for name in ("Thread", "httpx", "requests", "threading"):
        if hasattr(updates, name):
            setattr(updates, name, _Recorder(asked, name))
    updates.warn_if_flwr_update_available()
    return {"telemetry": telemetry.FLWR_TELEMETRY_ENABLED, "sent": sent, "updates": asked,
            "home": str(of("flwr.supercore.utils").get_flwr_home()) == str(home)}


class _Recorder:
    """Stands for a module or class that reaches out, and writes down that it was used."""

    def __init__(self, asked: list[str], name: str) -> None:
        self._asked, self._name = asked, name

    def __getattr__(self, name: str) -> Any:
        self._asked.append(f"{self._name}.{name}")
        return lambda *given, **named: None

    def __call__(self, *given: Any, **named: Any) -> Any:
        self._asked.append(self._name)
        return self


if __name__ == "__main__":
    main()
