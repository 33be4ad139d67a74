"""Every use of a module of Flower that is not public. Written against flwr 1.41.0; a conformance test holds it there.

*Guarantees.*
    * A request of Flower's goes to the address that it was made for: no redirect, no proxy of the environment.
    * The node sends no duration of ours: Flower's own report of how long a message took is always 0.
    * Telemetry, update checks and run-time installation are off before Flower is imported (`prepare`).
    * A task's bundle is returned by its hash and is never written or imported.

*Assumes.* `prepare` runs before anything else of Flower in the process; timings are those of one process.

*Does not cover.* Authenticity: Flower's node signature covers a time stamp only, so every message of ours carries its
own signature.
"""

from __future__ import annotations

import hashlib
import importlib
import os
import sys
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import uvloop

from privacy.transport.app_bundle import RUN_KEY
from privacy.transport.listeners import SECRET_HEADER, PrivateListener, PublicListener, serve_both
from privacy.transport.timing import NodeOptions, Timing

__all__ = [
    "FLEET_ROUTES", "FLOWER_VERSION", "HubControl", "NodeOptions", "NodeTask", "NodeTasks", "Timing", "as_wire",
    "be_in_process", "from_wire", "prepare", "run_node", "serve_hub"]

FLOWER_VERSION = "1.41.0"
FLEET_ROUTES: frozenset[str] = frozenset(f"/v1/fleet/{name}" for name in (
    "activate-node", "deactivate-node", "send-node-heartbeat", "pull-messages", "push-messages", "get-run", "get-fab",
    "push-object", "pull-object", "confirm-message-received")) | {"/health"}
_QUIET = {"FLWR_TELEMETRY_ENABLED": "0", "FLWR_DISABLE_UPDATE_CHECK": "1", "RAY_USAGE_STATS_ENABLED": "0",
          "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1", "FLWR_OIDC_ENABLED": "0"}
_IDLE_LAYERS = {"ControlSensitiveResponseMiddleware", "ControlLicenseMiddleware", "RuntimeTracingMiddleware",
                "ControlEventLogMiddleware", "FleetEventLogMiddleware"}
_SERVER_APP, _CLIENT_APP = "flwr-serverapp", "flwr-clientapp"


def prepare(timing: Timing, home: Path | None = None) -> None:
    """Set Flower's environment and heartbeat, before any other module of Flower is imported.

    Args:
        home: Flower's own folder; nothing is read from the user's.

    Raises:
        RuntimeError: another version of Flower, or it was imported before with another heartbeat.
    """
    os.environ.update(_QUIET)
    if home is not None:
        os.environ["FLWR_HOME"] = str(home)
    loaded = "flwr.supercore.heartbeat" in sys.modules
    constant: Any = importlib.import_module("flwr.common.constant")
    version = importlib.import_module("flwr.supercore.version").package_version
    if version != FLOWER_VERSION:
        raise RuntimeError(f"flwr {version} is installed and {FLOWER_VERSION} is needed; install the release again")
    if loaded and timing.heartbeat_s != constant.HEARTBEAT_DEFAULT_INTERVAL:
        raise RuntimeError("Flower was imported before its timing was set; call prepare first")
    if not loaded:
        pulls: Any = importlib.import_module("flwr.supercore.constant")  # a message is seen before its objects are
        pulls.PULL_INITIAL_BACKOFF, pulls.PULL_BACKOFF_CAP = 0.03, 2.0  # there: Flower waits 1 s, at each of three hops
        constant.HEARTBEAT_DEFAULT_INTERVAL = timing.heartbeat_s
        constant.HEARTBEAT_MIN_INTERVAL = min(constant.HEARTBEAT_MIN_INTERVAL, timing.heartbeat_s)
        constant.HEARTBEAT_CALL_TIMEOUT = min(constant.HEARTBEAT_CALL_TIMEOUT, timing.heartbeat_s / 2)
    _keep_to_the_address(importlib.import_module("flwr.supercore.protobuf.client").ProtobufClient)


def _keep_to_the_address(client_type: Any) -> None:
    """No redirect is followed and no proxy of the environment used: a request goes where it was sent, or nowhere."""
    build = client_type.__init__
    if getattr(build, "straight", False):
        return

    def straight(self: Any, base_url: str, *, verify: Any = True, timeout: float = 30.0, **others: Any) -> None:
        build(self, base_url, verify=verify, timeout=timeout, **others)
        self._client.close()
        self._client = importlib.import_module("httpx").Client(
            verify=verify, timeout=timeout, follow_redirects=False, trust_env=False)

    straight.straight = True  # type: ignore[attr-defined]
    client_type.__init__ = straight


