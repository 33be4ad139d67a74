"""Every use of a module of Flower that is not public. Written against flwr 1.41.0; a conformance test holds it there.

*Guarantees.*
    * A request of Flower's goes to the address that it was made for: no redirect, no proxy of the environment.
    * The node sends no duration of ours: Flower's own report of how long a message took is always 0.
    * Telemetry, update checks and run-time installation are off before Flower is imported (`prepare`).
    * A task's bundle is returned by its hash and is never written or imported.

*Assumes.* `prepare` runs before anything else of Flower in the process; timings are those of one process.

*Does not cover.* Authenticity: a node of Flower's signs a time stamp only, so every message of ours is signed by us.
"""

from __future__ import annotations

import hashlib
import os
import sys
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import uvloop

from privacy.transport.app_bundle import RUN_KEY
from privacy.transport.direct_routes import DirectRoutes
from privacy.transport.doorkeeper import Doorkeeper
from privacy.transport.listeners import SECRET_HEADER, PrivateListener, PublicListener, serve_both
from privacy.transport.timing import Beat, NodeOptions, Pace, Timing

__all__ = [
    "FLEET_ROUTES", "FLOWER_VERSION", "HubControl", "NodeOptions", "NodeTask", "NodeTasks", "Timing", "as_wire",
    "be_in_process", "from_wire", "prepare", "run_node", "serve_hub"]

FLOWER_VERSION = "1.41.0"
FLEET_ROUTES: frozenset[str] = frozenset(f"/v1/fleet/{name}" for name in (
    "activate-node", "deactivate-node", "send-node-heartbeat", "pull-messages", "push-messages", "get-run", "get-fab",
    "push-object", "pull-object", "confirm-message-received")) | {"/health"}
_QUIET = {"FLWR_TELEMETRY_ENABLED": "0", "FLWR_DISABLE_UPDATE_CHECK": "1", "RAY_USAGE_STATS_ENABLED": "0",
          "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1", "FLWR_OIDC_ENABLED": "0"}
_HOT = ("pull-messages", "push-messages", "pull-object", "push-object", "confirm-message-received")


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
    constant: Any = import_module("flwr.common.constant")
    version = import_module("flwr.supercore.version").package_version
    if version != FLOWER_VERSION:
        raise RuntimeError(f"flwr {version} is installed and {FLOWER_VERSION} is needed; install the release again")
    if loaded and timing.heartbeat_s != constant.HEARTBEAT_DEFAULT_INTERVAL:
        raise RuntimeError("Flower was imported before its timing was set; call prepare first")
    if not loaded:
        pulls: Any = import_module("flwr.supercore.constant")  # a message is seen before its objects are
        pulls.PULL_INITIAL_BACKOFF, pulls.PULL_BACKOFF_CAP = 0.03, 2.0  # there: Flower waits 1 s, at each of three hops
        constant.HEARTBEAT_DEFAULT_INTERVAL = timing.heartbeat_s
        constant.HEARTBEAT_MIN_INTERVAL = min(constant.HEARTBEAT_MIN_INTERVAL, timing.heartbeat_s)
        constant.HEARTBEAT_CALL_TIMEOUT = min(constant.HEARTBEAT_CALL_TIMEOUT, timing.heartbeat_s / 2)
    _keep_to_the_address(import_module("flwr.supercore.protobuf.client").ProtobufClient)


def _keep_to_the_address(client_type: Any) -> None:
    """No redirect is followed and no proxy of the environment used: a request goes where it was sent, or nowhere."""
    build, httpx = client_type.__init__, import_module("httpx")
    if getattr(build, "straight", False):
        return

    def straight(self: Any, base_url: str, *, verify: Any = True, timeout: float = 30.0, **others: Any) -> None:
        build(self, base_url, verify=verify, timeout=timeout, **others)
        self._client.close()
        self._client = httpx.Client(verify=verify, timeout=timeout, follow_redirects=False, trust_env=False)

    straight.straight = True  # type: ignore[attr-defined]
    client_type.__init__ = straight


