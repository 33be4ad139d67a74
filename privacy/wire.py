"""How a message becomes bytes: typed, versioned, size-limited, one encoding per value.

*Guarantees.* A `Message` that exists has fields of the declared types and passed its own `check`;
`from_bytes` accepts exactly the bytes that `to_bytes` produces, and bounds their size before looking at
them.

*Assumes.* Every message is a frozen dataclass whose fields are scalars, literals, messages, or tuples of
them.

*Does not cover.* Authenticity (signatures are checked by whoever receives a message) and large vectors,
which travel as arrays beside a message that holds their hash.
"""

from __future__ import annotations

import re
import types
from dataclasses import dataclass, fields
from functools import lru_cache
from typing import Any, ClassVar, Literal, Self, Union, get_args, get_origin, get_type_hints

from privacy.encoding import MAX_BYTES, Item, dec, digest, enc
from privacy.errors import COORDINATOR, NOBODY, MessageFormatError

__all__ = ["VERSION", "Message", "check_hash", "check_id", "check_range", "check_size"]

VERSION = 1
_ID_LENGTH = 64
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@dataclass(frozen=True)
class Message:
    """Base of everything that crosses the boundary. Integers given for a float field become floats.

    Raises (on construction):
        ValueError: a field has the wrong type, or `check` refuses its value.
    """

    __slots__ = ("_encoded",)  # beside the fields: what `encoded` made

    LIMIT_BYTES: ClassVar[int] = 1 << 20

    def __post_init__(self) -> None:
        for name, hint, inner in _fields(type(self)):
            value = getattr(self, name)
            if type(value) is hint:
                continue
            if inner is not None and type(value) is tuple and all(type(one) is inner for one in value):
                continue
            label = f"{type(self).__name__}.{name}"
            object.__setattr__(self, name, _conform(label, hint, value))
        self.check()

    def check(self) -> None:
        """Refuse values that make no sense; subclasses override. Raises ValueError."""

    def items(self) -> tuple[Item, ...]:
        """The field values as encodable items, in declaration order."""
        return tuple(_to_item(getattr(self, name)) for name, _, _ in _fields(type(self)))

    def encoded(self) -> bytes:
        """enc(*self.items()): every field's encoding in turn. Made once: a message does not change, and an envelope
        is hashed, checked and passed on by the thousand."""
        cached: bytes | None = getattr(self, "_encoded", None)
        if cached is None:
            cached = _join(tuple(getattr(self, name) for name, _, _ in _fields(type(self))))
            object.__setattr__(self, "_encoded", cached)
        return cached

    def __getstate__(self) -> dict[str, Any]:
        """The fields; a copy makes its own encoding."""
        return vars(self)

    def to_bytes(self) -> bytes:
        """Version byte, then the type's name and its fields. Raises ValueError when longer than `MAX_BYTES`."""
        body = enc(type(self).__name__) + self.encoded()
        if len(body) > MAX_BYTES:
            raise ValueError(f"the encoding is longer than {MAX_BYTES} bytes; send large data as an array")
        return bytes([VERSION]) + body

    def hash(self) -> bytes:
        """SHA-256 that names this value, 32 bytes."""
        return digest(type(self).__name__, *self.items())

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Decode; the strict inverse of `to_bytes`.

        Raises:
            MessageFormatError: another version or type, too long, or not exactly the encoding of a valid
            value.
        """
        if len(data) > cls.LIMIT_BYTES or data[:1] != bytes([VERSION]):
            raise MessageFormatError(f"a {cls.__name__} message has another version or is too long")
        name, *items = dec(data[1:]) or ("",)
        if name != cls.__name__:
            raise MessageFormatError(f"a {cls.__name__} message was expected and another arrived")
        try:
            message = cls._from_items(tuple(items))
            again = message.to_bytes()
        except ValueError as error:
            raise MessageFormatError(f"a {cls.__name__} message has a field that is not valid") from error
        if again != data:
            raise MessageFormatError(f"a {cls.__name__} message is not in canonical form")
        return message

    @classmethod
    def _from_items(cls, items: tuple[Item, ...]) -> Self:
        plan = _fields(cls)
        return cls(*(
            item if type(item) is hint else _nested(hint, inner, item)
            for (_, hint, inner), item in zip(plan, items, strict=True)
        ))


_CACHED_FIELDS: dict[type, tuple[tuple[str, Any, type | None], ...]] = {}


def _fields(cls: type[Message]) -> tuple[tuple[str, Any, type | None], ...]:
    """Each field's name and type, and X where the type is `tuple[X, ...]` with a plain class X."""
    if cls not in _CACHED_FIELDS:  # resolving annotations is slow, and envelopes come by the thousand
        hints = get_type_hints(cls)
        _CACHED_FIELDS[cls] = tuple((one.name, hints[one.name], _inner(hints[one.name])) for one in fields(cls))
    return _CACHED_FIELDS[cls]