def serve_hub(
    private: PrivateListener, public: PublicListener, database: Path, node_keys: Callable[[], Mapping[str, bytes]],
    on_ready: Callable[[], None] = lambda: None,
) -> None:
    """Run Flower's SuperLink until SIGTERM or SIGINT. Call `prepare` first.

    `node_keys` gives site -> public key of its node (PEM); it is asked every two seconds, nobody else gets in."""
    superlink = importlib.import_module("flwr.superlink.cli.flower_superlink")
    main: Any = importlib.import_module("flwr.superlink.main")
    layers = main._get_middleware()  # those that only log, trace or count cost a third of each request
    main._get_middleware = lambda: [layer for layer in layers if layer.cls.__name__ not in _IDLE_LAYERS]
    app = main.create_app(_hub_config(private, public, database), superlink.SuperLinkLifespan)
    state = app.state.linkstate_factory.state()
    _let_nodes_come_back(type(state))
    door, stop = _Doorkeeper(state, node_keys), threading.Event()
    door.look()
    threading.Thread(target=door.keep_looking, args=(stop,), daemon=True).start()
    try:
        uvloop.run(serve_both(app, private, public, on_ready))
    finally:
        stop.set()


def _hub_config(private: PrivateListener, public: PublicListener, database: Path) -> Any:
    loader = importlib.import_module("flwr.superlink.config_loader")
    return loader.SuperLinkLifespanConfig(
        control_address="", health_server_address=None, host="127.0.0.1", port=private.port, insecure=True,
        certificates=None, superexec_auth_secret=private.secret.encode(),
        authn_plugin=loader.load_control_authn_plugin(), event_log_plugin=None, fleet_event_log_plugin=None,
        enable_event_log=False, artifact_provider=None, enable_supernode_auth=True, fleet_api_type="grpc-rere",
        fleet_api_address=None, simulation=False, ssl_ca_certfile=None, ssl_certfile=str(public.certificate),
        ssl_keyfile=str(public.key), database=str(database), isolation="process", runtime_dependency_install=False)


def _let_nodes_come_back(state_type: Any) -> None:
    """A node that starts again while it still counts as online is marked offline first, and admitted at the next try:
    what its former process had taken fails at once and is sent again, instead of waiting for an answer in vain."""
    activate = state_type.activate_node

    def activate_node(self: Any, node_id: int, heartbeat_interval: float) -> bool:
        return not self.deactivate_node(node_id) and bool(activate(self, node_id, heartbeat_interval))

    state_type.activate_node = activate_node


class _Doorkeeper:
    """Lets in the nodes whose keys are wanted now. Nothing is deleted: who is wanted again is in again."""

    def __init__(self, state: Any, node_keys: Callable[[], Mapping[str, bytes]]) -> None:
        self._state, self._node_keys = state, node_keys
        self._wanted: dict[str, bytes] = {}
        self._find = find = type(state).get_node_id_by_public_key
        type(state).get_node_id_by_public_key = lambda state, public_key: (
            find(state, public_key) if public_key in self._wanted.values() else None)

    def look(self) -> None:
        """Once; a site that cannot be let in is said on standard output and keeps out no other."""
        constant = importlib.import_module("flwr.common.constant")
        wanted = dict(self._node_keys())
        for key in set(self._wanted.values()) - set(wanted.values()):
            self._state.deactivate_node(self._find(self._state, key))  # what waits for it fails at once
        for site in [one for one in wanted if self._find(self._state, wanted[one]) is None]:
            try:
                self._state.create_node(constant.NOOP_FLWR_AID, constant.NOOP_ACCOUNT_NAME, wanted[site],
                                        constant.HEARTBEAT_DEFAULT_INTERVAL, name=site)
            except ValueError as error:
                print(f"{site} cannot be let in: {error}", flush=True)
        self._wanted = wanted

    def keep_looking(self, stop: threading.Event) -> None:
        """Every two seconds until `stop`."""
        while not stop.wait(2.0):
            try:
                self.look()
            except Exception as error:
                print(f"who may connect cannot be read, nothing changed: {error}", flush=True)


def run_node(options: NodeOptions, timing: Timing, count: Callable[[str, int, bool], None]) -> None:
    """Run Flower's own SuperNode, in process isolation, until a signal. Call `prepare` first.

    Args:
        count: told the kind and the bytes of each request before it is sent, and (True) of its answer.
    """
    loop: Any = importlib.import_module("flwr.supernode.start_client_internal")
    loop.time = _Pace(timing, loop)
    state: Any = importlib.import_module("flwr.supernode.nodestate.in_memory_nodestate").InMemoryNodeState
    state.get_message_processing_duration = lambda self, message_id: 0.0  # Flower would send how long training took
    client = importlib.import_module("flwr.supernode.fleet_http_client").FleetHttpClient
    send = client._unary_unary

    def counted(self: Any, *, path: str, request: Any, **others: Any) -> Any:
        kind = path.rsplit("/", 1)[-1]
        count(kind, request.ByteSize(), False)
        answer = send(self, path=path, request=request, **others)
        count(kind, answer.ByteSize(), True)
        return answer

    client._unary_unary = counted
    sys.argv = [
        "flower-supernode", "--superlink", options.superlink, "--root-certificates", str(options.root_certificates),
        "--auth-supernode-private-key", str(options.private_key), "--isolation", "process", "--host", "127.0.0.1",
        "--port", str(options.port), "--superexec-auth-secret-file", str(options.secret_file)]
    importlib.import_module("flwr.supernode.cli.flower_supernode").flower_supernode()


