"""Messages between the site's process and the one that parses files: JSON, and raw bytes that it announces.

Each message is 4 bytes length of the JSON, 8 bytes length of what follows it, big endian, then both. Nothing is ever
unpickled; both ends bound what they accept before they allocate it.
"""

from __future__ import annotations

import json
import socket
import struct
import time
from typing import Any

__all__ = ["BrokenChannelError", "Channel"]

_HEAD = struct.Struct(">IQ")
_CHUNK = 1 << 16
_SOCKET_BYTES = 1 << 18


class BrokenChannelError(Exception):
    """The other end is gone, speaks another language, or (`late`) did not answer in time."""

    def __init__(self, what: str, late: bool = False) -> None:
        super().__init__(what)
        self.late = late


class Channel:
    """One end of a connected stream socket, which it owns. Deadlines are of `time.monotonic`, None for none."""

    def __init__(self, stream: socket.socket, most_json_bytes: int) -> None:
        self._stream, self._most = stream, most_json_bytes
        self._read = bytearray()
        for option in (socket.SO_SNDBUF, socket.SO_RCVBUF):
            stream.setsockopt(socket.SOL_SOCKET, option, _SOCKET_BYTES)

    def send(self, message: object, raw: memoryview | bytes = b"", deadline: float | None = None) -> None:
        """Raises BrokenChannelError."""
        text = json.dumps(message, separators=(",", ":")).encode()
        try:
            self._wait_until(deadline)
            self._stream.sendall(_HEAD.pack(len(text), len(raw)) + text)
            if raw:
                self._stream.sendall(raw)
        except TimeoutError:
            raise BrokenChannelError("does not read", late=True) from None
        except OSError:
            raise BrokenChannelError("is gone") from None

    def receive(self, deadline: float | None = None) -> tuple[Any, int]:
        """(the JSON, number of raw bytes that follow: `receive_raw` must fetch them). Raises BrokenChannelError."""
        self._fill(_HEAD.size, deadline)
        size, raw = _HEAD.unpack_from(self._read)
        if size > self._most:
            raise BrokenChannelError("announces too much")
        self._fill(_HEAD.size + size, deadline)
        text = bytes(self._read[_HEAD.size:_HEAD.size + size])
        del self._read[:_HEAD.size + size]
        try:
            return json.loads(text), raw
        except (ValueError, RecursionError):
            raise BrokenChannelError("sends no JSON") from None

    def receive_raw(self, into: memoryview, deadline: float | None = None) -> None:
        """Fill that memory, of bytes. Raises BrokenChannelError."""
        done = min(len(self._read), len(into))
        into[:done] = self._read[:done]
        del self._read[:done]
        while done < len(into):
            done += self._into(into[done:], deadline)

    def _fill(self, size: int, deadline: float | None) -> None:
        while len(self._read) < size:
            chunk = bytearray(_CHUNK)
            count = self._into(memoryview(chunk), deadline)
            self._read += memoryview(chunk)[:count]

    def _into(self, view: memoryview, deadline: float | None) -> int:
        try:
            self._wait_until(deadline)
            count = self._stream.recv_into(view)
        except TimeoutError:
            raise BrokenChannelError("does not answer", late=True) from None
        except OSError:
            raise BrokenChannelError("is gone") from None
        if count == 0:
            raise BrokenChannelError("is gone")
        return count

    def _wait_until(self, deadline: float | None) -> None:
        left = None if deadline is None else deadline - time.monotonic()
        if left is not None and left <= 0:
            raise TimeoutError
        self._stream.settimeout(left)

    def close(self) -> None:
        """The other end reads the end of the stream."""
        self._stream.close()
