"""Hostile bytes from honest ones, for every parser: seeded, so that a failure can be repeated from its number.

The encoding is walked here by its own few lines (tag, 32-bit count, content), not by `privacy.encoding`.
"""

from __future__ import annotations

import importlib
import pkgutil
import random
import types
from collections.abc import Callable, Sequence
from dataclasses import fields
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import privacy
from privacy.encoding import Item, enc
from privacy.wire import VERSION, Message

COUNTS = (0, 1, 2**16, 2**24, 2**31 - 1, 2**31, 2**32 - 1)
ODD_ITEMS = (
    b"N", b"T", b"F", b"", b"X", b"i\0\0\0\0", b"i\0\0\0\2\0\1", b"i\0\0\1\0" + b"\x7f" * 256,
    b"f\0\0\0\x08\x7f\xf0" + bytes(6), b"f\0\0\0\x08\x7f\xf8" + bytes(6), b"f\0\0\0\1\0", b"s\0\0\0\2\xc3\x28",
    b"s\0\0\0\3\xed\xa0\x80", b"s\0\0\0\0", b"b\0\0\0\0", b"t\0\0\0\0", b"t\0\0\0\1t\0\0\0\1t\0\0\0\0",
)  # fmt: skip


def message_types() -> list[type[Message]]:
    """Every kind of message that privacy defines, found by import, so that a new one cannot be forgotten."""
    for module in pkgutil.walk_packages(privacy.__path__, "privacy."):
        if not module.name.startswith("privacy.dp"):  # needs torch, defines no message
            importlib.import_module(module.name)
    found, queue = set(), [Message]
    while queue:
        for kind in queue.pop().__subclasses__():
            queue.append(kind)
            found.add(kind)
    return sorted((kind for kind in found if kind.__module__.startswith("privacy.") and fields(kind)),
                  key=lambda kind: kind.__name__)  # fmt: skip


def skeleton(kind: type[Message]) -> bytes:
    """Bytes with the right shape for a kind, whose values may be refused: a start for kinds without an example."""

    def item(hint: Any, depth: int) -> Item:
        options = get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)
        hint = next((option for option in options if option is not type(None)), None)
        if get_origin(hint) is tuple:
            return (item(get_args(hint)[0], depth + 1),)
        if get_origin(hint) is Literal:
            return str(get_args(hint)[0])
        if isinstance(hint, type) and issubclass(hint, Message):
            known = get_type_hints(hint)
            return tuple(item(known[field.name], depth + 1) for field in fields(hint)) if depth < 7 else ()
        known_values: dict[Any, Item] = {bytes: bytes(32), str: "a", int: 1, float: 0.5, bool: True}
        return known_values.get(hint)

    hints = get_type_hints(kind)
    return bytes([VERSION]) + enc(kind.__name__, *(item(hints[field.name], 0) for field in fields(kind)))


def spans(data: bytes) -> list[tuple[int, int]]:
    """(start, end) of every item, nested ones too, of an honest message."""
    found: list[tuple[int, int]] = []

    def walk(at: int) -> int:
        start, tag = at, data[at : at + 1]
        if tag in (b"N", b"T", b"F"):
            found.append((start, start + 1))
            return start + 1
        count, at = int.from_bytes(data[at + 1 : at + 5], "big"), at + 5
        if tag == b"t":
            for _ in range(count):
                at = walk(at)
        else:
            at += count
        found.append((start, at))
        return at

    at = 1
    while at < len(data):
        at = walk(at)
    return found


def flip(data: bytes, rng: random.Random, _: bytes) -> bytes:
    out = bytearray(data)
    for _ in range(rng.randint(1, 8)):
        out[rng.randrange(len(out))] ^= 1 << rng.randrange(8)
    return bytes(out)


def truncate(data: bytes, rng: random.Random, _: bytes) -> bytes:
    return data[: rng.randrange(len(data))]


def inflate(data: bytes, rng: random.Random, _: bytes) -> bytes:
    """Another count in front of one item: a length, or a number of items."""
    start, end = rng.choice(spans(data))
    if end - start < 5:
        return data[:start] + b"t" + rng.choice(COUNTS).to_bytes(4, "big") + data[start:]
    true = int.from_bytes(data[start + 1 : start + 5], "big")
    count = rng.choice([*COUNTS, true + 1, max(true - 1, 0), true * 2, len(data)])
    return data[: start + 1] + count.to_bytes(4, "big") + data[start + 5 :]


def many(data: bytes, rng: random.Random, _: bytes) -> bytes:
    """One item becomes a tuple of thousands; the count is true."""
    start, end = rng.choice(spans(data))
    item = rng.choice([b"N", b"t\0\0\0\0", b"i\0\0\0\1\1", data[start:end]])
    count = rng.randint(2, max(2, 20_000 // max(len(item), 1)))
    return data[:start] + b"t" + count.to_bytes(4, "big") + item * count + data[end:]


def nest(data: bytes, rng: random.Random, _: bytes) -> bytes:
    start, end = rng.choice(spans(data))
    return data[:start] + b"t\0\0\0\1" * rng.choice([1, 7, 8, 9, 100, 5000]) + data[start:end] + data[end:]


def splice(data: bytes, rng: random.Random, other: bytes) -> bytes:
    """One item of another message in place of one of this, or the start of one and the end of the other."""
    if rng.random() < 0.3:
        return data[: rng.randrange(len(data))] + other[rng.randrange(len(other)) :]
    (start, end), (first, last) = rng.choice(spans(data)), rng.choice(spans(other))
    return data[:start] + other[first:last] + data[end:]


def odd(data: bytes, rng: random.Random, _: bytes) -> bytes:
    start, end = rng.choice(spans(data))
    return data[:start] + rng.choice(ODD_ITEMS) + data[end:]


def repeat(data: bytes, rng: random.Random, _: bytes) -> bytes:
    """One item twice, or not at all."""
    start, end = rng.choice(spans(data))
    return data[:start] + data[start:end] * rng.choice([0, 2, 2]) + data[end:]


CHANGES: tuple[Callable[[bytes, random.Random, bytes], bytes], ...] = (
    flip, truncate, inflate, many, nest, splice, odd, repeat,
)  # fmt: skip


def mutant(data: bytes, others: Sequence[bytes], number: int, seed: int = 0) -> bytes:
    """The mutant of that number: one change, sometimes a second one by bits. Never `data` itself."""
    rng = random.Random(f"{seed}|{number}")
    changed = data
    while changed == data:
        changed = rng.choice(CHANGES)(data, rng, rng.choice(others))
        if changed and rng.random() < 0.1:
            changed = flip(changed, rng, b"")
    return changed


def recipe(where: str, number: int, data: bytes) -> str:
    """What a failing test prints."""
    return f"{where}: mutant number {number}; bytes.fromhex({data[:2000].hex()!r}){' ...' if len(data) > 2000 else ''}"
