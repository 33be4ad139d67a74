"""What `flower_facts` prints of the node: its loop and its state, as Flower has them and as we mend them."""

from __future__ import annotations

import importlib
import inspect
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

from privacy.transport.flower_internals import process
from privacy.transport.flower_internals.node import _mend_loop, _send_whole_replies
from privacy.transport.timing import Timing


def of(module: str) -> Any:
    """That module of Flower."""
    return importlib.import_module(module)


def parameters(function: Any) -> list[str]:
    """Their names."""
    return list(inspect.signature(function).parameters)


def node_facts() -> dict[str, Any]:
    """All of it."""
    return {**_left_behind(), "lost_rest": [_lost_rest(mended) for mended in (False, True)],
            "lost_message": [_lost_message(mended) for mended in (False, True)]}


def contents(message: Any) -> dict[str, bytes]:
    inflatable = of("flwr.supercore.inflatable.inflatable_object")
    return {name: one.deflate() for name, one in inflatable.get_all_nested_objects(message).items()}


def stored(state: Any, run: int, message: Any, whole: bool) -> str:
    """Its head, and with `whole` what it holds; the session in which the rest may come."""
    message.metadata.__dict__["_message_id"] = message.object_id
    session: str = state.start_session(run)
    done, _ = state.store_message_and_object_tree(
        message, of("flwr.supercore.inflatable.inflatable_object").get_object_tree(message), session)
    assert done
    for name, content in contents(message).items() if whole else ():
        state.store_object(run, session, name, content)
    return session


def _left_behind() -> dict[str, Any]:
    """What the node's loop is told after a take, and which messages its state then holds."""
    source, pulls = of("flwr.supernode.start_client_internal"), iter((7, None, None, None))
    stores = of("flwr.supercore.object_store").ObjectStoreFactory().store()
    state = of("flwr.supernode.nodestate.in_memory_nodestate").InMemoryNodeState(stores)
    app = of("flwr.app")
    process.be_in_process(5)
    asked = app.Message(app.RecordDict(), dst_node_id=3, message_type="query")
    asked.metadata.__dict__["_message_id"] = asked.object_id
    reply = app.Message(app.RecordDict(), reply_to=asked)
    reply.metadata.__dict__["_message_id"] = reply.object_id
    comes = {2: asked, 3: reply}
    count = iter(range(1, 9))

    def pull(*, state: Any, **others: Any) -> int | None:
        if message := comes.get(next(count)):
            stores.preregister(5, of("flwr.supercore.inflatable.inflatable_object").get_object_tree(message))
            state.store_message(message)
        return next(pulls)

    loop = SimpleNamespace(_pull_and_store_message=pull, _push_messages=None)
    _mend_loop(loop, Timing())
    said: list[Any] = []
    for _ in range(4):
        run = loop._pull_and_store_message(state=state, object_store=stores)
        said.append([run, len(state.msg_store), len(stores)])
        state.get_messages_legacy(is_reply=True)
    return {"left": said, "takes": parameters(source._pull_and_store_message)[0],
            "pushes": parameters(source._push_messages)[0],
            "by_name": "state=state,\n                object_store=store," in inspect.getsource(source)}



class _Begun:
    """A node's state with one message and its task, which the executor has begun."""

    def __init__(self, mended: bool, taken: bool) -> None:
        kind = of("flwr.supernode.nodestate.in_memory_nodestate").InMemoryNodeState
        self.stores = of("flwr.supercore.object_store").ObjectStoreFactory().store()
        self.state: Any = type("State", (kind,), {})(self.stores)
        if mended:
            _send_whole_replies(type(self.state))
        app = of("flwr.app")
        process.be_in_process(5)
        asked = app.Message(app.RecordDict(), dst_node_id=3, message_type="query")
        self.task = self.state.create_task(task_type="flwr-clientapp", run_id=5, fab_hash="")
        stored(self.state, 5, asked, whole=True)
        self.state.claim_task(self.task)
        self.state.activate_task(self.task)
        if taken:
            self.state.get_messages_legacy(run_ids=[5], is_reply=False)
        process.be_in_process(5, node_id=3)
        self.reply = app.Message(app.RecordDict({"m": app.ConfigRecord({"body": b"1"})}), reply_to=asked)

    def sent(self) -> list[bool]:
        """Of each message that the node's loop would send now: whether it is an error."""
        return [one.has_error() for one in self.state.get_messages_legacy(is_reply=True)]

    def expire(self) -> None:
        """No heartbeat of the task came for a day."""
        self.state.task_token_store[self.task].active_until -= timedelta(days=1)


def _lost_rest(mended: bool) -> list[list[bool]]:
    """What is sent when the head of a reply is there, when the rest has come, and, had it not, at the task's end."""
    whole, part = _Begun(mended, taken=True), _Begun(mended, taken=True)
    session = stored(whole.state, 5, whole.reply, whole=False)
    stored(part.state, 5, part.reply, whole=False)
    said = [whole.sent()]
    for name, content in contents(whole.reply).items():
        whole.state.store_object(5, session, name, content)
    said.append(whole.sent())
    part.expire()
    return [*said, part.sent()]


def _lost_message(mended: bool) -> list[list[bool]]:
    """What is sent before and after the end of a task whose message nobody has taken; and while another one goes on."""
    alone, beside = _Begun(mended, taken=False), _Begun(mended, taken=False)
    beside.state.create_task(task_type="flwr-clientapp", run_id=5, fab_hash="")
    said = [alone.sent()]
    alone.expire()
    beside.expire()
    return [*said, alone.sent(), beside.sent()]
