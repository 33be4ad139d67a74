"""A coordinator that sends code of its own: begins a run of another bundle at the hub and asks every node.

Usage: rogue_coordinator.py PORT SECRET_FILE FLOWER_HOME; prints the replies' codes as JSON.
"""

from __future__ import annotations

import io
import json
import sys
import time
import zipfile
from pathlib import Path

from privacy.messages import ErrorReply
from privacy.transport.flower_internals.process import prepare
from privacy.transport.flower_internals.tasks import HubControl
from privacy.transport.listeners import PrivateListener
from privacy.transport.timing import Timing

PROJECT = """\
[project]
name = "stolen"
version = "1.0.0"
description = "code that nobody installed"
license = "Apache-2.0"
dependencies = []

[tool.flwr.app]
publisher = "rogue"

[tool.flwr.app.components]
serverapp = "stolen.app:app"
clientapp = "stolen.app:app"

[tool.flwr.app.config]
run = ""
"""
CODE = "open('stolen', 'w').close()\nfrom flwr.clientapp import ClientApp\napp = ClientApp()\n"


def bundle() -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as archive:
        archive.writestr("pyproject.toml", PROJECT)
        archive.writestr("stolen/__init__.py", "")
        archive.writestr("stolen/app.py", CODE)
    return target.getvalue()


def main() -> None:
    port, secret, home = int(sys.argv[1]), Path(sys.argv[2]).read_text(), Path(sys.argv[3])
    timing = Timing(heartbeat_s=4.0)
    prepare(timing, home)
    from flwr.app import ConfigRecord, Message, RecordDict

    control = HubControl(PrivateListener(port, secret), timing)
    grid, _ = control.begin("rogue", bundle())
    try:
        nodes = list(grid.get_node_ids())
        pending = set(grid.push_messages([
            Message(content=RecordDict({"message": ConfigRecord({"body": b"hello"})}), dst_node_id=node,
                    message_type="query.hello", ttl=60.0) for node in nodes]))
        answers, deadline = [], time.monotonic() + 60
        while pending and time.monotonic() < deadline:
            for reply in grid.pull_messages(pending):
                pending.discard(reply.metadata.reply_to_message_id)
                refusal = ErrorReply.from_bytes(reply.content["message"]["body"])
                answers.append([refusal.code, refusal.blamed])
            time.sleep(0.1)
        print(json.dumps(answers))
    finally:
        control.finish()


if __name__ == "__main__":
    main()