def serve_hub(private: PrivateListener, public: PublicListener, database: Path,
              node_keys: Callable[[], Mapping[str, bytes]], on_ready: Callable[[], None] = lambda: None) -> None:
    """Run Flower's SuperLink until SIGTERM or SIGINT. Call `prepare` first.

    `node_keys` gives site -> public key of its node (PEM); it is asked every two seconds, nobody else gets in."""
    lifespan = import_module("flwr.superlink.cli.flower_superlink").SuperLinkLifespan
    app = import_module("flwr.superlink.main").create_app(_hub_config(private, public, database), lifespan)
    state = app.state.linkstate_factory.state()
    _let_nodes_come_back(type(state))
    _hold_back_parts(type(state))
    _spare_the_database(type(state))
    door, stop = _doorkeeper(state, node_keys), threading.Event()
    door.look()
    threading.Thread(target=door.keep_looking, args=(stop,), daemon=True).start()
    try:
        uvloop.run(serve_both(_directly(app, state), private, public, on_ready))
    finally:
        stop.set()


def _hub_config(private: PrivateListener, public: PublicListener, database: Path) -> Any:
    loader = import_module("flwr.superlink.config_loader")
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


def _hold_back_parts(state_type: Any) -> None:
    """A reply is handed on when all of it has come. Flower hands on its head at once, and when the node ends before the
    rest came, whoever waits for it waits three minutes. That a node is gone is said as before."""
    get, coming = state_type.get_message_res, (
        "SELECT r.reply_to_message_id AS message FROM message_res r JOIN node n ON n.node_id = r.src_node_id "
        "JOIN object_push_session_roots p ON p.root_object_id = r.message_id WHERE n.online_until > :now")

    def get_message_res(self: Any, message_ids: set[str], run_id: int) -> Any:
        parts = {row["message"] for row in self.query(coming, {"now": time.time()})}
        return get(self, message_ids - parts, run_id)

    state_type.get_message_res = get_message_res


def _spare_the_database(state_type: Any) -> None:
    """What Flower does at each request and need not: expired tasks are looked for once a second (a token says itself
    when it ends), a run that goes on counts so for half a second, and no traffic is booked: the sites book theirs."""
    clean, status_of = state_type._cleanup_expired_task_tokens, state_type.get_run_status
    known: dict[int, tuple[float, Any]] = {}
    cleaned = 0.0

    def clean_now_and_then(self: Any) -> None:
        nonlocal cleaned
        if time.monotonic() - cleaned >= 1.0:
            cleaned = time.monotonic()
            clean(self)

    def get_run_status(self: Any, run_ids: set[int]) -> Any:
        now = time.monotonic()
        if all(run in known and now - known[run][0] < 0.5 for run in run_ids):
            return {run: known[run][1] for run in run_ids}
        found = status_of(self, run_ids)
        known.update({run: (now, one) for run, one in found.items() if one.status == "running"})
        return found

    state_type._cleanup_expired_task_tokens, state_type.get_run_status = clean_now_and_then, get_run_status
    state_type.store_traffic = lambda self, run_id, *, bytes_sent, bytes_recv: None


def _doorkeeper(state: Any, node_keys: Callable[[], Mapping[str, bytes]]) -> Doorkeeper:
    """One for the hub's nodes, in the place of the database's own search for a node by its key."""
    constant = import_module("flwr.common.constant")
    find = type(state).get_node_id_by_public_key
    door = Doorkeeper(
        node_keys, find=partial(find, state), leave=state.deactivate_node,
        admit=lambda site, key: state.create_node(constant.NOOP_FLWR_AID, constant.NOOP_ACCOUNT_NAME, key,
                                                  constant.HEARTBEAT_DEFAULT_INTERVAL, name=site))
    type(state).get_node_id_by_public_key = lambda state, public_key: door.node_of(public_key)
    return door


