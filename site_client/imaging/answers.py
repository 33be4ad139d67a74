"""What the process that parsed a hospital's file may answer, checked value by value.

A hostile file may have taken that process over. So nothing that it says is believed: an unexpected type, length, bound
or code is a `BrokenChannelError`, and no text gets through that could not stand in a header.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from site_client.imaging.decoders import SYNTAXES
from site_client.imaging.framing import BrokenChannelError
from site_client.imaging.header import MOST_FRAMES, MOST_LIST, MOST_PIXELS, MOST_SIDE, MOST_TEXT, Header
from site_client.imaging.sop_classes import ACCEPTED

__all__ = [
    "CODES", "MOST_ANSWER_BYTES", "MOST_JSON_BYTES", "Rendered", "checked_digest", "checked_end", "checked_header",
    "checked_picture", "checked_syntax"]

MOST_JSON_BYTES = 1 << 20
MOST_ANSWER_BYTES = 1 << 30      # of one file's pictures together
CODES = frozenset({
    "decoder-memory", "decoder-missing", "deflated", "dicom-unreadable", "file-not-readable", "file-too-large",
    "frame-count", "frame-missing", "frames-malformed", "identifier-differs", "identifier-missing", "image-kind",
    "image-size", "localizer", "lookup-table", "patient-dummy", "patient-missing", "picture-too-large", "pixel-kind",
    "pixels-described-badly", "pixels-truncated", "pixels-undecodable", "rescale-unusable", "sop-class",
    "syntax-unknown"})  # fmt: skip
"""Keys of `records.REASONS` that the process may name."""

_UID = re.compile(r"[0-9.]{0,64}")
_DIGEST = re.compile(r"[0-9a-f]{64}")
_Found = TypeVar("_Found")


@dataclass(frozen=True, eq=False, slots=True)
class Rendered:
    """The pictures of one file. pixels: uint8 (H, W, 3), RGB, read-only, one for each frame that was asked for; how:
    in words how their values were chosen; digest: SHA-256 of the file's bytes, hex."""

    pixels: tuple[NDArray[np.uint8], ...] = field(repr=False)
    how: tuple[str, ...]
    digest: str


def _require(condition: bool) -> None:
    if not condition:
        raise BrokenChannelError("says what no file can make it say")


def _text(value: Any, most: int = MOST_TEXT) -> str:
    # Printable: no control characters for a terminal, and no half of a surrogate pair, which cannot be encoded.
    _require(isinstance(value, str) and len(value) <= most and value.isprintable())
    return str(value)


def _texts(value: Any) -> tuple[str, ...]:
    _require(isinstance(value, list) and len(value) <= MOST_LIST)
    return tuple(_text(one) for one in value)


def _whole(least: int, most: int) -> Callable[[Any], int]:
    def check(value: Any) -> int:
        _require(type(value) is int and least <= value <= most)
        return int(value)
    return check


def _uid(value: Any) -> str:
    _require(isinstance(value, str) and _UID.fullmatch(value) is not None)
    return str(value)


def _one_of(known: frozenset[str]) -> Callable[[Any], str]:
    def check(value: Any) -> str:
        _require(isinstance(value, str) and value in known)
        return str(value)
    return check


def _number(value: Any) -> float:
    _require(type(value) is float and abs(value) != float("inf"))
    return float(value)


def _flag(value: Any) -> bool:
    _require(type(value) is bool)
    return bool(value)


_HEADER: Mapping[str, Callable[[Any], Any]] = {
    "sop_uid": _text, "study_uid": _text, "series_uid": _text, "accession": _text, "patient_id": _text, "issuer": _text,
    "names": _texts, "identifiers": _texts, "dates": _texts, "sop_class": _one_of(ACCEPTED), "modality": _text,
    "transfer_syntax": _one_of(frozenset(SYNTAXES)), "rows": _whole(1, MOST_SIDE), "columns": _whole(1, MOST_SIDE),
    "frames": _whole(1, MOST_FRAMES), "instance_number": _whole(-(1 << 31), 1 << 31), "position": _number,
    "suspect": _flag,
}  # fmt: skip


def _mapping(value: Any, keys: set[str]) -> dict[str, Any]:
    _require(isinstance(value, dict) and value.keys() == keys)
    return dict(value)


def checked_end(answer: Any, key: str, check: Callable[[Any], _Found]) -> tuple[_Found | None, str, bool]:
    """(what was found, the code of a refusal, whether to replace the process); one of the first two is empty."""
    _require(isinstance(answer, dict))
    if "refused" in answer:
        refused = _mapping(answer, {"refused", "over"})
        return None, _one_of(CODES)(refused["refused"]), _flag(refused["over"])
    found = _mapping(answer, {key, "over"})
    return check(found[key]), "", _flag(found["over"])


def checked_header(value: Any) -> Header:
    """A `Header` whose every field is within bounds."""
    found = _mapping(value, {one.name for one in fields(Header)})
    header = Header(**{name: check(found[name]) for name, check in _HEADER.items()})
    _require(bool(header.sop_uid and header.patient_id) and header.rows * header.columns <= MOST_PIXELS)
    return header


def checked_syntax(value: Any) -> tuple[str, int]:
    """(transfer syntax, bits stored)."""
    _require(isinstance(value, list) and len(value) == 2)
    return _uid(value[0]), _whole(0, 1 << 16)(value[1])


def checked_picture(answer: Any, raw_bytes: int) -> tuple[int, int, str]:
    """(height, width, how) of a picture whose bytes follow."""
    picture = _mapping(answer, {"height", "width", "how"})
    height, width = _whole(1, MOST_SIDE)(picture["height"]), _whole(1, MOST_SIDE)(picture["width"])
    _require(height * width <= MOST_PIXELS and raw_bytes == height * width * 3)
    return height, width, _text(picture["how"])


def checked_digest(value: Any) -> str:
    """64 hexadecimal digits."""
    _require(isinstance(value, str) and _DIGEST.fullmatch(value) is not None)
    return str(value)
