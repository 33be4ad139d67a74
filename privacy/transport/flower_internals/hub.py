"""Flower's SuperLink, run with two listeners and changed where its ways cost time or hold others up.

*Guarantees.*
    * Who is not wanted now gets in nowhere (`privacy.transport.doorkeeper`); Flower's own checks are made as well.
    * A reply is handed on when all of it has come.

*Assumes.* One process for one database.

*Does not cover.* What the messages say: signatures of ours are checked by those who read them.
"""

from __future__ import annotations

import threading
import time
from base64 import b64decode
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import uvloop

from privacy.transport.direct_routes import DirectRoutes, Route
from privacy.transport.doorkeeper import Doorkeeper
from privacy.transport.listeners import PrivateListener, PublicListener, serve_both

__all__ = ["FLEET_ROUTES", "serve_hub"]

FLEET_ROUTES: frozenset[str] = frozenset(f"/v1/fleet/{name}" for name in (
    "activate-node", "deactivate-node", "send-node-heartbeat", "pull-messages", "push-messages", "get-run", "get-fab",
    "push-object", "pull-object", "confirm-message-received")) | {"/health"}
_HOT = ("pull-messages", "push-messages", "pull-object", "push-object", "confirm-message-received")


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
    without the layers of FastAPI between them. A node's signature is checked before its body is read."""
    translation = import_module("flwr.supercore.protobuf.translation")
    parsing, types = translation.ProtobufTranslationMiddleware, translation.PROTOBUF_REQUEST_TYPES
    task = import_module("flwr.supercore.dependencies.task")
    runtime = import_module("flwr.supercore.routers.runtime.router")
    fleet = import_module("flwr.superlink.routers.fleet.router")
    http, node_auth = import_module("fastapi"), import_module("flwr.superlink.routers.fleet.node_auth")

    def admit(request: Any) -> None:
        """Flower's check, for the node whose key it is; `of_node` compares it with the one that the message names."""
        given = request.headers.get(node_auth.FLEET_HTTP_PUBLIC_KEY_HEADER, "")
        with suppress(ValueError):
            request.state.node = state.get_node_id_by_public_key(b64decode(given, validate=True))
        if getattr(request.state, "node", None) is None:
            raise http.HTTPException(401, "Invalid SuperNode authentication")
        request.state.protobuf_request = SimpleNamespace(node_id=request.state.node)
        node_auth.authenticate_node(request)

    def parsed(path: str, call: Callable[[Any, Any], Any], request: Any, body: bytes) -> bytes:
        parsing._check_request_media_type(request)
        request.state.protobuf_request = message = parsing._parse_request(body, types["POST", path])
        return bytes(call(request, message).SerializeToString())

    def of_task(handle: Any, request: Any, message: Any) -> Any:
        claimed = task.authenticate_task(request, request.headers.get(task.TASK_TOKEN_HEADER), state)
        return handle(message, state, app.state.runtime_handlers, claimed)

    def of_node(handle: Any, request: Any, message: Any) -> Any:
        if message.node.node_id != request.state.node:
            raise http.HTTPException(401, "Invalid SuperNode authentication")
        return handle(message, state)

    async def refuse(request: Any, error: Exception) -> Any:
        async def failed(_: Any) -> Any:
            raise error

        return await import_module("flwr.supercore.error.http").http_error_translator(request, failed)

    routes = {}
    for name, function in ((name, name.replace("-", "_")) for name in _HOT):
        path = f"/v1/runtime/{name}"  # whoever comes as far as this has the coordinator's secret
        routes[path] = Route(partial(parsed, path, partial(of_task, getattr(runtime, function))))
        path = f"/v1/fleet/{name}"
        routes[path] = Route(partial(parsed, path, partial(of_node, getattr(fleet, f"fleet_{function}"))), admit)
    request_type = import_module("starlette.requests").Request
    return DirectRoutes(app, routes, request_type, refuse, translation.PROTOBUF_MEDIA_TYPE)
