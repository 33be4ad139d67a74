"""Which frames of a multi-frame file, and which slices of a series in which order, stand for the whole."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Protocol, TypeVar

__all__ = ["Slice", "evenly", "ordered_slices"]


def evenly(count: int, most: int) -> tuple[int, ...]:
    """At most `most` of the numbers 0..count-1, ascending, evenly spaced from the first to the last.

    All of them where count <= most; of one alone the middle (count // 2); else number i of `most` is
    i * (count - 1) / (most - 1), rounded to the nearest, halves up. Raises ValueError unless both are at least 1.
    """
    if count < 1 or most < 1:
        raise ValueError(f"evenly: count={count} and most={most} must be at least 1")
    if count <= most:
        return tuple(range(count))
    if most == 1:
        return (count // 2,)
    gaps = most - 1
    return tuple((2 * place * (count - 1) + gaps) // (2 * gaps) for place in range(most))


class Slice(Protocol):
    """What places a slice: a `header.Header`, or a row of the index."""

    @property
    def position(self) -> float: ...

    @property
    def instance_number(self) -> int: ...

    @property
    def sop_uid(self) -> str: ...


_SliceT = TypeVar("_SliceT", bound=Slice)


def ordered_slices(headers: Iterable[_SliceT]) -> list[_SliceT]:
    """The slices of one series in space: by position along the normal (PS3.3 C.7.6.2.1.1) where all have one and no
    two the same; else by instance number. Ties go by SOP instance UID, so that the order never depends on the disk."""
    slices = list(headers)
    positions = {header.position for header in slices}
    if len(positions) == len(slices) and all(map(math.isfinite, positions)):
        return sorted(slices, key=lambda header: header.position)
    return sorted(slices, key=lambda header: (header.instance_number, header.sop_uid))