class _Pace:
    """Stands for the module `time` in the SuperNode's loop: its two fixed waits are short, and grow from question to
    question; after `busy_s` without a message the node asks at its idle pace."""

    def __init__(self, timing: Timing, loop: Any) -> None:
        self._timing, self._last, self._pause = timing, time.monotonic(), timing.first_poll_s
        push = loop._push_messages

        def pushed(*given: Any, **named: Any) -> None:
            push(*given, **named)
            self._last, self._pause = time.monotonic(), timing.first_poll_s

        loop._push_messages = pushed

    def sleep(self, seconds: float) -> None:
        busy = time.monotonic() - self._last < self._timing.busy_s
        time.sleep(self._pause if busy else min(seconds, self._timing.idle_poll_s))
        self._pause = self._timing.later(self._pause)


def _client(kind: str, host_port: str, *, token: str = "", secret: bytes = b"", header: str = "") -> Any:
    """A protobuf-over-HTTP client on loopback, without Flower's retries: they end the process on a refused token."""
    interceptors = importlib.import_module("flwr.supercore.interceptors")
    chain: list[Any] = [interceptors.RuntimeVersionHttpInterceptor(component_name=kind)]
    if token:
        chain.append(interceptors.RuntimeTokenHttpInterceptor(token))
    if secret:
        chain.append(interceptors.SuperExecAuthHttpInterceptor(
            master_secret=secret, protected_methods={"/flwr.proto.Runtime/AcquireTask"}))
    module, name = (("flwr.supercore.control", "ControlHttpClient") if kind == "control"
                    else ("flwr.supercore.runtime", "RuntimeHttpClient"))
    made = getattr(importlib.import_module(module), name).from_server_address(
        server_address=host_port, insecure=True, root_certificates=None, interceptors=chain)
    made._client.headers.update({SECRET_HEADER: header} if header else {})
    return made


def _acquire(client: Any, kind: str) -> str:
    """The token of a task of that kind, or ""."""
    proto = importlib.import_module("flwr.proto.runtime_pb2")
    answer = client.AcquireTask(proto.AcquireTaskRequest(supported_task_types=[kind]))
    return str(answer.token) if answer.HasField("task") else ""


class _Alive:
    """Says every third of a heartbeat that the task's process lives; a failure is the other side's to notice."""

    def __init__(self, client: Any, timing: Timing) -> None:
        request = importlib.import_module("flwr.proto.runtime_pb2").SendTaskHeartbeatRequest()
        self._stop = threading.Event()

        def beat() -> None:
            done = False
            while not done:
                with suppress(Exception):
                    client.SendTaskHeartbeat(request)
                done = self._stop.wait(timing.heartbeat_s / 3)

        threading.Thread(target=beat, daemon=True).start()

    def stop(self) -> None:
        self._stop.set()


@dataclass(slots=True)
class NodeTask:
    """One message for the site, taken from its node. `reply` once; the bundle is only named, by its SHA-256 (hex)."""

    message: Any
    context: Any
    bundle_hash: str
    _client: Any
    _alive: _Alive

    def reply(self, message: Any) -> None:
        """Hand the reply to the node. Raises an httpx error when the node is gone; the coordinator asks again."""
        tasks = importlib.import_module("flwr.supernode.runtime.run_clientapp")
        try:
            tasks.push_message(self._client, message, self.context)
            tasks.push_task_output(self._client, self.context, "completed", "")
        finally:
            self.close()

    def close(self) -> None:
        """Stop the heartbeat and close the connection; also after `reply`."""
        self._alive.stop()
        self._client.close()


class NodeTasks:
    """The messages that wait at the site's node, one at a time."""

    def __init__(self, port: int, secret: bytes, timing: Timing) -> None:
        self._host_port, self._timing = f"127.0.0.1:{port}", timing
        self._queue = _client("SuperExec", self._host_port, secret=secret)
        importlib.import_module("flwr.supernode.runtime.run_clientapp")  # before a task is taken; see HubControl

    def take(self) -> NodeTask | None:
        """The next message, or None. Raises an httpx error when the node does not answer."""
        token = _acquire(self._queue, _CLIENT_APP)
        if not token:
            return None
        client = _client("flwr-clientapp", self._host_port, token=token)
        alive = _Alive(client, self._timing)
        try:
            message, context, _, fab = importlib.import_module(
                "flwr.supernode.runtime.run_clientapp").pull_task_input(client)
        except BaseException:
            alive.stop()
            client.close()
            raise
        return NodeTask(message, context, hashlib.sha256(fab.content).hexdigest(), client, alive)


