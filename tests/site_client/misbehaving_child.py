"""The sandbox's own child, with a renderer and a header pass that do what the file's name says."""

from __future__ import annotations

import ctypes
import json
import os
import resource
import signal
import socket
import sys
import time
from pathlib import Path

import numpy as np

import site_client.imaging.header_pass as header_pass
import site_client.imaging.rendering as rendering
from site_client.imaging.sandbox_child import main

read_header, render_frames = header_pass.read_header, rendering.render_frames
seen: list[str] = []
left_behind: list[np.ndarray] = []


class PanicError(BaseException):
    """As pyo3 raises them."""


def panic() -> None:
    raise PanicError


def spin() -> None:
    while True:
        pass


def first_only() -> None:
    if len(seen) > 1:
        os.abort()


def hungry(share: float) -> None:
    """Needs that share of the whole address space for a moment."""
    np.empty(int(resource.getrlimit(resource.RLIMIT_AS)[0] * share), np.uint8)


def leak() -> None:
    left_behind.append(np.empty(resource.getrlimit(resource.RLIMIT_AS)[0] // 3, np.uint8))


ACTS = {
    "abort": os.abort, "segv": lambda: ctypes.string_at(0), "kill": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "exit": lambda: os._exit(0), "spin": spin, "sleep": lambda: time.sleep(600), "panic": panic,
    "memory": lambda: bytearray(1 << 45), "first-only": first_only, "leak": leak, "hungry": lambda: hungry(0.6),
}  # fmt: skip


def act(path: Path) -> None:
    seen.append(path.stem)
    if path.stem in ACTS:
        ACTS[path.stem]()


def header(path: Path, most_bytes: int):  # type: ignore[no-untyped-def]
    if path.parent.name == "headers":
        act(path)
    return read_header(path, most_bytes)


def attempt(what) -> str:  # type: ignore[no-untyped-def]
    try:
        what()
    except OSError as error:
        return type(error).__name__
    return "allowed"


def connect() -> None:
    with socket.create_connection(("127.0.0.1", int(os.environ["PATH"].rpartition(":")[2])), 2):
        pass


def state(path: Path) -> str:
    """What this process can see and do, for the test to judge."""
    limits = [resource.getrlimit(what)[0] for what in (resource.RLIMIT_AS, resource.RLIMIT_CORE)]
    return json.dumps({
        "environment": sorted(os.environ), "files": sum(1 for _ in Path("/proc/self/fd").iterdir()) - 1,
        "limits": limits,
        "write": attempt(lambda: (path.parent / "new").write_text("x")), "remove": attempt(path.unlink),
        "connect": attempt(connect), "signal": attempt(lambda: os.kill(os.getppid(), 0))})


def frames(path: Path, wanted: list[int]):  # type: ignore[no-untyped-def]
    act(path)
    if path.stem == "state":
        return [(np.zeros((2, 2, 3), np.uint8), state(path))]
    return render_frames(path, wanted)


header_pass.read_header, rendering.render_frames = header, frames
sys.exit(main())