def _inner(hint: Any) -> type | None:
    inner = get_args(hint)[0] if get_origin(hint) is tuple else None
    return inner if isinstance(inner, type) else None


def _join(values: tuple[Any, ...]) -> bytes:
    """enc() of the values as items, with what nested messages keep."""
    if not any(isinstance(value, Message | tuple) for value in values):
        return enc(*values)
    parts: list[bytes] = []
    for value in values:
        if isinstance(value, Message):
            parts.append(b"t" + len(_fields(type(value))).to_bytes(4, "big") + value.encoded())
        elif type(value) is tuple:
            parts.append(b"t" + len(value).to_bytes(4, "big") + _join(value))
        else:
            parts.append(enc(value))
    return b"".join(parts)


def _alternatives(hint: Any) -> tuple[Any, ...]:
    return get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)


def _conform(name: str, hint: Any, value: Any) -> Any:
    """Return `value` if it has the declared type (a float made of an int), else raise ValueError."""
    for option in _alternatives(hint):
        if get_origin(option) is tuple and type(value) is tuple:
            return tuple(_conform(name, get_args(option)[0], inner) for inner in value)
        if get_origin(option) is Literal and type(value) is str and value in get_args(option):
            return value
        if option is float and type(value) is int and abs(value) < 1 << 53:
            return float(value)
        if type(value) is option:
            return value
    wanted = hint if get_origin(hint) else getattr(hint, "__name__", hint)
    raise ValueError(f"{name} has the wrong type or value; give {wanted}")


def _to_item(value: Any) -> Item:
    if isinstance(value, Message):
        return value.items()
    if isinstance(value, tuple):
        return tuple(_to_item(inner) for inner in value)
    item: Item = value
    return item


def _nested(hint: Any, inner: type | None, item: Item) -> Any:
    """Rebuild nested messages; scalars pass through and are checked by the constructor, strictly by type."""
    if inner is not None and issubclass(inner, Message) and type(item) is tuple:
        return tuple(inner._from_items(one) if type(one) is tuple else one for one in item)
    for option in _alternatives(hint):
        if isinstance(option, type) and issubclass(option, Message) and type(item) is tuple:
            return option._from_items(item)
        if get_origin(option) is tuple and type(item) is tuple:
            return tuple(_nested(get_args(option)[0], None, one) for one in item)
    return item


def check_id(name: str, value: str) -> None:
    """An identifier: 1-64 ASCII letters, digits, dots, dashes, underscores; not a reserved blame word."""
    if len(value) > _ID_LENGTH or not _is_id(value):
        raise ValueError(f"{name} must be 1-64 letters, digits, dots, dashes, underscores; no reserved word")


@lru_cache(maxsize=4096)
def _is_id(value: str) -> bool:
    return _ID.fullmatch(value) is not None and value not in (COORDINATOR, NOBODY)


def check_hash(name: str, value: bytes) -> None:
    """A SHA-256 hash or a 32-byte key."""
    check_size(name, value, 32)


def check_size(name: str, value: bytes, size: int) -> None:
    """Bytes of one fixed size."""
    if len(value) != size:
        raise ValueError(f"{name} must be {size} bytes long")


def check_range(name: str, value: float, low: float, high: float) -> None:
    """A number within closed bounds; NaN is refused."""
    if not low <= value <= high:
        raise ValueError(f"{name} must be between {low} and {high}")
