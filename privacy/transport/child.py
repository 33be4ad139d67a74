"""How a process begins that a long-running command starts: its arguments, its files' modes, its log.

*Guarantees.* What it writes is its user's alone (umask 077); requests that it makes are not logged.

*Assumes.* It is called once, at the start of the process.

*Does not cover.* What the process does.
"""

from __future__ import annotations

import argparse
import logging
import os
from collections.abc import Callable, Sequence
from pathlib import Path

from privacy.transport.log_lines import is_json, log_as_json

__all__ = ["child_arguments", "log_to_output"]


def child_arguments(
    module: str, description: str | None, argv: Sequence[str] | None,
    more: Callable[[argparse.ArgumentParser], object] = lambda parser: None,
) -> argparse.Namespace:
    """The arguments of `python -m MODULE OWNER --port PORT --secret-file FILE --ready FILE`.

    Args:
        argv: without the program; None = of the process.
        more: adds further arguments.

    Returns:
        `owner` (a coordinator's folder or a site's file), `port` (between node and executor, or of the private
        listener), `secret_file`, `ready` (the file that says that the process is ready).
    """
    parser = argparse.ArgumentParser(prog=module, description=description)
    parser.add_argument("owner", type=Path)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--secret-file", type=Path, required=True)
    parser.add_argument("--ready", type=Path, required=True)
    more(parser)
    os.umask(0o077)
    return parser.parse_args(argv)


def log_to_output(*, strict: bool = False) -> None:
    """Log to the error output, which the supervisor keeps in a file: text with times, or JSON lines where the service
    asked for them. `strict`: JSON as at a hospital (`privacy.transport.log_lines`)."""
    if is_json():
        log_as_json(strict=strict)
        return
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    for noisy in ("httpx", "httpcore"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
