"""Flower's SuperNode, run in process isolation with a loop that asks at our pace and leaves no reply behind.

*Guarantees.*
    * No duration of ours is sent; what is sent is counted before it leaves.
    * A message whose answer was lost between executor and node is answered with an error once the executor's heartbeat
      for it has ended, and the next one is taken.

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
    _send_whole_replies(state)
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


def _send_whole_replies(state_type: Any) -> None:
    """Two requests that get lost between executor and node (a machine that was asleep for longer than their 30 s, say)
    make Flower's loop wait without an end, while its heartbeat says that all is well: the rest of a reply whose head
    came, and the message of a task that was begun. Here a reply is sent when all of it has come, and when such a task's
    heartbeat has ended, its message is answered with Flower's error for a crash: the coordinator asks again."""
    get, expired = state_type.get_messages_legacy, state_type._on_task_tokens_expired
    finished = import_module("flwr.common.constant").Status.FINISHED

    def is_coming(self: Any, name: str) -> bool:
        session = self._object_push_sessions.get(self._object_push_session_by_root.get(name, ""))
        return session is not None and bool(session.pending_object_ids)

    def get_messages_legacy(self: Any, **wanted: Any) -> Any:
        found = get(self, **wanted)
        with self._lock_object_push_sessions, self.lock_msg_store:  # Flower's order
            parts = {one.metadata.message_id for one in found if is_coming(self, one.metadata.message_id)}
            for entry in (self.msg_store[name] for name in parts & self.msg_store.keys()):
                entry.is_retrieved = False
        return [one for one in found if one.metadata.message_id not in parts]

    def tokens_expired(self: Any, tasks: list[Any]) -> None:
        with self._lock_object_push_sessions, self.lock_msg_store:
            going_on = {task.run_id for task in self.task_store.values() if task.status.status != finished}
            for run in {task.run_id for task in tasks} - going_on:
                held = [(name, entry) for name, entry in self.msg_store.items() if entry.message.metadata.run_id == run]
                for name, entry in held:
                    if not entry.message.metadata.reply_to_message_id:
                        if not entry.is_retrieved:  # nobody will take it, and Flower answers what was taken only
                            entry.is_retrieved = True
                            self.object_store.delete(name)
                    elif is_coming(self, name):
                        self.delete_messages(message_ids=[name])
                        self._cleanup_push_session(self._object_push_session_by_root[name], cleanup_messages=False)
                        self.object_store.delete(name)
        expired(self, tasks)

    state_type.get_messages_legacy, state_type._on_task_tokens_expired = get_messages_legacy, tokens_expired
