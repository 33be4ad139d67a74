"""What a process is before it uses Flower: its environment, version, heartbeat, identity; and messages as bytes.

*Guarantees.* No redirect, no proxy of the environment; telemetry, update checks and run-time installation are off.

*Assumes.* `prepare` runs before anything else of Flower in the process.

*Does not cover.* Modules of Flower that were imported before with another heartbeat: `prepare` refuses.
"""

from __future__ import annotations

import os
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

from privacy.transport.log_lines import is_json
from privacy.transport.timing import Timing

__all__ = ["FLOWER_VERSION", "as_wire", "be_in_process", "from_wire", "prepare"]

FLOWER_VERSION = "1.41.0"
_QUIET = {"FLWR_TELEMETRY_ENABLED": "0", "FLWR_DISABLE_UPDATE_CHECK": "1", "RAY_USAGE_STATS_ENABLED": "0",
          "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1", "FLWR_OIDC_ENABLED": "0"}
_LONGEST_PULL_S = 120.0  # for an object that its sender does not bring; Flower waits two hours


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
        pulls.PULL_MAX_TIME = _LONGEST_PULL_S
        constant.HEARTBEAT_DEFAULT_INTERVAL = timing.heartbeat_s
        constant.HEARTBEAT_MIN_INTERVAL = min(constant.HEARTBEAT_MIN_INTERVAL, timing.heartbeat_s)
        constant.HEARTBEAT_CALL_TIMEOUT = min(constant.HEARTBEAT_CALL_TIMEOUT, timing.heartbeat_s / 2)
    _keep_to_the_address(import_module("flwr.supercore.protobuf.client").ProtobufClient)
    if is_json():
        _log_through_ours()


def _log_through_ours() -> None:
    """Flower's records, and those of the servers that it starts, go to the process' own handler and its redaction."""
    import_module("flwr.supercore.logger").FLOWER_LOGGER.handlers.clear()
    loggers = import_module("uvicorn.config").LOGGING_CONFIG["loggers"]  # applied whenever a server is made
    loggers |= {"uvicorn": {"handlers": [], "level": "INFO"}, "uvicorn.access": {"handlers": [], "level": "WARNING"}}


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
