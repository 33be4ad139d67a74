"""Flower in, Flower out: the ClientApp that every site runs and every simulation calls. Nothing else lives here.

Its process keeps one :class:`SiteSession` a site file; secrets of a round stay in that process's memory. The reply
holds the canonical bytes and, for the masked upload, one array: never metrics, never an exception's text.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, RecordDict
from flwr.clientapp import ClientApp

from privacy.entropy import SystemEntropy
from privacy.errors import NOBODY
from privacy.messages import ErrorReply
from site_client.installation import Installation
from site_client.session import SiteSession

__all__ = ["app", "set_session_factory"]

_log = logging.getLogger(__name__)
SessionFactory = Callable[[str], SiteSession]


def _open_session(site_file: str) -> SiteSession:
    return SiteSession(Installation.open(site_file), lambda purpose: SystemEntropy())


_factory: SessionFactory = _open_session
_sessions: dict[str, SiteSession] = {}


def set_session_factory(factory: SessionFactory | None) -> None:
    """For simulations and tests only: how sessions are made (None = the production way). No file can set this."""
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
    content = RecordDict({"message": ConfigRecord({"body": body})})
    if upload is not None:
        content["vector"] = ArrayRecord({"v": Array(upload)})
    return Message(content, reply_to=message)


app = ClientApp()
app.query("hello")(_answer)
app.query("witness")(_answer)
app.query("restore")(_answer)
app.train("sa_train")(_answer)
app.query("sa_share")(_answer)
app.query("sa_mask")(_answer)
app.query("sa_confirm")(_answer)
app.query("sa_unmask")(_answer)
app.query("sa_result")(_answer)
