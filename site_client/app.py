"""Flower in, Flower out: the ClientApp that every site runs and every simulation calls. Nothing else lives here.

Its process keeps one :class:`SiteSession` a site file; secrets of a round stay in that process's memory. The reply
holds the canonical bytes and, for the masked upload, one array: never metrics, never an exception's text.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Protocol

import numpy as np
import numpy.typing as npt
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, RecordDict
from flwr.clientapp import ClientApp

from privacy.entropy import SystemEntropy
from privacy.errors import NOBODY
from privacy.messages import ErrorReply
from site_client.installation import Installation
from site_client.session import SiteSession

__all__ = ["Answering", "app", "set_session_factory", "with_body"]

_log = logging.getLogger(__name__)


class Answering(Protocol):
    """What answers messages: a session, or the reception in front of it."""

    def answer(
        self, step: str, body: bytes, vector: npt.NDArray[np.generic] | None
    ) -> tuple[bytes, npt.NDArray[np.generic] | None]:
        """The reply's canonical bytes, and its vector where it has one."""
        ...


SessionFactory = Callable[[str], Answering]


def _open_session(site_file: str) -> SiteSession:
    return SiteSession(Installation.open(site_file), lambda purpose: SystemEntropy())


_factory: SessionFactory = _open_session
_sessions: dict[str, Answering] = {}


def set_session_factory(factory: SessionFactory | None) -> None:
    """How sessions are made: by the executor's reception, or seeded in a simulation (None = as the site file says).
    No file can set this."""
    global _factory
    _factory = factory or _open_session
    _sessions.clear()


def _answer(message: Message, context: Context) -> Message:
    """Hand one message to the site's session; whatever goes wrong leaves as a code."""
    step = message.metadata.message_type.split(".")[-1]
    try:
        site_file = str(context.node_config["site-file"])
        if site_file not in _sessions:
            _sessions[site_file] = _factory(site_file)
        vector = message.content["vector"]["v"].numpy() if "vector" in message.content else None
        body, upload = _sessions[site_file].answer(step, message.content["message"]["body"], vector)
    except Exception as error:  # Flower would send the exception's text to the coordinator
        _log.error("step=%s failed kind=%s", step, type(error).__name__)
        body, upload = ErrorReply("E_SITE", NOBODY).to_bytes(), None
    return with_body(message, body, upload)


def with_body(message: Message, body: bytes, upload: npt.NDArray[np.generic] | None = None) -> Message:
    """The reply to `message` with these canonical bytes and, where there is one, this vector."""
    content = RecordDict({"message": ConfigRecord({"body": body})})
    if upload is not None:
        content["vector"] = ArrayRecord({"v": Array(upload)})
    return Message(content, reply_to=message)


app = ClientApp()
app.query("roster")(_answer)
app.query("hello")(_answer)
app.query("witness")(_answer)
app.query("restore")(_answer)
app.train("sa_train")(_answer)
app.query("sa_share")(_answer)
app.query("sa_mask")(_answer)
app.query("sa_confirm")(_answer)
app.query("sa_unmask")(_answer)
app.query("sa_result")(_answer)
