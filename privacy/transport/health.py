"""The standard gRPC health service, on loopback, for supervisors and probes.

*Guarantees.* `SERVING` only while everything is ready; while draining or not ready `NOT_SERVING`, and the reason is in
the trailing metadata `reason` of `Check`, a fixed text of ours.

*Assumes.* The port is on 127.0.0.1: the answer needs no credential and holds no secret.

*Does not cover.* `Watch` carries no reason.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from typing import Any

__all__ = ["HealthService", "check_health"]


class HealthService:
    """Serves `grpc.health.v1.Health` for the service "" on 127.0.0.1:`port` (0 = any; see `port`)."""

    def __init__(self, port: int) -> None:
        os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")  # children are other programs; gRPC would warn
        import grpc
        from grpc_health.v1 import health, health_pb2_grpc

        service = self

        class Servicer(health.HealthServicer):  # type: ignore[misc,unused-ignore]
            def Check(self, request: Any, context: Any) -> Any:
                if service.reason:
                    context.set_trailing_metadata((("reason", service.reason),))
                return super().Check(request, context)

        self.reason = "starting"
        self._servicer = Servicer()
        self._server = grpc.server(ThreadPoolExecutor(max_workers=2), options=(("grpc.so_reuseport", 0),))
        health_pb2_grpc.add_HealthServicer_to_server(self._servicer, self._server)
        try:
            self.port: int = self._server.add_insecure_port(f"127.0.0.1:{port}")
        except RuntimeError:
            raise ValueError(f"health_port={port} is taken on 127.0.0.1; choose another") from None
        self.set(False, "starting")
        self._server.start()

    def set(self, serving: bool, reason: str = "") -> None:
        """Change the answer; `reason` says why it is not serving (printable ASCII is kept)."""
        from grpc_health.v1 import health_pb2

        self.reason = "" if serving else "".join(c for c in reason if " " <= c <= "~")[:400]
        status = health_pb2.HealthCheckResponse
        self._servicer.set("", status.SERVING if serving else status.NOT_SERVING)

    def stop(self) -> None:
        """Answer no more."""
        self._server.stop(0.2)


def check_health(port: int, timeout_s: float = 3.0) -> tuple[str, str]:
    """(status, reason) of the service on 127.0.0.1:`port`; the status is "UNREACHABLE" when nothing answers."""
    import grpc
    from grpc_health.v1 import health_pb2, health_pb2_grpc

    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        try:
            answer, call = health_pb2_grpc.HealthStub(channel).Check.with_call(
                health_pb2.HealthCheckRequest(service=""), timeout=timeout_s)
        except grpc.RpcError:
            return "UNREACHABLE", f"nothing answers on 127.0.0.1:{port}"
    found = [str(value) for name, value in call.trailing_metadata() if name == "reason"]
    return health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status), found[0] if found else ""