class HubControl:
    """The coordinator's executor at the hub: begins runs from an installed bundle, takes their task, ends them."""

    def __init__(self, private: PrivateListener, timing: Timing) -> None:
        self._private, self._timing = private, timing
        importlib.import_module("flwr.superlink.grid")  # seconds, in which a task that was taken is given up
        self._control = _client("control", private.host_port, header=private.secret)
        self._queue = _client(
            "SuperExec", private.host_port, secret=private.secret.encode(), header=private.secret)
        self._task: Any = None
        self._alive: _Alive | None = None

    def end_all(self) -> None:
        """End what a former executor began: its messages are dropped at the sites."""
        proto = importlib.import_module("flwr.proto.control_pb2")
        listed = self._control.ListRuns(proto.ListRunsRequest())
        for number, run in listed.run_dict.items():
            if run.status.status != "finished":
                with suppress(Exception):  # it has just ended
                    self._control.StopRun(proto.StopRunRequest(run_id=number))

    def begin(self, name: str, bundle: bytes) -> tuple[Any, Any]:
        """Begin a run of Flower's for our run `name`: (grid, context) for the ServerApp. May raise RuntimeError."""
        control = importlib.import_module("flwr.proto.control_pb2")
        common = importlib.import_module("flwr.common.serde")
        fab = importlib.import_module("flwr.proto.fab_pb2").Fab(
            hash_str=hashlib.sha256(bundle).hexdigest(), content=bundle)
        self._control.StartRun(control.StartRunRequest(
            fab=fab, override_config=common.user_config_to_proto({RUN_KEY: name})))
        for _ in range(100):
            if token := _acquire(self._queue, _SERVER_APP):
                return self._take(token)
            time.sleep(0.05)
        raise RuntimeError("the hub began a run and gave no task for it; restart the coordinator")

    def _take(self, token: str) -> tuple[Any, Any]:
        proto = importlib.import_module("flwr.proto.runtime_pb2")
        serde = importlib.import_module("flwr.common.serde")
        client = _client("flwr-serverapp", self._private.host_port, token=token, header=self._private.secret)
        client._retry_invoker = _patient()
        self._alive = _Alive(client, self._timing)
        grid = importlib.import_module("flwr.superlink.grid").HttpGrid(
            runtime_api_address=self._private.host_port, insecure=True, token=token)
        grid._client, self._task = client, client
        given = client.PullTaskInput(proto.PullTaskInputRequest())
        be_in_process(given.run.run_id, given.task_id, given.context.node_id)
        grid.set_run(serde.run_from_proto(given.run))
        return grid, serde.context_from_proto(given.context)

    def finish(self, failure: str = "") -> None:
        """Tell the hub that the task is over; `failure` is for its own list of runs."""
        proto = importlib.import_module("flwr.proto.runtime_pb2")
        with suppress(Exception):  # the hub may be gone: `end_all` ends the run later
            self._task.PushTaskOutput(proto.PushTaskOutputRequest(
                sub_status="failed" if failure else "completed", details=failure))
        if self._alive is not None:
            self._alive.stop()
        self._task.close()


def _patient() -> Any:
    """Retries while the hub is away, as Flower's own, but never ends the process on a refused token."""
    retry = importlib.import_module("flwr.supercore.retry")
    httpx = importlib.import_module("httpx")
    return retry.RetryInvoker(
        wait_gen_factory=lambda: retry.exponential(max_delay=2), max_tries=None, max_time=None,
        recoverable_exceptions=(httpx.TransportError,))


def be_in_process(run_id: int, task_id: int = 1, node_id: int | None = None) -> None:
    """Set the process-wide identity from which Flower reads the sender of a new message (the hub's by default)."""
    identity = importlib.import_module("flwr.supercore.task_identity").TaskIdentity
    hub = importlib.import_module("flwr.common.constant").SUPERLINK_NODE_ID
    identity.task_id, identity.run_id, identity.node_id = task_id, run_id, hub if node_id is None else node_id


def as_wire(message: Any) -> bytes:
    """A message as Flower would send it."""
    data: bytes = importlib.import_module("flwr.common.serde").message_to_proto(message).SerializeToString()
    return data


def from_wire(data: bytes) -> Any:
    """The message in `data`. Raises google.protobuf's DecodeError."""
    proto = importlib.import_module("flwr.proto.message_pb2").Message.FromString(data)
    return importlib.import_module("flwr.common.serde").message_from_proto(proto)
