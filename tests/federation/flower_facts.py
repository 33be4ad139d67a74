"""Prints, as JSON, what the installed Flower is like where `privacy.transport.flower_internals` relies on it.

A process of its own, because Flower must be imported after `prepare`, with its timing.
"""

from __future__ import annotations

import importlib
import inspect
import json
import sys
import tempfile
from hashlib import sha256
from pathlib import Path
from typing import Any

from privacy.transport import flower_internals
from privacy.transport.app_bundle import app_bundle, bundle_hash
from privacy.transport.flower_internals import Timing, prepare
from privacy.transport.listeners import PrivateListener, PublicListener


def main() -> None:
    home = Path(tempfile.mkdtemp())
    timing = Timing() if sys.argv[1] == "default" else Timing(heartbeat_s=2.0)
    prepare(timing, home)
    print(json.dumps({
        **_constants(), **_names(), **_node_state(home), **_node_loop(timing), **_bundle(), **_routes(home),
        **_quiet(home)}))


def _of(module: str) -> Any:
    return importlib.import_module(module)


def _constants() -> dict[str, Any]:
    constant, heartbeat = _of("flwr.common.constant"), _of("flwr.supercore.heartbeat")
    state, connection = _of("flwr.supercore.corestate.sql_corestate"), _of("flwr.supernode.fleet_http_connection")
    return {
        "default": constant.HEARTBEAT_DEFAULT_INTERVAL, "least": constant.HEARTBEAT_MIN_INTERVAL,
        "call": constant.HEARTBEAT_CALL_TIMEOUT, "patience": constant.HEARTBEAT_PATIENCE,
        "everywhere": sorted({heartbeat.HEARTBEAT_DEFAULT_INTERVAL, state.HEARTBEAT_DEFAULT_INTERVAL,
                              connection.HEARTBEAT_DEFAULT_INTERVAL}),
        "hub": constant.SUPERLINK_NODE_ID, "account": constant.NOOP_FLWR_AID}


def _parameters(function: Any) -> list[str]:
    return list(inspect.signature(function).parameters)


def _names() -> dict[str, Any]:
    """Everything that `flower_internals` imports or calls, with the parameters that it passes."""
    node, link = _of("flwr.supernode.runtime.run_clientapp"), _of("flwr.superlink.grid").HttpGrid
    state = _of("flwr.server.superlink.linkstate.sql_linkstate").SqlLinkState
    return {
        "pull_task_input": _parameters(node.pull_task_input), "push_message": _parameters(node.push_message),
        "push_task_output": _parameters(node.push_task_output), "grid": _parameters(link.__init__),
        "create_app": _parameters(_of("flwr.superlink.main").create_app),
        "lifespan": callable(_of("flwr.superlink.cli.flower_superlink").SuperLinkLifespan),
        "config": _parameters(_of("flwr.superlink.config_loader").SuperLinkLifespanConfig),
        "create_node": _parameters(state.create_node), "delete_node": _parameters(state.delete_node),
        "get_node_info": _parameters(state.get_node_info), "activate_node": _parameters(state.activate_node),
        "deactivate_node": _parameters(state.deactivate_node),
        "send": _parameters(_of("flwr.supernode.fleet_http_client").FleetHttpClient._unary_unary),
        "retry": _parameters(_of("flwr.supercore.retry").RetryInvoker.__init__),
        "identity": _identity(),
        "version": _of("flwr.supercore.version").package_version == flower_internals.FLOWER_VERSION}


def _identity() -> list[int]:
    flower_internals.be_in_process(7, 8, 9)
    identity = _of("flwr.supercore.task_identity").TaskIdentity
    return [identity.run_id, identity.task_id, identity.node_id]


def _node_state(home: Path) -> dict[str, Any]:
    """A node that is online and comes again: refused and marked offline at first, admitted at the next try."""
    factory = _of("flwr.server.superlink.linkstate.linkstate_factory").LinkStateFactory
    lifespan = _of("flwr.superlink.cli.flower_superlink").SuperLinkLifespan
    app = _of("flwr.superlink.main").create_app(_config(home), lifespan)
    state = app.state.linkstate_factory.state()
    assert isinstance(app.state.linkstate_factory, factory)
    original = type(state).activate_node
    wanted = {"site-1": b"key one", "site-2": b"key two"}
    find = type(state).get_node_id_by_public_key
    door = flower_internals._Doorkeeper(state, lambda: dict(wanted))
    door.look()
    node = {bytes(one.public_key): one.node_id for one in state.get_node_info()}
    plain = [state.activate_node(node[b"key one"], 30), state.activate_node(node[b"key one"], 30)]
    flower_internals._let_nodes_come_back(type(state))
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
    return {"plain": plain, "coming_back": ours, "admitted": names, "left": left, "back": back}


def _config(home: Path) -> Any:
    return flower_internals._hub_config(
        PrivateListener(1, "00" * 32),
        PublicListener("127.0.0.1", 2, home / "c", home / "k", flower_internals.FLEET_ROUTES), home / "hub.sqlite")


def _node_loop(timing: Timing) -> dict[str, Any]:
    """The waits of the SuperNode's loop, as the source has them, and that they go through the module's `time`."""
    loop = _of("flwr.supernode.start_client_internal")
    source = inspect.getsource(loop)
    waits = sorted(line.strip() for line in source.splitlines() if "time.sleep(" in line)
    before = loop._push_messages
    slept: list[float] = []
    flower_internals.time.sleep = slept.append  # type: ignore[assignment]
    pace = flower_internals._Pace(timing, loop)
    for _ in range(40):
        pace.sleep(3)
    pace._last -= timing.busy_s + 1
    pace.sleep(3)
    pace.sleep(0.5)
    slept = [slept[0], slept[1], slept[39], slept[40], slept[41]]
    return {"waits": waits, "slept": slept, "wrapped": loop._push_messages is not before,
            "arguments": "argv" in inspect.getsource(_of("flwr.supernode.cli.flower_supernode"))}


def _bundle() -> dict[str, Any]:
    release = "ab" * 32
    data = app_bundle(release)
    read = _of("flwr.common.config").get_fab_config(data)
    return {"bundle": read["tool"]["flwr"]["app"], "bundle_hash": bundle_hash(release) == sha256(data).hexdigest()}


def _routes(home: Path) -> dict[str, Any]:
    router = _of("flwr.superlink.routers.fleet.router").router
    return {"fleet": sorted(route.path for route in router.routes), "ours": sorted(flower_internals.FLEET_ROUTES)}


def _quiet(home: Path) -> dict[str, Any]:
    telemetry = _of("flwr.supercore.telemetry")
    sent: list[str] = []
    telemetry.urllib.request.urlopen = lambda *given, **named: sent.append("telemetry")
    telemetry.event(telemetry.EventType.PING).result(timeout=10)
    updates, asked = _of("flwr.supercore.update_check"), []
    for name in ("Thread", "httpx", "requests", "threading"):
        if hasattr(updates, name):
            setattr(updates, name, _Recorder(asked, name))
    updates.warn_if_flwr_update_available()
    return {"telemetry": telemetry.FLWR_TELEMETRY_ENABLED, "sent": sent, "updates": asked,
            "home": str(_of("flwr.supercore.utils").get_flwr_home()) == str(home)}


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
