"""Tables as files store them: words, bytes, both byte orders, wrong signs, segments; or one refusal."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

from site_client.imaging.lookup_tables import lookup_table, painted, palette
from site_client.records import RefusedItemError


def item(descriptor: Any, data: Any, vr: str = "US") -> Dataset:
    made = Dataset()
    made.add_new("LUTDescriptor", "US", descriptor)
    made.add_new("LUTData", vr, data)
    return made


def entries(descriptor: Any, data: Any, vr: str = "US", *, little: bool = True) -> list[int]:
    return lookup_table(item(descriptor, data, vr), signed=False, little=little).entries.tolist()


def test_words() -> None:
    assert entries([3, 0, 12], [0, 7, 4095]) == [0, 7, 4095]
    assert entries([2, 0, 16], b"\x01\x02\x03\x04", "OW") == [0x0201, 0x0403]
    assert entries([2, 0, 16], b"\x01\x02\x03\x04", "OW", little=False) == [0x0102, 0x0304]


def test_bytes_lie_in_words_low_one_first() -> None:
    assert entries([4, 0, 8], [0x0201, 0x0403]) == [1, 2, 3, 4]
    assert entries([4, 0, 8], b"\x01\x02\x03\x04", "OW") == [1, 2, 3, 4]
    assert entries([4, 0, 8], b"\x02\x01\x04\x03", "OW", little=False) == [1, 2, 3, 4]
    assert entries([3, 0, 8], b"\x01\x02\x03", "OW") == [1, 2, 3]


def test_no_entries_are_65536_of_them() -> None:
    assert len(entries([0, 0, 16], bytes(131072), "OW")) == 65536


def test_the_first_value_has_the_sign_of_what_is_mapped() -> None:
    low = item([1, 64512, 8], [9])
    assert lookup_table(low, signed=True, little=True).first == -1024
    assert lookup_table(low, signed=False, little=True).first == 64512


def test_more_bits_than_announced() -> None:
    assert lookup_table(item([2, 0, 8], [0, 4095]), signed=False, little=True).bits == 12


@pytest.mark.parametrize(
    ("descriptor", "data"),
    [([3, 0, 12], [1]), ([3, 0], [1, 2, 3]), ([3, 0, 0], [1, 2, 3]), ([3, 0, 17], [1, 2, 3]), ([3, 0, 12], None)],
)
def test_malformed_tables_are_refused(descriptor: Any, data: Any) -> None:
    with pytest.raises(RefusedItemError, match="lookup table"):
        lookup_table(item(descriptor, data), signed=False, little=True)
    with pytest.raises(RefusedItemError, match="lookup table"):
        lookup_table(Dataset(), signed=False, little=True)


def coloured(bits: int, *tables: bytes, segmented: bool = False) -> Dataset:
    made = Dataset()
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    for colour, data in zip(("Red", "Green", "Blue"), tables, strict=True):
        made.add_new(f"{colour}PaletteColorLookupTableDescriptor", "US", [3, 10, bits])
        made.add_new(f"{'Segmented' if segmented else ''}{colour}PaletteColorLookupTableData", "OW", data)
    return made


def test_palettes_of_8_and_16_bits() -> None:
    first, table = palette(coloured(8, b"\1\2\3\0", b"\4\5\6\0", b"\7\x08\x09\0"), signed=False, little=True)
    assert first == 10 and table.tolist() == [[1, 4, 7], [2, 5, 8], [3, 6, 9]] and table.dtype == np.uint8
    words = np.array([0, 0x80FF, 0xFFFF], "<u2").tobytes()
    _, table = palette(coloured(16, words, words, words), signed=False, little=True)
    assert table[:, 0].tolist() == [0, 0x80, 0xFF]
    swapped = np.array([0, 0x80FF, 0xFFFF], ">u2").tobytes()
    _, table = palette(coloured(16, swapped, swapped, swapped), signed=False, little=False)
    assert table[:, 0].tolist() == [0, 0x80, 0xFF]


def test_a_palette_that_says_16_bits_and_means_8() -> None:
    words = np.array([0, 100, 255], "<u2").tobytes()
    _, table = palette(coloured(16, words, words, words), signed=False, little=True)
    assert table[:, 2].tolist() == [0, 100, 255]


def test_a_segmented_palette() -> None:
    # one discrete segment of one entry, then one linear segment of two that ends at 0x8000 (C.7.9.2.1, C.7.9.2.2)
    words = np.array([0, 1, 0x1000, 1, 2, 0x8000], "<u2").tobytes()
    _, table = palette(coloured(16, words, words, words, segmented=True), signed=False, little=True)
    assert table[:, 1].tolist() == [0x10, 0x48, 0x80]


def test_painting_keeps_to_the_ends() -> None:
    table = np.array([[1, 2, 3], [4, 5, 6]], dtype=np.uint8)
    stored = np.array([[-900, 9], [10, 30000]], dtype=np.int16)
    assert painted(stored, 9, table).tolist() == [[[1, 2, 3], [1, 2, 3]], [[4, 5, 6], [4, 5, 6]]]


@pytest.mark.parametrize("bits", [4, 12])
def test_palettes_of_other_depths_are_refused(bits: int) -> None:
    with pytest.raises(RefusedItemError, match="lookup table"):
        palette(coloured(bits, b"\1\2\3\0", b"\1\2\3\0", b"\1\2\3\0"), signed=False, little=True)
    with pytest.raises(RefusedItemError, match="lookup table"):
        palette(coloured(8, b"\1\0", b"\1\2\3\0", b"\1\2\3\0"), signed=False, little=True)
