"""One process that parses files for the site: started anew, asked, believed in nothing, and killed.

Any fault of it is a `LostError` with the code for the file that it was at; the process is gone then.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from site_client.imaging.answers import (
    MOST_ANSWER_BYTES,
    MOST_JSON_BYTES,
    Rendered,
    checked_digest,
    checked_end,
    checked_picture,
)
from site_client.imaging.framing import BrokenChannelError, Channel

__all__ = ["Limits", "LostError", "SandboxError", "SandboxProcess"]

_START_S = 120.0
_PASSED_ON = ("PATH", "PYTHONPATH", "PYTHONHOME", "PYTHONDONTWRITEBYTECODE", "LD_LIBRARY_PATH", "LANG", "LC_ALL")
_Found = TypeVar("_Found")


class SandboxError(ValueError):
    """The process that reads DICOM files does not start; the text says what to do."""


class LostError(Exception):
    """The process ended, or had to be ended, over one file; ``code`` is that file's."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


@dataclass(frozen=True, slots=True)
class Limits:
    """Of one process: memory_bytes of address space; cpu_s of processor time and wall_s of waiting, for one file."""

    memory_bytes: int
    file_bytes: int
    cpu_s: float
    wall_s: float


class SandboxProcess:
    """Start it with `SandboxProcess(...)` from a thread that lives as long as the process should: it dies with it."""

    def __init__(self, limits: Limits, command: Callable[[int], Sequence[str]]) -> None:
        self._limits = limits
        self.fresh = True                # no file was read yet
        self._ended_by_us = False
        ours, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                list(command(theirs.fileno())), pass_fds=(theirs.fileno(),), env=_environment(), cwd="/",
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self._channel = Channel(ours, MOST_JSON_BYTES)
        try:
            ready = self._channel.receive(time.monotonic() + _START_S) == ({"ready": True}, 0)
        except BrokenChannelError:
            ready = False
        if not ready:
            status = self.kill()
            raise SandboxError(
                f"the process that reads DICOM files did not start (status {status}); raise images.memory_gib, now "
                f"{limits.memory_bytes / 2**30:g}, or install this release again")

    @property
    def pid(self) -> int:
        """Of the process."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether it can be asked."""
        return not self._ended_by_us and self._process.poll() is None

    def each(self, work: str, paths: Sequence[Path], check: Callable[[Any], _Found]) -> Iterator[_Found | str]:
        """For one path after the other what was found, or the code of its refusal. May end early, with `alive` False:
        the rest is for another process. Raises LostError at the path that is to blame."""
        try:
            self._ask({"do": work, "paths": [str(path) for path in paths]})
            for _ in paths:
                found, refused = self._ended(*self._channel.receive(self._deadline()), "found", check)
                yield refused if found is None else found
                if not self.alive:
                    return
        except BrokenChannelError as error:
            raise self._lost(error) from None

    def render(self, path: Path, frames: Sequence[int]) -> Rendered | str:
        """The pictures of these frames, or the code of a refusal. Raises LostError."""
        pixels: list[NDArray[np.uint8]] = []
        how: list[str] = []
        deadline = self._deadline()
        try:
            self._ask({"do": "render", "path": str(path), "frames": list(frames)})
            while (received := self._channel.receive(deadline))[1]:
                height, width, words = checked_picture(*received)
                if len(pixels) == len(frames) or sum(one.nbytes for one in pixels) + received[1] > MOST_ANSWER_BYTES:
                    raise BrokenChannelError("sends more than was asked for")
                pixels.append(self._picture(height, width, deadline))
                how.append(words)
            digest, refused = self._ended(*received, "digest", checked_digest)
            if digest is not None and len(pixels) != len(frames):
                raise BrokenChannelError("sends less than was asked for")
        except BrokenChannelError as error:
            raise self._lost(error) from None
        return refused if digest is None else Rendered(tuple(pixels), tuple(how), digest)

    def _picture(self, height: int, width: int, deadline: float) -> NDArray[np.uint8]:
        picture = np.empty((height, width, 3), np.uint8)
        self._channel.receive_raw(picture.data.cast("B"), deadline)
        picture.flags.writeable = False
        return picture

    def _ended(self, message: Any, raw: int, key: str, check: Callable[[Any], _Found]) -> tuple[_Found | None, str]:
        """The end of the answer about one file; a process that is to be replaced is ended."""
        found, refused, over = checked_end(message, key, check)
        if raw:
            raise BrokenChannelError("sends more than was asked for")
        if refused == "decoder-memory":
            self.kill()
            raise LostError(refused)
        self.fresh = False
        if over:
            self.kill()
        return found, refused

    def _ask(self, request: Mapping[str, object]) -> None:
        self._channel.send(request, deadline=self._deadline())

    def _deadline(self) -> float:
        return time.monotonic() + self._limits.wall_s

    def _lost(self, error: BrokenChannelError) -> LostError:
        late = self.kill(wait_s=0.0 if error.late else 1.0) == -signal.SIGXCPU or error.late
        return LostError("decoder-timeout" if late else "decoder-crashed")

    def kill(self, wait_s: float = 0.0) -> int:
        """End it, after that long for it to end by itself; returns its exit status."""
        self._ended_by_us = True
        self._channel.close()
        try:
            return self._process.wait(wait_s)
        except subprocess.TimeoutExpired:
            self._process.kill()
        return self._process.wait()


def _environment() -> dict[str, str]:
    """No proxy, no credential, no path of the site: what a Python needs to start, and one thread for every library."""
    kept = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
    paths = [str(Path(__file__).resolve().parents[2]), *filter(None, kept.get("PYTHONPATH", "").split(os.pathsep))]
    return {**kept, "PYTHONPATH": os.pathsep.join(map(os.path.abspath, paths)), "OMP_NUM_THREADS": "1",
            "OPENBLAS_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "1"}
