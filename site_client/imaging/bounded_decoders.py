"""pydicom's decoder plugins, each behind a look at the compressed stream; used in the sandbox only.

A stream that says it is larger than its file's header is refused before it is decoded: libjpeg decoded all 400 million
pixels under a header of 64 x 64 first, in 4.4 s and 2 GB. So is a JPEG-LS stream without its end: CharLS (pyjpegls
1.5.1) computes for 8 s where a stream of 2 kB was cut. Loaded by pydicom (`Decoder.add_plugin`) by the plugins' own
names.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from importlib import import_module
from typing import Any

from pydicom import uid

__all__ = ["DECODER_DEPENDENCIES", "gdcm", "is_available", "pillow", "pydicom", "pyjpegls", "pylibjpeg", "stream_size"]

DECODER_DEPENDENCIES: dict[str, tuple[str, ...]] = {}
"""Asked for by pydicom of a plugin that is not available; all that are loaded are."""

_NO_FRAME = (0xC4, 0xC8, 0xCC)   # DHT, JPG, DAC among the start-of-frame codes (ITU-T T.81 table B.1)
_JPEG_LS_FRAME = 0xF7            # ITU-T T.87
_END = b"\xff\xd9"                # EOI; padding may follow (PS3.5 A.4)
_STANDALONE = (0x01, *range(0xD0, 0xD9))


def is_available(syntax: str) -> bool:
    """pydicom asks; only what it has itself is put behind the look."""
    return True


def stream_size(stream: bytes) -> int | None:
    """Pixels of one component of a JPEG, JPEG-LS or JPEG 2000 stream as it says itself; None where it does not say."""
    if stream[:4] == b"\xff\x4f\xff\x51" and len(stream) >= 24:  # SIZ, ITU-T T.800 A.5.1
        right, bottom, left, top = struct.unpack_from(">4L", stream, 8)
        return int(max(0, right - left) * max(0, bottom - top))
    at = 2
    while stream[:2] == b"\xff\xd8" and at + 9 <= len(stream) and stream[at] == 0xFF:
        marker = stream[at + 1]
        if marker == _JPEG_LS_FRAME or (0xC0 <= marker <= 0xCF and marker not in _NO_FRAME):
            rows, columns = struct.unpack_from(">2H", stream, at + 5)
            return int(rows) * int(columns)
        alone = marker == 0xFF or marker in _STANDALONE
        at += (1 if marker == 0xFF else 2) if alone else 2 + struct.unpack_from(">H", stream, at + 2)[0]
    return None


def _behind_the_look(module: str) -> Callable[[bytes, Any], bytes | bytearray]:
    def decode(stream: bytes, runner: Any) -> bytes | bytearray:
        size = stream_size(stream)
        if size is not None and size > runner.rows * runner.columns:
            raise ValueError("the compressed stream is larger than the header says")
        if runner.transfer_syntax in uid.JPEGLSTransferSyntaxes and not stream.rstrip(b"\0").endswith(_END):
            raise ValueError("the compressed stream ends early")
        return decode_frame(stream, runner)  # type: ignore[no-any-return]

    decode_frame = import_module(f"pydicom.pixels.decoders.{module}")._decode_frame
    return decode


gdcm = _behind_the_look("gdcm")
pillow = _behind_the_look("pillow")
pylibjpeg = _behind_the_look("pylibjpeg")
pyjpegls = _behind_the_look("pyjpegls")
pydicom = _behind_the_look("rle")
