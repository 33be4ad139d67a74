"""The process that parses a hospital's DICOM files: `python -m site_client.imaging.sandbox_child`.

`site_client.imaging.sandbox` starts it and kills it. It gets paths, and gives back what a header says, pixels, or the
code of a refusal; never a text of a library, which may quote a patient. It stays for many files. After a file for which
memory ran out, and when an earlier file has left much memory behind, it says so and ends, so that no file's fate
depends on the files before it.
"""

from __future__ import annotations

import argparse
import gc
import hashlib
import logging
import os
import socket
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from site_client.imaging.answers import MOST_ANSWER_BYTES
from site_client.imaging.confinement import allow_cpu_s, die_with_parent, fence, limit
from site_client.imaging.framing import BrokenChannelError, Channel

__all__ = ["main"]

_MOST_REQUEST_BYTES = 1 << 22
_CHUNK_BYTES = 1 << 26           # pictures are made and sent in groups of about this size
_PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True, slots=True)
class _Limits:
    cpu_s: float
    file_bytes: int
    plugin: str
    tired_bytes: int             # of address space, after a file


def main(argv: list[str] | None = None) -> int:
    """Serve until the other end closes. Every argument is the sandbox's own."""
    parser = argparse.ArgumentParser(prog="site_client.imaging.sandbox_child", description=__doc__)
    parser.add_argument("--fd", type=int, required=True)
    parser.add_argument("--parent", type=int, required=True)
    parser.add_argument("--memory-bytes", type=int, required=True)
    parser.add_argument("--cpu-s", type=float, required=True)
    parser.add_argument("--file-bytes", type=int, required=True)
    parser.add_argument("--plugin", default="")
    arguments = parser.parse_args(argv)
    limit(arguments.memory_bytes)
    _load(arguments.plugin)
    fence()
    if not die_with_parent(arguments.parent):
        return 1
    channel = Channel(socket.socket(fileno=arguments.fd), _MOST_REQUEST_BYTES)
    tired = _address_space() + arguments.memory_bytes // 8
    limits = _Limits(arguments.cpu_s, arguments.file_bytes, arguments.plugin, tired)
    try:
        channel.send({"ready": True})
        while _follow(channel, channel.receive()[0], limits):
            pass
    except BrokenChannelError:
        pass
    return 0


def _load(plugin: str) -> None:
    """Every library, before the first file, and quiet: what they warn and log quotes values of files."""
    logging.disable()
    warnings.simplefilter("ignore")
    # pydicom would load it, for a quarter of the time to start, to download its own test files.
    sys.modules["requests"] = None  # type: ignore[assignment]
    from pydicom.pixels import get_decoder

    import site_client.imaging.header_pass
    import site_client.imaging.rendering  # noqa: F401
    from site_client.imaging.decoders import SYNTAXES, plugins_of

    for syntax in SYNTAXES:
        decoder = get_decoder(syntax)
        wanted = (plugin,) if plugin else plugins_of(syntax)
        for name in decoder.available_plugins:
            decoder.remove_plugin(name)
            if name in wanted:
                decoder.add_plugin(name, ("site_client.imaging.bounded_decoders", name))
    gc.freeze()


# ------------------------------------------------------------------ requests


def _follow(channel: Channel, request: dict[str, Any], limits: _Limits) -> bool:
    """Answer one request; False once this process should be replaced."""
    from site_client.imaging.header_pass import read_header, read_syntax

    if request["do"] == "render":
        return _answer(channel, lambda: _render(channel, Path(request["path"]), request["frames"], limits), limits)
    def found(path: str) -> dict[str, Any]:
        if request["do"] == "syntaxes":
            return {"found": read_syntax(Path(path), limits.file_bytes)}
        return {"found": asdict(read_header(Path(path), limits.file_bytes))}

    return all(_answer(channel, partial(found, path), limits) for path in request["paths"])


def _answer(channel: Channel, work: Callable[[], dict[str, Any]], limits: _Limits) -> bool:
    from site_client.records import RefusedItemError

    allow_cpu_s(limits.cpu_s)
    try:
        answer = work()
    except (BrokenChannelError, KeyboardInterrupt):
        raise
    except RefusedItemError as refusal:
        answer = {"refused": refusal.code}
    except MemoryError:
        answer = {"refused": "decoder-memory"}
    except BaseException:  # the library raises nearly anything, with values of the file in the text
        answer = {"refused": "dicom-unreadable"}
    over = answer.get("refused") == "decoder-memory" or _address_space() > limits.tired_bytes
    channel.send({**answer, "over": over})
    return not over


def _render(channel: Channel, path: Path, frames: Sequence[int], limits: _Limits) -> dict[str, Any]:
    """Send each picture, and return the end of the answer."""
    from site_client.imaging.header_pass import open_regular, read_header
    from site_client.records import RefusedItemError

    with open_regular(path, limits.file_bytes) as file:
        before = _identity(os.fstat(file.fileno()))
        digest = _digest(file.fileno())
    header = read_header(path, limits.file_bytes)
    if max(frames) >= header.frames:
        raise RefusedItemError("frame-missing")
    size = header.rows * header.columns * 3
    if len(frames) * size > MOST_ANSWER_BYTES:
        raise RefusedItemError("picture-too-large")
    for picture, how in _pictures(path, frames, max(1, _CHUNK_BYTES // size)):
        if len(frames) * picture.nbytes > MOST_ANSWER_BYTES:
            raise RefusedItemError("picture-too-large")
        channel.send({"height": picture.shape[0], "width": picture.shape[1], "how": how}, picture.data.cast("B"))
    if _identity(path.stat()) != before:
        raise RefusedItemError("file-not-readable")
    return {"digest": digest}


def _pictures(path: Path, frames: Sequence[int], at_once: int) -> Iterator[tuple[Any, str]]:
    import numpy as np

    from site_client.imaging.rendering import render_frames
    from site_client.records import RefusedItemError

    for start in range(0, len(frames), at_once):
        try:
            found = render_frames(path, frames[start:start + at_once])
        except (RefusedItemError, MemoryError):
            raise
        except BaseException:  # a decoder in Rust raises its panics past Exception
            raise RefusedItemError("pixels-undecodable") from None
        yield from ((np.ascontiguousarray(picture), how) for picture, how in found)


def _identity(status: os.stat_result) -> tuple[int, ...]:
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def _digest(descriptor: int) -> str:
    digest = hashlib.sha256()
    block = bytearray(1 << 18)
    os.lseek(descriptor, 0, os.SEEK_SET)
    while count := os.readv(descriptor, [block]):
        digest.update(memoryview(block)[:count])
    return digest.hexdigest()


def _address_space() -> int:
    """Bytes of this process's address space, which is what RLIMIT_AS bounds."""
    return int(Path("/proc/self/statm").read_text().split()[0]) * _PAGE


if __name__ == "__main__":
    raise SystemExit(main())
