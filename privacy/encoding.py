"""One injective byte encoding for everything that is hashed or signed.

*Guarantees.* `enc` is injective on tuples of items: different values, or equal values of different types,
never share an encoding, so a hash or signature names exactly one statement. `dec` accepts only what `enc`
produces.

*Assumes.* SHA-256 is collision resistant.

*Does not cover.* Meaning. Callers bind a label per statement (`transcript`, `digest`), so that a statement
signed for one purpose is never valid for another. Unicode strings are not normalised; identifiers are ASCII
by `privacy.wire`.

Format: one tag byte, then for `i f b s` a big-endian 32-bit byte count and the content, for `t` a 32-bit
item count and the items; `N`, `T`, `F` (None, True, False) stand alone. Integers are minimal two's
complement, floats are 8-byte IEEE 754 big-endian and never NaN (NaN has many encodings).
"""

from __future__ import annotations

import hashlib
import math
import struct
from functools import lru_cache
from typing import Any, TypeAlias

from privacy.errors import MessageFormatError

__all__ = ["MAX_BYTES", "MAX_DEPTH", "PROTOCOL", "Item", "dec", "digest", "enc", "transcript"]

Item: TypeAlias = "bool | int | float | bytes | str | tuple[Item, ...] | None"

PROTOCOL = b"fedsecagg/1|"
MAX_BYTES = 1 << 22  # 4 MiB; the largest control message at 200 sites is under 0.1 MiB
MAX_DEPTH = 8
_SHORT = 64  # characters: the longest text whose encoding is kept
_ATOMS: dict[bytes, Item] = {b"N": None, b"T": True, b"F": False}
_SIZED = frozenset((b"i", b"f", b"b", b"s", b"t"))


def enc(*items: Item) -> bytes:
    """Encode a tuple of items; injective over values and types.

    Raises:
        ValueError: an item has another type, is NaN, is nested deeper than `MAX_DEPTH`, or the result is
        too long.
    """
    out = bytearray()
    for item in items:
        _write(item, out, 0)
    if len(out) > MAX_BYTES:
        raise ValueError(f"the encoding is longer than {MAX_BYTES} bytes; send large data as an array")
    return bytes(out)


def _write(item: Any, out: bytearray, depth: int) -> None:
    kind = type(item)  # exact types only, so that no subclass slips through
    if kind is bytes:
        out += b"b" + len(item).to_bytes(4, "big") + item
    elif kind is str:
        out += _text(item) if len(item) <= _SHORT else _long_text(item)
    elif kind is tuple:
        if depth == MAX_DEPTH:
            raise ValueError(f"an item is nested deeper than {MAX_DEPTH} tuples; flatten it")
        out += b"t" + len(item).to_bytes(4, "big")
        for inner in item:
            _write(inner, out, depth + 1)
    elif item is None:
        out += b"N"
    elif item is True or item is False:
        out += b"T" if item else b"F"
    else:
        tag, content = _content(item)
        out += tag + len(content).to_bytes(4, "big") + content


def _long_text(item: str) -> bytes:
    content = item.encode("utf-8")  # lone surrogates raise UnicodeEncodeError, a ValueError
    return b"s" + len(content).to_bytes(4, "big") + content


_text = lru_cache(maxsize=4096)(_long_text)  # labels and identifiers come by the hundred thousand a round


def _content(item: Item) -> tuple[bytes, bytes]:
    """Tag and content of an int or float."""
    if type(item) is int:
        return b"i", item.to_bytes(_integer_size(item), "big", signed=True)
    if type(item) is float:
        if math.isnan(item):
            raise ValueError("a NaN cannot be encoded; refuse it where it arises")
        return b"f", struct.pack(">d", item)
    kind = type(item).__name__
    raise ValueError(f"a value of type {kind} cannot be encoded; use bool, int, float, bytes, str, tuple")


def _integer_size(value: int) -> int:
    """Bytes of the minimal two's complement form."""
    return (value if value >= 0 else ~value).bit_length() // 8 + 1


def dec(data: bytes) -> tuple[Item, ...]:
    """Decode what `enc` produced; the inverse of `enc`.

    Every part of the format but two has one form for each value, so a decoder that reads it strictly accepts nothing
    else; integers that are not minimal and NaNs are refused by name.

    Raises:
        MessageFormatError: trailing or missing bytes, an unknown tag, a non-canonical form, or more than
        `MAX_BYTES`.
    """
    if len(data) > MAX_BYTES:
        raise MessageFormatError(f"the message is longer than {MAX_BYTES} bytes")
    try:
        return _read(data, 0, None, 0)[0]
    except (ValueError, struct.error) as error:
        raise MessageFormatError("the message is not a valid encoding") from error


def _read(data: bytes, at: int, count: int | None, depth: int) -> tuple[tuple[Item, ...], int]:
    """`count` items from `at` on (None: to the end), and where they end."""
    items: list[Item] = []
    end = len(data)
    while at < end if count is None else len(items) < count:
        tag, at = data[at : at + 1], at + 1
        if tag not in _SIZED:
            if tag not in _ATOMS:
                raise MessageFormatError("the message is not a valid encoding")
            items.append(_ATOMS[tag])
            continue
        if at + 4 > end:
            raise MessageFormatError("the message is not a valid encoding")
        size, at = int.from_bytes(data[at : at + 4], "big"), at + 4
        if size > end - at:  # every item takes a byte or more, so this also bounds tuple counts
            raise MessageFormatError("the message is shorter than it claims")
        if tag != b"t":
            items.append(_scalar(tag, data[at : at + size]))
            at += size
        elif depth == MAX_DEPTH:
            raise MessageFormatError("the message is nested too deeply")
        else:
            inner, at = _read(data, at, size, depth + 1)
            items.append(inner)
    return tuple(items), at


def _scalar(tag: bytes, content: bytes) -> Item:
    if tag == b"b":
        return content
    if tag == b"s":
        return content.decode("utf-8")
    if tag == b"f":
        real = float(struct.unpack(">d", content)[0])
        if math.isnan(real):
            raise MessageFormatError("the message is not in canonical form")
        return real
    integer = int.from_bytes(content, "big", signed=True)
    if len(content) != _integer_size(integer):
        raise MessageFormatError("the message is not in canonical form")
    return integer


def transcript(label: str, *items: Item) -> bytes:
    """The exact bytes that are hashed, signed or authenticated for one labelled statement."""
    return PROTOCOL + enc(label, *items)


def digest(label: str, *items: Item) -> bytes:
    """SHA-256 of `transcript(label, *items)`, 32 bytes; H(label, ...) of the protocol sheet."""
    return hashlib.sha256(transcript(label, *items)).digest()
