"""Flower's task queues, from the side of our two executors: the site's at its node, the coordinator's at the hub.

*Guarantees.* A task's bundle is returned by its hash and is never written or imported. A refused token ends no process.

*Assumes.* Node and hub are on loopback, with the secret of the supervisor.

*Does not cover.* What a message says.
"""

from __future__ import annotations

import hashlib
import time
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from privacy.transport.app_bundle import RUN_KEY
from privacy.transport.flower_internals.process import be_in_process
from privacy.transport.listeners import SECRET_HEADER, PrivateListener
from privacy.transport.timing import Beat, Timing

__all__ = ["HubControl", "NodeTask", "NodeTasks"]


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
