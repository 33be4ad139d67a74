"""Lookup tables as a DICOM file stores them: modality (PS3.3 C.11.1.1), VOI (C.11.2.1.1), palette (C.7.6.3.1.5, C.7.9).

Whatever is malformed is a RefusedItemError("lookup-table").
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.pixels import apply_color_lut

from site_client.imaging.windows import LookupTable
from site_client.records import RefusedItemError

__all__ = ["PALETTE_KEYWORDS", "lookup_table", "palette", "painted"]

_COLOURS = ("Red", "Green", "Blue")
_BLOCK = 1 << 18  # pixels at a time
PALETTE_KEYWORDS = tuple(
    f"{start}{colour}PaletteColorLookupTable{end}"
    for colour in _COLOURS for start, end in (("", "Descriptor"), ("", "Data"), ("Segmented", "Data"))
)  # fmt: skip
"""What `palette` reads."""


def lookup_table(item: Dataset, *, signed: bool, little: bool) -> LookupTable:
    """An item of a Modality or VOI LUT Sequence. signed: whether the values that it maps can be below zero, which
    decides what the first value mapped means; little: the file's byte order."""
    count, first, bits = _descriptor(item.get("LUTDescriptor"))
    if not 1 <= bits <= 16:
        raise RefusedItemError("lookup-table")
    entries = _entries(item.get("LUTData"), count, little=little)
    # Writers that announce fewer bits than their entries have exist; clipping would whiten most of the picture.
    return LookupTable(_wrapped(first, signed), entries, max(bits, int(entries.max()).bit_length()))


def palette(dataset: Dataset, *, signed: bool, little: bool) -> tuple[int, NDArray[np.uint8]]:
    """(first value mapped, table (n, 3) RGB uint8): of 16-bit entries the high byte (PS3.3 C.7.6.3.1.5).

    A table that announces 16 bits and holds nothing above 255 is taken for one of 8, as its writer meant.
    """
    descriptors = [_descriptor(dataset.get(f"{colour}PaletteColorLookupTableDescriptor")) for colour in _COLOURS]
    count, first, bits = descriptors[0]  # the three shall be identical
    if bits not in (8, 16) or any(other[0] != count for other in descriptors):
        raise RefusedItemError("lookup-table")
    first = _wrapped(first, signed)
    if dataset.get("RedPaletteColorLookupTableData") is None:
        table = _segmented(dataset, first, count)
    else:
        data = (dataset.get(f"{colour}PaletteColorLookupTableData") for colour in _COLOURS)
        table = np.stack([_entries(body, count, little=little) for body in data], axis=1)
    return first, (table >> 8 if table.max() > 255 else table).astype(np.uint8)


def painted(stored: NDArray[np.integer], first: int, table: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """uint8 (..., 3): the colour of each stored value; values outside get the table's ends."""
    flat, out = stored.reshape(-1), np.empty((stored.size, 3), dtype=np.uint8)
    for start in range(0, flat.size, _BLOCK):
        places = flat[start : start + _BLOCK].astype(np.int64) - first
        out[start : start + _BLOCK] = table[places.clip(0, len(table) - 1)]
    return out.reshape(*stored.shape, 3)


def _segmented(dataset: Dataset, first: int, count: int) -> NDArray[np.uint16]:
    """A segmented palette (PS3.3 C.7.9.2), expanded by pydicom."""
    values = np.arange(first, first + count, dtype=np.int32)
    try:
        expanded = apply_color_lut(values, dataset)[:, :3]
    except Exception:
        raise RefusedItemError("lookup-table") from None
    return np.asarray(expanded, dtype=np.uint16)


def _descriptor(value: object) -> tuple[int, int, int]:
    """(entries, first value as 16 bits, bits an entry); 0 entries mean 65536 (PS3.3 C.11.1.1.1)."""
    numbers = list(value) if isinstance(value, Sequence) and not isinstance(value, str | bytes) else []
    if len(numbers) != 3 or not all(isinstance(number, int) for number in numbers):
        raise RefusedItemError("lookup-table")
    return numbers[0] % 65536 or 65536, numbers[1], numbers[2]


def _wrapped(first: int, signed: bool) -> int:
    """16 bits read with the wrong sign are mended."""
    return (first + 32768) % 65536 - 32768 if signed else first % 65536


def _entries(data: object, count: int, *, little: bool) -> NDArray[np.uint16]:
    """`count` entries of words or bytes; bytes lie in words too, low one first (PS3.5 6.2, OW)."""
    if isinstance(data, bytes):
        order = "<u2" if little or len(data) % 2 else ">u2"
        words = np.frombuffer(data + bytes(len(data) % 2), order).astype("<u2")
    else:
        numbers = [data] if isinstance(data, int) else data
        if not isinstance(numbers, Sequence) or not all(isinstance(number, int) for number in numbers):
            raise RefusedItemError("lookup-table")
        words = (np.array(numbers, dtype=np.int64) & 0xFFFF).astype("<u2")
    if len(words) >= count:
        return words[:count]
    if len(words) * 2 < count:
        raise RefusedItemError("lookup-table")
    return words.view(np.uint8)[:count].astype(np.uint16)