def _directly(app: Any, state: Any) -> DirectRoutes:
    """`app` with the routes that a round asks for most answered by Flower's own parsing, checks, handlers and errors,
    without the layers of FastAPI between them."""
    translation = import_module("flwr.supercore.protobuf.translation")
    parsing, types = translation.ProtobufTranslationMiddleware, translation.PROTOBUF_REQUEST_TYPES
    task = import_module("flwr.supercore.dependencies.task")
    runtime = import_module("flwr.supercore.routers.runtime.router")
    fleet = import_module("flwr.superlink.routers.fleet.router")

    def parsed(path: str, call: Callable[[Any, Any], Any], request: Any, body: bytes) -> bytes:
        parsing._check_request_media_type(request)
        request.state.protobuf_request = message = parsing._parse_request(body, types["POST", path])
        return bytes(call(request, message).SerializeToString())

    def of_task(handle: Any, request: Any, message: Any) -> Any:
        claimed = task.authenticate_task(request, request.headers.get(task.TASK_TOKEN_HEADER), state)
        return handle(message, state, app.state.runtime_handlers, claimed)

    def of_node(handle: Any, request: Any, message: Any) -> Any:
        import_module("flwr.superlink.routers.fleet.node_auth").authenticate_node(request)
        return handle(message, state)

    async def refuse(request: Any, error: Exception) -> Any:
        async def failed(_: Any) -> Any:
            raise error

        return await import_module("flwr.supercore.error.http").http_error_translator(request, failed)

    calls = {f"/v1/runtime/{name}": partial(of_task, getattr(runtime, name.replace("-", "_"))) for name in _HOT}
    calls |= {f"/v1/fleet/{name}": partial(of_node, getattr(fleet, f"fleet_{name.replace('-', '_')}")) for name in _HOT}
    return DirectRoutes(
        app, {path: partial(parsed, path, call) for path, call in calls.items()},
        import_module("starlette.requests").Request, refuse, translation.PROTOBUF_MEDIA_TYPE)


def run_node(options: NodeOptions, timing: Timing, count: Callable[[str, int, bool], None]) -> None:
    """Run Flower's own SuperNode, in process isolation, until a signal. Call `prepare` first.

    Args:
        count: told the kind and the bytes of each request before it is sent, and (True) of its answer.
    """
    loop: Any = import_module("flwr.supernode.start_client_internal")
    loop.time = pace = Pace(timing)
    loop._push_messages = pace.after(loop._push_messages)
    state: Any = import_module("flwr.supernode.nodestate.in_memory_nodestate").InMemoryNodeState
    state.get_message_processing_duration = lambda self, message_id: 0.0  # Flower would send how long training took
    client = import_module("flwr.supernode.fleet_http_client").FleetHttpClient
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
    import_module("flwr.supernode.cli.flower_supernode").flower_supernode()


def _client(kind: str, host_port: str, *, token: str = "", secret: bytes = b"", header: str = "") -> Any:
    """A protobuf-over-HTTP client on loopback, without Flower's retries: they end the process on a refused token."""
    interceptors = import_module("flwr.supercore.interceptors")
    chain: list[Any] = [interceptors.RuntimeVersionHttpInterceptor(component_name=kind)]
    chain += [interceptors.RuntimeTokenHttpInterceptor(token)] if token else []
    if secret:
        chain.append(interceptors.SuperExecAuthHttpInterceptor(
            master_secret=secret, protected_methods={"/flwr.proto.Runtime/AcquireTask"}))
    client = (import_module("flwr.supercore.control").ControlHttpClient if kind == "control"
              else import_module("flwr.supercore.runtime").RuntimeHttpClient)
    made = client.from_server_address(
        server_address=host_port, insecure=True, root_certificates=None, interceptors=chain)
    made._client.headers.update({SECRET_HEADER: header} if header else {})
    return made


def _acquire(client: Any, kind: str) -> str:
    """The token of a task of that kind, or ""."""
    runtime = import_module("flwr.proto.runtime_pb2")
    answer = client.AcquireTask(runtime.AcquireTaskRequest(supported_task_types=[kind]))
    return str(answer.token) if answer.HasField("task") else ""


def _alive(client: Any, timing: Timing) -> Beat:
    """Says every third of a heartbeat that the task's process lives."""
    request = import_module("flwr.proto.runtime_pb2").SendTaskHeartbeatRequest
    return Beat(lambda: client.SendTaskHeartbeat(request()), timing.heartbeat_s / 3)


@dataclass(slots=True)
class NodeTask:
    """One message for the site, taken from its node. `reply` once; the bundle is only named, by its SHA-256 (hex)."""

    message: Any
    context: Any
    bundle_hash: str
    _client: Any
    _alive: Beat

    def reply(self, message: Any) -> None:
        """Hand the reply to the node. Raises an httpx error when the node is gone; the coordinator asks again."""
        tasks = import_module("flwr.supernode.runtime.run_clientapp")
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
        import_module("flwr.supernode.runtime.run_clientapp")  # before a task is taken; see HubControl

    def take(self) -> NodeTask | None:
        """The next message, or None. Raises an httpx error when the node does not answer."""
        if not (token := _acquire(self._queue, "flwr-clientapp")):
            return None
        client = _client("flwr-clientapp", self._host_port, token=token)
        alive = _alive(client, self._timing)
        try:
            message, context, _, fab = import_module("flwr.supernode.runtime.run_clientapp").pull_task_input(client)
        except BaseException:
            alive.stop()
            client.close()
            raise
        return NodeTask(message, context, hashlib.sha256(fab.content).hexdigest(), client, alive)


