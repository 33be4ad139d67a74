"""The node's process: Flower's own SuperNode in process isolation, so that it never runs what the coordinator sends.

`site-client start` starts it and starts it again. It counts what it sends and what is answered, by kind of request, in
`state/transport.json`, and keeps a file while the coordinator answers.
"""

from __future__ import annotations

import atexit
import json
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

from configs.load import load_config
from configs.schema import SiteConfig
from privacy.durable import write_whole
from privacy.enrolment import Invitation
from privacy.transport.child import child_arguments
from privacy.transport.flower_internals.node import run_node
from privacy.transport.flower_internals.process import prepare
from privacy.transport.log_lines import is_json, log_as_json
from privacy.transport.timing import NodeOptions, Timing

__all__ = ["Contact", "TransportCount", "main", "read_counts", "timing_of"]

_WRITE_EVERY_S = 1.0
_QUIET_WRITE_EVERY_S = 30.0  # while the node only asks whether there is a message, and says that it lives
_QUIET = ("pull-messages", "send-node-heartbeat")
_PATIENCE = 2  # heartbeats without an answer, as the coordinator's own patience with a node


def main(argv: list[str] | None = None) -> int:
    """`python -m site_client.supernode_process SITE_FILE --port PORT --secret-file FILE --ready FILE`."""
    arguments = child_arguments("site_client.supernode_process", __doc__, argv)
    config = load_config(SiteConfig, arguments.owner)
    state = Path(config.state)
    invitation = Invitation.from_json(Path(config.invitation).read_bytes())
    authority = state / "coordinator-ca.crt"
    write_whole(authority, invitation.ca_certificate.encode())
    if is_json():
        log_as_json(strict=True)
    timing = timing_of(config)
    prepare(timing, state / "flower")
    count = TransportCount(state / "transport.json")
    atexit.register(count.write)
    contact = Contact(arguments.ready, _PATIENCE * timing.heartbeat_s)

    def counted(kind: str, size_bytes: int, is_answer: bool) -> None:
        count.add(kind, size_bytes, is_answer)
        if is_answer:
            contact.heard()

    run_node(NodeOptions(invitation.address, authority, state / "node.key", arguments.port, arguments.secret_file),
             timing, counted)
    return 0


def timing_of(config: SiteConfig) -> Timing:
    """The site's timing as Flower's processes take it."""
    chosen = config.transport
    return Timing(chosen.heartbeat_s, chosen.busy_poll_s, chosen.idle_poll_s, chosen.busy_s)


class Contact:
    """`path` is there from an answer of the coordinator on, until `patience_s` went by without another."""

    def __init__(self, path: Path, patience_s: float) -> None:
        self._path, self._patience_s = path, patience_s
        self._heard, self._there = time.monotonic(), False
        threading.Thread(target=self._watch, daemon=True).start()

    def heard(self) -> None:
        """The coordinator answered."""
        self._heard = time.monotonic()
        if not self._there:
            with suppress(OSError):  # a full disk; the next answer tries again
                self._path.touch(0o600)
                self._there = True

    def _watch(self) -> None:
        while True:
            time.sleep(self._patience_s / 8)
            if self._there and time.monotonic() - self._heard > self._patience_s:
                self._there = False
                with suppress(OSError):
                    self._path.unlink(missing_ok=True)


class TransportCount:
    """Requests to the coordinator and bytes both ways, by kind, since `site-client start` began."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._counts: dict[str, list[int]] = {
            kind: [one["requests"], one["bytes_out"], one["bytes_in"]] for kind, one in read_counts(path).items()}
        self._written, self._moved = time.monotonic(), False

    def add(self, kind: str, size_bytes: int, is_answer: bool) -> None:
        """One more request of that kind, or the answer to one; on the disk a second later, or with the next one."""
        with self._lock:
            count = self._counts.setdefault(kind, [0, 0, 0])
            count[0] += not is_answer
            count[2 if is_answer else 1] += size_bytes
            self._moved = self._moved or kind not in _QUIET
            if time.monotonic() - self._written > (_WRITE_EVERY_S if self._moved else _QUIET_WRITE_EVERY_S):
                self._write()

    def write(self) -> None:
        """Now; for the end of the process."""
        with self._lock:
            self._write()

    def _write(self) -> None:
        facts = {kind: {"requests": count[0], "bytes_out": count[1], "bytes_in": count[2]}
                 for kind, count in sorted(self._counts.items())}
        self._written, self._moved = time.monotonic(), False
        with suppress(OSError):  # a full disk: the audit log, not this count, decides whether anything leaves
            write_whole(self._path, json.dumps(facts, indent=1).encode())


def read_counts(path: Path) -> dict[str, dict[str, int]]:
    """What a :class:`TransportCount` wrote: kind -> requests, bytes_out, bytes_in; empty without a file."""
    try:
        found: dict[str, dict[str, int]] = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return {}
    return found


if __name__ == "__main__":
    sys.exit(main())
