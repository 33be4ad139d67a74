"""Flower's SuperNode, run in process isolation with a loop that asks at our pace and leaves no reply behind.

*Guarantees.* No duration of ours is sent; what is sent is counted before it leaves.

*Assumes.* `prepare` ran before.

*Does not cover.* What the replies hold: the site's executor books them before the node gets them.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib import import_module
from typing import Any

from privacy.transport.timing import NodeOptions, Pace, Timing

__all__ = ["run_node"]


def run_node(options: NodeOptions, timing: Timing, count: Callable[[str, int, bool], None]) -> None:
    """Run Flower's own SuperNode, in process isolation, until a signal. Call `prepare` first.

    Args:
        count: told the kind and the bytes of each request before it is sent, and (True) of its answer.
    """
    _mend_loop(import_module("flwr.supernode.start_client_internal"), timing)
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


def _mend_loop(loop: Any, timing: Timing) -> None:
    """Flower's loop takes a message, waits for *a* reply, sends it, and so on. When a run ends while its message is
    being taken, that message stays and is answered later: each reply then leaves one message too late, and the last one
    never. Here such a message is dropped, and replies that wait are sent although no message came."""
    pull = loop._pull_and_store_message

    def pulled(*, state: Any, object_store: Any, **others: Any) -> int | None:
        before = set(state.msg_store)
        run: int | None = pull(state=state, object_store=object_store, **others)
        if run is not None:
            return run
        held = [(name, entry, entry.message.metadata) for name, entry in list(state.msg_store.items())]
        dropped = [name for name, _, about in held if name not in before and not about.reply_to_message_id]
        state.delete_messages(message_ids=dropped)
        for name in dropped:  # or the executor, if it has begun with it, waits for what it lacks
            object_store.delete(name)
        return next((about.run_id for _, entry, about in held
                     if about.reply_to_message_id and not entry.is_retrieved), None)

    loop._pull_and_store_message = pulled
    loop.time = pace = Pace(timing)
    loop._push_messages = pace.after(loop._push_messages)
