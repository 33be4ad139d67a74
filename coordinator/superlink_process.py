"""The hub's process: Flower's SuperLink with the fleet's routes in public and everything else behind a secret.

`coordinator up` starts it and starts it again; its database lets the sites' messages survive.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping

from cryptography.hazmat.primitives import serialization

from coordinator.home import Home
from privacy.transport.child import child_arguments
from privacy.transport.flower_internals.hub import FLEET_ROUTES, serve_hub
from privacy.transport.flower_internals.process import prepare
from privacy.transport.listeners import PrivateListener, PublicListener
from privacy.transport.log_lines import is_json, log_as_json
from privacy.transport.timing import Timing

__all__ = ["main", "split_address", "timing_of"]


def main(argv: list[str] | None = None) -> int:
    """`python -m coordinator.superlink_process DIR --port PORT --secret-file FILE --ready FILE`."""
    arguments = child_arguments("coordinator.superlink_process", __doc__, argv, lambda parser: parser.add_argument(
        "--descriptor", type=int, help="of the socket that listens on the port already"))
    if is_json():
        log_as_json()
    home = Home.open(arguments.owner)
    prepare(timing_of(home), home.folder / "flower")
    host, port = split_address(home.config.listen)
    serve_hub(
        PrivateListener(arguments.port, arguments.secret_file.read_text("ascii"), arguments.descriptor),
        PublicListener(host, port, home.server_certificate_file, home.server_key_file, FLEET_ROUTES),
        home.folder / "superlink.sqlite", lambda: _node_keys(home), arguments.ready.touch)
    return 0


def timing_of(home: Home) -> Timing:
    """The folder's timing as Flower's processes take it."""
    chosen = home.config.transport
    return Timing(chosen.heartbeat_s, chosen.busy_poll_s, chosen.idle_poll_s, chosen.busy_s)


def split_address(text: str) -> tuple[str, int]:
    """HOST:PORT in two, without the brackets of an IPv6 address."""
    host, _, port = text.rpartition(":")
    return host.strip("[]"), int(port)


def _node_keys(home: Home) -> Mapping[str, bytes]:
    """Site -> its node's key as Flower keeps it (PEM): of the active sites of the roster in force, none without one.

    A site whose request is damaged is left out and said; that keeps nobody else out, and lets nobody in.
    """
    try:
        keys, faults = home.admitted_keys()
    except ValueError as error:
        print(error, flush=True)
        return {}
    for fault in faults:
        print(fault, flush=True)
    return {site: serialization.load_ssh_public_key(text.encode()).public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo) for site, text in keys.items()}


if __name__ == "__main__":
    sys.exit(main())