class HubControl:
    """The coordinator's executor at the hub: begins runs from an installed bundle, takes their task, ends them."""

    def __init__(self, private: PrivateListener, timing: Timing) -> None:
        self._private, self._timing = private, timing
        import_module("flwr.superlink.grid")  # seconds, in which a task that was taken is given up
        self._control = _client("control", private.host_port, header=private.secret)
        self._queue = _client("SuperExec", private.host_port, secret=private.secret.encode(), header=private.secret)
        self._task: Any = None
        self._alive: Beat | None = None

    def end_all(self) -> None:
        """End what a former executor began: its messages are dropped at the sites."""
        proto = import_module("flwr.proto.control_pb2")
        for number, run in self._control.ListRuns(proto.ListRunsRequest()).run_dict.items():
            if run.status.status != "finished":
                with suppress(Exception):  # it has just ended
                    self._control.StopRun(proto.StopRunRequest(run_id=number))

    def begin(self, name: str, bundle: bytes) -> tuple[Any, Any]:
        """Begin a run of Flower's for our run `name`: (grid, context) for the ServerApp. May raise RuntimeError."""
        control = import_module("flwr.proto.control_pb2")
        fab = import_module("flwr.proto.fab_pb2").Fab(hash_str=hashlib.sha256(bundle).hexdigest(), content=bundle)
        config = import_module("flwr.common.serde").user_config_to_proto({RUN_KEY: name})
        self._control.StartRun(control.StartRunRequest(fab=fab, override_config=config))
        for _ in range(100):
            if token := _acquire(self._queue, "flwr-serverapp"):
                return self._take(token)
            time.sleep(0.05)
        raise RuntimeError("the hub began a run and gave no task for it; restart the coordinator")

    def _take(self, token: str) -> tuple[Any, Any]:
        serde = import_module("flwr.common.serde")
        client = _client("flwr-serverapp", self._private.host_port, token=token, header=self._private.secret)
        retry = import_module("flwr.supercore.retry")
        client._retry_invoker = retry.RetryInvoker(  # while the hub is away, as Flower's own; never ends the process
            wait_gen_factory=lambda: retry.exponential(max_delay=2), max_tries=None, max_time=None,
            recoverable_exceptions=(import_module("httpx").TransportError,))
        self._alive = _alive(client, self._timing)
        grid = import_module("flwr.superlink.grid").HttpGrid(
            runtime_api_address=self._private.host_port, insecure=True, token=token)
        grid._client, self._task = client, client
        given = client.PullTaskInput(import_module("flwr.proto.runtime_pb2").PullTaskInputRequest())
        be_in_process(given.run.run_id, given.task_id, given.context.node_id)
        grid.set_run(serde.run_from_proto(given.run))
        return grid, serde.context_from_proto(given.context)

    def finish(self, failure: str = "") -> None:
        """Tell the hub that the task is over; `failure` is for its own list of runs."""
        output = import_module("flwr.proto.runtime_pb2").PushTaskOutputRequest(
            sub_status="failed" if failure else "completed", details=failure)
        with suppress(Exception):  # the hub may be gone: `end_all` ends the run later
            self._task.PushTaskOutput(output)
        if self._alive is not None:
            self._alive.stop()
        self._task.close()


def be_in_process(run_id: int, task_id: int = 1, node_id: int | None = None) -> None:
    """Set the process-wide identity from which Flower reads the sender of a new message (the hub's by default)."""
    identity = import_module("flwr.supercore.task_identity").TaskIdentity
    identity.task_id, identity.run_id = task_id, run_id
    identity.node_id = import_module("flwr.common.constant").SUPERLINK_NODE_ID if node_id is None else node_id


def as_wire(message: Any) -> bytes:
    """A message as Flower would send it."""
    return bytes(import_module("flwr.common.serde").message_to_proto(message).SerializeToString())


def from_wire(data: bytes) -> Any:
    """The message in `data`. Raises google.protobuf's DecodeError."""
    proto = import_module("flwr.proto.message_pb2").Message.FromString(data)
    return import_module("flwr.common.serde").message_from_proto(proto)
