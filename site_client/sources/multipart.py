"""The one part of a multipart answer (RFC 2046 5.1.1; DICOM PS3.18 8.7.3), piece by piece, never whole in memory.

dicomweb-client reads a part whole and parses it as DICOM in this process; here its bytes go to the disk unparsed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from email.message import Message

__all__ = ["MultipartError", "boundary", "only_part"]

MOST_HEADER_BYTES = 64 * 2**10


class MultipartError(ValueError):
    """No multipart answer, or one that breaks off."""


def boundary(content_type: str) -> bytes:
    """What separates the parts; MultipartError when the answer is not multipart/related."""
    message = Message()
    message["Content-Type"] = content_type
    found = message.get_boundary()
    if message.get_content_type() != "multipart/related" or not found:
        raise MultipartError("not multipart/related with a boundary")
    return found.encode(errors="replace")


def only_part(separator: bytes, pieces: Iterable[bytes]) -> Iterator[bytes]:
    """The first part's bytes; what follows is read and dropped, so that the connection can be used again.

    Raises MultipartError when the answer ends before the part does.
    """
    marker = b"\r\n--" + separator
    stream = iter(pieces)
    held = _after_header(b"\r\n", stream, marker)
    while True:
        end = held.find(marker)
        if end >= 0:
            yield held[:end]
            break
        sure = max(0, len(held) - len(marker) + 1)  # the rest may be the begin of a marker
        yield held[:sure]
        piece = next(stream, b"")
        if not piece:
            raise MultipartError("the part has no end")
        held = held[sure:] + piece
    for _ in stream:
        pass


def _after_header(held: bytes, stream: Iterator[bytes], marker: bytes) -> bytes:
    """What was read beyond the header of the first part."""
    while True:
        begin = held.find(marker)
        end = held.find(b"\r\n\r\n", begin + len(marker)) if begin >= 0 else -1
        if end >= 0:
            return held[end + 4 :]
        piece = next(stream, b"")
        if not piece or len(held) > MOST_HEADER_BYTES:
            raise MultipartError("no part begins")
        held += piece
